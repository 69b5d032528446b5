//! FindCoordinator: the broker of a group's or transaction's coordinator. Makes their topics when they are first needed.

use std::collections::BTreeMap;
use std::rc::Rc;

use corelane_protocol::messages::{
    FindCoordinatorRequest, FindCoordinatorResponse, FindCoordinatorResponseCoordinator,
};
use corelane_protocol::{ErrorCode, Str};

use crate::controller::image::{OFFSETS_TOPIC, TRANSACTION_TOPIC, TopicImage, owner};
use crate::controller::requests::{CreateTopics, NewTopic, ask};
use crate::coordinator::{group_partition, txn_partition};
use crate::kafka::request::RequestContext;
use crate::node::BrokerAddress;
use crate::shard::Shard;

/// First version that asks for several.
const BATCHED_FROM: i16 = 4;
const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;

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

/// Groups and transactions have coordinators here; share groups are not served.
async fn find(shard: &Rc<Shard>, key_type: i8, key: &Str) -> Result<BrokerAddress, ErrorCode> {
    let (name, partition_of): (_, fn(&TopicImage, &str) -> u32) = match key_type {
        GROUP => (OFFSETS_TOPIC, group_partition),
        TRANSACTION => (TRANSACTION_TOPIC, txn_partition),
        _ => return Err(ErrorCode::InvalidRequest),
    };
    if shard.image().topic_named(name).is_none() {
        create_internal_topic(shard, name).await?;
    }
    let image = shard.image();
    let topic = image.topic_named(name).ok_or(ErrorCode::CoordinatorNotAvailable)?;
    let to = owner(topic.key(partition_of(topic, key)), shard.shards);
    shard.node.broker(shard.node.broker_id(to)).ok_or(ErrorCode::CoordinatorNotAvailable)
}

/// The topics that the broker makes by itself when they are first needed.
pub(super) fn is_made_by_broker(topic: &str) -> bool {
    matches!(topic, OFFSETS_TOPIC | TRANSACTION_TOPIC)
}

pub(super) async fn create_internal_topic(shard: &Rc<Shard>, name: &str) -> Result<(), ErrorCode> {
    let broker = shard.config.broker();
    let (partitions, segment_bytes, compression) = match name {
        TRANSACTION_TOPIC => {
            (broker.transactions.topic_partitions, broker.transactions.topic_segment_bytes, "uncompressed")
        }
        _ => (broker.offsets.topic_partitions, broker.offsets.topic_segment_bytes, "producer"),
    };
    let configs = [
        ("cleanup.policy", "compact".to_owned()),
        ("compression.type", compression.to_owned()),
        ("segment.bytes", segment_bytes.to_string()),
    ];
    let topic = NewTopic {
        partitions,
        configs: configs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect::<BTreeMap<_, _>>(),
        internal: true,
        ..NewTopic::with_defaults(name)
    };
    let created = ask(shard, CreateTopics { topics: vec![topic], validate_only: false }).await;
    match created.into_iter().next() {
        Some(Ok(_)) => Ok(()),
        // Another request was faster.
        Some(Err(refused)) if refused.code == ErrorCode::TopicAlreadyExists => Ok(()),
        Some(Err(refused)) => {
            tracing::error!(topic = name, message = refused.message, "a coordinator's topic could not be created");
            Err(ErrorCode::CoordinatorNotAvailable)
        }
        None => Err(ErrorCode::CoordinatorNotAvailable),
    }
}
