//! Zstandard frames. A frame may ask for a window of up to 128 MiB, as Kafka's clients do at the highest levels: that is
//! address space; memory is used as output comes.

use std::cell::Cell;

use bytes::Bytes;
use zstd::zstd_safe::{CCtx, CParameter, DCtx, InBuffer, OutBuffer, ResetDirective, zstd_sys::ZSTD_EndDirective};

use super::{Codec, CodecError, Output, SLICE};

/// Contexts larger than this are not kept for the next batch.
const KEPT: usize = 4 << 20;
/// Bits of the tables that searches for matches use, at most: they are cleared at the begin of a frame, at once.
const TABLE_BITS: u32 = 18;

thread_local! {
    static COMPRESSOR: Cell<Option<CCtx<'static>>> = const { Cell::new(None) };
    static DECOMPRESSOR: Cell<Option<DCtx<'static>>> = const { Cell::new(None) };
}

const FAILED: CodecError = CodecError::Compress(Codec::Zstd);
const CORRUPT: CodecError = CodecError::Corrupt(Codec::Zstd, "bad frame");

pub(super) struct Encoder {
    context: Option<CCtx<'static>>,
    out: Vec<u8>,
}

impl Encoder {
    /// For `len` bytes.
    pub fn new(level: i32, len: usize, out: Vec<u8>) -> Result<Encoder, CodecError> {
        let mut context = COMPRESSOR.take().or_else(CCtx::try_create).ok_or(FAILED)?;
        let mut set = || {
            context.reset(ResetDirective::SessionAndParameters)?;
            context.set_parameter(CParameter::CompressionLevel(level))?;
            if level > 4 && len > 1 << TABLE_BITS {
                context.set_parameter(CParameter::HashLog(TABLE_BITS))?;
                context.set_parameter(CParameter::ChainLog(TABLE_BITS))?;
            }
            context.set_pledged_src_size(Some(len as u64))
        };
        set().map_err(|_| FAILED)?;
        Ok(Encoder { context: Some(context), out })
    }

    /// Bytes taken at a time; each slice ends a block.
    pub fn slice(level: i32) -> usize {
        match level {
            ..=4 => 64 << 10,
            5..=7 => 32 << 10,
            8..=12 => 16 << 10,
            13..=15 => 4 << 10,
            16..=17 => 2 << 10,
            18.. => 1 << 10,
        }
    }

    pub fn take(&mut self, raw: &[u8]) -> Result<(), CodecError> {
        self.run(raw, ZSTD_EndDirective::ZSTD_e_flush)
    }

    pub fn finish(mut self) -> Result<Vec<u8>, CodecError> {
        self.run(&[], ZSTD_EndDirective::ZSTD_e_end)?;
        Ok(std::mem::take(&mut self.out))
    }

    fn run(&mut self, raw: &[u8], directive: ZSTD_EndDirective) -> Result<(), CodecError> {
        let context = self.context.as_mut().ok_or(FAILED)?;
        let mut input = InBuffer::around(raw);
        loop {
            self.out.reserve(zstd::zstd_safe::compress_bound(raw.len() - input.pos()) + 64);
            let at = self.out.len();
            let mut output = OutBuffer::around_pos(&mut self.out, at);
            let left = context.compress_stream2(&mut output, &mut input, directive).map_err(|_| FAILED)?;
            if left == 0 {
                return Ok(());
            }
        }
    }
}

impl Drop for Encoder {
    fn drop(&mut self) {
        COMPRESSOR.set(self.context.take().filter(|c| c.sizeof() <= 2 * KEPT));
    }
}

pub(super) struct Decoder {
    context: Option<DCtx<'static>>,
    packed: Bytes,
    at: usize,
    /// Not at the end of a frame.
    inside: bool,
}

impl Decoder {
    pub fn new(packed: Bytes) -> Result<Decoder, CodecError> {
        let mut context = DECOMPRESSOR.take().or_else(DCtx::try_create).ok_or(CORRUPT)?;
        context.reset(ResetDirective::SessionOnly).map_err(|_| CORRUPT)?;
        Ok(Decoder { context: Some(context), packed, at: 0, inside: false })
    }

    pub fn step(&mut self, out: &mut Output) -> Result<bool, CodecError> {
        let context = self.context.as_mut().ok_or(CORRUPT)?;
        if self.at == self.packed.len() && !self.inside {
            return Ok(true);
        }
        let (written, consumed) = {
            let mut input = InBuffer::around(self.packed.get(self.at..).unwrap_or_default());
            let mut output = OutBuffer::around(out.room(SLICE));
            let left = context.decompress_stream(&mut output, &mut input).map_err(|_| CORRUPT)?;
            self.inside = left != 0;
            (output.pos(), input.pos())
        };
        self.at += consumed;
        if written == 0 && consumed == 0 && self.inside {
            return Err(CodecError::Corrupt(Codec::Zstd, "frame cut short"));
        }
        out.wrote(written).map(|()| false)
    }
}

impl Drop for Decoder {
    fn drop(&mut self) {
        DECOMPRESSOR.set(self.context.take().filter(|c| c.sizeof() <= KEPT));
    }
}
