//! Names of files and directories below the data directory.
//!
//! ```text
//! meta.properties                                node and cluster id (data_dir)
//! .lock                                          keeps a second process out, and names who holds it (data_dir)
//! reserve                                        space kept for the day the disk is full (reserve)
//! ledger/<shard>                                 what must be in `journal` and `data` (ledger)
//! journal/<shard>/<number, 20 digits>.jnl        records waiting to reach their segments
//! journal/<shard>/spare-<n>                      pre-written, ready to become a journal file
//! journal/<shard>/unclean                        the last run ended without closing: groups must not trust its leases
//! journal/<shard>/replayed                        names the files whose records are all in the segments: they are being removed
//! data/<topic>-<partition>.<topic id>/           one partition
//!     state                                      what is not in the segments (log::state)
//!     <base offset, 20 digits>.log               segment: a run of record batches
//!     <base offset>.idx  <offset>.snap           sparse index; producers as of an offset
//!     <base offset>.txnindex                     aborted transactions (log::aborted)
//!     indexes                                    heads of the .idx files (segment::index_heads)
//!     *.deleted                                  on its way out
//!     <base offset>.cleaned                      compaction is writing it
//!     <base offset>.<end offset>.swap            takes the place of the segments from `base` to before `end` (compaction)
//!     state.damaged                              one that was, of a partition that is fenced for good (recovery)
//!     cleaner                                    how far compaction has come
//!     <offset>-<term>.checkpoint                 of the metadata log: a snapshot: record batches between a header and a footer; `*.part` while it is written
//!     *.new                                      a small file that is being written, here and elsewhere
//! data/<...>-delete/                             a deleted partition on its way out
//! data/<...>-stray/                              a partition that the metadata does not name, moved out of the way
//! ```

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use crate::model::{Offset, PartitionKey, TopicId};

pub(crate) const DELETED_SUFFIX: &str = ".deleted";
/// Ends the name of a directory that is being removed.
pub(crate) const DELETE_DIR_SUFFIX: &str = "-delete";
/// Ends the name of a directory of a partition that the metadata does not name (Kafka's suffix for it).
pub(crate) const STRAY_DIR_SUFFIX: &str = "-stray";
/// Ends the name of a file that is being written, before it is renamed.
pub(crate) const UNFINISHED_SUFFIX: &str = ".new";
/// Ends the name of a segment that compaction is writing.
pub(crate) const CLEANED_SUFFIX: &str = ".cleaned";
/// Ends the name of a segment that is about to replace others.
pub(crate) const SWAP_SUFFIX: &str = ".swap";
pub(crate) const TXN_INDEX_SUFFIX: &str = ".txnindex";
pub(crate) const CLEANER_FILE: &str = "cleaner";
/// Ends the name of a snapshot of the metadata (Kafka's suffix for it), and of one that is being written.
pub(crate) const SNAPSHOT_SUFFIX: &str = ".checkpoint";
pub(crate) const UNFINISHED_SNAPSHOT_SUFFIX: &str = ".part";
pub(crate) const RESERVE_FILE: &str = "reserve";
pub(crate) const STATE_FILE: &str = "state";
/// A damaged one whose partition has later records, which it does not know: a start has moved it here.
pub(crate) const DAMAGED_STATE_FILE: &str = "state.damaged";
pub(crate) const INDEXES_FILE: &str = "indexes";
pub(crate) const UNCLEAN_MARK: &str = "unclean";
pub(crate) const REPLAYED_MARK: &str = "replayed";

/// The file that holds space back.
pub(crate) fn reserve(data_dir: &Path) -> PathBuf {
    data_dir.join(RESERVE_FILE)
}

pub(crate) fn journal_root(data_dir: &Path) -> PathBuf {
    data_dir.join("journal")
}

pub(crate) fn journal_dir(data_dir: &Path, shard: u16) -> PathBuf {
    journal_root(data_dir).join(shard.to_string())
}

pub(crate) fn ledger_root(data_dir: &Path) -> PathBuf {
    data_dir.join("ledger")
}

pub(crate) fn ledger(data_dir: &Path, shard: u16) -> PathBuf {
    ledger_root(data_dir).join(shard.to_string())
}

/// The shard that a directory of a journal, or a ledger, is named after.
pub(crate) fn parse_shard(name: &OsStr) -> Option<u16> {
    number(name.to_str()?)
}

