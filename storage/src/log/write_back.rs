//! Bringing a log's bytes into its segment files: one job of a log at a time, a few of a shard (`store::write_back`).
//!
//! | found                                                        | job                                                 |
//! |--------------------------------------------------------------|-----------------------------------------------------|
//! | full chunks, durable, and enough of them for a write         | write whole blocks; the rest goes with the next     |
//! | forced, and durable bytes are left                           | write them, the last block padded with zeros        |
//! | a chunk that begins inside a block not all of which is known | read that block first                               |
//! | a sealed segment, all written                                | cut the file to its size, write `.idx` and `.snap`  |
//! | a truncation on its way to the journal                       | nothing, until it is durable                        |
//! | a write past the journal under way (`log::bypass`)           | nothing, until the journal durably knows of it      |

use std::rc::Rc;

use core_pinning::{AlignedBuf, BLOCK, File};

use super::{LogInner, LogState};
use crate::chunk::{Chunk, ChunkSlice, align_down, align_up};
use crate::error::{Doing, StorageError};
use crate::layout;
use crate::model::Offset;
use crate::point::Point;
use crate::segment::Segment;

/// A segment's file grows by so many writes like the one at hand at a time, within the bounds, and at most to twice its size.
const GROWTH_WRITES: u32 = 8;
const GROWTH_MIN: u32 = 32 << 10;
const GROWTH_MAX: u32 = 16 << 20;
/// Chunks of slow logs are small. What is in several goes with one write, up to this size: to the disk and the kernel a write of
/// 16 KiB costs about what one of 128 does.
const GATHERED_MAX: u32 = 256 << 10;
/// So much is copied for a write; of more, the whole blocks are written from where they are.
const COPIED_MAX: u32 = 64 << 10;

enum Job {
    /// Read the block at the position for the chunk that begins inside it.
    ReadPrefix {
        segment: Offset,
        block: u32,
        start: u32,
    },
    Write(WriteJob),
    Finish {
        segment: Offset,
    },
}

struct WriteJob {
    segment: Offset,
    /// Beginning of a block.
    position: u32,
    whole_blocks: Option<ChunkSlice>,
    /// What follows them, or all of it, copied and padded: the last chunk goes on changing behind `upto`.
    copied: Option<AlignedBuf>,
    upto: u32,
    /// Grow the file's blocks to this size first.
    allocate: Option<(u32, u32)>,
    generation: u64,
}

impl LogState {
    /// `enough` bytes of full chunks, or all of a sealed segment.
    fn has_work(&self, enough: u32) -> bool {
        self.segments
            .iter()
            .rev()
            .take_while(|s| !s.finished)
            .any(|s| self.has_enough(s, enough) || (self.is_sealed(s) && self.durable_size(s) == s.size))
    }

    fn has_enough(&self, segment: &Segment, enough: u32) -> bool {
        let durable = self.durable_size(segment);
        let chunks = segment.tail.as_ref().map(|tail| tail.chunks.iter().rev());
        let full = chunks.into_iter().flatten().find(|c| c.is_sealed() && c.end() <= durable);
        full.is_some_and(|c| align_down(c.end()).saturating_sub(segment.written()) >= enough)
    }

    fn is_sealed(&self, segment: &Segment) -> bool {
        segment.base_offset != self.active().base_offset
    }

    /// Bytes of a segment that are durable in the journal or its file.
    fn durable_size(&self, segment: &Segment) -> u32 {
        match segment.base_offset.cmp(&self.flushed.segment) {
            std::cmp::Ordering::Less => segment.size,
            std::cmp::Ordering::Equal => self.flushed.position,
            std::cmp::Ordering::Greater => 0,
        }
    }

    /// True if everything durable is in the files, and the sealed segments are finished.
    pub(crate) fn is_written_back(&self) -> bool {
        let unfinished = self.segments.iter().rev().take_while(|s| !s.finished);
        unfinished.into_iter().all(|s| s.written() >= self.durable_size(s) && !self.is_sealed(s))
    }

    /// True if everything before `point` is in the segment files.
    fn is_written_to(&self, point: Point) -> bool {
        self.segments.iter().rev().take_while(|s| !s.finished).all(|s| match s.base_offset.cmp(&point.segment) {
            std::cmp::Ordering::Less => false,
            std::cmp::Ordering::Equal => s.written() >= point.position,
            std::cmp::Ordering::Greater => true,
        })
    }

