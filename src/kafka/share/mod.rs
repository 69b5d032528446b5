//! Share groups' data (KIP-932): what their members fetch and acknowledge.
//!
//! A session lives on the shard of its connection, what is in flight in a partition with the partition ([`SharePartitions`]).

pub mod acknowledge;
pub mod fetch;
pub mod partitions;
mod served;
pub mod sessions;
pub mod wait;

pub use partitions::SharePartitions;
pub use sessions::ShareSessions;
