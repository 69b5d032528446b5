//! One-shot operations. What an operation lends to the kernel lives in its slot until the completion, also when
//! nobody waits for it any more.
#![allow(unsafe_code)]

use super::Reactor;
#[cfg(not(sim))]
use super::{Kind, tag};
use crate::{
    buf::{AlignedBuf, BLOCK},
    disk::FileInner,
    iobuf::IoBuf,
    slab::Slab,
};
#[cfg(not(sim))]
use io_uring::{
    opcode, squeue,
    types::{self, Fd, FsyncFlags},
};
use std::{
    ffi::CString,
    future::Future,
    io,
    os::fd::RawFd,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
};

#[cfg(not(sim))]
use std::os::fd::{AsRawFd, OwnedFd};

/// The largest single read or write the kernel takes, kept block aligned.
#[cfg(not(sim))]
const MAX_IO: usize = 1 << 30;

pub(crate) enum Work {
    /// Fills `buf` from its length to `upto`.
    Read {
        file: Rc<FileInner>,
        buf: AlignedBuf,
        pos: u64,
        upto: usize,
    },
    /// `done` bytes of `buf` are written; `first` bounds the first write (a fault of a test).
    Write {
        file: Rc<FileInner>,
        buf: Box<dyn IoBuf>,
        pos: u64,
        done: usize,
        first: Option<usize>,
    },
    Sync {
        file: Rc<FileInner>,
        data_only: bool,
    },
    Allocate {
        file: Rc<FileInner>,
        pos: u64,
        len: u64,
        mode: i32,
    },
    Open {
        path: CString,
        flags: i32,
        mode: u32,
    },
    Close {
        fd: RawFd,
    },
    Rename {
        from: CString,
        to: CString,
    },
    Unlink {
        path: CString,
        flags: i32,
    },
    MakeDir {
        path: CString,
        mode: u32,
    },
    /// Of the open file if there is one, else of the path.
    Stat {
        file: Option<Rc<FileInner>>,
        path: CString,
        found: Box<libc::statx>,
    },
    #[cfg(not(sim))]
    Connect {
        socket: OwnedFd,
        address: Box<(libc::sockaddr_storage, u32)>,
    },
    #[cfg(sim)]
    SetLen {
        file: Rc<FileInner>,
        len: u64,
    },
    #[cfg(sim)]
    SyncAll {
        file: Rc<FileInner>,
    },
    #[cfg(sim)]
    ReadDir {
        path: CString,
        found: Vec<crate::disk::fs::DirEntry>,
    },
}

enum Next {
    Again,
    Done(io::Result<u32>),
}

impl Work {
    #[cfg(not(sim))]
    pub(super) fn entry(&self) -> squeue::Entry {
        let at = Fd(libc::AT_FDCWD);
        match self {
            Work::Read { file, buf, pos, upto } => {
                let (have, want) = (buf.len(), (*upto - buf.len()).min(MAX_IO));
                let p = buf.as_ptr().wrapping_add(have).cast_mut();
                opcode::Read::new(Fd(file.fd()), p, want as u32).offset(pos + have as u64).build()
            }
            Work::Write { file, buf, pos, done, first } => {
                let n = (buf.len() - done).min(first.unwrap_or(usize::MAX)).min(MAX_IO);
                let p = buf.as_ptr().wrapping_add(*done);
                opcode::Write::new(Fd(file.fd()), p, n as u32).offset(pos + *done as u64).build()
            }
            Work::Sync { file, data_only } => {
                let flags = if *data_only { FsyncFlags::DATASYNC } else { FsyncFlags::empty() };
                opcode::Fsync::new(Fd(file.fd())).flags(flags).build()
            }
            Work::Allocate { file, pos, len, mode } => {
                opcode::Fallocate::new(Fd(file.fd()), *len).offset(*pos).mode(*mode).build()
            }
            Work::Open { path, flags, mode } => {
                opcode::OpenAt::new(at, path.as_ptr()).flags(*flags | libc::O_CLOEXEC).mode(*mode).build()
            }
            Work::Close { fd } => opcode::Close::new(Fd(*fd)).build(),
            Work::Rename { from, to } => opcode::RenameAt::new(at, from.as_ptr(), at, to.as_ptr()).build(),
            Work::Unlink { path, flags } => opcode::UnlinkAt::new(at, path.as_ptr()).flags(*flags).build(),
            Work::MakeDir { path, mode } => opcode::MkDirAt::new(at, path.as_ptr()).mode(*mode).build(),
            Work::Stat { file, path, found } => {
                let (fd, flags) = match file {
                    Some(f) => (Fd(f.fd()), libc::AT_EMPTY_PATH),
                    None => (at, 0),
                };
                let out = (&raw const **found).cast_mut().cast::<types::statx>();
                opcode::Statx::new(fd, path.as_ptr(), out).flags(flags).mask(libc::STATX_BASIC_STATS).build()
            }
            Work::Connect { socket, address } => {
                opcode::Connect::new(Fd(socket.as_raw_fd()), (&raw const address.0).cast(), address.1).build()
            }
        }
    }

