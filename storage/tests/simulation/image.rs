//! The simulated disk as files of this machine, for what reads those.

use core_pinning::sim::Sim;
use corelane_storage::model::NodeId;
use corelane_storage::{NewDirectory, lock_data_dir};
use tempfile::TempDir;

/// A data directory with the files of the simulated disk; in memory where this machine has a place for that.
pub fn write(sim: &Sim) -> TempDir {
    let root = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a directory");
    drop(lock_data_dir(root.path(), NodeId(1), "abc", NewDirectory::Allowed).expect("a new data directory"));
    for (path, bytes) in sim.files() {
        let path = root.path().join(path.strip_prefix("/").expect("an absolute path"));
        std::fs::create_dir_all(path.parent().expect("a file is in a directory")).expect("a directory");
        std::fs::write(path, bytes).expect("a file");
    }
    root
}
