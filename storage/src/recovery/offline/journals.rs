//! The ledgers and the journals.

use std::path::{Path, PathBuf};

use core_pinning::BLOCK;
use hashbrown::HashSet;

use super::{Findings, list, read};
use crate::data_dir::DataDirError;
use crate::journal::record::FileId;
use crate::journal::scan::Scanner;
use crate::journal::{file_name, parse_file_name, retire};
use crate::layout;
use crate::ledger::LedgerState;
use crate::model::PartitionKey;
use crate::recovery::decision::journal::{self, Decision, End, Files, Ledger};
use crate::recovery::plan::Plans;

/// What the journals of all shards say.
#[derive(Default)]
pub(super) struct Journals {
    pub(super) plans: Plans,
    /// By the number that the plans' extents have.
    pub(super) files: Vec<PathBuf>,
    /// Partitions that must be there.
    pub(super) named: HashSet<PartitionKey>,
}

fn shards(data_dir: &Path) -> Result<Vec<u16>, DataDirError> {
    let mut shards = Vec::new();
    for root in [layout::ledger_root(data_dir), layout::journal_root(data_dir)] {
        shards.extend(list(&root)?.into_iter().filter_map(|(name, _)| layout::parse_shard(&name)));
    }
    shards.sort_unstable();
    shards.dedup();
    Ok(shards)
}

pub(super) fn read_journals(data_dir: &Path, findings: &mut Findings<'_>) -> Result<Journals, DataDirError> {
    let mut journals = Journals::default();
    for shard in shards(data_dir)? {
        read_shard(data_dir, shard, &mut journals, findings)?;
    }
    let Journals { plans, named, .. } = &mut journals;
    for (key, plan) in &plans.0 {
        if plan.deleted || plan.base.as_ref().is_some_and(|state| !plan.has_begun(state)) {
            named.remove(key);
        }
    }
    Ok(journals)
}

fn read_shard(
    data_dir: &Path,
    shard: u16,
    journals: &mut Journals,
    findings: &mut Findings<'_>,
) -> Result<(), DataDirError> {
    let ledger_path = layout::ledger(data_dir, shard);
    let (ledger, state) = match read(&ledger_path)?.map(|bytes| LedgerState::decode(&bytes)) {
        None => (Ledger::Absent, LedgerState::default()),
        Some(Err(error)) => {
            findings.damage(&ledger_path, None, error.to_string());
            (Ledger::Damaged, LedgerState::default())
        }
        Some(Ok(state)) => (if state.journal.is_some() { Ledger::Open } else { Ledger::Closed }, state),
    };
    journals.named.extend(&state.partitions);
    let dir = layout::journal_dir(data_dir, shard);
    let replayed = read(&dir.join(layout::REPLAYED_MARK))?;
    let replayed = replayed.and_then(|bytes| retire::decode(&bytes).ok()).unwrap_or_default();
    let oldest = state.journal.map_or(0, |named| named.oldest);
    let (mut live, mut scanner): (Vec<(FileId, PathBuf)>, Scanner) = Default::default();
    let first_file = journals.files.len();
    let mut last = Vec::new();
    let mut missing =
        state.journal.map(|named| named.oldest..=named.newest).into_iter().flatten().collect::<HashSet<u64>>();
    for (name, path) in list(&dir)? {
        let Some(number) = name.to_str().and_then(parse_file_name).filter(|number| *number >= oldest) else { continue };
        let bytes = read(&path)?.unwrap_or_default();
        let id = match FileId::read_header(bytes.get(..BLOCK).unwrap_or(&bytes)) {
            Ok(id) => id.filter(|id| id.number == number && !replayed.contains(id)),
            Err(newer) => {
                findings.damage(&path, Some(0), format!("of format {newer}, which this release does not know"));
                None
            }
        };
        let Some(id) = id else { continue };
        missing.remove(&number);
        if state.journal.is_none() && live.last().is_some_and(|(last, _)| last.number + 1 != number) {
            live.clear();
        }
        let file = journals.files.len();
        journals.files.push(path.clone());
        live.push((id, path.clone()));
        let plans = &mut journals.plans;
        let records = &mut findings.report.journal_records;
        let scanned = scanner.scan(id, &bytes, |found, at| {
            *records += 1;
            plans.take_in(found, file, at)
        });
        if let Err(error) = scanned {
            findings.damage(&path, None, error.to_string());
        }
        if first_file + scanner.last_file() == file {
            last = bytes;
        }
    }
    let end = live.get(scanner.last_file()).cloned();
    let settled = state.journal.map_or(0, |named| named.settled);
    let lost = end.and_then(|(id, path)| Some((path, scanner.lost_in(id, &last, settled)?)));
    let files = match (missing.is_empty(), live.is_empty()) {
        (false, _) => Files::Missing,
        (true, true) => Files::None,
        (true, false) => Files::Whole,
    };
    let row = journal::decide(ledger, files, if lost.is_some() { End::Damaged } else { End::Proper });
    match row.then {
        Decision::Nothing | Decision::Replay | Decision::RefuseLedger | Decision::Impossible => {}
        Decision::RefuseMissing => {
            let path = missing.iter().min().map_or(dir.clone(), |number| dir.join(file_name(*number)));
            findings.damage(&path, None, format!("missing: {}", row.why));
        }
        Decision::RefuseDamaged => {
            let (path, position) = lost.unwrap_or((dir, 0));
            findings.damage(&path, Some(position as u64), row.why);
        }
    }
    Ok(())
}
