//! The metadata log: a partition like any other, on shard 0, and snapshots that let it be short.
//!
//! A snapshot is a file `<end offset>-<term>.checkpoint` beside the segments (Kafka's name for it): record batches with
//! the records that make the image as of that offset, between Kafka's header and footer (KIP-630). It is written under
//! another name and renamed, so a snapshot that has its name was whole; its footer tells that it still is. The log below
//! the newest snapshot is deleted.

use std::cell::Cell;
use std::iter;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use bytes::Bytes;
use core_pinning::disk::{File, OpenOptions, fs};
use core_pinning::time::wall_ms;
use corelane_raft::{Group, first_state};
use corelane_storage::model::{Offset, PartitionKey, TopicId};
use corelane_storage::record::{BatchBuilder, Batches, BuildError, Codec, RecordIter, snapshot_batches};
use corelane_storage::{Log, LogConfig, PartitionSpec, ReadError, ReadLimit, StorageError};

use super::image::{ClusterImage, METADATA_TOPIC, METADATA_TOPIC_ID};
use super::quorum::MetadataLogState;
use super::records::MetadataRecord;
use crate::shard::Shard;

const SNAPSHOT_SUFFIX: &str = ".checkpoint";
const READ_SIZE: usize = 1 << 20;
/// A snapshot that was not finished.
const UNFINISHED_SUFFIX: &str = ".part";
/// A segment holds this part of the log between two snapshots: only whole segments are deleted.
const SEGMENTS_PER_SNAPSHOT: u64 = 4;
/// A batch of metadata decompresses to no more than this.
const BATCH_MAX: usize = 128 << 20;
/// Records a batch of a snapshot holds at most.
const SNAPSHOT_BATCH: usize = 1000;

