//! Putting a compacted segment in the place of others.
//!
//! | step                                                    | a crash after it leaves           | the next opening                     |
//! |---------------------------------------------------------|-----------------------------------|--------------------------------------|
//! | write and sync `<base>.cleaned`                         | the old segments, a stray file    | removes `*.cleaned`                  |
//! | `<base>.txnindex`: of all of them, those with a marker left | entries that are there twice, or of which no record is left | nothing |
//! | rename it to `<base>.<end>.swap`, sync the directory    | both: the new one counts          | goes on below                        |
//! | remove `.log`, `.idx`, `.snap`, `.txnindex` of those in between, and the first one's `.idx`; sync | the first and the new one | goes on below |
//! | rename `.swap` to `<base>.log`, sync                    | the new segment                   | nothing                              |
//!
//! The range stands in the name, so a swap can be finished without looking into any file. An error on the way leaves the log
//! as it was in memory, with its old files held open; the swap is finished before the next change to its segments.
#![deny(clippy::unwrap_used, clippy::indexing_slicing)]

use std::ffi::OsStr;
use std::path::Path;
use std::rc::Rc;

use core_pinning::disk::fs;

use super::plan::Source;
use super::rewrite::NewSegment;
use crate::durable::remove;
use crate::error::{Doing, StorageError};
use crate::layout::{self, CLEANED_SUFFIX};
use crate::log::LogInner;
use crate::model::Offset;
use crate::producer_state::AbortedTransaction;
use crate::recovery::decision::leftover::{self, Decision, File};
use crate::segment::{Segment, index_heads};

/// A swap from its second step on.
pub(crate) struct Swap {
    bases: Vec<Offset>,
    end: Offset,
    new: NewSegment,
    aborted: Rc<[AbortedTransaction]>,
}

/// Purges the entries before the segment at `boundary` for Raft and for recovery; returns when that is durable. From then
/// on nobody looks into the segments before it but readers.
pub(super) async fn give_up(log: &Rc<LogInner>, boundary: Offset) -> Result<(), StorageError> {
    let moved = || StorageError::refused("the log changed before it was compacted");
    let previous = log.load_start(boundary).await?.ok_or_else(moved)?.previous;
    if log.state.borrow().synced < (boundary, 0) {
        // The journal's records of these segments are dropped from here on: files and their names, and the directory's own.
        log.sync_files().await?;
        let root = layout::partitions_root(&log.shared.options.data_dir);
        fs::sync_dir(&root).await.doing("sync", &root)?;
    }
    let (sender, receiver) = core_pinning::sync::oneshot::channel();
    {
        let state = &mut *log.state.borrow_mut();
        if let Some(error) = &state.fenced {
            return Err(error.clone());
        }
        if state.applied.segment < boundary || state.flushed.segment < boundary || state.segment_at(boundary).is_none()
        {
            return Err(moved());
        }
        let snapshot_moves = state.producer_snapshot.is_some_and(|p| p.segment < boundary);
        if state.purged >= previous && state.synced >= (boundary, 0) && !snapshot_moves {
            // A pass before has done it, and that is durable: passes wait for it.
            return Ok(());
        }
        state.purged = state.purged.max(previous);
        if let Some(purged) = state.purged {
            state.terms.purge(purged);
        }
        state.synced = state.synced.max((boundary, 0));
        state.producer_snapshot = state.producer_snapshot.filter(|p| p.segment >= boundary);
        // A snapshot of the producers that is being written must not become one of the old places.
        state.generation += 1;
        state.state_file_current = false;
        let done = Box::new(move |result| {
            let _ = sender.send(result);
        });
        log.journal_state(state, Some(done));
    }
    log.keep_warm();
    receiver.await.unwrap_or(Err(StorageError::Closed))
}

/// Puts the new segment in the place of the group's. False if they are not all there any more; then nothing is done.
pub(super) async fn swap(log: &Rc<LogInner>, group: &[Source], new: NewSegment) -> Result<bool, StorageError> {
    let _alone = log.compaction.alone().await;
    let (Some(first), Some(last)) = (group.first(), group.last()) else { return Ok(false) };
    let there = {
        let state = log.state.borrow();
        if let Some(error) = &state.fenced {
            return Err(error.clone());
        }
        group.iter().all(|g| state.segment_at(g.base).is_some_and(|s| s.finished && s.size == g.size))
            && state.segment_at(last.end).is_some()
    };
    if !there {
        fs::remove_file(&new.path).await.doing("remove", &new.path)?;
        return Ok(false);
    }
    let aborted = keep_aborted(log, group, &new).await?;
    let mut files = Vec::with_capacity(group.len());
    for source in group {
        files.push((source.base, log.open_segment(source.base, false).await?));
    }
    // Readers keep to the old files from here on.
    files.into_iter().for_each(|(base, file)| log.shared.files.pin(log.key, base, file));
    let bases: Vec<Offset> = group.iter().map(|s| s.base).collect();
    let path = log.dir.join(layout::swap_name(first.base, last.end));
    if let Err(error) = fs::rename(&new.path, &path).await {
        log.shared.files.unpin(log.key, &bases);
        let _ = fs::remove_file(&new.path).await;
        return Err(StorageError::io("rename", &new.path, &error));
    }
    log.compaction.swap.replace(Some(Swap { bases, end: last.end, new, aborted }));
    log.finish_swap().await?;
    Ok(true)
}

