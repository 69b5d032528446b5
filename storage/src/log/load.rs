//! Opening a log, and making one. What opening does with what it finds: `recovery::decision::log`.

use std::collections::VecDeque;
use std::path::Path;
use std::rc::Rc;

use core_pinning::disk::fs;
use core_pinning::time;

use super::aborted::AbortedFiles;
use super::cursor::{Cursor, CursorBatch};
use super::entries::{entry_header, entry_kind};
use super::state::{PartitionState, Producers};
use super::{LogInner, LogState};
use crate::compaction;
use crate::entry::{EntryKind, FirstState, LogEntry, PartitionSpec};
use crate::epoch_cache::EpochCache;
use crate::error::{Doing, StorageError};
use crate::layout::{self, DELETED_SUFFIX, UNFINISHED_SUFFIX};
use crate::model::{LogId, Offset, RaftIndex};
use crate::point::Point;
use crate::producer_state::ProducerTable;
use crate::record::internal;
use crate::recovery::decision::leftover::{self, File};
use crate::recovery::decision::log::{self as table, Batches, Decision, Segments, State};
use crate::sealed::SealError;
use crate::segment::index::{IndexEntry, SparseIndex};
use crate::segment::{Segment, SegmentStart, Times};
use crate::store::shared::Shared;
use crate::term_starts::TermStarts;

use bytes::Bytes;

/// Decodes a partition's state, which names the file in its errors.
pub(crate) fn decode_state(
    spec_key: crate::model::PartitionKey,
    path: &Path,
    bytes: &[u8],
) -> Result<PartitionState, StorageError> {
    match PartitionState::decode(bytes) {
        Ok(state) if state.key == spec_key => Ok(state),
        Err(SealError::Version { found, known }) => {
            Err(StorageError::Version { path: path.to_string_lossy().into(), found, known })
        }
        other => {
            let what = other.err().map_or("of another partition".into(), |e| e.to_string());
            let why = table::decide(State::Damaged, Segments::Stated, Batches::Unread).why;
            Err(StorageError::Corrupt {
                partition: spec_key,
                segment: Offset::ZERO,
                position: 0,
                reason: format!("{}: {what}: {why}", path.display()).into(),
            })
        }
    }
}

impl LogInner {
    /// A new log with its first entry. Its directory is there and empty.
    pub(crate) fn create(
        shared: Rc<Shared>,
        spec: PartitionSpec,
        dir: &Path,
        first: FirstState,
    ) -> Result<Rc<LogInner>, StorageError> {
        let origin = Point { segment: Offset::ZERO, position: 0, next_offset: Offset::ZERO, next_index: RaftIndex(0) };
        let start = SegmentStart { base_index: RaftIndex(0), previous: None, created_ms: time::wall_ms() };
        let mut segment = Segment::begin(Offset::ZERO, start);
        segment.has_file = false;
        let state = LogState {
            segments: VecDeque::from([segment]),
            vote: Some(first.vote),
            dir_unsynced: true,
            ..LogState::at(spec.config, origin)
        };
        let log = LogInner::new(spec.key, spec.topic, dir.to_owned(), shared, state, ProducerTable::new(), false);
        {
            let state = &mut *log.state.borrow_mut();
            let (ledger, key) = (log.shared.ledger.clone(), log.key);
            let durable = Box::new(move |result: Result<(), StorageError>| {
                if result.is_ok() {
                    ledger.add(key);
                }
            });
            log.journal_state(state, Some(durable));
            state.segments.clear();
            log.begin_segment(state, start, first.vote.term);
        }
        let id = LogId::new(first.vote.term, RaftIndex(0));
        let entry = LogEntry { id, kind: EntryKind::Membership, bytes: first.membership };
        super::Log(log.clone()).append([entry], |_| {})?;
        Ok(log)
    }

