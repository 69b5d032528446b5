//! Reading the batches of a segment file one after the other.
#![deny(clippy::unwrap_used, clippy::indexing_slicing)]

use std::rc::Rc;

use bytes::Bytes;
use core_pinning::{BLOCK, File};

use crate::chunk::{align_down, align_up};
use crate::error::{Doing, StorageError};
use crate::model::Offset;
use crate::record::internal::{self, SEGMENT_FORMAT_COMPACTED};
use crate::record::{BatchError, BatchHeader, HEADER_BYTES};
use crate::recovery::decision::batch::Batch;
use crate::store::background::{PIECE_BYTES, breathe};
use crate::store::shared::{Counters, Shared};

/// Bytes read at a time.
const READ_BYTES: usize = 256 << 10;

/// Why a scan stops before its end.
#[derive(Debug)]
pub(crate) enum ScanError {
    /// What is at the position is no intact batch.
    Bad {
        position: u32,
        reason: String,
    },
    /// What is at the position is not the batch that an index has sent us to.
    Index {
        position: u32,
        found: Batch,
        reason: String,
    },
    Storage(StorageError),
}

/// A batch as found.
pub(crate) struct FoundBatch {
    pub(crate) position: u32,
    pub(crate) header: BatchHeader,
    pub(crate) bytes: Bytes,
}

/// Walks over `[position, end)` of a file opened for direct reads. Checks the CRC of every batch.
pub(crate) struct FileScan {
    file: File,
    position: u32,
    end: u32,
    read_bytes: usize,
    /// For the first read, where that is another number.
    first_bytes: Option<usize>,
    buffer: Bytes,
    /// Position of the buffer's first byte.
    buffer_at: u32,
    /// What an index says of the first batch.
    expected: Option<Offset>,
    /// Where the last batch ended: the next one begins there, or behind it in a compacted segment. The CRC does not cover a
    /// batch's base offset.
    ended: Option<Offset>,
    /// Compaction has taken offsets out; looked at when they are missed.
    compacted: Option<bool>,
    /// Of the shard, for a scan that nobody waits for.
    background: Option<Rc<Shared>>,
    counters: Rc<Counters>,
}

impl FileScan {
    pub(crate) fn new(file: File, position: u32, end: u32, counters: Rc<Counters>) -> FileScan {
        let (read_bytes, first_bytes, buffer) = (READ_BYTES, None, Bytes::new());
        let (expected, ended, compacted, background) = (None, None, None, None);
        FileScan {
            file,
            position,
            end,
            read_bytes,
            first_bytes,
            buffer,
            buffer_at: 0,
            expected,
            ended,
            compacted,
            background,
            counters,
        }
    }

    /// Ends with [`ScanError::Index`] if the first batch is not an intact one with this base offset.
    pub(crate) fn expect(mut self, first: Option<Offset>) -> FileScan {
        self.expected = first;
        self
    }

    /// Reads at least so much at a time.
    pub(crate) fn read_ahead(mut self, bytes: usize) -> FileScan {
        self.read_bytes = bytes;
        self
    }

    /// Nobody waits for it: it reads in pieces, in its turn.
    pub(crate) fn in_background(mut self, shared: &Rc<Shared>) -> FileScan {
        self.background = Some(shared.clone());
        self.read_ahead(PIECE_BYTES)
    }

    /// Begins with a read of that many bytes at least.
    pub(crate) fn begin_with(mut self, bytes: usize) -> FileScan {
        self.first_bytes = Some(bytes);
        self
    }

    /// What was read last, and the position of its first byte: holds the batch that `next` gave last.
    pub(crate) fn buffer(&self) -> (&Bytes, u32) {
        (&self.buffer, self.buffer_at)
    }

    /// The next batch, if it is read already.
    pub(crate) async fn next_read(&mut self) -> Result<Option<FoundBatch>, ScanError> {
        match BatchHeader::parse(self.available()) {
            Ok(header) if header.size() <= self.available().len() => self.next().await,
            _ => Ok(None),
        }
    }

