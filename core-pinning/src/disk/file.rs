//! An open file.
#![allow(unsafe_code)]

use super::{blocking, c_path, reactor, whole_fault};
use crate::{
    buf::{AlignedBuf, BLOCK},
    fault::{self, DiskOp, Effect},
    iobuf::IoBuf,
    reactor::{Reactor, ops::Work},
};
use std::{
    fmt, io,
    os::fd::RawFd,
    path::{Path, PathBuf},
    rc::Rc,
};

/// How to open a file; all off by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OpenOptions {
    pub read: bool,
    pub write: bool,
    /// Make the file if it is not there.
    pub create: bool,
    /// Make the file; an error if it is there.
    pub create_new: bool,
    pub truncate: bool,
    /// O_DIRECT: positions, lengths and addresses are multiples of [`BLOCK`].
    pub direct: bool,
    /// O_DSYNC: a write completes when it is on the device.
    pub dsync: bool,
}

impl OpenOptions {
    pub fn read_only() -> OpenOptions {
        OpenOptions { read: true, ..Default::default() }
    }

    pub fn read_write() -> OpenOptions {
        OpenOptions { read: true, write: true, ..Default::default() }
    }

    pub fn create(mut self, on: bool) -> OpenOptions {
        self.create = on;
        self
    }

    pub fn create_new(mut self, on: bool) -> OpenOptions {
        self.create_new = on;
        self
    }

    pub fn truncate(mut self, on: bool) -> OpenOptions {
        self.truncate = on;
        self
    }

    pub fn direct(mut self, on: bool) -> OpenOptions {
        self.direct = on;
        self
    }

    pub fn dsync(mut self, on: bool) -> OpenOptions {
        self.dsync = on;
        self
    }

    fn flags(&self) -> i32 {
        let access = match (self.read, self.write) {
            (_, false) => libc::O_RDONLY,
            (false, true) => libc::O_WRONLY,
            (true, true) => libc::O_RDWR,
        };
        let flag = |on, flag| if on { flag } else { 0 };
        access
            | flag(self.create, libc::O_CREAT)
            | flag(self.create_new, libc::O_CREAT | libc::O_EXCL)
            | flag(self.truncate, libc::O_TRUNC)
            | flag(self.direct, libc::O_DIRECT)
            | flag(self.dsync, libc::O_DSYNC)
    }
}

/// The descriptor, shared by a [`File`]'s clones and the operations under way.
pub(crate) struct FileInner {
    fd: RawFd,
    direct: bool,
    path: PathBuf,
    reactor: Rc<Reactor>,
}

impl FileInner {
    pub fn fd(&self) -> RawFd {
        self.fd
    }

    pub fn is_direct(&self) -> bool {
        self.direct
    }

    pub fn reactor(&self) -> &Rc<Reactor> {
        &self.reactor
    }

    #[cfg(sim)]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for FileInner {
    fn drop(&mut self) {
        if self.reactor.has_ended() {
            blocking::close(self.fd);
        } else {
            self.reactor.start_detached(Work::Close { fd: self.fd });
        }
    }
}

/// An open file; cheap to clone. The last drop closes it, through the ring, once all its operations are done.
///
/// An operation goes on when its future is dropped, and keeps its buffer until the kernel is done with it.
#[derive(Clone)]
pub struct File(Rc<FileInner>);

fn misaligned(what: &str, v: u64) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("{what} {v} of direct I/O is not a multiple of {BLOCK}"))
}

impl File {
    /// Opens `path`; new files get mode 0644 less the umask.
    pub async fn open(path: &Path, o: OpenOptions) -> io::Result<File> {
        whole_fault(DiskOp::Open, path)?;
        let reactor = reactor();
        let work = Work::Open { path: c_path(path)?, flags: o.flags(), mode: 0o644 };
        let fd = reactor.start(work).await.1?;
        Ok(File(Rc::new(FileInner { fd: fd as RawFd, direct: o.direct, path: path.to_owned(), reactor })))
    }

    /// `len` bytes from `pos`; fewer only at the end of the file. For direct files both are multiples of [`BLOCK`].
    pub async fn read_at(&self, pos: u64, len: usize) -> io::Result<AlignedBuf> {
        self.read_into(pos, AlignedBuf::new(len), len).await
    }

    /// As [`read_at`](File::read_at), over what `buf` holds; its capacity is at least `len`.
    pub async fn read_into(&self, pos: u64, mut buf: AlignedBuf, len: usize) -> io::Result<AlignedBuf> {
        assert!(len <= buf.capacity(), "a buffer of {} bytes for {len}", buf.capacity());
        self.check_aligned("position", pos)?;
        self.check_aligned("length", len as u64)?;
        whole_fault(DiskOp::Read, &self.0.path)?;
        buf.clear();
        if len == 0 {
            return Ok(buf);
        }
        match self.run(Work::Read { file: self.0.clone(), buf, pos, upto: len }).await {
            (Work::Read { mut buf, .. }, Ok(_)) => {
                buf.truncate(len);
                Ok(buf)
            }
            (_, r) => Err(r.err().unwrap_or_else(|| io::ErrorKind::Other.into())),
        }
    }

