//! LZ4 frames as Kafka's `Lz4BlockOutputStream` writes and `Lz4BlockInputStream` reads them: independent blocks, no
//! dictionary; content size and content checksum are skipped, header and block checksums are checked.

use ::lz4::block::{CompressionMode, compress_bound, compress_to_buffer, decompress_to_buffer};
use twox_hash::XxHash32;

use super::{Codec, CodecError, Output};

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

pub(super) fn compress(level: i32, raw: &[u8], out: &mut Vec<u8>) -> Result<(), CodecError> {
    let failed = || CodecError::Compress(Codec::Lz4);
    let mode = match level {
        DEFAULT_LEVEL => CompressionMode::DEFAULT,
        other => CompressionMode::HIGHCOMPRESSION(other.clamp(1, 17)),
    };
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&DESCRIPTOR);
    let mut packed = vec![0; compress_bound(raw.len().min(BLOCK)).map_err(|_| failed())?];
    for block in raw.chunks(BLOCK) {
        let length = compress_to_buffer(block, Some(mode), false, &mut packed).map_err(|_| failed())?;
        if length < block.len() {
            out.extend_from_slice(&(length as u32).to_le_bytes());
            out.extend_from_slice(packed.get(..length).unwrap_or_default());
        } else {
            out.extend_from_slice(&(block.len() as u32 | STORED).to_le_bytes());
            out.extend_from_slice(block);
        }
    }
    out.extend_from_slice(&0u32.to_le_bytes());
    Ok(())
}

pub(super) fn decompress(packed: &[u8], out: &mut Output<'_>) -> Result<(), CodecError> {
    let rest = packed.strip_prefix(&MAGIC).ok_or(corrupt("no frame"))?;
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
    let (&checksum, mut rest) = rest.split_first().ok_or(corrupt("header cut short"))?;
    if (XxHash32::oneshot(0, descriptor) >> 8) as u8 != checksum {
        return Err(corrupt("header checksum"));
    }
    loop {
        let (word, tail) = take_u32(rest).ok_or(corrupt("block length cut short"))?;
        let length = (word & !STORED) as usize;
        if length == 0 {
            return Ok(());
        }
        if length > block_max {
            return Err(corrupt("block length"));
        }
        let (block, tail) = tail.split_at_checked(length).ok_or(corrupt("block cut short"))?;
        if word & STORED != 0 {
            out.copy(block)?;
        } else {
            let written = decompress_to_buffer(block, Some(block_max as i32), out.room(block_max))
                .map_err(|_| corrupt("bad block"))?;
            out.wrote(written)?;
        }
        rest = tail;
        if flags & BLOCK_CHECKSUM != 0 {
            let (sum, tail) = take_u32(rest).ok_or(corrupt("block checksum cut short"))?;
            if sum != XxHash32::oneshot(0, block) {
                return Err(corrupt("block checksum"));
            }
            rest = tail;
        }
    }
}

fn take_u32(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (head, tail) = bytes.split_first_chunk::<4>()?;
    Some((u32::from_le_bytes(*head), tail))
}
