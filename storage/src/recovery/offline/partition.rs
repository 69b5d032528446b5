//! One partition: what a start would make of it, and whether all of that is sound.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::journals::Journals;
use super::segment::{Place, Walk, check_segment};
use super::{Findings, list, read};
use crate::compaction::standing;
use crate::data_dir::DataDirError;
use crate::error::StorageError;
use crate::layout;
use crate::log::load::decode_state;
use crate::log::state::PartitionState;
use crate::model::{Offset, PartitionKey};
use crate::producer_state::ProducerTable;
use crate::record::Batches;
use crate::recovery::decision::log::{self as log_table, Decision as LogDecision};
use crate::recovery::decision::partition::{self as table, Decision, Directory, Ledger};
use crate::recovery::plan::{Plan, not_in_files, synced_ends};
use crate::segment::{index_heads, txn_index};

/// The files of a partition.
#[derive(Default)]
struct Found {
    segments: BTreeMap<Offset, u64>,
    /// Compacted segments that are about to take the place of those from their base offset to before another.
    swaps: BTreeMap<Offset, (Offset, PathBuf)>,
    state: Option<Vec<u8>>,
}

pub(super) fn check(
    dir: &Path,
    key: PartitionKey,
    mut plan: Plan,
    journals: &Journals,
    findings: &mut Findings<'_>,
) -> Result<(), DataDirError> {
    if plan.deleted {
        findings.note(dir, "deleted: the next start removes it");
        return Ok(());
    }
    plan.drop_incomplete();
    let in_journal = plan.base.is_some() || plan.vote.is_some() || !plan.extents.is_empty();
    let found = look(dir, findings)?;
    let state_path = dir.join(layout::STATE_FILE);
    if plan.base.is_none() {
        match found.state.as_ref().map(|bytes| decode_state(key, &state_path, bytes)) {
            Some(Ok(state)) => plan.begin_with_file(state),
            Some(Err(error)) => {
                let reason = match &error {
                    StorageError::Corrupt { reason, .. } => reason.to_string(),
                    other => other.to_string(),
                };
                findings.damage(&state_path, None, reason);
                return Ok(());
            }
            None => {
                let bytes = found.segments.values().any(|len| *len > 0);
                let directory = match (bytes, dir.exists()) {
                    (true, _) => Directory::Stateless,
                    (false, true) => Directory::Empty,
                    (false, false) => Directory::Absent,
                };
                let ledger = if journals.named.contains(&key) { Ledger::Named } else { Ledger::Unnamed };
                let row = table::decide(directory, ledger);
                match row.then {
                    Decision::Fence => findings.damage(dir, None, row.why),
                    Decision::Create | Decision::Load => findings.note(dir, row.why),
                }
                return Ok(());
            }
        }
    }
    let Some(state) = plan.base.take() else { return Ok(()) };
    if in_journal && !plan.has_begun(&state) {
        findings.note(dir, "never used: the next start makes it again");
        return Ok(());
    }
    check_log(dir, &state, plan, in_journal, &found, journals, findings)
}

/// Lists the files, and looks into those that stand for themselves.
fn look(dir: &Path, findings: &mut Findings<'_>) -> Result<Found, DataDirError> {
    let mut found = Found::default();
    for (name, path) in list(dir)? {
        if let Some(base) = layout::parse_offset(&name, ".log") {
            found.segments.insert(base, std::fs::metadata(&path).map_err(super::failed(&path))?.len());
        } else if let Some((base, end)) = layout::parse_swap(&name) {
            findings.note(&path, "a compaction that was cut short: the next start finishes it");
            found.swaps.insert(base, (end, path));
        } else if name == layout::STATE_FILE {
            found.state = read(&path)?;
        } else if name == layout::INDEXES_FILE {
            let bytes = read(&path)?.unwrap_or_default();
            if let Err(error) = index_heads::decode(&bytes) {
                findings.note(&path, format!("{error}: it is made again"));
            }
        } else if name == layout::CLEANER_FILE {
            if let Err(error) = standing::decode(&read(&path)?.unwrap_or_default()) {
                findings.note(&path, format!("{error}: compaction begins anew"));
            }
        } else if layout::parse_offset(&name, ".snap").is_some() {
            let bytes = read(&path)?.unwrap_or_default();
            if let Err(error) = ProducerTable::decode(&mut &bytes[..]) {
                findings.note(&path, format!("{error}: the producers are found in the log again"));
            }
        } else if layout::parse_offset(&name, layout::TXN_INDEX_SUFFIX).is_some() {
            if let Err(reason) = txn_index::decode(&read(&path)?.unwrap_or_default()) {
                findings.note(&path, format!("{reason}: it is made from the log again"));
            }
        } else if name.to_str().is_some_and(|name| name.ends_with(".checkpoint")) {
            check_snapshot(&path, findings)?;
        }
    }
    for (base, (end, path)) in &found.swaps {
        found.segments.retain(|other, _| other < base || other >= end);
        found.segments.insert(*base, std::fs::metadata(path).map_err(super::failed(path))?.len());
    }
    Ok(found)
}

