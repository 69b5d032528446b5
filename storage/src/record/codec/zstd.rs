//! Zstandard frames. Decompressed in one call into the output itself, so that no window is allocated, whatever the
//! frame declares; Kafka's clients write no content size, so the output's size is found by doubling.

use std::cell::Cell;

use zstd::zstd_safe::{CCtx, DCtx, compress_bound};

use super::{Codec, CodecError, Output};

/// `ZSTD_error_dstSize_tooSmall`, as the library's functions return it.
const OUTPUT_TOO_SMALL: usize = 70usize.wrapping_neg();
const FIRST: usize = 256 << 10;

pub(super) fn compress(level: i32, raw: &[u8], out: &mut Vec<u8>) -> Result<(), CodecError> {
    let failed = CodecError::Compress(Codec::Zstd);
    let start = out.len();
    out.resize(start + compress_bound(raw.len()), 0);
    let mut context = CCtx::try_create().ok_or(failed)?;
    let place = out.get_mut(start..).unwrap_or_default();
    let length = context.compress(place, raw, level).map_err(|_| failed)?;
    out.truncate(start + length);
    Ok(())
}

pub(super) fn decompress(packed: &[u8], out: &mut Output<'_>) -> Result<(), CodecError> {
    thread_local! {
        static CONTEXT: Cell<Option<DCtx<'static>>> = const { Cell::new(None) };
    }
    let corrupt = CodecError::Corrupt(Codec::Zstd, "bad frame");
    let mut context = CONTEXT.take().or_else(DCtx::try_create).ok_or(corrupt)?;
    // One byte beyond the limit, to tell an output of the limit from a larger one.
    let most = out.limit().saturating_add(1);
    let mut want = packed.len().saturating_mul(4).max(FIRST).min(most);
    let result = loop {
        let room = out.room(want);
        let offered = room.len();
        match context.decompress(room, packed) {
            Ok(written) => break out.wrote(written),
            Err(OUTPUT_TOO_SMALL) if offered >= most => break Err(CodecError::TooLarge(out.limit())),
            Err(OUTPUT_TOO_SMALL) => want = offered.saturating_mul(2).min(most),
            Err(_) => break Err(corrupt),
        }
    };
    CONTEXT.set(Some(context));
    result
}
