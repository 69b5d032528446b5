//! The simulated disk: what the ring's operations do to the files of the machine, and what goes wrong with them.
#![allow(unsafe_code)]

use super::{
    files::{Files, Ino},
    random::Rng,
};
use crate::{
    buf::BLOCK,
    disk::{FileInner, fs::DirEntry, fs::Space},
    iobuf::IoBuf,
    reactor::ops::Work,
};
use std::{
    collections::BTreeMap,
    ffi::{CStr, OsStr},
    os::{fd::RawFd, unix::ffi::OsStrExt},
    path::Path,
};

/// What goes wrong, in parts of a million operations of its kind. All zero by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// A read fails with EIO.
    pub read_error: u32,
    /// A write fails with EIO; any part of it may have reached the disk.
    pub write_error: u32,
    /// A sync fails with EIO. What it was for may then be lost although later syncs succeed, as with Linux' page cache.
    pub sync_error: u32,
    /// Opening, making, renaming and removing fail with EIO.
    pub name_error: u32,
    /// The kernel takes or gives less than was asked for.
    pub short: u32,
    /// A bit of what is read is wrong; only in files whose path contains `flips_in`.
    pub bit_flip: u32,
    pub flips_in: String,
    /// An operation takes up to a second.
    pub slow: u32,
}

/// How often each happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FaultCounts {
    pub errors: u64,
    pub full: u64,
    pub short: u64,
    pub flips: u64,
    pub slow: u64,
    /// Sectors and names that were not durable at a loss of power, and what became of them.
    pub lost: u64,
    pub kept: u64,
    /// Writes of which a loss of power kept a part.
    pub torn: u64,
}

impl FaultCounts {
    /// Adds another machine's.
    pub fn add(&mut self, o: &FaultCounts) {
        self.errors += o.errors;
        self.full += o.full;
        self.short += o.short;
        self.flips += o.flips;
        self.slow += o.slow;
        self.lost += o.lost;
        self.kept += o.kept;
        self.torn += o.torn;
    }
}

struct Handle {
    ino: Ino,
    dsync: bool,
}

/// An operation under way.
#[derive(Clone, Copy)]
pub(crate) struct Begun {
    /// Its place in the order in which operations began.
    sequence: u64,
    pub takes_ns: u64,
}

pub(crate) struct Disk {
    rng: Rng,
    pub faults: Faults,
    pub counts: FaultCounts,
    pub files: Files,
    handles: BTreeMap<RawFd, Handle>,
    next_fd: RawFd,
    /// Directories above a path that is made need not be there.
    lenient: bool,
    /// Every operation is printed.
    pub tells: bool,
}

fn describe(work: &Work) -> String {
    let name = |f: &FileInner| f.path().display().to_string();
    match work {
        Work::Read { file, buf, pos, upto } => {
            format!("read {} at {} to {}", name(file), *pos + buf.len() as u64, upto)
        }
        Work::Write { file, buf, pos, done, .. } => {
            format!("write {} at {} {} bytes", name(file), pos + *done as u64, buf.len() - done)
        }
        Work::Sync { file, .. } => format!("sync {}", name(file)),
        Work::Allocate { file, pos, len, mode } => format!("allocate {} at {pos} {len} mode {mode}", name(file)),
        Work::Open { path: p, flags, .. } => format!("open {} {flags:x}", path(p).display()),
        Work::Close { fd } => format!("close {fd}"),
        Work::Rename { from, to } => format!("rename {} to {}", path(from).display(), path(to).display()),
        Work::Unlink { path: p, .. } => format!("remove {}", path(p).display()),
        Work::MakeDir { path: p, .. } => format!("make {}", path(p).display()),
        Work::Stat { file, path: p, .. } => {
            format!("look at {}", file.as_ref().map_or_else(|| path(p).display().to_string(), |f| name(f)))
        }
        Work::SyncAll { file } => format!("sync everything, by {}", name(file)),
        Work::SetLen { file, len } => format!("cut {} to {len}", name(file)),
        Work::ReadDir { path: p, .. } => format!("list {}", path(p).display()),
    }
}

fn path(path: &CStr) -> &Path {
    Path::new(OsStr::from_bytes(path.to_bytes()))
}

impl Disk {
    pub fn new(rng: Rng, lenient: bool) -> Disk {
        Disk {
            rng,
            faults: Faults::default(),
            counts: FaultCounts::default(),
            files: Files::new(),
            handles: BTreeMap::new(),
            next_fd: 1000,
            lenient,
            tells: false,
        }
    }

    /// Decides when an operation will be done.
    pub fn begin(&mut self, work: &Work) -> Begun {
        let typical = match work {
            Work::Read { .. } => 60_000,
            Work::Write { .. } => 100_000,
            Work::Sync { .. } => 400_000,
            Work::SyncAll { .. } => 2_000_000,
            Work::Close { .. } | Work::Stat { .. } => 5_000,
            _ => 30_000,
        };
        let mut takes_ns = typical / 4 + self.rng.below(typical * 3 / 2);
        if self.rng.per_million(self.faults.slow) {
            self.counts.slow += 1;
            takes_ns += self.rng.below(1_000_000_000);
        }
        Begun { sequence: self.files.next_sequence(), takes_ns }
    }

