//! A share coordinator, its clock, its log and the answers it gave.

use std::collections::{BTreeMap, VecDeque};

use corelane_coordinator::group::{WaitToken, Write};
use corelane_coordinator::share::*;
use corelane_coordinator::{CoordinatorRecord, Now};
use corelane_protocol::{ErrorCode, Str, Uuid};

pub type Answered = Result<Answer, ErrorCode>;

pub struct Harness {
    pub machine: ShareCoordinator,
    pub config: ShareConfig,
    pub now: Now,
    /// What is durable.
    pub log: Vec<CoordinatorRecord>,
    /// Offset of the first record that is still there.
    pub log_start: i64,
    pub under_way: VecDeque<Write>,
    pub hold_writes: bool,
    pub answers: BTreeMap<WaitToken, Answered>,
}

pub fn key(group: &'static str, topic: u8, partition: i32) -> SharePartitionKey {
    SharePartitionKey { group: Str::from(group), topic: Uuid([topic; 16]), partition }
}

pub fn batch(first: i64, last: i64, delivery_state: i8, delivery_count: i16) -> StateBatch {
    StateBatch { first, last, delivery_state, delivery_count }
}

pub fn write(start_offset: i64, batches: &[StateBatch]) -> Operation {
    Operation::Write {
        state_epoch: -1,
        leader_epoch: -1,
        start_offset,
        delivery_complete_count: 0,
        batches: batches.to_vec(),
    }
}

pub const READ: Operation = Operation::Read { leader_epoch: -1 };

impl Harness {
    pub fn new(config: ShareConfig) -> Harness {
        Harness {
            machine: ShareCoordinator::new(config.clone()),
            config,
            now: Now { mono_ms: 5_000, wall_ms: 1_700_000_000_000 },
            log: Vec::new(),
            log_start: 0,
            under_way: VecDeque::new(),
            hold_writes: false,
            answers: BTreeMap::new(),
        }
    }

    /// Runs an operation; `Err`: its answer comes later.
    pub fn start(
        &mut self,
        key: &SharePartitionKey,
        operation: &Operation,
        exists: bool,
    ) -> Result<Answered, WaitToken> {
        let outcome = self.machine.handle(self.now, key, operation, exists);
        self.perform(outcome.effects);
        match outcome.reply {
            corelane_coordinator::group::Reply::Now(answer) => Ok(answer.map_err(|refusal| refusal.code)),
            corelane_coordinator::group::Reply::Later(token) => self.answers.remove(&token).ok_or(token),
        }
    }

    pub fn run(&mut self, key: &SharePartitionKey, operation: &Operation) -> Answered {
        self.start(key, operation, true).expect("an answer")
    }

    pub fn known(&mut self, key: &SharePartitionKey) -> Known {
        match self.run(key, &READ) {
            Ok(Answer::Known(known)) => known,
            other => panic!("{other:?}"),
        }
    }

    fn perform(&mut self, effects: Effects) {
        for completed in effects.completed {
            let answer = completed.answer.map_err(|refusal| refusal.code);
            assert!(self.answers.insert(completed.token, answer).is_none(), "answered twice");
        }
        for write in effects.writes {
            let before: usize = self.under_way.iter().map(|write| write.records.len()).sum();
            self.machine.write_placed(write.id, self.log_start + (self.log.len() + before) as i64);
            self.under_way.push_back(write);
        }
        if let Some(Prune(upto)) = effects.prune {
            assert!(upto >= self.log_start && upto <= self.log_start + self.log.len() as i64);
            self.log.drain(..(upto - self.log_start) as usize);
            self.log_start = upto;
        }
        while !self.hold_writes && self.finish_write() {}
    }

    /// The oldest write becomes durable.
    pub fn finish_write(&mut self) -> bool {
        let Some(write) = self.under_way.pop_front() else { return false };
        self.log.extend(write.records);
        let effects = self.machine.write_completed(self.now, write.id);
        self.perform(effects);
        true
    }

    /// All writes after the oldest `kept` fail.
    pub fn fail_writes(&mut self, kept: usize, error: ErrorCode) {
        let failed = self.under_way.split_off(kept.min(self.under_way.len()));
        if let Some(write) = failed.front() {
            let effects = self.machine.write_failed(self.now, write.id, error);
            self.perform(effects);
        }
    }

    pub fn advance(&mut self, ms: i64) {
        self.now.mono_ms += ms;
        self.now.wall_ms += ms;
        while self.machine.next_deadline().is_some_and(|at| at <= self.now.mono_ms) {
            let effects = self.machine.tick(self.now);
            self.perform(effects);
        }
    }

    pub fn topics_deleted(&mut self, topic: u8) {
        let effects = self.machine.topics_deleted(self.now, |id| id == Uuid([topic; 16]));
        self.perform(effects);
    }

    /// A machine out of the log's first `records` records that are still there.
    pub fn rebuilt(&self, records: usize) -> ShareCoordinator {
        let mut machine = ShareCoordinator::new(self.config.clone());
        for (record, offset) in self.log.iter().take(records).zip(self.log_start..) {
            machine.replay(offset, record.key.clone(), record.value.clone()).expect("a record");
        }
        assert_eq!(machine.finish_loading(self.now), Effects::default());
        machine
    }

    /// What was under way is lost, and whoever waited will not hear any more.
    pub fn crash(&mut self) {
        self.under_way.clear();
        self.machine = self.rebuilt(self.log.len());
    }
}
