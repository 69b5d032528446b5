//! The ledgers and the journals.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use core_pinning::BLOCK;
use hashbrown::HashSet;

use super::{Findings, failed, list, read};
use crate::data_dir::DataDirError;
use crate::journal::record::FileId;
use crate::journal::scan::{Candidate, Live, Scanner, choose};
use crate::journal::{parse_file_name, retire};
use crate::layout;
use crate::ledger::LedgerState;
use crate::model::PartitionKey;
use crate::recovery::decision::journal::{self, Decision, End, Files, Ledger};
use crate::recovery::decode_unclean;
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
        } else if plan.base.is_none() {
            // Used, so it was created: a replay that does not find its state says so.
            named.insert(*key);
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
    let mark = dir.join(layout::REPLAYED_MARK);
    let replayed = read(&mark)?.map(|bytes| retire::decode(&bytes)).unwrap_or(Ok(Vec::new()));
    let replayed = replayed.unwrap_or_else(|error| {
        findings.rebuilt(&mark, None, error.to_string());
        Vec::new()
    });
    let unclean = dir.join(layout::UNCLEAN_MARK);
    if let Some(Err(error)) = read(&unclean)?.map(|bytes| decode_unclean(&bytes)) {
        findings.rebuilt(&unclean, None, error.to_string());
    }
    let live = match ledger {
        Ledger::Closed => Live::default(),
        _ => live(&dir, &state, &replayed, findings)?,
    };
    let mut scanner = Scanner::default();
    let first_file = journals.files.len();
    // From the one on in which the records end.
    let mut last: Vec<Vec<u8>> = Vec::new();
    for (id, path) in &live.files {
        let bytes = read(path)?.unwrap_or_default();
        let file = journals.files.len();
        journals.files.push(path.clone());
        let plans = &mut journals.plans;
        let records = &mut findings.report.journal_records;
        let scanned = scanner.scan(*id, &bytes, |found, at| {
            *records += 1;
            plans.take_in(found, file, at)
        });
        if let Err(error) = scanned {
            findings.damage(path, None, error.to_string());
        }
        if first_file + scanner.last_file() == file {
            last.clear();
        }
        last.push(bytes);
    }
    let settled = state.journal.map_or(0, |named| named.settled);
    let ends = live.files.iter().enumerate().skip(scanner.last_file()).zip(&last);
    let lost = ends
        .into_iter()
        .find_map(|((number, (id, path)), bytes)| Some((path.clone(), scanner.lost_in(number, *id, bytes, settled)?)));
    let files = match (&live.missing, live.files.is_empty()) {
        (Some(_), _) => Files::Missing,
        (None, true) => Files::None,
        (None, false) => Files::Whole,
    };
    let row = journal::decide(ledger, files, if lost.is_some() { End::Damaged } else { End::Proper });
    match row.then {
        Decision::Nothing | Decision::Replay | Decision::RefuseLedger | Decision::Impossible => {}
        Decision::RefuseMissing => {
            let path = live.missing.unwrap_or(dir);
            findings.damage(&path, None, format!("missing: {}", row.why));
        }
        Decision::RefuseDamaged => {
            let (path, position) = lost.unwrap_or((dir, 0));
            findings.damage(&path, Some(position as u64), row.why);
        }
    }
    Ok(())
}

/// The files of a shard's journal, as a start chooses them.
fn live(
    dir: &Path,
    ledger: &LedgerState,
    replayed: &[FileId],
    findings: &mut Findings<'_>,
) -> Result<Live, DataDirError> {
    let mut candidates = Vec::new();
    for (name, path) in list(dir)? {
        let Some(number) = name.to_str().and_then(parse_file_name) else { continue };
        let mut head = Vec::new();
        let file = File::open(&path).map_err(failed(&path))?;
        (&file).take(BLOCK as u64).read_to_end(&mut head).map_err(failed(&path))?;
        let id = match FileId::read_header(&head) {
            Ok(id) => id,
            Err(newer) => {
                findings.damage(&path, Some(0), format!("of format {newer}, which this release does not know"));
                None
            }
        };
        let whole = file.metadata().map_err(failed(&path))?.len() >= FileId::stated_len(&head);
        candidates.push(Candidate { number, path, id, whole });
    }
    Ok(choose(dir, candidates, ledger.journal, replayed))
}
