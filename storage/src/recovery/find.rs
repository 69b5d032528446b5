//! Reading the journals of the last run, and judging them. Nothing is changed.

use std::path::{Path, PathBuf};

use core_pinning::disk::fs;
use core_pinning::{File, OpenOptions, ShardId};

use super::decision::journal::{self, Decision, End, Files, Ledger};
use super::plan::Plans;
use crate::error::{Doing, StorageError};
use crate::journal::record::FileId;
use crate::journal::scan;
use crate::layout;
use crate::ledger::{self, LedgerState};

/// The journals of the last run that fall to one shard; none of them is refused.
pub struct FoundJournals {
    pub(super) data_dir: PathBuf,
    pub(super) my: ShardId,
    pub(super) shards: usize,
    pub(super) journals: Vec<FoundJournal>,
    /// Holds the last file that was read.
    pub(super) reader: scan::FileReader,
}

pub(super) struct FoundJournal {
    pub(super) shard: u16,
    /// As it was; empty where there was none.
    pub(super) ledger: LedgerState,
    pub(super) files: Vec<(FileId, PathBuf)>,
    /// To be put in place.
    pub(super) records: Option<Records>,
}

pub(super) struct Records {
    pub(super) plans: Plans,
    pub(super) count: u64,
}

/// Reads the journals that fall to shard `my` of `shards`. An error refuses the start: no shard may replay then, or what is brought
/// back later would come to what has gone on without it.
pub async fn find_journals(data_dir: &Path, my: ShardId, shards: usize) -> Result<FoundJournals, StorageError> {
    let (root, partitions) = (layout::journal_root(data_dir), layout::partitions_root(data_dir));
    fs::create_dir_all(&root).await.doing("create", &root)?;
    fs::create_dir_all(&partitions).await.doing("create", &partitions)?;
    fs::sync_dir(data_dir).await.doing("sync", data_dir)?;
    let entries = fs::read_dir(&root).await.doing("list", &root)?;
    let directories = entries.iter().filter(|e| e.is_dir).filter_map(|e| layout::parse_shard(&e.name));
    let mut old: Vec<u16> = directories.chain(ledger::shards(data_dir).await?).collect();
    old.sort_unstable();
    old.dedup();
    let mut reader = scan::FileReader::default();
    let mut journals = Vec::new();
    for shard in old.into_iter().filter(|shard| usize::from(*shard) % shards.max(1) == my.index()) {
        journals.push(find(data_dir, shard, &mut reader).await?);
    }
    Ok(FoundJournals { data_dir: data_dir.to_owned(), my, shards, journals, reader })
}

async fn find(data_dir: &Path, shard: u16, reader: &mut scan::FileReader) -> Result<FoundJournal, StorageError> {
    let dir = layout::journal_dir(data_dir, shard);
    fs::create_dir_all(&dir).await.doing("create", &dir)?;
    let kept = ledger::read(data_dir, shard).await?;
    let named = kept.as_ref().and_then(|kept| kept.as_ref().ok()?.journal);
    // Not even read if the ledger is closed: some of them may have gone, and the others alone would undo what came later.
    let live = match &kept {
        Some(Ok(state)) if state.journal.is_none() => scan::Live::default(),
        _ => scan::live_files(&dir, named).await?,
    };
    // What is read of a killed process' last writes must be as durable as what is done about it.
    for (_, path) in &live.files {
        let file = File::open(path, OpenOptions::read_only()).await.doing("open", path)?;
        file.sync_data().await.doing("sync", path)?;
    }
    if !live.files.is_empty() {
        fs::sync_dir(&dir).await.doing("sync", &dir)?;
    }
    let mut scanner = scan::Scanner::default();
    let mut records = Records { plans: Plans::default(), count: 0 };
    for (number, (id, path)) in live.files.iter().enumerate() {
        scanner.scan(*id, reader.read(path).await?, |found, at| {
            records.count += 1;
            records.plans.take_in(found, number, at)
        })?;
        core_pinning::yield_if_needed().await;
    }
    let lost = scanner.lost(&live.files, named.map_or(0, |named| named.settled), reader).await?;
    let row = journal::decide(
        match (&kept, named) {
            (None, _) => Ledger::Absent,
            (Some(Err(_)), _) => Ledger::Damaged,
            (Some(Ok(_)), None) => Ledger::Closed,
            (Some(Ok(_)), Some(_)) => Ledger::Open,
        },
        match (&live.missing, live.files.is_empty()) {
            (Some(_), _) => Files::Missing,
            (None, true) => Files::None,
            (None, false) => Files::Whole,
        },
        if lost.is_some() { End::Damaged } else { End::Proper },
    );
    let refuse = |path: &Path, what: String| {
        let reason = format!("{what}: {}", row.why).into();
        Err(StorageError::JournalLost { shard, path: path.to_string_lossy().into(), reason })
    };
    let records = match row.then {
        Decision::Nothing => None,
        Decision::Replay => Some(records),
        Decision::RefuseMissing => return refuse(live.missing.as_deref().unwrap_or(&dir), "it is missing".into()),
        Decision::RefuseDamaged => {
            let (path, position) = lost.unwrap_or((dir, 0));
            return refuse(&path, format!("damaged at position {position}"));
        }
        Decision::RefuseLedger => return refuse(&layout::ledger(data_dir, shard), "it is damaged".into()),
        Decision::Impossible => unreachable!("{}", row.why),
    };
    let ledger = kept.and_then(Result::ok).unwrap_or_default();
    Ok(FoundJournal { shard, ledger, files: live.files, records })
}
