//! Where decompressed bytes go: memory that is filled in slices, never past the limit by more than one block.

use std::cell::Cell;

use super::CodecError;

const FIRST: usize = 64 << 10;
/// The buffer a thread keeps between batches is at most as large.
const KEPT: usize = 4 << 20;

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
}

impl Output {
    pub fn new(limit: usize) -> Output {
        Output { buffer: SCRATCH.take(), filled: 0, limit }
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

    /// `want` bytes of the free part of the buffer.
    pub fn room(&mut self, want: usize) -> &mut [u8] {
        let (buffer, filled) = self.whole(want);
        buffer.get_mut(filled..).unwrap_or_default()
    }

    /// All of the output, `want` free bytes behind it, and where those begin.
    pub fn whole(&mut self, want: usize) -> (&mut [u8], usize) {
        let need = self.filled.saturating_add(want);
        if need > self.buffer.capacity() {
            // What is reserved is not touched, and costs nothing until it is: one move of little is cheaper than many.
            let most = self.limit.saturating_add(want);
            let capacity = if need <= KEPT { need.next_power_of_two().clamp(FIRST, KEPT) } else { most.max(need) };
            let mut larger = Vec::with_capacity(capacity);
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
