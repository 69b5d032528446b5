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
