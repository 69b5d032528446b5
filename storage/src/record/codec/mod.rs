//! The codecs a batch's records can be compressed with, in the framing Kafka's clients use.
//!
//! | codec | framing | level (`compression.*.level`) |
//! |---|---|---|
//! | gzip | gzip members (RFC 1952) | 1-9, -1 default |
//! | snappy | xerial (`SnappyOutputStream`) written; xerial or one raw block read | none |
//! | lz4 | LZ4 frame, independent 64 KiB blocks written; any block size read | 1-17; 9, the default, is the fast compressor, as in Kafka |
//! | zstd | zstd frame | as zstd's |
//!
//! Sizes that the input declares are never trusted: output grows as it is produced, up to a limit the caller gives.

mod gzip;
mod lz4;
mod output;
mod snappy;
mod zstd;

use std::cell::Cell;

use self::output::Output;
use super::header::BatchError;

const CODEC_MASK: i16 = 0x07;
/// The scratch buffer a thread keeps between batches is at most as large.
const SCRATCH_KEPT: usize = 4 << 20;

/// How the records of a batch are compressed (bits 0-2 of its attributes).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Codec {
    #[default]
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

impl Codec {
    pub const ALL: [Codec; 5] = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];

    pub fn from_attributes(attributes: i16) -> Result<Codec, BatchError> {
        match attributes & CODEC_MASK {
            0 => Ok(Codec::None),
            1 => Ok(Codec::Gzip),
            2 => Ok(Codec::Snappy),
            3 => Ok(Codec::Lz4),
            4 => Ok(Codec::Zstd),
            other => Err(BatchError::Codec(other)),
        }
    }

    pub fn bits(self) -> i16 {
        match self {
            Codec::None => 0,
            Codec::Gzip => 1,
            Codec::Snappy => 2,
            Codec::Lz4 => 3,
            Codec::Zstd => 4,
        }
    }

    /// Kafka's name of it (`none`, `gzip`, ...).
    pub fn name(self) -> &'static str {
        match self {
            Codec::None => "none",
            Codec::Gzip => "gzip",
            Codec::Snappy => "snappy",
            Codec::Lz4 => "lz4",
            Codec::Zstd => "zstd",
        }
    }

    /// The default of `compression.<codec>.level`.
    pub fn default_level(self) -> i32 {
        match self {
            Codec::None | Codec::Snappy => 0,
            Codec::Gzip => -1,
            Codec::Lz4 => lz4::DEFAULT_LEVEL,
            Codec::Zstd => 3,
        }
    }
}

/// A codec and how hard it tries.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Compression {
    pub codec: Codec,
    /// As in Kafka's `compression.<codec>.level`; out of range is moved into it.
    pub level: i32,
}

impl From<Codec> for Compression {
    fn from(codec: Codec) -> Compression {
        Compression { codec, level: codec.default_level() }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CodecError {
    #[error("not valid {} data: {}", .0.name(), .1)]
    Corrupt(Codec, &'static str),
    /// More comes out than the caller's limit, bytes.
    #[error("decompresses to more than {0} bytes")]
    TooLarge(usize),
    #[error("{} failed to compress", .0.name())]
    Compress(Codec),
}

/// Appends `raw`, compressed, to `out`.
pub fn compress(how: Compression, raw: &[u8], out: &mut Vec<u8>) -> Result<(), CodecError> {
    match how.codec {
        Codec::None => {
            out.extend_from_slice(raw);
            Ok(())
        }
        Codec::Gzip => gzip::compress(how.level, raw, out),
        Codec::Snappy => snappy::compress(raw, out),
        Codec::Lz4 => lz4::compress(how.level, raw, out),
        Codec::Zstd => zstd::compress(how.level, raw, out),
    }
}

/// Decompresses `packed` to at most `limit` bytes.
pub fn decompress(codec: Codec, packed: &[u8], limit: usize) -> Result<Vec<u8>, CodecError> {
    let mut buffer = Vec::new();
    let filled = fill(codec, packed, limit, &mut buffer)?;
    buffer.truncate(filled);
    Ok(buffer)
}

/// Decompresses `packed` into a buffer this thread keeps, and shows it to `look`. Nothing is copied or decompressed
/// with `Codec::None`; the limit holds there too.
pub fn with_decompressed<R>(
    codec: Codec,
    packed: &[u8],
    limit: usize,
    look: impl FnOnce(&[u8]) -> R,
) -> Result<R, CodecError> {
    thread_local! {
        static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    }
    if codec == Codec::None {
        return if packed.len() > limit { Err(CodecError::TooLarge(limit)) } else { Ok(look(packed)) };
    }
    let mut scratch = SCRATCH.take();
    let result = fill(codec, packed, limit, &mut scratch).map(|filled| look(scratch.get(..filled).unwrap_or_default()));
    if scratch.len() <= SCRATCH_KEPT {
        SCRATCH.set(scratch);
    }
    result
}

/// Gives how many bytes at the front of `buffer` are the output.
fn fill(codec: Codec, packed: &[u8], limit: usize, buffer: &mut Vec<u8>) -> Result<usize, CodecError> {
    let mut out = Output::new(buffer, limit);
    match codec {
        Codec::None => out.copy(packed),
        Codec::Gzip => gzip::decompress(packed, &mut out),
        Codec::Snappy => snappy::decompress(packed, &mut out),
        Codec::Lz4 => lz4::decompress(packed, &mut out),
        Codec::Zstd => zstd::decompress(packed, &mut out),
    }?;
    Ok(out.filled())
}

#[cfg(test)]
mod tests;
