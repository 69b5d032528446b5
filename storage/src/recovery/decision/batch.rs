//! A batch of a segment, sealed or not, where it is read: for a consumer, for the log, by compaction.

use super::{Of, finding, fits, table};

finding!(Batch {
    Sound,
    /// Its CRC does not match, it is cut short, or there is none.
    Bad,
    /// The segment does not begin with its own header.
    Foreign,
    /// It was written by another term than the log knows of its place.
    OtherTerm,
    /// Not the one that the index has led to.
    Unexpected,
});

finding!(
    /// The segment's index, which has led there.
    Index {
        AsFound,
        /// Made from this very file.
        MadeAgain,
    }
);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Decision {
    Serve,
    /// From the segment; then the batch is looked for again.
    MakeIndexAgain,
    /// The partition takes neither reads nor appends any more, and no byte of it is touched.
    Fence,
}

use Decision::*;

table!(ROWS: batch: Batch, index: Index => Decision);

static ROWS: &[Row] = &[
    row(&[Batch::Sound], &[], Serve, "it is what was appended"),
    row(&[Batch::Bad], &[], Fence, "it was flushed, and is not what it was"),
    row(&[Batch::Foreign], &[], Fence, "the file, or the block, is another partition's or another segment's"),
    row(&[Batch::OtherTerm], &[], Fence, "no CRC covers the leader epoch, but what the log knows of it does"),
    row(
        &[Batch::Unexpected],
        &[Index::AsFound],
        MakeIndexAgain,
        "an index is a shortcut, never synced: it may be of another past",
    ),
    row(&[Batch::Unexpected], &[Index::MadeAgain], Fence, "its segment does not read twice the same"),
];
