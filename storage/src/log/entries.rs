//! Reading for Raft: entries by index.

use std::ops::Range;
use std::rc::Rc;

use bytes::Bytes;

use super::cursor::{Cursor, CursorBatch};
use super::seek::Seek;
use super::{Log, LogInner};
use crate::entry::{EntryHeader, EntryKind, LogEntry};
use crate::error::StorageError;
use crate::model::{LogId, Offset, RaftIndex, Term};
use crate::record::{BatchKind, classify, internal};
use crate::recovery::decision::batch::Batch;
use crate::segment::SegmentStart;

/// Bytes read for entries at a time.
const READ_AHEAD: usize = 256 << 10;

/// What an entry is, by its batch; `None` of a segment's header, which is none.
pub(super) fn entry_kind(batch: &CursorBatch) -> Result<Option<EntryKind>, &'static str> {
    match classify(&batch.header, &batch.bytes) {
        BatchKind::Data | BatchKind::Control => Ok(Some(EntryKind::Data)),
        BatchKind::InternalBlank => Ok(Some(EntryKind::Blank)),
        BatchKind::InternalMembership => Ok(Some(EntryKind::Membership)),
        BatchKind::SegmentHeader if batch.position == 0 => Ok(None),
        BatchKind::SegmentHeader => Err("a segment's header inside a segment"),
        BatchKind::InternalUnknown => Err("an entry of a kind that this release does not know"),
    }
}

pub(super) fn entry_header(batch: &CursorBatch, kind: EntryKind, index: RaftIndex) -> EntryHeader {
    EntryHeader {
        id: LogId::new(batch.header.term().unwrap_or(Term(0)), index),
        kind,
        base_offset: batch.header.base_offset,
        last_offset: batch.header.last_offset(),
        segment: batch.segment,
        position: batch.position,
        size: batch.bytes.len() as u32,
        max_timestamp: batch.header.max_timestamp,
    }
}

impl Log {
    /// The id of the entry at `index`, if it is known without reading: entries not applied yet, the last applied one, the last
    /// purged one.
    pub fn known_log_id(&self, index: RaftIndex) -> Option<LogId> {
        let state = self.0.state.borrow();
        let unapplied = index.0.checked_sub(state.applied.next_index.0);
        match unapplied.and_then(|at| state.unapplied.get(usize::try_from(at).ok()?)) {
            Some(header) => Some(header.id),
            None => [state.applied_id, state.purged].into_iter().flatten().find(|id| id.index == index),
        }
    }

    /// The id of the entry at `index`; `None` if it is purged (but for the last of those) or not there yet.
    pub async fn log_id_at(&self, index: RaftIndex) -> Result<Option<LogId>, StorageError> {
        if let Some(id) = self.known_log_id(index) {
            return Ok(Some(id));
        }
        Ok(self.entry_headers(index..index.next()).await?.first().map(|header| header.id))
    }

    /// Entries without their bytes: those of the range that are in the log. Entries not applied yet come from memory.
    pub async fn entry_headers(&self, range: Range<RaftIndex>) -> Result<Vec<EntryHeader>, StorageError> {
        self.0.unchanged(async || self.headers_once(range.clone()).await).await
    }

    async fn headers_once(&self, range: Range<RaftIndex>) -> Result<Vec<EntryHeader>, StorageError> {
        let mut headers = Vec::new();
        if let Some(range) = self.0.held(range) {
            let known = {
                let state = self.0.state.borrow();
                let from = range.start.0.checked_sub(state.applied.next_index.0);
                from.map(|from| {
                    let count = (range.end.0 - range.start.0) as usize;
                    state.unapplied.iter().skip(from as usize).take(count).copied().collect()
                })
            };
            if let Some(known) = known {
                return Ok(known);
            }
            let mut walk = self.0.entries_from(range.start).await?;
            while let Some((header, _)) = walk.next().await?.filter(|(h, _)| h.id.index < range.end) {
                headers.push(header);
            }
        }
        Ok(headers)
    }

    /// Entries with their bytes, as [`append`](Log::append) takes them: from the start of the range, until its end or until
    /// `max_bytes` are reached; one at least if there is one.
    pub async fn read_entries(&self, range: Range<RaftIndex>, max_bytes: usize) -> Result<Vec<LogEntry>, StorageError> {
        self.0.unchanged(async || self.entries_once(range.clone(), max_bytes).await).await
    }

