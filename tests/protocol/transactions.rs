//! Transactions on a partition, written by hand: what readers see of them, before and after a kill, and what lies on the disk.

use std::time::Duration;

use bytes::Bytes;
use corelane_protocol::messages::describe_producers_request::DescribeProducersRequestTopicRequest;
use corelane_protocol::messages::fetch_request::{FetchRequestFetchPartition, FetchRequestFetchTopic};
use corelane_protocol::messages::write_txn_markers_request::{
    WriteTxnMarkersRequestWritableTxnMarker, WriteTxnMarkersRequestWritableTxnMarkerTopic,
};
use corelane_protocol::messages::{
    AddPartitionsToTxnRequest, DescribeProducersRequest, EndTxnRequest, FetchRequest, FetchResponsePartitionData,
    InitProducerIdRequest, WriteTxnMarkersRequest,
    add_partitions_to_txn_request::AddPartitionsToTxnRequestAddPartitionsToTxnTopic,
};
use corelane_protocol::{Records, Str};
use corelane_tests::batch::{ProducerIdentity, build, now_ms, seal};
use corelane_tests::broker::{Broker, BrokerOptions, controllable};
use corelane_tests::connection::{Connection, produce_request, to_leader};
use corelane_tests::java::Java;
use corelane_tests::librdkafka::{create_topic, unique};
use corelane_tests::{scratch, wait};

const LIMIT: Duration = Duration::from_secs(30);
const OUT_OF_ORDER_SEQUENCE_NUMBER: i16 = 45;
const INVALID_PRODUCER_EPOCH: i16 = 47;
const INVALID_TXN_STATE: i16 = 48;
const TRANSACTION_COORDINATOR_FENCED: i16 = 52;
pub const READ_COMMITTED: i8 = 1;

/// A producer with a transactional id, and where it writes.
pub struct Writer {
    pub connection: Connection,
    topic: String,
    name: String,
    id: i64,
    epoch: i16,
    sequence: i32,
}

impl Writer {
    fn new(broker: &Broker, topic: &str, version: i16) -> Writer {
        Writer::with_timeout(broker, topic, version, 60_000)
    }

    pub fn with_timeout(broker: &Broker, topic: &str, version: i16, transaction_timeout_ms: i32) -> Writer {
        let name = unique("writer");
        let mut connection = to_leader(broker.bootstrap(), topic, 0).expect("the leader");
        let request = InitProducerIdRequest {
            transactional_id: Some(Str::from(name.clone())),
            transaction_timeout_ms,
            producer_id: -1,
            producer_epoch: -1,
            ..Default::default()
        };
        let answer = wait::until("a producer id", LIMIT, || {
            // The topic of transactions comes into being with the first question for a coordinator.
            let _ = connection.call(
                2,
                &corelane_protocol::messages::FindCoordinatorRequest {
                    key: Str::from(name.clone()),
                    key_type: 1,
                    ..Default::default()
                },
            );
            Some(connection.call(version, &request)).filter(|answer| answer.error_code == 0)
        });
        let (id, epoch) = (answer.producer_id, answer.producer_epoch);
        Writer { connection, topic: topic.to_owned(), name, id, epoch, sequence: 0 }
    }

    pub fn add(&mut self) {
        let request = AddPartitionsToTxnRequest {
            v3_and_below_transactional_id: Str::from(self.name.clone()),
            v3_and_below_producer_id: self.id,
            v3_and_below_producer_epoch: self.epoch,
            v3_and_below_topics: vec![AddPartitionsToTxnRequestAddPartitionsToTxnTopic {
                name: Str::from(self.topic.clone()),
                partitions: vec![0],
                ..Default::default()
            }],
            ..Default::default()
        };
        wait::until("the partition is in the transaction", LIMIT, || {
            let answer = self.connection.call(3, &request);
            let result = &answer.results_by_topic_v3_and_below[0].results_by_partition[0];
            (result.partition_error_code == 0).then_some(())
        });
    }

