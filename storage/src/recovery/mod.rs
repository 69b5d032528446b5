//! After a crash: the journals' records go to their places in the segment files.
//!
//! Each shard finds the journals of the old shards whose number, modulo the shards there are now, is its own. If none of any shard
//! is refused, all shards replay theirs; when all have, the stores open (`Store::open`) and each partition is opened by whoever
//! owns it now (`Store::load`, which checks what was replayed). Replaying twice gives the same: a crash on the way is recovered
//! from by starting over.
//!
//! What is done with what is found is written down in [`decision`], in prose and as data.
//!
//! "Put in place": written at their positions, each segment touched cut to where its bytes end (what is behind was never
//! durable), synced, its index removed (it may be of what stood there before), and a state file written whose durable end is
//! that of the last byte. Segments before the log's first or behind its last one are removed when it is opened. Then the shard's
//! ledger says that the journal is not needed any more, and the journal goes.

pub(crate) mod decision;
mod find;
mod finish;
pub(crate) mod offline;
mod plan;
mod replay;

use std::path::Path;

use core_pinning::disk::fs;
use core_pinning::{File, OpenOptions, ShardId};

use crate::error::{Doing, StorageError};
use crate::journal::retire;
use crate::layout;
use crate::ledger::{self, LedgerState};
use crate::map::HashMap;
use crate::model::PartitionKey;
use crate::sealed;
use crate::store::partitions::remove_dir_all;
use decision::directory_name::{self, Decision as Fate, Metadata, Name};
use find::{FoundJournal, Records};
pub use find::{FoundJournals, find_journals};

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

/// Finds the journals that fall to shard `my` of `shards`, and replays them: for a process of one shard.
pub async fn recover_journals(data_dir: &Path, my: ShardId, shards: usize) -> Result<RecoveryReport, StorageError> {
    find_journals(data_dir, my, shards).await?.replay().await
}

impl FoundJournals {
    /// Puts what they hold in place. All shards must have done so before any opens its store.
    pub async fn replay(mut self) -> Result<RecoveryReport, StorageError> {
        let partitions = layout::partitions_root(&self.data_dir);
        if self.my.index() == 0 {
            for entry in fs::read_dir(&partitions).await.doing("list", &partitions)? {
                if entry.is_dir && directory_name::decide(Name::of(&entry.name), Metadata::Unread).then == Fate::Remove
                {
                    remove_dir_all(&partitions.join(&entry.name)).await?;
                }
            }
        }
        let mut report = RecoveryReport::default();
        for journal in std::mem::take(&mut self.journals) {
            self.replay_one(journal, &mut report).await?;
        }
        Ok(report)
    }

    async fn replay_one(&mut self, journal: FoundJournal, report: &mut RecoveryReport) -> Result<(), StorageError> {
        let (data_dir, shards) = (&self.data_dir, self.shards);
        let FoundJournal { shard, mut ledger, files, records } = journal;
        if let Some(Records { plans, count }) = records {
            report.unclean = true;
            report.records += count;
            let directories = partition_dirs(data_dir).await?;
            let known = replay::replay(data_dir, plans, &files, &mut self.reader, &directories, report).await?;
            ledger.partitions.extend(known);
            for key in &report.removed {
                ledger.partitions.remove(key);
            }
            // Before the journal goes: a start that finds no journal must still know.
            mark_unclean(data_dir, shards).await?;
        }
        ledger.journal = None;
        keep(data_dir, shard, shards, ledger).await?;
        let dir = layout::journal_dir(data_dir, shard);
        let ids: Vec<_> = files.iter().map(|(id, _)| *id).collect();
        retire::retire(&dir, &ids).await?;
        if usize::from(shard) >= shards {
            remove_dir_all(&dir).await?;
        }
        Ok(())
    }
}

/// Writes the ledger of a shard whose journal is not needed any more; that of a shard that is no more joins another's.
async fn keep(data_dir: &Path, shard: u16, shards: usize, ledger: LedgerState) -> Result<(), StorageError> {
    if usize::from(shard) < shards {
        return ledger.write(data_dir, shard).await;
    }
    let heir = (usize::from(shard) % shards.max(1)) as u16;
    // A damaged one has been refused.
    let mut joint = match ledger::read(data_dir, heir).await? {
        Some(Ok(joint)) => joint,
        None => LedgerState::default(),
        Some(Err(_)) => return Ok(()),
    };
    joint.partitions.extend(ledger.partitions);
    joint.write(data_dir, heir).await?;
    crate::durable::remove(&layout::ledger(data_dir, shard)).await?;
    // The journal goes next: a loss of power must not bring back a ledger that names its files.
    let root = layout::ledger_root(data_dir);
    fs::sync_dir(&root).await.doing("sync", &root)
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
    sealed::seal(UNCLEAN, 0, &[], &mut mark);
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

const UNCLEAN: [u8; 4] = *b"CLUN";

/// Whether the mark is what was written; that it is there says all.
pub(crate) fn decode_unclean(mut bytes: &[u8]) -> Result<(), sealed::SealError> {
    sealed::open(UNCLEAN, 0, &mut bytes).map(drop)
}
