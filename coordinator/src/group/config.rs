//! What can be set about consumer groups.

use std::fmt;

use super::modern::assignor::Assignor;
use super::streams::StreamsSettings;

/// Settings of the group coordinator. Names and defaults are those of the broker configurations named in each line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupConfig {
    /// `group.initial.rebalance.delay.ms`
    pub initial_rebalance_delay_ms: i64,
    /// `group.min.session.timeout.ms`
    pub min_session_timeout_ms: i32,
    /// `group.max.session.timeout.ms`
    pub max_session_timeout_ms: i32,
    /// `group.max.size`: members of one group.
    pub max_size: usize,
    /// How long a member that has not yet been told its id may wait for the rebalance. Kafka has no setting for it.
    pub new_member_join_timeout_ms: i64,
    /// `offsets.retention.minutes`, in milliseconds.
    pub offsets_retention_ms: i64,
    /// `offsets.retention.check.interval.ms`
    pub offsets_retention_check_interval_ms: i64,
    /// `offset.metadata.max.bytes`: counted in UTF-16 units, as Kafka does.
    pub offset_metadata_max_bytes: usize,
    pub consumer: ConsumerGroupConfig,
    /// Of streams groups that set nothing of their own.
    pub streams: StreamsSettings,
}

/// Settings of groups of the consumer protocol (KIP-848), the same for all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerGroupConfig {
    /// `group.consumer.max.size`: members of one group.
    pub max_size: usize,
    /// `group.consumer.assignors`: the first one serves members who ask for none.
    pub assignors: Vec<Assignor>,
    /// `group.consumer.migration.policy`
    pub migration: MigrationPolicy,
}

/// Which way a group with members may change between the classic and the consumer protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MigrationPolicy {
    #[default]
    Bidirectional,
    /// From classic to consumer.
    Upgrade,
    /// From consumer to classic.
    Downgrade,
    /// Neither, and no member of the classic protocol joins a consumer group with members.
    Disabled,
}

impl MigrationPolicy {
    /// In any case of letters, as Kafka takes it; an unknown name is `disabled`.
    pub fn named(name: &str) -> MigrationPolicy {
        let known = [
            ("bidirectional", MigrationPolicy::Bidirectional),
            ("upgrade", MigrationPolicy::Upgrade),
            ("downgrade", MigrationPolicy::Downgrade),
        ];
        let found = known.into_iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map_or(MigrationPolicy::Disabled, |(_, policy)| policy)
    }

    pub(crate) fn upgrades(self) -> bool {
        matches!(self, MigrationPolicy::Bidirectional | MigrationPolicy::Upgrade)
    }

    pub(crate) fn downgrades(self) -> bool {
        matches!(self, MigrationPolicy::Bidirectional | MigrationPolicy::Downgrade)
    }
}

impl ConsumerGroupConfig {
    pub(crate) fn default_assignor(&self) -> Assignor {
        self.assignors.first().copied().unwrap_or(Assignor::Uniform)
    }
}

impl Default for ConsumerGroupConfig {
    fn default() -> ConsumerGroupConfig {
        ConsumerGroupConfig {
            max_size: i32::MAX as usize,
            assignors: vec![Assignor::Uniform, Assignor::Range],
            migration: MigrationPolicy::default(),
        }
    }
}

/// Settings of one consumer group: `consumer.*` of the group, or else `group.consumer.*` of the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConsumerGroupSettings {
    /// `session.timeout.ms`
    pub session_timeout_ms: i32,
    /// `heartbeat.interval.ms`
    pub heartbeat_interval_ms: i32,
    /// `assignment.interval.ms`: between two assignments of one group.
    pub assignment_interval_ms: i32,
}

impl Default for ConsumerGroupSettings {
    fn default() -> ConsumerGroupSettings {
        ConsumerGroupSettings {
            session_timeout_ms: 45_000,
            heartbeat_interval_ms: 5_000,
            assignment_interval_ms: 1_000,
        }
    }
}

/// The settings in force: a group may have some of its own.
pub trait ConsumerSettings: fmt::Debug {
    fn of(&self, group: &str) -> ConsumerGroupSettings;
}

/// The same for every group.
impl ConsumerSettings for ConsumerGroupSettings {
    fn of(&self, _: &str) -> ConsumerGroupSettings {
        *self
    }
}

impl Default for GroupConfig {
    fn default() -> GroupConfig {
        GroupConfig {
            initial_rebalance_delay_ms: 3_000,
            min_session_timeout_ms: 6_000,
            max_session_timeout_ms: 1_800_000,
            max_size: i32::MAX as usize,
            new_member_join_timeout_ms: 5 * 60 * 1_000,
            offsets_retention_ms: 10_080 * 60 * 1_000,
            offsets_retention_check_interval_ms: 600_000,
            offset_metadata_max_bytes: 4_096,
            consumer: ConsumerGroupConfig::default(),
            streams: StreamsSettings::default(),
        }
    }
}
