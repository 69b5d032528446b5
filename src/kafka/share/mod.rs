//! Share groups' data (KIP-932): what their members fetch and acknowledge.
//!
//! A session lives on the shard of its connection, and is found from all others ([`homes`]); what is in flight in a partition with the partition ([`SharePartitions`]).

pub mod acknowledge;
pub mod fetch;
pub mod homes;
pub mod partitions;
mod served;
pub mod sessions;
pub mod wait;

pub use homes::ShareSessionHomes;
pub use partitions::SharePartitions;
pub use sessions::ShareSessions;
