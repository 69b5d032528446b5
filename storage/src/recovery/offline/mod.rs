//! Looking through a data directory that no broker runs on, without changing anything.
//!
//! Every file is read: the ledgers, the journals, and of each partition the state file, the segments, their indexes and the
//! producers' snapshots. What a replay of the journals would put in place is taken into account, so that a directory is as sound
//! after a kill as after a stop. Blocks: to be called where no shard runs.
#![deny(clippy::unwrap_used, clippy::indexing_slicing)]

pub(crate) mod describe;
mod journals;
mod partition;
mod segment;
pub(crate) mod walk;

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use hashbrown::HashSet;

use crate::data_dir::{DataDirError, LOCK, LockHolder, data_dir_cluster_id};
use crate::layout;
use crate::model::PartitionKey;

/// What a finding means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Severity {
    /// Something that was durable is not what it was.
    Damage,
    /// Nothing is lost: a shortcut that is made again, or what a start clears away.
    Note,
}

/// Something that was found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    pub severity: Severity,
    pub path: PathBuf,
    /// Byte in the file, where there is a place.
    pub position: Option<u64>,
    pub what: String,
}

/// What was looked at.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct CheckReport {
    pub partitions: u64,
    pub segments: u64,
    pub batches: u64,
    /// Bytes of segments.
    pub bytes: u64,
    /// Records in journals that have not been replayed.
    pub journal_records: u64,
    pub damaged: u64,
    pub notes: u64,
}

/// Takes findings as they are made.
struct Findings<'a> {
    report: CheckReport,
    tell: &'a mut dyn FnMut(Finding),
}

impl Findings<'_> {
    fn damage(&mut self, path: &Path, position: Option<u64>, what: impl Into<String>) {
        self.report.damaged += 1;
        (self.tell)(Finding { severity: Severity::Damage, path: path.to_owned(), position, what: what.into() });
    }

    fn note(&mut self, path: &Path, what: impl Into<String>) {
        self.report.notes += 1;
        (self.tell)(Finding { severity: Severity::Note, path: path.to_owned(), position: None, what: what.into() });
    }
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> DataDirError + use<> {
    let path = path.to_owned();
    move |source| DataDirError::Io { path, source }
}

/// Checks the data directory at `path`; `tell` hears of each finding. Refused while a broker runs on it.
pub fn check_data_dir(path: &Path, tell: &mut dyn FnMut(Finding)) -> Result<CheckReport, DataDirError> {
    let _lock = lock(path)?;
    let mut findings = Findings { report: CheckReport::default(), tell };
    match data_dir_cluster_id(path) {
        Ok(Some(_)) => {}
        Ok(None) => {
            let source = io::Error::new(io::ErrorKind::NotFound, "no meta.properties: not a data directory");
            return Err(DataDirError::Io { path: path.to_owned(), source });
        }
        Err(DataDirError::Damaged { path, reason }) => findings.damage(&path, None, reason),
        Err(error) => return Err(error),
    }
    let mut journals = journals::read_journals(path, &mut findings)?;
    let root = layout::partitions_root(path);
    let mut found: HashSet<PartitionKey> = HashSet::new();
    for (name, dir) in list(&root)? {
        match layout::parse_partition_dir(&name) {
            Some(key) => {
                found.insert(key);
                findings.report.partitions += 1;
                let plan = journals.plans.0.remove(&key).unwrap_or_default();
                partition::check(&dir, key, plan, &journals, &mut findings)?;
            }
            None if dir.is_dir() => findings.note(&dir, "not a partition in use"),
            None => {}
        }
    }
    let begun = journals.plans.0.iter().filter(|(_, plan)| plan.base.is_some()).map(|(key, _)| *key);
    let begun: Vec<PartitionKey> = begun.collect();
    for key in begun {
        // The journal has all of it: as for one whose directory is there and empty.
        let Some(plan) = journals.plans.0.remove(&key) else { continue };
        let Some(topic) = plan.base.as_ref().map(|state| state.topic.clone()) else { continue };
        found.insert(key);
        partition::check(&root.join(layout::partition_dir_name(&topic, key)), key, plan, &journals, &mut findings)?;
    }
    for key in journals.named.iter().filter(|key| !found.contains(*key)) {
        findings.damage(&root, None, format!("the directory of partition {key}, which was created, is gone"));
    }
    Ok(findings.report)
}

/// Keeps a broker from starting meanwhile.
fn lock(path: &Path) -> Result<Option<File>, DataDirError> {
    fs::metadata(path).map_err(failed(path))?;
    let lock_path = path.join(LOCK);
    let lock = match File::open(&lock_path) {
        Ok(lock) => lock,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(DataDirError::Io { path: lock_path, source }),
    };
    match lock.try_lock() {
        Ok(()) => Ok(Some(lock)),
        Err(TryLockError::WouldBlock) => {
            Err(DataDirError::InUse { path: path.to_owned(), holder: LockHolder::read(&lock_path) })
        }
        Err(TryLockError::Error(source)) => Err(DataDirError::Io { path: lock_path, source }),
    }
}

/// Names and paths in a directory, in order; none if it is not there.
fn list(dir: &Path) -> Result<Vec<(std::ffi::OsString, PathBuf)>, DataDirError> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(failed(dir))?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed(dir))?;
        found.push((entry.file_name(), entry.path()));
    }
    found.sort();
    Ok(found)
}

/// The bytes of a small file; `None` if it is not there.
fn read(path: &Path) -> Result<Option<Vec<u8>>, DataDirError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(DataDirError::Io { path: path.to_owned(), source }),
    }
}
