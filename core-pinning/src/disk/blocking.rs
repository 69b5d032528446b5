//! What the ring does not do: it is done on a helper thread, or at once where it takes microseconds.
#![allow(unsafe_code)]

use super::{
    FileInner, c_path,
    fs::{DirEntry, Space},
    reactor,
};
use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd, RawFd},
    path::Path,
};

/// Closes a descriptor that its owner gives up, once the ring has ended.
pub(super) fn close(fd: RawFd) {
    // SAFETY: the caller owned the descriptor, and this is its last use.
    unsafe { libc::close(fd) };
}

pub(super) async fn set_len(file: &FileInner, len: u64) -> io::Result<()> {
    let len = libc::off_t::try_from(len).map_err(|_| io::Error::from_raw_os_error(libc::EFBIG))?;
    // A duplicate, so that dropping this future cannot close what the helper thread works on.
    // SAFETY: the descriptor is open for as long as `file`.
    let fd = unsafe { BorrowedFd::borrow_raw(file.fd()) }.try_clone_to_owned()?;
    let truncated = file.reactor().offload(move || {
        // SAFETY: plain ftruncate of a descriptor we own.
        match unsafe { libc::ftruncate(fd.as_raw_fd(), len) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    });
    truncated.await
}

pub(super) async fn sync_filesystem(file: &FileInner) -> io::Result<()> {
    // A duplicate, as in `set_len`.
    // SAFETY: as there.
    let fd = unsafe { BorrowedFd::borrow_raw(file.fd()) }.try_clone_to_owned()?;
    let synced = file.reactor().offload(move || {
        // SAFETY: plain syncfs of a descriptor we own.
        match unsafe { libc::syncfs(fd.as_raw_fd()) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    });
    synced.await
}

pub(super) async fn read_dir(path: &Path) -> io::Result<Vec<DirEntry>> {
    let path = path.to_owned();
    let reactor = reactor();
    let listed = reactor.offload(move || {
        let mut entries = Vec::new();
        for e in std::fs::read_dir(path)? {
            let e = e?;
            match e.metadata() {
                Ok(m) => entries.push(DirEntry { name: e.file_name(), is_dir: m.is_dir(), len: m.len() }),
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(e),
            }
        }
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    });
    listed.await
}

pub(super) async fn space(path: &Path) -> io::Result<Space> {
    let path = c_path(path)?;
    let reactor = reactor();
    let looked = reactor.offload(move || {
        // SAFETY: a statvfs of zeroes is valid, and `path` ends with a zero byte.
        let mut s: libc::statvfs = unsafe { std::mem::zeroed() };
        // SAFETY: as above.
        match unsafe { libc::statvfs(path.as_ptr(), &mut s) } {
            0 => Ok(Space { total: s.f_blocks * s.f_frsize, available: s.f_bavail * s.f_frsize }),
            _ => Err(io::Error::last_os_error()),
        }
    });
    looked.await
}

pub(super) fn is_there(path: &Path) -> bool {
    path.exists()
}
