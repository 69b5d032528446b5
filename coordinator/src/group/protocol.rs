//! Which protocol a generation speaks, and what its members subscribe to.

use std::collections::{BTreeMap, BTreeSet};

use corelane_protocol::messages::JoinGroupRequest;
use corelane_protocol::records::data::ConsumerProtocolSubscription;
use corelane_protocol::{DecodeError, Decoder, Message, Str};

use super::classic::ClassicGroup;
use super::member::Protocol;
use super::state::GroupState;

/// Protocol type of consumers: their metadata is a subscription that the coordinator can read.
pub(crate) const CONSUMER_PROTOCOL_TYPE: &str = "consumer";

impl ClassicGroup {
    pub(super) fn count_protocols(&mut self, protocols: &[Protocol]) {
        for protocol in protocols {
            *self.supported_protocols.entry(protocol.name.clone()).or_insert(0) += 1;
        }
    }

    pub(super) fn discount_protocols(&mut self, protocols: &[Protocol]) {
        for protocol in protocols {
            if let Some(count) = self.supported_protocols.get_mut(&protocol.name) {
                *count -= 1;
                if *count == 0 {
                    self.supported_protocols.remove(&protocol.name);
                }
            }
        }
    }

    /// Without members (all left while others are about to join) every protocol is common.
    fn is_common(&self, protocol: &str) -> bool {
        self.supported_protocols.get(protocol).copied().unwrap_or(0) == self.members.len()
    }

    /// Whether the request's protocols go with those of the members. An empty group takes any.
    pub(super) fn supports(&self, request: &JoinGroupRequest) -> bool {
        if self.is_in(GroupState::Empty) {
            return !request.protocol_type.is_empty() && !request.protocols.is_empty();
        }
        self.protocol_type.as_ref() == Some(&request.protocol_type)
            && request.protocols.iter().any(|protocol| self.is_common(&protocol.name))
    }

    /// Each member votes for the first of its protocols that all members have; most votes win. Kafka leaves a tie open, here
    /// the first by name wins.
    pub(super) fn select_protocol(&self) -> Option<Str> {
        let mut votes: BTreeMap<&Str, usize> = BTreeMap::new();
        for member in self.members.values() {
            if let Some(choice) = member.protocols.iter().find(|protocol| self.is_common(&protocol.name)) {
                *votes.entry(&choice.name).or_insert(0) += 1;
            }
        }
        let most = votes.values().copied().max()?;
        votes.into_iter().find(|(_, count)| *count == most).map(|(name, _)| name.clone())
    }

    pub(super) fn uses_consumer_protocol(&self) -> bool {
        self.protocol_type.as_ref().is_some_and(|name| name == CONSUMER_PROTOCOL_TYPE)
    }

    /// Whether a member reads `topic`, as far as that can be told. Offsets of such topics are neither expired nor deleted.
    pub(crate) fn is_subscribed_to(&self, topic: &str) -> bool {
        match &self.subscribed_topics {
            Some(topics) => topics.contains(topic),
            None => self.uses_consumer_protocol(),
        }
    }

    pub(super) fn find_subscribed_topics(&mut self) {
        self.subscribed_topics = if !self.uses_consumer_protocol() {
            None
        } else if self.members.is_empty() {
            Some(BTreeSet::new())
        } else if let Some(name) = &self.protocol_name {
            let mut topics = BTreeSet::new();
            let read = self.members.values().try_for_each(|member| {
                for topic in read_subscription(member.metadata(Some(name.as_str())))? {
                    if !topics.contains(&topic) {
                        topics.insert(topic.detach());
                    }
                }
                Ok::<(), DecodeError>(())
            });
            read.is_ok().then_some(topics)
        } else {
            None
        };
    }
}

/// Topics of a consumer's subscription. Every version begins like version 0, which is all that is read.
fn read_subscription(metadata: bytes::Bytes) -> Result<Vec<Str>, DecodeError> {
    let mut decoder = Decoder::new(metadata);
    decoder.i16()?;
    Ok(ConsumerProtocolSubscription::decode(&mut decoder, 0)?.topics)
}
