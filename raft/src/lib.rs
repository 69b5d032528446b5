//! Replicates opaque record batches: one Raft group per partition, openraft over `core_pinning` and the storage engine.
//!
//! ```text
//! Groups   all groups of a shard
//!   Group    a partition's group: propose, leadership, high watermark
//!     Slot     Cold -> Building -> Hot -> Dropping -> Cold: an openraft instance exists only while it is needed
//!       Replica    log, term, applied, membership: what survives without an instance
//!       Instance   openraft, over LogStore + StateMachine (both on the Replica) and the shard's runtime
//! ```
//!
//! **A group without peers** needs no instance: its proposals go straight into the log (`slot/alone.rs`, which says why), and
//! an instance is built only where [`Group::wake`] asks for one. Terms, order and errors are the same both ways.
//!
//! A batch travels without a copy: `propose` passes the `Bytes` to openraft, which orders them and hands them to the log.
//! Records never pass through openraft's state machine; applying moves the high watermark.
//!
//! **Terms.** A term is a Kafka leader epoch. A group whose process stopped cleanly, or whose instance was dropped for
//! quiet, leads on in its term. After an unclean stop it leads in the next one: the first need writes that vote to disk,
//! but [`Group::leadership`] names the new term from the start.
//!
//! **Failure.** A storage error or a panic fences the group: everything in flight fails, nothing is proposed again
//! until the process starts anew. Other groups of the shard go on.
//!
//! Nothing outside this crate names an openraft type. Deliberately absent so far: peers. A group whose membership is
//! anything but this node is refused when it is opened.

mod group;
mod groups;
mod leaders;
mod log_store;
mod membership;
mod network;
mod proposal;
mod purge;
mod registry;
mod replica;
mod runtime;
mod slot;
mod state_machine;
mod type_config;

pub use group::{Group, Leadership};
pub use groups::{Groups, GroupsOptions, prepare};
pub use membership::{Membership, MembershipError};
pub use proposal::{Progress, Proposal, ProposeError, Reached};
pub use registry::GroupsStats;
pub use replica::{OpenError, first_state};

/// Proposals of one group that may be on their way at a time; one more is refused with [`ProposeError::Busy`].
///
/// It is below the capacity of openraft's queue, so handing a proposal over never waits.
pub const PROPOSALS_MAX: usize = 1024;

#[cfg(test)]
mod tests;