    /// Opens the log in `dir`.
    pub(crate) async fn load(
        shared: Rc<Shared>,
        spec: PartitionSpec,
        dir: &Path,
        unclean: bool,
    ) -> Result<Rc<LogInner>, StorageError> {
        let path = dir.join(layout::STATE_FILE);
        let Some(bytes) = crate::durable::read(&path).await? else { return Err(StorageError::NotFound(spec.key)) };
        let mut stored = decode_state(spec.key, &path, &bytes)?;
        let (segments, found, aborted) = find_segments(&spec, dir, &stored).await?;
        let first = segments.front().map_or(Offset::ZERO, |s| s.base_offset);
        begin_at(&mut stored, first);
        let (table, table_at) = load_producers(&stored, dir, &segments).await?;
        let state = LogState {
            log_start: stored.log_start,
            // Until the walk is over: bounds that hold for the walk itself.
            log_end: stored.end.next_offset,
            next_index: stored.end.next_index,
            last: stored.last,
            purged: stored.purged,
            applied: stored.applied,
            applied_id: stored.applied_id,
            memberships: stored.memberships.clone(),
            vote: stored.vote,
            epochs: stored.epochs.clone(),
            terms: stored.terms.clone(),
            aborted,
            producer_snapshot: match stored.producers {
                Producers::Snapshot(point) => Some(point),
                _ => None,
            },
            synced: stored.durable,
            state_file_current: stored.clean,
            segments,
            ..LogState::at(spec.config, stored.end)
        };
        let unclean = unclean || !stored.clean;
        let log = LogInner::new(spec.key, spec.topic, dir.to_owned(), shared, state, table, unclean);
        log.marks.known.set(!stored.clean);
        let from = [stored.applied, stored.end, table_at].into_iter().min_by_key(Point::place).unwrap_or(stored.end);
        log.walk(&stored, found, from, table_at.next_index).await?;
        log.state.borrow().check();
        log.check_chain().await?;
        // After a crash the files are whole again for who reads them beside the broker. Those who ask the log are told all of it
        // anyway, so what the disk refuses here (it may be full) can wait.
        if unclean && let Err(error) = log.index_aborted(1).await {
            tracing::warn!(topic = %log.topic, partition = log.key.partition, %error, "aborted transactions were not indexed");
        }
        Ok(log)
    }

    /// Takes in the batches from `from` to the durable end.
    async fn walk(
        self: &Rc<Self>,
        stored: &PartitionState,
        found: Found,
        from: Point,
        table_at: RaftIndex,
    ) -> Result<(), StorageError> {
        let mut cursor = Cursor::new(self.clone(), from.place(), stored.durable);
        let mut at = Walk {
            found,
            point: from,
            times: Times::NONE,
            start: None,
            index: SparseIndex::new(from.position),
            compacted: false,
        };
        if from.segment == stored.end.segment {
            at.start = Some(stored.active.start);
        }
        while let Some(batch) = cursor.next().await? {
            self.shared.stats.scanned_bytes.add(batch.bytes.len());
            self.take_in(&mut at, &batch, stored, table_at).map_err(|error| self.fence(error))?;
            core_pinning::yield_if_needed().await;
        }
        let batches = if at.point.place() == stored.durable { Batches::Whole } else { Batches::Early };
        let row = found.decide(batches);
        if row.then != Decision::Open {
            let (segment, position) = at.point.place();
            let reason = format!("the log ends before its durable end, {:?}: {}", stored.durable, row.why);
            return Err(self.fence(self.corrupt(segment, position, reason)));
        }
        let state = &mut *self.state.borrow_mut();
        state.log_end = at.point.next_offset;
        state.next_index = at.point.next_index;
        if at.point.segment == stored.end.segment {
            at.times.see(stored.active.times.max_timestamp, stored.active.times.position);
        }
        let active = state.active_mut();
        active.finished = false;
        active.start = at.start;
        active.times = Some(at.times);
        // Empty, and from the very end on, after a clean stop: then what is in the `.idx` file is read when it is needed.
        active.index = (at.index.from < active.size).then(|| Rc::new(at.index));
        state.flushed = state.end();
        state.synced = state.flushed.place();
        // The log start never passes what is applied, so all before it was applied, whatever the state remembers.
        while state.applied.next_offset < state.log_start {
            let Some(e) = state.unapplied.pop_front() else { break };
            let (position, next_index) = (e.position + e.size, e.id.index.next());
            state.applied_id = Some(e.id);
            state.applied = Point { segment: e.segment, position, next_offset: e.next_offset(), next_index };
        }
        let mut producers = self.producers.borrow_mut();
        producers.forget_aborted(state.aborted_known());
        producers.applied(state.applied.next_offset);
        Ok(())
    }

