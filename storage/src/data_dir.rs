//! The data directory belongs to one process of one node.
//!
//! `meta.properties` names the node and the cluster (as Kafka's file of that name does), with a format version and a CRC; a lock
//! on `.lock`, which names who holds it, keeps a second process out.
#![deny(clippy::unwrap_used, clippy::indexing_slicing)]

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::model::NodeId;
use crate::recovery::decision::directory::{self as table, Contents, Create, Decision, Lock};

pub(crate) const META: &str = "meta.properties";
pub(crate) const LOCK: &str = ".lock";
/// The newest format of the directory that this release writes and reads.
const VERSION: u32 = 1;

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    #[error("{path} is in use by {}", holder.map_or("another process".to_owned(), |h| format!("process {}", h.pid)))]
    InUse { path: PathBuf, holder: Option<LockHolder> },
    #[error("{path} belongs to node {found}, this is node {mine}")]
    OtherNode { path: PathBuf, found: u64, mine: u64 },
    #[error("{path} belongs to cluster {found}, this node is told to join {mine}")]
    OtherCluster { path: PathBuf, found: String, mine: String },
    #[error("{path} has format version {found}, this release knows up to {VERSION}")]
    Newer { path: PathBuf, found: u32 },
    #[error("{path} holds no data, and storage.directory.create=false: its disk may not be mounted")]
    NotThere { path: PathBuf },
    #[error("{path} is damaged: {reason}")]
    Damaged { path: PathBuf, reason: String },
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: io::Error },
}

/// The process that holds a directory. `started` tells it from a later one of that pid.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LockHolder {
    pub pid: u32,
    /// In clock ticks since the machine booted.
    pub started: u64,
}

impl LockHolder {
    /// The process of that pid, `None` if there is none.
    pub fn of(pid: u32) -> Option<LockHolder> {
        // The name in the second field may hold anything; the start is the 22nd field.
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let started = stat.rsplit_once(") ")?.1.split(' ').nth(19)?.parse().ok()?;
        Some(LockHolder { pid, started })
    }

    pub(crate) fn read(path: &Path) -> Option<LockHolder> {
        let text = fs::read_to_string(path).ok()?;
        let (pid, started) = text.trim_end().split_once(' ')?;
        Some(LockHolder { pid: pid.parse().ok()?, started: started.parse().ok()? })
    }

    /// A full disk is no reason not to start: then nobody learns who holds the directory.
    fn write(self, mut lock: &File) {
        let _ = lock.set_len(0).and_then(|()| writeln!(lock, "{} {}", self.pid, self.started));
    }
}

/// A data directory held by this process; dropping it lets go.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    cluster_id: String,
    /// It was new, or formatted but never used.
    pub created: bool,
    _lock: File,
}

impl DataDir {
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn cluster_id(&self) -> &str {
        &self.cluster_id
    }
}

/// Whether a start may make a new directory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NewDirectory {
    Allowed,
    /// For a node that has data already: an empty directory may be the mount point of a disk that is not mounted.
    Refused,
}

/// What a directory says of itself.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Meta {
    version: u32,
    node: NodeId,
    cluster_id: String,
}

