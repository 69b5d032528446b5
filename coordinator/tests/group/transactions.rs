//! Offsets that are committed in transactions.

use corelane_coordinator::group::{
    Effects, GroupConfig, GroupCoordinator, Outcome, Reply, RequestContext, Response, Write,
};
use corelane_coordinator::{CoordinatorRecord, Now};
use corelane_protocol::messages::*;
use corelane_protocol::{ErrorCode, Str, Uuid};

use crate::harness::code;

enum Entry {
    Record(CoordinatorRecord, Option<i64>),
    Marker(i64, bool),
}

/// A machine and its log. Writes are durable at once, unless they are held.
struct Log {
    machine: GroupCoordinator,
    now: Now,
    entries: Vec<Entry>,
    held: Vec<Write>,
    hold: bool,
}

const GROUP: &str = "g";
const WEEK_MS: i64 = 7 * 24 * 60 * 60 * 1_000;

impl Log {
    fn new() -> Log {
        let now = Now { mono_ms: 1_000, wall_ms: 1_700_000_000_000 };
        let mut machine = GroupCoordinator::new(GroupConfig::default());
        machine.finish_loading(now);
        Log { machine, now, entries: Vec::new(), held: Vec::new(), hold: false }
    }

    fn perform(&mut self, effects: Effects) -> Vec<Response> {
        let mut answers: Vec<Response> = effects.completed.into_iter().map(|completed| completed.response).collect();
        self.held.extend(effects.writes);
        while !self.hold && !self.held.is_empty() {
            let write = self.held.remove(0);
            answers.extend(self.store(write));
        }
        answers
    }

    fn store(&mut self, write: Write) -> Vec<Response> {
        let producer = write.producer.map(|producer| producer.id);
        self.entries.extend(write.records.into_iter().map(|record| Entry::Record(record, producer)));
        let effects = self.machine.write_completed(self.now, write.id);
        self.perform(effects)
    }

    fn fail(&mut self) {
        let write = self.held.remove(0);
        self.held.clear();
        let effects = self.machine.write_failed(self.now, write.id, ErrorCode::NotEnoughReplicas);
        self.perform(effects);
    }

    fn call<R: TryFrom<Response>>(
        &mut self,
        request: impl FnOnce(&mut GroupCoordinator, Now) -> Outcome<R>,
    ) -> Option<R> {
        let outcome = request(&mut self.machine, self.now);
        let answers = self.perform(outcome.effects);
        match outcome.reply {
            Reply::Now(answer) => Some(answer),
            Reply::Later(_) => answers.into_iter().find_map(|answer| R::try_from(answer).ok()),
        }
    }

    /// Commits in the transaction of `producer_id`; the error, if it is answered.
    fn commit_in(&mut self, producer_id: i64, partition: i32, offset: i64) -> Option<i16> {
        self.commit_request(&txn_request(producer_id, partition, offset))
    }

    fn commit_request(&mut self, request: &TxnOffsetCommitRequest) -> Option<i16> {
        let response = self.call(|machine, now| machine.txn_offset_commit(now, request))?;
        Some(response.topics[0].partitions[0].error_code)
    }

    fn commit(&mut self, partition: i32, offset: i64) {
        let request = OffsetCommitRequest {
            group_id: Str::from(GROUP),
            generation_id_or_member_epoch: -1,
            retention_time_ms: -1,
            topics: vec![OffsetCommitRequestTopic {
                name: Str::from("t"),
                partitions: vec![OffsetCommitRequestPartition {
                    partition_index: partition,
                    committed_offset: offset,
                    ..Default::default()
                }],
                ..Default::default()
            }],
            ..Default::default()
        };
        let context =
            RequestContext { client_id: Str::from("c"), client_host: Str::from("/h"), api_version: 9, random: 0 };
        self.call(|machine, now| machine.offset_commit(now, &context, &request));
    }

    fn end(&mut self, producer_id: i64, commit: bool) {
        self.entries.push(Entry::Marker(producer_id, commit));
        self.machine.transaction_ended(producer_id, commit);
    }

    /// Offset and error, as a reader sees them.
    fn fetch(&mut self, partition: i32, require_stable: bool) -> (i64, i16) {
        let request = OffsetFetchRequestGroup {
            group_id: Str::from(GROUP),
            topics: Some(vec![OffsetFetchRequestTopics {
                name: Str::from("t"),
                partition_indexes: vec![partition],
                ..Default::default()
            }]),
            ..Default::default()
        };
        let fetched = self.call(|machine, _| machine.offset_fetch(&request, require_stable)).expect("an answer");
        let partition = &fetched.topics[0].partitions[0];
        (partition.committed_offset, partition.error_code)
    }

    fn restart(&mut self) {
        self.held.clear();
        let mut machine = GroupCoordinator::new(GroupConfig::default());
        for entry in &self.entries {
            match entry {
                Entry::Record(record, producer_id) => {
                    machine.replay(self.now, record.key.clone(), record.value.clone(), *producer_id).unwrap();
                }
                Entry::Marker(producer_id, commit) => machine.transaction_ended(*producer_id, *commit),
            }
        }
        machine.finish_loading(self.now);
        self.machine = machine;
    }

    fn advance(&mut self, ms: i64) {
        self.now.mono_ms += ms;
        self.now.wall_ms += ms;
        let effects = self.machine.tick(self.now);
        self.perform(effects);
    }
}

