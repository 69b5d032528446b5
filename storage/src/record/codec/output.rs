//! Where decompressed bytes go: memory that is filled in slices, never past the limit by more than one block.

use std::cell::Cell;

use super::CodecError;

use super::SLICE_MAX;

const FIRST: usize = 64 << 10;
/// The buffer a thread keeps between batches is at most as large.
const KEPT: usize = 4 << 20;
/// Bytes moved at a time into a larger buffer: fresh memory costs more than the bytes in it.
const MOVED: usize = 256 << 10;

thread_local! {
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Taken from the thread's buffer, and given back to it.
#[derive(Debug)]
pub(crate) struct Output {
    /// All of it is initialised; the first `filled` bytes are output.
    buffer: Vec<u8>,
    filled: usize,
    limit: usize,
    /// Takes the buffer's place when all the output is in it.
    larger: Vec<u8>,
}

impl Output {
    pub fn new(limit: usize) -> Output {
        Output { buffer: SCRATCH.take(), filled: 0, limit, larger: Vec::new() }
    }

    pub fn filled(&self) -> usize {
        self.filled
    }

    pub fn limit(&self) -> usize {
        self.limit
    }

    pub fn bytes(&self) -> &[u8] {
        self.buffer.get(..self.filled).unwrap_or_default()
    }

    pub fn into_vec(mut self) -> Vec<u8> {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.truncate(self.filled);
        buffer
    }

    #[cfg(test)]
    pub fn memory(&self) -> usize {
        self.buffer.capacity()
    }

    /// Makes room for the next slice, moving some of the output at a time; true when it is there.
    pub fn make_room(&mut self) -> bool {
        let need = self.filled.saturating_add(SLICE_MAX);
        // What the first slice needs is known when it has looked at its input, which may lie about it.
        if self.filled == 0 || need <= self.buffer.capacity() {
            return true;
        }
        if self.larger.capacity() == 0 {
            self.larger = Vec::with_capacity(self.capacity_for(need));
        }
        let rest = self.buffer.get(self.larger.len()..self.filled).unwrap_or_default();
        self.larger.extend_from_slice(rest.get(..MOVED).unwrap_or(rest));
        if self.larger.len() < self.filled {
            return false;
        }
        self.buffer = std::mem::take(&mut self.larger);
        true
    }

    /// What is reserved is not touched, and costs nothing until it is: one move of little is cheaper than many.
    fn capacity_for(&self, need: usize) -> usize {
        match need {
            ..=KEPT => need.next_power_of_two().clamp(FIRST, KEPT),
            _ => self.limit.saturating_add(SLICE_MAX).max(need),
        }
    }

    /// `want` bytes of the free part of the buffer.
    pub fn room(&mut self, want: usize) -> &mut [u8] {
        let (buffer, filled) = self.whole(want);
        buffer.get_mut(filled..).unwrap_or_default()
    }

    /// All of the output, `want` free bytes behind it, and where those begin.
    pub fn whole(&mut self, want: usize) -> (&mut [u8], usize) {
        let need = self.filled.saturating_add(want);
        if need > self.buffer.capacity() {
            let mut larger = Vec::with_capacity(self.capacity_for(need));
            larger.extend_from_slice(self.bytes());
            self.buffer = larger;
        }
        if need > self.buffer.len() {
            self.buffer.resize(need, 0);
        }
        (self.buffer.get_mut(..need).unwrap_or_default(), self.filled)
    }

    /// Counts `n` bytes that were written to the front of `room`.
    pub fn wrote(&mut self, n: usize) -> Result<(), CodecError> {
        self.filled = self.filled.saturating_add(n).min(self.buffer.len());
        if self.filled > self.limit { Err(CodecError::TooLarge(self.limit)) } else { Ok(()) }
    }

    pub fn copy(&mut self, bytes: &[u8]) -> Result<(), CodecError> {
        self.room(bytes.len()).copy_from_slice(bytes);
        self.wrote(bytes.len())
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if (1..=KEPT).contains(&self.buffer.capacity()) {
            SCRATCH.set(std::mem::take(&mut self.buffer));
        }
    }
}
