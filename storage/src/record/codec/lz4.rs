//! LZ4 frames as Kafka's `Lz4BlockOutputStream` writes and `Lz4BlockInputStream` reads them: independent blocks, no
//! dictionary; content size and content checksum are skipped, header and block checksums are checked.

use bytes::Bytes;

use ::lz4::block::{CompressionMode, compress_bound, compress_to_buffer, decompress_to_buffer};
use twox_hash::XxHash32;

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
        Ok(Decoder { rest: packed.slice_ref(rest), flags, block_max })
    }

    /// As many blocks as fit a slice, one at least.
    pub fn step(&mut self, out: &mut Output) -> Result<bool, CodecError> {
        let before = out.filled();
        while out.filled() - before < SLICE {
            if self.block(out)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn block(&mut self, out: &mut Output) -> Result<bool, CodecError> {
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
        if word & STORED != 0 {
            out.copy(block)?;
        } else {
            let written = decompress_to_buffer(block, Some(self.block_max as i32), out.room(self.block_max))
                .map_err(|_| corrupt("bad block"))?;
            out.wrote(written)?;
        }
        self.rest = self.rest.slice_ref(rest);
        Ok(false)
    }
}

fn take_u32(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (head, tail) = bytes.split_first_chunk::<4>()?;
    Some((u32::from_le_bytes(*head), tail))
}
