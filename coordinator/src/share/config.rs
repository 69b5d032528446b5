//! What can be set about the share coordinator.

/// Settings of the share coordinator. Names and defaults are those of the broker configurations named in each line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShareConfig {
    /// `share.coordinator.snapshot.update.records.per.snapshot`
    pub updates_per_snapshot: u32,
    /// `share.coordinator.state.topic.prune.interval.ms`, which Kafka does not show.
    pub prune_interval_ms: i64,
    /// `share.coordinator.cold.partition.snapshot.interval.ms`, which Kafka does not show.
    pub cold_snapshot_interval_ms: i64,
}

impl Default for ShareConfig {
    fn default() -> ShareConfig {
        ShareConfig {
            updates_per_snapshot: 500,
            prune_interval_ms: 5 * 60 * 1_000,
            cold_snapshot_interval_ms: 5 * 60 * 1_000,
        }
    }
}
