//! Looking through a data directory that no broker runs on, without changing anything.
//!
//! Every file is read that counts: the ledgers, the journals, and of each partition the state file, the segments, and against those
//! their indexes, the aborted transactions, the producers and the snapshots of the metadata. What a replay of the journals would put
//! in place is taken into account, so that a directory is as sound after a kill as after a stop. Which kinds of files there are, and what damage to each means, is
//! a table: [`FileKind`]. Blocks: to be called where no shard runs.
#![deny(clippy::unwrap_used, clippy::indexing_slicing)]

mod aborted;
pub(crate) mod describe;
mod expected;
mod heads;
mod journals;
mod metadata;
mod partition;
mod producers;
mod segment;
pub(crate) mod walk;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use hashbrown::HashSet;

use crate::data_dir::{DataDirError, LOCK, LockHolder, data_dir_cluster_id};
use crate::file_kind::FileKind;
use crate::layout;
use crate::model::PartitionKey;
use crate::recovery::decision::directory_name::{self as name_table, Metadata, Name};

/// What a finding means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Severity {
    /// Something that was durable is not what it was.
    Damage,
    /// A file is damaged or gone that a broker makes again from the data: nothing is lost.
    Rebuilt,
    /// What a start clears away, or nobody reads.
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
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct CheckReport {
    /// All files, by kind.
    pub files: BTreeMap<FileKind, u64>,
    /// Files that no broker has written, or an unknown release.
    pub unknown: u64,
    pub partitions: u64,
    pub segments: u64,
    pub batches: u64,
    /// Bytes of segments.
    pub bytes: u64,
    /// Records in journals that have not been replayed.
    pub journal_records: u64,
    pub damaged: u64,
    pub rebuilt: u64,
    pub notes: u64,
}

impl CheckReport {
    /// The gravest finding; `None` if there was none that matters.
    pub fn worst(&self) -> Option<Severity> {
        match (self.damaged, self.rebuilt) {
            (0, 0) => None,
            (0, _) => Some(Severity::Rebuilt),
            _ => Some(Severity::Damage),
        }
    }
}

/// Takes findings as they are made.
struct Findings<'a> {
    report: CheckReport,
    tell: &'a mut dyn FnMut(Finding),
}

impl Findings<'_> {
    fn damage(&mut self, path: &Path, position: Option<u64>, what: impl Into<String>) {
        self.report.damaged += 1;
        self.found(Severity::Damage, path, position, what);
    }

    fn rebuilt(&mut self, path: &Path, position: Option<u64>, what: impl Into<String>) {
        self.report.rebuilt += 1;
        self.found(Severity::Rebuilt, path, position, what);
    }

    fn note(&mut self, path: &Path, what: impl Into<String>) {
        self.report.notes += 1;
        self.found(Severity::Note, path, None, what);
    }

    fn found(&mut self, severity: Severity, path: &Path, position: Option<u64>, what: impl Into<String>) {
        (self.tell)(Finding { severity, path: path.to_owned(), position, what: what.into() });
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
    survey(path, FOLDERS, &mut findings)?;
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
            None if dir.is_dir() => findings.note(&dir, name_table::decide(Name::of(&name), Metadata::Unread).why),
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

/// The folders of a data directory; below them there are files, or folders of files.
const FOLDERS: &[&str] = &["data", "journal", "ledger"];

/// Counts the files by kind, and tells of those that nobody knows.
fn survey(dir: &Path, folders: &[&str], findings: &mut Findings<'_>) -> Result<(), DataDirError> {
    for (name, path) in list(dir)? {
        let is_folder = fs::symlink_metadata(&path).map_err(failed(&path))?.is_dir();
        let is_ours = folders.is_empty() || folders.iter().any(|folder| name == *folder);
        match FileKind::of(&path) {
            _ if is_folder && is_ours => survey(&path, &[], findings)?,
            Some(kind) if !is_folder => *findings.report.files.entry(kind).or_default() += 1,
            _ => {
                findings.report.unknown += 1;
                findings.note(&path, "no file of a broker of this release");
            }
        }
    }
    Ok(())
}

/// Names and paths in a directory, in order; none if it is not there.
fn list(dir: &Path) -> Result<Vec<(OsString, PathBuf)>, DataDirError> {
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
