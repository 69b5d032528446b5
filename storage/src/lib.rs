//! One partition's bytes on one shard: the words (`model`), Kafka's record batches (`record`), what is remembered of
//! producers (`producer_state`) and of leader epochs (`epoch_cache`), and the log on disk (`Store`, `Log`).
//!
//! A shard has one [`Store`]; it has one journal, the only place where durability is waited for, and the shard's [`Log`]s.
//! A process takes its data directory ([`lock_data_dir`]), has each shard find its part of the journals of the last run
//! ([`find_journals`]) and, if no shard's is refused, replay them; when all have, each shard opens its store and creates or
//! loads its partitions.

mod chunk;
mod compaction;
mod data_dir;
mod durable;
mod entry;
pub mod epoch_cache;
mod error;
mod file_kind;
mod journal;
mod layout;
mod ledger;
mod log;
mod map;
pub mod model;
mod options;
mod point;
pub mod producer_state;
pub mod record;
mod recovery;
mod reserve;
pub mod sealed;
mod segment;
mod store;
mod term_starts;

pub use compaction::{Cleanable, Cleaned, Cleaner, CleanerOptions};
pub use data_dir::{DataDir, DataDirError, LockHolder, NewDirectory, data_dir_cluster_id, lock_data_dir};
pub use entry::{
    Bounds, EntryHeader, EntryKind, FirstState, LogEntry, PartitionSpec, ReadLimit, ReadSlices, SegmentInfo, VoteRecord,
};
pub use error::{ReadError, StorageError};
pub use file_kind::FileKind;
pub use log::{Expendable, Freed, Log, TimedOffset};
pub use options::{CleanupPolicy, LogConfig, StoreOptions};
pub use recovery::offline::describe::{DescribeError, describe_file};
pub use recovery::offline::walk::{Met, SegmentBytes, SegmentWalk};
pub use recovery::offline::{CheckReport, Finding, Severity, check_data_dir};
pub use recovery::{FoundJournals, RecoveryReport, find_journals, recover_journals};
pub use reserve::Reserve;
pub use segment::index_file::IndexSummary;
pub use store::budgets::Dirty;
pub use store::{OpenReport, ReadCount, Store, StoreStats};