    fn take_in(
        self: &Rc<Self>,
        at: &mut Walk,
        batch: &CursorBatch,
        stored: &PartitionState,
        table_at: RaftIndex,
    ) -> Result<(), StorageError> {
        let bad = |reason: &str| self.foreign(at.found, batch, reason);
        let header = &batch.header;
        let size = batch.bytes.len() as u32;
        let Some(kind) = entry_kind(batch).map_err(bad)? else { return self.take_in_start(at, batch) };
        if at.compacted {
            // Purged long since: only what it says of its producer is of interest.
            if batch.segment != at.point.segment || header.base_offset < at.point.next_offset {
                return Err(bad("a batch that does not continue the log"));
            }
            at.point.position = batch.position + size;
            at.point.next_offset = header.next_offset();
            self.producers.borrow_mut().see(header, header.base_offset, &batch.bytes);
            return Ok(());
        }
        if batch.segment != at.point.segment || header.base_offset != at.point.next_offset {
            return Err(bad("a batch that does not continue the log"));
        }
        let state = &mut *self.state.borrow_mut();
        let entry = entry_header(batch, kind, at.point.next_index);
        let offset_delta = u32::try_from(entry.base_offset - batch.segment).unwrap_or(u32::MAX);
        let ordinal = at.start.map_or(0, |start| (entry.id.index - start.base_index) as u32);
        let (position, max_timestamp) = (batch.position, at.times.max_timestamp);
        let known = if batch.segment == stored.end.segment { stored.active.times.max_timestamp } else { i64::MIN };
        let max_timestamp = max_timestamp.max(known);
        let interval = state.config.index_interval_bytes;
        at.index.add(interval, IndexEntry { offset_delta, position, ordinal, max_timestamp });
        if kind == EntryKind::Data {
            at.times.see(header.max_timestamp, position);
        }
        at.point = Point {
            segment: batch.segment,
            position: position + size,
            next_offset: entry.next_offset(),
            next_index: entry.id.index.next(),
        };
        if entry.id.index >= state.applied.next_index {
            state.unapplied.push_back(entry);
        }
        if entry.id.index >= table_at {
            self.producers.borrow_mut().see(header, header.base_offset, &batch.bytes);
        }
        if entry.id.index >= stored.end.next_index {
            if state.last.is_some_and(|last| last.term > entry.id.term) {
                return Err(bad("a batch of an earlier term"));
            }
            state.last = Some(entry.id);
            state.terms.append(entry.id);
            if state.epochs.latest().is_none_or(|(term, _)| term < entry.id.term) {
                state.epochs.assign(entry.id.term, entry.base_offset);
            }
            if kind == EntryKind::Membership {
                let payload = internal::membership_payload(&batch.bytes).unwrap_or_default();
                state.memberships.push((entry.id, Bytes::copy_from_slice(payload)));
            }
        }
        Ok(())
    }

    /// Takes in what a segment begins with.
    fn take_in_start(&self, at: &mut Walk, batch: &CursorBatch) -> Result<(), StorageError> {
        let bad = |reason: &str| self.foreign(at.found, batch, reason);
        let Some(found) = internal::parse_segment_header(&batch.bytes) else { return Err(bad("no segment header")) };
        let is_own = found.key == self.key && found.base_offset == batch.segment;
        // Behind compacted segments the count of entries begins anew.
        let follows = found.base_index == at.point.next_index || at.compacted;
        let (end, next_offset) = (at.point.place(), at.point.next_offset);
        if is_own && !follows && next_offset < found.base_offset {
            // Not this segment is damaged, but the one before.
            let (next, why) = (found.base_offset, at.found.decide(Batches::Early).why);
            let reason = format!("the segment ends before offset {next_offset}, the next begins at {next}: {why}");
            return Err(self.corrupt(end.0, end.1, reason));
        }
        if !is_own || !follows {
            return Err(bad("the header of another segment"));
        }
        if found.format > internal::SEGMENT_FORMAT_MAX {
            return Err(StorageError::Version {
                path: self.dir.join(layout::segment_name(batch.segment)).to_string_lossy().into(),
                found: found.format,
                known: internal::SEGMENT_FORMAT_MAX,
            });
        }
        at.compacted = found.format == internal::SEGMENT_FORMAT_COMPACTED;
        let start = SegmentStart::from(&found);
        if let Some(segment) = self.state.borrow_mut().segment_at_mut(batch.segment) {
            segment.start = Some(start);
        }
        at.start = Some(start);
        at.times = Times::NONE;
        at.index = SparseIndex::new(0);
        at.point = Point {
            segment: batch.segment,
            position: batch.bytes.len() as u32,
            next_offset: found.base_offset,
            next_index: found.base_index,
        };
        Ok(())
    }

    fn foreign(&self, found: Found, batch: &CursorBatch, reason: &str) -> StorageError {
        self.corrupt(batch.segment, batch.position, format!("{reason}: {}", found.decide(Batches::Foreign).why))
    }
}

/// Where the walk stands.
struct Walk {
    found: Found,
    point: Point,
    times: Times,
    start: Option<SegmentStart>,
    index: SparseIndex,
    /// The segment is compacted.
    compacted: bool,
}