    /// Writes one record; gives the error and the offset.
    pub fn write(&mut self, version: i16, value: &str, transactional: bool) -> (i16, i64) {
        let who = ProducerIdentity { id: self.id, epoch: self.epoch, sequence: self.sequence };
        let mut batch = build(who, now_ms(), [(None, Some(value.as_bytes()))]);
        if transactional {
            batch[22] |= 0x10;
            seal(&mut batch);
        }
        let mut request = produce_request(&self.topic, vec![(0, batch.into())], -1);
        request.transactional_id = Some(Str::from(self.name.clone()));
        let answer = self.connection.call(version, &request);
        let partition = &answer.responses[0].partition_responses[0];
        if partition.error_code == 0 {
            self.sequence += 1;
        }
        (partition.error_code, partition.base_offset)
    }

    fn end_request(&self, commit: bool) -> EndTxnRequest {
        EndTxnRequest {
            transactional_id: Str::from(self.name.clone()),
            producer_id: self.id,
            producer_epoch: self.epoch,
            committed: commit,
            ..Default::default()
        }
    }

    /// Does not wait for the answer.
    pub fn send_end(&mut self, version: i16, commit: bool) -> std::io::Result<i32> {
        let request = self.end_request(commit);
        self.connection.send(version, &request)
    }

    pub fn end(&mut self, version: i16, commit: bool) {
        let request = self.end_request(commit);
        let answer = wait::until("the transaction ends", LIMIT, || {
            Some(self.connection.call(version, &request)).filter(|answer| answer.error_code == 0)
        });
        if version >= 5 {
            (self.id, self.epoch, self.sequence) = (answer.producer_id, answer.producer_epoch, 0);
        }
    }
}

/// Offsets of the record batches in a set; markers are left out.
fn offsets(set: &Bytes) -> Vec<i64> {
    let (mut at, mut found) = (0, Vec::new());
    while at < set.len() {
        let long = |at: usize| i64::from_be_bytes(set[at..at + 8].try_into().expect("eight bytes"));
        let size = u32::from_be_bytes(set[at + 8..at + 12].try_into().expect("four bytes")) as usize;
        if set[at + 22] & 0x20 == 0 {
            found.push(long(at));
        }
        at += 12 + size;
    }
    found
}

