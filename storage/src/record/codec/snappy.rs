//! Xerial's framing of snappy: an 8-byte magic, two version numbers, then blocks, each after its length. Some clients send
//! one raw snappy block instead.

use bytes::Bytes;

use super::blocks::{AT_ONCE, Block, Format, Piece};
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
    /// A large block that has been begun, and what it must give.
    block: Option<(Block<Tags>, usize)>,
}

impl Decoder {
    pub fn new(packed: Bytes) -> Result<Decoder, CodecError> {
        let Some(rest) = packed.strip_prefix(&MAGIC) else {
            return Ok(Decoder { rest: packed, framed: false, block: None });
        };
        let (version, tail) = take_u32(rest).ok_or(corrupt("header cut short"))?;
        if version < VERSION {
            return Err(corrupt("version"));
        }
        let (_, rest) = take_u32(tail).ok_or(corrupt("header cut short"))?;
        Ok(Decoder { rest: packed.slice_ref(rest), framed: true, block: None })
    }

    /// As many blocks as fit a slice, one at least; of a large block a slice.
    pub fn step(&mut self, out: &mut Output) -> Result<bool, CodecError> {
        if let Some((block, length)) = &mut self.block {
            if !block.step(out)? {
                return if block.given() > *length { Err(corrupt("block length")) } else { Ok(false) };
            }
            if block.given() != *length {
                return Err(corrupt("block length"));
            }
            self.block = None;
            return Ok(self.rest.is_empty());
        }
        if !self.framed {
            let packed = std::mem::take(&mut self.rest);
            self.begin(packed, out)?;
            return Ok(self.block.is_none());
        }
        let before = out.filled();
        let mut rest = self.rest.clone();
        while !rest.is_empty() && out.filled() - before < SLICE && self.block.is_none() {
            // A stream may follow a stream: its header stands where a length would.
            if let Some(tail) = rest.strip_prefix(&MAGIC) {
                rest = rest.slice_ref(tail.get(8..).ok_or(corrupt("header cut short"))?);
                continue;
            }
            let (length, tail) = take_u32(&rest).ok_or(corrupt("block length cut short"))?;
            let (packed, tail) = tail.split_at_checked(length as usize).ok_or(corrupt("block cut short"))?;
            self.begin(rest.slice_ref(packed), out)?;
            rest = rest.slice_ref(tail);
        }
        self.rest = rest;
        Ok(self.rest.is_empty() && self.block.is_none())
    }

    /// Decompresses a small block, and begins with a large one.
    fn begin(&mut self, packed: Bytes, out: &mut Output) -> Result<(), CodecError> {
        let length = snap::raw::decompress_len(&packed).map_err(|_| corrupt("block length"))?;
        if length > packed.len().saturating_mul(EXPANSION) {
            return Err(corrupt("block length"));
        }
        if length > out.limit() - out.filled() {
            return Err(CodecError::TooLarge(out.limit()));
        }
        if length > AT_ONCE {
            // Its length stands in front, seven bits a byte.
            let digits = packed.iter().take_while(|b| **b & 0x80 != 0).count() + 1;
            self.block = Some((Block::new(packed.slice(digits.min(packed.len())..), Tags), length));
            return Ok(());
        }
        let room = out.room(length);
        let written = snap::raw::Decoder::new().decompress(&packed, room).map_err(|_| corrupt("bad block"))?;
        out.wrote(written)
    }
}

/// The elements of a raw block (snappy's `format_description.txt`).
struct Tags;

impl Format for Tags {
    fn next(&mut self, packed: &mut &[u8]) -> Option<Piece> {
        let (&tag, tail) = packed.split_first()?;
        let upper = usize::from(tag >> 2);
        // Bytes of the number that follows.
        let width = match tag & 3 {
            0 => upper.saturating_sub(59),
            1 => 1,
            2 => 2,
            _ => 4,
        };
        let (bytes, rest) = tail.split_at_checked(width)?;
        *packed = rest;
        let number = bytes.iter().rev().fold(0, |number, byte| number << 8 | usize::from(*byte));
        Some(match tag & 3 {
            0 if width == 0 => Piece::Literal(upper + 1),
            0 => Piece::Literal(number + 1),
            1 => Piece::Copy { back: usize::from(tag >> 5) << 8 | number, len: 4 + (upper & 7) },
            _ => Piece::Copy { back: number, len: upper + 1 },
        })
    }

    fn corrupt(&self) -> CodecError {
        corrupt("bad block")
    }

    fn may_end(&self) -> bool {
        true
    }
}

fn take_u32(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (head, tail) = bytes.split_first_chunk::<4>()?;
    Some((u32::from_be_bytes(*head), tail))
}
