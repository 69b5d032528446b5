//! What a process of many small arenas asks of the kernel's memory.
#![allow(unsafe_code)]

use std::io;

/// Keeps transparent huge pages out of the process: with them an allocator that maps memory ahead of use makes every
/// small arena cost 2 MiB. Call it before threads start.
pub fn without_huge_pages() -> io::Result<()> {
    // SAFETY: PR_SET_THP_DISABLE takes numbers only.
    match unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, 1u64, 0u64, 0u64, 0u64) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Has mimalloc give this thread's free memory back to the system. By itself it does so when it is next asked for something,
/// and a thread at rest asks for nothing. Some 100 us, and a few more for each MiB. Without effect where another allocator
/// is the process's.
pub fn give_back() {
    // SAFETY: takes a flag only; each thread has its own heap.
    unsafe { mi_collect(true) };
}

// The crate has it behind a feature that needs more of C's types. It is named so that the library is linked.
use libmimalloc_sys as _;
unsafe extern "C" {
    fn mi_collect(force: bool);
}
