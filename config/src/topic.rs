//! The typed configuration of one topic.

use crate::error::ConfigError;
use crate::layers::{BrokerProperties, Overrides};
use crate::table::{Scope, Setting};
use crate::value::Value;

/// What a partition needs to know. Durations in milliseconds, sizes in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicConfig {
    pub cleanup_policy: CleanupPolicy,
    pub compression: Compression,
    pub gzip_level: i32,
    pub lz4_level: i32,
    pub zstd_level: i32,
    pub delete_retention_ms: i64,
    pub file_delete_delay_ms: i64,
    pub flush_messages: i64,
    pub flush_ms: i64,
    pub index_interval_bytes: i32,
    pub max_compaction_lag_ms: i64,
    pub max_message_bytes: i32,
    pub timestamp_after_max_ms: i64,
    pub timestamp_before_max_ms: i64,
    pub timestamp_type: TimestampType,
    /// In millionths.
    pub min_cleanable_ratio_ppm: u32,
    pub min_compaction_lag_ms: i64,
    pub min_insync_replicas: i32,
    /// -1: no limit.
    pub retention_bytes: i64,
    /// -1: for ever.
    pub retention_ms: i64,
    pub segment_bytes: i32,
    pub segment_jitter_ms: i64,
    pub segment_ms: i64,
    /// Acknowledge before the disk has the record.
    pub write_caching: bool,
}

/// `cleanup.policy`. Neither: everything is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CleanupPolicy {
    pub delete: bool,
    pub compact: bool,
}

/// `compression.type`: what batches are stored in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Whatever the producer chose.
    Producer,
    Uncompressed,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

/// `message.timestamp.type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimestampType {
    CreateTime,
    LogAppendTime,
}

impl TopicConfig {
    /// Topic overrides over the broker's properties over defaults. Fails only on a value that [`crate::alter`] would have refused.
    pub fn resolve(overrides: &Overrides, broker: &BrokerProperties) -> Result<TopicConfig, ConfigError> {
        let r = Resolver { overrides, broker };
        Ok(TopicConfig {
            cleanup_policy: r.cleanup_policy()?,
            compression: match r.text("compression.type")?.as_str() {
                "uncompressed" => Compression::Uncompressed,
                "gzip" => Compression::Gzip,
                "snappy" => Compression::Snappy,
                "lz4" => Compression::Lz4,
                "zstd" => Compression::Zstd,
                _ => Compression::Producer,
            },
            gzip_level: r.int("compression.gzip.level")?,
            lz4_level: r.int("compression.lz4.level")?,
            zstd_level: r.int("compression.zstd.level")?,
            delete_retention_ms: r.long("delete.retention.ms")?,
            file_delete_delay_ms: r.long("file.delete.delay.ms")?,
            flush_messages: r.long("flush.messages")?,
            flush_ms: r.long("flush.ms")?,
            index_interval_bytes: r.int("index.interval.bytes")?,
            max_compaction_lag_ms: r.long("max.compaction.lag.ms")?,
            max_message_bytes: r.int("max.message.bytes")?,
            timestamp_after_max_ms: r.long("message.timestamp.after.max.ms")?,
            timestamp_before_max_ms: r.long("message.timestamp.before.max.ms")?,
            timestamp_type: match r.text("message.timestamp.type")?.as_str() {
                "LogAppendTime" => TimestampType::LogAppendTime,
                _ => TimestampType::CreateTime,
            },
            min_cleanable_ratio_ppm: match r.value("min.cleanable.dirty.ratio")? {
                Value::Double(ratio) => (ratio * 1e6) as u32,
                other => {
                    return Err(ConfigError::value("min.cleanable.dirty.ratio", other, "Not a number of type DOUBLE"));
                }
            },
            min_compaction_lag_ms: r.long("min.compaction.lag.ms")?,
            min_insync_replicas: r.int("min.insync.replicas")?,
            retention_bytes: r.long("retention.bytes")?,
            retention_ms: r.long("retention.ms")?,
            segment_bytes: r.int("segment.bytes")?,
            segment_jitter_ms: r.long("segment.jitter.ms")?,
            segment_ms: r.long("segment.ms")?,
            write_caching: r.value("write.caching")? == Value::Boolean(true),
        })
    }
}