    async fn entries_once(&self, range: Range<RaftIndex>, max_bytes: usize) -> Result<Vec<LogEntry>, StorageError> {
        let mut entries = Vec::new();
        let Some(range) = self.0.held(range) else { return Ok(entries) };
        let mut walk = self.0.entries_from(range.start).await?;
        let mut total = 0;
        while let Some((header, batch)) = walk.next().await?.filter(|(h, _)| h.id.index < range.end) {
            total += batch.len();
            if total > max_bytes && !entries.is_empty() {
                break;
            }
            let bytes = match header.kind {
                EntryKind::Data => batch,
                EntryKind::Blank => Bytes::new(),
                EntryKind::Membership => {
                    let payload = internal::membership_payload(&batch).unwrap_or_default();
                    batch.slice_ref(payload)
                }
            };
            entries.push(LogEntry { id: header.id, kind: header.kind, bytes });
        }
        Ok(entries)
    }
}

impl LogInner {
    /// The part of the range that is in the log.
    fn held(&self, range: Range<RaftIndex>) -> Option<Range<RaftIndex>> {
        let state = self.state.borrow();
        let first = state.purged.map_or(RaftIndex(0), |id| id.index.next());
        let range = range.start.max(first)..range.end.min(state.next_index);
        (range.start < range.end).then_some(range)
    }

    /// Walks over the entries from `index` on.
    pub(super) async fn entries_from(self: &Rc<Self>, index: RaftIndex) -> Result<EntryWalk, StorageError> {
        let start = {
            let state = self.state.borrow();
            let at = index.0.checked_sub(state.applied.next_index.0);
            let header = at.and_then(|at| state.unapplied.get(usize::try_from(at).ok()?));
            header.map(|h| ((h.segment, h.position), h.id.index))
        };
        let end = self.state.borrow().end().place();
        let (cursor, at) = match start {
            Some((place, at)) => (Cursor::new(self.clone(), place, end), at),
            None => self.find_entry(index, end).await?,
        };
        Ok(EntryWalk { log: self.clone(), cursor, index: at, skip: index })
    }

    /// A walk from a place at or before the entry, and the index of the entry there.
    async fn find_entry(
        self: &Rc<Self>,
        index: RaftIndex,
        end: (Offset, u32),
    ) -> Result<(Cursor, RaftIndex), StorageError> {
        // The last segment that begins at or before the index. Their number is small; starts are remembered.
        let bases: Vec<Offset> = self.state.borrow().segments.iter().map(|s| s.base_offset).collect();
        let (mut low, mut high) = (0, bases.len());
        while high - low > 1 {
            let middle = (low + high) / 2;
            let base = bases.get(middle).copied().unwrap_or_default();
            match self.load_start(base).await? {
                Some(SegmentStart { base_index, .. }) if base_index > index => high = middle,
                _ => low = middle,
            }
        }
        let base = bases.get(low).copied().unwrap_or_default();
        let no_entry = || StorageError::NoEntry(LogId::new(Term(0), index));
        let start = self.load_start(base).await?.ok_or_else(no_entry)?;
        let ordinal = u32::try_from(index - start.base_index).map_err(|_| no_entry())?;
        let found = Cursor::seek(self, base, Seek::Ordinal(ordinal), end, READ_AHEAD).await?;
        let (cursor, floor) = found.ok_or_else(no_entry)?;
        Ok((cursor, start.base_index + floor.entry.map_or(0, |e| u64::from(e.ordinal))))
    }
}

impl LogInner {
    /// An error, and the log is fenced, where an entry is not of the term that wrote its index: no CRC covers that.
    fn is_of_its_term(&self, entry: &EntryHeader) -> Result<(), StorageError> {
        let term = self.state.borrow().terms.term_of(entry.id.index);
        match term.filter(|term| *term != entry.id.term) {
            Some(term) => {
                let reason = format!("an entry of term {} where {} wrote", entry.id.term.0, term.0);
                Err(self.damaged(Batch::OtherTerm, entry.segment, entry.position, reason))
            }
            None => Ok(()),
        }
    }
}

/// Counts entries while it walks over batches.
pub(super) struct EntryWalk {
    log: Rc<LogInner>,
    cursor: Cursor,
    index: RaftIndex,
    skip: RaftIndex,
}

impl EntryWalk {
    pub(super) async fn next(&mut self) -> Result<Option<(EntryHeader, Bytes)>, StorageError> {
        while let Some(batch) = self.cursor.next().await? {
            let kind = entry_kind(&batch).map_err(|e| self.log.corrupt(batch.segment, batch.position, e))?;
            let Some(kind) = kind else { continue };
            let index = self.index;
            self.index = index.next();
            if index >= self.skip {
                let header = entry_header(&batch, kind, index);
                self.log.is_of_its_term(&header)?;
                return Ok(Some((header, batch.bytes)));
            }
        }
        Ok(None)
    }
}