fn txn_request(producer_id: i64, partition: i32, offset: i64) -> TxnOffsetCommitRequest {
    TxnOffsetCommitRequest {
        transactional_id: Str::from("x"),
        group_id: Str::from(GROUP),
        producer_id,
        producer_epoch: 0,
        generation_id: -1,
        topics: vec![TxnOffsetCommitRequestTopic {
            name: Str::from("t"),
            partitions: vec![TxnOffsetCommitRequestPartition {
                partition_index: partition,
                committed_offset: offset,
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    }
}

const UNSTABLE: (i64, i16) = (-1, ErrorCode::UnstableOffsetCommit as i16);

#[test]
fn an_offset_counts_when_its_transaction_is_committed() {
    for restarts in [false, true] {
        let mut log = Log::new();
        log.commit(0, 5);
        assert_eq!(log.commit_in(7, 0, 9), Some(0));
        let restart = |log: &mut Log| restarts.then(|| log.restart());
        restart(&mut log);
        assert_eq!(log.fetch(0, false), (5, 0), "nobody sees what may yet be aborted");
        assert_eq!(log.fetch(0, true), UNSTABLE);
        assert_eq!(log.fetch(1, true), (-1, 0), "other partitions are stable");
        log.end(7, true);
        restart(&mut log);
        assert_eq!((log.fetch(0, true), log.fetch(0, false)), ((9, 0), (9, 0)));
    }
}

#[test]
fn an_aborted_offset_leaves_no_trace() {
    for restarts in [false, true] {
        let mut log = Log::new();
        log.commit(0, 5);
        log.commit_in(7, 0, 9);
        log.commit_in(7, 1, 2);
        log.end(7, false);
        if restarts {
            log.restart();
        }
        assert_eq!(log.fetch(0, true), (5, 0));
        assert_eq!(log.fetch(1, true), (-1, 0));
    }
}

#[test]
fn transactions_of_several_producers_end_each_by_itself() {
    let mut log = Log::new();
    log.commit_in(7, 0, 9);
    log.commit_in(8, 1, 3);
    log.commit_in(8, 0, 4);
    log.end(7, true);
    assert_eq!(log.fetch(0, false), (9, 0));
    assert_eq!(log.fetch(0, true), UNSTABLE);
    log.restart();
    log.end(8, false);
    assert_eq!((log.fetch(0, true), log.fetch(1, true)), ((9, 0), (-1, 0)));
    log.commit_in(7, 0, 10);
    log.end(7, true);
    assert_eq!(log.fetch(0, true), (10, 0));
}

#[test]
fn what_was_committed_later_stands() {
    for restarts in [false, true] {
        let mut log = Log::new();
        log.commit_in(7, 0, 9);
        log.commit(0, 20);
        log.end(7, true);
        if restarts {
            log.restart();
        }
        assert_eq!(log.fetch(0, true), (20, 0));
    }
}

#[test]
fn a_commit_that_is_not_stored_leaves_nothing_pending() {
    let mut log = Log::new();
    log.commit(0, 5);
    log.commit_in(7, 0, 9);
    log.hold = true;
    assert_eq!(log.commit_in(7, 0, 11), None);
    log.fail();
    log.hold = false;
    log.end(7, true);
    assert_eq!(log.fetch(0, true), (9, 0), "the one before it is stored");
}

#[test]
fn a_failed_write_does_not_take_a_committed_transaction_back() {
    let mut log = Log::new();
    log.commit(0, 5);
    log.commit_in(7, 0, 9);
    log.hold = true;
    log.commit(0, 20);
    log.end(7, true);
    log.fail();
    log.hold = false;
    assert_eq!(log.fetch(0, true), (9, 0));
}

#[test]
fn a_group_with_offsets_in_a_transaction_does_not_expire() {
    let mut log = Log::new();
    log.commit(0, 5);
    log.commit_in(7, 0, 9);
    log.advance(2 * WEEK_MS);
    assert_eq!(log.machine.counts().empty, 1);
    assert_eq!(log.fetch(0, false), (5, 0));
    log.end(7, true);
    assert_eq!(log.fetch(0, true), (9, 0));
    log.advance(2 * WEEK_MS);
    assert_eq!(log.machine.counts().empty, 0, "it has no reason to stay");
}

#[test]
fn what_is_deleted_does_not_come_back_with_a_transaction() {
    for restarts in [false, true] {
        let mut log = Log::new();
        log.commit_in(7, 0, 9);
        log.call(|machine, now| machine.delete_groups(now, &[Str::from(GROUP)]));
        log.commit_in(8, 0, 3);
        let effects = log.machine.topics_deleted(log.now, &[(Str::from("t"), Uuid::from_u128(1))]);
        log.perform(effects);
        log.end(7, true);
        log.end(8, true);
        if restarts {
            log.restart();
        }
        assert_eq!(log.fetch(0, true), (-1, 0));
    }
}

#[test]
fn a_commit_for_a_group_that_moved_on_is_refused() {
    let mut log = Log::new();
    let stale = TxnOffsetCommitRequest { generation_id: 3, ..txn_request(7, 0, 9) };
    assert_eq!(log.commit_request(&stale), Some(code(ErrorCode::IllegalGeneration)), "there is no such group");
    log.commit(0, 5);
    let stranger = TxnOffsetCommitRequest { generation_id: 0, member_id: Str::from("m"), ..txn_request(7, 0, 9) };
    assert_eq!(log.commit_request(&stranger), Some(code(ErrorCode::UnknownMemberId)));
    assert_eq!(log.commit_in(7, 0, 9), Some(0), "without a member it is between the producer and its transaction");
}