/// A snapshot of the metadata: a run of batches.
fn check_snapshot(path: &Path, findings: &mut Findings<'_>) -> Result<(), DataDirError> {
    let bytes = Bytes::from(read(path)?.unwrap_or_default());
    let mut position = 0;
    for batch in Batches::new(bytes) {
        let sound = batch.and_then(|(header, bytes)| header.verify_crc(&bytes).map(|()| bytes.len()));
        match sound {
            Ok(size) => position += size as u64,
            Err(error) => {
                findings.damage(path, Some(position), error.to_string());
                break;
            }
        }
    }
    Ok(())
}

fn check_log(
    dir: &Path,
    state: &PartitionState,
    plan: Plan,
    in_journal: bool,
    found: &Found,
    journals: &Journals,
    findings: &mut Findings<'_>,
) -> Result<(), DataDirError> {
    let path = |base: Offset| match found.swaps.get(&base) {
        Some((_, swap)) => swap.clone(),
        None => dir.join(layout::segment_name(base)),
    };
    // As replay would leave it.
    let mut ends = BTreeMap::from([state.synced]);
    for extent in &plan.extents {
        let end = ends.entry(extent.segment).or_insert(0);
        *end = extent.end().max(*end);
    }
    let durable = match in_journal {
        true => ends.last_key_value().map_or(state.durable, |(base, end)| (*base, *end)).max(state.end.place()),
        false => state.durable,
    };
    let place = |base: Offset, len: u64| match ends.get(&base).filter(|_| in_journal) {
        Some(end) if base != durable.0 => u64::from(*end),
        _ if base == durable.0 => u64::from(durable.1),
        _ => len,
    };
    let mut bases: BTreeMap<Offset, u64> =
        found.segments.range(state.first_segment..=durable.0).map(|(base, len)| (*base, *len)).collect();
    for extent in plan.extents.iter().filter(|extent| extent.segment >= state.first_segment) {
        bases.entry(extent.segment).or_insert(0);
    }
    let log_state = if state.clean && !in_journal { log_table::State::Clean } else { log_table::State::Unclean };
    let long = found.segments.iter().find_map(|(base, len)| match base.cmp(&durable.0) {
        std::cmp::Ordering::Less => None,
        std::cmp::Ordering::Equal => (*len > u64::from(durable.1)).then_some((*base, u64::from(durable.1))),
        std::cmp::Ordering::Greater => (*len > 0).then_some((*base, 0)),
    });
    if let Some((base, position)) = long {
        let row = log_table::decide(log_state, log_table::Segments::Long, log_table::Batches::Unread);
        if row.then == LogDecision::Fence {
            findings.damage(&path(base), Some(position), row.why);
        }
    }
    for base in [state.first_segment, durable.0] {
        bases.entry(base).or_insert_with(|| {
            findings.damage(&path(base), None, "the segment file is missing");
            0
        });
    }
    let replayed = if in_journal { synced_ends(state, &plan.extents) } else { BTreeMap::new() };
    let least = |base: Offset| match in_journal && ends.contains_key(&base) {
        true => replayed.get(&base).copied().unwrap_or(0),
        false => state.reached().filter(|(segment, _)| *segment == base).map(|(_, end)| end).max().unwrap_or(0),
    };
    let is_short = |(base, end): (&Offset, &u32)| found.segments.get(base).is_none_or(|len| *len < u64::from(*end));
    // Then a replay leaves all the bytes where they are.
    let extents = if replayed.iter().any(is_short) { Vec::new() } else { not_in_files(plan.extents) };
    let mut walk = Walk::default();
    let order: Vec<(Offset, u64)> = bases.into_iter().collect();
    for (n, (base, len)) in order.iter().enumerate() {
        let segment = Place {
            path: path(*base),
            key: state.key,
            base: *base,
            len: *len,
            end: place(*base, *len),
            least: least(*base).into(),
            next: order.get(n + 1).map(|(next, _)| *next),
            state,
        };
        let extents: Vec<_> = extents.iter().filter(|e| e.segment == *base).copied().collect();
        check_segment(&segment, &extents, &files(journals), &mut walk, findings)?;
    }
    Ok(())
}

fn files(journals: &Journals) -> Vec<&PathBuf> {
    journals.files.iter().collect()
}
