//! What a process of many small arenas asks of the kernel's memory.
#![allow(unsafe_code)]

use std::io;

/// `PR_THP_DISABLE_EXCEPT_ADVISED`, since Linux 6.18.
const EXCEPT_ADVISED: libc::c_ulong = 1 << 1;

/// Keeps transparent huge pages to the memory that asks for them, as buffers do: with them everywhere an allocator that maps
/// memory ahead of use makes every small arena cost 2 MiB. Call it before threads start.
///
/// It is so already where the system's mode is `madvise`. Where it is `always` and the kernel knows only all or nothing, it is nothing.
pub fn huge_pages_where_asked() -> io::Result<()> {
    let mode = std::fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled")?;
    if !mode.contains("[always]") || disable_huge_pages(EXCEPT_ADVISED).is_ok() {
        return Ok(());
    }
    disable_huge_pages(0)
}

fn disable_huge_pages(flags: libc::c_ulong) -> io::Result<()> {
    // SAFETY: PR_SET_THP_DISABLE takes numbers only.
    match unsafe {
        libc::prctl(libc::PR_SET_THP_DISABLE, 1 as libc::c_ulong, flags, 0 as libc::c_ulong, 0 as libc::c_ulong)
    } {
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
// SAFETY: as mimalloc.h declares it.
unsafe extern "C" {
    fn mi_collect(force: bool);
}
