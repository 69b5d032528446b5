//! A segment's index, when it is first asked for, and what is learned of a sealed segment by it.

use super::{Of, finding, fits, table};

finding!(
    /// The `.idx` file.
    Index {
        Missing,
        /// Its CRC does not match.
        Damaged,
        /// Of another segment, of another past of the log, or of more than there is.
        Foreign,
        Usable,
    }
);

finding!(
    /// Where a sealed segment's batches end.
    End {
        /// Not known yet.
        Unread,
        /// Where the next segment begins, or the segment is the active one.
        Meets,
        /// Elsewhere.
        Apart,
    }
);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Decision {
    /// What it does not cover is read.
    Use,
    /// The segment is read; any damage in it is found on the way.
    MakeAgain,
    Keep,
    Fence,
}

use Decision::*;

table!(ROWS: index: Index, end: End => Decision);

static ROWS: &[Row] = &[
    row(&[Index::Usable], &[End::Unread], Use, "its last batch is the log's"),
    row(
        &[Index::Missing, Index::Damaged, Index::Foreign],
        &[End::Unread],
        MakeAgain,
        "it is a shortcut, never synced; the log has everything",
    ),
    row(&[], &[End::Meets], Keep, "the segment is whole"),
    row(&[], &[End::Apart], Fence, "the segment does not end where the next one begins: bytes or segments are missing"),
];
