//! Cores: which there are, and tying a thread to one.
#![allow(unsafe_code)]

use std::io;

const MAX_CORES: usize = libc::CPU_SETSIZE as usize;

/// The cores this process may run on, ascending (sched_getaffinity of the main thread's process).
pub fn allowed_cores() -> io::Result<Vec<usize>> {
    // SAFETY: an all-zero cpu_set_t is valid.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // the process' own id, so that a pinned thread sees what the process may use
    // SAFETY: `set` is large enough for the size given.
    let r = unsafe { libc::sched_getaffinity(libc::getpid(), size_of::<libc::cpu_set_t>(), &mut set) };
    if r != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: `c` is below CPU_SETSIZE.
    Ok((0..MAX_CORES).filter(|&c| unsafe { libc::CPU_ISSET(c, &set) }).collect())
}

/// What is wrong with a list of cores.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CoreListError {
    /// Not a number, a range `a-b`, or a list of these.
    Malformed(String),
    /// A range that runs backwards.
    Backwards(String),
    Twice(usize),
    TooLarge(usize),
    Empty,
}

impl std::fmt::Display for CoreListError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            CoreListError::Malformed(s) => write!(f, "\"{s}\" is neither a core number nor a range such as 0-3"),
            CoreListError::Backwards(s) => write!(f, "the range {s} runs backwards"),
            CoreListError::Twice(c) => write!(f, "core {c} is named twice"),
            CoreListError::TooLarge(c) => write!(f, "core {c} is beyond the {MAX_CORES} that can be addressed"),
            CoreListError::Empty => f.write_str("the list of cores is empty"),
        }
    }
}

impl std::error::Error for CoreListError {}

/// Reads a list such as `0-3,6`; the order is kept.
pub fn parse_cores(list: &str) -> Result<Vec<usize>, CoreListError> {
    let number = |s: &str| s.trim().parse::<usize>().map_err(|_| CoreListError::Malformed(s.trim().to_owned()));
    let mut cores = Vec::new();
    for part in list.split(',').filter(|p| !p.trim().is_empty()) {
        let (from, to) = match part.split_once('-') {
            Some((a, b)) => (number(a)?, number(b)?),
            None => (number(part)?, number(part)?),
        };
        if from > to {
            return Err(CoreListError::Backwards(part.trim().to_owned()));
        }
        if to >= MAX_CORES {
            return Err(CoreListError::TooLarge(to));
        }
        for c in from..=to {
            if cores.contains(&c) {
                return Err(CoreListError::Twice(c));
            }
            cores.push(c);
        }
    }
    if cores.is_empty() { Err(CoreListError::Empty) } else { Ok(cores) }
}

/// Ties the calling thread to `cores`.
pub(crate) fn pin_thread(cores: &[usize]) -> io::Result<()> {
    // SAFETY: an all-zero cpu_set_t is valid; every core is below CPU_SETSIZE.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    for &c in cores {
        if c >= MAX_CORES {
            return Err(io::Error::other(CoreListError::TooLarge(c)));
        }
        // SAFETY: see above.
        unsafe { libc::CPU_SET(c, &mut set) };
    }
    // SAFETY: `set` has the size given.
    match unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set) } {
        0 => Ok(()),
        _ => Err(io::Error::new(
            io::Error::last_os_error().kind(),
            format!("cannot run on core {cores:?}: {}", io::Error::last_os_error()),
        )),
    }
}

/// Lets a helper thread run on every core of the process, although a pinned thread started it.
pub(crate) fn unpin_thread() {
    if let Ok(cores) = allowed_cores() {
        let _ = pin_thread(&cores);
    }
}

/// Has the calling thread run when nobody else wants the core, for good.
pub(crate) fn idle_priority() {
    let nothing = libc::sched_param { sched_priority: 0 };
    // SAFETY: the calling thread; the structure is complete. Where it is refused, the thread runs as any other.
    unsafe { libc::sched_setscheduler(0, libc::SCHED_IDLE, &nothing) };
}

/// Asks for a 20 ms slice for the calling thread (Linux 6.12; harmless before). A longer slice gives the workers that
/// complete a flush on this core the earlier deadline, so they need not wait for the tick.
pub(crate) fn lengthen_slice() {
    #[repr(C)]
    #[derive(Default)]
    struct SchedAttr {
        size: u32,
        policy: u32,
        flags: u64,
        nice: i32,
        priority: u32,
        /// The slice, for SCHED_OTHER.
        runtime: u64,
        deadline: u64,
        period: u64,
    }
    const SLICE_NS: u64 = 20_000_000;
    // SAFETY: plain getpriority/sched_setattr calls; `attr` has the size it states.
    unsafe {
        let nice = libc::getpriority(libc::PRIO_PROCESS, 0);
        let attr = SchedAttr { size: size_of::<SchedAttr>() as u32, nice, runtime: SLICE_NS, ..Default::default() };
        libc::syscall(libc::SYS_sched_setattr, 0, &attr, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn core_lists() {
        assert_eq!(parse_cores("0-3,6"), Ok(vec![0, 1, 2, 3, 6]));
        assert_eq!(parse_cores(" 5 , 2-2 ,"), Ok(vec![5, 2]));
        for bad in ["", ",", "a", "3-1", "1,1", "0-2,1", "-1", "1-", "99999"] {
            assert!(parse_cores(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn this_process_may_run_somewhere() {
        let cores = allowed_cores().unwrap();
        assert!(!cores.is_empty());
        std::thread::spawn(move || {
            pin_thread(&cores[..1]).unwrap();
            assert_eq!(allowed_cores().unwrap(), cores, "pinning one thread must not change what the process may use");
            lengthen_slice();
        })
        .join()
        .unwrap();
    }
}
