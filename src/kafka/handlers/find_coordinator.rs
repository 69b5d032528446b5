//! FindCoordinator: the broker of a group's coordinator. Makes `__consumer_offsets` when it is first needed.

use std::collections::BTreeMap;
use std::rc::Rc;

use corelane_protocol::messages::{
    FindCoordinatorRequest, FindCoordinatorResponse, FindCoordinatorResponseCoordinator,
};
use corelane_protocol::{ErrorCode, Str};

use crate::controller::image::{OFFSETS_TOPIC, owner};
use crate::controller::requests::{CreateTopics, NewTopic, ask};
use crate::coordinator::group_partition;
use crate::kafka::request::RequestContext;
use crate::node::BrokerAddress;
use crate::shard::Shard;

/// First version that asks for several.
const BATCHED_FROM: i16 = 4;
const GROUP: i8 = 0;

pub async fn handle(context: RequestContext, request: FindCoordinatorRequest) -> FindCoordinatorResponse {
    let batched = context.version >= BATCHED_FROM;
    let keys = if batched { request.coordinator_keys } else { vec![request.key] };
    let mut coordinators = Vec::with_capacity(keys.len());
    for key in keys {
        coordinators.push(match find(&context.shard, request.key_type, &key).await {
            Ok(broker) => FindCoordinatorResponseCoordinator {
                key,
                node_id: broker.id,
                host: broker.host.into(),
                port: i32::from(broker.port),
                ..Default::default()
            },
            Err(error) => FindCoordinatorResponseCoordinator {
                key,
                node_id: -1,
                port: -1,
                error_code: error.code(),
                error_message: Some(error.message().into()),
                ..Default::default()
            },
        });
    }
    if batched {
        return FindCoordinatorResponse { coordinators, ..Default::default() };
    }
    let one = coordinators.into_iter().next().unwrap_or_default();
    FindCoordinatorResponse {
        error_code: one.error_code,
        error_message: one.error_message,
        node_id: one.node_id,
        host: one.host,
        port: one.port,
        ..Default::default()
    }
}

/// Only groups have coordinators here: transactions and share groups are not served.
async fn find(shard: &Rc<Shard>, key_type: i8, key: &Str) -> Result<BrokerAddress, ErrorCode> {
    if key_type != GROUP {
        return Err(ErrorCode::InvalidRequest);
    }
    if shard.image().topic_named(OFFSETS_TOPIC).is_none() {
        create_offsets_topic(shard).await?;
    }
    let image = shard.image();
    let topic = image.topic_named(OFFSETS_TOPIC).ok_or(ErrorCode::CoordinatorNotAvailable)?;
    let to = owner(topic.key(group_partition(topic, key)), shard.shards);
    shard.node.broker(shard.node.broker_id(to)).ok_or(ErrorCode::CoordinatorNotAvailable)
}

pub(super) async fn create_offsets_topic(shard: &Rc<Shard>) -> Result<(), ErrorCode> {
    let offsets = &shard.config.broker().offsets;
    let configs = [
        ("cleanup.policy", "compact".to_owned()),
        ("compression.type", "producer".to_owned()),
        ("segment.bytes", offsets.topic_segment_bytes.to_string()),
    ];
    let topic = NewTopic {
        partitions: offsets.topic_partitions,
        configs: configs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect::<BTreeMap<_, _>>(),
        internal: true,
        ..NewTopic::with_defaults(OFFSETS_TOPIC)
    };
    let created = ask(shard, CreateTopics { topics: vec![topic], validate_only: false }).await;
    match created.into_iter().next() {
        Some(Ok(_)) => Ok(()),
        // Another request was faster.
        Some(Err(refused)) if refused.code == ErrorCode::TopicAlreadyExists => Ok(()),
        Some(Err(refused)) => {
            tracing::error!(message = refused.message, "the topic of committed offsets could not be created");
            Err(ErrorCode::CoordinatorNotAvailable)
        }
        None => Err(ErrorCode::CoordinatorNotAvailable),
    }
}
