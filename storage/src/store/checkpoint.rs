//! Freeing the journal's oldest files.
//!
//! 1. Write back everything durable of each log that has records in them.
//! 2. Sync the segment files written since the last checkpoint, and directories with new files.
//! 3. Keep each log's state: in the journal if the log is in use, in its state file if it has not been since.
//! 4. When all that is durable, retire the files.
//!
//! A crash in between only leaves more to replay.

use std::rc::Rc;

use core_pinning::disk::fs;
use futures::StreamExt;

use super::shared::Shared;
use crate::error::{Doing, StorageError};
use crate::layout;
use crate::log::LogInner;
use crate::point::Point;

/// Logs synced at a time.
const SYNCS_IN_FLIGHT: usize = 8;

/// A log of the checkpoint, and how far it was durable when that began.
struct Target {
    log: Rc<LogInner>,
    point: Point,
    generation: u64,
}

/// Runs checkpoints as long as the store is open.
pub(crate) async fn run(shared: Rc<Shared>) {
    loop {
        let live = shared.journal.live_files();
        shared.dirty.set_journal_over(live > shared.options.journal_files_max);
        if live <= shared.options.journal_files_max / 2 || shared.journal.failure().is_some() {
            shared.journal.progress().await;
            continue;
        }
        // All full files but the last: those that begin again and again would be written back too early.
        let freed = match checkpoint(&shared, (live / 2).max(1)).await {
            Ok(freed) => freed,
            Err(StorageError::JournalFailed { .. }) => false,
            Err(error) => {
                shared.journal.fail(&format!("checkpoint: {error}"));
                false
            }
        };
        if !freed {
            shared.journal.progress().await;
        }
    }
}

/// Frees up to `count` files; false if there is none that can be.
pub(crate) async fn checkpoint(shared: &Rc<Shared>, count: usize) -> Result<bool, StorageError> {
    let Some(old) = shared.journal.oldest(count) else { return Ok(false) };
    let mut logs: Vec<Rc<LogInner>> = old.owners;
    logs.sort_by_key(|log| log.key);
    logs.dedup_by(|a, b| Rc::ptr_eq(a, b));
    if logs.iter().any(|log| log.is_deleted() && !log.marks.removed.get()) {
        return Ok(false);
    }
    logs.retain(|log| !log.is_deleted());
    let mut targets: Vec<Target> = logs
        .into_iter()
        .map(|log| {
            let (point, generation) = log.flushed_point();
            Target { log, point, generation }
        })
        .collect();
    written_back(shared, &mut targets).await?;
    let synced = futures::stream::iter(&targets).map(sync).buffer_unordered(SYNCS_IN_FLIGHT);
    let results: Vec<Result<(), StorageError>> = synced.collect().await;
    results.into_iter().collect::<Result<(), _>>()?;
    if shared.root_unsynced.replace(false) {
        let root = layout::partitions_root(&shared.options.data_dir);
        fs::sync_dir(&root).await.doing("sync", &root)?;
    }
    if targets.iter().any(|t| !t.log.is_deleted() && t.log.flushed_point().1 != t.generation) {
        // A log was cut meanwhile: what it kept may not be written yet.
        return Ok(false);
    }
    let mut at_rest = Vec::new();
    for target in targets.iter().filter(|t| !t.log.is_deleted()) {
        target.log.mark_synced(target.point);
        if target.log.last_file.get() > old.last || !target.log.is_at_rest() {
            target.log.snapshot_producers().await?;
            let state = target.log.state.borrow();
            target.log.journal_state(&state, false, None);
        } else {
            at_rest.push(target);
        }
    }
    shared.journal.flush().await?;
    let writing = futures::stream::iter(&at_rest).map(|target| async {
        if target.log.is_deleted() { Ok(()) } else { target.log.write_state_file(false).await }
    });
    let results: Vec<Result<(), StorageError>> = writing.buffer_unordered(SYNCS_IN_FLIGHT).collect().await;
    let first_error = results.into_iter().zip(&at_rest).find_map(|(r, t)| r.err().filter(|_| !t.log.is_deleted()));
    if let Some(error) = first_error {
        return match error {
            // Keeps the files, and tries again.
            StorageError::DiskFull { .. } => Ok(false),
            error => Err(error),
        };
    }
    shared.journal.release(old.last).await?;
    shared.stats.checkpoints.add(1);
    Ok(true)
}

async fn sync(target: &Target) -> Result<(), StorageError> {
    match target.log.sync_files().await {
        // Its files went away meanwhile.
        Err(_) if target.log.is_deleted() => Ok(()),
        other => other,
    }
}

/// Waits until what the targets name is in the segment files. A log that is cut meanwhile gets a new target.
async fn written_back(shared: &Rc<Shared>, targets: &mut [Target]) -> Result<(), StorageError> {
    loop {
        let mut behind = false;
        for target in targets.iter_mut().filter(|t| !t.log.is_deleted()) {
            let (point, generation) = target.log.flushed_point();
            if generation != target.generation {
                (target.point, target.generation) = (point, generation);
            }
            if !target.log.is_written_to(target.point) {
                behind = true;
                shared.write_back.force(&target.log);
            }
        }
        if !behind {
            return Ok(());
        }
        if let Some(failure) = shared.journal.failure() {
            return Err(failure);
        }
        shared.write_back.progress().await;
    }
}