/// Takes the directory for this process, making it if it is not there and `new` allows it. `cluster_id` must be the
/// directory's; what an empty or new directory gets.
///
/// Blocks: to be called before the shards run.
pub fn lock_data_dir(path: &Path, node: NodeId, cluster_id: &str, new: NewDirectory) -> Result<DataDir, DataDirError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| DataDirError::Io { path, source }
    };
    match new {
        NewDirectory::Allowed => fs::create_dir_all(path).map_err(failed(path))?,
        NewDirectory::Refused if path.is_dir() => {}
        NewDirectory::Refused => return Err(DataDirError::NotThere { path: path.to_owned() }),
    }
    let path = &path.canonicalize().map_err(failed(path))?;
    // It may just have been made.
    let parent = path.parent().unwrap_or(path);
    File::open(parent).and_then(|dir| dir.sync_all()).map_err(failed(parent))?;
    let lock_path = path.join(LOCK);
    let lock = File::options().create(true).write(true).truncate(false).open(&lock_path).map_err(failed(&lock_path))?;
    let held = match lock.try_lock() {
        Ok(()) => Lock::Free,
        Err(TryLockError::WouldBlock) => Lock::Held,
        Err(TryLockError::Error(source)) => return Err(DataDirError::Io { path: lock_path, source }),
    };
    let meta_path = path.join(META);
    let found = match read_meta(&meta_path) {
        Err(error @ DataDirError::Io { .. }) => return Err(error),
        other => other,
    };
    let what = match &found {
        Ok(None) => table::Meta::Absent,
        Ok(Some(found)) if found.node != node => table::Meta::OtherNode,
        Ok(Some(found)) if found.cluster_id != cluster_id => table::Meta::OtherCluster,
        Ok(Some(_)) => table::Meta::Ours,
        Err(DataDirError::Newer { .. }) => table::Meta::Newer,
        Err(_) => table::Meta::Damaged,
    };
    let some = ["data", "journal", "ledger"].into_iter().any(|name| path.join(name).exists());
    let create = if new == NewDirectory::Allowed { Create::Allowed } else { Create::Refused };
    let row = table::decide(held, what, if some { Contents::Some } else { Contents::None }, create);
    let meta = match (row.then, found) {
        (Decision::RefuseInUse, _) => {
            return Err(DataDirError::InUse { path: path.to_owned(), holder: LockHolder::read(&lock_path) });
        }
        (Decision::RefuseOtherNode, Ok(Some(found))) => {
            return Err(DataDirError::OtherNode { path: path.to_owned(), found: found.node.0, mine: node.0 });
        }
        (Decision::RefuseOtherCluster, Ok(Some(found))) => {
            let (found, mine) = (found.cluster_id, cluster_id.to_owned());
            return Err(DataDirError::OtherCluster { path: path.to_owned(), found, mine });
        }
        (Decision::RefuseNew, _) => return Err(DataDirError::NotThere { path: path.to_owned() }),
        (Decision::Use, Ok(Some(found))) => found,
        (Decision::Format, _) => {
            let meta = Meta { version: VERSION, node, cluster_id: cluster_id.to_owned() };
            meta.write(path, &meta_path).map_err(failed(&meta_path))?;
            meta
        }
        (_, Err(error)) => return Err(error),
        (_, Ok(_)) => return Err(DataDirError::Damaged { path: meta_path, reason: row.why.to_owned() }),
    };
    LockHolder::of(std::process::id()).into_iter().for_each(|holder| holder.write(&lock));
    let created = row.then == Decision::Format;
    Ok(DataDir { path: path.to_owned(), cluster_id: meta.cluster_id, created, _lock: lock })
}

/// The cluster id of a formatted directory, `None` of one that is not.
pub fn data_dir_cluster_id(path: &Path) -> Result<Option<String>, DataDirError> {
    Ok(read_meta(&path.join(META))?.map(|meta| meta.cluster_id))
}

/// Whether what a `meta.properties` says can be used.
pub(crate) fn check_meta(text: &str) -> Result<(), DataDirError> {
    Meta::parse(text, Path::new(META)).map(drop)
}

fn read_meta(path: &Path) -> Result<Option<Meta>, DataDirError> {
    match fs::read_to_string(path) {
        Ok(text) => Meta::parse(&text, path).map(Some),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        // No text: other bytes have taken its place.
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            Err(DataDirError::Damaged { path: path.to_owned(), reason: error.to_string() })
        }
        Err(source) => Err(DataDirError::Io { path: path.to_owned(), source }),
    }
}

impl Meta {
    fn body(&self) -> String {
        let Meta { version, node, cluster_id } = self;
        format!("corelane.format.version={version}\nnode.id={node}\ncluster.id={cluster_id}\n")
    }

    fn write(&self, dir: &Path, path: &Path) -> io::Result<()> {
        let body = self.body();
        let unfinished = path.with_extension("new");
        let mut file = File::create(&unfinished)?;
        writeln!(file, "{body}crc32c={:08x}", crc32c::crc32c(body.as_bytes()))?;
        file.sync_all()?;
        fs::rename(&unfinished, path)?;
        File::open(dir)?.sync_all()
    }

