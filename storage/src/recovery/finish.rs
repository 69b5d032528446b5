//! What was replayed becomes durable: segments get their ends and are synced, then the state files say so.
//!
//! Where there are many partitions, two syncs of the file system do it for all: one before the state files get their names, one
//! after (as `store::close` does).

use std::path::Path;

use core_pinning::disk::fs;
use core_pinning::{File, OpenOptions};

use super::replay::Target;
use crate::durable::{self, TOGETHER, each};
use crate::error::{Doing, StorageError};
use crate::layout;
use crate::record::{BatchHeader, HEADER_BYTES};
use crate::segment::index_file::IndexHead;
use crate::segment::index_heads;

/// `root` holds the directories of all targets.
pub(super) async fn finish(root: &Path, targets: Vec<Target>) -> Result<(), StorageError> {
    if targets.len() < TOGETHER {
        each(&targets, finish_one).await?;
        return fs::sync_dir(root).await.doing("sync", root);
    }
    let root = File::open(root, OpenOptions::read_only()).await.doing("open", root)?;
    each(&targets, async |target| {
        cut(target, false).await?;
        durable::write_unfinished(&target.dir.join(layout::STATE_FILE), target.state_file()).await.map(drop)
    })
    .await?;
    root.sync_filesystem().await.doing("sync the file system of", root.path())?;
    each(&targets, async |target| durable::name(&target.dir.join(layout::STATE_FILE)).await).await?;
    root.sync_filesystem().await.doing("sync the file system of", root.path())
}

async fn finish_one(target: &Target) -> Result<(), StorageError> {
    cut(target, true).await?;
    // The segments have their names before a state has its own that says so: the journal's bytes are not put in place again then.
    fs::sync_dir(&target.dir).await.doing("sync", &target.dir)?;
    durable::replace(&target.dir.join(layout::STATE_FILE), target.state_file(), true).await?;
    fs::sync_dir(&target.dir).await.doing("sync", &target.dir)
}

/// Each segment that was written to ends where its bytes end.
async fn cut(target: &Target, synced: bool) -> Result<(), StorageError> {
    for (segment, end) in &target.ends {
        let path = target.dir.join(layout::index_name(*segment));
        if !is_true(&path, &target.dir.join(layout::segment_name(*segment)), *end).await? {
            durable::remove(&path).await?;
        }
    }
    if let Some(first) = target.ends.keys().min() {
        index_heads::forget_heads(&target.dir, *first).await?;
    }
    for (segment, end) in target.ends.iter().filter(|_| !target.state_only) {
        let path = target.dir.join(layout::segment_name(*segment));
        let file = File::open(&path, OpenOptions::read_write().create(true)).await.doing("open", &path)?;
        if file.len().await.doing("look at", &path)? != u64::from(*end) {
            file.set_len((*end).into()).await.doing("cut", &path)?;
        }
        if synced {
            file.sync_all().await.doing("sync", &path)?;
        }
    }
    Ok(())
}

/// False if the index at `path` may be of what its segment held before.
async fn is_true(path: &Path, segment: &Path, end: u32) -> Result<bool, StorageError> {
    let Some(IndexHead { covers, .. }) = IndexHead::read(path).await? else { return Ok(false) };
    if covers.covered > end {
        return Ok(false);
    }
    let file = match File::open(segment, OpenOptions::read_only()).await {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        other => other.doing("open", segment)?,
    };
    let header = file.read_at(covers.last_batch.position.into(), HEADER_BYTES).await.doing("read", segment)?;
    Ok(BatchHeader::parse(&header).is_ok_and(|header| covers.is_end_of(&header)))
}
