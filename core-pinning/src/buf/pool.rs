//! Where aligned buffers come from and go back to.
//!
//! | size class         | comes from                                 | goes back to                                                  |
//! |--------------------|--------------------------------------------|---------------------------------------------------------------|
//! | 4 to 64 KiB        | this thread's list, the allocator          | this thread's list while it is short, the allocator           |
//! | 128 KiB to 4 MiB   | this thread's list, the shared list, slabs | this thread's list, the shared list; beyond, only the address |
//! | larger             | the allocator                              | the allocator                                                 |
//!
//! Memory that is fresh from the kernel costs more than all that is done with the bytes in it, one page fault for each
//! 4 KiB; a slab has its pages made in one go. No huge pages: a virtual machine that reports free memory to its host gets every
//! one of them from there, at eight times the cost (measured). Requests are often received on one shard and placed on another:
//! the shared list, behind a lock that is taken for large buffers only, evens that out.
#![allow(unsafe_code)]

use super::BLOCK;
use std::{
    alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error},
    cell::RefCell,
    ptr::{self, NonNull},
    sync::{Mutex, PoisonError},
};

/// Buffers above this size are not recycled.
const LARGEST: usize = 4 << 20;
/// The smallest class that is cut from slabs.
const LARGE: usize = 128 << 10;
/// Address space taken at a time.
const SLAB: usize = 2 << 20;
/// Bytes of free buffers that a thread keeps.
const KEPT_BY_THREAD: usize = 8 << 20;
/// Bytes of free buffers that all threads keep together.
const KEPT_SHARED: usize = 32 << 20;
const CLASSES: usize = class_of(LARGEST) + 1;

const fn class_of(cap: usize) -> usize {
    (cap.ilog2() - BLOCK.ilog2()) as usize
}

/// A free buffer: nobody else has its address.
struct Free(NonNull<u8>);

// SAFETY: plain memory with one owner.
unsafe impl Send for Free {}

struct Lists {
    classes: [Vec<Free>; CLASSES],
    bytes: usize,
    limit: usize,
}

impl Lists {
    const fn new(limit: usize) -> Lists {
        Lists { classes: [const { Vec::new() }; CLASSES], bytes: 0, limit }
    }

    fn pop(&mut self, class: usize) -> Option<Free> {
        let free = self.classes[class].pop()?;
        self.bytes -= BLOCK << class;
        Some(free)
    }

    /// Gives it back where the list is full.
    fn push(&mut self, class: usize, free: Free) -> Result<(), Free> {
        let size = BLOCK << class;
        if self.bytes + size > self.limit {
            return Err(free);
        }
        self.bytes += size;
        self.classes[class].push(free);
        Ok(())
    }
}

impl Drop for Lists {
    fn drop(&mut self) {
        for (class, list) in self.classes.iter_mut().enumerate() {
            list.drain(..).for_each(|free| free_for_all(class, free));
        }
    }
}

struct Shared {
    filled: Lists,
    /// Addresses without memory.
    hollow: [Vec<Free>; CLASSES],
}

thread_local! {
    static MINE: RefCell<Lists> = const { RefCell::new(Lists::new(KEPT_BY_THREAD)) };
}

static SHARED: Mutex<Shared> =
    Mutex::new(Shared { filled: Lists::new(KEPT_SHARED), hollow: [const { Vec::new() }; CLASSES] });

/// Memory that is taken.
pub(super) struct Taken {
    pub(super) ptr: NonNull<u8>,
    /// Bytes, all initialised; at least those asked for.
    pub(super) cap: usize,
    /// Not all of them are zero.
    pub(super) used: bool,
}

fn layout(cap: usize) -> Layout {
    Layout::from_size_align(cap, BLOCK).expect("buffer size fits the address space")
}

fn allocate(cap: usize) -> NonNull<u8> {
    // SAFETY: the layout has a size of at least one block.
    NonNull::new(unsafe { alloc_zeroed(layout(cap)) }).unwrap_or_else(|| handle_alloc_error(layout(cap)))
}

pub(super) fn take(cap: usize) -> Taken {
    if cap > LARGEST {
        let cap = cap.next_multiple_of(BLOCK);
        return Taken { ptr: allocate(cap), cap, used: false };
    }
    let cap = cap.max(BLOCK).next_power_of_two();
    let class = class_of(cap);
    let mine = MINE.try_with(|mine| mine.borrow_mut().pop(class)).ok().flatten();
    if let Some(Free(ptr)) = mine {
        return Taken { ptr, cap, used: true };
    }
    if cap < LARGE {
        return Taken { ptr: allocate(cap), cap, used: false };
    }
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(Free(ptr)) = shared.filled.pop(class) {
        return Taken { ptr, cap, used: true };
    }
    if let Some(Free(ptr)) = shared.hollow[class].pop() {
        drop(shared);
        populate(ptr, cap);
        return Taken { ptr, cap, used: false };
    }
    drop(shared);
    let slab = map_slab(cap.max(SLAB));
    for at in (cap..SLAB).step_by(cap) {
        // SAFETY: inside the slab.
        give_back(class, Free(unsafe { slab.add(at) }));
    }
    Taken { ptr: slab, cap, used: false }
}

