//! Where aligned buffers come from and go back to.
//!
//! | size class         | comes from                                 | goes back to                                                  |
//! |--------------------|--------------------------------------------|---------------------------------------------------------------|
//! | 4 to 64 KiB        | this thread's list, the allocator          | this thread's list while it is short, the allocator           |
//! | 128 KiB to 4 MiB   | this thread's list, the shared list, slabs | this thread's list, the shared list; beyond, only its address |
//! | larger (`giant`)   | address space, filled with free slabs      | the lists, slab by slab while they have room                  |
//!
//! A slab of buffers of 512 KiB or more is one huge page where the system gives any: a transfer of 1 MiB is then a handful of
//! segments for the disk instead of 256 (durable appends of 1 MiB go from 1.25 to 1.8 GB/s, at half the CPU), and takes fewer of
//! the processor's address translations. Memory that is fresh from the kernel costs more than all that is done with the bytes in
//! it, so a buffer's is made in one go, a huge page's for all buffers in it (small pages of 2 MiB would hold up the shard for more
//! than a millisecond). It is given back by whole slabs, as long as there are such, because a huge page that loses a part is one
//! no more. A slab that has lost all its parts, one by one, is whole again: the next use of a part of it would bring 2 MiB.
//! Requests are often received on one shard and placed on another: the shared list, behind a lock that is taken for large buffers
//! only, evens that out.
#![allow(unsafe_code)]

pub(super) mod giant;

use super::BLOCK;
use std::{
    alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error},
    cell::RefCell,
    collections::BTreeMap,
    ptr::{self, NonNull},
    sync::{Mutex, PoisonError},
};

/// Buffers above this size are not recycled.
pub(super) const LARGEST: usize = 4 << 20;
/// The smallest class that is cut from slabs.
const LARGE: usize = 128 << 10;
/// The smallest class whose slabs are huge pages: one from the kernel costs a clearing of 2 MiB, which small appends feel.
const HUGE: usize = 512 << 10;
/// Address space taken at a time, and its alignment: a huge page.
const SLAB: usize = 2 << 20;
const SLAB_CLASS: usize = class_of(SLAB);
/// Bytes of free buffers that a thread keeps.
const KEPT_BY_THREAD: usize = 8 << 20;
/// Bytes of free buffers that all threads keep together at most, as long as what is beyond makes up whole slabs; twice as many
/// in any case.
const KEPT_SHARED: usize = 64 << 20;
const CLASSES: usize = class_of(LARGEST) + 1;

const fn class_of(cap: usize) -> usize {
    (cap.ilog2() - BLOCK.ilog2()) as usize
}

/// A free buffer: nobody else has its address.
struct Free(NonNull<u8>);

impl Free {
    /// Address of the slab it is in; for one that is a slab or more, its own.
    fn slab(&self) -> usize {
        self.0.addr().get() & !(SLAB - 1)
    }

    /// The slab that it is a part of, and which part.
    fn of_slab(&self, class: usize) -> (Free, usize) {
        let inside = self.0.addr().get() - self.slab();
        // SAFETY: the slab's address, one mapping with the part's.
        (Free(unsafe { self.0.sub(inside) }), inside / (BLOCK << class))
    }
}

// SAFETY: plain memory with one owner.
unsafe impl Send for Free {}

struct Lists {
    classes: [Vec<Free>; CLASSES],
    bytes: usize,
}

impl Lists {
    const fn new() -> Lists {
        Lists { classes: [const { Vec::new() }; CLASSES], bytes: 0 }
    }

    fn pop(&mut self, class: usize) -> Option<Free> {
        let free = self.classes[class].pop()?;
        self.bytes -= BLOCK << class;
        Some(free)
    }

    /// Gives it back where the list would be over `limit`.
    fn push(&mut self, class: usize, free: Free, limit: usize) -> Result<(), Free> {
        let size = BLOCK << class;
        if self.bytes + size > limit {
            return Err(free);
        }
        self.bytes += size;
        self.classes[class].push(free);
        Ok(())
    }

    fn pop_largest(&mut self) -> Option<(usize, Free)> {
        let most = (0..CLASSES).max_by_key(|class| self.classes[*class].len() << class)?;
        Some((most, self.pop(most)?))
    }

