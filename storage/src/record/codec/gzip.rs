use std::io::{Read, Write};

use bytes::Bytes;
use bytes::buf::{Buf, Reader};
use flate2::bufread::MultiGzDecoder;
use flate2::write::GzEncoder;

use super::{Codec, CodecError, Output, SLICE};

pub(super) struct Encoder(GzEncoder<Vec<u8>>);

impl Encoder {
    pub fn new(level: i32, out: Vec<u8>) -> Encoder {
        let level =
            if level < 0 { flate2::Compression::default() } else { flate2::Compression::new(level.clamp(1, 9) as u32) };
        Encoder(GzEncoder::new(out, level))
    }

    /// Bytes taken at a time.
    pub fn slice(level: i32) -> usize {
        match level {
            1..=3 => 32 << 10,
            4..=6 | ..=0 => 16 << 10,
            7.. => 4 << 10,
        }
    }

    pub fn take(&mut self, raw: &[u8]) -> Result<(), CodecError> {
        self.0.write_all(raw).map_err(|_| CodecError::Compress(Codec::Gzip))
    }

    pub fn finish(self) -> Result<Vec<u8>, CodecError> {
        self.0.finish().map_err(|_| CodecError::Compress(Codec::Gzip))
    }
}

pub(super) struct Decoder(MultiGzDecoder<Reader<Bytes>>);

impl Decoder {
    pub fn new(packed: Bytes) -> Decoder {
        Decoder(MultiGzDecoder::new(packed.reader()))
    }

    pub fn step(&mut self, out: &mut Output) -> Result<bool, CodecError> {
        match self.0.read(out.room(SLICE)) {
            Ok(0) => Ok(true),
            Ok(n) => out.wrote(n).map(|()| false),
            Err(_) => Err(CodecError::Corrupt(Codec::Gzip, "bad member")),
        }
    }
}
