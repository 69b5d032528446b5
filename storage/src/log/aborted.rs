//! The aborted transactions of a log, for readers of what is committed: which there are, and their files.
//!
//! A marker that ends a transaction badly puts it into the producer table, which is kept as the log's state is. From there it goes
//! into the `.txnindex` file of the marker's segment, durably, before the table forgets it: some together while the log is in use,
//! all when it is closed, and when it is opened after a crash:
//!
//! ```text
//! markers   .txnindex files count            | in the producer table
//!           ----------------------------- indexed ------------------- log end
//! ```
//! What a file says of markers at or behind `indexed` is not looked at: they may have been lost or cut off since. `indexed`
//! passes such a file only when it has been written again. A damaged file, and one that the log's state names and that is gone, is made
//! from the log's batches when it is asked for, from the first one on: a transaction may have begun anywhere. That reads much, but
//! damage is rare, and nobody else is kept waiting.
#![deny(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::rc::Rc;

use core_pinning::disk::fs;

use super::cursor::Cursor;
use super::{Log, LogInner, LogState};
use crate::error::{Doing, ReadError, StorageError};
use crate::layout;
use crate::model::Offset;
use crate::producer_state::{AbortedTransaction, ProducerTable};
use crate::recovery::decision::aborted::{self as table, Decision, File, State};
use crate::segment::txn_index;

/// Files of a log whose contents stay in memory, and how many transactions each of them has at most.
const CACHED_FILES: usize = 4;
const CACHED_MAX: usize = 32 << 10;

/// What is known of a log's `.txnindex` files.
#[derive(Default)]
pub(crate) struct AbortedFiles {
    pub(crate) indexed: Offset,
    /// By the segment's base offset.
    files: BTreeMap<Offset, AbortedFile>,
}

#[derive(Default)]
struct AbortedFile {
    entries: Option<Rc<[AbortedTransaction]>>,
    /// May say what is not so of markers at or behind `indexed`.
    stale: bool,
}

impl AbortedFiles {
    /// As found: `indexed` is the state's, `files` are the segments with such a file and where these end, `gone` those that should
    /// have one.
    pub(crate) fn found(
        indexed: Offset,
        files: impl Iterator<Item = (Offset, Offset)>,
        gone: impl Iterator<Item = Offset>,
    ) -> AbortedFiles {
        let file = |stale| AbortedFile { entries: None, stale };
        // The log may have been cut at `indexed`: the file of a segment that ends there may say more than is left of that.
        let files = files.map(|(base, end)| (base, file(end >= indexed)));
        AbortedFiles { indexed, files: files.chain(gone.map(|base| (base, file(true)))).collect() }
    }

    /// The segments that have a file.
    pub(crate) fn bases(&self) -> impl Iterator<Item = Offset> {
        self.files.keys().copied()
    }

    /// The log was cut to end at `end`.
    pub(crate) fn cut(&mut self, end: Offset) {
        if self.indexed > end {
            self.indexed = end;
            self.files.values_mut().for_each(|file| *file = AbortedFile { entries: None, stale: true });
        }
    }

    /// The log begins with the segment `first`.
    pub(crate) fn trim(&mut self, first: Offset) {
        self.files = self.files.split_off(&first);
    }

    /// One segment has taken the place of `bases`.
    pub(crate) fn replace(&mut self, bases: &[Offset], entries: Rc<[AbortedTransaction]>) {
        bases.iter().for_each(|base| drop(self.files.remove(base)));
        if let Some(base) = bases.first().filter(|_| !entries.is_empty()) {
            self.set(*base, entries);
        }
    }

    fn set(&mut self, base: Offset, entries: Rc<[AbortedTransaction]>) {
        let cached = self.files.iter().filter(|(at, file)| **at != base && file.entries.is_some());
        // The oldest one goes: reads go on towards the end.
        let oldest = (cached.clone().count() >= CACHED_FILES).then(|| cached.map(|(at, _)| *at).min()).flatten();
        if let Some(file) = oldest.and_then(|at| self.files.get_mut(&at)) {
            file.entries = None;
        }
        let entries = Some(entries).filter(|entries| entries.len() <= CACHED_MAX);
        self.files.insert(base, AbortedFile { entries, stale: false });
    }
}

impl LogState {
    fn base_of(&self, offset: Offset) -> Option<Offset> {
        self.segments.get(self.segment_number(offset)).map(|s| s.base_offset)
    }

