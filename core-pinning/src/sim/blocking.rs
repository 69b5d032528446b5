//! What the ring does not do, in a simulation: the machine's disk does it.

use super::world;
use crate::{
    disk::{FileInner, c_path, fs::DirEntry, fs::Space, reactor},
    reactor::ops::Work,
};
use std::{io, os::fd::RawFd, path::Path, rc::Rc};

/// Closes a descriptor that its owner gives up, once the reactor has ended.
pub(crate) fn close(fd: RawFd) {
    world::with(|w| w.disk().close(fd));
}

pub(crate) async fn set_len(file: &Rc<FileInner>, len: u64) -> io::Result<()> {
    file.reactor().start(Work::SetLen { file: file.clone(), len }).await.1.map(drop)
}

pub(crate) async fn sync_filesystem(file: &Rc<FileInner>) -> io::Result<()> {
    file.reactor().start(Work::SyncAll { file: file.clone() }).await.1.map(drop)
}

pub(crate) async fn read_dir(path: &Path) -> io::Result<Vec<DirEntry>> {
    match reactor().start(Work::ReadDir { path: c_path(path)?, found: Vec::new() }).await {
        (Work::ReadDir { found, .. }, Ok(_)) => Ok(found),
        (_, r) => Err(r.err().unwrap_or_else(|| io::ErrorKind::Other.into())),
    }
}

pub(crate) async fn space(_path: &Path) -> io::Result<Space> {
    Ok(reactor().world.disk().space())
}

pub(crate) fn is_there(path: &Path) -> bool {
    world::with(|w| w.disk().files.find(path).is_ok()).unwrap_or(false)
}