    /// The next batch; `None` at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<FoundBatch>, ScanError> {
        let Some(expected) = self.expected.take() else { return self.next_batch().await };
        let position = self.position;
        let (found, reason) = match self.next_batch().await {
            Ok(Some(batch)) if batch.header.base_offset == expected => return Ok(Some(batch)),
            Ok(Some(batch)) => (Batch::Unexpected, format!("offset {} where", batch.header.base_offset)),
            Ok(None) => (Batch::Unexpected, "the end where".to_owned()),
            Err(ScanError::Bad { reason, .. }) => (Batch::Bad, format!("{reason}, where")),
            Err(error) => return Err(error),
        };
        let reason = format!("{reason} the index names offset {expected}");
        Err(ScanError::Index { position, found, reason })
    }

    async fn next_batch(&mut self) -> Result<Option<FoundBatch>, ScanError> {
        if self.position >= self.end {
            return Ok(None);
        }
        let position = self.position;
        let bad = |reason: String| ScanError::Bad { position, reason };
        if self.available().len() < HEADER_BYTES.min((self.end - position) as usize) {
            self.fill(HEADER_BYTES).await?;
        }
        let header = BatchHeader::parse(self.available()).map_err(|e| bad(e.to_string()))?;
        let size = header.size();
        if size > (self.end - position) as usize {
            return Err(bad(format!("a batch of {size} bytes where {} are left", self.end - position)));
        }
        if self.available().len() < size {
            self.fill(size).await?;
        }
        let at = (position - self.buffer_at) as usize;
        if self.buffer.len() < at + size {
            return Err(bad(format!("the file ends inside a batch of {size} bytes")));
        }
        let bytes = self.buffer.slice(at..at + size);
        self.verify_crc(&header, &bytes).await.map_err(|e| bad(e.to_string()))?;
        let ended = match self.ended {
            None if position == 0 => internal::parse_segment_header(&bytes).map(|header| header.base_offset),
            ended => ended,
        };
        if let Some(ended) = ended.filter(|ended| header.base_offset != *ended)
            && (header.base_offset < ended || !self.is_compacted().await?)
        {
            return Err(bad(format!("base offset {} behind a batch that ends before {ended}", header.base_offset)));
        }
        self.ended = Some(header.next_offset());
        self.position += size as u32;
        Ok(Some(FoundBatch { position, header, bytes }))
    }

    async fn verify_crc(&self, header: &BatchHeader, batch: &[u8]) -> Result<(), BatchError> {
        if self.background.is_none() {
            return header.verify_crc(batch);
        }
        let mut computed = 0;
        for piece in header.summed(batch)?.chunks(PIECE_BYTES) {
            computed = crc32c::crc32c_append(computed, piece);
            breathe().await;
        }
        header.expect_crc(computed)
    }

    /// Whether batches may be missing between others.
    async fn is_compacted(&mut self) -> Result<bool, ScanError> {
        if let Some(known) = self.compacted {
            return Ok(known);
        }
        let read = self.file.read_at(0, BLOCK).await.doing("read", self.file.path()).map_err(ScanError::Storage)?;
        self.counters.data.add(read.len());
        let header = BatchHeader::split(&read).ok().filter(|(header, batch)| header.verify_crc(batch).is_ok());
        let header = header.and_then(|(_, batch)| internal::parse_segment_header(batch));
        let compacted = header.is_some_and(|header| header.format == SEGMENT_FORMAT_COMPACTED);
        self.compacted = Some(compacted);
        Ok(compacted)
    }

    fn available(&self) -> &[u8] {
        let upto = self.buffer.len().min((self.end.saturating_sub(self.buffer_at)) as usize);
        self.buffer.get((self.position - self.buffer_at) as usize..upto).unwrap_or_default()
    }

    /// Reads from the next batch on, `need` bytes of it at least.
    async fn fill(&mut self, need: usize) -> Result<(), ScanError> {
        let from = align_down(self.position);
        let before = (self.position - from) as usize;
        let wanted = (before + need).max(self.first_bytes.take().unwrap_or(self.read_bytes));
        let upto = align_up(self.end.min(from.saturating_add(wanted as u32)));
        let (at, len) = (u64::from(from), (upto - from) as usize);
        let read = match &self.background {
            Some(shared) => shared.read_in_pieces(&self.file, at, len).await,
            None => self.file.read_at(at, len).await,
        };
        let read = read.doing("read", self.file.path()).map_err(ScanError::Storage)?;
        self.counters.data.add(read.len());
        self.buffer = read.freeze();
        self.buffer_at = from;
        Ok(())
    }
}