    /// Does the operation; the kernel's answer.
    pub fn perform(&mut self, work: &mut Work, begun: &Begun, now_ms: i64) -> i32 {
        self.files.now_ms = now_ms;
        let described = self.tells.then(|| describe(work));
        let result = self.try_perform(work, begun).unwrap_or_else(|e| -e);
        if let Some(what) = described {
            println!("{now_ms}: {what}: {result}");
        }
        result
    }

    fn try_perform(&mut self, work: &mut Work, begun: &Begun) -> Result<i32, i32> {
        match work {
            Work::Read { file, buf, pos, upto } => {
                self.fails(self.faults.read_error)?;
                let (have, ino) = (buf.len(), self.handle(file)?.ino);
                let content = self.files.content(ino)?;
                let at = content.len().min(usize::try_from(*pos + have as u64).unwrap_or(usize::MAX));
                let mut n = (*upto - have).min(content.len() - at);
                if n > BLOCK && self.rng.per_million(self.faults.short) {
                    n = BLOCK * self.rng.between(1, (n as u64 - 1) / BLOCK as u64) as usize;
                    self.counts.short += 1;
                }
                buf.set_len(have + n);
                let into = &mut buf.as_mut_slice()[have..];
                into.copy_from_slice(&content[at..at + n]);
                if n > 0 && self.rng.per_million(self.faults.bit_flip) && named(file, &self.faults.flips_in) {
                    let bit = self.rng.below(n as u64 * 8) as usize;
                    into[bit / 8] ^= 1 << (bit % 8);
                    self.counts.flips += 1;
                }
                buf.set_len(have);
                Ok(n as i32)
            }
            Work::Write { file, buf, pos, done, first } => {
                let dsync = self.handle(file)?.dsync;
                self.write(file, &**buf, *pos, *done, *first, dsync)
            }
            Work::Sync { file, .. } => {
                let ino = self.handle(file)?.ino;
                if let Err(e) = self.fails(self.faults.sync_error) {
                    self.files.forget_unsynced(ino, begun.sequence, &mut self.rng);
                    return Err(e);
                }
                self.files.sync(ino, begun.sequence);
                Ok(0)
            }
            Work::SyncAll { file } => {
                self.handle(file)?;
                let failed = self.fails(self.faults.sync_error);
                for ino in self.files.all() {
                    match failed {
                        Ok(()) => self.files.sync(ino, begun.sequence),
                        Err(_) => self.files.forget_unsynced(ino, begun.sequence, &mut self.rng),
                    }
                }
                failed.map(|()| 0)
            }
            Work::Allocate { file, pos, len, mode } => {
                let (ino, end) = (self.handle(file)?.ino, *pos + *len);
                if *mode & libc::FALLOC_FL_PUNCH_HOLE != 0 {
                    self.files.punch(ino, *pos, *len)?;
                } else {
                    let r = self.files.reserve(ino, end, *mode & libc::FALLOC_FL_KEEP_SIZE == 0);
                    self.counts.full += u64::from(r == Err(libc::ENOSPC));
                    r?;
                }
                Ok(0)
            }
            Work::SetLen { file, len } => {
                self.fails(self.faults.write_error)?;
                let ino = self.handle(file)?.ino;
                self.files.set_len(ino, *len)?;
                Ok(0)
            }
            Work::Open { path: p, flags, .. } => {
                self.fails(self.faults.name_error)?;
                self.open(path(p), *flags)
            }
            Work::Close { fd } => {
                self.close(*fd);
                Ok(0)
            }
            Work::Rename { from, to } => {
                self.fails(self.faults.name_error)?;
                self.files.rename(path(from), path(to)).map(|()| 0)
            }
            Work::Unlink { path: p, flags } => {
                self.fails(self.faults.name_error)?;
                self.files.unlink(path(p), *flags & libc::AT_REMOVEDIR != 0)?;
                self.collect();
                Ok(0)
            }
            Work::MakeDir { path: p, .. } => {
                self.fails(self.faults.name_error)?;
                self.make_parents(path(p));
                self.files.make_dir(path(p)).map(|()| 0)
            }
            Work::Stat { file, path: p, found } => {
                let ino = match file {
                    Some(f) => self.handle(f)?.ino,
                    None => self.files.find(path(p))?,
                };
                self.files.stat(ino, found);
                Ok(0)
            }
            Work::ReadDir { path: p, found } => {
                self.fails(self.faults.read_error)?;
                *found = self.read_dir(path(p))?;
                Ok(0)
            }
        }
    }