impl LogState {
    /// An empty log that begins and ends at `point`.
    fn at(config: crate::options::LogConfig, point: Point) -> LogState {
        LogState {
            config,
            segments: VecDeque::new(),
            log_start: point.next_offset,
            log_end: point.next_offset,
            next_index: point.next_index,
            last: None,
            purged: None,
            applied: point,
            applied_id: None,
            flushed: point,
            synced: point.place(),
            unapplied: VecDeque::new(),
            memberships: Vec::new(),
            vote: None,
            epochs: EpochCache::new(),
            terms: TermStarts::default(),
            aborted: AbortedFiles::default(),
            next_chunk: super::append::CHUNK_BYTES_MIN,
            chunk_begun: time::now(),
            last_append: time::now(),
            bypass: Default::default(),
            unsynced: Vec::new(),
            dir_unsynced: false,
            truncating: 0,
            generation: 0,
            heads_loaded: false,
            producers_ahead: false,
            producer_snapshot: None,
            state_file_current: false,
            fenced: None,
            write_back_error: None,
        }
    }
}

/// What was found before the batches were looked at.
#[derive(Clone, Copy)]
struct Found {
    state: State,
    segments: Segments,
}

impl Found {
    fn decide(self, batches: Batches) -> &'static table::Row {
        table::decide(self.state, self.segments, batches)
    }
}

/// The segments that the state speaks of; removes what it does not.
async fn find_segments(
    spec: &PartitionSpec,
    dir: &Path,
    stored: &PartitionState,
) -> Result<(VecDeque<Segment>, Found, AbortedFiles), StorageError> {
    let (last, durable) = stored.durable;
    let (mut segments, mut stale, mut aborted) = (VecDeque::new(), Vec::new(), Vec::new());
    // What does not fit the state: which segment, its length, and how. The first of them is told.
    let (mut shorts, mut long) = (Vec::new(), None);
    let mut entries = fs::read_dir(dir).await.doing("list", dir)?;
    if compaction::recover(dir, &entries).await? {
        entries = fs::read_dir(dir).await.doing("list", dir)?;
    }
    for entry in entries {
        let name = entry.name.to_string_lossy();
        let offset = |suffix: &str| layout::parse_offset(&entry.name, suffix);
        let index = offset(".idx").or(offset(layout::TXN_INDEX_SUFFIX));
        let is_outside = match (offset(".log").or(index), offset(".snap"), &stored.producers) {
            // Between segments: only the one that the state names.
            (None, Some(at), Producers::Snapshot(point)) if point.next_offset == at => false,
            (base, at, _) => base.or(at).is_some_and(|at| at < stored.first_segment || at > last),
        };
        let file = match is_outside {
            true => File::Outside,
            false if name.ends_with(DELETED_SUFFIX) || name.ends_with(UNFINISHED_SUFFIX) => File::Leftover,
            false => File::Inside,
        };
        let log = offset(".log");
        if leftover::decide(file).then == leftover::Decision::Remove {
            stale.push(dir.join(&entry.name));
            long = long.or(log
                .filter(|base| *base > last && entry.len > 0)
                .map(|base| (base, 0, "a segment follows the last one".into())));
        } else if let Some(base) = log {
            let len = u32::try_from(entry.len).unwrap_or(u32::MAX);
            let size = if base == last { durable } else { len };
            if len < size {
                shorts.push((base, len, format!("the file ends at {len} of {size} bytes")));
            } else if len > size {
                long = Some((base, size, format!("the log ends at {size}, the file at {}", entry.len)));
            }
            let mut segment = Segment::on_disk(base, size);
            segment.allocated = len;
            segments.push_back(segment);
        } else if let Some(base) = offset(layout::TXN_INDEX_SUFFIX) {
            aborted.push(base);
        }
    }
    let missing = |base: Offset| (base, 0, "the segment file is missing".to_owned());
    let (first, back) = (segments.front().map(|s| s.base_offset), segments.back().map(|s| s.base_offset));
    if first != Some(stored.first_segment) {
        shorts.push(missing(stored.first_segment));
    } else if back != Some(last) {
        shorts.push(missing(last));
    }
    for (base, position) in stored.reached() {
        if let Some(segment) = segments.iter().find(|s: &&Segment| s.base_offset == base && s.size < position) {
            shorts.push((base, segment.size, format!("the file ends at {} of {position} bytes", segment.size)));
        }
    }
    let short = shorts.into_iter().min_by_key(|(base, ..)| *base);
    let found = Found {
        state: if stored.clean { State::Clean } else { State::Unclean },
        segments: match (&short, &long) {
            (Some(_), _) => Segments::Short,
            (None, Some(_)) => Segments::Long,
            (None, None) => Segments::Stated,
        },
    };
    let row = found.decide(Batches::Unread);
    match row.then {
        Decision::Walk | Decision::CutAndWalk => {}
        Decision::Fence | Decision::Open => {
            let (segment, position, what) = short.or(long).unwrap_or_default();
            let reason = format!("{what}: {}", row.why).into();
            return Err(StorageError::Corrupt { partition: spec.key, segment, position: position.into(), reason });
        }
    }
    for path in &stale {
        fs::remove_file(path).await.doing("remove", path)?;
    }
    if !stale.is_empty() {
        // Nothing may follow that they could come back in the middle of.
        fs::sync_dir(dir).await.doing("sync", dir)?;
    }
    let end = |base: Offset| {
        let next = segments.partition_point(|s: &Segment| s.base_offset <= base);
        segments.get(next).map_or(Offset::MAX, |s| s.base_offset)
    };
    let has_segment = |base: &Offset| segments.binary_search_by_key(base, |s: &Segment| s.base_offset).is_ok();
    let gone: Vec<Offset> =
        stored.aborted_files.iter().copied().filter(|b| has_segment(b) && !aborted.contains(b)).collect();
    let aborted = aborted.into_iter().map(|base| (base, end(base)));
    let aborted = AbortedFiles::found(stored.aborted_indexed, aborted, gone.into_iter());
    Ok((segments, found, aborted))
}

