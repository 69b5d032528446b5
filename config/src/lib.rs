//! Configuration of a Corelane broker and of its topics.
//!
//! Kafka's own property names, types, defaults and bounds stand in [`table`], generated from Apache Kafka 4.3.1, together with
//! what this broker does with each: a property is either honoured, or fixed at its default and every other value is refused
//! with the reason. Nothing is accepted and then ignored.
//!
//! * [`BrokerConfig::load`]: flags over environment over file over defaults, typed.
//! * [`BrokerProperties`]: the same as Kafka sees it, with the dynamic layers that AlterConfigs changes.
//! * [`TopicConfig::resolve`]: topic overrides over broker properties over defaults, typed.
//! * [`GroupProperties::resolve`]: the same of one group; [`MetricsSubscription::resolve`]: of a subscription to client metrics.
//! * [`describe`] and [`alter`]: what the handlers of DescribeConfigs, AlterConfigs and CreateTopics need.

#![deny(clippy::unwrap_used, clippy::indexing_slicing)]

pub mod alter;
mod broker;
mod client_metrics;
pub mod describe;
mod duration;
mod error;
mod file;
mod fit;
mod group;
pub mod http;
pub mod jaas;
mod layers;
mod listener_change;
mod listeners;
mod load;
mod nearest;
mod oauth;
mod of_listener;
mod per_ip;
mod sasl;
pub mod scram_users;
pub mod stores;
pub mod table;
mod tables;
mod tls;
mod topic;
pub mod units;
mod value;

pub use alter::{Alteration, Operation};
pub use broker::{
    Advertise, BrokerConfig, CleanerSettings, GroupSettings, LogFormat, OffsetsSettings, SHARDS_PER_NODE,
    SpaceSettings, TokenSettings,
};
pub use client_metrics::MetricsSubscription;
pub use describe::{ConfigEntry, ConfigSource, ConfigType, Synonym};
pub use error::{ConfigError, LoadError};
pub use group::{
    AutoOffsetReset, ConsumerGroupProperties, GroupProperties, ShareGroupProperties, StreamsGroupProperties,
};
pub use layers::{BrokerProperties, Overrides};
pub use listeners::{Listener, SecurityProtocol};
pub use load::{LoadOptions, environment_names};
pub use nearest::nearest;
pub use oauth::{JwksSettings, Location, OAuthSettings};
pub use of_listener::of_one_listener;
pub use sasl::{SASL_MECHANISMS, SaslMechanism, SaslSettings};
pub use stores::{Identity, Store};
pub use table::{Check, Importance, Kind, Scope, Setting, Status, Update};
pub use tls::{ClientAuth, Password, TlsSettings};
pub use topic::{CleanupPolicy, Compression, TimestampType, TopicConfig};
pub use value::Value;
