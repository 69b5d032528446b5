//! The second reading of a pass: the batches of some segments, through the filter, into one file.
#![deny(clippy::unwrap_used, clippy::indexing_slicing)]

use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::map::HashSet;
use bytes::Bytes;
use core_pinning::disk::fs;
use core_pinning::{AlignedBuf, BLOCK, File, OpenOptions};

use super::Cleaner;
use super::filter::{Fate, Filter};
use super::plan::Source;
use crate::error::{Doing, StorageError};
use crate::layout;
use crate::log::LogInner;
use crate::model::Offset;
use crate::record::internal::{self, SEGMENT_FORMAT_COMPACTED, SegmentHeader};
use crate::record::{BatchHeader, RecordsError, TransactionMarker};
use crate::recovery::decision::batch::Batch;
use crate::segment::index::{IndexEntry, SparseIndex};
use crate::segment::index_file::{Covers, Fingerprint, IndexFile};
use crate::segment::{SegmentStart, Times};
use crate::store::background::{PIECE_BYTES, breathe};

/// A segment written and synced, not yet in its place.
pub(super) struct NewSegment {
    pub(super) path: PathBuf,
    pub(super) size: u32,
    pub(super) start: SegmentStart,
    pub(super) index: IndexFile,
    /// Markers of aborted transactions that are left.
    pub(super) aborts: HashSet<Offset>,
}

/// Writes what is left of the segments into `<base>.cleaned`.
pub(super) async fn rewrite(
    cleaner: &mut Cleaner,
    log: &Rc<LogInner>,
    group: &[Source],
    filter: &mut Filter<'_>,
) -> Result<NewSegment, StorageError> {
    let (Some(first), Some(last)) = (group.first(), group.last()) else {
        return Err(StorageError::refused("nothing to compact"));
    };
    let path = log.dir.join(layout::cleaned_name(first.base));
    let written = write(cleaner, log, group, filter, &path, last.end).await;
    if written.is_err() {
        // The next start removes it, if this does not work.
        let _ = fs::remove_file(&path).await;
    }
    written
}

async fn write(
    cleaner: &mut Cleaner,
    log: &Rc<LogInner>,
    group: &[Source],
    filter: &mut Filter<'_>,
    path: &Path,
    end: Offset,
) -> Result<NewSegment, StorageError> {
    let mut output: Option<Output> = None;
    for source in group {
        let file = log.open_segment(source.base, false).await?;
        let mut scan = log.scan(file, 0, source.size).in_background(&log.shared);
        while let Some(batch) = log.scanned_batch(source.base, scan.next().await)? {
            let header = &batch.header;
            cleaner.account(log, batch.bytes.len()).await?;
            breathe().await;
            let out = match &mut output {
                Some(out) => out,
                None => {
                    let header = internal::parse_segment_header(&batch.bytes);
                    let header = header.filter(|h| h.key == log.key && h.base_offset == source.base);
                    let bad = || log.damaged(Batch::Foreign, source.base, 0, "not the segment's header");
                    output.insert(Output::begin(log, path, header.ok_or_else(bad)?).await?)
                }
            };
            if header.is_internal() {
                continue;
            }
            let producers = |h: &BatchHeader| {
                let table = log.producers.borrow();
                table.get(h.producer_id).is_some_and(|p| match p.last_offset {
                    Some(offset) => offset == h.last_offset(),
                    None => h.is_control() && p.epoch == h.producer_epoch,
                })
            };
            let last_of_producer = header.has_producer() && producers(header);
            let fate = pass(filter, header, &batch.bytes, last_of_producer).await;
            let fate = fate.map_err(|e| log.damaged(Batch::Bad, source.base, batch.position, e))?;
            match fate {
                Fate::Gone => {}
                Fate::AsItIs => out.add(cleaner, log, header, &batch.bytes).await?,
                Fate::Changed(bytes) => match BatchHeader::parse(&bytes) {
                    Ok(header) => out.add(cleaner, log, &header, &bytes).await?,
                    Err(error) => unreachable!("a batch of our own: {error}"),
                },
            }
        }
    }
    match output {
        Some(output) => output.finish(cleaner, log, end).await,
        None => Err(StorageError::refused("a segment without its header")),
    }
}

/// What is left of a batch.
async fn pass(
    filter: &mut Filter<'_>,
    header: &BatchHeader,
    batch: &Bytes,
    last_of_producer: bool,
) -> Result<Fate, RecordsError> {
    let mut passing = filter.begin(header, batch, last_of_producer)?;
    loop {
        if let Some(fate) = filter.step(&mut passing)? {
            return Ok(fate);
        }
        breathe().await;
    }
}

