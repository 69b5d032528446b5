//! A topic's configuration in the words of the log.

use corelane_config::{Compression as Wanted, TopicConfig};
use corelane_storage::model::TimestampType;
use corelane_storage::record::{Codec, Compression, CompressionTarget};
use corelane_storage::{CleanupPolicy, LogConfig};

/// Bounds are checked where configs are set; what is out of the log's range is cut to it. `essential`: the broker cannot go on
/// without the topic, which is written to on a full disk too.
pub fn log_config(config: &TopicConfig, essential: bool) -> LogConfig {
    // Partitions of one topic shall not roll all at once.
    let jitter = rand::random_range(0..=config.segment_jitter_ms.clamp(0, config.segment_ms.max(0)));
    LogConfig {
        segment_bytes: config.segment_bytes.max(0) as u32,
        segment_ms: config.segment_ms - jitter,
        index_interval_bytes: config.index_interval_bytes.max(0) as u32,
        retention_ms: config.retention_ms,
        retention_bytes: config.retention_bytes,
        file_delete_delay_ms: config.file_delete_delay_ms,
        cleanup: CleanupPolicy { delete: config.cleanup_policy.delete, compact: config.cleanup_policy.compact },
        delete_retention_ms: config.delete_retention_ms,
        min_compaction_lag_ms: config.min_compaction_lag_ms,
        max_compaction_lag_ms: config.max_compaction_lag_ms,
        min_cleanable_ratio_ppm: config.min_cleanable_ratio_ppm,
        // Who says how often to flush wants it flushed.
        write_caching: config.write_caching && config.flush_messages == i64::MAX && config.flush_ms == i64::MAX,
        essential,
        ..LogConfig::default()
    }
}

pub fn timestamp_type(config: &TopicConfig) -> TimestampType {
    match config.timestamp_type {
        corelane_config::TimestampType::CreateTime => TimestampType::CreateTime,
        corelane_config::TimestampType::LogAppendTime => TimestampType::LogAppendTime,
    }
}

pub fn compression_target(config: &TopicConfig) -> CompressionTarget {
    CompressionTarget::Codec(match config.compression {
        Wanted::Producer => return CompressionTarget::Producer,
        Wanted::Uncompressed => Codec::None.into(),
        Wanted::Snappy => Codec::Snappy.into(),
        Wanted::Gzip => Compression { codec: Codec::Gzip, level: config.gzip_level },
        Wanted::Lz4 => Compression { codec: Codec::Lz4, level: config.lz4_level },
        Wanted::Zstd => Compression { codec: Codec::Zstd, level: config.zstd_level },
    })
}
