//! The directory of a partition that the metadata names.

use super::{Of, finding, fits, table};

finding!(
    /// What is in it.
    Directory {
        /// There is none.
        Absent,
        /// Neither a state file nor bytes in a segment.
        Empty,
        /// Bytes in a segment, and no state file.
        Stateless,
        /// A state file.
        State,
    }
);

finding!(
    /// The ledgers.
    Ledger {
        /// It was created, durably.
        Named,
        Unnamed,
    }
);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Decision {
    Create,
    Load,
    /// Nothing is touched.
    Fence,
}

use Decision::*;
use Directory::{Absent, Empty, State, Stateless};

table!(ROWS: directory: Directory, ledger: Ledger => Decision);

static ROWS: &[Row] = &[
    row(&[State], &[], Load, "the state file says what there must be"),
    row(
        &[Absent, Empty],
        &[Ledger::Unnamed],
        Create,
        "a crash came before its creation was durable: nothing was acknowledged",
    ),
    row(&[Absent], &[Ledger::Named], Fence, "the partition's directory is gone"),
    row(&[Empty], &[Ledger::Named], Fence, "the partition's files are gone"),
    row(&[Stateless], &[], Fence, "the partition's state file is gone: its vote and its durable end are not known"),
];