    /// Up to where what the producer table says of aborted transactions is not of interest.
    pub(crate) fn aborted_known(&self) -> Offset {
        self.aborted.indexed.max(self.segments.front().map_or(Offset::ZERO, |s| s.base_offset))
    }
}

impl Log {
    /// Where the first transaction begins of which readers of what is committed do not know how it ends; the high watermark
    /// if there is none before it.
    pub fn last_stable_offset(&self) -> Offset {
        let bounds = self.bounds();
        let unstable = self.0.producers.borrow().first_unstable_offset();
        unstable.map_or(bounds.high_watermark, |first| first.max(bounds.log_start).min(bounds.high_watermark))
    }

    /// The aborted transactions of which records may lie from `from` to before `upto`, by their markers. `OutOfRange` if the
    /// log no longer has what is asked for.
    pub async fn aborted_transactions(&self, from: Offset, upto: Offset) -> Result<Vec<AbortedTransaction>, ReadError> {
        let inner = &self.0;
        let stand = |state: &LogState| (state.generation, state.aborted.indexed);
        loop {
            let (before, bases) = {
                let state = inner.state.borrow();
                let first = state.base_of(from).unwrap_or(from);
                let bases: Vec<Offset> = state.aborted.files.range(first..).map(|(base, _)| *base).collect();
                (stand(&state), bases)
            };
            let mut found = Vec::new();
            for base in bases {
                let Some(entries) = inner.aborted_in(base).await? else { continue };
                if overlapping(&entries, from, upto, &mut found) {
                    break;
                }
            }
            overlapping(inner.producers.borrow().aborted(), from, upto, &mut found);
            let state = inner.state.borrow();
            if state.segments.front().is_some_and(|first| from < first.base_offset) {
                return Err(ReadError::OutOfRange);
            }
            // Otherwise some may have moved from where they were looked for later to where they were looked for before.
            if stand(&state) == before {
                return Ok(found);
            }
        }
    }
}

/// True if no later one can overlap.
fn overlapping(
    entries: &[AbortedTransaction],
    from: Offset,
    upto: Offset,
    found: &mut Vec<AbortedTransaction>,
) -> bool {
    for entry in entries.iter().skip(entries.partition_point(|entry| entry.last_offset < from)) {
        if entry.first_offset < upto {
            found.push(*entry);
        }
        if entry.last_stable_offset >= upto {
            return true;
        }
    }
    false
}

impl LogInner {
    /// What the segment's file says; `None` if it has none.
    pub(crate) async fn aborted_in(
        self: &Rc<Self>,
        base: Offset,
    ) -> Result<Option<Rc<[AbortedTransaction]>>, StorageError> {
        let generation = {
            let state = self.state.borrow();
            match state.aborted.files.get(&base) {
                None => return Ok(None),
                Some(AbortedFile { entries: Some(entries), .. }) => return Ok(Some(entries.clone())),
                Some(_) => state.generation,
            }
        };
        let path = self.dir.join(layout::txn_index_name(base));
        let (file, entries) = match crate::durable::read(&path).await?.as_deref().map(txn_index::decode) {
            None => (File::Absent, Vec::new()),
            Some(Err(_)) => (File::Damaged, Vec::new()),
            Some(Ok(entries)) => (File::Usable, entries),
        };
        let row = table::decide(file, State::Names);
        let damaged = row.then == Decision::MakeAgain;
        let mut entries = match damaged {
            false => entries,
            true => {
                tracing::warn!(path = %path.display(), ?file, reason = row.why, "made again from the log");
                self.unchanged(async || self.find_aborted(base).await).await?
            }
        };
        let state = &mut *self.state.borrow_mut();
        entries.retain(|entry| entry.last_offset < state.aborted.indexed);
        let entries: Rc<[AbortedTransaction]> = entries.into();
        if damaged && state.generation == generation && state.aborted.files.contains_key(&base) {
            state.aborted.set(base, entries.clone());
            // So that it is written again.
            state.aborted.files.entry(base).and_modify(|file| file.stale = true);
            state.state_file_current = false;
        }
        let fresh = state.aborted.files.get(&base).is_some_and(|file| !file.stale);
        if fresh && state.generation == generation {
            state.aborted.set(base, entries.clone());
        }
        Ok(Some(entries))
    }

