//! Reading for consumers: whole batches, internal ones left out.
//!
//! What is in memory never touches the disk and is not parsed batch by batch where the index knows a shortcut; what comes from
//! the disk is checked batch by batch.

use std::rc::Rc;

use bytes::Bytes;

use super::seek::Seek;
use super::{Log, LogInner, LogState};
use crate::entry::{ReadLimit, ReadSlices};
use crate::error::ReadError;
use crate::model::Offset;
use crate::record::{BatchError, BatchHeader};
use crate::segment::scan::ScanError;
use crate::segment::{Segment, Tail};

/// A read from the disk takes this much at most.
const DISK_READ_MAX: usize = 8 << 20;

/// What to do next.
enum Step {
    Done,
    Disk(DiskPlan),
}

struct DiskPlan {
    segment: Offset,
    upto: u32,
    /// Where records go on behind `upto`.
    next: Offset,
}

/// Batches that follow each other in one buffer: they go out as one slice.
struct Run {
    buffer: Bytes,
    buffer_at: u32,
    from: u32,
    to: u32,
    first: Offset,
    next: Offset,
}

struct Reading {
    at: Offset,
    limit: ReadLimit,
    out: ReadSlices,
    /// The segment whose index was not true of it. If the one made anew is not either, the file is damaged.
    distrusted: Option<Offset>,
}

impl Reading {
    fn room(&self) -> usize {
        self.limit.max_bytes.saturating_sub(self.out.bytes)
    }

    /// Whether a batch of `size` bytes still goes in.
    fn takes(&self, size: usize) -> bool {
        size <= self.room() || (self.limit.at_least_one && self.out.bytes == 0)
    }

    fn push(&mut self, bytes: Bytes, first: Offset, next: Offset) {
        if self.out.slices.is_empty() {
            self.out.first_offset = first;
        }
        self.out.bytes += bytes.len();
        self.out.slices.push(bytes);
        self.out.next_offset = next;
        self.at = next;
    }
}

impl Log {
    /// Whether reading from `from` on begins without the disk, be it because there is nothing to read.
    pub fn has_in_memory(&self, from: Offset) -> bool {
        let state = self.0.state.borrow();
        if from < state.log_start || from >= state.log_end {
            return true;
        }
        let segment = state.segments.get(state.segment_number(from));
        let first = segment.and_then(|s| s.tail.as_ref()).and_then(|t| t.chunks.front());
        first.is_some_and(|chunk| chunk.first_offset <= from)
    }

    /// Reads whole batches from the one that holds `from` on. Empty at the end of what `limit` lets it see.
    ///
    /// `OutOfRange` before the log start or behind the log end. `Corrupt` when bytes that were durable are damaged: the
    /// partition is then fenced.
    pub async fn read(&self, from: Offset, limit: ReadLimit) -> Result<ReadSlices, ReadError> {
        let out = ReadSlices { first_offset: from, next_offset: from, ..Default::default() };
        let mut reading = Reading { at: from, limit, out, distrusted: None };
        loop {
            match self.0.read_step(&mut reading)? {
                Step::Done => return Ok(reading.out),
                Step::Disk(plan) => {
                    let whole = self.0.read_disk(&mut reading, plan).await?;
                    if !whole {
                        return Ok(reading.out);
                    }
                }
            }
        }
    }
}

