//! A backtrace of another thread: a signal to it, whose handler only walks the frames into a static array.
#![allow(unsafe_code)]

use std::{
    io,
    sync::{
        Once,
        atomic::{AtomicU32, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

const FRAMES: usize = 96;
const WAIT: Duration = Duration::from_millis(50);

const IDLE: u32 = 0;
const ASKED: u32 = 1;
const WRITING: u32 = 2;
const DONE: u32 = 3;

/// Only the detector's thread asks, one thread at a time.
static STATE: AtomicU32 = AtomicU32::new(IDLE);
static LEN: AtomicUsize = AtomicUsize::new(0);
static IPS: [AtomicUsize; FRAMES] = [const { AtomicUsize::new(0) }; FRAMES];

fn signal() -> i32 {
    libc::SIGRTMIN() + 7
}

/// Touches nothing but statics and the frames of its own thread. `backtrace` asks the system's unwinder, which takes
/// no lock with glibc 2.35 and newer.
extern "C" fn handler(_: i32) {
    if STATE.compare_exchange(ASKED, WRITING, Ordering::Acquire, Ordering::Relaxed).is_err() {
        return; // a late answer to a question that was given up
    }
    // SAFETY: errno belongs to this thread.
    let errno = unsafe { *libc::__errno_location() };
    let mut n = 0;
    // SAFETY: unsynchronised: nobody else unwinds this thread, and only the detector's thread resolves, afterwards.
    unsafe {
        backtrace::trace_unsynchronized(|frame| {
            if let Some(ip) = IPS.get(n) {
                ip.store(frame.ip() as usize, Ordering::Relaxed);
                n += 1;
            }
            n < FRAMES
        });
    }
    LEN.store(n, Ordering::Relaxed);
    STATE.store(DONE, Ordering::Release);
    // SAFETY: as above.
    unsafe { *libc::__errno_location() = errno };
}

/// Installs the handler, once per process.
pub(super) fn install() -> io::Result<()> {
    static ONCE: Once = Once::new();
    let mut result = Ok(());
    ONCE.call_once(|| {
        // the first unwinding may allocate; not in the handler
        drop(backtrace::Backtrace::new_unresolved());
        // SAFETY: the action is fully initialised, and the handler keeps to what its comment says.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = handler as extern "C" fn(i32) as usize;
            action.sa_flags = libc::SA_RESTART | libc::SA_ONSTACK;
            libc::sigemptyset(&mut action.sa_mask);
            if libc::sigaction(signal(), &action, std::ptr::null_mut()) != 0 {
                result = Err(io::Error::last_os_error());
            }
        }
    });
    result
}

/// Addresses on the stack of a thread of this process, innermost first; `None` if it does not answer.
pub(super) fn capture(thread: libc::pid_t) -> Option<Vec<usize>> {
    STATE.store(ASKED, Ordering::Release);
    // SAFETY: sends a signal, for which a handler is installed, to a thread of this process or to none.
    if unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), thread, signal()) } != 0 {
        STATE.store(IDLE, Ordering::Release);
        return None;
    }
    let by = Instant::now() + WAIT;
    while STATE.load(Ordering::Acquire) != DONE {
        if Instant::now() > by {
            let given_up = STATE.compare_exchange(ASKED, IDLE, Ordering::Relaxed, Ordering::Relaxed).is_ok();
            if given_up {
                return None;
            }
        }
        thread::park_timeout(Duration::from_micros(100));
    }
    let frames = IPS.iter().take(LEN.load(Ordering::Relaxed)).map(|ip| ip.load(Ordering::Relaxed)).collect();
    STATE.store(IDLE, Ordering::Release);
    Some(frames)
}

/// CPU time that a thread of this process has used; zero if there is no such thread.
pub(super) fn cpu_time(thread: libc::pid_t) -> Duration {
    // the kernel's encoding of a thread's clock: CPUCLOCK_PERTHREAD | CPUCLOCK_SCHED
    let clock = (!thread << 3) | 6;
    let mut t = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `t` is a valid timespec; an unknown clock is refused.
    match unsafe { libc::clock_gettime(clock, &mut t) } {
        0 => Duration::new(t.tv_sec as u64, t.tv_nsec as u32),
        _ => Duration::ZERO,
    }
}

/// True if the thread runs or waits for a core, false if it waits for something else.
pub(super) fn is_runnable(thread: libc::pid_t) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/self/task/{thread}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|s| s.trim_start().starts_with('R'))
}
