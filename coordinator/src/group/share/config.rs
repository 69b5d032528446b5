//! What can be set about a share group.

use std::fmt;

/// Settings of one group. Names and defaults are those of the broker configurations named in each line; all but the first and
/// last can be set for a group too, as `share.*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShareGroupSettings {
    /// `group.share.max.size`: members of one group.
    pub max_size: usize,
    /// `group.share.session.timeout.ms`
    pub session_timeout_ms: i32,
    /// `group.share.heartbeat.interval.ms`
    pub heartbeat_interval_ms: i32,
    /// `group.share.assignment.interval.ms`: between two assignments of one group.
    pub assignment_interval_ms: i32,
    /// `group.share.initialize.retry.interval.ms`, which Kafka does not show: how long initialising may be under way.
    pub initialize_retry_interval_ms: i32,
}

impl Default for ShareGroupSettings {
    fn default() -> ShareGroupSettings {
        ShareGroupSettings {
            max_size: 200,
            session_timeout_ms: 45_000,
            heartbeat_interval_ms: 5_000,
            assignment_interval_ms: 1_000,
            initialize_retry_interval_ms: 30_000,
        }
    }
}

/// The settings in force: a group may have some of its own.
pub trait ShareSettings: fmt::Debug {
    fn of(&self, group: &str) -> ShareGroupSettings;
}

/// The same for every group.
impl ShareSettings for ShareGroupSettings {
    fn of(&self, _: &str) -> ShareGroupSettings {
        *self
    }
}
