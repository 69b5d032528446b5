//! Writes under way, and how to take back what they changed.

use std::collections::VecDeque;
use std::rc::Rc;

use corelane_protocol::{EncodeError, ErrorCode};

use super::coordinator::ShareCoordinator;
use super::key::SharePartitionKey;
use super::outcome::{Answer, Completed, Effects, Refusal, Reply};
use super::persist;
use super::state::{Entry, StateRecord};
use crate::CoordinatorRecord;
use crate::Now;
use crate::group::reject::write_error;
use crate::group::{WaitToken, Write, WriteId};

#[derive(Debug)]
struct PendingWrite {
    /// What was known of each record's partition before it, and whether the record makes all before it redundant.
    changes: Vec<Change>,
    /// Offset of its first record, once it has one.
    base: Option<i64>,
    replies: Vec<(WaitToken, Result<Answer, Refusal>)>,
}

#[derive(Debug)]
struct Change {
    key: SharePartitionKey,
    before: Option<Rc<Entry>>,
    place: Place,
}

/// What a record means for those before it of the same partition.
#[derive(Clone, Copy, Debug)]
enum Place {
    Update,
    Snapshot,
    Tombstone,
}

/// The writes under way, oldest first.
#[derive(Debug, Default)]
pub(super) struct WriteLog {
    pending: VecDeque<(WriteId, PendingWrite)>,
    next: u64,
}

impl ShareCoordinator {
    /// Makes changes, and one write of them. False, and nothing is changed, if they cannot be encoded.
    pub(super) fn write(&mut self, records: Vec<(SharePartitionKey, StateRecord)>, out: &mut Effects) -> bool {
        let encoded: Result<Vec<CoordinatorRecord>, EncodeError> =
            records.iter().map(|(key, record)| persist::encode(key, record)).collect();
        let Ok(encoded) = encoded else { return false };
        let mut changes = Vec::with_capacity(records.len());
        for (key, record) in records {
            let before = self.apply(&key, &record);
            let place = match record {
                StateRecord::Update(_) => Place::Update,
                StateRecord::Snapshot(_) => Place::Snapshot,
                StateRecord::Tombstone => Place::Tombstone,
            };
            changes.push(Change { key, before, place });
        }
        let id = WriteId(self.writes.next);
        self.writes.next += 1;
        self.writes.pending.push_back((id, PendingWrite { changes, base: None, replies: Vec::new() }));
        out.writes.push(Write { id, records: encoded, producer: None });
        true
    }

    /// Changes what is known; gives what was known before.
    pub(super) fn apply(&mut self, key: &SharePartitionKey, record: &StateRecord) -> Option<Rc<Entry>> {
        let before = self.entries.get(key).map(AsRef::as_ref);
        let after = Entry::after(before, record, self.config.updates_per_snapshot);
        self.set(key, after.map(Rc::new))
    }

    fn set(&mut self, key: &SharePartitionKey, entry: Option<Rc<Entry>>) -> Option<Rc<Entry>> {
        match entry {
            Some(entry) => self.entries.insert(key.clone(), entry),
            None => self.entries.remove(key),
        }
    }

    /// Answers when all that is known is durable.
    pub(super) fn reply(&mut self, answer: Result<Answer, Refusal>) -> Reply {
        match self.writes.pending.back_mut() {
            None => Reply::Now(answer),
            Some((_, write)) => {
                self.next_token += 1;
                let token = WaitToken(self.next_token);
                write.replies.push((token, answer));
                Reply::Later(token)
            }
        }
    }

    /// The records of write `id` lie at `base` and behind it, if it comes to be.
    pub fn write_placed(&mut self, id: WriteId, base: i64) {
        if let Ok(position) = self.writes.pending.binary_search_by_key(&id, |(id, _)| *id)
            && let Some((_, write)) = self.writes.pending.get_mut(position)
        {
            write.base = Some(base);
        }
    }

    /// The write `id` is durable, and so is every write before it.
    pub fn write_completed(&mut self, now: Now, id: WriteId) -> Effects {
        let mut out = Effects::default();
        while self.writes.pending.front().is_some_and(|(other, _)| *other <= id)
            && let Some((_, write)) = self.writes.pending.pop_front()
        {
            for (change, offset) in write.changes.into_iter().zip(write.base.into_iter().flat_map(|base| base..)) {
                match change.place {
                    Place::Update => {}
                    Place::Snapshot => self.upkeep.snapshot_at(change.key, offset),
                    Place::Tombstone => self.upkeep.tombstone_at(&change.key, offset),
                }
            }
            out.completed.extend(write.replies.into_iter().map(|(token, answer)| Completed { token, answer }));
        }
        self.reschedule(now);
        out
    }

    /// The write `id` will never be in the log, and neither will the writes after it: they are taken back. `error` is what
    /// appending gave, as Kafka names it; who waits gets what Kafka makes of it.
    pub fn write_failed(&mut self, now: Now, id: WriteId, error: ErrorCode) -> Effects {
        let mut out = Effects::default();
        let position = self.writes.pending.partition_point(|(other, _)| *other < id);
        let failed = self.writes.pending.split_off(position);
        for (_, write) in failed.iter().rev() {
            for change in write.changes.iter().rev() {
                self.set(&change.key, change.before.clone());
            }
        }
        let answer = Err(Refusal::from(write_error(error)));
        let replies = failed.into_iter().flat_map(|(_, write)| write.replies);
        out.completed.extend(replies.map(|(token, _)| Completed { token, answer: answer.clone() }));
        self.reschedule(now);
        out
    }

    /// The partition goes elsewhere, or its fate is unknown: everyone who waits is told `error` (as a rule `NotCoordinator`).
    pub fn unload(mut self, error: ErrorCode) -> Vec<Completed> {
        let waiting = self.writes.pending.drain(..).flat_map(|(_, write)| write.replies);
        waiting.map(|(token, _)| Completed { token, answer: Err(error.into()) }).collect()
    }
}
