//! The machine: how it begins, and what becomes of what it asked to store.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use super::batch::Batch;
use super::slot::{RecordState, Slot};
use crate::share::batches::StateBatch;
use crate::share::{Known, Refusal};
use corelane_protocol::ErrorCode;

/// What holds of a group at the time of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InFlightLimits {
    /// `group.share.partition.max.record.locks`: records between start and end.
    pub max_records: i32,
    /// `group.share.delivery.count.limit`: times that a record is lent.
    pub max_delivery_count: i16,
    /// `group.share.record.lock.duration.ms`
    pub lock_ms: i64,
    /// `share.renew.acknowledge.enable`
    pub renew: bool,
}

impl Default for InFlightLimits {
    fn default() -> InFlightLimits {
        InFlightLimits { max_records: 2_000, max_delivery_count: 5, lock_ms: 30_000, renew: true }
    }
}

/// Numbers what a machine asks to store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StoreId(pub u64);

/// To be written to the share coordinator; then [`SharePartition::stored`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToStore {
    pub id: StoreId,
    pub start_offset: i64,
    pub delivery_complete_count: i32,
    pub batches: Vec<StateBatch>,
}

/// Offsets that were lost between what is stored: fetched by a leader before, and not acknowledged when it went.
#[derive(Clone, Copy, Debug)]
pub(super) struct Gaps {
    /// The end as it was loaded: once it has moved, nothing is missing any more.
    pub(super) end: i64,
    /// Nothing is missing before this.
    pub(super) next: i64,
}

/// One partition of one share group, at its leader.
#[derive(Debug)]
pub struct SharePartition {
    pub(super) batches: BTreeMap<i64, Batch>,
    pub(super) start: i64,
    /// Last offset that was ever lent; the start where there is nothing in flight.
    pub(super) end: i64,
    /// Something before the end may be free. False: nothing is.
    pub(super) look_back: bool,
    pub(super) gaps: Option<Gaps>,
    pub(super) next_store: u64,
    /// When locks end, at the earliest; some of them may have ended otherwise.
    pub(super) deadlines: BinaryHeap<Reverse<i64>>,
    /// The one that was added last, so that those of one moment take one place.
    pub(super) latest_deadline: Option<i64>,
}

impl SharePartition {
    /// Takes over what is stored, or begins at `begin` where nobody has begun.
    pub fn load(known: &Known, begin: i64) -> Result<SharePartition, Refusal> {
        // What is stored may come before every log's start, which is then where it begins.
        let start = if known.start_offset == -1 { begin } else { known.start_offset.max(0) };
        if start < 0 {
            return Err(Refusal::from(ErrorCode::UnknownServerError));
        }
        let mut next = start;
        let mut missing = None;
        let mut batches = BTreeMap::new();
        for batch in &known.batches {
            let state = RecordState::from_stored(batch.delivery_state);
            let (Some(state), true) =
                (state, batch.first >= next && batch.last >= batch.first && batch.last < i64::MAX)
            else {
                return Err(Refusal::from(ErrorCode::UnknownServerError));
            };
            if batch.first > next {
                missing = missing.or(Some(next));
            }
            next = batch.last + 1;
            batches.insert(batch.first, Batch::new(batch.last, Slot::new(state, batch.delivery_count)));
        }
        let mut partition = SharePartition {
            start,
            end: batches.last_key_value().map_or(start, |(_, batch): (_, &Batch)| batch.last),
            look_back: !batches.is_empty(),
            gaps: None,
            batches,
            next_store: 0,
            deadlines: BinaryHeap::new(),
            latest_deadline: None,
        };
        partition.gaps = missing.map(|next| Gaps { end: partition.end, next });
        partition.move_start();
        Ok(partition)
    }

    pub fn start_offset(&self) -> i64 {
        self.start
    }

    /// First and last offset, state and delivery count of what is in flight, in order.
    pub fn in_flight(&self) -> impl Iterator<Item = (i64, i64, RecordState, i16)> {
        let runs = self.batches.iter().flat_map(|(first, batch)| batch.runs(*first));
        runs.map(|(first, last, slot)| (first, last, slot.state, slot.delivery_count))
    }

    /// Records from the start on that are done with, stored or not.
    fn delivery_complete_count(&self) -> i32 {
        let runs = self.batches.iter().flat_map(|(first, batch)| batch.within(*first, self.start, i64::MAX));
        let done = runs.filter(|(_, _, slot)| slot.state.is_terminal());
        i32::try_from(done.map(|(first, last, _)| last - first + 1).sum::<i64>()).unwrap_or(i32::MAX)
    }

    pub(super) fn new_store(&mut self) -> StoreId {
        self.next_store += 1;
        StoreId(self.next_store)
    }

    pub(super) fn to_store(&self, id: StoreId, batches: Vec<StateBatch>) -> Option<ToStore> {
        (!batches.is_empty()).then(|| ToStore {
            id,
            start_offset: self.start,
            delivery_complete_count: self.delivery_complete_count(),
            batches,
        })
    }

    /// What was to be stored is, or cannot be. True if there may be something to fetch that was not there before.
    pub fn stored(&mut self, id: StoreId, succeeded: bool, now_ms: i64, limits: &InFlightLimits) -> bool {
        self.finish_storing(id, succeeded, now_ms, limits) | (succeeded && self.move_start())
    }

    /// A lock's end was to be stored: its records are free whatever came of it.
    pub fn expiry_stored(&mut self) -> bool {
        self.move_start()
    }

    /// True if records have come free.
    pub(super) fn finish_storing(
        &mut self,
        id: StoreId,
        succeeded: bool,
        now_ms: i64,
        limits: &InFlightLimits,
    ) -> bool {
        let mut freed = false;
        for (first, batch) in &mut self.batches {
            if batch.runs.iter().all(|run| run.slot.storing != Some(id)) {
                continue;
            }
            batch.change(*first, i64::MIN, i64::MAX, |_, _, slot| {
                if slot.storing == Some(id) {
                    slot.stored(succeeded, now_ms, limits.max_delivery_count);
                    freed |= slot.is_free();
                }
            });
        }
        self.look_back |= freed;
        if freed {
            // The log may have been cut meanwhile.
            self.archive(i64::MIN, self.start - 1, RecordState::Available);
        }
        freed
    }

    /// When to call [`expire`](Self::expire) at the latest, on the monotonic clock.
    pub fn next_deadline(&self) -> Option<i64> {
        self.deadlines.peek().map(|Reverse(at)| *at)
    }

    pub(super) fn wake_at(&mut self, at_ms: i64) {
        if self.latest_deadline.replace(at_ms) != Some(at_ms) || self.deadlines.is_empty() {
            self.deadlines.push(Reverse(at_ms));
        }
    }
}