impl LogInner {
    /// Takes what is in memory; says what has to be awaited to go on.
    fn read_step(self: &Rc<Self>, reading: &mut Reading) -> Result<Step, ReadError> {
        let state = self.state.borrow();
        if let Some(error) = &state.fenced {
            return Err(error.clone().into());
        }
        if reading.at < state.log_start || reading.at > state.log_end {
            return if reading.out.bytes > 0 { Ok(Step::Done) } else { Err(ReadError::OutOfRange) };
        }
        reading.limit.upto = reading.limit.upto.min(state.log_end);
        let mut number = state.segment_number(reading.at);
        while reading.at < reading.limit.upto {
            if reading.room() == 0 && (reading.out.bytes > 0 || !reading.limit.at_least_one) {
                break;
            }
            let Some(segment) = state.segments.get(number) else { break };
            reading.at = reading.at.max(segment.base_offset);
            let chunks = segment.tail.as_ref().map(|t| &t.chunks);
            let in_memory = chunks.map_or(0, |c| c.partition_point(|c| c.first_offset <= reading.at));
            match (in_memory.checked_sub(1), &segment.tail) {
                (Some(chunk), Some(tail)) => {
                    if !self.read_chunks(segment, tail, chunk, reading)? {
                        break;
                    }
                    number += 1;
                }
                _ if reading.out.bytes > 0 => break,
                _ => match self.disk_step(&state, segment, reading.at) {
                    Some(step) => return Ok(step),
                    None => number += 1,
                },
            }
        }
        Ok(Step::Done)
    }

    /// `None` if nothing of the segment's file is at or behind `at`.
    fn disk_step(&self, state: &LogState, segment: &Segment, at: Offset) -> Option<Step> {
        let upto = segment.memory_start();
        let chunk = segment.tail.as_ref().and_then(|t| t.chunks.front());
        let following = state.segments.iter().find(|s| s.base_offset > segment.base_offset);
        let next = chunk.map(|c| c.first_offset).or(following.map(|s| s.base_offset)).unwrap_or(state.log_end);
        (upto > 0 && at < next).then_some(Step::Disk(DiskPlan { segment: segment.base_offset, upto, next }))
    }