    /// Writes all of `buf` at `pos`, or fails (and then any part of it may be written). For direct files address,
    /// length and position are multiples of [`BLOCK`]. With `dsync` it is on the device when this returns.
    pub async fn write_at(&self, pos: u64, buf: impl IoBuf) -> io::Result<()> {
        self.check_aligned("position", pos)?;
        self.check_aligned("length", buf.len() as u64)?;
        self.check_aligned("address", buf.as_ptr() as u64)?;
        let (mut first, mut torn) = (None, None);
        match fault::check(DiskOp::Write, &self.0.path) {
            Some(Effect::Error(e)) => return Err(io::Error::from_raw_os_error(e)),
            Some(Effect::Short(n)) => first = Some(n),
            Some(Effect::Torn(n, e)) => torn = Some((n, e)),
            None => {}
        }
        if buf.is_empty() {
            return Ok(());
        }
        let mut buf: Box<dyn IoBuf> = Box::new(buf);
        if let Some((n, e)) = torn {
            // SAFETY: an `IoBuf` describes that much readable memory.
            let bytes = unsafe { std::slice::from_raw_parts(buf.as_ptr(), n.min(buf.len())) };
            let n = if self.0.direct { bytes.len() - bytes.len() % BLOCK } else { bytes.len() };
            buf = Box::new(AlignedBuf::copy_from(&bytes[..n]));
            if !buf.is_empty() {
                self.run(Work::Write { file: self.0.clone(), buf, pos, done: 0, first: None }).await.1?;
            }
            return Err(io::Error::from_raw_os_error(e));
        }
        self.run(Work::Write { file: self.0.clone(), buf, pos, done: 0, first }).await.1.map(drop)
    }

    /// fdatasync: what was written before the call is on the device, with the metadata needed to read it.
    pub async fn sync_data(&self) -> io::Result<()> {
        self.sync(true).await
    }

    /// fsync.
    pub async fn sync_all(&self) -> io::Result<()> {
        self.sync(false).await
    }

    async fn sync(&self, data_only: bool) -> io::Result<()> {
        whole_fault(DiskOp::Sync, &self.0.path)?;
        self.run(Work::Sync { file: self.0.clone(), data_only }).await.1.map(drop)
    }

    /// Reserves space; the file grows over it unless `keep_size`. The extents stay unwritten (reads give zeroes).
    pub async fn allocate(&self, pos: u64, len: u64, keep_size: bool) -> io::Result<()> {
        whole_fault(DiskOp::Allocate, &self.0.path)?;
        let mode = if keep_size { libc::FALLOC_FL_KEEP_SIZE } else { 0 };
        self.run(Work::Allocate { file: self.0.clone(), pos, len, mode }).await.1.map(drop)
    }

    /// Gives the space of a range back to the file system; it then reads as zeroes, and the size stays.
    pub async fn punch_hole(&self, pos: u64, len: u64) -> io::Result<()> {
        whole_fault(DiskOp::Allocate, &self.0.path)?;
        let mode = libc::FALLOC_FL_KEEP_SIZE | libc::FALLOC_FL_PUNCH_HOLE;
        self.run(Work::Allocate { file: self.0.clone(), pos, len, mode }).await.1.map(drop)
    }

    /// Cuts the file or extends it with a hole.
    pub async fn set_len(&self, len: u64) -> io::Result<()> {
        whole_fault(DiskOp::SetLen, &self.0.path)?;
        blocking::set_len(&self.0, len).await
    }

    /// syncfs: all that was written and named in the file system that holds the file, by anybody, is on the device. An error
    /// tells of any write there that failed since the file was opened. Dearer than a sync of one file, far cheaper than of
    /// hundreds.
    pub async fn sync_filesystem(&self) -> io::Result<()> {
        whole_fault(DiskOp::Sync, &self.0.path)?;
        blocking::sync_filesystem(&self.0).await
    }

    /// The file's size now.
    pub async fn len(&self) -> io::Result<u64> {
        whole_fault(DiskOp::Metadata, &self.0.path)?;
        Ok(super::fs::stat(&self.0.reactor, Some(self.0.clone()), c"".to_owned()).await?.stx_size)
    }

    pub fn path(&self) -> &Path {
        &self.0.path
    }

    pub fn is_direct(&self) -> bool {
        self.0.direct
    }

    fn check_aligned(&self, what: &str, v: u64) -> io::Result<()> {
        if self.0.direct && !v.is_multiple_of(BLOCK as u64) { Err(misaligned(what, v)) } else { Ok(()) }
    }

    async fn run(&self, work: Work) -> (Work, io::Result<u32>) {
        self.0.reactor.start(work).await
    }
}

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "File({})", self.0.path.display())
    }
}