    fn write(
        &mut self,
        file: &FileInner,
        buf: &dyn IoBuf,
        pos: u64,
        done: usize,
        first: Option<usize>,
        flushed: bool,
    ) -> Result<i32, i32> {
        // SAFETY: an `IoBuf` describes that much memory, which stays until the operation's slot is freed.
        let bytes = unsafe { std::slice::from_raw_parts(buf.as_ptr(), buf.len()) };
        let ino = self.handle(file)?.ino;
        let at = pos as usize + done;
        let mut n = (bytes.len() - done).min(first.unwrap_or(usize::MAX));
        if file.is_direct() && !n.is_multiple_of(BLOCK) {
            return Err(libc::EINVAL);
        }
        if n > BLOCK && self.rng.per_million(self.faults.short) {
            n = BLOCK * self.rng.between(1, (n as u64 - 1) / BLOCK as u64) as usize;
            self.counts.short += 1;
        }
        let bytes = &bytes[done..done + n];
        if let Err(e) = self.fails(self.faults.write_error) {
            self.files.write_in_part(ino, at, bytes, &mut self.rng);
            return Err(e);
        }
        let room = self.files.room_for(ino, at + n);
        if room < n {
            self.counts.full += 1;
            n = room - room % BLOCK;
            if n == 0 {
                return Err(libc::ENOSPC);
            }
        }
        self.files.write(ino, at, &bytes[..n], flushed)?;
        Ok(n as i32)
    }

    fn fails(&mut self, parts: u32) -> Result<(), i32> {
        let fails = self.rng.per_million(parts);
        self.counts.errors += u64::from(fails);
        if fails { Err(libc::EIO) } else { Ok(()) }
    }

    fn handle(&self, file: &FileInner) -> Result<&Handle, i32> {
        self.handles.get(&file.fd()).ok_or(libc::EBADF)
    }

    fn make_parents(&mut self, path: &Path) {
        if let (true, Some(parent)) = (self.lenient, path.parent()) {
            let missing: Vec<&Path> = parent.ancestors().take_while(|p| self.files.find(p).is_err()).collect();
            missing.into_iter().rev().for_each(|p| _ = self.files.make_dir(p));
        }
    }

    fn open(&mut self, path: &Path, flags: i32) -> Result<i32, i32> {
        let has = |f: i32| flags & f == f;
        let ino = match self.files.find(path) {
            Ok(_) if has(libc::O_CREAT | libc::O_EXCL) => return Err(libc::EEXIST),
            Ok(ino) if self.files.is_dir(ino) && flags & libc::O_ACCMODE != libc::O_RDONLY => return Err(libc::EISDIR),
            Ok(ino) => ino,
            Err(libc::ENOENT) if has(libc::O_CREAT) => {
                self.make_parents(path);
                self.files.make_file(path)?
            }
            Err(e) => return Err(e),
        };
        if has(libc::O_TRUNC) {
            self.files.set_len(ino, 0)?;
        }
        let fd = self.next_fd;
        self.next_fd += 1;
        self.handles.insert(fd, Handle { ino, dsync: has(libc::O_DSYNC) });
        Ok(fd)
    }

    pub fn close(&mut self, fd: RawFd) {
        self.handles.remove(&fd);
        self.collect();
    }

    /// Frees files that have neither a name nor a handle.
    fn collect(&mut self) {
        let handles = &self.handles;
        self.files.collect(|ino| handles.values().any(|h| h.ino == ino));
    }

    fn read_dir(&self, path: &Path) -> Result<Vec<DirEntry>, i32> {
        let dir = self.files.find(path)?;
        let entry = |(name, ino): (&std::ffi::OsString, &Ino)| {
            let is_dir = self.files.is_dir(*ino);
            DirEntry { name: name.clone(), is_dir, len: self.files.content(*ino).map_or(0, |c| c.len() as u64) }
        };
        Ok(self.files.names(dir)?.iter().map(entry).collect())
    }

    pub fn space(&self) -> Space {
        Space { total: self.files.capacity, available: self.files.capacity.saturating_sub(self.files.used()) }
    }

    /// The machine or the process is lost while this is under way.
    pub fn lose_in_flight(&mut self, work: &mut Work, begun: &Begun, now_ms: i64) {
        self.files.now_ms = now_ms;
        let happens = self.rng.one_in(2);
        if self.tells {
            println!("{}: {}", if happens { "at the end" } else { "not done" }, describe(work));
        }
        if !happens {
            return;
        }
        match work {
            Work::Write { file, buf, pos, done, .. } => {
                let faults = std::mem::take(&mut self.faults);
                let _ = self.write(file, &**buf, *pos, *done, None, false);
                self.faults = faults;
            }
            Work::Open { .. } | Work::Read { .. } | Work::Stat { .. } | Work::ReadDir { .. } => {}
            _ => _ = self.try_perform(work, begun),
        }
    }

    /// The process ends, however: the page cache stays.
    pub fn end_process(&mut self) {
        self.handles.clear();
        self.collect();
    }

    pub fn empty(&mut self) {
        self.handles.clear();
        self.files = Files::new();
    }

    /// The power goes: of what is not durable any part is kept, sector by sector and name by name.
    pub fn cut_power(&mut self) {
        self.handles.clear();
        self.files.cut_power(&mut self.rng, &mut self.counts);
    }
}

fn named(file: &FileInner, part: &str) -> bool {
    file.path().to_string_lossy().contains(part)
}
