//! What is known of one partition of one group, and how records change it.

use super::batches::{StateBatch, combine};

/// What a snapshot holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stored {
    /// Rises with every snapshot.
    pub(super) snapshot_epoch: i32,
    /// Rises whenever the state is initialised anew, say by an administrator.
    pub(super) state_epoch: i32,
    pub(super) leader_epoch: i32,
    /// -1: not initialised.
    pub(super) start_offset: i64,
    pub(super) delivery_complete_count: i32,
    pub(super) batches: Vec<StateBatch>,
    /// Wall clock: when the contents were last changed by a snapshot, and when the snapshot was written.
    pub(super) created_ms: i64,
    pub(super) written_ms: i64,
}

/// What changed since a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Update {
    pub(super) snapshot_epoch: i32,
    /// -1: as before; so of the start offset.
    pub(super) leader_epoch: i32,
    pub(super) start_offset: i64,
    pub(super) delivery_complete_count: i32,
    pub(super) batches: Vec<StateBatch>,
}

/// A record of the topic, without its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum StateRecord {
    Snapshot(Stored),
    Update(Update),
    Tombstone,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) stored: Stored,
    /// The largest epochs that were ever stored: whoever comes with less is fenced.
    pub(super) leader_fence: i32,
    pub(super) state_fence: i32,
    /// Updates since the last snapshot that was due.
    pub(super) updates: u32,
}

impl Entry {
    /// What is known after `record`; `limit`: updates after which a snapshot is due.
    pub(super) fn after(before: Option<&Entry>, record: &StateRecord, limit: u32) -> Option<Entry> {
        match record {
            StateRecord::Tombstone => None,
            StateRecord::Snapshot(stored) => Some(Entry {
                stored: stored.clone(),
                leader_fence: before.map_or(i32::MIN, |b| b.leader_fence).max(stored.leader_epoch),
                state_fence: before.map_or(i32::MIN, |b| b.state_fence).max(stored.state_epoch),
                updates: before.map_or(0, |b| if b.updates >= limit { 0 } else { b.updates }),
            }),
            StateRecord::Update(update) => Some(Entry {
                stored: update.onto(before.map(|b| &b.stored)),
                leader_fence: before.map_or(i32::MIN, |b| b.leader_fence).max(update.leader_epoch),
                state_fence: before.map_or(i32::MIN, |b| b.state_fence),
                updates: before.map_or(0, |b| b.updates).saturating_add(1),
            }),
        }
    }
}

impl Update {
    fn onto(&self, before: Option<&Stored>) -> Stored {
        let Some(before) = before else {
            // Its snapshot is missing: no log that was written here has that.
            return Stored {
                snapshot_epoch: self.snapshot_epoch,
                state_epoch: 0,
                leader_epoch: self.leader_epoch,
                start_offset: self.start_offset,
                delivery_complete_count: self.delivery_complete_count,
                batches: self.batches.clone(),
                created_ms: 0,
                written_ms: 0,
            };
        };
        let start_offset = if self.start_offset == -1 { before.start_offset } else { self.start_offset };
        Stored {
            leader_epoch: if self.leader_epoch == -1 { before.leader_epoch } else { self.leader_epoch },
            start_offset,
            delivery_complete_count: self.delivery_complete_count,
            batches: combine(&before.batches, &self.batches, start_offset),
            ..*before
        }
    }
}
