//! Names: directories and what is in them. None of this blocks the shard.
#![allow(unsafe_code)]

use super::{File, FileInner, OpenOptions, c_path, reactor, whole_fault};
use crate::{
    fault::DiskOp,
    reactor::{Reactor, ops::Work},
};
use std::{ffi::CString, ffi::OsString, io, path::Path, rc::Rc};

/// One name in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirEntry {
    pub name: OsString,
    pub is_dir: bool,
    /// Bytes; meaningless for directories.
    pub len: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metadata {
    pub len: u64,
    pub is_dir: bool,
    pub is_file: bool,
    /// Bytes really taken on the device.
    pub allocated: u64,
    /// Last change of the content, ms since 1970.
    pub modified_ms: i64,
}

/// Bytes of the file system that holds a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    pub total: u64,
    /// What an ordinary user may still take.
    pub available: u64,
}

/// Replaces `to` if it is there. Durable only after [`sync_dir`] of both directories.
pub async fn rename(from: &Path, to: &Path) -> io::Result<()> {
    whole_fault(DiskOp::Rename, from)?;
    whole_fault(DiskOp::Rename, to)?;
    let work = Work::Rename { from: c_path(from)?, to: c_path(to)? };
    reactor().start(work).await.1.map(drop)
}

pub async fn remove_file(path: &Path) -> io::Result<()> {
    unlink(path, 0).await
}

/// Removes an empty directory.
pub async fn remove_dir(path: &Path) -> io::Result<()> {
    unlink(path, libc::AT_REMOVEDIR).await
}

async fn unlink(path: &Path, flags: i32) -> io::Result<()> {
    whole_fault(DiskOp::Remove, path)?;
    let work = Work::Unlink { path: c_path(path)?, flags };
    reactor().start(work).await.1.map(drop)
}

/// Mode 0755 less the umask.
pub async fn create_dir(path: &Path) -> io::Result<()> {
    whole_fault(DiskOp::CreateDir, path)?;
    let work = Work::MakeDir { path: c_path(path)?, mode: 0o755 };
    reactor().start(work).await.1.map(drop)
}

/// Makes a directory and those above it; no error if it is there.
pub async fn create_dir_all(path: &Path) -> io::Result<()> {
    match create_dir(path).await {
        Ok(()) => return Ok(()),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let Some(parent) = path.parent().filter(|p| !p.as_os_str().is_empty()) else { return Err(e) };
            Box::pin(create_dir_all(parent)).await?;
            match create_dir(path).await {
                Ok(()) => return Ok(()),
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(e),
            }
        }
        Err(e) => return Err(e),
    }
    if metadata(path).await?.is_dir { Ok(()) } else { Err(io::ErrorKind::NotADirectory.into()) }
}

/// Makes the names in a directory durable: those made, renamed and removed before the call.
pub async fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path, OpenOptions::read_only()).await?.sync_all().await
}

/// What is in a directory, sorted by name. Names that vanish meanwhile are left out.
pub async fn read_dir(path: &Path) -> io::Result<Vec<DirEntry>> {
    whole_fault(DiskOp::ReadDir, path)?;
    super::blocking::read_dir(path).await
}

/// Follows symbolic links.
pub async fn metadata(path: &Path) -> io::Result<Metadata> {
    whole_fault(DiskOp::Metadata, path)?;
    let s = stat(&reactor(), None, c_path(path)?).await?;
    let kind = u32::from(s.stx_mode) & libc::S_IFMT;
    Ok(Metadata {
        len: s.stx_size,
        is_dir: kind == libc::S_IFDIR,
        is_file: kind == libc::S_IFREG,
        allocated: s.stx_blocks * 512,
        modified_ms: s.stx_mtime.tv_sec * 1000 + i64::from(s.stx_mtime.tv_nsec / 1_000_000),
    })
}

/// False if there is nothing at `path`.
pub async fn exists(path: &Path) -> io::Result<bool> {
    match metadata(path).await {
        Ok(_) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e),
    }
}

pub(super) async fn stat(
    reactor: &Rc<Reactor>,
    file: Option<Rc<FileInner>>,
    path: CString,
) -> io::Result<Box<libc::statx>> {
    // SAFETY: a statx of zeroes is valid.
    let found = Box::new(unsafe { std::mem::zeroed() });
    match reactor.start(Work::Stat { file, path, found }).await {
        (Work::Stat { found, .. }, Ok(_)) => Ok(found),
        (_, r) => Err(r.err().unwrap_or_else(|| io::ErrorKind::Other.into())),
    }
}

/// Space of the file system that holds `path`.
pub async fn free_space(path: &Path) -> io::Result<Space> {
    super::blocking::space(path).await
}

/// True if there is something at `path`, for a caller that cannot wait. Takes a few microseconds of the shard.
pub fn is_there(path: &Path) -> bool {
    super::blocking::is_there(path)
}
