//! How a store and a log are set up.

use std::path::PathBuf;
use std::time::Duration;

use core_pinning::ShardId;

/// The settings of one shard's store. Sizes in bytes.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    pub data_dir: PathBuf,
    pub shard: ShardId,
    /// Size of each journal file; at least 64 KiB and a multiple of 4096.
    pub journal_file_bytes: usize,
    /// Journal files that may hold records: it bounds what a crash has to replay. Beyond it [`Dirty`](crate::Dirty) says
    /// that appends should wait. A checkpoint starts when half of them are full.
    pub journal_files_max: usize,
    /// Records that wait are written together up to this size.
    pub journal_write_bytes: usize,
    /// Bytes that wait for one log are written straight into its segment file from this size on, with only a note of them in
    /// the journal.
    pub bypass_bytes: usize,
    /// Bytes appended and not yet in their segment files, beyond which [`Dirty`](crate::Dirty) says that appends should wait.
    pub dirty_budget: usize,
    /// Bytes of written chunks kept in memory for readers near the end of the logs.
    pub cache_budget: usize,
    /// Bytes of the sparse indexes of sealed segments kept in memory.
    pub index_budget: usize,
    /// Largest chunk of a log's tail; a power of two from 16 KiB.
    pub chunk_bytes_max: usize,
    /// Writes to segment files in flight at a time.
    pub write_back_in_flight: usize,
    /// Segment files held open.
    pub open_files_max: usize,
    /// A log without appends for this long is written back, and for twice as long gives its memory back.
    pub idle: Duration,
    /// How long the segment files of a log may fail to be written before that ends the store, once the journal needs the
    /// files that hold the log's records.
    pub write_back_patience: Duration,
}

impl StoreOptions {
    pub fn new(data_dir: impl Into<PathBuf>, shard: ShardId, dirty_budget: usize, cache_budget: usize) -> StoreOptions {
        StoreOptions {
            data_dir: data_dir.into(),
            shard,
            journal_file_bytes: 64 << 20,
            journal_files_max: 8,
            journal_write_bytes: 1 << 20,
            bypass_bytes: 32 << 10,
            dirty_budget,
            cache_budget,
            index_budget: 16 << 20,
            chunk_bytes_max: 256 << 10,
            write_back_in_flight: 8,
            open_files_max: 256,
            idle: Duration::from_secs(5),
            write_back_patience: Duration::from_secs(30),
        }
    }
}

/// Which ends of a log `cleanup.policy` lets go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CleanupPolicy {
    pub delete: bool,
    /// Only the last record of each key is kept for long: [`Cleaner`](crate::Cleaner).
    pub compact: bool,
}

/// The topic configs that the log obeys, named as in Kafka (`TopicConfig`). May change at any time (`Log::set_config`).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogConfig {
    pub segment_bytes: u32,
    pub segment_ms: i64,
    pub segment_index_bytes: u32,
    pub index_interval_bytes: u32,
    /// -1: without limit.
    pub retention_ms: i64,
    /// -1: without limit.
    pub retention_bytes: i64,
    pub file_delete_delay_ms: i64,
    pub cleanup: CleanupPolicy,
    /// How long compaction keeps a tombstone that it has seen.
    pub delete_retention_ms: i64,
    /// Compaction leaves records alone that are younger.
    pub min_compaction_lag_ms: i64,
    /// Records are compacted when they are older, whatever the dirty ratio; `i64::MAX`: never for that.
    pub max_compaction_lag_ms: i64,
    /// Share of the log that has to be dirty before it is compacted, in millionths.
    pub min_cleanable_ratio_ppm: u32,
    /// Acknowledge appends before they are on disk. They are journalled all the same, some 100 us later.
    pub write_caching: bool,
    /// What makes room again depends on this log: on a full disk it goes on for as long as the journal's current file does.
    pub essential: bool,
}

impl Default for LogConfig {
    fn default() -> LogConfig {
        LogConfig {
            segment_bytes: 1 << 30,
            segment_ms: 604_800_000,
            segment_index_bytes: 10 << 20,
            index_interval_bytes: 4096,
            retention_ms: 604_800_000,
            retention_bytes: -1,
            file_delete_delay_ms: 60_000,
            cleanup: CleanupPolicy { delete: true, compact: false },
            delete_retention_ms: 86_400_000,
            min_compaction_lag_ms: 0,
            max_compaction_lag_ms: i64::MAX,
            min_cleanable_ratio_ppm: 500_000,
            write_caching: false,
            essential: false,
        }
    }
}