    /// Takes out whole slabs, of the classes that have most, until there are no more than `limit` bytes or no such slabs.
    fn pop_slabs(&mut self, limit: usize) -> Vec<(usize, Free)> {
        let mut order: Vec<usize> = (class_of(LARGE)..CLASSES).collect();
        order.sort_by_key(|class| std::cmp::Reverse(self.classes[*class].len() << class));
        let mut slabs = Vec::new();
        for class in order {
            let list = &mut self.classes[class];
            if class >= SLAB_CLASS {
                while self.bytes > limit
                    && let Some(free) = list.pop()
                {
                    self.bytes -= BLOCK << class;
                    slabs.push((class, free));
                }
                continue;
            }
            list.sort_unstable_by_key(|free| free.0);
            let mut kept = Vec::with_capacity(list.len());
            let mut rest = std::mem::take(list).into_iter().peekable();
            while let Some(first) = rest.next() {
                let slab = first.slab();
                let from = kept.len();
                kept.push(first);
                while let Some(free) = rest.next_if(|free| free.slab() == slab) {
                    kept.push(free);
                }
                if self.bytes > limit && kept.len() - from == SLAB >> (class + BLOCK.ilog2() as usize) {
                    self.bytes -= SLAB;
                    slabs.extend(kept.drain(from..).next().map(|free| (SLAB_CLASS, free)));
                }
            }
            *list = kept;
        }
        slabs
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
    /// Bytes that `filled` keeps.
    kept: usize,
    /// Bytes in `filled` at which whole slabs are looked for.
    search_at: usize,
    /// Addresses without memory, of a slab or more.
    hollow: [Vec<Free>; CLASSES],
    /// Those of parts: for each class the slabs that have any, by address, with a bit for a part.
    hollow_parts: [BTreeMap<usize, (Free, u16)>; SLAB_CLASS],
}

impl Shared {
    const fn new() -> Shared {
        Shared {
            filled: Lists::new(),
            kept: KEPT_SHARED,
            search_at: KEPT_SHARED,
            hollow: [const { Vec::new() }; CLASSES],
            hollow_parts: [const { BTreeMap::new() }; SLAB_CLASS],
        }
    }

    /// Takes a free buffer, and gives those that are too much.
    fn give(&mut self, class: usize, free: Free) -> Vec<(usize, Free)> {
        let mut surplus = Vec::new();
        self.filled.bytes += BLOCK << class;
        self.filled.classes[class].push(free);
        if self.filled.bytes > self.search_at {
            surplus = self.filled.pop_slabs(self.kept * 3 / 4);
            self.search_at = self.filled.bytes.max(self.kept * 3 / 4) + self.kept / 4;
        }
        while self.filled.bytes > self.kept * 2 {
            surplus.extend(self.filled.pop_largest());
        }
        surplus
    }

    fn add_hollow(&mut self, class: usize, free: Free) {
        if class >= SLAB_CLASS {
            return self.hollow[class].push(free);
        }
        let (slab, part) = free.of_slab(class);
        let key = slab.0.addr().get();
        let (_, lost) = self.hollow_parts[class].entry(key).or_insert((slab, 0));
        *lost |= 1 << part;
        if lost.count_ones() as usize == SLAB / (BLOCK << class)
            && let Some((slab, _)) = self.hollow_parts[class].remove(&key)
        {
            self.hollow[SLAB_CLASS].push(slab);
        }
    }