    fn next_job(&mut self, forced: bool, enough: u32) -> Option<Job> {
        if self.truncating > 0 || matches!(self.fenced, Some(StorageError::Deleted(_))) {
            return None;
        }
        let unfinished = self.segments.iter().rev().take_while(|s| !s.finished).count();
        let first = self.segments.len() - unfinished;
        for number in first..self.segments.len() {
            let segment = self.segments.get(number)?;
            if let Some(job) = self.segment_job(segment, forced, enough) {
                return Some(job);
            }
            if segment.written() < segment.size {
                // The segments are written one after the other.
                return None;
            }
        }
        None
    }

    fn segment_job(&self, segment: &Segment, forced: bool, enough: u32) -> Option<Job> {
        let sealed = self.is_sealed(segment);
        if segment.dirty() == 0 {
            return (sealed && !segment.finished).then_some(Job::Finish { segment: segment.base_offset });
        }
        if !(forced || sealed || self.has_enough(segment, enough)) {
            return None;
        }
        let tail = segment.tail.as_ref()?;
        let (written, durable) = (tail.written, self.durable_size(segment));
        let block = align_down(written);
        // The last chunk whose memory holds the block that is next; an earlier one where its prefix is not known.
        let mut first = tail.chunks.partition_point(|c| align_down(c.start()) <= block).checked_sub(1)?;
        loop {
            let chunk = tail.chunks.get(first)?;
            if chunk.prefix_known() || chunk.start() <= block {
                break;
            }
            if chunk.start() <= written {
                return Some(Job::ReadPrefix { segment: segment.base_offset, block, start: chunk.start() });
            }
            first = first.checked_sub(1)?;
        }
        let is_full = |number: usize| {
            tail.chunks
                .get(number)
                .is_some_and(|c| c.end() <= durable && (c.is_sealed() || number + 1 < tail.chunks.len()))
        };
        let mut last = first;
        while is_full(last)
            && (forced || is_full(last + 1))
            && tail
                .chunks
                .get(last + 1)
                .is_some_and(|c| c.start() < durable && c.end().min(durable) - block <= GATHERED_MAX)
        {
            last += 1;
        }
        let (chunk, next) = (tail.chunks.get(last)?, tail.chunks.get(last + 1));
        let limit = chunk.end().min(durable);
        let upto = match next {
            // The rest of the last block goes with the next chunk, which has it as its prefix.
            Some(next) if is_full(last) && next.prefix_known() => align_down(limit),
            _ if is_full(last) && (next.is_some() || sealed) => limit,
            _ if forced => limit,
            _ if is_full(last) => align_down(limit),
            _ => return None,
        };
        // A forced write has got here before.
        let upto = if upto <= written && forced { limit } else { upto };
        if upto <= written {
            return None;
        }
        let from_memory = tail.chunks.get(first).filter(|c| upto <= c.end() && align_down(upto) - block > COPIED_MAX);
        let whole_blocks = from_memory.map(|chunk| chunk.file_bytes(block, align_down(upto)));
        let copied_from = if whole_blocks.is_some() { align_down(upto) } else { block };
        let copied = (upto > copied_from).then(|| copy_blocks(tail.chunks.range(first..), copied_from, upto));
        let allocate = (align_up(upto) > segment.allocated).then(|| {
            let growth = (upto - block).saturating_mul(GROWTH_WRITES).min(upto).clamp(GROWTH_MIN, GROWTH_MAX);
            (align_down(segment.allocated), align_up(align_up(upto).saturating_add(growth)))
        });
        Some(Job::Write(WriteJob {
            segment: segment.base_offset,
            position: block,
            whole_blocks,
            copied,
            upto,
            allocate,
            generation: self.generation,
        }))
    }
}

/// The file's bytes `[from, to)`, `from` being at the beginning of a block that the first chunk holds, and zeros up to the end of the
/// last block.
fn copy_blocks<'a>(chunks: impl Iterator<Item = &'a Chunk>, from: u32, to: u32) -> AlignedBuf {
    let size = (align_up(to) - from) as usize;
    let (mut out, mut at) = (AlignedBuf::new(size), from);
    for chunk in chunks {
        let end = chunk.end().min(to);
        if at < end {
            out.extend_from_slice(chunk.file_bytes(at, end).as_ref());
            at = end;
        }
    }
    debug_assert_eq!(at, to);
    out.extend_zeroes(size - out.len());
    out
}

