//! A partition's segments as the next start would have them: after a replay of the journal, or as they are where none has anything.

use std::collections::{BTreeMap, BTreeSet};

use crate::log::state::{PartitionState, Place};
use crate::model::Offset;
use crate::recovery::decision::log::{self as table, Batches, Row, Segments, State};
use crate::recovery::plan::{Extent, Plan, ends, not_in_files, synced_ends};

pub(super) struct Expected<'a> {
    state: &'a PartitionState,
    /// The journal has something of the partition.
    in_journal: bool,
    /// Where the segments end that the journal, or the last sync, speaks of.
    ends: BTreeMap<Offset, u32>,
    durable: Place,
    /// The segments that the journal has bytes of.
    journaled: BTreeSet<Offset>,
    /// Where those end, at least, that are in their files already.
    synced: BTreeMap<Offset, u32>,
    /// What a replay puts into them.
    pub(super) extents: Vec<Extent>,
}

impl<'a> Expected<'a> {
    /// `segments`: the files' lengths.
    pub(super) fn new(
        state: &'a PartitionState,
        plan: Plan,
        in_journal: bool,
        segments: &BTreeMap<Offset, u64>,
    ) -> Expected<'a> {
        let ends = ends(state, &plan.extents);
        let journaled = plan.extents.iter().map(|extent| extent.segment).collect();
        let durable = match in_journal {
            true => ends.last_key_value().map_or(state.durable, |(base, end)| (*base, *end)).max(state.end.place()),
            false => state.durable,
        };
        let synced = if in_journal { synced_ends(state, &plan.extents) } else { BTreeMap::new() };
        let is_short = |(base, end): (&Offset, &u32)| segments.get(base).is_none_or(|len| *len < u64::from(*end));
        // Then a replay leaves all the bytes where they are.
        let extents = if synced.iter().any(is_short) { Vec::new() } else { not_in_files(plan.extents) };
        Expected { state, in_journal, ends, durable, journaled, synced, extents }
    }

    /// The segments of the log, with the lengths of their files: 0 where the journal has all of one. And those that are missing.
    pub(super) fn segments(&self, found: &BTreeMap<Offset, u64>) -> (Vec<(Offset, u64)>, Vec<Offset>) {
        let first = self.state.first_segment;
        let mut bases: BTreeMap<Offset, u64> =
            found.range(first..=self.durable.0).map(|(base, len)| (*base, *len)).collect();
        for base in self.journaled.range(first..) {
            bases.entry(*base).or_insert(0);
        }
        let mut missing = Vec::new();
        for base in [first, self.durable.0] {
            bases.entry(base).or_insert_with(|| {
                missing.push(base);
                0
            });
        }
        (bases.into_iter().collect(), missing)
    }

    /// The first place behind the log's end where there are bytes, and what a start does about them.
    pub(super) fn too_long(&self, found: &BTreeMap<Offset, u64>) -> Option<(Place, &'static Row)> {
        let (last, end) = self.durable;
        let place = found.range(last..).find_map(|(base, len)| match *base == last {
            true => (*len > u64::from(end)).then_some((last, end)),
            false => (*len > 0).then_some((*base, 0)),
        })?;
        let state = if self.state.clean && !self.in_journal { State::Clean } else { State::Unclean };
        Some((place, table::decide(state, Segments::Long, Batches::Unread)))
    }

    /// Where the segment ends, whose file has `len` bytes.
    pub(super) fn end(&self, base: Offset, len: u64) -> u64 {
        if base == self.durable.0 {
            return self.durable.1.into();
        }
        self.ends.get(&base).filter(|_| self.in_journal).map_or(len, |end| u64::from(*end))
    }

    /// How long its file must be: into one that is shorter a replay puts nothing.
    pub(super) fn least(&self, base: Offset) -> u32 {
        if self.in_journal && self.ends.contains_key(&base) {
            return self.synced.get(&base).copied().unwrap_or(0);
        }
        self.state.reached().filter(|(segment, _)| *segment == base).map(|(_, end)| end).max().unwrap_or(0)
    }
}
