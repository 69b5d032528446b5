use std::io::{Read, Write};

use flate2::bufread::MultiGzDecoder;
use flate2::write::GzEncoder;

use super::{Codec, CodecError, Output};

const STEP: usize = 32 << 10;

pub(super) fn compress(level: i32, raw: &[u8], out: &mut Vec<u8>) -> Result<(), CodecError> {
    let level =
        if level < 0 { flate2::Compression::default() } else { flate2::Compression::new(level.clamp(1, 9) as u32) };
    let mut encoder = GzEncoder::new(out, level);
    encoder.write_all(raw).and_then(|()| encoder.finish()).map_err(|_| CodecError::Compress(Codec::Gzip))?;
    Ok(())
}

pub(super) fn decompress(packed: &[u8], out: &mut Output<'_>) -> Result<(), CodecError> {
    let mut decoder = MultiGzDecoder::new(packed);
    loop {
        match decoder.read(out.room(STEP)) {
            Ok(0) => return Ok(()),
            Ok(n) => out.wrote(n)?,
            Err(_) => return Err(CodecError::Corrupt(Codec::Gzip, "bad member")),
        }
    }
}
