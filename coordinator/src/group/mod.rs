//! Consumer groups, share groups, streams groups, and committed offsets.
//!
//! [`GroupCoordinator`] is one partition of `__consumer_offsets` at work. A request gives an [`Outcome`]: the answer, now or
//! later, and [`Effects`]: records to write and answers for those who waited. Finished writes and passing time give more of
//! them. Judge its behaviour by Apache Kafka's `GroupMetadataManager`, `OffsetMetadataManager` and `ClassicGroup`.
//!
//! # Writes, and when a state counts
//!
//! As in Kafka's `CoordinatorRuntime`, a state is changed when the records that say so are made, and the answer is held back
//! until they are durable. A write that fails takes back its own changes and those of all later writes, newest first, and
//! their answers become errors. What Kafka keeps in plain memory, the members and the progress of a rebalance, is not taken
//! back: an assignment that could not be stored leads to another rebalance, a static member that could not be stored gets its
//! old id back. An offset fetch waits for the writes that touch its group, so nobody reads an offset that is lost later.
//!
//! An adapter that no longer leads the partition must not report failed writes one by one, since they may still come to
//! count: it drops the whole machine with [`GroupCoordinator::unload`].
//!
//! # Kinds of groups
//!
//! [`table`] holds groups of every kind: classic ones, whose members assign among themselves, and those of [`consumer`] and
//! [`streams`], for which the coordinator does. What a group of the latter kind is, is what its records say, and each record is one change
//! with another that takes it back: serving, loading and undoing all go the same way.

mod admin;
mod classic;
mod config;
mod consumer;
mod context;
mod coordinator;
mod embedded;
mod env;
mod heartbeat;
mod join;
mod leave;
mod loading;
mod member;
mod membership;
mod modern;
mod offset_commit;
mod offset_delete;
mod offset_fetch;
mod offset_store;
mod outcome;
mod pending_offsets;
mod persist;
mod protocol;
mod rebalance;
mod refusal;
pub mod reject;
mod retention;
mod share;
mod state;
mod static_join;
mod streams;
mod sync;
mod table;
mod txn_offset_commit;
mod writes;

pub use config::{ConsumerGroupConfig, ConsumerGroupSettings, ConsumerSettings, GroupConfig, MigrationPolicy};
pub use consumer::group::ConsumerGroupState;
pub use context::RequestContext;
pub use coordinator::{GroupCoordinator, GroupCounts};
pub use loading::Replayed;
pub use modern::assignor::Assignor;
pub use modern::partitions::Partitions;
pub use modern::topics::{NoTopics, Topic, Topics};
pub use offset_fetch::{fetch_response, fetched_groups};
pub use outcome::{Completed, Effects, Errand, Outcome, Reply, Response, WaitToken, Write, WriteId, WriteProducer};
pub use persist::partition_for;
pub use share::{
    InitializeShareState, ShareGroupDeletion, ShareGroupSettings, ShareOffsetsAlteration, ShareOffsetsDeletion,
    ShareSettings,
};
pub use state::GroupState;
pub use streams::{InternalTopic, StreamsHeartbeat, StreamsSettings, StreamsStatus};