pub(crate) fn partitions_root(data_dir: &Path) -> PathBuf {
    data_dir.join("data")
}

/// What a file system takes, less what a directory that goes away gets behind its name.
const LONGEST_NAME: usize = 255 - DELETE_DIR_SUFFIX.len();

/// The topic is there for people to read: a long name loses its end, so that the directory can be made.
pub(crate) fn partition_dir_name(topic: &str, key: PartitionKey) -> String {
    let end = format!("-{}.{}", key.partition, key.topic);
    let topic = topic.get(..LONGEST_NAME - end.len()).unwrap_or(topic);
    format!("{topic}{end}")
}

/// The partition that a directory is named after.
pub(crate) fn parse_partition_dir(name: &OsStr) -> Option<PartitionKey> {
    // The id is base64url and may hold '-' but no '.'; topic names may hold both.
    let (front, id) = name.to_str()?.rsplit_once('.')?;
    let (_, partition) = front.rsplit_once('-')?;
    Some(PartitionKey { topic: TopicId::from_base64(id)?, partition: number(partition)? })
}

pub(crate) fn segment_name(base: Offset) -> String {
    format!("{:020}.log", base.0)
}

pub(crate) fn index_name(base: Offset) -> String {
    format!("{:020}.idx", base.0)
}

/// As Kafka names it.
pub(crate) fn txn_index_name(base: Offset) -> String {
    format!("{:020}{TXN_INDEX_SUFFIX}", base.0)
}

pub(crate) fn snapshot_name(offset: Offset) -> String {
    format!("{:020}.snap", offset.0)
}

pub(crate) fn cleaned_name(base: Offset) -> String {
    format!("{:020}{CLEANED_SUFFIX}", base.0)
}

/// A segment in place of those from `base` to before `end`.
pub(crate) fn swap_name(base: Offset, end: Offset) -> String {
    format!("{:020}.{:020}{SWAP_SUFFIX}", base.0, end.0)
}

/// The offsets in a name that [`swap_name`] made.
pub(crate) fn parse_swap(name: &OsStr) -> Option<(Offset, Offset)> {
    let (base, end) = name.to_str()?.strip_suffix(SWAP_SUFFIX)?.split_once('.')?;
    let offset = |digits: &str| parse_offset(digits.as_ref(), "");
    Some((offset(base)?, offset(end)?))
}

/// The offset at which a snapshot of the metadata of that name ends.
pub(crate) fn parse_snapshot(name: &OsStr) -> Option<Offset> {
    let (end, _) = name.to_str()?.strip_suffix(SNAPSHOT_SUFFIX)?.split_once('-')?;
    number(end).map(Offset)
}

/// The offset in a name `<20 digits><suffix>`.
pub(crate) fn parse_offset(name: &OsStr, suffix: &str) -> Option<Offset> {
    let digits = name.to_str()?.strip_suffix(suffix)?;
    if digits.len() != 20 {
        return None;
    }
    number(digits).map(Offset)
}

/// `number` without sign or leading `+`.
fn number<T: std::str::FromStr>(digits: &str) -> Option<T> {
    digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back() {
        let key = PartitionKey { topic: TopicId([0xfb; 16]), partition: 12 };
        let name = partition_dir_name("a-1.b", key);
        assert_eq!(parse_partition_dir(name.as_ref()), Some(key));
        let long = partition_dir_name(&"x".repeat(249), key);
        assert_eq!((long.len(), parse_partition_dir(long.as_ref())), (LONGEST_NAME, Some(key)));
        for other in ["a-1", "a.b", "x-+1.AAAAAAAAAAAAAAAAAAAAAA", &format!("{name}-delete")] {
            assert_eq!(parse_partition_dir(other.as_ref()), None, "{other}");
        }
        assert_eq!(parse_offset(segment_name(Offset(42)).as_ref(), ".log"), Some(Offset(42)));
        assert_eq!(parse_offset("42.log".as_ref(), ".log"), None);
        let swap = swap_name(Offset(42), Offset(99));
        assert_eq!(parse_swap(swap.as_ref()), Some((Offset(42), Offset(99))));
        assert_eq!(parse_swap(cleaned_name(Offset(42)).as_ref()), None);
        assert_eq!(parse_offset("-0000000000000000042.log".as_ref(), ".log"), None);
    }
}