/// Writes the first segment's file of aborted transactions as it will be. Readers of the old segments miss nothing: where a
/// marker goes, all records of its transaction went before.
async fn keep_aborted(
    log: &Rc<LogInner>,
    group: &[Source],
    new: &NewSegment,
) -> Result<Rc<[AbortedTransaction]>, StorageError> {
    let (mut kept, mut files) = (Vec::new(), false);
    for source in group {
        if let Some(entries) = log.aborted_in(source.base).await? {
            files = true;
            kept.extend(entries.iter().filter(|entry| new.aborts.contains(&entry.last_offset)));
        }
    }
    if let Some(first) = group.first().filter(|_| files) {
        log.write_aborted(first.base, &kept).await?;
    }
    Ok(kept.into())
}

impl LogInner {
    /// Finishes a swap that was begun. The caller is alone with the list of segments.
    pub(crate) async fn finish_swap(self: &Rc<Self>) -> Result<(), StorageError> {
        let Some((base, end)) = self.compaction.swap.borrow().as_ref().and_then(|s| Some((*s.bases.first()?, s.end)))
        else {
            return Ok(());
        };
        if let Some(error) = &self.state.borrow().fenced {
            // The directory may be gone, or another log's of the same key.
            return Err(error.clone());
        }
        let between: Vec<Offset> = {
            let swap = self.compaction.swap.borrow();
            swap.iter().flat_map(|s| s.bases.iter().copied().skip(1)).collect()
        };
        // They go from the disk with those of the segments.
        self.load_heads().await?;
        let all: Vec<Offset> = std::iter::once(base).chain(between.iter().copied()).collect();
        self.forget_indexes(&all).await?;
        replace_files(&self.dir, base, end, &between).await?;
        let Some(swap) = self.compaction.swap.take() else { return Ok(()) };
        let NewSegment { size, start, index, .. } = swap.new;
        let (head, file) = index.encode();
        {
            let state = &mut *self.state.borrow_mut();
            let mut gone = Vec::new();
            state.segments.retain_mut(|segment| {
                let stays = !swap.bases.contains(&segment.base_offset);
                if !stays {
                    gone.extend(segment.tail.take());
                }
                stays
            });
            gone.iter().flat_map(|tail| &tail.chunks).for_each(|chunk| self.shared.forget_chunk(chunk));
            let mut segment = Segment::on_disk(base, size);
            segment.start = Some(start);
            segment.times = Some(head.covers.times);
            segment.last_batch = Some(head.covers.last_batch);
            segment.head = Some(Rc::new(head));
            let at = state.segments.partition_point(|s| s.base_offset < base);
            state.segments.insert(at, segment);
            state.unsynced.retain(|b| !swap.bases.contains(b));
            state.aborted.replace(&swap.bases, swap.aborted);
            state.state_file_current = false;
            state.generation += 1;
            state.check();
        }
        self.shared.files.unpin(self.key, &swap.bases);
        self.count_heads();
        self.write_shortcut(&self.dir.join(layout::index_name(base)), file).await;
        Ok(())
    }
}

/// The last two steps. May run again after an error or a crash.
async fn replace_files(dir: &Path, base: Offset, end: Offset, between: &[Offset]) -> Result<(), StorageError> {
    // The new one has its name before any of the old ones goes.
    fs::sync_dir(dir).await.doing("sync", dir)?;
    let names = |b: &Offset| [layout::segment_name, layout::snapshot_name, layout::txn_index_name].map(|name| name(*b));
    for name in between.iter().flat_map(names) {
        remove(&dir.join(name)).await?;
    }
    fs::sync_dir(dir).await.doing("sync", dir)?;
    let path = dir.join(layout::swap_name(base, end));
    match fs::rename(&path, &dir.join(layout::segment_name(base))).await {
        // Done before.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        other => other.doing("rename", &path)?,
    }
    fs::sync_dir(dir).await.doing("sync", dir)
}

/// Ends what a crash left in a partition's directory, by the table above. True if there was something.
pub(crate) async fn recover(dir: &Path, entries: &[fs::DirEntry]) -> Result<bool, StorageError> {
    let mut found = false;
    for entry in entries {
        let (swap, path) = (layout::parse_swap(&entry.name), dir.join(&entry.name));
        let file = match swap {
            Some(_) => File::Swap,
            None if entry.name.to_string_lossy().ends_with(CLEANED_SUFFIX) => File::Cleaned,
            None => continue,
        };
        let row = leftover::decide(file);
        if row.then == Decision::Remove {
            remove(&path).await?;
            found = true;
        }
        let Some((base, end)) = swap else { continue };
        let offset = |name: &OsStr| {
            [".log", ".idx", ".snap", layout::TXN_INDEX_SUFFIX].iter().find_map(|s| layout::parse_offset(name, s))
        };
        let offsets = entries.iter().filter_map(|e| offset(&e.name));
        let between: Vec<Offset> = offsets.filter(|b| *b > base && *b < end).collect();
        tracing::info!(dir = %dir.display(), base = base.0, end = end.0, reason = row.why, "a compacted segment takes its place");
        let all: Vec<Offset> = std::iter::once(base).chain(between.iter().copied()).collect();
        index_heads::forget(dir, &all).await?;
        replace_files(dir, base, end, &between).await?;
        found = true;
    }
    Ok(found)
}
