//! A directory in `data/`: by its name, and by what the metadata says.

use std::ffi::OsStr;

use super::{Of, finding, fits, table};
use crate::layout;

finding!(Name {
    /// A partition's.
    Partition,
    /// `<...>-delete`.
    Deleting,
    /// `<...>-stray`, and what is no name of ours.
    Other,
});

finding!(Metadata {
    /// It cannot be asked before the journals are replayed.
    Unread,
    Names,
    /// It never did, or its log is younger than the directory.
    NamesNot,
    /// Its topic was deleted.
    Deleted,
});

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Decision {
    /// As the table of `partition` says.
    Open,
    Remove,
    /// Renamed to `<...>-stray`.
    SetAside,
    Leave,
}

use Decision::*;

table!(ROWS: name: Name, metadata: Metadata => Decision);

static ROWS: &[Row] = &[
    row(&[Name::Deleting], &[], Remove, "its deletion was acknowledged, and a crash came before all of it was gone"),
    row(&[Name::Partition], &[Metadata::Unread], Leave, "a journal may have more of it"),
    row(&[Name::Partition], &[Metadata::Names], Open, "it must be there"),
    row(&[Name::Partition], &[Metadata::Deleted], Remove, "a deletion that had not come so far"),
    row(&[Name::Partition], &[Metadata::NamesNot], SetAside, "data that nobody asked to be deleted is not deleted"),
    row(&[Name::Other], &[], Leave, "no partition in use"),
];

impl Name {
    pub(crate) fn of(name: &OsStr) -> Name {
        match layout::parse_partition_dir(name) {
            Some(_) => Name::Partition,
            None if name.to_string_lossy().ends_with(layout::DELETE_DIR_SUFFIX) => Name::Deleting,
            None => Name::Other,
        }
    }
}
