//! A boundary between two entries of a log.

use crate::model::{Offset, RaftIndex};

/// Where an entry ends and the next begins: in its segment, in offsets, in indexes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Point {
    /// Base offset of the segment.
    pub(crate) segment: Offset,
    pub(crate) position: u32,
    pub(crate) next_offset: Offset,
    pub(crate) next_index: RaftIndex,
}

impl Point {
    /// The place in the files: points of one log compare by it.
    pub(crate) fn place(&self) -> (Offset, u32) {
        (self.segment, self.position)
    }
}
