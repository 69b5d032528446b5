//! What a journal says of each partition, taken together.
#![deny(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::BTreeMap;

use crate::chunk::align_down;
use crate::entry::VoteRecord;
use crate::error::StorageError;
use crate::journal::record::{DATA_HEADER_BYTES, Found, RecordKind, split_data, split_key, split_placed};
use crate::log::load::decode_state;
use crate::log::state::{PartitionState, read_vote};
use crate::map::HashMap;
use crate::model::{Offset, PartitionKey};

/// Bytes of a segment that stand in a journal file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Extent {
    pub(super) segment: Offset,
    pub(super) position: u32,
    pub(super) len: u32,
    /// Number of the file in the journal's list.
    pub(super) file: usize,
    /// Where in the file.
    pub(super) at: usize,
    /// It ends with an entry.
    pub(super) complete: bool,
    /// The bytes are not in the journal: they were durable in the segment's file before the record was written.
    pub(super) in_file: bool,
}

impl Extent {
    pub(super) fn end(&self) -> u32 {
        self.position + self.len
    }

    /// Cuts off what is before `from` or behind `to`, places of a log; false if nothing is left.
    fn clip(&mut self, from: (Offset, u32), to: (Offset, u32)) -> bool {
        let start = match self.segment.cmp(&from.0) {
            std::cmp::Ordering::Less => return false,
            std::cmp::Ordering::Equal => from.1.max(self.position),
            std::cmp::Ordering::Greater => self.position,
        };
        let end = match self.segment.cmp(&to.0) {
            std::cmp::Ordering::Less => self.end(),
            std::cmp::Ordering::Equal => to.1.min(self.end()),
            std::cmp::Ordering::Greater => return false,
        };
        if start >= end {
            return false;
        }
        self.at += (start - self.position) as usize;
        (self.position, self.len) = (start, end - start);
        true
    }
}

const EVERYWHERE: (Offset, u32) = (Offset::MAX, u32::MAX);

/// One partition's.
#[derive(Default)]
pub(super) struct Plan {
    pub(super) base: Option<PartitionState>,
    /// Later than `base`.
    pub(super) vote: Option<VoteRecord>,
    pub(super) deleted: bool,
    /// In the order of the journal.
    pub(super) extents: Vec<Extent>,
}

impl Plan {
    /// Takes `state` for what the log was: what is synced needs no replay, what is behind its end was cut off.
    pub(super) fn begin_with(&mut self, state: PartitionState) {
        let (from, to) = (state.synced.max((state.first_segment, 0)), state.end.place());
        // The end of a log lies between entries, and the state came after all that is before it.
        self.extents.iter_mut().for_each(|extent| extent.complete = true);
        self.extents.retain_mut(|extent| extent.clip(from, to));
        (self.base, self.vote, self.deleted) = (Some(state), None, false);
    }

    /// Drops the beginning of an entry whose end did not make it: it was never acknowledged.
    pub(super) fn drop_incomplete(&mut self) {
        let whole = self.extents.iter().rposition(|extent| extent.complete).map_or(0, |last| last + 1);
        self.extents.truncate(whole);
    }

    /// Whether the partition of that state was ever used.
    pub(super) fn has_begun(&self, state: &PartitionState) -> bool {
        // The end is that of the last checkpoint; after a recovery only the durable place tells that there are bytes.
        state.end.position > 0 || state.durable > (state.first_segment, 0) || !self.extents.is_empty()
    }

    /// As `begin_with`, for a state file that may be older than the extents.
    pub(super) fn begin_with_file(&mut self, state: PartitionState) {
        let from = state.synced.max((state.first_segment, 0));
        self.extents.retain_mut(|extent| extent.clip(from, EVERYWHERE));
        self.base = Some(state);
    }
}

#[derive(Default)]
pub(super) struct Plans(pub(super) HashMap<PartitionKey, Plan>);

