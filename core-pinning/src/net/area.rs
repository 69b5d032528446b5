//! Receive memory of one shard: two fixed areas, each handed to the kernel as a provided-buffer ring.
//!
//! Connections that send more than their tasks take at once have an area of their own, so that those that send little find room in
//! the other however many the former are.
//!
//! With `IOU_PBUF_RING_INC` (Linux 6.12) the kernel fills one buffer with several receives, so a buffer has several
//! readers; it goes back to the kernel when it is full (`retired`) and its last reader is gone. Pages that were never
//! received into cost nothing.
#![allow(unsafe_code)]

use super::NetOptions;
use io_uring::{Submitter, types::BufRingEntry};
use std::{
    io, ptr,
    sync::atomic::{AtomicU16, Ordering},
};

/// Whose receives an area is for: the buffer groups of the shard's ring.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u16)]
pub(crate) enum Group {
    Ordinary = 0,
    Bulk = 1,
}

const INCREMENTAL: u16 = 2;

#[derive(Clone, Copy, Default)]
struct State {
    filled: u32,
    readers: u32,
    retired: bool,
}

/// Receive memory of one shard.
pub(crate) struct Areas {
    ordinary: Area,
    bulk: Area,
}

impl Areas {
    pub fn new(sub: &Submitter<'_>, o: &NetOptions) -> io::Result<Areas> {
        let (count, size) = (buffers(o.bulk_buffers), whole_pages(o.bulk_buffer_bytes));
        Ok(Areas { ordinary: Area::new(sub, o)?, bulk: Area::map(sub, Group::Bulk, count, size, 0)? })
    }

    pub fn of(&mut self, group: Group) -> &mut Area {
        match group {
            Group::Ordinary => &mut self.ordinary,
            Group::Bulk => &mut self.bulk,
        }
    }

    /// Buffers in all, and those that the kernel can receive into.
    pub fn count(&self) -> (u16, u16) {
        let Areas { ordinary, bulk } = self;
        (ordinary.count + bulk.count, ordinary.free + bulk.free)
    }
}

fn buffers(count: u16) -> u16 {
    count.clamp(1, 1 << 15).next_power_of_two()
}

fn whole_pages(bytes: usize) -> usize {
    bytes.next_multiple_of(4096).min(1 << 30)
}

pub(crate) struct Area {
    area: *mut u8,
    ring: *mut BufRingEntry,
    bytes: usize,
    size: usize,
    count: u16,
    tail: u16,
    free: u16,
    state: Vec<State>,
    incremental: bool,
    /// A receive waits for a buffer.
    pub(super) starved: bool,
}

impl Area {
    /// The ordinary buffers as the options say; without incremental filling as many bytes in 16 KiB pieces.
    pub fn new(sub: &Submitter<'_>, o: &NetOptions) -> io::Result<Area> {
        let (count, size) = (buffers(o.receive_buffers), whole_pages(o.receive_buffer_bytes));
        if o.incremental {
            match Area::map(sub, Group::Ordinary, count, size, INCREMENTAL) {
                Err(e) if e.raw_os_error() == Some(libc::EINVAL) => {}
                made => return made,
            }
        }
        let piece = size.min(16 << 10);
        let count = (usize::from(count) * size / piece).min(1 << 15).next_power_of_two();
        Area::map(sub, Group::Ordinary, count as u16, piece, 0)
    }

    /// `count` is a power of two, `size` a multiple of the page size.
    fn map(sub: &Submitter<'_>, group: Group, count: u16, size: usize, flags: u16) -> io::Result<Area> {
        let ring_bytes = (usize::from(count) * size_of::<BufRingEntry>()).next_multiple_of(4096);
        let bytes = ring_bytes + usize::from(count) * size;
        let (prot, map) =
            (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE);
        // SAFETY: a fresh private mapping, unmapped only in Drop.
        let base = unsafe { libc::mmap(ptr::null_mut(), bytes, prot, map, -1, 0) };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let ring = base.cast::<BufRingEntry>();
        let mut area = Area {
            area: base.cast::<u8>().wrapping_add(ring_bytes),
            ring,
            bytes,
            size,
            count,
            tail: 0,
            free: 0,
            state: vec![State::default(); usize::from(count)],
            incremental: flags & INCREMENTAL != 0,
            starved: false,
        };
        // SAFETY: the ring's part is page aligned, zeroed, and outlives the io_uring (fields of `Reactor`).
        unsafe { sub.register_buf_ring_with_flags(ring as u64, count, group as u16, flags)? };
        for id in 0..count {
            area.provide(id);
        }
        Ok(area)
    }

    fn provide(&mut self, id: u16) {
        self.state[usize::from(id)] = State::default();
        let at = usize::from(self.tail & (self.count - 1));
        self.tail = self.tail.wrapping_add(1);
        // SAFETY: the entry is inside the ring, and the kernel reads it only after the tail has moved past it.
        unsafe {
            let e = &mut *self.ring.add(at);
            e.set_addr(self.area.add(usize::from(id) * self.size) as u64);
            e.set_len(self.size as u32);
            e.set_bid(id);
            (*BufRingEntry::tail(self.ring).cast::<AtomicU16>()).store(self.tail, Ordering::Release);
        }
        self.free += 1;
    }

    /// A completion put `len` bytes into buffer `id`; with `more` the kernel goes on filling it.
    pub fn filled(&mut self, id: u16, len: usize, more: bool) -> *const u8 {
        let s = &mut self.state[usize::from(id)];
        let at = s.filled as usize;
        s.filled += len as u32;
        s.readers += 1;
        if !more {
            s.retired = true;
            self.free -= 1;
        }
        assert!(s.filled as usize <= self.size, "the kernel and we disagree about receive buffer {id}");
        self.area.wrapping_add(usize::from(id) * self.size + at)
    }

    /// A reader is done with buffer `id`; true if a receive waits for the buffer that this gave back.
    pub fn done(&mut self, id: u16) -> bool {
        let s = &mut self.state[usize::from(id)];
        s.readers -= 1;
        let back = s.retired && s.readers == 0;
        if back {
            self.provide(id);
        }
        back && self.starved
    }

    /// Buffers that the kernel can receive into.
    pub fn free(&self) -> u16 {
        self.free
    }

    /// The kernel puts several receives into one buffer.
    pub fn is_incremental(&self) -> bool {
        self.incremental
    }
}

impl Drop for Area {
    fn drop(&mut self) {
        // SAFETY: mapped in `map`; the io_uring has no request in flight any more (see `Drop for Reactor`).
        unsafe {
            libc::munmap(self.ring.cast(), self.bytes);
        }
    }
}
