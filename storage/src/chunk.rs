//! The memory of a log's tail: aligned, append-only, laid out like the file it will become.
//!
//! ```text
//!        position (block)   start            end                    position + capacity (block)
//! memory |--- prefix ------|=== published ===|--- free ------------|
//! ```
//! - `[start, end)` holds whole batches and never changes again: readers, the journal and write-back hold it without copying.
//! - `[position, start)`, less than a block, belongs to the batches before; it is here (`prefix_known`) so that the block can
//!   be written whole. Where it is not known yet, write-back reads it from the file first.
//! - `[end, capacity)` is written by the one `Chunk` that owns the memory, and by nobody else.
#![allow(unsafe_code)]

use std::ptr::NonNull;
use std::sync::Arc;

use bytes::Bytes;
use core_pinning::{AlignedBuf, BLOCK, IoBuf};

use crate::model::Offset;

const BLOCK_BYTES: u32 = BLOCK as u32;

pub(crate) fn align_down(position: u32) -> u32 {
    position & !(BLOCK_BYTES - 1)
}

pub(crate) fn align_up(position: u32) -> u32 {
    align_down(position.saturating_add(BLOCK_BYTES - 1))
}

struct ChunkMemory {
    start: NonNull<u8>,
    capacity: usize,
    /// Keeps the allocation. Not touched again: a reference into it would claim bytes that the owner still writes.
    _buffer: AlignedBuf,
}

// SAFETY: plain memory. Readers see published bytes only, which no one writes again; the owner writes the others.
unsafe impl Send for ChunkMemory {}
// SAFETY: as above.
unsafe impl Sync for ChunkMemory {}

/// Published bytes, or whole blocks that write-back sends to the file.
#[derive(Clone)]
pub(crate) struct ChunkSlice {
    memory: Arc<ChunkMemory>,
    at: usize,
    len: usize,
}

impl ChunkSlice {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Splits off the first `len` bytes; the rest stays.
    pub(crate) fn split_to(&mut self, len: usize) -> ChunkSlice {
        assert!(len <= self.len);
        let first = ChunkSlice { memory: self.memory.clone(), at: self.at, len };
        self.at += len;
        self.len -= len;
        first
    }

    /// Appends `next` if it follows directly in the same memory.
    pub(crate) fn join(&mut self, next: &ChunkSlice) -> bool {
        let follows = Arc::ptr_eq(&self.memory, &next.memory) && self.at + self.len == next.at;
        if follows {
            self.len += next.len;
        }
        follows
    }
}

impl AsRef<[u8]> for ChunkSlice {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: a slice is made of published bytes only (`Chunk::slice`, `Chunk::blocks` check that); those are initialised
        // and never written again, and `memory` keeps them.
        unsafe { std::slice::from_raw_parts(self.memory.start.as_ptr().add(self.at), self.len) }
    }
}

// SAFETY: published bytes are initialised, do not move and never change, and the slice keeps them.
unsafe impl IoBuf for ChunkSlice {
    fn as_ptr(&self) -> *const u8 {
        self.as_ref().as_ptr()
    }

    fn len(&self) -> usize {
        self.len
    }
}

/// One run of a segment's bytes in memory. See the module's drawing for its bounds; all are positions in the file.
pub(crate) struct Chunk {
    memory: Arc<ChunkMemory>,
    position: u32,
    start: u32,
    end: u32,
    /// The offset that the first batch here has or would have.
    pub(crate) first_offset: Offset,
    prefix_known: bool,
    sealed: bool,
    /// All of it is in the file, and the cache counts it.
    pub(crate) cached: bool,
}

impl Chunk {
    /// A chunk that continues the file at `start`, with room for `room` bytes at least. `prefix` is what the file holds from
    /// the beginning of `start`'s block, if that is known.
    pub(crate) fn new(start: u32, room: usize, first_offset: Offset, prefix: Option<&[u8]>) -> Chunk {
        let position = align_down(start);
        let before = (start - position) as usize;
        let mut buffer = AlignedBuf::new(before + room);
        let capacity = buffer.capacity();
        let Some(first) = NonNull::new(buffer.as_mut_ptr()) else { unreachable!("a buffer's address is never null") };
        let memory = Arc::new(ChunkMemory { start: first, capacity, _buffer: buffer });
        let prefix_known = before == 0;
        let mut chunk =
            Chunk { memory, position, start, end: start, first_offset, prefix_known, sealed: false, cached: false };
        if let Some(prefix) = prefix {
            chunk.set_prefix(prefix);
        }
        chunk
    }

    /// Fills in what precedes `start` in its block.
    pub(crate) fn set_prefix(&mut self, prefix: &[u8]) {
        assert_eq!(prefix.len(), (self.start - self.position) as usize);
        assert!(prefix.is_empty() || !self.prefix_known, "a prefix is set once: a write may be reading it");
        // SAFETY: the prefix lies before `start` and inside the memory. No slice over it exists before `prefix_known`, and
        // only this owner writes.
        unsafe { std::ptr::copy_nonoverlapping(prefix.as_ptr(), self.memory.start.as_ptr(), prefix.len()) };
        self.prefix_known = true;
    }

