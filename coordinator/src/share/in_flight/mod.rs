//! What a share group has under way in one partition: which records are free, lent to a member, or done with.
//!
//! A [`SharePartition`] lives with the partition's leader, is made from what the share coordinator knows, and tells it of every
//! change that must not be lost ([`ToStore`]). Judge its behaviour by Apache Kafka's `SharePartition`.
//!
//! # Offsets
//!
//! start <= end + 1. What lies before the start is done with for good; what lies behind the end was never lent. In between are
//! batches, of one fetch each, and in them runs of offsets that are in the same [`slot`].
//!
//! # When a state counts
//!
//! An acknowledgement changes a state at once and is answered when it is stored; until then the records can be neither lent nor
//! acknowledged again, and the start does not move over them. What cannot be stored is lent as before, or free if its time ran out
//! meanwhile. A lock that ends frees its records at once, stored or not: after a restart they would be free anyway.

mod acknowledge;
mod acquire;
mod batch;
mod offsets;
mod slot;
mod state;

pub use acknowledge::{AcknowledgeType, Acknowledgement};
pub use acquire::{AcquireMode, Acquired, AcquiredRange, Fetched, Wanted};
pub use slot::RecordState;
pub use state::{InFlightLimits, SharePartition, StoreId, ToStore};
