//! The journal of one shard of the last run, when its files have been read and nothing has been written yet.

use super::{Of, finding, fits, table};

finding!(
    /// The shard's ledger.
    Ledger {
        /// None: a new shard, a directory of before there were ledgers, or an operator took it away to accept a loss.
        Absent,
        /// Its CRC does not match.
        Damaged,
        /// All that the journal held was in the segments.
        Closed,
        /// It names journal files that must be there.
        Open,
    }
);

finding!(
    /// The journal's files.
    Files {
        /// Not one with records.
        None,
        /// All that the ledger names, or the ledger names none.
        Whole,
        /// One that the ledger names is not there, or its header is damaged.
        Missing,
    }
);

finding!(
    /// Where the records end.
    End {
        /// At a place behind which there is nothing that was acknowledged: unwritten, torn, or written in part.
        Proper,
        /// A record does not check out that a later one knows to have been durable.
        Damaged,
    }
);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Decision {
    /// Nothing is to be done.
    Nothing,
    /// Everything up to the end is put in place.
    Replay,
    RefuseMissing,
    RefuseDamaged,
    RefuseLedger,
    Impossible,
}

use Decision::*;
use Ledger::{Absent, Closed, Open};

table!(ROWS: ledger: Ledger, files: Files, end: End => Decision);

static ROWS: &[Row] = &[
    row(
        &[Closed],
        &[],
        &[],
        Nothing,
        "closed cleanly, or replayed before: all that the journal held was in the segments before the ledger said so, and what is \
         left of its files was about to go",
    ),
    row(&[Absent], &[Files::None], &[], Nothing, "new: the journal held nothing"),
    row(
        &[Absent, Open],
        &[Files::Whole],
        &[End::Proper],
        Replay,
        "a crash: records up to the end are acknowledged or might have been; behind it none is",
    ),
    row(
        &[Absent, Open],
        &[Files::Whole],
        &[End::Damaged],
        RefuseDamaged,
        "acknowledged records of any partition of the shard, votes among them, cannot be read",
    ),
    row(
        &[Open],
        &[Files::None, Files::Missing],
        &[],
        RefuseMissing,
        "the last run did not close: acknowledged records of any partition of the shard were only there",
    ),
    row(&[Absent], &[Files::Missing], &[], Impossible, "only an open ledger names files that can be missing"),
    row(&[Ledger::Damaged], &[], &[], RefuseLedger, "which journal files and partitions there must be is not known"),
];