impl LogInner {
    /// True if write-back has something to do without being forced.
    pub(super) fn has_work(&self, state: &LogState) -> bool {
        state.has_work(self.shared.write_back_enough())
    }

    /// Runs the next job; false if there is none.
    pub(crate) async fn write_back_once(self: &Rc<Self>) -> Result<bool, StorageError> {
        let job = {
            let mut state = self.state.borrow_mut();
            let forced = self.is_forced(&state);
            // Of a journal that has failed nobody knows which large appends it tells of: what they wrote stays as it is.
            let rests = self.marks.unsettled.get() > 0 || self.shared.journal.failure().is_some();
            let enough = self.shared.write_back_enough();
            if rests { None } else { state.next_job(forced, enough) }
        };
        match job {
            None => return Ok(false),
            Some(Job::ReadPrefix { segment, block, start }) => self.read_prefix(segment, block, start).await?,
            Some(Job::Write(job)) => self.write(job).await?,
            Some(Job::Finish { segment }) => self.finish_segment(segment).await?,
        }
        Ok(true)
    }

    /// True until what was durable when write-back was forced is written.
    fn is_forced(&self, state: &LogState) -> bool {
        if self.marks.forced.get() {
            let upto = self.marks.forced_to.get().unwrap_or(state.flushed);
            self.marks.forced_to.set(Some(upto));
            if state.is_written_to(upto) {
                self.marks.unforce();
            }
        }
        self.marks.forced.get()
    }

    pub(crate) async fn open_segment(&self, segment: Offset, create: bool) -> Result<File, StorageError> {
        let first = self.shared.files.len() == 0;
        let file = self.shared.files.open(self.key, segment, &self.dir, create).await;
        if first && self.shared.files.len() > 0 {
            // Somebody has to close it. Only then: who looks after dirty logs would wake itself, on a full disk for ever.
            self.shared.warm_signal.notify();
        }
        if self.is_deleted() {
            // Not to be taken for the file of a partition of the same key that comes after this one.
            self.shared.files.forget(self.key, segment);
        }
        file
    }

    async fn read_prefix(&self, segment: Offset, block: u32, start: u32) -> Result<(), StorageError> {
        let file = self.open_segment(segment, false).await?;
        let bytes = file.read_at(block.into(), BLOCK).await.doing("read", file.path())?;
        let Some(prefix) = bytes.get(..(start - block) as usize) else {
            let reason = format!("the file ends at {} of {start} bytes", block as usize + bytes.len());
            return Err(self.fence(self.corrupt(segment, block, reason)));
        };
        let mut state = self.state.borrow_mut();
        let chunk = state
            .segment_at_mut(segment)
            .and_then(|s| s.tail.as_mut())
            .and_then(|t| t.chunks.iter_mut().find(|c| c.start() == start && !c.prefix_known()));
        if let Some(chunk) = chunk {
            chunk.set_prefix(prefix);
        }
        Ok(())
    }

    async fn write(self: &Rc<Self>, job: WriteJob) -> Result<(), StorageError> {
        let new_file = self.state.borrow().segment_at(job.segment).is_some_and(|s| !s.has_file);
        if new_file {
            self.state.borrow_mut().dir_unsynced = true;
        }
        let file = self.open_segment(job.segment, true).await?;
        if let Some(segment) = self.state.borrow_mut().segment_at_mut(job.segment) {
            segment.has_file = true;
        }
        if let Some((from, upto)) = job.allocate {
            match file.allocate(from.into(), (upto - from).into(), true).await {
                // A file system without it: the write makes the blocks.
                Err(error) if error.kind() == std::io::ErrorKind::Unsupported => {}
                other => other.doing("allocate", file.path())?,
            }
            if let Some(segment) = self.state.borrow_mut().segment_at_mut(job.segment) {
                segment.allocated = segment.allocated.max(upto);
            }
        }
        let turn = self.shared.write_back.turns.next(self.shared.is_behind()).await;
        let mut position = u64::from(job.position);
        if let Some(blocks) = job.whole_blocks {
            let len = blocks.len();
            self.shared.stats.write_back_bytes.add(len);
            file.write_at(position, blocks).await.doing("write", file.path())?;
            position += len as u64;
        }
        if let Some(blocks) = job.copied {
            self.shared.stats.write_back_bytes.add(blocks.len());
            file.write_at(position, blocks).await.doing("write", file.path())?;
        }
        drop(turn);
        let state = &mut *self.state.borrow_mut();
        if !state.unsynced.contains(&job.segment) {
            state.unsynced.push(job.segment);
        }
        if state.generation == job.generation {
            self.mark_written(state, job.segment, job.upto);
        }
        Ok(())
    }