    fn parse(text: &str, path: &Path) -> Result<Meta, DataDirError> {
        let damaged = |reason: &str| DataDirError::Damaged { path: path.to_owned(), reason: reason.to_owned() };
        let field = |name: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
                .ok_or_else(|| damaged(&format!("no {name}")))
        };
        let version = field("corelane.format.version")?.parse().map_err(|_| damaged("bad format version"))?;
        if version > VERSION {
            return Err(DataDirError::Newer { path: path.to_owned(), found: version });
        }
        let (body, crc) = text.split_once("crc32c=").ok_or_else(|| damaged("no crc32c"))?;
        if u32::from_str_radix(crc.trim_end(), 16) != Ok(crc32c::crc32c(body.as_bytes())) {
            return Err(damaged("the CRC does not match"));
        }
        let node = field("node.id")?.parse().map_err(|_| damaged("bad node id"))?;
        Ok(Meta { version, node: NodeId(node), cluster_id: field("cluster.id")?.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_process_of_one_node_of_one_cluster() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("d");
        let held = lock_data_dir(&path, NodeId(1), "abc", NewDirectory::Allowed).unwrap();
        assert!(held.created);
        let Err(DataDirError::InUse { holder, .. }) = lock_data_dir(&path, NodeId(1), "abc", NewDirectory::Allowed)
        else {
            panic!("held twice");
        };
        assert_eq!(holder, LockHolder::of(std::process::id()));
        assert!(holder.is_some());
        drop(held);
        assert!(!lock_data_dir(&path, NodeId(1), "abc", NewDirectory::Allowed).unwrap().created);
        assert!(matches!(
            lock_data_dir(&path, NodeId(2), "abc", NewDirectory::Allowed),
            Err(DataDirError::OtherNode { found: 1, mine: 2, .. })
        ));
        assert!(matches!(
            lock_data_dir(&path, NodeId(1), "x", NewDirectory::Allowed),
            Err(DataDirError::OtherCluster { .. })
        ));
        assert_eq!(data_dir_cluster_id(&path).unwrap().as_deref(), Some("abc"));
    }

    #[test]
    fn a_node_that_had_data_does_not_begin_anew_in_an_empty_directory() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("d");
        let lock = |new| lock_data_dir(&path, NodeId(1), "abc", new);
        assert!(matches!(lock(NewDirectory::Refused), Err(DataDirError::NotThere { .. })));
        assert!(!path.exists(), "it is not made either");
        fs::create_dir(&path).unwrap();
        assert!(matches!(lock(NewDirectory::Refused), Err(DataDirError::NotThere { .. })));
        drop(lock(NewDirectory::Allowed).unwrap());
        assert!(!lock(NewDirectory::Refused).unwrap().created);
    }

    #[test]
    fn damage_and_newer_formats_are_told() {
        let root = tempfile::tempdir().unwrap();
        drop(lock_data_dir(root.path(), NodeId(1), "abc", NewDirectory::Allowed).unwrap());
        let meta = root.path().join(META);
        let text = fs::read_to_string(&meta).unwrap();
        fs::write(&meta, text.replace("abc", "abd")).unwrap();
        assert!(matches!(
            lock_data_dir(root.path(), NodeId(1), "abd", NewDirectory::Allowed),
            Err(DataDirError::Damaged { .. })
        ));
        fs::write(&meta, text.replace("version=1", "version=9")).unwrap();
        assert!(matches!(
            lock_data_dir(root.path(), NodeId(1), "abc", NewDirectory::Allowed),
            Err(DataDirError::Newer { found: 9, .. })
        ));
        fs::remove_file(&meta).unwrap();
        fs::create_dir(root.path().join("data")).unwrap();
        assert!(matches!(
            lock_data_dir(root.path(), NodeId(1), "abc", NewDirectory::Allowed),
            Err(DataDirError::Damaged { .. })
        ));
    }
}
