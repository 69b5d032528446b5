//! Page aligned buffers for direct I/O, recycled by power-of-two size class (`pool`).
#![allow(unsafe_code)]

mod pool;

pub use pool::{keep_at_most, trim};

use bytes::Bytes;
use std::{
    fmt,
    ops::{Deref, DerefMut},
    ptr::NonNull,
};

/// Alignment of direct I/O: positions, lengths and addresses are multiples of it.
pub const BLOCK: usize = 4096;

/// Owned bytes at a page aligned address; the capacity is a multiple of [`BLOCK`].
///
/// The whole capacity is always initialised (a recycled buffer holds what it held before), so [`set_len`] is safe.
/// May be moved to and dropped on another thread; it then joins that thread's free list.
///
/// [`set_len`]: AlignedBuf::set_len
pub struct AlignedBuf {
    ptr: NonNull<u8>,
    cap: usize,
    len: usize,
    /// Up to where a buffer beyond all size classes has been given memory.
    filled: usize,
}

// SAFETY: exclusively owned plain memory.
unsafe impl Send for AlignedBuf {}
// SAFETY: shared access only reads.
unsafe impl Sync for AlignedBuf {}

impl AlignedBuf {
    /// An empty buffer for at least `cap` bytes.
    pub fn new(cap: usize) -> AlignedBuf {
        Self::take(cap).0
    }

    /// A buffer of exactly `len` zero bytes.
    pub fn zeroed(len: usize) -> AlignedBuf {
        let (mut buf, recycled) = Self::take(len);
        buf.len = len;
        if recycled {
            buf.as_mut_slice().fill(0);
        }
        buf
    }

    /// A copy of `bytes`.
    pub fn copy_from(bytes: &[u8]) -> AlignedBuf {
        let mut buf = Self::new(bytes.len());
        buf.extend_from_slice(bytes);
        buf
    }

    /// The buffer, and whether it may hold old bytes.
    fn take(cap: usize) -> (AlignedBuf, bool) {
        let memory = pool::take(cap);
        let buf = AlignedBuf { ptr: memory.ptr, cap: memory.cap, len: 0, filled: 0 };
        #[cfg(sim)]
        let buf = buf.filled_alike();
        (buf, memory.used || cfg!(sim))
    }

    /// What a recycled buffer holds must not depend on what ran before, nor look like what it should hold.
    #[cfg(sim)]
    fn filled_alike(mut self) -> AlignedBuf {
        self.len = self.cap;
        self.as_mut_slice().fill(0xa5);
        self.len = 0;
        self
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// A multiple of [`BLOCK`].
    pub fn capacity(&self) -> usize {
        self.cap
    }

    /// Bytes that still fit.
    pub fn room(&self) -> usize {
        self.cap - self.len
    }

    pub fn as_ptr(&self) -> *const u8 {
        self.ptr.as_ptr()
    }

    pub fn as_mut_ptr(&mut self) -> *mut u8 {
        self.ptr.as_ptr()
    }

    pub fn as_slice(&self) -> &[u8] {
        // SAFETY: `cap` bytes from `ptr` are ours and initialised, and `len <= cap`.
        unsafe { std::slice::from_raw_parts(self.ptr.as_ptr(), self.len) }
    }

    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: as above, and `self` is borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.ptr.as_ptr(), self.len) }
    }

    /// Grows over whatever the buffer held before, or shrinks. Panics beyond the capacity.
    pub fn set_len(&mut self, len: usize) {
        assert!(len <= self.cap, "length {len} beyond the capacity {}", self.cap);
        self.len = len;
    }

    /// Shrinks to `len` bytes; does nothing if it is shorter already.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    pub fn clear(&mut self) {
        self.len = 0;
    }

    /// Makes the capacity `cap` at least.
    pub fn reserve(&mut self, cap: usize) {
        if cap <= self.cap {
            return;
        }
        let mut larger = AlignedBuf::new(cap);
        larger.extend_from_slice(self);
        *self = larger;
    }

    /// Appends; panics if there is not enough [`room`](AlignedBuf::room). What the buffer held behind is not kept.
    pub fn extend_from_slice(&mut self, bytes: &[u8]) {
        let at = self.len;
        self.set_len(at + bytes.len());
        if self.len > self.filled && self.cap > pool::LARGEST {
            // SAFETY: from `pool::take`, within the capacity, and borrowed exclusively.
            self.filled = unsafe { pool::giant::fill(self.ptr, self.cap, self.filled, at, self.len) };
        }
        self.as_mut_slice()[at..].copy_from_slice(bytes);
    }

    /// Appends `n` zero bytes; panics if there is not enough room.
    pub fn extend_zeroes(&mut self, n: usize) {
        let at = self.len;
        self.set_len(at + n);
        self.as_mut_slice()[at..].fill(0);
    }

    /// Shared, immutable bytes over this buffer, which goes back to a free list with the last of them.
    pub fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl Drop for AlignedBuf {
    fn drop(&mut self) {
        // SAFETY: from `pool::take`, and nobody else holds it.
        unsafe { pool::give(self.ptr, self.cap, self.filled) }
    }
}

impl Deref for AlignedBuf {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        self.as_slice()
    }
}

impl DerefMut for AlignedBuf {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.as_mut_slice()
    }
}

impl AsRef<[u8]> for AlignedBuf {
    fn as_ref(&self) -> &[u8] {
        self.as_slice()
    }
}

impl fmt::Debug for AlignedBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AlignedBuf({} of {} bytes)", self.len, self.cap)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_aligned_and_recycled() {
        trim();
        let a = AlignedBuf::new(5000);
        assert_eq!((a.capacity(), a.len(), a.as_ptr() as usize % BLOCK), (8192, 0, 0));
        let p = a.as_ptr();
        drop(a);
        let b = AlignedBuf::new(8192);
        assert_eq!(b.as_ptr(), p);
        let big = AlignedBuf::new((4 << 20) + 1);
        assert_eq!((big.capacity(), big.as_ptr() as usize % BLOCK), ((4 << 20) + BLOCK, 0));
    }

    #[test]
    fn a_recycled_buffer_is_zeroed_on_request() {
        let mut a = AlignedBuf::zeroed(BLOCK);
        a.as_mut_slice().fill(7);
        drop(a);
        assert!(AlignedBuf::zeroed(BLOCK).iter().all(|&b| b == 0));
    }

    #[test]
    fn frozen_bytes_may_be_dropped_on_another_thread() {
        let mut a = AlignedBuf::copy_from(b"hello");
        a.extend_zeroes(2);
        let b = a.freeze();
        let c = b.slice(1..3);
        std::thread::spawn(move || assert_eq!(&b[..], b"hello\0\0")).join().unwrap();
        assert_eq!(&c[..], b"el");
    }

    #[test]
    #[should_panic(expected = "beyond the capacity")]
    fn a_length_beyond_the_capacity_is_refused() {
        AlignedBuf::new(1).set_len(BLOCK + 1);
    }
}
