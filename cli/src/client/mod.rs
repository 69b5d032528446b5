//! A small blocking Kafka client: what the command line needs, and no more.
//!
//! One [`Connection`] speaks with one broker; a [`Cluster`] finds brokers and leaders and retries what Kafka calls retriable.
//! [`Producer`], [`fetch`] and [`group`] stand on it. Threads block; nothing here is for a shard.

mod admin;
mod connection;
mod error;
pub mod fetch;
pub mod group;
pub mod groups;
mod partitioner;
mod producer;
mod routing;

pub use admin::{TopicDescription, coordinator_key_type};
pub use connection::{Connection, Timeouts, frame, parse, read_frame, write_all};
pub use error::ClientError;
pub use partitioner::{murmur2, partition_of};
pub use producer::{Acks, Appended, Outgoing, Producer, ProducerOptions, init_producer};
pub use routing::{Cluster, Partition, Topic};
