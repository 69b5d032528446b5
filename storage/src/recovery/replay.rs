//! Bringing what a journal says to the segment and state files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use core_pinning::disk::fs;
use core_pinning::{File, OpenOptions};
use futures::StreamExt;

use super::decision::replay::{self as table, Decision, Records, StateFile, Synced};
use super::plan::{Extent, Plan, Plans, ends, not_in_files, synced_ends};
use super::{RecoveryReport, finish};
use crate::durable::IN_FLIGHT;
use crate::error::{Doing, StorageError};
use crate::journal::record::FileId;
use crate::journal::scan;
use crate::layout;
use crate::log::load::decode_state;
use crate::log::state::PartitionState;
use crate::map::HashMap;
use crate::model::{Offset, PartitionKey};
use crate::store::partitions::remove_partition_dir;

/// Bytes of one segment written together.
const WRITE_BYTES: usize = 1 << 20;

/// A partition to bring up to date.
pub(super) struct Target {
    pub(super) dir: PathBuf,
    state: PartitionState,
    /// Those whose bytes are to be put in place.
    extents: Vec<Extent>,
    /// How many of the extents are in place.
    done: usize,
    /// Where each touched segment ends.
    pub(super) ends: BTreeMap<Offset, u32>,
    /// The bytes stay where they are: a segment is shorter than it was, and opening will say so.
    pub(super) state_only: bool,
}

impl Target {
    fn has_extents_in(&self, file: usize) -> bool {
        self.extents.get(self.done).is_some_and(|extent| extent.file == file)
    }

    pub(super) fn state_file(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.state.encode(&mut bytes);
        bytes
    }
}

/// What is to be done for a partition.
enum Found {
    Target(Box<Target>),
    /// Its records are left alone.
    Orphan(PartitionKey),
    /// It is gone, or was never there.
    Removed(PartitionKey),
}

/// Returns the partitions that exist.
pub(super) async fn replay(
    data_dir: &Path,
    plans: Plans,
    files: &[(FileId, PathBuf)],
    reader: &mut scan::FileReader,
    dirs: &HashMap<PartitionKey, PathBuf>,
    report: &mut RecoveryReport,
) -> Result<Vec<PartitionKey>, StorageError> {
    report.partitions.extend(plans.0.keys());
    let finding = plans.0.into_iter().map(|(key, plan)| target(data_dir, key, plan, dirs.get(&key)));
    let found: Vec<Result<Found, StorageError>> =
        futures::stream::iter(finding).buffer_unordered(IN_FLIGHT).collect().await;
    let mut targets = Vec::new();
    for found in found {
        match found? {
            Found::Target(target) => targets.push(*target),
            Found::Orphan(key) => report.orphans.push(key),
            Found::Removed(key) => report.removed.push(key),
        }
    }
    let known = targets.iter().map(|target| target.state.key).chain(report.orphans.iter().copied()).collect();
    for (number, (_, path)) in files.iter().enumerate() {
        let to_write = |t: &&mut Target| !t.state_only && t.has_extents_in(number);
        if !targets.iter_mut().any(|t| to_write(&t)) {
            continue;
        }
        let bytes = reader.read(path).await?;
        let writes = targets.iter_mut().filter(to_write).map(|target| write_extents(target, number, bytes));
        let written: Vec<Result<u64, StorageError>> =
            futures::stream::iter(writes).buffer_unordered(IN_FLIGHT).collect().await;
        for bytes in written {
            report.bytes += bytes?;
        }
    }
    finish::finish(&layout::partitions_root(data_dir), targets).await?;
    Ok(known)
}

async fn target(
    data_dir: &Path,
    key: PartitionKey,
    mut plan: Plan,
    dir: Option<&PathBuf>,
) -> Result<Found, StorageError> {
    plan.drop_incomplete();
    let file = begin_with_file(key, &mut plan, dir).await?;
    let named =
        |state: &PartitionState| layout::partitions_root(data_dir).join(layout::partition_dir_name(&state.topic, key));
    let place = dir.cloned().or(plan.base.as_ref().map(named)).unwrap_or_default();
    let synced = match &plan.base {
        Some(state) => find_synced(&place, state, &plan.extents).await?,
        None => Synced::There,
    };
    let row = table::decide(records(&plan, file), file, synced);
    match row.then {
        Decision::Restore | Decision::RestoreState => {
            if dir.is_none() {
                fs::create_dir_all(&place).await.doing("create", &place)?;
            }
            let Some(state) = plan.base.take() else { unreachable!("what is restored has a state") };
            Ok(Found::Target(Box::new(restored(place, state, plan, row.then == Decision::RestoreState))))
        }
        Decision::Remove => {
            if let Some(dir) = dir {
                remove_partition_dir(dir).await?;
            }
            Ok(Found::Removed(key))
        }
        Decision::Leave => {
            let bytes: u64 = plan.extents.iter().map(|extent| u64::from(extent.len)).sum();
            tracing::error!(partition = %key, bytes, reason = row.why, "records of the journal are not replayed");
            if let (StateFile::Damaged, Some(dir)) = (file, dir) {
                // It knows nothing of those records: were it read rightly the next time, or brought back, they would not be missed.
                let (path, aside) = (dir.join(layout::STATE_FILE), dir.join(layout::DAMAGED_STATE_FILE));
                fs::rename(&path, &aside).await.doing("rename", &path)?;
                fs::sync_dir(dir).await.doing("sync", dir)?;
            }
            Ok(Found::Orphan(key))
        }
    }
}

