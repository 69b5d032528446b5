//! A coordinator, its clock, its log, the markers it sends and the answers it gave.

use std::collections::{BTreeMap, VecDeque};

use corelane_coordinator::group::{WaitToken, Write};
use corelane_coordinator::txn::*;
use corelane_coordinator::{CoordinatorRecord, Now};
use corelane_protocol::{ErrorCode, Str};

pub use corelane_protocol::ErrorCode::{
    ConcurrentTransactions, CoordinatorNotAvailable, InvalidProducerIdMapping, InvalidRequest,
    InvalidTransactionTimeout, InvalidTxnState, NotEnoughReplicas, ProducerFenced, TransactionAbortable,
    TransactionalIdNotFound,
};

pub const TIMEOUT_MS: i32 = 60_000;
pub const COMMIT: TxnResult = TxnResult::Commit;
pub const ABORT: TxnResult = TxnResult::Abort;
pub const V1: TxnVersion = TxnVersion::V0;
pub const V2: TxnVersion = TxnVersion::V2;

pub struct Harness {
    pub machine: TxnCoordinator,
    pub config: TxnConfig,
    pub now: Now,
    /// What is durable.
    pub log: Vec<CoordinatorRecord>,
    pub under_way: VecDeque<Write>,
    /// Writes, or markers, wait for the test to end them.
    pub hold_writes: bool,
    pub hold_markers: bool,
    /// Sent and not yet reported as written.
    pub sending: VecDeque<Markers>,
    /// Every marker that was ever sent.
    pub sent: Vec<Markers>,
    pub answers: BTreeMap<WaitToken, Answer>,
    pub next_id: i64,
}

impl Default for Harness {
    fn default() -> Harness {
        let config = TxnConfig::default();
        Harness {
            machine: TxnCoordinator::new(config.clone()),
            config,
            now: Now { mono_ms: 5_000, wall_ms: 1_700_000_000_000 },
            log: Vec::new(),
            under_way: VecDeque::new(),
            hold_writes: false,
            hold_markers: false,
            sending: VecDeque::new(),
            sent: Vec::new(),
            answers: BTreeMap::new(),
            next_id: 1000,
        }
    }
}

pub fn partitions(all: &[(&'static str, i32)]) -> Partitions {
    all.iter().map(|(topic, index)| (Str::from(*topic), *index)).collect()
}

pub fn producer(id: i64, epoch: i16) -> Producer {
    Producer { id, epoch }
}

impl Harness {
    /// Makes a call and what follows from it; what it answered, if it has.
    pub fn call(&mut self, request: impl FnOnce(&mut TxnCoordinator, Now) -> Outcome) -> Reply {
        if self.machine.wants_producer_id() {
            self.machine.add_producer_id(self.next_id);
            self.next_id += 1;
        }
        let outcome = request(&mut self.machine, self.now);
        self.perform(outcome.effects);
        match outcome.reply {
            Reply::Later(token) => self.answers.remove(&token).map_or(outcome.reply, Reply::Now),
            now => now,
        }
    }

    fn perform(&mut self, effects: Effects) {
        for completed in effects.completed {
            assert!(self.answers.insert(completed.token, completed.answer).is_none(), "answered twice");
        }
        self.sent.extend(effects.markers.iter().cloned());
        self.sending.extend(effects.markers);
        self.under_way.extend(effects.writes);
        while !self.hold_writes && self.finish_write() {}
        while !self.hold_markers && self.finish_markers() {}
    }

    /// The oldest write becomes durable.
    pub fn finish_write(&mut self) -> bool {
        let Some(write) = self.under_way.pop_front() else { return false };
        self.log.extend(write.records);
        let effects = self.machine.write_completed(self.now, write.id);
        self.perform(effects);
        true
    }

    /// The oldest write and all after it fail.
    pub fn fail_writes(&mut self, error: ErrorCode) {
        let Some(write) = self.under_way.pop_front() else { return };
        self.under_way.clear();
        let effects = self.machine.write_failed(self.now, write.id, error);
        self.perform(effects);
    }

    pub fn finish_markers(&mut self) -> bool {
        let Some(markers) = self.sending.pop_front() else { return false };
        let effects = self.machine.markers_written(self.now, &markers.transactional_id, markers.producer);
        self.perform(effects);
        true
    }

    pub fn advance(&mut self, ms: i64) {
        self.now.mono_ms += ms;
        self.now.wall_ms += ms;
        while self.machine.next_deadline().is_some_and(|at| at <= self.now.mono_ms) {
            if self.machine.wants_producer_id() {
                self.machine.add_producer_id(self.next_id);
                self.next_id += 1;
            }
            let effects = self.machine.tick(self.now);
            self.perform(effects);
        }
    }

    /// A new machine out of the first `records` of the log. Whoever waited will not hear any more.
    pub fn crash_after(&mut self, records: usize) {
        self.log.truncate(records);
        self.under_way.clear();
        self.sending.clear();
        self.machine = TxnCoordinator::new(self.config.clone());
        for record in self.log.clone() {
            self.machine.replay(record.key, record.value).unwrap();
        }
        let effects = self.machine.finish_loading(self.now);
        self.perform(effects);
    }

    pub fn init(&mut self, id: &str) -> Answer {
        self.init_expecting(id, None)
    }

    pub fn init_expecting(&mut self, id: &str, expected: Option<Producer>) -> Answer {
        now(self.call(|machine, now| machine.init_producer_id(now, id, TIMEOUT_MS, expected)))
    }

    pub fn add(&mut self, id: &str, producer: Producer, all: &[(&'static str, i32)], version: TxnVersion) -> Answer {
        let all = partitions(all);
        now(self.call(|machine, now| machine.add_partitions(now, id, producer, &all, version)))
    }

    pub fn end(&mut self, id: &str, producer: Producer, result: TxnResult, version: TxnVersion) -> Answer {
        now(self.call(|machine, now| machine.end(now, id, producer, result, version)))
    }

    pub fn state(&self, id: &'static str) -> String {
        self.machine.describe(&Str::from(id)).transaction_state.to_string()
    }

    /// An id whose current epoch is the last that a client gets.
    pub fn exhausted(&mut self, id: &str) -> Producer {
        let mut producer = self.init(id).unwrap();
        while producer.epoch < i16::MAX - 1 {
            producer = self.init(id).unwrap();
        }
        producer
    }
}

fn now(reply: Reply) -> Answer {
    match reply {
        Reply::Now(answer) => answer,
        Reply::Later(token) => panic!("{token:?} is not answered yet"),
    }
}