    /// Takes batches out of the chunks from number `first` on. True if the segment was read to its end.
    fn read_chunks(
        &self,
        segment: &Segment,
        tail: &Tail,
        first: usize,
        reading: &mut Reading,
    ) -> Result<bool, ReadError> {
        let damaged = |position: u32, error: BatchError| self.corrupt(segment.base_offset, position, error.to_string());
        let index = segment.index.as_deref();
        for chunk in tail.chunks.range(first..) {
            let mut at = chunk.start();
            let near = index.and_then(|i| i.floor_offset(segment.offset_delta(reading.at)));
            if let Some(entry) = near.filter(|e| e.position < chunk.end()) {
                at = at.max(entry.position);
            }
            while at < chunk.end() {
                let header = BatchHeader::parse(chunk.published_from(at)).map_err(|e| damaged(at, e))?;
                let size = header.size() as u32;
                if header.is_internal() || header.last_offset() < reading.at {
                    at += size;
                    continue;
                }
                if header.next_offset() > reading.limit.upto || !reading.takes(size as usize) {
                    return Ok(false);
                }
                let (from, room) = (at, reading.room());
                let mut next = header.next_offset();
                at += size;
                // As far as the index knows that only records lie in between, without looking at them.
                let internal = tail.internal.partition_point(|(position, _)| *position < at);
                let internal = tail.internal.get(internal).map_or(u32::MAX, |(position, _)| *position);
                let end = (from as usize).saturating_add(room).min(chunk.end().min(internal) as usize) as u32;
                let upto = segment.offset_delta(reading.limit.upto);
                if let Some(entry) = index.and_then(|i| i.floor_position(end, upto)).filter(|e| e.position > at) {
                    at = entry.position;
                    next = segment.base_offset + i64::from(entry.offset_delta);
                }
                let mut full = false;
                while at < chunk.end() {
                    let header = BatchHeader::parse(chunk.published_from(at)).map_err(|e| damaged(at, e))?;
                    let size = header.size() as u32;
                    if header.is_internal() {
                        break;
                    }
                    full = header.next_offset() > reading.limit.upto || (at + size - from) as usize > room;
                    if full {
                        break;
                    }
                    at += size;
                    next = header.next_offset();
                }
                reading.push(chunk.bytes(from, at), header.base_offset, next);
                if full {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// Reads one stretch of a segment file. False if the reading is complete.
    async fn read_disk(self: &Rc<Self>, reading: &mut Reading, plan: DiskPlan) -> Result<bool, ReadError> {
        let generation = self.state.borrow().generation;
        // The segment may have been cut, compacted, trimmed off or deleted: then the positions may be of another file.
        let changed = || {
            let state = self.state.borrow();
            state.generation != generation || state.segment_at(plan.segment).is_none() || state.fenced.is_some()
        };
        let seek = Seek::Offset(u32::try_from(reading.at - plan.segment).unwrap_or(u32::MAX));
        let floor = self.seek(plan.segment, seek).await;
        if changed() {
            return Ok(true);
        }
        let Some(floor) = floor? else { return Ok(true) };
        let from = floor.position();
        if from >= plan.upto {
            reading.at = reading.at.max(plan.next);
            return Ok(true);
        }
        let file = self.open_segment(plan.segment, false).await;
        if changed() {
            return Ok(true);
        }
        let file = file?;
        // The batch that is looked for begins before the next entry; behind it, what there is room for, which may be a little less
        // than that: a round size is a buffer with nothing in vain.
        let (room, window) = (reading.room(), floor.window());
        let ahead = if window <= room / 8 { room } else { room + window }.min(DISK_READ_MAX);
        let first = floor.entry.map(|e| plan.segment + i64::from(e.offset_delta));
        let mut scan = self.scan(file, from, plan.upto).expect(first).read_ahead(ahead);
        self.shared.stats.disk_reads.add(1);
        let mut run: Option<Run> = None;
        let mut full = false;
        loop {
            // One wait for the disk is enough for an answer.
            let answered = run.is_some() || reading.out.bytes > 0;
            let batch = match if answered { scan.next_read().await } else { scan.next().await } {
                Ok(Some(batch)) => batch,
                Ok(None) if answered => {
                    full = true;
                    break;
                }
                Ok(None) => break,
                Err(ScanError::Index { .. }) if !changed() && reading.distrusted != Some(plan.segment) => {
                    reading.distrusted = Some(plan.segment);
                    self.drop_index(plan.segment).await?;
                    return Ok(true);
                }
                Err(error) => {
                    if changed() {
                        return Ok(true);
                    }
                    return self.scanned(plan.segment, Err(error)).map_err(ReadError::from);
                }
            };
            if changed() {
                return Ok(true);
            }
            let Some(batch) = self.scanned_batch(plan.segment, Ok(Some(batch)))? else { break };
            let header = &batch.header;
            if header.is_internal() || header.last_offset() < reading.at {
                flush(reading, &mut run);
                continue;
            }
            let size = batch.bytes.len();
            let pending = run.as_ref().map_or(0, |run| (run.to - run.from) as usize);
            let fits = if pending == 0 { reading.takes(size) } else { pending + size <= reading.room() };
            if header.next_offset() > reading.limit.upto || !fits {
                full = true;
                break;
            }
            let (buffer, buffer_at) = scan.buffer();
            let (position, next) = (batch.position, header.next_offset());
            match &mut run {
                Some(run)
                    if run.to == position && run.buffer_at == buffer_at && run.buffer.as_ptr() == buffer.as_ptr() =>
                {
                    run.to += size as u32;
                    run.next = next;
                }
                _ => {
                    flush(reading, &mut run);
                    let (buffer, first) = (buffer.clone(), header.base_offset);
                    run = Some(Run { buffer, buffer_at, from: position, to: position + size as u32, first, next });
                }
            }
            // Enough for one answer: what is not read yet is left for the next.
            if reading.out.bytes + pending + size >= reading.limit.max_bytes {
                full = true;
                break;
            }
        }
        flush(reading, &mut run);
        if !full && reading.out.bytes == 0 {
            reading.at = reading.at.max(plan.next);
            return Ok(true);
        }
        // One wait for the disk is enough for an answer.
        Ok(false)
    }
}

fn flush(reading: &mut Reading, run: &mut Option<Run>) {
    if let Some(run) = run.take() {
        let bytes = run.buffer.slice((run.from - run.buffer_at) as usize..(run.to - run.buffer_at) as usize);
        reading.push(bytes, run.first, run.next);
    }
}
