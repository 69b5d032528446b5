//! The coordinators of a Kafka-compatible broker as pure state machines.
//!
//! Requests, expired deadlines and finished writes go in; records to write, replies and the next deadline come out. There is
//! no clock, no randomness, no I/O and no thread in here: time and random bits come with each call, and an adapter writes the
//! records to the internal topic's partition and hands the replies to whoever waits. The state that is persisted is rebuilt by
//! replaying those records, with the same code that applies them while serving.
//!
//! One machine coordinates what one partition of the internal topic holds, and belongs to that partition's shard.

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

pub mod group;
pub mod re2;
mod record;
pub mod share;
mod timer;
pub mod txn;

pub use record::CoordinatorRecord;

/// What time it is, as the caller's clocks say.
///
/// Deadlines count on the monotonic clock, so that a wall clock that is set cannot expire every session at once; the wall
/// clock is what gets written into records (commit and state timestamps) and what retention compares with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds of a clock that never steps; where it starts does not matter.
    pub mono_ms: i64,
    /// Milliseconds since the Unix epoch.
    pub wall_ms: i64,
}