/// The file being written.
struct Output {
    file: File,
    path: PathBuf,
    /// Not written yet; begins at the start of a block.
    piece: AlignedBuf,
    piece_at: u32,
    base: Offset,
    start: SegmentStart,
    interval: u32,
    index: SparseIndex,
    times: Times,
    ordinal: u32,
    last_batch: Fingerprint,
    aborts: HashSet<Offset>,
}

impl Output {
    async fn begin(log: &LogInner, path: &Path, header: SegmentHeader) -> Result<Output, StorageError> {
        let options = OpenOptions::read_write().create(true).truncate(true).direct(true);
        let file = File::open(path, options).await.doing("create", path)?;
        let header = SegmentHeader { format: SEGMENT_FORMAT_COMPACTED, ..header };
        let batch = internal::segment_header(&header);
        let crc = BatchHeader::parse(&batch).map_or(0, |h| h.crc);
        let leader_epoch = header.term.leader_epoch();
        let mut piece = AlignedBuf::new(PIECE_BYTES);
        piece.extend_from_slice(&batch);
        Ok(Output {
            file,
            path: path.to_owned(),
            piece,
            piece_at: 0,
            base: header.base_offset,
            start: SegmentStart::from(&header),
            interval: log.state.borrow().config.index_interval_bytes,
            index: SparseIndex::new(0),
            times: Times::NONE,
            ordinal: 0,
            last_batch: Fingerprint { position: 0, base_offset: header.base_offset, leader_epoch, crc },
            aborts: HashSet::default(),
        })
    }

    fn size(&self) -> u32 {
        self.piece_at + self.piece.len() as u32
    }

    async fn add(
        &mut self,
        cleaner: &mut Cleaner,
        log: &LogInner,
        header: &BatchHeader,
        batch: &[u8],
    ) -> Result<(), StorageError> {
        let (position, base_offset) = (self.size(), header.base_offset);
        let offset_delta = u32::try_from(base_offset - self.base).unwrap_or(u32::MAX);
        let max_timestamp = self.times.max_timestamp;
        let entry = IndexEntry { offset_delta, position, ordinal: self.ordinal, max_timestamp };
        self.index.add(self.interval, entry);
        if header.count > 0 {
            self.times.see(header.max_timestamp, position);
        }
        if TransactionMarker::of(header, batch) == Some(TransactionMarker::Abort) {
            self.aborts.insert(base_offset);
        }
        self.ordinal += 1;
        self.last_batch = Fingerprint { position, base_offset, leader_epoch: header.leader_epoch, crc: header.crc };
        let mut rest = batch;
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rest.len().min(PIECE_BYTES - self.piece.len()));
            self.piece.extend_from_slice(now);
            rest = later;
            if self.piece.len() == PIECE_BYTES {
                self.write_piece(cleaner, log).await?;
            }
        }
        Ok(())
    }

    async fn write_piece(&mut self, cleaner: &mut Cleaner, log: &LogInner) -> Result<(), StorageError> {
        let len = self.piece.len();
        let piece = std::mem::replace(&mut self.piece, AlignedBuf::new(PIECE_BYTES));
        let turn = log.shared.piece_turn().await;
        self.file.write_at(self.piece_at.into(), piece).await.doing("write", &self.path)?;
        drop(turn);
        self.piece_at += len as u32;
        cleaner.account(log, len).await
    }

    async fn finish(mut self, cleaner: &mut Cleaner, log: &LogInner, end: Offset) -> Result<NewSegment, StorageError> {
        let size = self.size();
        let padding = self.piece.len().next_multiple_of(BLOCK) - self.piece.len();
        self.piece.extend_zeroes(padding);
        if !self.piece.is_empty() {
            self.write_piece(cleaner, log).await?;
        }
        self.file.set_len(size.into()).await.doing("cut", &self.path)?;
        self.file.sync_all().await.doing("sync", &self.path)?;
        let covers = Covers {
            key: log.key,
            base_offset: self.base,
            covered: size,
            ordinals: self.ordinal,
            next_offset: end,
            times: self.times,
            last_batch: self.last_batch,
        };
        let index = IndexFile { covers, index: self.index.ended(self.interval, size) };
        Ok(NewSegment { path: self.path, size, start: self.start, index, aborts: self.aborts })
    }
}
