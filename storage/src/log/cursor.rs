//! Walking over a log's batches, wherever they are.

use std::rc::Rc;

use bytes::Bytes;

use super::LogInner;
use crate::error::StorageError;
use crate::model::Offset;
use crate::record::BatchHeader;
use crate::segment::scan::FileScan;

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
        Cursor { log, segment: from.0, position: from.1, upto, scan: None, memory: Bytes::new() }
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

    /// The next batch; `None` at the end. `Corrupt` fences the log.
    pub(super) async fn next(&mut self) -> Result<Option<CursorBatch>, StorageError> {
        loop {
            if (self.segment, self.position) >= self.upto {
                return Ok(None);
            }
            if !self.memory.is_empty() {
                let header = match BatchHeader::split(&self.memory) {
                    Ok((header, _)) => header,
                    Err(error) => return Err(self.log.corrupt(self.segment, self.position, error.to_string())),
                };
                let bytes = self.memory.split_to(header.size());
                return Ok(Some(self.step(header, bytes)));
            }
            if let Some(scan) = &mut self.scan {
                if let Some(batch) = self.log.scanned(self.segment, scan.next().await)? {
                    return Ok(Some(self.step(batch.header, batch.bytes)));
                }
                self.scan = None;
            }
            match self.find() {
                Where::End => return Ok(None),
                Where::NextSegment(base) => (self.segment, self.position) = (base, 0),
                Where::Memory(bytes) => self.memory = bytes,
                Where::Disk(upto) => {
                    let file = self.log.open_segment(self.segment, false).await?;
                    self.scan = Some(FileScan::new(file, self.position, upto));
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
