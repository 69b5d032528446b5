//! Getting a segment's whole index: from memory, from its `.idx` file, from the log. Who looks something up asks
//! [`seek`](LogInner::seek) instead.

use std::rc::Rc;

use super::{LogInner, LogState};
use crate::error::StorageError;
use crate::layout;
use crate::model::Offset;
use crate::record::internal::{self, SEGMENT_HEADER_BYTES};
use crate::recovery::decision::batch::{self, Batch};
use crate::recovery::decision::index::{self as table, Decision, End, Index};
use crate::segment::index::{IndexEntry, SparseIndex};
use crate::segment::index_file::{Covers, Fingerprint, IndexFile, IndexHead};
use crate::segment::scan::{FileScan, FoundBatch, ScanError};
use crate::segment::{Segment, SegmentStart, Times};

impl LogInner {
    /// What goes into the segment's `.idx` file, if all of it is in memory.
    pub(super) fn index_file(&self, state: &LogState, segment: &Segment) -> Option<IndexFile> {
        let index = segment.index.as_ref().filter(|index| index.from == 0)?;
        let next = state.segments.get(state.segments.partition_point(|s| s.base_offset <= segment.base_offset));
        let (next_index, next_offset) = match next {
            Some(next) => (next.start?.base_index, next.base_offset),
            None => (state.next_index, state.log_end),
        };
        let covers = Covers {
            key: self.key,
            base_offset: segment.base_offset,
            covered: segment.size,
            ordinals: u32::try_from(next_index - segment.start?.base_index).ok()?,
            next_offset,
            times: segment.times?,
            last_batch: segment.last_batch?,
        };
        Some(IndexFile { covers, index: index.ended(state.config.index_interval_bytes, segment.size) })
    }

    /// Makes sure that the segment's index, times and start are in memory. Does nothing if the segment is gone.
    pub(crate) async fn load_index(self: &Rc<Self>, base: Offset) -> Result<(), StorageError> {
        loop {
            let generation = self.state.borrow().generation;
            let loaded = self.load_index_once(base).await;
            // The segment may have been cut, deleted or compacted meanwhile.
            if self.state.borrow().generation == generation {
                return loaded;
            }
        }
    }

    async fn load_index_once(self: &Rc<Self>, base: Offset) -> Result<(), StorageError> {
        let (upto, generation, active) = {
            let state = self.state.borrow();
            let Some(segment) = state.segment_at(base) else { return Ok(()) };
            let covered_from = segment.index.as_ref().map_or(segment.size, |index| index.from);
            if covered_from == 0 && segment.times.is_some() && segment.start.is_some() {
                self.shared.indexes.touch_whole(self, base);
                return Ok(());
            }
            let active = base == state.active().base_offset;
            (if covered_from == 0 { segment.size } else { covered_from }, state.generation, active)
        };
        let made = self.make_index(base, upto, generation).await?;
        let state = &mut *self.state.borrow_mut();
        if state.generation != generation {
            return Ok(());
        }
        let Some(segment) = state.segment_at_mut(base) else { return Ok(()) };
        segment.start.get_or_insert(made.start);
        if segment.times.is_none() {
            segment.times = Some(made.times);
        }
        if made.head.is_some() {
            segment.head = made.head;
        }
        if upto == segment.size {
            segment.last_batch = made.last_batch;
        }
        let index = segment.index_mut();
        if index.from > 0 {
            index.prepend(&made.index);
        }
        let memory = index.memory();
        if !active {
            self.shared.indexes.add_whole(self, base, memory);
        }
        Ok(())
    }

    /// Makes sure that all of an unfinished segment's index is in memory, if a part of it is only in its file: it is about to
    /// be written whole. `scan`: also where the file is missing and the segment has to be read for it.
    pub(super) async fn complete_index(self: &Rc<Self>, base: Offset, scan: bool) -> Result<(), StorageError> {
        let from = {
            let state = self.state.borrow();
            state.segment_at(base).and_then(|s| s.index.as_ref()).map_or(0, |index| index.from)
        };
        if from == 0 {
            return Ok(());
        }
        let size = self.state.borrow().segment_at(base).map_or(0, |s| s.size);
        let in_file = |covers: &Covers| self.is_of(covers, base, size) && covers.covered >= from;
        if scan || self.read_head(base).await?.is_some_and(|(head, _)| in_file(&head.covers)) {
            self.load_index(base).await?;
        }
        Ok(())
    }

