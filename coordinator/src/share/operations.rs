//! InitializeShareGroupState, ReadShareGroupState, WriteShareGroupState, DeleteShareGroupState, ReadShareGroupStateSummary: each
//! for one partition of one group.

use corelane_protocol::ErrorCode;

use super::batches::{StateBatch, combine};
use super::coordinator::ShareCoordinator;
use super::key::SharePartitionKey;
use super::outcome::{Answer, Effects, Known, Outcome, Refusal, Summary};
use super::state::{Entry, StateRecord, Stored, Update};
use crate::Now;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Begins anew; epoch -1: whatever it is.
    Initialize {
        state_epoch: i32,
        start_offset: i64,
    },
    /// Whoever reads as a later leader fences those before it. Epoch -1: not a leader.
    Read {
        leader_epoch: i32,
    },
    /// Epochs of -1 are not looked at, start offset -1 stays as it is.
    Write {
        state_epoch: i32,
        leader_epoch: i32,
        start_offset: i64,
        delivery_complete_count: i32,
        batches: Vec<StateBatch>,
    },
    Delete,
    Summary,
}

const NEGATIVE_PARTITION: &str = "The partition id cannot be a negative number.";
const READ_UNINITIALIZED: &str = "Read operation on uninitialized share partition not allowed.";
const WRITE_UNINITIALIZED: &str = "Write operation on uninitialized share partition not allowed.";
/// Kafka has no such check, and never comes back from such a batch.
const REVERSED_BATCH: &str = "A state batch cannot end before it begins.";

fn invalid(reason: &'static str) -> Refusal {
    Refusal { code: ErrorCode::InvalidRequest, reason: Some(reason) }
}

impl ShareCoordinator {
    /// Runs an operation; `exists`: the cluster has this partition of the topic.
    pub fn handle(&mut self, now: Now, key: &SharePartitionKey, operation: &Operation, exists: bool) -> Outcome {
        let mut effects = Effects::default();
        let answer = match self.decide(now, key, operation, exists) {
            Ok((answer, None)) => Ok(answer),
            Ok((answer, Some(record))) => match self.write(vec![(key.clone(), record)], &mut effects) {
                true => Ok(answer),
                false => Err(ErrorCode::UnknownServerError.into()),
            },
            Err(refusal) => Err(refusal),
        };
        let reply = self.reply(answer);
        self.reschedule(now);
        Outcome { reply, effects }
    }

    fn decide(
        &self,
        now: Now,
        key: &SharePartitionKey,
        operation: &Operation,
        exists: bool,
    ) -> Result<(Answer, Option<StateRecord>), Refusal> {
        if key.partition < 0 {
            return Err(invalid(NEGATIVE_PARTITION));
        }
        let entry = self.entries.get(key).map(AsRef::as_ref);
        let known = if exists { Ok(()) } else { Err(Refusal::from(ErrorCode::UnknownTopicOrPartition)) };
        match operation {
            Operation::Initialize { state_epoch, start_offset } => {
                check_state_epoch(entry, *state_epoch)?;
                known?;
                Ok((Answer::Done, Some(initialized(now, entry, *state_epoch, *start_offset))))
            }
            Operation::Read { leader_epoch } => {
                let entry = entry.ok_or(invalid(READ_UNINITIALIZED))?;
                check_leader_epoch(entry, *leader_epoch)?;
                known?;
                let Stored { state_epoch, start_offset, ref batches, .. } = entry.stored;
                let answer = Answer::Known(Known { state_epoch, start_offset, batches: batches.clone() });
                let led = *leader_epoch == -1 || *leader_epoch == entry.leader_fence;
                Ok((answer, (!led).then(|| self.led(now, entry, *leader_epoch))))
            }
            Operation::Write { state_epoch, leader_epoch, start_offset, delivery_complete_count, batches } => {
                let entry = entry.ok_or(invalid(WRITE_UNINITIALIZED))?;
                check_leader_epoch(entry, *leader_epoch)?;
                check_state_epoch(Some(entry), *state_epoch)?;
                known?;
                if batches.iter().any(|batch| batch.first > batch.last) {
                    return Err(invalid(REVERSED_BATCH));
                }
                let epoch = entry.stored.leader_epoch;
                let record = self.changed(now, entry, epoch, (*start_offset, *delivery_complete_count), batches);
                Ok((Answer::Done, Some(record)))
            }
            Operation::Delete => {
                known?;
                Ok((Answer::Done, entry.map(|_| StateRecord::Tombstone)))
            }
            Operation::Summary => {
                known?;
                Ok((Answer::Summary(entry.map_or(Summary::NONE, |entry| summary(&entry.stored))), None))
            }
        }
    }

    /// A new leader has read the state.
    fn led(&self, now: Now, entry: &Entry, leader_epoch: i32) -> StateRecord {
        let Stored { start_offset, delivery_complete_count, .. } = entry.stored;
        self.changed(now, entry, leader_epoch, (start_offset, delivery_complete_count), &[])
    }

    /// What changed, or everything if that is due.
    fn changed(
        &self,
        now: Now,
        entry: &Entry,
        leader_epoch: i32,
        (start_offset, delivery_complete_count): (i64, i32),
        batches: &[StateBatch],
    ) -> StateRecord {
        let before = &entry.stored;
        if entry.updates < self.config.updates_per_snapshot {
            return StateRecord::Update(Update {
                snapshot_epoch: before.snapshot_epoch,
                leader_epoch,
                start_offset,
                delivery_complete_count,
                batches: combine(&[], batches, start_offset),
            });
        }
        let start_offset = if start_offset == -1 { before.start_offset } else { start_offset };
        StateRecord::Snapshot(Stored {
            snapshot_epoch: before.snapshot_epoch.wrapping_add(1),
            state_epoch: before.state_epoch,
            leader_epoch,
            start_offset,
            delivery_complete_count,
            batches: combine(&before.batches, batches, start_offset),
            created_ms: now.wall_ms,
            written_ms: now.wall_ms,
        })
    }
}

fn initialized(now: Now, before: Option<&Entry>, state_epoch: i32, start_offset: i64) -> StateRecord {
    StateRecord::Snapshot(Stored {
        snapshot_epoch: before.map_or(0, |entry| entry.stored.snapshot_epoch.wrapping_add(1)),
        state_epoch,
        leader_epoch: 0,
        start_offset,
        // Where the start is not decided there is nothing to count from.
        delivery_complete_count: if start_offset == -1 { -1 } else { 0 },
        batches: Vec::new(),
        created_ms: now.wall_ms,
        written_ms: now.wall_ms,
    })
}

fn summary(stored: &Stored) -> Summary {
    Summary {
        state_epoch: stored.state_epoch,
        leader_epoch: stored.leader_epoch,
        start_offset: stored.start_offset,
        delivery_complete_count: stored.delivery_complete_count,
    }
}

fn check_leader_epoch(entry: &Entry, epoch: i32) -> Result<(), Refusal> {
    let fenced = epoch != -1 && epoch < entry.leader_fence;
    if fenced { Err(ErrorCode::FencedLeaderEpoch.into()) } else { Ok(()) }
}

fn check_state_epoch(entry: Option<&Entry>, epoch: i32) -> Result<(), Refusal> {
    let fenced = epoch != -1 && entry.is_some_and(|entry| epoch < entry.state_fence);
    if fenced { Err(ErrorCode::FencedStateEpoch.into()) } else { Ok(()) }
}