/// Moves what the state says of places before the first segment to its beginning: they have been trimmed off.
fn begin_at(stored: &mut PartitionState, first: Offset) {
    let origin = Point {
        segment: first,
        position: 0,
        next_offset: first,
        next_index: stored.purged.map_or(RaftIndex(0), |id| id.index.next()),
    };
    if stored.applied.segment < first {
        stored.applied = origin;
        stored.applied_id = stored.purged;
    }
    if let Producers::Snapshot(point) = stored.producers
        && point.segment < first
    {
        stored.producers = Producers::Rebuild;
    }
}

/// The producer table, and the point up to which it knows the log.
async fn load_producers(
    stored: &PartitionState,
    dir: &Path,
    segments: &VecDeque<Segment>,
) -> Result<(ProducerTable, Point), StorageError> {
    let read = async |offset: Offset| -> Result<Option<ProducerTable>, StorageError> {
        let bytes = crate::durable::read(&dir.join(layout::snapshot_name(offset))).await?;
        Ok(bytes.and_then(|bytes| ProducerTable::decode(&mut &bytes[..]).ok()))
    };
    match &stored.producers {
        Producers::Empty => return Ok((ProducerTable::new(), stored.end)),
        Producers::Inline(table) => {
            if let Ok(table) = ProducerTable::decode(&mut &table[..]) {
                return Ok((table, stored.end));
            }
        }
        Producers::Snapshot(point) => {
            if let Some(table) = read(point.next_offset).await? {
                return Ok((table, *point));
            }
        }
        Producers::Rebuild => {}
    }
    // The last snapshot at a segment's beginning; without any, the whole log. One of what is not applied may be of a time when
    // that was: it does not know the markers that are applied again.
    for segment in segments.iter().rev() {
        let first = segments.front().map(|s| s.base_offset) == Some(segment.base_offset);
        if !first && segment.base_offset > stored.applied.next_offset {
            continue;
        }
        let table = read(segment.base_offset).await?;
        if table.is_none() && !first {
            continue;
        }
        let file = dir.join(layout::segment_name(segment.base_offset));
        let next_index = segment_base_index(&file, stored).await?;
        let base = segment.base_offset;
        let point = Point { segment: base, position: 0, next_offset: base, next_index };
        return Ok((table.unwrap_or_default(), point));
    }
    Ok((ProducerTable::new(), stored.end))
}

async fn segment_base_index(path: &Path, stored: &PartitionState) -> Result<RaftIndex, StorageError> {
    let file = core_pinning::File::open(path, core_pinning::OpenOptions::read_only()).await.doing("open", path)?;
    let bytes = file.read_at(0, internal::SEGMENT_HEADER_BYTES).await.doing("read", path)?;
    match internal::parse_segment_header(&bytes) {
        Some(header) => Ok(header.base_index),
        None => Err(StorageError::Corrupt {
            partition: stored.key,
            segment: Offset::ZERO,
            position: 0,
            reason: format!("{}: no segment header", path.display()).into(),
        }),
    }
}