    /// Reads the segment's header batch.
    pub(crate) async fn load_start(self: &Rc<Self>, base: Offset) -> Result<Option<SegmentStart>, StorageError> {
        if let Some(start) = self.state.borrow().segment_at(base).and_then(|s| s.start) {
            return Ok(Some(start));
        }
        let file = self.open_segment(base, false).await?;
        let mut scan = self.scan(file, 0, SEGMENT_HEADER_BYTES as u32).read_ahead(core_pinning::BLOCK);
        let found = self.scanned(base, scan.next().await)?;
        let header = found.and_then(|batch| internal::parse_segment_header(&batch.bytes));
        let Some(header) = header.filter(|h| h.key == self.key && h.base_offset == base) else {
            return Err(self.damaged(Batch::Foreign, base, 0, "not the segment's header"));
        };
        if header.format > internal::SEGMENT_FORMAT_MAX {
            let path = self.dir.join(layout::segment_name(base));
            return Err(StorageError::Version {
                path: path.to_string_lossy().into(),
                found: header.format,
                known: internal::SEGMENT_FORMAT_MAX,
            });
        }
        let start = SegmentStart::from(&header);
        if let Some(segment) = self.state.borrow_mut().segment_at_mut(base) {
            segment.start = Some(start);
        }
        Ok(Some(start))
    }

    pub(crate) fn scan(&self, file: core_pinning::File, from: u32, upto: u32) -> FileScan {
        FileScan::new(file, from, upto, self.shared.stats.clone())
    }

    /// A scan's result; a bad batch in what is durable fences the log.
    pub(crate) fn scanned<T>(&self, segment: Offset, result: Result<T, ScanError>) -> Result<T, StorageError> {
        result.map_err(|error| match error {
            ScanError::Bad { position, reason } => self.damaged(Batch::Bad, segment, position, reason),
            ScanError::Index { position, found, reason } => self.damaged(found, segment, position, reason),
            ScanError::Storage(error) => error,
        })
    }

    /// Fences the log for a batch that is not what it must be. Of an index all has been tried.
    pub(crate) fn damaged(&self, found: Batch, segment: Offset, at: u32, what: impl std::fmt::Display) -> StorageError {
        let row = batch::decide(found, batch::Index::MadeAgain);
        debug_assert_eq!(row.then, batch::Decision::Fence);
        self.fence(self.corrupt(segment, at, format!("{what}: {}", row.why)))
    }

    /// As `scanned`, for what is passed on: a batch that is not of the term that wrote its offsets is damaged, too (the CRC does
    /// not cover the leader epoch), and so is one that stands where the segment's header must.
    pub(crate) fn scanned_batch(
        &self,
        segment: Offset,
        result: Result<Option<FoundBatch>, ScanError>,
    ) -> Result<Option<FoundBatch>, StorageError> {
        let found = self.scanned(segment, result)?;
        let Some(FoundBatch { position, header, bytes }) = &found else { return Ok(found) };
        if *position == 0 {
            let of = internal::parse_segment_header(bytes);
            if !of.is_some_and(|of| of.key == self.key && of.base_offset == segment) {
                return Err(self.damaged(Batch::Foreign, segment, 0, "not the segment's header"));
            }
        }
        let of = {
            let state = self.state.borrow();
            // What is behind that is being found out, and what is before the log start nobody knows; but a batch is of one term.
            let is_in_log = header.base_offset < state.log_end && header.last_offset() >= state.log_start;
            let known = !header.is_internal() && is_in_log;
            known.then(|| state.epochs.epoch_for(header.base_offset.max(state.log_start))).flatten()
        };
        match of {
            Some(term) if term.leader_epoch() != header.leader_epoch => {
                let reason = format!("leader epoch {} where {} wrote", header.leader_epoch, term.leader_epoch());
                Err(self.damaged(Batch::OtherTerm, segment, *position, reason))
            }
            _ => Ok(found),
        }
    }

