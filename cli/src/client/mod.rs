//! A small blocking Kafka client: what the command line needs, and no more.
//!
//! One [`Connection`] speaks with one broker; a [`Cluster`] finds brokers and leaders and retries what Kafka calls retriable.
//! [`Producer`], [`fetch`] and [`group`] stand on it. Threads block; nothing here is for a shard.

pub mod acls;
mod admin;
mod assertion;
mod connection;
mod error;
pub mod fetch;
pub mod group;
pub mod groups;
mod login;
mod partitioner;
mod producer;
pub mod properties;
mod routing;
pub mod security;
pub mod tokens;
pub mod users;
mod wire;

pub use admin::{TopicDescription, coordinator_key_type};
pub use connection::{Connection, Dial, Timeouts, frame, parse, read_frame};
pub use error::ClientError;
pub use partitioner::{murmur2, partition_of};
pub use producer::{Acks, Appended, Outgoing, Producer, ProducerOptions, init_producer};
pub use routing::{Cluster, Partition, Topic};
pub use security::Security;
pub use wire::Wire;
