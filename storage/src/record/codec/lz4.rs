//! LZ4 frames as Kafka's `Lz4BlockOutputStream` writes and `Lz4BlockInputStream` reads them: independent blocks, no
//! dictionary; content size and content checksum are skipped, header and block checksums are checked.

use bytes::Bytes;

use ::lz4::block::{CompressionMode, compress_bound, compress_to_buffer, decompress_to_buffer};
use twox_hash::XxHash32;

use super::blocks::{AT_ONCE, Block, Format, Piece};
use super::{Codec, CodecError, Output, SLICE};

/// Kafka's default level means lz4's fast compressor, every other level its high compression.
pub(super) const DEFAULT_LEVEL: i32 = 9;

const MAGIC: [u8; 4] = 0x184d_2204_u32.to_le_bytes();
/// Version 1, independent blocks; blocks of at most 64 KiB; the checksum of these two bytes.
const DESCRIPTOR: [u8; 3] = [0x60, 0x40, 0x82];
const BLOCK: usize = 64 << 10;
const STORED: u32 = 1 << 31;

const BLOCK_CHECKSUM: u8 = 0x10;
const INDEPENDENT_BLOCKS: u8 = 0x20;
const CONTENT_SIZE: u8 = 0x08;
const RESERVED: u8 = 0x03;

fn corrupt(what: &'static str) -> CodecError {
    CodecError::Corrupt(Codec::Lz4, what)
}

pub(super) struct Encoder {
    mode: CompressionMode,
    packed: Vec<u8>,
    out: Vec<u8>,
}

impl Encoder {
    pub fn new(level: i32, mut out: Vec<u8>) -> Encoder {
        let mode = match level {
            DEFAULT_LEVEL => CompressionMode::DEFAULT,
            other => CompressionMode::HIGHCOMPRESSION(other.clamp(1, 17)),
        };
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&DESCRIPTOR);
        Encoder { mode, packed: Vec::new(), out }
    }

    /// Bytes of a block. From level 10 on lz4 looks for the best of all parsings, at 10 MB/s where there are long runs.
    pub fn slice(level: i32) -> usize {
        match level {
            DEFAULT_LEVEL => BLOCK,
            ..10 => 32 << 10,
            10.. => 4 << 10,
        }
    }

    /// One block.
    pub fn take(&mut self, block: &[u8]) -> Result<(), CodecError> {
        let failed = |_| CodecError::Compress(Codec::Lz4);
        self.packed.resize(compress_bound(block.len()).map_err(failed)?, 0);
        let length = compress_to_buffer(block, Some(self.mode), false, &mut self.packed).map_err(failed)?;
        if length < block.len() {
            self.out.extend_from_slice(&(length as u32).to_le_bytes());
            self.out.extend_from_slice(self.packed.get(..length).unwrap_or_default());
        } else {
            self.out.extend_from_slice(&(block.len() as u32 | STORED).to_le_bytes());
            self.out.extend_from_slice(block);
        }
        Ok(())
    }

    pub fn finish(mut self) -> Vec<u8> {
        self.out.extend_from_slice(&0u32.to_le_bytes());
        self.out
    }
}

pub(super) struct Decoder {
    rest: Bytes,
    flags: u8,
    block_max: usize,
    /// A large block that has been begun.
    block: Option<Block<Sequences>>,
}

impl Decoder {
    pub fn new(packed: Bytes) -> Result<Decoder, CodecError> {
        let rest: &[u8] = packed.strip_prefix(&MAGIC).ok_or(corrupt("no frame"))?;
        let Some(&[flags, sizes]) = rest.first_chunk::<2>() else { return Err(corrupt("header cut short")) };
        if flags >> 6 != 1 || flags & INDEPENDENT_BLOCKS == 0 || flags & RESERVED != 0 {
            return Err(corrupt("unknown frame flags"));
        }
        let block_max = match sizes {
            0x40 => 64 << 10,
            0x50 => 256 << 10,
            0x60 => 1 << 20,
            0x70 => 4 << 20,
            _ => return Err(corrupt("block size")),
        };
        let described = if flags & CONTENT_SIZE != 0 { 10 } else { 2 };
        let (descriptor, rest) = rest.split_at_checked(described).ok_or(corrupt("header cut short"))?;
        let (&checksum, rest) = rest.split_first().ok_or(corrupt("header cut short"))?;
        if (XxHash32::oneshot(0, descriptor) >> 8) as u8 != checksum {
            return Err(corrupt("header checksum"));
        }
        Ok(Decoder { rest: packed.slice_ref(rest), flags, block_max, block: None })
    }