fn fetch(
    connection: &mut Connection,
    topic: &str,
    offset: i64,
    isolation: i8,
    wait_ms: i32,
) -> FetchResponsePartitionData {
    let request = FetchRequest {
        max_wait_ms: wait_ms,
        min_bytes: 1,
        max_bytes: 50 << 20,
        isolation_level: isolation,
        session_epoch: -1,
        topics: vec![FetchRequestFetchTopic {
            topic: Str::from(topic.to_owned()),
            partitions: vec![FetchRequestFetchPartition {
                partition: 0,
                current_leader_epoch: -1,
                last_fetched_epoch: -1,
                fetch_offset: offset,
                partition_max_bytes: 8 << 20,
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    };
    let answer = connection.call(12, &request);
    answer.responses[0].partitions[0].clone()
}

/// Offsets, aborted transactions by producer and first offset, last stable offset.
pub type Seen = (Vec<i64>, Option<Vec<(i64, i64)>>, i64);

/// What a reader sees from the beginning.
pub fn seen(connection: &mut Connection, topic: &str, isolation: i8) -> Seen {
    let data = fetch(connection, topic, 0, isolation, 0);
    assert_eq!(data.error_code, 0);
    let records = data.records.map(Records::into_bytes).unwrap_or_default();
    let aborted = data.aborted_transactions.map(|all| all.iter().map(|a| (a.producer_id, a.first_offset)).collect());
    (offsets(&records), aborted, data.last_stable_offset)
}

#[test]
fn readers_of_what_is_committed_see_no_other_record_before_and_after_a_kill() {
    if !controllable() {
        return;
    }
    let mut broker = Broker::start(BrokerOptions::default());
    let topic = unique("transactions");
    create_topic(&broker, &topic, 1, &[]);
    let mut writer = Writer::new(&broker, &topic, 4);
    let mut other = Writer::new(&broker, &topic, 4);
    assert_eq!(writer.write(9, "before the partition is in the transaction", true).0, INVALID_TXN_STATE);
    writer.add();
    assert_eq!(writer.write(9, "aborted", true), (0, 0));
    assert_eq!(writer.write(9, "not of the transaction", false).0, INVALID_TXN_STATE);
    other.add();
    assert_eq!(other.write(9, "committed", true), (0, 1));
    let mut reader = to_leader(broker.bootstrap(), &topic, 0).expect("the leader");
    // An end is answered before its markers are written.
    let mut stable = |offset| {
        wait::until("a marker", LIMIT, || (reader.latest_offset(&topic, 0, READ_COMMITTED) == offset).then_some(()));
    };
    writer.end(3, false); // offset 2
    stable(1);
    other.end(3, true); // offset 3
    stable(4);
    writer.add();
    assert_eq!(writer.write(9, "open", true), (0, 4));
    let mut reader = to_leader(broker.bootstrap(), &topic, 0).expect("the leader");
    assert_eq!(
        reader
            .produce(&topic, 0, build(ProducerIdentity::NONE, now_ms(), [(None, Some(&b"plain"[..]))]))
            .expect("an answer")
            .base_offset,
        5
    );

    let check = |reader: &mut Connection| {
        assert_eq!(seen(reader, &topic, 0), (vec![0, 1, 4, 5], None, 4));
        assert_eq!(seen(reader, &topic, READ_COMMITTED), (vec![0, 1], Some(vec![(writer.id, 0)]), 4));
        assert_eq!((reader.latest_offset(&topic, 0, 0), reader.latest_offset(&topic, 0, READ_COMMITTED)), (6, 4));
        let held = fetch(reader, &topic, 4, READ_COMMITTED, 0);
        assert!(held.records.map(Records::into_bytes).unwrap_or_default().is_empty(), "nothing undecided");
    };
    check(&mut reader);
    broker.kill();
    broker.resume();
    let mut reader = to_leader(broker.bootstrap(), &topic, 0).expect("the leader");
    check(&mut reader);
    let entry = format!("producerId: {} firstOffset: 0 lastOffset: 2 lastStableOffset: 1", writer.id);
    let indexes = scratch::files(&broker.data_dir(), "", ".txnindex");
    let out = Java::shared().dump_log("--print-data-log", &indexes);
    assert!(out.contains(&entry), "after a crash: {out}");

    // Who waits for what is committed hears of it when the transaction ends.
    let waiting = std::thread::spawn({
        let (topic, mut reader) = (topic.clone(), to_leader(broker.bootstrap(), &topic, 0).expect("the leader"));
        move || fetch(&mut reader, &topic, 4, READ_COMMITTED, 60_000)
    });
    writer.connection = to_leader(broker.bootstrap(), &topic, 0).expect("the leader");
    writer.end(3, true); // offset 6
    let woken = waiting.join().expect("the reader");
    assert_eq!(offsets(&woken.records.map(Records::into_bytes).unwrap_or_default()), [4, 5]);
    assert_eq!(woken.last_stable_offset, 7);

    assert!(broker.stop().is_some_and(|status| status.success()));
    let logs = scratch::files(&broker.data_dir(), &topic, ".log");
    let indexes = scratch::files(&broker.data_dir(), "", ".txnindex");
    assert_eq!((logs.len(), indexes.len()), (1, 1), "one segment, and one index of it");
    let out = Java::shared().dump_log("--print-data-log", &[logs[0].clone(), indexes[0].clone()]);
    assert!(out.contains(&entry), "{out}");
    assert_eq!(
        (out.matches("endTxnMarker: COMMIT").count(), out.matches("endTxnMarker: ABORT").count()),
        (2, 1),
        "{out}"
    );
    assert!(!out.contains("isvalid: false") && !out.contains("invalid bytes"), "{out}");
}

#[test]
fn every_transaction_has_its_own_epoch_where_produce_adds_the_partition() {
    let (broker, topic) = (Broker::shared(), unique("transactions-v2"));
    create_topic(broker, &topic, 1, &[]);
    let mut writer = Writer::new(broker, &topic, 5);
    let mut reader = to_leader(broker.bootstrap(), &topic, 0).expect("the leader");
    for round in 0..5 {
        let before = writer.epoch;
        for _ in 0..3 {
            let (error, _) = wait::until("a write", LIMIT, || {
                Some(writer.write(12, "value", true)).filter(|(error, _)| *error != 51 && *error != 19)
            });
            assert_eq!(error, 0, "round {round}");
        }
        let of_before = (writer.epoch, writer.sequence);
        writer.end(5, round % 2 == 0);
        assert!(writer.epoch > before);
        // Answered before its marker is written.
        wait::until("the marker", LIMIT, || {
            (reader.latest_offset(&topic, 0, READ_COMMITTED) == 4 * (round + 1)).then_some(())
        });
        let now = std::mem::replace(&mut writer.epoch, of_before.0);
        writer.sequence = of_before.1;
        assert_eq!(
            writer.write(12, "late", true).0,
            INVALID_PRODUCER_EPOCH,
            "a batch of the transaction that has ended"
        );
        (writer.epoch, writer.sequence) = (now, 0);
    }
    let (offsets, aborted, _) = seen(&mut reader, &topic, READ_COMMITTED);
    assert_eq!(offsets.len(), 15);
    assert_eq!(aborted, Some(vec![(writer.id, 4), (writer.id, 12)]));
}

#[test]
fn batches_behind_one_that_the_coordinator_refused_wait_for_it() {
    let (broker, topic) = (Broker::shared(), unique("refused"));
    create_topic(broker, &topic, 1, &[]);
    let mut writer = Writer::new(broker, &topic, 4);
    assert_eq!(writer.write(9, "first", true).0, INVALID_TXN_STATE, "it was not added");
    writer.add();
    // What was on its way behind it, now that the coordinator would say yes.
    writer.sequence = 1;
    assert_eq!(writer.write(9, "second", true).0, OUT_OF_ORDER_SEQUENCE_NUMBER);
    writer.sequence = 0;
    assert_eq!(writer.write(9, "first", true), (0, 0));
    assert_eq!(writer.write(9, "second", true), (0, 1));
    writer.end(3, true);
    // With the marker that is settled: where nothing was refused, a transaction may begin with any sequence that follows.
    writer.add();
    assert_eq!(writer.write(9, "third", true), (0, 3));
    writer.end(3, true);
}

#[test]
fn hanging_transaction_is_described_and_ended_by_a_marker() {
    let (broker, topic) = (Broker::shared(), unique("hanging"));
    create_topic(broker, &topic, 1, &[]);
    let mut writer = Writer::new(broker, &topic, 4);
    writer.add();
    assert_eq!(writer.write(9, "hangs", true), (0, 0));
    let mut reader = to_leader(broker.bootstrap(), &topic, 0).expect("the leader");
    let mut describe = || {
        let asked = DescribeProducersRequestTopicRequest {
            name: Str::from(topic.clone()),
            partition_indexes: vec![0, 7],
            ..Default::default()
        };
        let answer = reader.call(0, &DescribeProducersRequest { topics: vec![asked], ..Default::default() });
        let partitions = &answer.topics[0].partitions;
        assert_eq!((partitions[0].error_code, partitions[1].error_code), (0, 3));
        partitions[0].active_producers[0].clone()
    };
    let open = describe();
    assert_eq!((open.producer_id, open.current_txn_start_offset, open.last_sequence), (writer.id, 0, 0));
    let mut mark = |epoch: i16, coordinator_epoch: i32| {
        let marker = WriteTxnMarkersRequestWritableTxnMarker {
            producer_id: writer.id,
            producer_epoch: epoch,
            transaction_result: false,
            topics: vec![WriteTxnMarkersRequestWritableTxnMarkerTopic {
                name: Str::from(topic.clone()),
                partition_indexes: vec![0],
                ..Default::default()
            }],
            coordinator_epoch,
            ..Default::default()
        };
        let answer = writer.connection.call(1, &WriteTxnMarkersRequest { markers: vec![marker], ..Default::default() });
        answer.markers[0].topics[0].partitions[0].error_code
    };
    assert_eq!(mark(writer.epoch - 1, 5), INVALID_PRODUCER_EPOCH);
    assert_eq!(mark(writer.epoch, 5), 0);
    assert_eq!(mark(writer.epoch, 4), TRANSACTION_COORDINATOR_FENCED);
    assert_eq!((describe().current_txn_start_offset, describe().coordinator_epoch), (-1, 5));
    let mut reader = to_leader(broker.bootstrap(), &topic, 0).expect("the leader");
    assert_eq!(seen(&mut reader, &topic, READ_COMMITTED), (vec![0], Some(vec![(writer.id, 0)]), 2));
}
