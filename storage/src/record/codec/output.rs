//! Where decompressed bytes go: a buffer that grows as it fills, never past the limit by more than one block.

use super::CodecError;

const FIRST: usize = 64 << 10;

pub(super) struct Output<'a> {
    /// All of it is initialised; the first `filled` bytes are output.
    buffer: &'a mut Vec<u8>,
    filled: usize,
    limit: usize,
}

impl<'a> Output<'a> {
    pub fn new(buffer: &'a mut Vec<u8>, limit: usize) -> Output<'a> {
        Output { buffer, filled: 0, limit }
    }

    pub fn filled(&self) -> usize {
        self.filled
    }

    pub fn limit(&self) -> usize {
        self.limit
    }

    /// The free part of the buffer: at least `want` bytes, and all that there is.
    pub fn room(&mut self, want: usize) -> &mut [u8] {
        let need = self.filled.saturating_add(want);
        if need > self.buffer.len() {
            let len = need.max(self.buffer.len().saturating_mul(2).min(self.limit)).max(FIRST);
            if self.filled == 0 {
                // Fresh zeroed pages cost less than the resize of a buffer nobody reads.
                *self.buffer = Vec::new();
                *self.buffer = vec![0; len];
            } else {
                self.buffer.resize(len, 0);
            }
        }
        self.buffer.get_mut(self.filled..).unwrap_or_default()
    }

    /// Counts `n` bytes that were written to the front of `room`.
    pub fn wrote(&mut self, n: usize) -> Result<(), CodecError> {
        self.filled = self.filled.saturating_add(n).min(self.buffer.len());
        if self.filled > self.limit { Err(CodecError::TooLarge(self.limit)) } else { Ok(()) }
    }

    pub fn copy(&mut self, bytes: &[u8]) -> Result<(), CodecError> {
        if let Some(place) = self.room(bytes.len()).get_mut(..bytes.len()) {
            place.copy_from_slice(bytes);
        }
        self.wrote(bytes.len())
    }
}
