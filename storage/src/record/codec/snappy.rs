//! Xerial's framing of snappy: an 8-byte magic, two version numbers, then blocks, each after its length. Some clients send
//! one raw snappy block instead.

use super::{Codec, CodecError, Output};

const MAGIC: [u8; 8] = *b"\x82SNAPPY\0";
const VERSION: u32 = 1;
const BLOCK: usize = 32 << 10;
/// No byte of snappy input stands for more output: a copy of 64 bytes takes 3.
const EXPANSION: usize = 22;

fn corrupt(what: &'static str) -> CodecError {
    CodecError::Corrupt(Codec::Snappy, what)
}

pub(super) fn compress(raw: &[u8], out: &mut Vec<u8>) -> Result<(), CodecError> {
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&VERSION.to_be_bytes());
    out.extend_from_slice(&VERSION.to_be_bytes());
    let mut encoder = snap::raw::Encoder::new();
    for block in raw.chunks(BLOCK) {
        let length_at = out.len();
        let start = length_at + 4;
        out.resize(start + snap::raw::max_compress_len(block.len()), 0);
        let place = out.get_mut(start..).unwrap_or_default();
        let length = encoder.compress(block, place).map_err(|_| CodecError::Compress(Codec::Snappy))?;
        out.truncate(start + length);
        if let Some(place) = out.get_mut(length_at..start) {
            place.copy_from_slice(&(length as u32).to_be_bytes());
        }
    }
    Ok(())
}

pub(super) fn decompress(packed: &[u8], out: &mut Output<'_>) -> Result<(), CodecError> {
    let Some(mut rest) = packed.strip_prefix(&MAGIC) else { return block(packed, out) };
    let (version, tail) = take_u32(rest).ok_or(corrupt("header cut short"))?;
    if version < VERSION {
        return Err(corrupt("version"));
    }
    (_, rest) = take_u32(tail).ok_or(corrupt("header cut short"))?;
    while !rest.is_empty() {
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
    Ok(())
}

fn block(packed: &[u8], out: &mut Output<'_>) -> Result<(), CodecError> {
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
