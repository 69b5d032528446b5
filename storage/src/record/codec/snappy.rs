//! Xerial's framing of snappy: an 8-byte magic, two version numbers, then blocks, each after its length. Some clients send
//! one raw snappy block instead.

use bytes::Bytes;

use super::{Codec, CodecError, Output, SLICE};

const MAGIC: [u8; 8] = *b"\x82SNAPPY\0";
const VERSION: u32 = 1;
const BLOCK: usize = 32 << 10;
/// No byte of snappy input stands for more output: a copy of 64 bytes takes 3.
const EXPANSION: usize = 22;

fn corrupt(what: &'static str) -> CodecError {
    CodecError::Corrupt(Codec::Snappy, what)
}

pub(super) struct Encoder {
    encoder: snap::raw::Encoder,
    out: Vec<u8>,
}

impl Encoder {
    pub fn new(mut out: Vec<u8>) -> Encoder {
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&VERSION.to_be_bytes());
        out.extend_from_slice(&VERSION.to_be_bytes());
        Encoder { encoder: snap::raw::Encoder::new(), out }
    }

    /// Bytes of a block.
    pub fn slice() -> usize {
        BLOCK
    }

    /// One block.
    pub fn take(&mut self, block: &[u8]) -> Result<(), CodecError> {
        let out = &mut self.out;
        let length_at = out.len();
        let start = length_at + 4;
        out.resize(start + snap::raw::max_compress_len(block.len()), 0);
        let place = out.get_mut(start..).unwrap_or_default();
        let length = self.encoder.compress(block, place).map_err(|_| CodecError::Compress(Codec::Snappy))?;
        out.truncate(start + length);
        if let Some(place) = out.get_mut(length_at..start) {
            place.copy_from_slice(&(length as u32).to_be_bytes());
        }
        Ok(())
    }

    pub fn finish(self) -> Vec<u8> {
        self.out
    }
}

pub(super) struct Decoder {
    rest: Bytes,
    framed: bool,
}

impl Decoder {
    pub fn new(packed: Bytes) -> Result<Decoder, CodecError> {
        let Some(rest) = packed.strip_prefix(&MAGIC) else { return Ok(Decoder { rest: packed, framed: false }) };
        let (version, tail) = take_u32(rest).ok_or(corrupt("header cut short"))?;
        if version < VERSION {
            return Err(corrupt("version"));
        }
        let (_, rest) = take_u32(tail).ok_or(corrupt("header cut short"))?;
        Ok(Decoder { rest: packed.slice_ref(rest), framed: true })
    }

    /// As many blocks as fit a slice, one at least.
    pub fn step(&mut self, out: &mut Output) -> Result<bool, CodecError> {
        if !self.framed {
            return block(&self.rest, out).map(|()| true);
        }
        let before = out.filled();
        let mut rest: &[u8] = &self.rest;
        while !rest.is_empty() && out.filled() - before < SLICE {
            // A stream may follow a stream: its header stands where a length would.
            if let Some(tail) = rest.strip_prefix(&MAGIC) {
                rest = tail.get(8..).ok_or(corrupt("header cut short"))?;
                continue;
            }
            let (length, tail) = take_u32(rest).ok_or(corrupt("block length cut short"))?;
            let (packed, tail) = tail.split_at_checked(length as usize).ok_or(corrupt("block cut short"))?;
            block(packed, out)?;
            rest = tail;
        }
        self.rest = self.rest.slice_ref(rest);
        Ok(self.rest.is_empty())
    }
}

fn block(packed: &[u8], out: &mut Output) -> Result<(), CodecError> {
    let length = snap::raw::decompress_len(packed).map_err(|_| corrupt("block length"))?;
    if length > packed.len().saturating_mul(EXPANSION) {
        return Err(corrupt("block length"));
    }
    if length > out.limit() - out.filled() {
        return Err(CodecError::TooLarge(out.limit()));
    }
    let room = out.room(length);
    let written = snap::raw::Decoder::new().decompress(packed, room).map_err(|_| corrupt("bad block"))?;
    out.wrote(written)
}

fn take_u32(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (head, tail) = bytes.split_first_chunk::<4>()?;
    Some((u32::from_be_bytes(*head), tail))
}