/// The value of a topic property that a topic without overrides has.
pub(crate) fn inherited(setting: &Setting, broker: &BrokerProperties) -> Result<Option<Value>, ConfigError> {
    for name in setting.synonyms {
        match broker.value(name)? {
            Some(Value::Integer(n)) => return Ok(Some(Value::Integer(in_milliseconds(name, n)))),
            Some(v) => return Ok(Some(v)),
            None => {}
        }
    }
    setting.default.map(|d| Value::parse(setting, d)).transpose()
}

/// Broker properties in hours or minutes stand for topic properties in milliseconds; a negative retention means no limit.
fn in_milliseconds(name: &str, n: i64) -> i64 {
    let unit = match name.rsplit('.').next() {
        Some("hours") => 3_600_000,
        Some("minutes") => 60_000,
        _ => 1,
    };
    if name.starts_with("log.retention.") && n < 0 { -1 } else { n.saturating_mul(unit) }
}

/// The value in force for a topic.
pub(crate) fn effective(
    setting: &Setting,
    overrides: &Overrides,
    broker: &BrokerProperties,
) -> Result<Option<Value>, ConfigError> {
    match overrides.get(setting.name) {
        Some(text) => Value::parse(setting, text).map(Some),
        None => inherited(setting, broker),
    }
}

struct Resolver<'a> {
    overrides: &'a Overrides,
    broker: &'a BrokerProperties,
}

impl Resolver<'_> {
    fn value(&self, name: &str) -> Result<Value, ConfigError> {
        let unknown = || ConfigError::InvalidConfig(format!("Unknown topic config name: {name}"));
        let setting = Scope::Topic.find(name).ok_or_else(unknown)?;
        effective(setting, self.overrides, self.broker)?.ok_or_else(unknown)
    }

    fn long(&self, name: &str) -> Result<i64, ConfigError> {
        match self.value(name)? {
            Value::Integer(n) => Ok(n),
            other => Err(ConfigError::value(name, other, "Not a number of type LONG")),
        }
    }

    fn int(&self, name: &str) -> Result<i32, ConfigError> {
        let n = self.long(name)?;
        i32::try_from(n).map_err(|_| ConfigError::value(name, n, "Not a number of type INT"))
    }

    fn text(&self, name: &str) -> Result<String, ConfigError> {
        self.value(name).map(|v| v.to_string())
    }

    fn cleanup_policy(&self) -> Result<CleanupPolicy, ConfigError> {
        let value = self.value("cleanup.policy")?;
        let has = |word: &str| value.items().iter().any(|i| i == word);
        Ok(CleanupPolicy { delete: has("delete"), compact: has("compact") })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> Overrides {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn defaults_are_those_of_kafka() {
        let c = TopicConfig::resolve(&Overrides::new(), &BrokerProperties::default()).unwrap();
        assert_eq!(c.retention_ms, 604_800_000);
        assert_eq!(c.segment_ms, 604_800_000);
        assert_eq!(c.segment_jitter_ms, 0);
        assert_eq!(c.flush_ms, i64::MAX);
        assert_eq!(c.max_message_bytes, 1_048_588);
        assert_eq!(c.segment_bytes, 1 << 30);
        assert_eq!(c.cleanup_policy, CleanupPolicy { delete: true, compact: false });
        assert_eq!(c.compression, Compression::Producer);
        assert!(!c.write_caching);
    }

    #[test]
    fn the_nearest_layer_wins() {
        let mut broker = BrokerProperties::default();
        let retention =
            |b: &BrokerProperties, o: &[(&str, &str)]| TopicConfig::resolve(&map(o), b).unwrap().retention_ms;
        broker.fixed = map(&[("log.retention.hours", "2")]);
        assert_eq!(retention(&broker, &[]), 7_200_000);
        broker.fixed.insert("log.retention.minutes".into(), "3".into());
        assert_eq!(retention(&broker, &[]), 180_000);
        broker.fixed.insert("log.retention.ms".into(), "4".into());
        assert_eq!(retention(&broker, &[]), 4);
        broker.dynamic_default = map(&[("log.retention.ms", "5")]);
        assert_eq!(retention(&broker, &[]), 5);
        broker.dynamic_broker = map(&[("log.retention.ms", "6")]);
        assert_eq!(retention(&broker, &[]), 6);
        assert_eq!(retention(&broker, &[("retention.ms", "7")]), 7);
        broker = BrokerProperties { fixed: map(&[("log.retention.hours", "-1")]), ..Default::default() };
        assert_eq!(retention(&broker, &[]), -1);
    }
}
