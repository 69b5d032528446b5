//! After a crash: the journals' records go to their places in the segment files.
//!
//! Each shard replays the journals of the old shards whose number, modulo the shards there are now, is its own; when all have,
//! the stores open (`Store::open`) and each partition is opened by whoever owns it now (`Store::load`, which checks what was
//! replayed). Replaying twice gives the same: a crash on the way is recovered from by starting over.
//!
//! What a partition is after replay, by what is found of it:
//!
//! | in the journal                        | on the disk             | then                                                             |
//! |---------------------------------------|-------------------------|------------------------------------------------------------------|
//! | nothing                               | anything                | left alone: its state file and segments say all                  |
//! | last: deleted                         | a directory, or none    | removed                                                          |
//! | a state without any bytes yet         | a directory, or none    | removed: its creation was never acknowledged                     |
//! | a state                               | a directory, or none    | that state; bytes that follow its synced place, put in place     |
//! | bytes or votes, no state              | a state file            | the file's state; bytes that follow its synced place, put in place |
//! | bytes or votes, no state              | no state file           | ignored, reported: an operator took the partition away           |
//! | a state                               | a segment shorter than its synced place | left; opening it reports `Corrupt`               |
//! | a large append                        | its bytes, in the segment | kept: the record came after they were durable; opening checks their CRCs |
//! | a large append                        | a shorter segment, or none | left; opening it reports `Corrupt`                              |
//!
//! "Put in place": written at their positions, each segment touched cut to where its bytes end (what is behind was never
//! durable), synced, its index removed (it may be of what stood there before), and a state file written whose durable end is
//! that of the last byte. Segments before the log's first or behind its last one are removed when it is opened. Then the journal
//! goes.
//!
//! | directory in `data/`          | then                                    |
//! |-------------------------------|-----------------------------------------|
//! | `<...>-delete`                | removed (by shard 0)                    |
//! | without a state file          | left; `Store::create` clears and takes it |
//! | of another form               | left                                    |

mod plan;
mod replay;

use std::path::Path;

use core_pinning::disk::fs;
use core_pinning::{File, OpenOptions, ShardId};
use hashbrown::HashMap;

use crate::error::{Doing, StorageError};
use crate::journal::{retire, scan};
use crate::layout;
use crate::model::PartitionKey;
use crate::sealed;
use crate::store::partitions::remove_dir_all;
use plan::Plans;

/// What a shard's part of the recovery did.
#[derive(Clone, Debug, Default)]
pub struct RecoveryReport {
    /// A journal was found that had not been closed.
    pub unclean: bool,
    pub records: u64,
    /// Bytes put in place.
    pub bytes: u64,
    /// Partitions that had records.
    pub partitions: Vec<PartitionKey>,
    /// Partitions with records but without a state: ignored.
    pub orphans: Vec<PartitionKey>,
    /// Deletions, or creations that did not get far, that were finished or taken back.
    pub removed: Vec<PartitionKey>,
}

/// Replays the journals that fall to shard `my` of `shards`. All shards must have done so before any opens its store.
pub async fn recover_journals(data_dir: &Path, my: ShardId, shards: usize) -> Result<RecoveryReport, StorageError> {
    let (root, partitions) = (layout::journal_root(data_dir), layout::partitions_root(data_dir));
    fs::create_dir_all(&root).await.doing("create", &root)?;
    fs::create_dir_all(&partitions).await.doing("create", &partitions)?;
    if my.index() == 0 {
        for entry in fs::read_dir(&partitions).await.doing("list", &partitions)? {
            if entry.is_dir && entry.name.to_string_lossy().ends_with(layout::DELETE_DIR_SUFFIX) {
                remove_dir_all(&partitions.join(&entry.name)).await?;
            }
        }
    }
    let entries = fs::read_dir(&root).await.doing("list", &root)?;
    let old = entries.iter().filter(|e| e.is_dir).filter_map(|e| e.name.to_str()?.parse::<u16>().ok());
    let mut report = RecoveryReport::default();
    for shard in old.filter(|shard| usize::from(*shard) % shards.max(1) == my.index()) {
        recover_journal(data_dir, shard, shards, &mut report).await?;
    }
    Ok(report)
}

async fn recover_journal(
    data_dir: &Path,
    shard: u16,
    shards: usize,
    report: &mut RecoveryReport,
) -> Result<(), StorageError> {
    let dir = layout::journal_dir(data_dir, shard);
    let files = scan::live_files(&dir).await?;
    if !files.is_empty() {
        report.unclean = true;
        let mut scanner = scan::Scanner::default();
        let mut plans = Plans::default();
        for (number, (id, path)) in files.iter().enumerate() {
            let bytes = scan::read_file(path).await?;
            scanner.scan(*id, &bytes, |found, at| {
                report.records += 1;
                plans.take_in(found, number, at)
            })?;
            core_pinning::yield_if_needed().await;
        }
        let directories = partition_dirs(data_dir).await?;
        replay::replay(data_dir, plans, &files, &directories, report).await?;
        // Before the journal goes: a start that finds no journal must still know.
        mark_unclean(data_dir, shards).await?;
        let ids: Vec<_> = files.iter().map(|(id, _)| *id).collect();
        retire::retire(&dir, &ids).await?;
    }
    if usize::from(shard) >= shards {
        remove_dir_all(&dir).await?;
    }
    Ok(())
}

async fn partition_dirs(data_dir: &Path) -> Result<HashMap<PartitionKey, std::path::PathBuf>, StorageError> {
    let root = layout::partitions_root(data_dir);
    let entries = fs::read_dir(&root).await.doing("list", &root)?;
    let dirs = entries.iter().filter(|e| e.is_dir);
    Ok(dirs.filter_map(|e| Some((layout::parse_partition_dir(&e.name)?, root.join(&e.name)))).collect())
}

/// Tells every shard that now is that the last run ended without closing.
async fn mark_unclean(data_dir: &Path, shards: usize) -> Result<(), StorageError> {
    let mut mark = Vec::new();
    sealed::seal(*b"CLUN", 0, &[], &mut mark);
    for shard in 0..shards {
        let dir = layout::journal_dir(data_dir, shard as u16);
        fs::create_dir_all(&dir).await.doing("create", &dir)?;
        // Several shards may do this at a time, and all write the same.
        let path = dir.join(layout::UNCLEAN_MARK);
        let file = File::open(&path, OpenOptions::read_write().create(true)).await.doing("create", &path)?;
        file.write_at(0, mark.clone()).await.doing("write", &path)?;
        file.sync_all().await.doing("sync", &path)?;
        fs::sync_dir(&dir).await.doing("sync", &dir)?;
    }
    let root = layout::journal_root(data_dir);
    fs::sync_dir(&root).await.doing("sync", &root)
}
