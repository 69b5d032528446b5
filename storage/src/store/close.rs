//! Closing the logs of a store: their files get their exact sizes, and state files that say that nothing has to be recovered.
//!
//! | logs to close | what makes their files durable                                                                 |
//! |---------------|------------------------------------------------------------------------------------------------|
//! | a few         | a sync of each file and directory                                                              |
//! | many          | all segments and new state files written, a sync of the file system, all state files named, a sync of it |
//!
//! A state file has its name only when what it speaks of is durable. Partitions are all on one file system.

use std::rc::Rc;

use core_pinning::{File, OpenOptions};

use super::shared::Shared;
use crate::durable::{self, TOGETHER, each};
use crate::error::{Doing, StorageError};
use crate::layout;
use crate::log::LogInner;

/// Everything of the logs is written back. Nothing may use them meanwhile.
pub(super) async fn close_logs(shared: &Rc<Shared>, logs: &[Rc<LogInner>]) -> Result<(), StorageError> {
    let changed = logs.iter().filter(|log| !log.is_deleted() && !log.state.borrow().state_file_current);
    let changed: Vec<Rc<LogInner>> = changed.cloned().collect();
    if changed.len() < TOGETHER {
        return each(&changed, close_log).await;
    }
    // Opened first: an error of any write from here on is told by its syncs.
    let root = layout::partitions_root(&shared.options.data_dir);
    let root = File::open(&root, OpenOptions::read_only()).await.doing("open", &root)?;
    each(&changed, prepare).await?;
    root.sync_filesystem().await.doing("sync the file system of", root.path())?;
    each(&changed, name_state_file).await?;
    root.sync_filesystem().await.doing("sync the file system of", root.path())
}

async fn close_log(log: &Rc<LogInner>) -> Result<(), StorageError> {
    log.close_files().await?;
    index_aborted(log).await?;
    log.snapshot_producers().await?;
    log.sync_files().await?;
    log.mark_synced(log.flushed_point().0);
    log.write_state_file(true).await
}

async fn index_aborted(log: &Rc<LogInner>) -> Result<(), StorageError> {
    // What is damaged stays so, and is told again by the next start.
    let is_damaged = || matches!(log.state.borrow().fenced, Some(StorageError::Corrupt { .. }));
    match log.index_aborted(1).await? || is_damaged() {
        true => Ok(()),
        false => Err(StorageError::refused("the log is being cut")),
    }
}

/// Writes everything of the log that a sync of the file system then makes durable.
async fn prepare(log: &Rc<LogInner>) -> Result<(), StorageError> {
    log.close_files().await?;
    index_aborted(log).await?;
    log.snapshot_producers().await?;
    log.mark_synced(log.flushed_point().0);
    durable::write_unfinished(&log.dir.join(layout::STATE_FILE), log.clean_state()).await.map(drop)
}

async fn name_state_file(log: &Rc<LogInner>) -> Result<(), StorageError> {
    durable::name(&log.dir.join(layout::STATE_FILE)).await?;
    let state = &mut *log.state.borrow_mut();
    state.unsynced.clear();
    (state.dir_unsynced, state.state_file_current) = (false, true);
    Ok(())
}
