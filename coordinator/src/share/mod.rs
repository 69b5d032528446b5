//! What share groups (KIP-932) have to remember, and what is in flight in one of their partitions.
//!
//! [`ShareCoordinator`] is one partition of `__share_group_state` at work: it keeps, for every partition that a share group reads,
//! where the group stands and which records behind that are done or were tried. An [`Operation`] gives a [`Reply`], now or later,
//! and [`Effects`]. Judge its behaviour by Apache Kafka's `ShareCoordinatorShard`.
//!
//! # Records
//!
//! A snapshot holds the whole state of one partition of one group, an update what changed since. After so many updates comes
//! another snapshot; what lies before the oldest snapshot that is still needed is pruned, since the topic is not compacted.
//!
//! # When a state counts
//!
//! As in Kafka's `CoordinatorRuntime`, a state is changed when the records that say so are made, and answers are held back until
//! those and all before them are durable. A write that fails takes back its own changes and those of all later writes.

mod batches;
mod config;
mod coordinator;
pub mod in_flight;
mod key;
mod loading;
mod operations;
mod outcome;
mod persist;
mod state;
mod upkeep;
mod writes;

pub use batches::StateBatch;
pub use config::ShareConfig;
pub use coordinator::ShareCoordinator;
pub use key::{ParseKeyError, SharePartitionKey};
pub use operations::Operation;
pub use outcome::{Answer, Completed, Effects, Known, Outcome, Prune, Refusal, Reply, Summary};
