//! The state file and the segments of a partition that is opened, after recovery.

use super::{Of, finding, fits, table};

finding!(
    /// The state file.
    State {
        Damaged,
        /// The log was closed: nothing was on its way.
        Clean,
        /// It was in use; recovery has put in place what the journal had.
        Unclean,
    }
);

finding!(
    /// The segment files against it.
    Segments {
        Stated,
        /// One that it names is missing, or the last is shorter.
        Short,
        /// The last one is longer, or others follow it.
        Long,
    }
);

finding!(
    /// The batches that the state does not describe yet, up to the durable end.
    Batches {
        /// Not looked at.
        Unread,
        /// They end where the log must.
        Whole,
        /// One has a wrong CRC, or is cut short.
        Bad,
        /// One does not continue the log: another partition's, another segment's, an earlier one.
        Foreign,
        /// They end before the durable end, or before the next segment begins: told where they end.
        Early,
    }
);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Decision {
    /// The batches are looked at; after a clean stop there are none.
    Walk,
    /// What is behind the durable end is cut off, then the same.
    CutAndWalk,
    Open,
    /// Nothing is touched.
    Fence,
}

use Decision::*;
use State::{Clean, Damaged, Unclean};

table!(ROWS: state: State, segments: Segments, batches: Batches => Decision);

static ROWS: &[Row] = &[
    row(&[Damaged], &[], &[], Fence, "the state file is damaged: vote and log start are not known"),
    row(&[Clean, Unclean], &[Segments::Short], &[], Fence, "what was durable is not there"),
    row(
        &[Clean],
        &[Segments::Long],
        &[],
        Fence,
        "the log was closed, and was written to later: the state that belongs to it is lost",
    ),
    row(&[Clean, Unclean], &[Segments::Stated], &[Batches::Unread], Walk, "the state describes what is before its end"),
    row(
        &[Unclean],
        &[Segments::Long],
        &[Batches::Unread],
        CutAndWalk,
        "what is behind the durable end was never acknowledged: a torn tail, room ahead of the data, a segment begun too early",
    ),
    row(&[Clean], &[Segments::Stated], &[Batches::Whole], Open, "all that was acknowledged is there"),
    row(&[Unclean], &[Segments::Stated, Segments::Long], &[Batches::Whole], Open, "all that was acknowledged is there"),
    row(
        &[Clean],
        &[Segments::Stated],
        &[Batches::Bad, Batches::Foreign, Batches::Early],
        Fence,
        "bytes before the durable end are not what they were",
    ),
    row(
        &[Unclean],
        &[Segments::Stated, Segments::Long],
        &[Batches::Bad, Batches::Foreign, Batches::Early],
        Fence,
        "bytes before the durable end are not what they were",
    ),
];
