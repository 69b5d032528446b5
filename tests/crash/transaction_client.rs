//! A transactional producer by hand, request by request, and a reader of what is committed. Every call can find the broker gone.

use bytes::Bytes;
use corelane_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnRequestAddPartitionsToTxnTopic;
use corelane_protocol::messages::fetch_request::{FetchRequestFetchPartition, FetchRequestFetchTopic};
use corelane_protocol::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use corelane_protocol::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use corelane_protocol::messages::{
    AddOffsetsToTxnRequest, AddPartitionsToTxnRequest, DescribeTransactionsRequest, EndTxnRequest, FetchRequest,
    FindCoordinatorRequest, InitProducerIdRequest, OffsetFetchRequest, TxnOffsetCommitRequest,
};
use corelane_protocol::{Records, Str};
use corelane_tests::batch::{self, ProducerIdentity, build, now_ms, seal};
use corelane_tests::connection::{Connection, produce_request};
use corelane_tests::wait;
use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(30);

/// Errors that pass: a coordinator that loads, a transaction that is being ended, a leader that cannot ask its coordinator.
const PASSING: [i16; 6] = [3, 14, 15, 16, 19, 51];

/// Which transactions a client speaks: it adds partitions itself, or they are added on the way (KIP-890).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Version {
    V1,
    V2,
}

/// Why a step did not do what it should.
#[derive(Debug)]
pub enum Failed {
    /// The broker went away.
    Gone,
    /// It refused, with this code.
    Refused(i16),
}

impl From<io::Error> for Failed {
    fn from(_: io::Error) -> Failed {
        Failed::Gone
    }
}

pub type Result<T> = std::result::Result<T, Failed>;

fn str(text: &str) -> Str {
    Str::from(text.to_owned())
}

/// Asks until the answer is no passing error.
fn insist<T>(what: &str, mut ask: impl FnMut() -> io::Result<(i16, T)>) -> Result<T> {
    wait::until(what, LIMIT, || match ask() {
        Err(error) => Some(Err(error.into())),
        Ok((0, answer)) => Some(Ok(answer)),
        Ok((code, _)) if PASSING.contains(&code) => None,
        Ok((code, _)) => Some(Err(Failed::Refused(code))),
    })
}

#[derive(Clone, Debug)]
pub struct Producer {
    pub name: String,
    pub version: Version,
    pub id: i64,
    pub epoch: i16,
    topic: String,
    sequences: [i32; 2],
}

impl Producer {
    /// InitProducerId.
    pub fn init(
        connection: &mut Connection,
        (name, topic): (&str, &str),
        version: Version,
        timeout_ms: i32,
    ) -> Result<Producer> {
        let request = InitProducerIdRequest {
            transactional_id: Some(str(name)),
            transaction_timeout_ms: timeout_ms,
            producer_id: -1,
            producer_epoch: -1,
            ..Default::default()
        };
        // Makes the coordinator's topic, the first time.
        let find = FindCoordinatorRequest { key: str(name), key_type: 1, ..Default::default() };
        insist("a coordinator", || Ok((connection.try_call(2, &find)?.error_code, ())))?;
        let (id, epoch) = insist("a producer id", || {
            let answer = connection.try_call(4, &request)?;
            Ok((answer.error_code, (answer.producer_id, answer.producer_epoch)))
        })?;
        let topic = topic.to_owned();
        Ok(Producer { name: name.to_owned(), version, id, epoch, topic, sequences: [0; 2] })
    }

    /// Adds both partitions, if it is for the client to do so.
    pub fn add(&self, connection: &mut Connection) -> Result<()> {
        if self.version == Version::V2 {
            return Ok(());
        }
        let request = AddPartitionsToTxnRequest {
            v3_and_below_transactional_id: str(&self.name),
            v3_and_below_producer_id: self.id,
            v3_and_below_producer_epoch: self.epoch,
            v3_and_below_topics: vec![AddPartitionsToTxnRequestAddPartitionsToTxnTopic {
                name: str(&self.topic),
                partitions: vec![0, 1],
                ..Default::default()
            }],
            ..Default::default()
        };
        insist("partitions in a transaction", || {
            let answer = connection.try_call(3, &request)?;
            let partitions = &answer.results_by_topic_v3_and_below[0].results_by_partition;
            Ok((partitions.iter().map(|p| p.partition_error_code).find(|code| *code != 0).unwrap_or(0), ()))
        })
    }

    /// Writes one record in the transaction.
    pub fn write(&mut self, connection: &mut Connection, partition: i32, value: &str) -> Result<()> {
        let sequence = &mut self.sequences[partition as usize];
        let who = ProducerIdentity { id: self.id, epoch: self.epoch, sequence: *sequence };
        let mut batch = build(who, now_ms(), [(None, Some(value.as_bytes()))]);
        batch[22] |= 0x10;
        seal(&mut batch);
        let mut request = produce_request(&self.topic, vec![(partition, batch.into())], -1);
        request.transactional_id = Some(str(&self.name));
        let version = if self.version == Version::V1 { 11 } else { 12 };
        insist("a record in a transaction", || {
            Ok((connection.try_call(version, &request)?.responses[0].partition_responses[0].error_code, ()))
        })?;
        *sequence += 1;
        Ok(())
    }

