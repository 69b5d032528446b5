//! Buffers that are larger than any size class.
//!
//! Each has address space of its own. What fresh memory costs is felt here most: a huge page that the kernel clears holds up the
//! shard for 100 us, and for milliseconds where a hypervisor has to find its memory first; to give up small ones by the thousand is
//! no better. So free slabs of the lists are moved in as the buffer is filled (page tables only, a few microseconds each), and back
//! when it ends, as far as the lists have room. Where they have none free, the kernel makes pages as they are touched.

use super::{
    Free, SLAB, SLAB_CLASS, advise, give_back, keep_place, layout, map_at, map_slab, place_for_slab, take_slab,
};
use std::{alloc::handle_alloc_error, io, ptr::NonNull};

/// Address space for `bytes`, at a slab's alignment, without memory.
pub(super) fn map(bytes: usize) -> NonNull<u8> {
    let ptr = map_slab(bytes);
    advise(ptr, bytes, true);
    ptr
}

/// Moves memory to where bytes `from` to `to` are about to be written; what is there beyond `from` is lost. `filled`: up to where
/// earlier calls have. Returns up to where that is now.
///
/// # Safety
/// `ptr` and `cap` are from one `take` of more than any class has, `to <= cap`, and nobody else reads or writes the buffer.
pub(in super::super) unsafe fn fill(ptr: NonNull<u8>, cap: usize, filled: usize, from: usize, to: usize) -> usize {
    let mut at = filled.max(from.next_multiple_of(SLAB));
    while at < to && at + SLAB <= cap {
        // SAFETY: inside the buffer.
        let place = Free(unsafe { ptr.add(at) });
        if let Some(slab) = take_slab() {
            match move_slab(&slab, &place) {
                true => keep_place(slab),
                false => {
                    map_again(&place);
                    give_back(SLAB_CLASS, slab);
                }
            }
        }
        at += SLAB;
    }
    at.max(filled)
}

/// # Safety
/// `ptr` and `cap` are from one `take` of more than any class has, `filled` from the last `fill`, and nobody uses the memory any more.
pub(super) unsafe fn unmap(ptr: NonNull<u8>, cap: usize, filled: usize) {
    for at in (0..filled).step_by(SLAB) {
        // SAFETY: inside the buffer.
        let slab = Free(unsafe { ptr.add(at) });
        let Some(place) = place_for_slab() else { break };
        // Where that fails, the place may be gone, and what is in the slab goes with the rest.
        if move_slab(&slab, &place) {
            give_back(SLAB_CLASS, place);
        }
    }
    // SAFETY: the buffer's own mapping, by the caller's promise.
    unsafe { libc::munmap(ptr.as_ptr().cast(), cap) };
}

/// Moves a slab's memory to another place, instead of what is there. Its address stays ours, or another thread would map it.
fn move_slab(slab: &Free, place: &Free) -> bool {
    let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED | libc::MREMAP_DONTUNMAP;
    let (from, to): (*mut libc::c_void, *mut libc::c_void) = (slab.0.as_ptr().cast(), place.0.as_ptr().cast());
    // SAFETY: both are a slab's size and alignment, and `Free`: nobody else has the addresses.
    let moved = unsafe { libc::mremap(from, SLAB, SLAB, flags, to) };
    moved != libc::MAP_FAILED
}

/// A place that memory could not be moved to is one without memory: the kernel may have taken the mapping away. If something is there,
/// that is the mapping itself (another thread would have had to map its own at this address between the two calls).
fn map_again(place: &Free) {
    let again = map_at(place.0.as_ptr(), SLAB, libc::MAP_FIXED_NOREPLACE);
    if again.is_none() && io::Error::last_os_error().raw_os_error() != Some(libc::EEXIST) {
        handle_alloc_error(layout(SLAB));
    }
}

#[cfg(test)]
mod tests {
    use crate::AlignedBuf;

    const SIZE: usize = 3 * super::SLAB;

    /// A buffer that has come in pieces.
    fn come(byte: u8) -> AlignedBuf {
        let mut buf = AlignedBuf::new(SIZE);
        for n in 0..SIZE / (64 << 10) {
            buf.extend_from_slice(&[byte ^ n as u8; 64 << 10]);
        }
        buf
    }

    fn holds(buf: &AlignedBuf, byte: u8) -> bool {
        buf.len() == SIZE
            && buf.chunks(64 << 10).enumerate().all(|(n, piece)| piece.iter().all(|b| *b == byte ^ n as u8))
    }

    #[test]
    fn a_giant_lives_in_the_memory_of_the_last_one() {
        drop(come(0x80));
        let mut next = AlignedBuf::new(SIZE);
        next.extend_from_slice(&[0; 100]);
        next.set_len(super::SLAB);
        assert!(next[100..].iter().all(|b| *b != 0), "fresh memory is zero");
    }

    #[test]
    fn giants_do_not_share_memory() {
        drop(come(1));
        let (one, other) = (come(2), come(3));
        assert!(holds(&one, 2) && holds(&other, 3));
    }

    #[test]
    fn what_was_written_before_more_comes_is_kept() {
        drop(come(1));
        let mut buf = AlignedBuf::zeroed(SIZE);
        buf.as_mut_slice()[..100].fill(7);
        buf.truncate(100);
        buf.extend_from_slice(&[8; SIZE - 100]);
        assert!(buf[..100].iter().all(|b| *b == 7) && buf[100..].iter().all(|b| *b == 8));
        let kept = buf.freeze();
        drop(come(9));
        assert!(kept[..100].iter().all(|b| *b == 7) && kept[100..].iter().all(|b| *b == 8));
    }
}