    /// What is before `upto` is in the segment's file.
    pub(super) fn mark_written(self: &Rc<Self>, state: &mut LogState, base: Offset, upto: u32) {
        let deleted = matches!(state.fenced, Some(StorageError::Deleted(_)));
        let tail = state.segment_at_mut(base).and_then(|s| s.tail.as_mut());
        let Some(tail) = tail.filter(|tail| !deleted && upto > tail.written) else { return };
        self.shared.dirty.sub((upto - tail.written) as usize);
        tail.written = upto;
        // Full chunks that are in the file now are the cache; the last one may yet grow.
        let new = tail.chunks.iter().rev().take_while(|c| !c.cached).count();
        let from = tail.chunks.len() - new;
        for chunk in tail.chunks.range_mut(from..).filter(|c| c.is_sealed() && c.end() <= upto) {
            chunk.cached = true;
            self.shared.cache.add(self, base, chunk.start(), chunk.capacity());
        }
    }

    /// Gives a sealed segment's file its exact size and its index.
    async fn finish_segment(self: &Rc<Self>, base: Offset) -> Result<(), StorageError> {
        let generation = self.state.borrow().generation;
        self.complete_index(base, true).await?;
        let (size, index, snapshot) = {
            let state = self.state.borrow();
            let Some(segment) = state.segment_at(base) else { return Ok(()) };
            if state.generation != generation {
                // The log was cut, and the segment may be the one that goes on: it is not finished, nor is its file to be
                // cut before the journal says so.
                return Ok(());
            }
            let next = state.segments.iter().find(|s| s.base_offset > base);
            let snapshot = next.and_then(|s| Some((s.base_offset, s.tail.as_ref()?.snapshot.clone()?)));
            (segment.size, self.index_file(&state, segment), snapshot)
        };
        let file = self.open_segment(base, false).await?;
        file.set_len(size.into()).await.doing("cut", file.path())?;
        let head = match index {
            Some(index) => Some(self.write_index(index).await),
            None => None,
        };
        if let Some((offset, snapshot)) = snapshot {
            self.write_shortcut(&self.dir.join(layout::snapshot_name(offset)), snapshot).await;
        }
        let finished = {
            let mut state = self.state.borrow_mut();
            if !state.unsynced.contains(&base) {
                state.unsynced.push(base);
            }
            state.dir_unsynced = true;
            let same = state.generation == generation;
            match state.segment_at_mut(base).filter(|_| same) {
                Some(segment) => {
                    segment.finished = true;
                    segment.allocated = size;
                    segment.head = head;
                    if let Some(index) = &segment.index {
                        self.shared.indexes.add_whole(self, base, index.memory());
                    }
                    let next = state.segments.iter_mut().find(|s| s.base_offset > base);
                    if let Some(tail) = next.and_then(|s| s.tail.as_mut()) {
                        tail.snapshot = None;
                    }
                    true
                }
                None => false,
            }
        };
        if finished {
            self.write_heads().await;
        }
        Ok(())
    }

    /// Replaces a file that can be made again from the log. Not synced, and a failure is only noted.
    pub(crate) async fn write_shortcut(&self, path: &std::path::Path, bytes: Vec<u8>) {
        if let Err(error) = crate::durable::replace(path, bytes, false).await {
            tracing::warn!(%error, "a shortcut file was not written");
        }
    }