/// Where the journal has no state of the partition, the plan begins with that of its file.
async fn begin_with_file(key: PartitionKey, plan: &mut Plan, dir: Option<&PathBuf>) -> Result<StateFile, StorageError> {
    let Some(dir) = dir.filter(|_| plan.base.is_none() && !plan.deleted) else { return Ok(StateFile::Absent) };
    let path = dir.join(layout::STATE_FILE);
    let Some(bytes) = crate::durable::read(&path).await? else { return Ok(StateFile::Absent) };
    match decode_state(key, &path, &bytes) {
        Ok(state) => {
            plan.begin_with_file(state);
            Ok(StateFile::Intact)
        }
        Err(StorageError::Corrupt { .. }) => Ok(StateFile::Damaged),
        Err(error) => Err(error),
    }
}

/// What the journal says last. `file`: whether the plan's state is that of the file.
fn records(plan: &Plan, file: StateFile) -> Records {
    match &plan.base {
        _ if plan.deleted => Records::Deleted,
        None => Records::Bytes,
        Some(_) if file == StateFile::Intact => Records::Bytes,
        Some(state) if plan.has_begun(state) => Records::State,
        Some(_) => Records::Begun,
    }
}

fn restored(dir: PathBuf, mut state: PartitionState, plan: Plan, state_only: bool) -> Target {
    if plan.vote.is_some() {
        state.vote = plan.vote;
    }
    let ends = ends(&state, &plan.extents);
    let durable = ends.last_key_value().map_or(state.durable, |(segment, end)| (*segment, *end));
    (state.clean, state.durable) = (false, durable.max(state.end.place()));
    if !state_only {
        state.synced = state.durable;
    }
    Target { dir, state, extents: not_in_files(plan.extents), done: 0, ends, state_only }
}

/// Whether the files are as long as the state says, and the records of large appends.
async fn find_synced(dir: &Path, state: &PartitionState, extents: &[Extent]) -> Result<Synced, StorageError> {
    for (segment, end) in synced_ends(state, extents) {
        let path = dir.join(layout::segment_name(segment));
        let len = match fs::metadata(&path).await {
            Ok(metadata) => metadata.len,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => 0,
            Err(error) => return Err(StorageError::io("look at", &path, &error)),
        };
        if len < u64::from(end) {
            return Ok(Synced::Short);
        }
    }
    Ok(Synced::There)
}

/// Writes the target's extents that are in the journal file `number`, those that follow each other together.
async fn write_extents(target: &mut Target, number: usize, journal: &[u8]) -> Result<u64, StorageError> {
    let mut written = 0;
    let mut open: Option<(Offset, File)> = None;
    while let Some(first) = target.extents.get(target.done).filter(|e| e.file == number) {
        let (segment, position) = (first.segment, first.position);
        let mut bytes: Vec<u8> = Vec::new();
        while let Some(next) = target.extents.get(target.done) {
            let follows = next.file == number
                && next.segment == segment
                && next.position as usize == position as usize + bytes.len()
                && (bytes.is_empty() || bytes.len() + next.len as usize <= WRITE_BYTES);
            if !follows {
                break;
            }
            bytes.extend_from_slice(journal.get(next.at..next.at + next.len as usize).unwrap_or_default());
            target.done += 1;
        }
        written += bytes.len() as u64;
        let path = target.dir.join(layout::segment_name(segment));
        let file = match &open {
            Some((of, file)) if *of == segment => file.clone(),
            _ => {
                let options = OpenOptions::read_write().create(true);
                let file = File::open(&path, options).await.doing("open", &path)?;
                open = Some((segment, file.clone()));
                file
            }
        };
        file.write_at(position.into(), bytes).await.doing("write", &path)?;
        core_pinning::yield_if_needed().await;
    }
    Ok(written)
}
