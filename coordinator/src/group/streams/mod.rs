//! Groups of Kafka Streams applications (KIP-1071): the coordinator knows the application's topology, makes its internal topics
//! and gives its tasks to members.
//!
//! Judge their behaviour by Apache Kafka's `StreamsGroup`, `CurrentAssignmentBuilder`, `InternalTopicManager` and
//! `StickyTaskAssignor`. Everything that is stored is changed by a [`records::Change`], while serving and while loading; what it
//! changed back is the change that it gives.
//!
//! As in Kafka 4.3 there are no static members, no warm-up tasks, no task offsets and no regular expressions for source topics,
//! and a topology cannot be changed while the group has members.

mod assignor;
mod changed;
mod configured;
mod describe;
mod endpoints;
pub(crate) mod group;
mod heartbeat;
mod member;
mod offsets;
mod reconcile;
pub(crate) mod records;
mod requests;
mod sessions;
mod status;
mod tasks;
mod topology;
mod validate;

use std::collections::BTreeMap;

use corelane_protocol::{ErrorCode, Str};

pub use configured::InternalTopic;
pub use heartbeat::StreamsSettings;
pub use requests::StreamsHeartbeat;
pub use status::Status as StreamsStatus;

use super::refusal::Refusal;

/// What Kafka has no answer to either; it gives no reason.
fn unknown() -> Refusal {
    Refusal::new(ErrorCode::UnknownServerError, "")
}

/// What is named twice is refused as a whole, as in Kafka.
fn by_key<V>(pairs: impl Iterator<Item = (Str, V)>) -> Result<BTreeMap<Str, V>, Refusal> {
    let mut map = BTreeMap::new();
    for (key, value) in pairs {
        if map.insert(key, value).is_some() {
            return Err(unknown());
        }
    }
    Ok(map)
}