#[derive(Debug, thiserror::Error)]
pub enum MetadataError {
    #[error("the metadata log: {0}")]
    Storage(#[from] StorageError),
    #[error("the metadata log: {0}")]
    Read(#[from] ReadError),
    #[error("the metadata snapshot {path}: {source}")]
    Snapshot { path: PathBuf, source: std::io::Error },
    #[error("the metadata log at offset {offset} is damaged: {reason}")]
    Damaged { offset: i64, reason: String },
    #[error("the metadata log: {0}")]
    Open(#[from] corelane_raft::OpenError),
    #[error("metadata does not fit a batch: {0}")]
    Build(#[from] BuildError),
    #[error("the metadata log could not be written: {0}")]
    Write(#[from] corelane_raft::ProposeError),
}

impl MetadataError {
    /// Bytes that were there are not what they were, or are gone.
    pub fn is_damage(&self) -> bool {
        match self {
            MetadataError::Damaged { .. } => true,
            MetadataError::Storage(error) | MetadataError::Read(ReadError::Storage(error)) => {
                matches!(error, StorageError::Corrupt { .. })
            }
            _ => false,
        }
    }

    fn damaged(offset: i64, reason: impl ToString) -> MetadataError {
        MetadataError::Damaged { offset, reason: reason.to_string() }
    }
}

pub struct MetadataLog {
    log: Log,
    group: Group,
    dir: PathBuf,
    next_offset: Cell<Offset>,
    /// When the last change was written, ms.
    changed_ms: Cell<i64>,
    /// Bytes of log since the last snapshot.
    since_snapshot: Cell<u64>,
    /// Bytes of log that call for a snapshot (metadata.log.max.record.bytes.between.snapshots).
    snapshot_after: u64,
}

impl MetadataLog {
    pub(super) async fn open(shard: &Rc<Shard>) -> Result<(MetadataLog, ClusterImage, Vec<TopicId>), MetadataError> {
        let snapshot_after = shard.config.broker().metadata_snapshot_bytes.max(1) as u64;
        let segment_bytes = (snapshot_after / SEGMENTS_PER_SNAPSHOT).min(1 << 30) as u32;
        let spec = PartitionSpec {
            topic: METADATA_TOPIC.into(),
            key: PartitionKey { topic: METADATA_TOPIC_ID, partition: 0 },
            // Topics can be deleted when the disk is full.
            config: LogConfig { essential: true, segment_bytes, ..LogConfig::default() },
        };
        let log = shard.store.load_or_create(spec, first_state(shard.node.raft_id())).await?;
        let dir = log.dir().to_owned();
        let (mut image, mut offset) = newest_snapshot(&dir).await?;
        let mut deleted = Vec::new();
        let (start, end) = (log.bounds().log_start, log.bounds().log_end);
        must_meet(offset, start, end)?;
        let mut since_snapshot = 0;
        while offset < end {
            let read = log.read(offset, ReadLimit { max_bytes: READ_SIZE, at_least_one: true, upto: end }).await?;
            since_snapshot += read.bytes as u64;
            for slice in read.slices {
                offset = apply_batches(&mut image, slice, offset, &mut deleted)?;
            }
        }
        image.set_offset(end);
        let group = shard.groups.open(log.clone())?;
        let (since_snapshot, next_offset) = (Cell::new(since_snapshot), Cell::new(end));
        let changed_ms = Cell::default();
        Ok((MetadataLog { log, group, dir, next_offset, changed_ms, since_snapshot, snapshot_after }, image, deleted))
    }

    pub(super) fn end(&self) -> Offset {
        self.next_offset.get()
    }

    pub(super) fn state(&self) -> MetadataLogState {
        let bounds = self.log.bounds();
        MetadataLogState {
            term: self.group.leadership().term,
            high_watermark: bounds.high_watermark,
            end: bounds.log_end,
        }
    }

    /// Durable when it returns.
    pub(super) async fn append(&self, records: &[MetadataRecord]) -> Result<(), MetadataError> {
        let base = self.next_offset.get();
        let now = wall_ms();
        let batch = batch_of(records, now).build_at(base, self.group.leadership().term)?;
        let size = batch.len() as u64;
        let last = base + (records.len() as i64 - 1);
        let proposal = self.group.propose(batch, base, last)?;
        self.next_offset.set(last.next());
        if let Err(error) = proposal.applied().await {
            // A full disk, for one: the next change begins where the log really ends.
            self.next_offset.set(self.log.bounds().log_end);
            return Err(error.into());
        }
        self.since_snapshot.set(self.since_snapshot.get() + size);
        self.changed_ms.set(now);
        Ok(())
    }

    /// Writes a snapshot of `image`, which is the log's end, where enough has been written since the last one.
    pub(super) async fn maybe_snapshot(&self, image: &ClusterImage) {
        if self.since_snapshot.get() < self.snapshot_after {
            return;
        }
        let end = self.log.bounds().log_end;
        match self.snapshot(image, end).await {
            Ok(()) => self.since_snapshot.set(0),
            // The log still holds everything; the next change tries again.
            Err(error) => tracing::warn!(%error, "metadata snapshot failed"),
        }
    }

    async fn snapshot(&self, image: &ClusterImage, end: Offset) -> Result<(), MetadataError> {
        let term = self.group.leadership().term;
        let name = format!("{:020}-{:010}{SNAPSHOT_SUFFIX}", end.0, term.0);
        let path = self.dir.join(&name);
        let failed = |source| MetadataError::Snapshot { path: path.clone(), source };
        let records = image.to_records();
        let now = wall_ms();
        let (mut header, mut footer) = (BatchBuilder::new(Codec::None), BatchBuilder::new(Codec::None));
        header.push_snapshot_header(now, self.changed_ms.get());
        footer.push_snapshot_footer(now);
        let contents = records.chunks(SNAPSHOT_BATCH).map(|chunk| batch_of(chunk, now));
        let (mut bytes, mut next) = (Vec::new(), Offset::ZERO);
        for batch in iter::once(header).chain(contents).chain([footer]) {
            let base = next;
            next = base + batch.len() as i64;
            bytes.extend_from_slice(&batch.build_at(base, term)?);
        }
        let unfinished = self.dir.join(format!("{name}{UNFINISHED_SUFFIX}"));
        let options = OpenOptions { write: true, create: true, truncate: true, ..Default::default() };
        let file = File::open(&unfinished, options).await.map_err(failed)?;
        file.write_at(0, bytes).await.map_err(failed)?;
        file.sync_all().await.map_err(failed)?;
        fs::rename(&unfinished, &path).await.map_err(failed)?;
        fs::sync_dir(&self.dir).await.map_err(failed)?;
        self.log.trim(end).await?;
        let old = snapshots(&self.dir).await?.into_iter().map(|(old, _)| old).filter(|old| *old != path);
        for gone in old.chain(unfinished_snapshots(&self.dir).await?) {
            fs::remove_file(&gone).await.map_err(failed)?;
        }
        tracing::info!(records = records.len(), %end, "metadata snapshot written");
        Ok(())
    }
}

/// What was before a log that begins at `start` is in its snapshot, which ends at `offset`: 0 if there is none.
fn must_meet(offset: Offset, start: Offset, end: Offset) -> Result<(), MetadataError> {
    if offset < start {
        let reason = format!("the log begins at {start}, and the snapshot with what was before is gone, or an old one");
        return Err(MetadataError::damaged(offset.0, reason));
    }
    if offset > end {
        return Err(MetadataError::damaged(offset.0, format!("its snapshot ends there, the log at {end}")));
    }
    Ok(())
}

fn batch_of(records: &[MetadataRecord], now: i64) -> BatchBuilder {
    let mut batch = BatchBuilder::new(Codec::None);
    records.iter().for_each(|r| batch.push(now, None, Some(&r.encode())));
    batch
}

/// Applies whole batches; returns the offset after them. `deleted` gets the topics they delete.
fn apply_batches(
    image: &mut ClusterImage,
    bytes: Bytes,
    mut offset: Offset,
    deleted: &mut Vec<TopicId>,
) -> Result<Offset, MetadataError> {
    for batch in Batches::new(bytes) {
        let at = offset.0;
        let (header, batch) = batch.map_err(|e| MetadataError::damaged(at, e))?;
        header.verify_crc(&batch).map_err(|e| MetadataError::damaged(at, e))?;
        apply_batch(image, &batch, deleted).map_err(|reason| MetadataError::damaged(at, reason))?;
        offset = header.next_offset();
    }
    Ok(offset)
}

fn apply_batch(image: &mut ClusterImage, batch: &Bytes, deleted: &mut Vec<TopicId>) -> Result<(), String> {
    for record in RecordIter::new(batch, BATCH_MAX).map_err(|e| e.to_string())? {
        let value = record.map_err(|e| e.to_string())?.value.ok_or("a record without a value")?;
        let record = MetadataRecord::decode(value).map_err(|e| e.to_string())?;
        image.apply(&record).map_err(|e| e.to_string())?;
        if let MetadataRecord::RemoveTopic { id } = record {
            deleted.push(id);
        }
    }
    Ok(())
}

/// The files in `dir` that are snapshots, and the offset each one ends at.
async fn snapshots(dir: &Path) -> Result<Vec<(PathBuf, Offset)>, MetadataError> {
    let end = |name: &str| name.strip_suffix(SNAPSHOT_SUFFIX)?.split('-').next()?.parse().ok().map(Offset);
    Ok(names(dir).await?.into_iter().filter_map(|name| Some((dir.join(&name), end(&name)?))).collect())
}

/// What a process left that ended while it wrote one.
async fn unfinished_snapshots(dir: &Path) -> Result<Vec<PathBuf>, MetadataError> {
    let names = names(dir).await?.into_iter().filter(|name| name.ends_with(UNFINISHED_SUFFIX));
    Ok(names.map(|name| dir.join(name)).collect())
}

async fn names(dir: &Path) -> Result<Vec<String>, MetadataError> {
    let entries = fs::read_dir(dir).await;
    let entries = entries.map_err(|source| MetadataError::Snapshot { path: dir.to_owned(), source })?;
    Ok(entries.into_iter().filter_map(|entry| entry.name.into_string().ok()).collect())
}

async fn newest_snapshot(dir: &Path) -> Result<(ClusterImage, Offset), MetadataError> {
    let Some((path, end)) = snapshots(dir).await?.into_iter().max_by_key(|(_, end)| *end) else {
        return Ok((ClusterImage::default(), Offset(0)));
    };
    let failed = |source| MetadataError::Snapshot { path: path.clone(), source };
    let file = File::open(&path, OpenOptions { read: true, ..Default::default() }).await.map_err(failed)?;
    let length = file.len().await.map_err(failed)?;
    let bytes = file.read_at(0, length as usize).await.map_err(failed)?.freeze();
    let damaged = |reason: String| MetadataError::damaged(end.0, format!("the snapshot {}: {reason}", path.display()));
    let mut image = ClusterImage::default();
    for (_, batch) in snapshot_batches(bytes).map_err(|damage| damaged(damage.to_string()))? {
        apply_batch(&mut image, &batch, &mut Vec::new()).map_err(damaged)?;
    }
    Ok((image, end))
}