    /// Takes chunks that are in the file out of memory, oldest first, up to the one that begins at `start`.
    pub(crate) fn drop_chunks(&self, segment: Offset, start: u32) -> usize {
        let mut state = self.state.borrow_mut();
        let Some(segment) = state.segment_at_mut(segment) else { return 0 };
        let Some(tail) = &mut segment.tail else { return 0 };
        let mut freed = 0;
        while let Some(oldest) = tail.chunks.front() {
            if oldest.start() > start || oldest.end() > tail.written {
                break;
            }
            let end = oldest.end();
            if let Some(chunk) = tail.chunks.pop_front() {
                self.shared.forget_chunk(&chunk);
                freed += chunk.capacity();
            }
            while tail.internal.front().is_some_and(|(position, _)| *position < end) {
                tail.internal.pop_front();
            }
        }
        if tail.chunks.is_empty() && tail.written == segment.size && segment.finished {
            segment.tail = None;
        }
        freed
    }

    /// Gives back all memory of a log that is written back and at rest; true if nothing is left to give.
    pub(crate) async fn rest(self: &Rc<Self>) -> bool {
        let base = self.state.borrow().active().base_offset;
        if self.complete_index(base, false).await.is_err() {
            return false;
        }
        let index = {
            let state = self.state.borrow();
            if !state.is_written_back() || state.dirty() > 0 || state.truncating > 0 {
                return false;
            }
            let active = state.active();
            let worth = active.index.as_ref().is_some_and(|i| i.memory() > 4096);
            let file = if worth { self.index_file(&state, active) } else { None };
            file.map(|file| (file, state.end(), state.generation))
        };
        let mut head = None;
        if let Some((file, end, generation)) = index {
            head = Some(self.write_index(file).await);
            let (now, cut) = {
                let state = self.state.borrow();
                (state.end(), state.generation != generation)
            };
            if cut && self.forget_indexes(&[base]).await.is_err() || now != end {
                return false;
            }
        }
        let state = &mut *self.state.borrow_mut();
        // Appended to meanwhile.
        if !state.is_written_back() || state.dirty() > 0 {
            return false;
        }
        for segment in state.segments.iter_mut().rev().take_while(|s| s.tail.is_some()) {
            if let Some(tail) = segment.tail.take() {
                tail.chunks.iter().for_each(|chunk| self.shared.forget_chunk(chunk));
            }
        }
        if head.is_some() {
            let active = state.active_mut();
            (active.index, active.head) = (None, head);
        }
        state.unapplied.shrink_to_fit();
        state.memberships.shrink_to_fit();
        state.unsynced.shrink_to_fit();
        true
    }

    /// True if there is nothing that [`rest`](Self::rest) would give back.
    pub(crate) fn has_no_memory(&self) -> bool {
        self.state.borrow().active().tail.is_none()
    }
}

impl LogInner {
    pub(crate) fn is_deleted(&self) -> bool {
        matches!(self.state.borrow().fenced, Some(StorageError::Deleted(_)))
    }

    pub(crate) fn flushed_point(&self) -> (Point, u64) {
        let state = self.state.borrow();
        (state.flushed, state.generation)
    }

    /// True if everything before `point` is in the segment files.
    pub(crate) fn is_written_to(&self, point: Point) -> bool {
        self.state.borrow().is_written_to(point)
    }

    /// True if everything appended is durable and in the segment files.
    pub(crate) fn is_at_rest(&self) -> bool {
        let state = self.state.borrow();
        state.dirty() == 0
            && state.is_written_back()
            && state.flushed == state.end()
            && state.synced == state.end().place()
    }

    pub(crate) fn has_chunk(&self, segment: Offset, start: u32) -> bool {
        // A log that is borrowed is in use.
        let Ok(state) = self.state.try_borrow() else { return true };
        let tail = state.segment_at(segment).and_then(|s| s.tail.as_ref());
        tail.is_some_and(|t| t.chunks.iter().any(|c| c.start() == start))
    }
}

impl LogInner {
    /// Gives up all memory of a log that is deleted.
    pub(crate) fn drop_memory(&self) {
        let state = &mut *self.state.borrow_mut();
        for segment in &mut state.segments {
            if let Some(tail) = segment.tail.take() {
                tail.chunks.iter().for_each(|chunk| self.shared.forget_chunk(chunk));
            }
            (segment.index, segment.head) = (None, None);
        }
        state.unapplied = Default::default();
    }
}
