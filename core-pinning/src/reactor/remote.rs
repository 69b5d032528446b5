//! How other threads reach a shard: mail bits, and one eventfd write when it sleeps.
#![allow(unsafe_code)]

use crate::ready::WakeCell;
#[cfg(not(sim))]
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::{
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering, fence},
    },
};

/// Kinds of mail; each has an event on the shard.
pub(crate) mod mail {
    /// A message in a ring of the mesh.
    pub const MESH: u32 = 1;
    /// Something in the inbox.
    pub const INBOX: u32 = 1 << 1;
    /// Room in a ring of the mesh that was full.
    pub const ROOM: u32 = 1 << 2;
    /// A job that was given to the helper thread is done.
    pub const OFFLOAD: u32 = 1 << 3;
    /// The pool wants the shard to end.
    pub const STOP: u32 = 1 << 4;
    /// Tasks woken by other threads.
    pub const WAKE: u32 = 1 << 5;
    pub const KINDS: usize = 6;
}

pub(crate) struct Remote {
    bits: AtomicU32,
    sleeping: AtomicBool,
    /// In a simulation nobody sleeps so deep, and lost processes would keep theirs.
    #[cfg(not(sim))]
    wake_fd: OwnedFd,
    woken: Mutex<Vec<Arc<WakeCell>>>,
}

impl Remote {
    pub fn new() -> io::Result<Remote> {
        Ok(Remote {
            bits: AtomicU32::new(0),
            sleeping: AtomicBool::new(false),
            #[cfg(not(sim))]
            wake_fd: eventfd()?,
            woken: Mutex::default(),
        })
    }

    #[cfg(not(sim))]
    pub fn fd(&self) -> std::os::fd::BorrowedFd<'_> {
        use std::os::fd::AsFd;
        self.wake_fd.as_fd()
    }

    /// After publishing something (a push into a ring): tells the shard to look. Any thread.
    ///
    /// Against the shard's `take`: our push, a full fence, our look at the bits; its clearing of the bits, a full fence,
    /// its look at the ring. Either we see the bit cleared and set it again, or it sees our push. Likewise for `sleep`.
    #[inline]
    pub fn notify(&self, kinds: u32) {
        fence(Ordering::SeqCst);
        if self.bits.load(Ordering::Relaxed) & kinds == kinds {
            return;
        }
        self.bits.fetch_or(kinds, Ordering::SeqCst);
        #[cfg(not(sim))]
        if self.sleeping.load(Ordering::SeqCst) && self.sleeping.swap(false, Ordering::SeqCst) {
            self.signal();
        }
    }

    /// Completes the ring's wait for the eventfd.
    #[cfg(not(sim))]
    fn signal(&self) {
        // SAFETY: writes eight bytes from a live buffer to our descriptor.
        unsafe {
            libc::write(self.wake_fd.as_raw_fd(), [1u64].as_ptr().cast(), 8);
        }
    }

    /// Another thread has woken a task of the shard.
    pub fn wake_later(&self, task: Arc<WakeCell>) {
        self.woken.lock().unwrap_or_else(PoisonError::into_inner).push(task);
    }

    /// The shard: the tasks that other threads have woken.
    pub fn take_woken(&self) -> Vec<Arc<WakeCell>> {
        std::mem::take(&mut *self.woken.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The shard: takes the mail bits; everything published before a bit was set can be seen afterwards.
    #[inline]
    pub fn take(&self) -> u32 {
        if self.bits.load(Ordering::Relaxed) == 0 {
            return 0;
        }
        let bits = self.bits.swap(0, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        bits
    }

    /// The shard, before it sleeps: true if it must not, because there is mail.
    #[cfg(not(sim))]
    pub fn going_to_sleep(&self) -> bool {
        self.sleeping.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        self.bits.load(Ordering::SeqCst) != 0
    }

    /// True if somebody wants the shard to look.
    #[cfg(sim)]
    pub fn has_mail(&self) -> bool {
        self.bits.load(Ordering::SeqCst) != 0
    }

    #[cfg(not(sim))]
    pub fn awake(&self) {
        self.sleeping.store(false, Ordering::SeqCst);
        crate::stall::shard_awake();
    }

    /// True while the shard sleeps (a hint, for the stall detector).
    pub fn is_sleeping(&self) -> bool {
        self.sleeping.load(Ordering::Relaxed)
    }
}

#[cfg(not(sim))]
fn eventfd() -> io::Result<OwnedFd> {
    // SAFETY: makes a fresh descriptor, owned from here on.
    let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: just made, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
