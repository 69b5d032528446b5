//! A file in the directory of a partition that is opened.

use super::{Of, finding, fits, table};

finding!(File {
    /// `.cleaned`.
    Cleaned,
    /// `.swap`: a compacted segment, whole and synced.
    Swap,
    /// `.deleted`, `.new`.
    Leftover,
    /// Of a segment before the log's first or behind its last one, or a snapshot of producers from there.
    Outside,
    Inside,
});

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Decision {
    Remove,
    /// The segments whose place it takes go, as far as they are still there; then it gets its name.
    TakePlace,
    Keep,
}

use Decision::*;

table!(ROWS: file: File => Decision);

static ROWS: &[Row] = &[
    row(&[File::Cleaned], Remove, "compaction was writing it: what it was to replace is all there"),
    row(&[File::Swap], TakePlace, "its name says which segments it replaces, and some of them may be gone already"),
    row(&[File::Leftover], Remove, "on its way out, or not finished: nothing speaks of it"),
    row(
        &[File::Outside],
        Remove,
        "trimmed or cut off, and come back with a crash; or begun for what was never acknowledged, which `log` decides first",
    ),
    row(&[File::Inside], Keep, "the state speaks of it, or it is a shortcut"),
];
