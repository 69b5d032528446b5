//! Walking over a log's batches, wherever they are.

use std::rc::Rc;

use bytes::Bytes;

use super::LogInner;
use super::seek::{Floor, Seek};
use crate::error::StorageError;
use crate::model::Offset;
use crate::record::BatchHeader;
use crate::recovery::decision::batch::{self, Batch, Decision, Index};
use crate::segment::scan::{FileScan, ScanError};

/// One batch of the log.
pub(super) struct CursorBatch {
    pub(super) segment: Offset,
    pub(super) position: u32,
    pub(super) header: BatchHeader,
    pub(super) bytes: Bytes,
}

/// Gives one batch after the other, segment headers included. What comes from the disk is checked.
pub(super) struct Cursor {
    log: Rc<LogInner>,
    segment: Offset,
    position: u32,
    /// Stops at this place.
    upto: (Offset, u32),
    scan: Option<FileScan>,
    memory: Bytes,
    /// Base offset of the first batch, where an index names it.
    first: Option<Offset>,
    /// Bytes to read first, and from then on, where that is not left to the scan.
    read_bytes: (Option<usize>, Option<usize>),
    peeked: Option<CursorBatch>,
    /// Of the log when its places were looked up.
    generation: u64,
}

/// Why there is no next batch.
enum Stop {
    Index(ScanError),
    Storage(StorageError),
}

impl From<StorageError> for Stop {
    fn from(error: StorageError) -> Stop {
        Stop::Storage(error)
    }
}

enum Where {
    Memory(Bytes),
    /// In the file up to this position.
    Disk(u32),
    NextSegment(Offset),
    End,
}

impl Cursor {
    pub(super) fn new(log: Rc<LogInner>, from: (Offset, u32), upto: (Offset, u32)) -> Cursor {
        let (segment, position) = from;
        let generation = log.state.borrow().generation;
        Cursor {
            log,
            segment,
            position,
            upto,
            scan: None,
            memory: Bytes::new(),
            first: None,
            read_bytes: (None, None),
            peeked: None,
            generation,
        }
    }

    /// For the batch at a place only: reads its first block, then what is missing of it.
    pub(super) fn one_batch(log: Rc<LogInner>, from: (Offset, u32)) -> Cursor {
        let mut cursor = Cursor::new(log, from, (from.0, from.1 + 1));
        cursor.read_bytes = (None, Some(core_pinning::BLOCK));
        cursor
    }

    /// From where the index says that `seek` is reached, up to `upto`; `None` if the segment is gone. To begin
    /// with it reads up to the next entry and `ahead` bytes.
    pub(super) async fn seek(
        log: &Rc<LogInner>,
        base: Offset,
        seek: Seek,
        upto: (Offset, u32),
        ahead: usize,
    ) -> Result<Option<(Cursor, Floor)>, StorageError> {
        let mut distrusted = None;
        loop {
            let generation = log.state.borrow().generation;
            let Some(floor) = log.seek(base, seek).await? else { return Ok(None) };
            let mut cursor = Cursor::new(log.clone(), (base, floor.position()), upto);
            cursor.generation = generation;
            cursor.first = floor.entry.map(|e| base + i64::from(e.offset_delta));
            cursor.read_bytes = (Some(floor.window() + ahead), None);
            match cursor.step_on().await {
                Ok(batch) => cursor.peeked = batch,
                Err(Stop::Index(error)) => {
                    let again = distrusted == Some(generation) && log.same_generation(generation).is_ok();
                    let index = if again { Index::MadeAgain } else { Index::AsFound };
                    if batch::decide(Batch::Unexpected, index).then == Decision::Fence {
                        return log.scanned(base, Err(error));
                    }
                    distrusted = Some(generation);
                    log.drop_index(base).await?;
                    continue;
                }
                Err(Stop::Storage(error)) => return Err(error),
            }
            return Ok(Some((cursor, floor)));
        }
    }

    fn find(&self) -> Where {
        let state = self.log.state.borrow();
        let number = state.segments.partition_point(|s| s.base_offset < self.segment);
        let Some(segment) = state.segments.get(number) else { return Where::End };
        if segment.base_offset != self.segment || self.position >= segment.size {
            let next = if segment.base_offset == self.segment { number + 1 } else { number };
            return state.segments.get(next).map_or(Where::End, |s| Where::NextSegment(s.base_offset));
        }
        if self.position < segment.memory_start() {
            return Where::Disk(segment.memory_start());
        }
        let chunks = segment.tail.as_ref().map(|t| &t.chunks);
        let chunk = chunks.and_then(|c| c.get(c.partition_point(|c| c.end() <= self.position)));
        match chunk {
            Some(chunk) => Where::Memory(chunk.bytes(self.position, chunk.end())),
            None => Where::End,
        }
    }

    /// The next batch; `None` at the end. `Corrupt` fences the log. An error if places moved since the walk began, as they do
    /// when the log is cut or compacted: `LogInner::unchanged` has the walk begin again.
    pub(super) async fn next(&mut self) -> Result<Option<CursorBatch>, StorageError> {
        if let Some(batch) = self.peeked.take() {
            return Ok(Some(batch));
        }
        match self.step_on().await {
            Ok(batch) => Ok(batch),
            Err(Stop::Storage(error)) => Err(error),
            Err(Stop::Index(_)) => {
                unreachable!("only the first batch, which `seek` looks at, is compared with the index")
            }
        }
    }

    async fn step_on(&mut self) -> Result<Option<CursorBatch>, Stop> {
        loop {
            if (self.segment, self.position) >= self.upto {
                return Ok(None);
            }
            if !self.memory.is_empty() {
                let header = match BatchHeader::split(&self.memory) {
                    Ok((header, _)) => header,
                    Err(error) => return Err(self.log.corrupt(self.segment, self.position, error.to_string()).into()),
                };
                let bytes = self.memory.split_to(header.size());
                return Ok(Some(self.step(header, bytes)));
            }
            if let Some(scan) = &mut self.scan {
                let found = match scan.next().await {
                    Err(error @ ScanError::Index { .. }) => return Err(Stop::Index(error)),
                    other => {
                        // Written anew under our eyes, it is not damaged.
                        self.log.same_generation(self.generation)?;
                        self.log.scanned_batch(self.segment, other)?
                    }
                };
                if let Some(batch) = found {
                    return Ok(Some(self.step(batch.header, batch.bytes)));
                }
                self.scan = None;
            }
            self.log.same_generation(self.generation)?;
            match self.find() {
                Where::End => return Ok(None),
                Where::NextSegment(base) => (self.segment, self.position) = (base, 0),
                Where::Memory(bytes) => self.memory = bytes,
                Where::Disk(upto) => {
                    let file = self.log.open_segment(self.segment, false).await?;
                    self.log.same_generation(self.generation)?;
                    let mut scan = self.log.scan(file, self.position, upto).expect(self.first.take());
                    let (first, each) = std::mem::take(&mut self.read_bytes);
                    if let Some(bytes) = first {
                        scan = scan.begin_with(bytes);
                    }
                    if let Some(bytes) = each {
                        scan = scan.read_ahead(bytes);
                    }
                    self.scan = Some(scan);
                }
            }
        }
    }

    fn step(&mut self, header: BatchHeader, bytes: Bytes) -> CursorBatch {
        let batch = CursorBatch { segment: self.segment, position: self.position, header, bytes };
        self.position += batch.bytes.len() as u32;
        batch
    }
}
