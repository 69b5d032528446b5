//! The kinds of files in a data directory, as a table: what each is named, and what damage to one means. What looks through a
//! directory goes by it, so a file that is not in it is told as one that nobody knows.
#![deny(clippy::unwrap_used, clippy::indexing_slicing)]

use std::ffi::OsStr;
use std::path::Path;

use crate::data_dir::{LOCK, META};
use crate::journal::{parse_file_name, parse_spare};
use crate::layout;
use crate::recovery::offline::Severity;

/// A kind of file.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum FileKind {
    Meta,
    Lock,
    Reserve,
    Ledger,
    Journal,
    Spare,
    Unclean,
    Replayed,
    State,
    DamagedState,
    Segment,
    Index,
    Indexes,
    Producers,
    Aborted,
    Cleaner,
    Snapshot,
    Swap,
    Cleaned,
    Deleted,
    Unfinished,
}

use FileKind::*;

/// What is said of a kind.
struct Row {
    kind: FileKind,
    name: &'static str,
    /// How files of it are named, as in [`layout`].
    form: &'static str,
    /// What a byte that is another one means, where the file counts.
    damage: Severity,
}

const fn row(kind: FileKind, name: &'static str, form: &'static str, damage: Severity) -> Row {
    Row { kind, name, form, damage }
}

static ROWS: [Row; 21] = [
    row(Meta, "meta", "meta.properties", Severity::Damage),
    // What is in it is for people; that it is held counts.
    row(Lock, "lock", ".lock", Severity::Note),
    // Only the room that it takes counts.
    row(Reserve, "reserve", "reserve", Severity::Note),
    row(Ledger, "ledger", "ledger/<shard>", Severity::Damage),
    row(Journal, "journal", "<number, 20 digits>.jnl", Severity::Damage),
    // What was in it when it was a journal file.
    row(Spare, "spare", "spare-<n>", Severity::Note),
    // That it is there says all.
    row(Unclean, "unclean", "unclean", Severity::Rebuilt),
    // The files that it names are replayed again.
    row(Replayed, "replayed", "replayed", Severity::Rebuilt),
    row(State, "state", "state", Severity::Damage),
    // Known to be; its partition is fenced.
    row(DamagedState, "damaged state", "state.damaged", Severity::Note),
    row(Segment, "segment", "<base offset, 20 digits>.log", Severity::Damage),
    row(Index, "index", "<base offset>.idx", Severity::Rebuilt),
    row(Indexes, "indexes", "indexes", Severity::Rebuilt),
    row(Producers, "producers", "<offset>.snap", Severity::Rebuilt),
    row(Aborted, "aborted transactions", "<base offset>.txnindex", Severity::Rebuilt),
    row(Cleaner, "cleaner", "cleaner", Severity::Rebuilt),
    row(Snapshot, "metadata snapshot", "<offset>-<term>.checkpoint", Severity::Damage),
    row(Swap, "swap", "<base offset>.<end offset>.swap", Severity::Damage),
    // The rest is removed by the next start, unread.
    row(Cleaned, "cleaned", "<base offset>.cleaned", Severity::Note),
    row(Deleted, "deleted", "*.deleted", Severity::Note),
    row(Unfinished, "unfinished", "*.new", Severity::Note),
];

impl FileKind {
    /// The kind of the file, by its name and its directory's; `None` of what a broker does not write.
    pub fn of(path: &Path) -> Option<FileKind> {
        let name = path.file_name()?;
        let parent = path.parent().and_then(Path::file_name);
        let text = name.to_str()?;
        let offset = |suffix: &str| layout::parse_offset(name, suffix).is_some();
        Some(match text {
            META => Meta,
            LOCK => Lock,
            layout::RESERVE_FILE => Reserve,
            layout::UNCLEAN_MARK => Unclean,
            layout::REPLAYED_MARK => Replayed,
            layout::STATE_FILE => State,
            layout::DAMAGED_STATE_FILE => DamagedState,
            layout::INDEXES_FILE => Indexes,
            layout::CLEANER_FILE => Cleaner,
            _ if offset(".log") => Segment,
            _ if offset(".idx") => Index,
            _ if offset(".snap") => Producers,
            _ if offset(layout::TXN_INDEX_SUFFIX) => Aborted,
            _ if offset(layout::CLEANED_SUFFIX) => Cleaned,
            _ if layout::parse_swap(name).is_some() => Swap,
            _ if text.ends_with(layout::SNAPSHOT_SUFFIX) => Snapshot,
            _ if text.ends_with(layout::DELETED_SUFFIX) => Deleted,
            _ if text.ends_with(layout::UNFINISHED_SUFFIX) => Unfinished,
            _ if text.ends_with(layout::UNFINISHED_SNAPSHOT_SUFFIX) => Unfinished,
            _ if parse_file_name(text).is_some() => Journal,
            _ if parse_spare(text).is_some() => Spare,
            _ if parent == Some(OsStr::new("ledger")) && layout::parse_shard(name).is_some() => Ledger,
            _ => return None,
        })
    }

    fn row(self) -> &'static Row {
        match ROWS.iter().find(|row| row.kind == self) {
            Some(row) => row,
            None => unreachable!("the table has every kind"),
        }
    }

    /// For people and scripts.
    pub fn name(self) -> &'static str {
        self.row().name
    }

    /// How files of it are named, as in the prose of `layout`.
    pub fn form(self) -> &'static str {
        self.row().form
    }

    /// What damage to a file of this kind means, where the file counts.
    pub fn damage(self) -> Severity {
        self.row().damage
    }

    /// True of what is a run of record batches.
    pub fn is_batches(self) -> bool {
        matches!(self, Segment | Swap | Snapshot)
    }

    /// True of what nobody reads: only that it is there counts, or how long it is.
    pub(crate) fn is_opaque(self) -> bool {
        matches!(self, Reserve | Spare | Cleaned | Deleted | Unfinished)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layouts_prose_names_every_kind_and_each_is_told_by_its_name() {
        let prose: String = include_str!("layout.rs").lines().take_while(|line| line.starts_with("//!")).collect();
        for row in &ROWS {
            let in_prose = row.form.strip_prefix("ledger/").unwrap_or(row.form);
            assert!(prose.contains(in_prose), "the layout says nothing of {}", row.form);
            let mut path = format!("d/{}", row.form).replace("<shard>", "0").replace("<n>", "3").replace('*', "x");
            for digits in ["<number, 20 digits>", "<base offset, 20 digits>", "<base offset>", "<end offset>"] {
                path = path.replace(digits, "00000000000000000042");
            }
            for digits in ["<offset>", "<term>"] {
                path = path.replace(digits, "00000000000000000007");
            }
            assert_eq!(FileKind::of(Path::new(&path)), Some(row.kind), "{path}");
        }
        for other in ["d/0", "d/x.log", "d/core", "d/42.idx"] {
            assert_eq!(FileKind::of(Path::new(other)), None, "{other}");
        }
    }
}