    fn pop_hollow_part(&mut self, class: usize) -> Option<Free> {
        let mut entry = self.hollow_parts.get_mut(class)?.first_entry()?;
        let (slab, lost) = entry.get_mut();
        let part = lost.trailing_zeros() as usize;
        *lost &= *lost - 1;
        // SAFETY: inside the slab, which has that part.
        let free = Free(unsafe { slab.0.add(part * (BLOCK << class)) });
        if *lost == 0 {
            entry.remove();
        }
        Some(free)
    }
}

thread_local! {
    static MINE: RefCell<Lists> = const { RefCell::new(Lists::new()) };
}

static SHARED: Mutex<Shared> = Mutex::new(Shared::new());

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

fn pop_mine(class: usize) -> Option<Free> {
    MINE.try_with(|mine| mine.borrow_mut().pop(class)).ok().flatten()
}

pub(super) fn take(cap: usize) -> Taken {
    if cap > LARGEST {
        let cap = cap.next_multiple_of(BLOCK);
        return Taken { ptr: giant::map(cap), cap, used: false };
    }
    let cap = cap.max(BLOCK).next_power_of_two();
    let class = class_of(cap);
    if let Some(Free(ptr)) = pop_mine(class) {
        return Taken { ptr, cap, used: true };
    }
    if cap < LARGE {
        return Taken { ptr: allocate(cap), cap, used: false };
    }
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(Free(ptr)) = shared.filled.pop(class) {
        return Taken { ptr, cap, used: true };
    }
    if let Some(Free(ptr)) = shared.pop_hollow_part(class) {
        drop(shared);
        populate(ptr, cap);
        return Taken { ptr, cap, used: false };
    }
    let whole = shared.hollow[class.max(SLAB_CLASS)].pop();
    drop(shared);
    let slab = whole.map_or_else(|| map_slab(cap.max(SLAB)), |Free(ptr)| ptr);
    let huge = cap >= HUGE;
    advise(slab, cap.max(SLAB), huge);
    populate(slab, if huge { cap.max(SLAB) } else { cap });
    // SAFETY: inside the slab.
    let others = (cap..SLAB).step_by(cap).map(|at| Free(unsafe { slab.add(at) }));
    if huge {
        others.for_each(|part| give_back(class, part));
    } else {
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        others.for_each(|part| shared.add_hollow(class, part));
    }
    Taken { ptr: slab, cap, used: false }
}

/// # Safety
/// `ptr` and `cap` are from one `take`, and nobody uses the memory any more. `filled` is what [`giant::fill`] said of it at last.
pub(super) unsafe fn give(ptr: NonNull<u8>, cap: usize, filled: usize) {
    if cap > LARGEST {
        // SAFETY: by the caller's promise.
        return unsafe { giant::unmap(ptr, cap, filled) };
    }
    give_back(class_of(cap), Free(ptr));
}

/// A free slab with memory in it, which is to be moved elsewhere.
fn take_slab() -> Option<Free> {
    pop_mine(SLAB_CLASS).or_else(|| SHARED.lock().unwrap_or_else(PoisonError::into_inner).filled.pop(SLAB_CLASS))
}

/// The address for a slab whose memory comes from elsewhere; `None`: there is no room for more.
fn place_for_slab() -> Option<Free> {
    let mine_has_room = MINE.try_with(|mine| mine.borrow().bytes + SLAB <= KEPT_BY_THREAD).unwrap_or(false);
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    if !mine_has_room && shared.filled.bytes + SLAB > shared.kept {
        return None;
    }
    let hollow = shared.hollow[SLAB_CLASS].pop();
    drop(shared);
    Some(hollow.unwrap_or_else(|| Free(map_slab(SLAB))))
}

fn give_back(class: usize, free: Free) {
    let mut rest = Some(free);
    let _ = MINE.try_with(|mine| {
        if let Some(free) = rest.take() {
            rest = mine.borrow_mut().push(class, free, KEPT_BY_THREAD).err();
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
    let surplus = SHARED.lock().unwrap_or_else(PoisonError::into_inner).give(class, free);
    surplus.into_iter().for_each(|(class, free)| hollow(class, free));
}

/// A slab's address, whose memory is gone.
fn keep_place(slab: Free) {
    SHARED.lock().unwrap_or_else(PoisonError::into_inner).add_hollow(SLAB_CLASS, slab);
}

/// Gives the memory back and keeps the address.
fn hollow(class: usize, free: Free) {
    // SAFETY: a whole buffer of a slab that nobody uses; the kernel makes zeroed pages when it is used again.
    unsafe { libc::madvise(free.0.as_ptr().cast(), BLOCK << class, libc::MADV_DONTNEED) };
    if (class_of(HUGE)..SLAB_CLASS).contains(&class) {
        // Or the kernel would fill the hole to make it a huge page again.
        advise(free.of_slab(class).0.0, SLAB, false);
    }
    SHARED.lock().unwrap_or_else(PoisonError::into_inner).add_hollow(class, free);
}

/// Keeps fewer free buffers for all threads: `bytes`, or 64 MiB where that is less.
pub fn keep_at_most(bytes: usize) {
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    shared.kept = bytes.clamp(SLAB, KEPT_SHARED);
    shared.search_at = shared.kept;
}

/// Gives the memory of this thread's free buffers, and of those that no thread has, back to the system.
pub fn trim() {
    let mine = MINE.try_with(|mine| mine.replace(Lists::new()));
    drop(mine);
    let mut surplus = Vec::new();
    {
        let filled = &mut SHARED.lock().unwrap_or_else(PoisonError::into_inner).filled;
        surplus.extend(filled.pop_slabs(0));
        surplus.extend(std::iter::from_fn(|| filled.pop_largest()));
    }
    surplus.into_iter().for_each(|(class, free)| hollow(class, free));
}

/// A fresh mapping of zeroes, without pages.
fn map(bytes: usize) -> NonNull<u8> {
    map_at(ptr::null_mut(), bytes, 0).unwrap_or_else(|| handle_alloc_error(layout(bytes)))
}

/// The same at an address, unless something is there (`MAP_FIXED_NOREPLACE`).
fn map_at(address: *mut u8, bytes: usize, flags: libc::c_int) -> Option<NonNull<u8>> {
    let prot = libc::PROT_READ | libc::PROT_WRITE;
    let flags = flags | libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: a fresh private mapping, in nobody's place: no caller says `MAP_FIXED`.
    let base = unsafe { libc::mmap(address.cast(), bytes, prot, flags, -1, 0) };
    NonNull::new(base.cast()).filter(|_| base != libc::MAP_FAILED)
}

/// The same for a slab, at its alignment.
fn map_slab(bytes: usize) -> NonNull<u8> {
    let base: *mut libc::c_void = map(bytes + SLAB).as_ptr().cast();
    let before = base.addr().next_multiple_of(SLAB) - base.addr();
    // SAFETY: inside the mapping; what is outside the slab goes, and nobody has seen it.
    unsafe {
        let slab = base.byte_add(before);
        if before > 0 {
            libc::munmap(base, before);
        }
        libc::munmap(slab.byte_add(bytes), SLAB - before);
        NonNull::new_unchecked(slab.cast())
    }
}

/// Asks for huge pages or for none. Where there are no huge pages, it is as good without.
fn advise(ptr: NonNull<u8>, bytes: usize, huge: bool) {
    let advice = if huge { libc::MADV_HUGEPAGE } else { libc::MADV_NOHUGEPAGE };
    // SAFETY: our own memory; its contents stay.
    unsafe { libc::madvise(ptr.as_ptr().cast(), bytes, advice) };
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
        assert!(SHARED.lock().unwrap().filled.bytes <= KEPT_SHARED * 2);
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
    fn a_buffer_grows_with_what_it_holds() {
        let mut buf = AlignedBuf::copy_from(&[7; 3000]);
        for room in [100, 1 << 20, LARGEST + 1, 3 * LARGEST, 20 << 20] {
            buf.reserve(room);
            assert!(buf.capacity() >= room && buf.iter().eq(&[7; 3000]));
            let held = buf.len();
            buf.set_len(buf.capacity());
            buf.as_mut_slice()[held..].fill(1);
            buf.truncate(held);
        }
    }

    #[test]
    fn a_slab_that_lost_its_parts_is_whole_again() {
        const SIZE: usize = 512 << 10;
        let (class, slab) = (class_of(SIZE), map_slab(SLAB));
        // SAFETY: inside the slab.
        let part = |n: usize| Free(unsafe { slab.add(n * SIZE) });
        let mut shared = Shared::new();
        for n in [2, 0, 3] {
            shared.add_hollow(class, part(n));
        }
        assert_eq!(shared.pop_hollow_part(class).map(|free| free.0), Some(slab));
        shared.add_hollow(class, part(1));
        assert!(shared.hollow[SLAB_CLASS].is_empty());
        shared.add_hollow(class, part(0));
        assert_eq!(shared.hollow[SLAB_CLASS].pop().map(|free| free.0), Some(slab));
        assert!(shared.pop_hollow_part(class).is_none());
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