    /// Takes one result of the kernel: done, or on with the rest.
    fn completed(&mut self, result: i32) -> Next {
        if result < 0 {
            return match -result {
                libc::EINTR | libc::EAGAIN => Next::Again,
                e => Next::Done(Err(io::Error::from_raw_os_error(e))),
            };
        }
        let n = result as usize;
        match self {
            Work::Read { file, buf, upto, .. } => {
                buf.set_len(buf.len() + n);
                // a direct read that ends inside a block has met the end of the file
                let end = n == 0 || file.is_direct() && !n.is_multiple_of(BLOCK);
                if end || buf.len() >= *upto { Next::Done(Ok(0)) } else { Next::Again }
            }
            Work::Write { file, buf, done, first, .. } => {
                // the rest of a direct write must start at a block
                let n = if file.is_direct() && *done + n < buf.len() { n - n % BLOCK } else { n };
                *done += n;
                if *done >= buf.len() {
                    return Next::Done(Ok(0));
                }
                if n == 0 && first.is_none_or(|f| f > 0) {
                    return Next::Done(Err(io::ErrorKind::WriteZero.into()));
                }
                *first = None;
                Next::Again
            }
            _ => Next::Done(Ok(result as u32)),
        }
    }
}

enum State {
    Waiting(Option<Waker>),
    /// Nobody waits: the completion frees the slot.
    Abandoned,
    Done(io::Result<u32>),
}

struct Slot {
    work: Work,
    state: State,
}

#[derive(Default)]
pub(crate) struct Ops {
    slots: Slab<Slot>,
    /// Slots whose operation the kernel has.
    in_flight: usize,
}

impl Ops {
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    #[cfg(sim)]
    pub fn work(&mut self, i: u32) -> Option<&mut Work> {
        self.slots.get_mut(i).map(|s| &mut s.work)
    }
}

impl Reactor {
    /// Starts an operation. Its result, and the memory it had, come from the returned future.
    pub fn start(self: &Rc<Self>, work: Work) -> Pending {
        Pending { i: self.start_slot(work, State::Waiting(None)), reactor: self.clone(), done: false }
    }

    /// Starts an operation that nobody waits for.
    pub fn start_detached(&self, work: Work) {
        self.start_slot(work, State::Abandoned);
    }

    fn start_slot(&self, work: Work, state: State) -> u32 {
        let mut ops = self.ops.borrow_mut();
        let i = ops.slots.insert(Slot { work, state });
        ops.in_flight += 1;
        if let Some(slot) = ops.slots.get(i) {
            self.submit_op(i, &slot.work);
        }
        i
    }

    /// The kernel answered operation `i`.
    pub(crate) fn op_completed(&self, i: u32, result: i32, wake: &mut Vec<Waker>) {
        let mut ops = self.ops.borrow_mut();
        let Some(slot) = ops.slots.get_mut(i) else { return };
        match slot.work.completed(result) {
            Next::Again => {
                self.submit_op(i, &slot.work);
            }
            Next::Done(result) => {
                let state = std::mem::replace(&mut slot.state, State::Abandoned);
                ops.in_flight -= 1;
                if let State::Waiting(waker) = state {
                    if let Some(slot) = ops.slots.get_mut(i) {
                        slot.state = State::Done(result);
                    }
                    wake.extend(waker);
                } else {
                    let slot = ops.slots.remove(i);
                    drop(ops);
                    if let Some(s) = slot {
                        self.discard(s.work, result);
                    }
                }
            }
        }
    }

    /// Frees what an operation made that nobody wants.
    fn discard(&self, work: Work, result: io::Result<u32>) {
        if let (Work::Open { .. }, Ok(fd)) = (&work, result) {
            self.start_detached(Work::Close { fd: fd as RawFd });
        }
    }
}

/// An operation under way. Dropping it does not stop the operation.
pub(crate) struct Pending {
    reactor: Rc<Reactor>,
    i: u32,
    done: bool,
}

impl Future for Pending {
    type Output = (Work, io::Result<u32>);
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let i = self.i;
        let mut ops = self.reactor.ops.borrow_mut();
        let slot = ops.slots.get_mut(i).expect("an operation keeps its slot until it is taken");
        if let State::Waiting(waker) = &mut slot.state {
            if !waker.as_ref().is_some_and(|w| w.will_wake(cx.waker())) {
                *waker = Some(cx.waker().clone());
            }
            return Poll::Pending;
        }
        let slot = ops.slots.remove(i);
        drop(ops);
        self.done = true;
        match slot {
            Some(Slot { work, state: State::Done(result) }) => Poll::Ready((work, result)),
            _ => unreachable!("only a dropped operation is abandoned"),
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        let mut ops = self.reactor.ops.borrow_mut();
        let Some(slot) = ops.slots.get_mut(self.i) else { return };
        if let State::Waiting(_) = slot.state {
            let waker = std::mem::replace(&mut slot.state, State::Abandoned);
            #[cfg(not(sim))]
            let may_take_minutes = matches!(slot.work, Work::Connect { .. });
            drop(ops);
            drop(waker);
            #[cfg(not(sim))]
            if may_take_minutes {
                let cancel = opcode::AsyncCancel::new(tag(Kind::Op, self.i)).build();
                self.reactor.submit(cancel.user_data(tag(Kind::Ignored, 0)));
            }
        } else {
            let slot = ops.slots.remove(self.i);
            drop(ops);
            if let Some(Slot { work, state: State::Done(result) }) = slot {
                self.reactor.discard(work, result);
            }
        }
    }
}
