//! FindCoordinator: the broker of the coordinator of a group, of a transaction, or of a share group's states. Makes their topics when they are first needed.

use corelane_acl::{CLUSTER_NAME, Operation, ResourceType};
use corelane_coordinator::share::SharePartitionKey;
use corelane_protocol::messages::{
    FindCoordinatorRequest, FindCoordinatorResponse, FindCoordinatorResponseCoordinator,
};
use corelane_protocol::{ErrorCode, Str};

use crate::controller::image::{OFFSETS_TOPIC, SHARE_STATE_TOPIC, TRANSACTION_TOPIC, TopicImage, owner};
use crate::coordinator::{create_internal_topic, group_partition, share_state_partition, txn_partition};
use crate::kafka::request::RequestContext;
use crate::node::BrokerAddress;

/// First version that asks for several.
const BATCHED_FROM: i16 = 4;
const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;
/// A partition of a share group, from [`SHARE_FROM`] on.
const SHARE: i8 = 2;
const SHARE_FROM: i16 = 6;

pub async fn handle(context: RequestContext, request: FindCoordinatorRequest) -> FindCoordinatorResponse {
    let batched = context.version >= BATCHED_FROM;
    let keys = if batched { request.coordinator_keys } else { vec![request.key] };
    let mut coordinators = Vec::with_capacity(keys.len());
    for key in keys {
        let found = match refusal(&context, request.key_type, &key) {
            Some(error) => Err(error),
            None => find(&context, request.key_type, &key).await,
        };
        coordinators.push(match found {
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

/// Groups and transactions must be describable; states of share groups are for brokers.
fn refusal(context: &RequestContext, key_type: i8, key: &str) -> Option<ErrorCode> {
    let (operation, of, name, error) = match key_type {
        GROUP => (Operation::Describe, ResourceType::Group, key, ErrorCode::GroupAuthorizationFailed),
        TRANSACTION => {
            (Operation::Describe, ResourceType::TransactionalId, key, ErrorCode::TransactionalIdAuthorizationFailed)
        }
        SHARE if context.version >= SHARE_FROM => {
            (Operation::ClusterAction, ResourceType::Cluster, CLUSTER_NAME, ErrorCode::ClusterAuthorizationFailed)
        }
        _ => return None,
    };
    (!context.may(operation, of, name)).then_some(error)
}

async fn find(context: &RequestContext, key_type: i8, key: &Str) -> Result<BrokerAddress, ErrorCode> {
    let shard = &context.shard;
    let partition_of = |topic: &TopicImage| match key_type {
        GROUP => Ok(group_partition(topic, key)),
        TRANSACTION => Ok(txn_partition(topic, key)),
        _ => share_key(key).map(|key| share_state_partition(topic, &key)),
    };
    let name = match key_type {
        GROUP => OFFSETS_TOPIC,
        TRANSACTION => TRANSACTION_TOPIC,
        SHARE if context.version >= SHARE_FROM => {
            share_key(key)?;
            SHARE_STATE_TOPIC
        }
        _ => return Err(ErrorCode::InvalidRequest),
    };
    if shard.image().topic_named(name).is_none() {
        create_internal_topic(shard, name).await?;
    }
    let image = shard.image();
    let topic = image.topic_named(name).ok_or(ErrorCode::CoordinatorNotAvailable)?;
    let to = owner(topic.key(partition_of(topic)?), shard.shards);
    shard.node.broker(&context.client.listener, shard.node.broker_id(to)).ok_or(ErrorCode::CoordinatorNotAvailable)
}

fn share_key(key: &str) -> Result<SharePartitionKey, ErrorCode> {
    key.parse().map_err(|_| ErrorCode::InvalidRequest)
}