    pub(crate) fn capacity(&self) -> usize {
        self.memory.capacity
    }

    pub(crate) fn start(&self) -> u32 {
        self.start
    }

    pub(crate) fn end(&self) -> u32 {
        self.end
    }

    /// Bytes that still fit.
    pub(crate) fn room(&self) -> usize {
        if self.sealed { 0 } else { self.memory.capacity - (self.end - self.position) as usize }
    }

    /// False while the block that `start` is in cannot be written whole.
    pub(crate) fn prefix_known(&self) -> bool {
        self.prefix_known
    }

    /// Publishes a copy of `head` and `rest` behind the end. Panics without room: the caller has looked.
    pub(crate) fn append(&mut self, head: &[u8], rest: &[u8]) {
        let len = head.len() + rest.len();
        assert!(len <= self.room());
        let at = (self.end - self.position) as usize;
        // SAFETY: `[at, at + len)` is inside the memory and not published, so nobody reads it; `&mut self` is the only writer;
        // the sources are borrowed slices, and no slice of unpublished bytes exists for them to overlap with.
        unsafe {
            let to = self.memory.start.as_ptr().add(at);
            std::ptr::copy_nonoverlapping(head.as_ptr(), to, head.len());
            std::ptr::copy_nonoverlapping(rest.as_ptr(), to.add(head.len()), rest.len());
        }
        self.end += len as u32;
    }

    /// Ends the chunk at `end`. Readers keep what was published behind it, so its memory is not written again: the log goes
    /// on in a new chunk.
    pub(crate) fn cut(&mut self, end: u32) {
        assert!((self.start..=self.end).contains(&end));
        self.end = end;
        self.sealed = true;
    }

    /// Nothing is appended here any more.
    pub(crate) fn seal(&mut self) {
        self.sealed = true;
    }

    pub(crate) fn is_sealed(&self) -> bool {
        self.sealed
    }

    /// The published bytes `[from, to)`.
    pub(crate) fn slice(&self, from: u32, to: u32) -> ChunkSlice {
        assert!(self.start <= from && from <= to && to <= self.end);
        ChunkSlice { memory: self.memory.clone(), at: (from - self.position) as usize, len: (to - from) as usize }
    }

    /// As `slice`, for readers.
    pub(crate) fn bytes(&self, from: u32, to: u32) -> Bytes {
        Bytes::from_owner(self.slice(from, to))
    }

    /// The published bytes from `from` to the end.
    pub(crate) fn published_from(&self, from: u32) -> &[u8] {
        assert!(self.start <= from && from <= self.end);
        // SAFETY: published, see `ChunkSlice::as_ref`; `self` keeps the memory.
        unsafe {
            let at = self.memory.start.as_ptr().add((from - self.position) as usize);
            std::slice::from_raw_parts(at, (self.end - from) as usize)
        }
    }

    /// The file's bytes `[from, to)` with the prefix, `from` being at or after the first block's beginning. For write-back.
    pub(crate) fn file_bytes(&self, from: u32, to: u32) -> ChunkSlice {
        assert!(self.position <= from && from <= to && to <= self.end);
        assert!(self.prefix_known || from >= self.start);
        ChunkSlice { memory: self.memory.clone(), at: (from - self.position) as usize, len: (to - from) as usize }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn appends_do_not_disturb_what_readers_hold() {
        let mut chunk = Chunk::new(5000, 100, Offset(7), None);
        assert!(!chunk.prefix_known());
        assert_eq!(chunk.room(), 4096 - (5000 - 4096));
        chunk.append(b"head", b"-rest");
        let read = chunk.bytes(5000, 5009);
        chunk.append(b"", b"more");
        assert_eq!(&read[..], b"head-rest");
        assert_eq!(chunk.published_from(5009), b"more");
        chunk.set_prefix(&[7; 904]);
        let block = chunk.file_bytes(4096, 5013);
        assert_eq!((block.as_ref()[0], &block.as_ref()[904..]), (7, &b"head-restmore"[..]));
        let held = chunk.bytes(5009, 5013);
        chunk.cut(5009);
        assert_eq!((chunk.room(), &held[..]), (0, &b"more"[..]), "a cut chunk takes nothing, its readers keep theirs");
    }

    #[test]
    fn slices_join_and_split() {
        let mut chunk = Chunk::new(0, 4096, Offset(0), None);
        chunk.append(b"abc", b"def");
        let mut whole = chunk.slice(0, 3);
        assert!(whole.join(&chunk.slice(3, 6)) && !whole.join(&chunk.slice(3, 6)));
        let first = whole.split_to(2);
        assert_eq!((first.as_ref(), whole.as_ref()), (&b"ab"[..], &b"cdef"[..]));
    }

    #[test]
    #[should_panic]
    fn unpublished_bytes_are_not_given_out() {
        let mut chunk = Chunk::new(0, 4096, Offset(0), None);
        chunk.append(b"abc", b"");
        chunk.slice(0, 4);
    }
}
