//! The `.txnindex` file of a segment, when it is asked for: which aborted transactions readers of what is committed leave out.

use super::{Of, finding, fits, table};

finding!(
    /// The file.
    File {
        Absent,
        /// Its CRC does not match.
        Damaged,
        Usable,
    }
);

finding!(
    /// The log's state.
    State {
        /// It says that there is one.
        Names,
        NamesNot,
    }
);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Decision {
    /// What it says of markers that the state has not handed over to it is not looked at.
    Use,
    /// From the batches of the log.
    MakeAgain,
    Nothing,
}

use Decision::*;

table!(ROWS: file: File, state: State => Decision);

static ROWS: &[Row] = &[
    row(&[File::Usable], &[], Use, "it was synced before the state handed its transactions over"),
    row(&[File::Damaged], &[], MakeAgain, "the markers in the log say it too"),
    row(&[File::Absent], &[State::Names], MakeAgain, "the file is gone, and the markers in the log say it too"),
    row(
        &[File::Absent],
        &[State::NamesNot],
        Nothing,
        "no transaction was aborted in the segment, or none is handed over yet",
    ),
];
