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
//!
//! Both ways go in slices ([`Decompression::step`], [`Compressor::step`]), so that a shard can do other things in between: a
//! slice takes well below a millisecond at every level. A slow level takes smaller ones: zstd ends a block with each, lz4 makes
//! smaller blocks. A large block that a client sends in one piece (raw snappy, lz4 of up to 4 MiB) is taken apart here.

mod blocks;
mod gzip;
mod lz4;
mod output;
mod snappy;
mod zstd;

use bytes::Bytes;

pub(crate) use self::output::Output;
use super::header::BatchError;

const CODEC_MASK: i16 = 0x07;
/// Bytes that come out at a time.
pub(crate) const SLICE: usize = 64 << 10;
/// And at most: a small block is decompressed at once, behind what does not fill a slice.
const SLICE_MAX: usize = SLICE + blocks::AT_ONCE;

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
    let mut compressor = Compressor::new(how, raw.len(), std::mem::take(out))?;
    while !compressor.step(raw)? {}
    *out = compressor.finish()?;
    Ok(())
}

/// Decompresses `packed` to at most `limit` bytes.
pub fn decompress(codec: Codec, packed: &Bytes, limit: usize) -> Result<Vec<u8>, CodecError> {
    let mut decompression = Decompression::new(codec, packed.clone(), limit)?;
    while !decompression.step()? {}
    Ok(decompression.output.into_vec())
}

/// Compresses slice by slice.
pub(crate) struct Compressor {
    encoder: Encoder,
    at: usize,
    slice: usize,
}

enum Encoder {
    None(Vec<u8>),
    Gzip(gzip::Encoder),
    Snappy(Box<snappy::Encoder>),
    Lz4(lz4::Encoder),
    Zstd(zstd::Encoder),
}

impl Compressor {
    /// For `len` bytes, which go behind what is in `out`.
    pub(crate) fn new(how: Compression, len: usize, out: Vec<u8>) -> Result<Compressor, CodecError> {
        let level = how.level;
        let (encoder, slice) = match how.codec {
            Codec::None => (Encoder::None(out), 1 << 20),
            Codec::Gzip => (Encoder::Gzip(gzip::Encoder::new(level, out)), gzip::Encoder::slice(level)),
            Codec::Snappy => (Encoder::Snappy(Box::new(snappy::Encoder::new(out))), snappy::Encoder::slice()),
            Codec::Lz4 => (Encoder::Lz4(lz4::Encoder::new(level, out)), lz4::Encoder::slice(level)),
            Codec::Zstd => (Encoder::Zstd(zstd::Encoder::new(level, len, out)?), zstd::Encoder::slice(level)),
        };
        Ok(Compressor { encoder, at: 0, slice })
    }

    /// Takes the next slice of `raw`, which is the same in each call; true when all is taken.
    pub(crate) fn step(&mut self, raw: &[u8]) -> Result<bool, CodecError> {
        let rest = raw.get(self.at..).unwrap_or_default();
        let slice = rest.get(..self.slice).unwrap_or(rest);
        if !slice.is_empty() {
            match &mut self.encoder {
                Encoder::None(out) => out.extend_from_slice(slice),
                Encoder::Gzip(encoder) => encoder.take(slice)?,
                Encoder::Snappy(encoder) => encoder.take(slice)?,
                Encoder::Lz4(encoder) => encoder.take(slice)?,
                Encoder::Zstd(encoder) => encoder.take(slice)?,
            }
        }
        self.at += slice.len();
        Ok(self.at == raw.len())
    }

    #[cfg(test)]
    pub(crate) fn taken(&self) -> usize {
        self.at
    }

    #[cfg(test)]
    pub(crate) fn slice(&self) -> usize {
        self.slice
    }

    pub(crate) fn finish(self) -> Result<Vec<u8>, CodecError> {
        match self.encoder {
            Encoder::None(out) => Ok(out),
            Encoder::Gzip(encoder) => encoder.finish(),
            Encoder::Snappy(encoder) => Ok(encoder.finish()),
            Encoder::Lz4(encoder) => Ok(encoder.finish()),
            Encoder::Zstd(encoder) => encoder.finish(),
        }
    }
}

/// Decompresses slice by slice, into memory that the thread keeps for the next.
pub(crate) struct Decompression {
    decoder: Decoder,
    pub(crate) output: Output,
}

enum Decoder {
    None(Bytes),
    Gzip(Box<gzip::Decoder>),
    Snappy(snappy::Decoder),
    Lz4(lz4::Decoder),
    Zstd(zstd::Decoder),
}

impl Decompression {
    pub(crate) fn new(codec: Codec, packed: Bytes, limit: usize) -> Result<Decompression, CodecError> {
        let decoder = match codec {
            Codec::None => Decoder::None(packed),
            Codec::Gzip => Decoder::Gzip(Box::new(gzip::Decoder::new(packed))),
            Codec::Snappy => Decoder::Snappy(snappy::Decoder::new(packed)?),
            Codec::Lz4 => Decoder::Lz4(lz4::Decoder::new(packed)?),
            Codec::Zstd => Decoder::Zstd(zstd::Decoder::new(packed)?),
        };
        Ok(Decompression { decoder, output: Output::new(limit) })
    }

    /// Makes the next slice; true when all is there.
    pub(crate) fn step(&mut self) -> Result<bool, CodecError> {
        let out = &mut self.output;
        if !out.make_room() {
            return Ok(false);
        }
        match &mut self.decoder {
            Decoder::None(packed) => {
                let slice = packed.split_to(packed.len().min(SLICE));
                out.copy(&slice).map(|()| packed.is_empty())
            }
            Decoder::Gzip(decoder) => decoder.step(out),
            Decoder::Snappy(decoder) => decoder.step(out),
            Decoder::Lz4(decoder) => decoder.step(out),
            Decoder::Zstd(decoder) => decoder.step(out),
        }
    }
}

#[cfg(test)]
mod tests;