    /// As many blocks as fit a slice, one at least; of a large block a slice.
    pub fn step(&mut self, out: &mut Output) -> Result<bool, CodecError> {
        if let Some(block) = &mut self.block {
            let ended = block.step(out)?;
            if block.given() > self.block_max {
                return Err(corrupt("bad block"));
            }
            if ended {
                self.block = None;
            }
            return Ok(false);
        }
        let before = out.filled();
        while out.filled() - before < SLICE && self.block.is_none() {
            if self.next_block(out)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// True at the end mark.
    fn next_block(&mut self, out: &mut Output) -> Result<bool, CodecError> {
        let (word, tail) = take_u32(&self.rest).ok_or(corrupt("block length cut short"))?;
        let length = (word & !STORED) as usize;
        if length == 0 {
            return Ok(true);
        }
        if length > self.block_max {
            return Err(corrupt("block length"));
        }
        let (block, mut rest) = tail.split_at_checked(length).ok_or(corrupt("block cut short"))?;
        if self.flags & BLOCK_CHECKSUM != 0 {
            let (sum, tail) = take_u32(rest).ok_or(corrupt("block checksum cut short"))?;
            if sum != XxHash32::oneshot(0, block) {
                return Err(corrupt("block checksum"));
            }
            rest = tail;
        }
        if word & STORED != 0 && length > AT_ONCE {
            self.block = Some(Block::stored(self.rest.slice_ref(block), Sequences(Some(0))));
        } else if word & STORED != 0 {
            out.copy(block)?;
        } else if self.block_max > AT_ONCE {
            self.block = Some(Block::new(self.rest.slice_ref(block), Sequences(None)));
        } else {
            let written = decompress_to_buffer(block, Some(self.block_max as i32), out.room(self.block_max))
                .map_err(|_| corrupt("bad block"))?;
            out.wrote(written)?;
        }
        self.rest = self.rest.slice_ref(rest);
        Ok(false)
    }
}

/// The sequences of a block (lz4's `lz4_Block_format.md`): a token, literals, a copy; the last one ends with its literals.
/// Holds the token whose copy comes next.
struct Sequences(Option<u8>);

/// A length that goes on in further bytes if its four bits are all set.
fn length(bits: u8, packed: &mut &[u8]) -> Option<usize> {
    let mut length = usize::from(bits);
    if bits == 15 {
        loop {
            let (&byte, rest) = packed.split_first()?;
            *packed = rest;
            length += usize::from(byte);
            if byte != 255 {
                break;
            }
        }
    }
    Some(length)
}

impl Format for Sequences {
    fn next(&mut self, packed: &mut &[u8]) -> Option<Piece> {
        match self.0.take() {
            None => {
                let (&token, rest) = packed.split_first()?;
                *packed = rest;
                self.0 = Some(token);
                length(token >> 4, packed).map(Piece::Literal)
            }
            Some(token) => {
                let (back, rest) = packed.split_first_chunk::<2>()?;
                *packed = rest;
                let len = length(token & 15, packed)? + 4;
                Some(Piece::Copy { back: u16::from_le_bytes(*back).into(), len })
            }
        }
    }

    fn corrupt(&self) -> CodecError {
        corrupt("bad block")
    }

    fn may_end(&self) -> bool {
        self.0.is_some()
    }
}

fn take_u32(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (head, tail) = bytes.split_first_chunk::<4>()?;
    Some((u32::from_le_bytes(*head), tail))
}
