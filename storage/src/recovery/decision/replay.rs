//! A partition that has records in a journal that is replayed.

use super::{Of, finding, fits, table};

finding!(
    /// What the journal says last.
    Records {
        Deleted,
        /// A state, and no bytes yet.
        Begun,
        /// A state, and the bytes that follow it.
        State,
        /// Bytes or votes without a state.
        Bytes,
    }
);

finding!(
    /// The state file on the disk.
    StateFile {
        Absent,
        Damaged,
        Intact,
    }
);

finding!(
    /// The segments that hold what was synced: by the state, and by records of large appends, which come when their bytes are
    /// durable in the segment.
    Synced {
        /// At least as long as they were; opening checks the CRCs.
        There,
        /// One is missing, or shorter.
        Short,
    }
);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Decision {
    /// Bytes are put in place, segments cut behind them, and a state file written.
    Restore,
    /// Only the state file is written: opening the partition reports what is missing.
    RestoreState,
    /// Its directory is removed.
    Remove,
    /// Left as it is, and reported; a damaged state file is moved aside, so that the partition stays fenced.
    Leave,
}

use Decision::*;
use Records::{Begun, Bytes, Deleted, State};

table!(ROWS: records: Records, file: StateFile, synced: Synced => Decision);

static ROWS: &[Row] = &[
    row(&[Deleted], &[], &[], Remove, "its deletion was acknowledged; it may be half done"),
    row(&[Begun], &[], &[], Remove, "it was never used, nor its creation acknowledged; it is made again"),
    row(&[State], &[], &[Synced::There], Restore, "the journal has all that was not synced"),
    row(&[State], &[], &[Synced::Short], RestoreState, "bytes that the journal had given up are gone"),
    row(
        &[Bytes],
        &[StateFile::Intact],
        &[Synced::There],
        Restore,
        "it was at rest when the journal began: its file has its state",
    ),
    row(&[Bytes], &[StateFile::Intact], &[Synced::Short], RestoreState, "bytes that the journal had given up are gone"),
    row(&[Bytes], &[StateFile::Absent, StateFile::Damaged], &[], Leave, "its state is lost: opening it reports so"),
];
