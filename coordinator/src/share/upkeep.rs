//! What is done now and then so that the topic stays short: snapshots of what has not changed for long, and pruning.

use corelane_protocol::Uuid;
use hashbrown::HashMap;

use super::coordinator::ShareCoordinator;
use super::key::SharePartitionKey;
use super::outcome::{Effects, Prune};
use super::state::{StateRecord, Stored};
use crate::Now;

/// Records of one batch, so that it stays well below what a log takes.
const RECORDS_PER_WRITE: usize = 256;

#[derive(Debug, Default)]
pub(super) struct Upkeep {
    /// Where the last snapshot of each lies: nothing before it is needed for that one.
    snapshots: HashMap<SharePartitionKey, i64>,
    last_tombstone: Option<i64>,
    pruned: i64,
    /// Something may be pruned that could not be before.
    prunable: bool,
    prune_at: Option<i64>,
    cold_at: Option<i64>,
}

impl Upkeep {
    pub(super) fn snapshot_at(&mut self, key: SharePartitionKey, offset: i64) {
        self.snapshots.insert(key, offset);
        self.prunable = true;
    }

    pub(super) fn tombstone_at(&mut self, key: &SharePartitionKey, offset: i64) {
        self.snapshots.remove(key);
        self.last_tombstone = self.last_tombstone.max(Some(offset));
        self.prunable = true;
    }

    /// What can be pruned that is not yet.
    fn prune(&mut self) -> Option<Prune> {
        self.prunable = false;
        let needed = self.snapshots.values().copied().min().or(self.last_tombstone)?;
        (needed > self.pruned).then(|| {
            self.pruned = needed;
            Prune(needed)
        })
    }
}

impl ShareCoordinator {
    /// When to call `tick` at the latest, on the monotonic clock.
    pub fn next_deadline(&self) -> Option<i64> {
        self.upkeep.prune_at.into_iter().chain(self.upkeep.cold_at).min()
    }

    /// Sees to it that what there is to do will be looked for.
    pub(super) fn reschedule(&mut self, now: Now) {
        let (empty, upkeep) = (self.entries.is_empty(), &mut self.upkeep);
        if upkeep.prunable {
            upkeep.prune_at.get_or_insert(now.mono_ms + self.config.prune_interval_ms);
        }
        if !empty {
            upkeep.cold_at.get_or_insert(now.mono_ms + self.config.cold_snapshot_interval_ms);
        }
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Now) -> Effects {
        let mut out = Effects::default();
        if self.upkeep.cold_at.take_if(|at| *at <= now.mono_ms).is_some() {
            self.snapshot_cold(now, &mut out);
        }
        if self.upkeep.prune_at.take_if(|at| *at <= now.mono_ms).is_some() {
            out.prune = self.upkeep.prune();
        }
        self.reschedule(now);
        out
    }

    /// Writes again what has had no snapshot for long, so that the records in front of it can go. Nothing if that was done for all
    /// of them already: then the topic does not grow, and need not.
    fn snapshot_cold(&mut self, now: Now, out: &mut Effects) {
        let is_cold = |stored: &Stored| stored.created_ms != stored.written_ms;
        if self.entries.values().all(|entry| is_cold(&entry.stored)) {
            return;
        }
        let old = |stored: &Stored| now.wall_ms - stored.written_ms >= self.config.cold_snapshot_interval_ms;
        let again = |stored: &Stored| {
            StateRecord::Snapshot(Stored {
                snapshot_epoch: stored.snapshot_epoch.wrapping_add(1),
                written_ms: now.wall_ms,
                ..stored.clone()
            })
        };
        let found = self.entries.iter().filter(|(_, entry)| old(&entry.stored));
        let records = found.map(|(key, entry)| (key.clone(), again(&entry.stored))).collect();
        self.write_in_parts(records, out);
    }

    /// What is stored of deleted topics goes.
    pub fn topics_deleted(&mut self, now: Now, deleted: impl Fn(Uuid) -> bool) -> Effects {
        let mut out = Effects::default();
        let found = self.entries.keys().filter(|key| deleted(key.topic));
        let records = found.map(|key| (key.clone(), StateRecord::Tombstone)).collect();
        self.write_in_parts(records, &mut out);
        self.reschedule(now);
        out
    }

    fn write_in_parts(&mut self, mut records: Vec<(SharePartitionKey, StateRecord)>, out: &mut Effects) {
        records.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        while !records.is_empty() {
            let rest = records.split_off(records.len().min(RECORDS_PER_WRITE));
            self.write(records, out);
            records = rest;
        }
    }
}
