//! KIP-951: an answer that sends a client to another leader says which one, and where that is.

use std::rc::Rc;

use corelane_protocol::messages::fetch_response::{FetchResponseLeaderIdAndEpoch, FetchResponseNodeEndpoint};
use corelane_protocol::messages::produce_response::{ProduceResponseLeaderIdAndEpoch, ProduceResponseNodeEndpoint};
use corelane_protocol::messages::share_acknowledge_response::{
    ShareAcknowledgeResponseLeaderIdAndEpoch, ShareAcknowledgeResponseNodeEndpoint,
};
use corelane_protocol::messages::share_fetch_response::{
    ShareFetchResponseLeaderIdAndEpoch, ShareFetchResponseNodeEndpoint,
};
use corelane_protocol::messages::{FetchResponse, ProduceResponse, ShareAcknowledgeResponse, ShareFetchResponse};
use corelane_protocol::{ErrorCode, Uuid};
use corelane_storage::model::{PartitionKey, TopicId};

use super::leaders::Leaders;
use super::topics::find_topic;
use crate::kafka::request::Client;
use crate::node::{BrokerAddress, Listener};
use crate::shard::Shard;

const NOT_LEADER: i16 = ErrorCode::NotLeaderOrFollower.code();
const FENCED: i16 = ErrorCode::FencedLeaderEpoch.code();
/// First versions that have hints.
const PRODUCE_FROM: i16 = 10;
const FETCH_FROM: i16 = 16;
/// First version of Produce that names topics by their ids.
const PRODUCE_IDS_FROM: i16 = 13;

/// Who leads some partitions.
struct Hints {
    leaders: Vec<(PartitionKey, i32, i32)>,
    /// Those leaders, each once.
    brokers: Vec<BrokerAddress>,
}

impl Hints {
    async fn of(shard: &Rc<Shard>, listener: &Listener, partitions: &[PartitionKey]) -> Hints {
        let mut topics: Vec<TopicId> = partitions.iter().map(|key| key.topic).collect();
        topics.sort_unstable();
        topics.dedup();
        let epochs = Leaders::of(shard, topics.into_iter()).await;
        let image = shard.image();
        let mut hints = Hints { leaders: Vec::with_capacity(partitions.len()), brokers: Vec::new() };
        for key in partitions {
            // A topic that has gone meanwhile has no leader.
            let Some(topic) = image.topic(key.topic) else { continue };
            let state = epochs.state(shard, topic, key.partition);
            hints.leaders.push((*key, state.leader, state.leader_epoch));
            if !hints.brokers.iter().any(|broker| broker.id == state.leader) {
                hints.brokers.extend(shard.node.broker(listener, state.leader));
            }
        }
        hints
    }

    /// Leader and epoch.
    fn leader(&self, key: PartitionKey) -> Option<(i32, i32)> {
        self.leaders.iter().find(|(known, ..)| *known == key).map(|(_, leader, epoch)| (*leader, *epoch))
    }
}

fn key(shard: &Shard, by_id: bool, name: &str, id: Uuid, index: i32) -> Option<PartitionKey> {
    let image = shard.image();
    let topic = find_topic(&image, by_id, name, id).ok()?;
    topic.partition(index).map(|partition| topic.key(partition))
}

/// Adds the hints to an answer. `$errors`: the codes that Kafka adds them for in `KafkaApis`.
macro_rules! add {
    ($shard:ident, $client:ident, $response:ident, $errors:pat, $partitions:ident, |$topic:ident, $p:ident| $key:expr, $leader:ident, $endpoint:ident) => {{
        let mut wrong = Vec::new();
        for $topic in &$response.responses {
            let refused = $topic.$partitions.iter().filter(|p| matches!(p.error_code, $errors));
            wrong.extend(refused.filter_map(|$p| $key));
        }
        if wrong.is_empty() {
            return;
        }
        let hints = Hints::of($shard, &$client.listener, &wrong).await;
        for $topic in &mut $response.responses {
            // Taken out, so that the topic can be read beside them.
            let mut partitions = std::mem::take(&mut $topic.$partitions);
            for $p in partitions.iter_mut().filter(|p| matches!(p.error_code, $errors)) {
                if let Some((leader_id, leader_epoch)) = $key.and_then(|key| hints.leader(key)) {
                    $p.current_leader = $leader { leader_id, leader_epoch, ..Default::default() };
                }
            }
            $topic.$partitions = partitions;
        }
        let endpoints = hints.brokers.into_iter().map(|broker| $endpoint {
            node_id: broker.id,
            host: broker.host.into(),
            port: i32::from(broker.port),
            rack: broker.rack.map(Into::into),
            ..Default::default()
        });
        $response.node_endpoints = endpoints.collect();
    }};
}

pub async fn produce(shard: &Rc<Shard>, client: &Client, version: i16, response: &mut ProduceResponse) {
    if version < PRODUCE_FROM {
        return;
    }
    let by_id = version >= PRODUCE_IDS_FROM;
    add!(
        shard,
        client,
        response,
        NOT_LEADER,
        partition_responses,
        |topic, p| key(shard, by_id, &topic.name, topic.topic_id, p.index),
        ProduceResponseLeaderIdAndEpoch,
        ProduceResponseNodeEndpoint
    );
}

pub async fn fetch(shard: &Rc<Shard>, client: &Client, version: i16, response: &mut FetchResponse) {
    if version < FETCH_FROM {
        return;
    }
    add!(
        shard,
        client,
        response,
        NOT_LEADER | FENCED,
        partitions,
        |topic, p| key(shard, true, "", topic.topic_id, p.partition_index),
        FetchResponseLeaderIdAndEpoch,
        FetchResponseNodeEndpoint
    );
}

pub async fn share_fetch(shard: &Rc<Shard>, client: &Client, response: &mut ShareFetchResponse) {
    add!(
        shard,
        client,
        response,
        NOT_LEADER | FENCED,
        partitions,
        |topic, p| key(shard, true, "", topic.topic_id, p.partition_index),
        ShareFetchResponseLeaderIdAndEpoch,
        ShareFetchResponseNodeEndpoint
    );
}

pub async fn share_acknowledge(shard: &Rc<Shard>, client: &Client, response: &mut ShareAcknowledgeResponse) {
    add!(
        shard,
        client,
        response,
        NOT_LEADER | FENCED,
        partitions,
        |topic, p| key(shard, true, "", topic.topic_id, p.partition_index),
        ShareAcknowledgeResponseLeaderIdAndEpoch,
        ShareAcknowledgeResponseNodeEndpoint
    );
}
