//! Setting an io_uring up, and entering it.
#![allow(unsafe_code)]

use io_uring::{IoUring, opcode, register::Probe};
use std::{io, os::fd::AsRawFd};

pub(crate) struct Ring {
    pub uring: IoUring,
    /// Index of the registered ring descriptor, which saves a look-up per enter.
    registered: Option<u32>,
}

/// What a shard's ring must be able to do, with the names people know.
pub(crate) const NEEDED: &[(u8, &str)] = &[
    (opcode::Read::CODE, "read"),
    (opcode::Write::CODE, "write"),
    (opcode::Fsync::CODE, "fsync"),
    (opcode::Fallocate::CODE, "fallocate"),
    (opcode::OpenAt::CODE, "openat"),
    (opcode::Close::CODE, "close"),
    (opcode::Statx::CODE, "statx"),
    (opcode::RenameAt::CODE, "renameat"),
    (opcode::UnlinkAt::CODE, "unlinkat"),
    (opcode::MkDirAt::CODE, "mkdirat"),
    (opcode::AcceptMulti::CODE, "accept"),
    (opcode::Connect::CODE, "connect"),
    (opcode::RecvMulti::CODE, "recv"),
    (opcode::Send::CODE, "send"),
    (opcode::SendMsg::CODE, "sendmsg"),
    (opcode::PollAdd::CODE, "poll"),
    (opcode::AsyncCancel::CODE, "cancel"),
    (opcode::Timeout::CODE, "timeout"),
    (opcode::TimeoutRemove::CODE, "timeout remove"),
];

/// Kernel threads per shard for what cannot be done at once (fsync, names), and as many for what may wait for ever.
const WORKERS: u32 = 16;

/// The flags every shard's ring is set up with (Linux 6.1).
pub(crate) fn build(sq_entries: u32, cq_entries: u32) -> io::Result<IoUring> {
    let mut b = IoUring::builder();
    b.setup_single_issuer().setup_defer_taskrun().setup_taskrun_flag().setup_submit_all().setup_clamp();
    b.setup_cqsize(cq_entries);
    b.build(sq_entries)
}

/// Says what to do about an error of the set-up.
pub(crate) fn explain(e: io::Error) -> io::Error {
    let hint = match e.raw_os_error() {
        Some(libc::ENOMEM) => "not enough locked memory for the ring: raise RLIMIT_MEMLOCK (ulimit -l, LimitMEMLOCK=)",
        Some(libc::EPERM | libc::EACCES) => {
            "io_uring is forbidden here: see /proc/sys/kernel/io_uring_disabled and seccomp"
        }
        Some(libc::ENOSYS) => "the kernel has no io_uring",
        Some(libc::EINVAL) => "the kernel does not know a set-up flag: Linux 6.1 or newer is needed",
        Some(libc::EMFILE | libc::ENFILE) => "too many open files: raise RLIMIT_NOFILE (ulimit -n, LimitNOFILE=)",
        _ => "io_uring cannot be set up",
    };
    io::Error::new(e.kind(), format!("{hint} ({e})"))
}

impl Ring {
    pub fn new(sq_entries: u32, cq_entries: u32) -> io::Result<Ring> {
        let uring = build(sq_entries, cq_entries).map_err(explain)?;
        let mut probe = Probe::new();
        uring.submitter().register_probe(&mut probe).map_err(explain)?;
        if let Some((_, name)) = NEEDED.iter().find(|(code, _)| !probe.is_supported(*code)) {
            return Err(io::Error::other(format!(
                "the kernel's io_uring cannot do {name}: Linux 6.1 or newer is needed"
            )));
        }
        // Opening thousands of files at once would otherwise start as many workers of the kernel. A refusal harms little.
        let _ = uring.submitter().register_iowq_max_workers(&mut [WORKERS, WORKERS]);
        // io-uring's own register_ring_fd lives only as long as one Submitter.
        let mut update = [u32::MAX, 0, uring.as_raw_fd() as u32, 0];
        const REGISTER_RING_FDS: u32 = 20;
        // SAFETY: one io_uring_rsrc_update {offset: u32, resv: u32, data: u64} in live memory.
        let n = unsafe {
            libc::syscall(libc::SYS_io_uring_register, uring.as_raw_fd(), REGISTER_RING_FDS, update.as_mut_ptr(), 1)
        };
        Ok(Ring { uring, registered: (n == 1).then_some(update[0]) })
    }

    /// Submits `n` entries, runs deferred completions, and waits until there are `wait_for`. A signal ends the wait.
    pub fn enter(&self, n: usize, wait_for: usize) -> io::Result<()> {
        const GETEVENTS: u32 = 1;
        const REGISTERED_RING: u32 = 1 << 4;
        let (fd, flags) = match self.registered {
            Some(i) => (i as i32, GETEVENTS | REGISTERED_RING),
            None => (self.uring.as_raw_fd(), GETEVENTS),
        };
        // SAFETY: the entries point at memory that their owners keep until the completion; no argument is passed.
        match unsafe { libc::syscall(libc::SYS_io_uring_enter, fd, n, wait_for, flags, 0usize, 0usize) } {
            -1 => match io::Error::last_os_error() {
                // tried again at the next turn
                e if matches!(e.raw_os_error(), Some(libc::EAGAIN | libc::EBUSY | libc::EINTR)) => Ok(()),
                e => Err(e),
            },
            _ => Ok(()),
        }
    }
}