    /// Commits an offset of partition 0 in the transaction.
    pub fn commit_offset(&self, connection: &mut Connection, group: &str, offset: i64) -> Result<()> {
        if self.version == Version::V1 {
            let request = AddOffsetsToTxnRequest {
                transactional_id: str(&self.name),
                producer_id: self.id,
                producer_epoch: self.epoch,
                group_id: str(group),
                ..Default::default()
            };
            insist("offsets in a transaction", || Ok((connection.try_call(3, &request)?.error_code, ())))?;
        }
        let request = TxnOffsetCommitRequest {
            transactional_id: str(&self.name),
            group_id: str(group),
            producer_id: self.id,
            producer_epoch: self.epoch,
            generation_id: -1,
            topics: vec![TxnOffsetCommitRequestTopic {
                name: str(&self.topic),
                partitions: vec![TxnOffsetCommitRequestPartition {
                    committed_offset: offset,
                    committed_leader_epoch: -1,
                    ..Default::default()
                }],
                ..Default::default()
            }],
            ..Default::default()
        };
        let version = if self.version == Version::V1 { 3 } else { 5 };
        insist("an offset in a transaction", || {
            Ok((connection.try_call(version, &request)?.topics[0].partitions[0].error_code, ()))
        })
    }

    pub fn end(&self, connection: &mut Connection, commit: bool) -> Result<()> {
        let request = EndTxnRequest {
            transactional_id: str(&self.name),
            producer_id: self.id,
            producer_epoch: self.epoch,
            committed: commit,
            ..Default::default()
        };
        let version = if self.version == Version::V1 { 3 } else { 5 };
        insist("the end of a transaction", || Ok((connection.try_call(version, &request)?.error_code, ())))
    }
}

/// Waits until nothing of the transactional id is open; returns its state.
pub fn at_rest(connection: &mut Connection, name: &str) -> Result<String> {
    let request = DescribeTransactionsRequest { transactional_ids: vec![str(name)], ..Default::default() };
    wait::until("a transaction at rest", LIMIT, || match connection.try_call(0, &request) {
        Err(error) => Some(Err(error.into())),
        Ok(answer) => {
            let found = &answer.transaction_states[0];
            let state = found.transaction_state.to_string();
            let rests = found.error_code == 0 && (state == "Empty" || state.starts_with("Complete"));
            rests.then_some(Ok(state))
        }
    })
}

/// What the group has committed, decided transactions only.
pub fn committed_offset(connection: &mut Connection, group: &str, topic: &str) -> i64 {
    let request = OffsetFetchRequest {
        require_stable: true,
        groups: vec![OffsetFetchRequestGroup {
            group_id: str(group),
            topics: Some(vec![OffsetFetchRequestTopics {
                name: str(topic),
                partition_indexes: vec![0],
                ..Default::default()
            }]),
            ..Default::default()
        }],
        ..Default::default()
    };
    wait::until("a stable offset", LIMIT, || {
        let answer = connection.call(8, &request);
        let group = &answer.groups[0];
        let partition = group.topics.first().map(|topic| &topic.partitions[0]);
        partition.filter(|p| group.error_code == 0 && p.error_code == 0).map(|p| p.committed_offset)
    })
}

/// The committed values of a partition from an offset up to its end, which nothing undecided may hold back.
pub fn committed(connection: &mut Connection, topic: &str, partition: i32, from: i64) -> Vec<String> {
    let end = connection.latest_offset(topic, partition, 0);
    let (mut next, mut values) = (from, Vec::new());
    while next < end {
        let request = FetchRequest {
            min_bytes: 0,
            max_bytes: 50 << 20,
            isolation_level: 1,
            session_epoch: -1,
            topics: vec![FetchRequestFetchTopic {
                topic: str(topic),
                partitions: vec![FetchRequestFetchPartition {
                    partition,
                    current_leader_epoch: -1,
                    last_fetched_epoch: -1,
                    fetch_offset: next,
                    partition_max_bytes: 8 << 20,
                    ..Default::default()
                }],
                ..Default::default()
            }],
            ..Default::default()
        };
        let data = connection.call(12, &request).responses[0].partitions[0].clone();
        assert_eq!(data.error_code, 0, "{topic}-{partition} at {next}");
        let aborted = data.aborted_transactions.unwrap_or_default();
        let mut aborted: Vec<(i64, i64)> = aborted.iter().map(|a| (a.first_offset, a.producer_id)).collect();
        aborted.sort_unstable();
        let set = data.records.map(Records::into_bytes).unwrap_or_default();
        let before = next;
        decided(&set, aborted.into(), |offset, value| {
            if offset >= before {
                values.extend(value);
            }
            next = offset + 1;
        });
        assert!(next > before, "{topic}-{partition}: nothing at {before}, although the log ends at {end}");
    }
    values
}

/// Walks through a record set as a consumer of committed records does. Control batches have no value.
fn decided(set: &Bytes, mut aborted: VecDeque<(i64, i64)>, mut each: impl FnMut(i64, Option<String>)) {
    let (mut at, mut dropped) = (0, BTreeSet::new());
    let long = |at: usize| i64::from_be_bytes(set[at..at + 8].try_into().expect("eight bytes"));
    let int = |at: usize| i32::from_be_bytes(set[at..at + 4].try_into().expect("four bytes"));
    while at + 61 <= set.len() {
        let end = at + 12 + usize::try_from(int(at + 8)).expect("a length");
        let (last, attributes, producer) = (long(at) + i64::from(int(at + 23)), set[at + 22], long(at + 43));
        while aborted.front().is_some_and(|(first, _)| *first <= last) {
            dropped.extend(aborted.pop_front().map(|(_, producer)| producer));
        }
        if attributes & 0x20 != 0 {
            // Whatever it says, the producer's transaction ends here.
            dropped.remove(&producer);
            each(last, None);
        } else if attributes & 0x10 != 0 && dropped.contains(&producer) {
            each(last, None);
        } else {
            for record in batch::read(&set.slice(at..end)) {
                each(record.offset, record.value.map(|value| String::from_utf8_lossy(&value).into_owned()));
            }
        }
        at = end;
    }
}