/// # Safety
/// `ptr` and `cap` are from one `take`, and nobody uses the memory any more.
pub(super) unsafe fn give(ptr: NonNull<u8>, cap: usize) {
    if cap > LARGEST {
        // SAFETY: the allocator's, by the caller's promise.
        return unsafe { dealloc(ptr.as_ptr(), layout(cap)) };
    }
    give_back(class_of(cap), Free(ptr));
}

fn give_back(class: usize, free: Free) {
    let mut rest = Some(free);
    let _ = MINE.try_with(|mine| {
        if let Some(free) = rest.take() {
            rest = mine.borrow_mut().push(class, free).err();
        }
    });
    if let Some(free) = rest {
        free_for_all(class, free);
    }
}

/// For other threads, if there is a use for it.
fn free_for_all(class: usize, free: Free) {
    let cap = BLOCK << class;
    if cap < LARGE {
        // SAFETY: the allocator's, with this layout, and nobody else holds it.
        return unsafe { dealloc(free.0.as_ptr(), layout(cap)) };
    }
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Err(free) = shared.filled.push(class, free) {
        drop(shared);
        hollow(class, free);
    }
}

/// Gives the memory back and keeps the address.
fn hollow(class: usize, free: Free) {
    // SAFETY: a whole buffer of a slab that nobody uses; the kernel makes zeroed pages when it is used again.
    unsafe { libc::madvise(free.0.as_ptr().cast(), BLOCK << class, libc::MADV_DONTNEED) };
    SHARED.lock().unwrap_or_else(PoisonError::into_inner).hollow[class].push(free);
}

/// Gives the memory of this thread's free buffers, and of those that no thread has, back to the system.
pub fn trim() {
    let mine = MINE.try_with(|mine| mine.replace(Lists::new(KEPT_BY_THREAD)));
    drop(mine);
    let mut idle =
        std::mem::replace(&mut SHARED.lock().unwrap_or_else(PoisonError::into_inner).filled, Lists::new(KEPT_SHARED));
    for (class, list) in idle.classes.iter_mut().enumerate() {
        list.drain(..).for_each(|free| hollow(class, free));
    }
}

/// A fresh mapping of zeroes, its pages made.
fn map_slab(bytes: usize) -> NonNull<u8> {
    let (prot, flags) =
        (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE);
    // SAFETY: a fresh private mapping.
    let base = unsafe { libc::mmap(ptr::null_mut(), bytes, prot, flags, -1, 0) };
    match NonNull::new(base.cast()) {
        Some(slab) if base != libc::MAP_FAILED => {
            populate(slab, bytes);
            slab
        }
        _ => handle_alloc_error(layout(bytes)),
    }
}

/// Makes the pages in one call rather than in a fault each. A kernel that cannot (before 5.14) makes them at first touch.
fn populate(ptr: NonNull<u8>, bytes: usize) {
    // SAFETY: our own memory; its contents stay.
    unsafe { libc::madvise(ptr.as_ptr().cast(), bytes, libc::MADV_POPULATE_WRITE) };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::AlignedBuf;

    #[test]
    fn free_lists_are_bounded() {
        let many: Vec<_> = (0..40).map(|_| AlignedBuf::new(4 << 20)).collect();
        drop(many);
        MINE.with(|mine| assert!(mine.borrow().bytes <= KEPT_BY_THREAD));
        assert!(SHARED.lock().unwrap().filled.bytes <= KEPT_SHARED);
    }

    #[test]
    fn buffers_of_a_slab_do_not_overlap() {
        for size in [LARGE, 256 << 10, 1 << 20, SLAB, LARGEST] {
            let mut held: Vec<_> = (0..24).map(|_| AlignedBuf::new(size)).collect();
            for (n, buf) in held.iter_mut().enumerate() {
                buf.set_len(size);
                buf.as_mut_slice().fill(n as u8);
            }
            assert!(held.iter().enumerate().all(|(n, buf)| buf.iter().all(|b| *b == n as u8)));
        }
    }

    #[test]
    fn memory_that_was_given_back_comes_again_as_zeroes() {
        let held: Vec<_> = (0..64).map(|_| AlignedBuf::copy_from(&[7; LARGE])).collect();
        drop(held);
        trim();
        let again: Vec<_> = (0..64).map(|_| AlignedBuf::zeroed(LARGE)).collect();
        assert!(again.iter().all(|buf| buf.iter().all(|b| *b == 0)));
    }

    #[test]
    fn a_buffer_may_end_on_another_thread() {
        let held: Vec<_> = (0..100).map(|_| AlignedBuf::copy_from(&[1; 200 << 10])).collect();
        let sum = std::thread::spawn(move || held.iter().map(|b| b.len()).sum::<usize>()).join().unwrap();
        assert_eq!(sum, 100 * (200 << 10));
        let mut again = AlignedBuf::new(200 << 10);
        again.extend_from_slice(&[2; 256 << 10]);
    }
}