    /// The index of the segment's first `upto` bytes, all of which are in the file.
    async fn make_index(self: &Rc<Self>, base: Offset, upto: u32, generation: u64) -> Result<Made, StorageError> {
        let Some(start) = self.load_start(base).await? else { unreachable!("load_start fails otherwise") };
        let path = self.dir.join(layout::index_name(base));
        let file = self.open_segment(base, false).await?;
        self.same_generation(generation)?;
        let (known, found) = match crate::durable::read(&path).await? {
            None => (None, Index::Missing),
            Some(bytes) => {
                self.shared.stats.indexes.add(bytes.len());
                match IndexFile::decode(&bytes) {
                    Err(_) => (None, Index::Damaged),
                    Ok(f) => {
                        // It may know more than is asked for.
                        let size = self.state.borrow().segment_at(base).map_or(0, |s| s.size);
                        let same = self.is_of(&f.covers, base, size) && self.matches(&file, &f.covers).await?;
                        (Some(f), if same { Index::Usable } else { Index::Foreign })
                    }
                }
            }
        };
        let known = known.filter(|_| table::decide(found, End::Unread).then == Decision::Use);
        let interval = self.state.borrow().config.index_interval_bytes;
        let mut last_batch = known.as_ref().map(|known| known.covers.last_batch);
        let (mut index, mut times, mut ordinal, from, covered_offset) = match known {
            Some(IndexFile { index, covers: c }) => (index, c.times, c.ordinals, c.covered, c.next_offset),
            None => (SparseIndex::new(0), Times::NONE, 0, 0, base),
        };
        let mut scan = self.scan(file, from, upto).read_ahead(1 << 20);
        let mut next_offset = None;
        while let Some(batch) = self.scanned(base, scan.next().await)? {
            self.shared.stats.scanned_bytes.add(batch.bytes.len());
            let header = &batch.header;
            let leader_epoch = header.leader_epoch;
            let (position, base_offset) = (batch.position, header.base_offset);
            last_batch = Some(Fingerprint { position, base_offset, leader_epoch, crc: header.crc });
            next_offset = Some(header.next_offset());
            if position == 0 {
                continue;
            }
            let offset_delta = u32::try_from(base_offset - base).unwrap_or(u32::MAX);
            let max_timestamp = times.max_timestamp;
            index.add(interval, IndexEntry { offset_delta, position, ordinal, max_timestamp });
            if header.count > 0 {
                times.see(header.max_timestamp, position);
            }
            ordinal += 1;
            core_pinning::yield_if_needed().await;
        }
        self.same_generation(generation)?;
        let sealed = self.state.borrow().segment_at(base).is_some_and(|s| s.finished && s.size == upto);
        if sealed {
            self.check_end(base, found, next_offset.unwrap_or(covered_offset)).await?;
        }
        let mut head = None;
        // Without a `next_offset` the file is as it should be.
        if let (true, Some(last_batch), Some(next_offset)) = (sealed, last_batch, next_offset) {
            let (key, base_offset) = (self.key, base);
            let covers = Covers { key, base_offset, covered: upto, ordinals: ordinal, next_offset, times, last_batch };
            let (made, bytes) = IndexFile { covers, index: index.ended(interval, upto) }.encode();
            self.write_shortcut(&path, bytes).await;
            if self.state.borrow().generation != generation {
                // The segment may have been cut meanwhile.
                self.forget_indexes(&[base]).await?;
            } else {
                head = Some(Rc::new(made));
            }
        }
        Ok(Made { start, times, index, head, last_batch })
    }

    /// Checks that a sealed segment ends where the next one begins.
    pub(super) async fn check_end(
        self: &Rc<Self>,
        base: Offset,
        found: Index,
        next_offset: Offset,
    ) -> Result<(), StorageError> {
        let end_now = || self.state.borrow().end_of(base, next_offset);
        if end_now() == End::Apart {
            let file = self.open_segment(base, false).await?;
            let mut scan = self.scan(file, 0, SEGMENT_HEADER_BYTES as u32).read_ahead(core_pinning::BLOCK);
            let header = self.scanned(base, scan.next().await)?;
            let header = header.and_then(|batch| internal::parse_segment_header(&batch.bytes));
            if let Some(segment) = self.state.borrow_mut().segment_at_mut(base) {
                segment.has_gaps = header.is_some_and(|h| h.format == internal::SEGMENT_FORMAT_COMPACTED);
            }
        }
        let (end, size) = (end_now(), self.state.borrow().segment_at(base).map_or(0, |s| s.size));
        let row = table::decide(found, end);
        match row.then {
            Decision::Fence => {
                let reason = format!("the last offset of the segment is {}: {}", next_offset.0 - 1, row.why);
                Err(self.fence(self.corrupt(base, size, reason)))
            }
            _ => Ok(()),
        }
    }

    /// True if what was found is the segment's, in so far as it has `upto` bytes.
    pub(super) fn is_of(&self, covers: &Covers, base: Offset, upto: u32) -> bool {
        covers.key == self.key
            && covers.base_offset == base
            && covers.covered <= upto
            && covers.last_batch.position < covers.covered
    }

    /// True if the log still has the last batch there.
    pub(super) async fn matches(&self, file: &core_pinning::File, covers: &Covers) -> Result<bool, StorageError> {
        let batch = &covers.last_batch;
        let mut scan = self.scan(file.clone(), batch.position, covers.covered).read_ahead(core_pinning::BLOCK);
        match scan.next().await {
            Ok(Some(found)) => Ok(covers.is_end_of(&found.header)),
            Ok(None) | Err(ScanError::Bad { .. } | ScanError::Index { .. }) => Ok(false),
            Err(ScanError::Storage(error)) => Err(error),
        }
    }
}

impl LogState {
    /// Where the sealed segment at `base` ends if `next_offset` follows its last one.
    pub(super) fn end_of(&self, base: Offset, next_offset: Offset) -> End {
        let after = self.segments.partition_point(|s| s.base_offset <= base);
        match self.segments.get(after).map(|s| s.base_offset) {
            Some(next) if next_offset < next && self.segment_at(base).is_some_and(|s| s.has_gaps) => End::Meets,
            Some(next) if next_offset != next => End::Apart,
            _ => End::Meets,
        }
    }
}

struct Made {
    start: SegmentStart,
    times: Times,
    index: SparseIndex,
    head: Option<Rc<IndexHead>>,
    last_batch: Option<Fingerprint>,
}
