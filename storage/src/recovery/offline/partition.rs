//! One partition: what a start would make of it, and whether all of that is sound.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::describe::{DescribeError, describe};
use super::expected::Expected;
use super::journals::Journals;
use super::segment::{Place, Walk, check_segment};
use super::{Findings, list, metadata, producers, read};
use crate::data_dir::DataDirError;
use crate::error::StorageError;
use crate::file_kind::FileKind;
use crate::layout;
use crate::log::load::decode_state;
use crate::log::state::PartitionState;
use crate::model::{Offset, PartitionKey};
use crate::recovery::decision::log::Decision as LogDecision;
use crate::recovery::decision::partition::{self as table, Decision, Directory, Ledger};
use crate::recovery::plan::Plan;
use crate::segment::index_file::Covers;
use crate::segment::index_heads;

/// The files of a partition.
#[derive(Default)]
struct Found {
    segments: BTreeMap<Offset, u64>,
    /// Compacted segments that are about to take the place of those from their base offset to before another.
    swaps: BTreeMap<Offset, (Offset, PathBuf)>,
    state: Option<Vec<u8>>,
    /// From the file with the heads of all indexes.
    heads: BTreeMap<Offset, Covers>,
    /// Snapshots of the producers, by the offsets that they are of.
    producers: BTreeSet<Offset>,
    /// Of the metadata, by the offsets that they end at.
    snapshots: BTreeMap<Offset, PathBuf>,
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
        let Some(kind) = FileKind::of(&path) else { continue };
        match kind {
            FileKind::Segment => {
                let Some(base) = layout::parse_offset(&name, ".log") else { continue };
                found.segments.insert(base, std::fs::metadata(&path).map_err(super::failed(&path))?.len());
            }
            FileKind::Swap => {
                let Some((base, end)) = layout::parse_swap(&name) else { continue };
                findings.note(&path, "a compaction that was cut short: the next start finishes it");
                found.swaps.insert(base, (end, path));
            }
            FileKind::State => found.state = read(&path)?,
            FileKind::Snapshot => {
                metadata::check_snapshot(&path, findings)?;
                found.snapshots.extend(layout::parse_snapshot(&name).map(|end| (end, path)));
            }
            FileKind::Index | FileKind::Indexes | FileKind::Aborted | FileKind::Cleaner | FileKind::Producers => {
                check_shortcut(&path, kind, findings)?;
                if kind == FileKind::Producers {
                    found.producers.extend(layout::parse_offset(&name, ".snap"));
                }
                if kind == FileKind::Indexes
                    && let Ok((_, heads)) = index_heads::decode(&read(&path)?.unwrap_or_default())
                {
                    found.heads.extend(heads.iter().map(|head| (head.covers.base_offset, head.covers)));
                }
            }
            FileKind::Cleaned | FileKind::Deleted | FileKind::Unfinished => {
                findings.note(&path, "left over: the next start removes it");
            }
            FileKind::DamagedState => findings.note(&path, "a start has moved it here: it was damaged"),
            _ => findings.note(&path, "in a place where a broker puts no such file"),
        }
    }
    for (base, (end, path)) in &found.swaps {
        found.segments.retain(|other, _| other < base || other >= end);
        found.segments.insert(*base, std::fs::metadata(path).map_err(super::failed(path))?.len());
    }
    Ok(found)
}

/// What a broker makes again from the log. Whether it is true of the log is looked at with the segments.
fn check_shortcut(path: &Path, kind: FileKind, findings: &mut Findings<'_>) -> Result<(), DataDirError> {
    match describe(kind, &read(path)?.unwrap_or_default()) {
        Err(DescribeError::Damaged(what)) => findings.rebuilt(path, None, what),
        Err(DescribeError::Io(source)) => return Err(DataDirError::Io { path: path.to_owned(), source }),
        Ok(_) => {}
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
    let expected = Expected::new(state, plan, in_journal, &found.segments);
    if let Some(((base, position), row)) = expected.too_long(&found.segments)
        && row.then == LogDecision::Fence
    {
        findings.damage(&path(base), Some(position.into()), row.why);
    }
    let (segments, missing) = expected.segments(&found.segments);
    missing.iter().for_each(|base| findings.damage(&path(*base), None, "the segment file is missing"));
    let kept = producers::kept(dir, state, &found.producers, &segments);
    let mut walk = Walk::default();
    for (n, (base, len)) in segments.iter().enumerate() {
        let segment = Place {
            dir,
            path: path(*base),
            key: state.key,
            base: *base,
            len: *len,
            end: expected.end(*base, *len),
            least: expected.least(*base).into(),
            next: segments.get(n + 1).map(|(next, _)| *next),
            is_closed: state.clean && !in_journal,
            head: found.heads.get(base).map(|covers| (dir.join(layout::INDEXES_FILE), *covers)),
            producers: &kept,
            state,
        };
        let extents: Vec<_> = expected.extents.iter().filter(|e| e.segment == *base).copied().collect();
        check_segment(&segment, &extents, &journals.files, &mut walk, findings)?;
    }
    metadata::check_log(dir, state, &found.snapshots, walk.end(), findings);
    Ok(())
}
