//! Large blocks of the formats that have no framing inside, snappy's and lz4's, decompressed in slices. Small ones go to their
//! libraries, which are faster and have to do it in one piece.

use bytes::Bytes;

use super::{CodecError, Output, SLICE};

/// Blocks that give at most so much are decompressed at once.
pub(super) const AT_ONCE: usize = 256 << 10;

/// What comes out next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Piece {
    /// So many bytes as they stand in the block.
    Literal(usize),
    /// Bytes that came out before, from so many back on; they may overlap with what they give.
    Copy { back: usize, len: usize },
}

impl Piece {
    fn len(self) -> usize {
        match self {
            Piece::Literal(len) | Piece::Copy { len, .. } => len,
        }
    }

    fn less(self, by: usize) -> Piece {
        match self {
            Piece::Literal(len) => Piece::Literal(len - by),
            Piece::Copy { back, len } => Piece::Copy { back, len: len - by },
        }
    }
}

/// How pieces are written down.
pub(super) trait Format {
    /// Takes the next piece's description off the front of `packed`, which is not empty.
    fn next(&mut self, packed: &mut &[u8]) -> Option<Piece>;
    /// What is wrong if there is none.
    fn corrupt(&self) -> CodecError;
    /// True if a block may end here.
    fn may_end(&self) -> bool;
}

/// A block on its way.
pub(super) struct Block<F> {
    packed: Bytes,
    format: F,
    /// What of the last piece has not come out yet.
    piece: Piece,
    /// What came out of the block.
    given: usize,
}

impl<F: Format> Block<F> {
    pub(super) fn new(packed: Bytes, format: F) -> Block<F> {
        Block { packed, format, piece: Piece::Literal(0), given: 0 }
    }

    /// A block that is not compressed, of a format that may end.
    pub(super) fn stored(packed: Bytes, format: F) -> Block<F> {
        Block { piece: Piece::Literal(packed.len()), packed, format, given: 0 }
    }

    /// Bytes that came out.
    pub(super) fn given(&self) -> usize {
        self.given
    }

    /// Makes the next slice; true at the end of the block.
    pub(super) fn step(&mut self, out: &mut Output) -> Result<bool, CodecError> {
        let corrupt = |format: &F| Err(format.corrupt());
        let (buffer, begin) = out.whole(SLICE);
        let (end, before) = (buffer.len(), self.given);
        let (mut rest, mut at): (&[u8], usize) = (&self.packed, begin);
        let ended = loop {
            let take = self.piece.len().min(end - at);
            match self.piece {
                Piece::Literal(_) => {
                    let (Some((bytes, tail)), Some(to)) = (rest.split_at_checked(take), buffer.get_mut(at..at + take))
                    else {
                        return corrupt(&self.format);
                    };
                    to.copy_from_slice(bytes);
                    rest = tail;
                }
                Piece::Copy { back, .. } => {
                    if back == 0 || back > before + (at - begin) {
                        return corrupt(&self.format);
                    }
                    copy(buffer, at - back, at, take);
                }
            }
            at += take;
            self.piece = self.piece.less(take);
            if self.piece.len() > 0 {
                break false;
            }
            if rest.is_empty() {
                if !self.format.may_end() {
                    return corrupt(&self.format);
                }
                break true;
            }
            match self.format.next(&mut rest) {
                Some(piece) => self.piece = piece,
                None => return corrupt(&self.format),
            }
        };
        self.given += at - begin;
        self.packed = self.packed.slice_ref(rest);
        out.wrote(at - begin).map(|()| ended)
    }
}

/// Copies `len` bytes from `from` to `to`, which lies behind it: what has been copied is copied again where the two overlap. The
/// caller has seen to it that all lies in the buffer.
fn copy(buffer: &mut [u8], from: usize, to: usize, len: usize) {
    let mut done = 0;
    while done < len {
        let part = (to - from + done).min(len - done);
        buffer.copy_within(from..from + part, to + done);
        done += part;
    }
}