    /// The aborted transactions with markers in a segment, by the batches of the log from its begin on.
    async fn find_aborted(self: &Rc<Self>, base: Offset) -> Result<Vec<AbortedTransaction>, StorageError> {
        let (first, upto) = {
            let state = self.state.borrow();
            let next = state.segments.iter().find(|s| s.base_offset > base).map(|s| (s.base_offset, 0));
            (state.segments.front().map_or(base, |s| s.base_offset), next.unwrap_or(state.end().place()))
        };
        let mut producers = ProducerTable::new();
        let mut cursor = Cursor::new(self.clone(), (first, 0), upto);
        while let Some(batch) = cursor.next().await? {
            self.shared.stats.scanned_bytes.add(batch.bytes.len());
            producers.see(&batch.header, batch.header.base_offset, &batch.bytes);
            core_pinning::yield_if_needed().await;
        }
        Ok(producers.aborted().iter().filter(|aborted| aborted.last_offset >= base).copied().collect())
    }

    /// Moves aborted transactions from the producer table into their files, durably, if there are `least` of them or a file is to
    /// be written again; `indexed` is at the log end then. False, and nothing is handed over, while the log is being
    /// cut, and where what must be read for it is damaged: the log is fenced then.
    pub(crate) async fn index_aborted(self: &Rc<Self>, least: usize) -> Result<bool, StorageError> {
        let _turn = self.marks.indexing.0.acquire(1).await;
        let (end, generation, mut groups) = {
            let state = &mut *self.state.borrow_mut();
            if state.producers_ahead {
                return Ok(false);
            }
            let producers = self.producers.borrow();
            let stale = state.aborted.files.iter().filter(|(_, file)| file.stale).map(|(base, _)| (*base, Vec::new()));
            let mut groups: BTreeMap<Offset, Vec<AbortedTransaction>> = stale.collect();
            let new = producers.aborted();
            if new.len() < least && (groups.is_empty() || least > 1) {
                if new.is_empty() && groups.is_empty() {
                    state.aborted.indexed = state.log_end;
                }
                return Ok(true);
            }
            for aborted in new {
                if let Some(base) = state.base_of(aborted.last_offset) {
                    groups.entry(base).or_default().push(*aborted);
                }
            }
            (state.log_end, state.generation, groups)
        };
        let written = self.write_groups(&mut groups).await;
        if written.is_err() {
            for base in groups.keys().copied().collect::<Vec<_>>() {
                // Of a file that did not come about nobody needs to know.
                if let Ok(false) = fs::exists(&self.dir.join(layout::txn_index_name(base))).await {
                    groups.remove(&base);
                }
            }
        }
        let state = &mut *self.state.borrow_mut();
        if written.is_err() || state.generation != generation {
            // Some may say what is not handed over, and the log was cut or compacted meanwhile, or may be before the next attempt:
            // the files are written again before they count.
            let stale = groups.into_keys().map(|base| (base, AbortedFile { entries: None, stale: true }));
            state.aborted.files.extend(stale);
            // A checkpoint, and who closes the log, go on without: what is not handed over stays in the log's state.
            return if matches!(written, Err(StorageError::Corrupt { .. })) {
                Ok(false)
            } else {
                written.map(|()| true)
            };
        }
        for (base, entries) in groups {
            state.aborted.files.remove(&base);
            if state.segment_at(base).is_some() && !entries.is_empty() {
                state.aborted.set(base, entries.into());
            }
        }
        state.aborted.indexed = end;
        state.state_file_current = false;
        self.producers.borrow_mut().forget_aborted(end);
        Ok(true)
    }

    /// Writes each segment's file with what it says already and what is new, durably.
    async fn write_groups(
        self: &Rc<Self>,
        groups: &mut BTreeMap<Offset, Vec<AbortedTransaction>>,
    ) -> Result<(), StorageError> {
        for (base, entries) in &mut *groups {
            if let Some(before) = self.aborted_in(*base).await? {
                entries.splice(0..0, before.iter().copied());
            }
            self.write_aborted(*base, entries).await?;
        }
        if groups.is_empty() { Ok(()) } else { fs::sync_dir(&self.dir).await.doing("sync", &self.dir) }
    }

    /// Writes the segment's file; the directory is not synced. Nothing aborted: no file.
    pub(crate) async fn write_aborted(&self, base: Offset, entries: &[AbortedTransaction]) -> Result<(), StorageError> {
        let path = self.dir.join(layout::txn_index_name(base));
        if !entries.is_empty() {
            return crate::durable::replace(&path, txn_index::encode(entries), true).await;
        }
        crate::durable::remove(&path).await
    }
}