impl Plans {
    /// Takes in a record whose payload begins at `at` of file number `file`.
    pub(super) fn take_in(&mut self, record: Found<'_>, file: usize, at: usize) -> Result<(), StorageError> {
        if record.kind == RecordKind::Opened {
            return Ok(());
        }
        // The record's CRC was right: one that cannot be read was not written by this release.
        let unreadable =
            || StorageError::Version { path: format!("journal record {}", record.sequence).into(), found: 1, known: 0 };
        let (key, rest) = split_key(record.payload).ok_or_else(unreadable)?;
        let plan = self.0.entry(key).or_default();
        match record.kind {
            RecordKind::Opened => {}
            RecordKind::Data | RecordKind::DataPart => {
                let (segment, position, bytes) = split_data(rest).ok_or_else(unreadable)?;
                let at = at + DATA_HEADER_BYTES;
                let complete = record.kind == RecordKind::Data;
                let len = bytes.len() as u32;
                plan.extents.push(Extent { segment, position, len, file, at, complete, in_file: false });
            }
            RecordKind::Placed => {
                let (segment, position, block, bytes) = split_placed(rest).ok_or_else(unreadable)?;
                let (len, complete) = (block - position, bytes.is_empty());
                plan.extents.push(Extent { segment, position, len, file, at, complete, in_file: true });
                if !complete {
                    let (at, len) = (at + record.payload.len() - bytes.len(), bytes.len() as u32);
                    plan.extents.push(Extent {
                        segment,
                        position: block,
                        len,
                        file,
                        at,
                        complete: true,
                        in_file: false,
                    });
                }
            }
            RecordKind::State => {
                plan.begin_with(decode_state(key, std::path::Path::new("journal record"), rest)?);
            }
            RecordKind::Vote => plan.vote = read_vote(rest).map_err(|_| unreadable())?,
            RecordKind::Deleted => *plan = Plan { deleted: true, ..Plan::default() },
        }
        Ok(())
    }
}

/// Where the segments end that the state's last sync, or the journal, speaks of.
pub(super) fn ends(state: &PartitionState, extents: &[Extent]) -> BTreeMap<Offset, u32> {
    let mut ends = BTreeMap::from([state.synced]);
    for extent in extents {
        let end = ends.entry(extent.segment).or_insert(0);
        *end = extent.end().max(*end);
    }
    ends
}

/// Where the segments end, at least, that were in part synced by the state, or by records of large appends.
pub(super) fn synced_ends(state: &PartitionState, extents: &[Extent]) -> BTreeMap<Offset, u32> {
    let mut kept = BTreeMap::from([state.synced]);
    for extent in extents.iter().filter(|extent| extent.in_file) {
        let end = kept.entry(extent.segment).or_insert(0);
        *end = extent.end().max(*end);
    }
    kept.retain(|_, end| *end > 0);
    kept
}

/// The extents whose bytes are nowhere but in the journal. A large append was written from the beginning of its first block, so
/// what the journal has of that block is in the file, too.
pub(super) fn not_in_files(extents: Vec<Extent>) -> Vec<Extent> {
    let mut rest: Vec<Extent> = Vec::new();
    for extent in extents {
        if !extent.in_file {
            rest.push(extent);
            continue;
        }
        let covers = |e: &Extent| {
            e.segment == extent.segment && e.position >= align_down(extent.position) && e.end() <= extent.end()
        };
        while rest.last().is_some_and(covers) {
            rest.pop();
        }
    }
    rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extents_are_clipped_at_both_ends() {
        let extent =
            Extent { segment: Offset(10), position: 100, len: 50, file: 0, at: 1000, complete: true, in_file: false };
        let clip = |from, to| {
            let mut e = extent;
            e.clip(from, to).then_some((e.position, e.len, e.at))
        };
        assert_eq!(clip((Offset(5), 900), EVERYWHERE), Some((100, 50, 1000)));
        assert_eq!(clip((Offset(10), 120), EVERYWHERE), Some((120, 30, 1020)));
        assert_eq!(clip((Offset(10), 150), EVERYWHERE), None);
        assert_eq!(clip((Offset(11), 0), EVERYWHERE), None);
        assert_eq!(clip((Offset(0), 0), (Offset(10), 120)), Some((100, 20, 1000)));
        assert_eq!(clip((Offset(0), 0), (Offset(10), 100)), None);
        assert_eq!(clip((Offset(0), 0), (Offset(9), 5000)), None);
        assert_eq!(clip((Offset(10), 110), (Offset(10), 120)), Some((110, 10, 1010)));
    }
}
