//! Metadata: brokers, topics, leaders. Creates topics that a client names, where it and the broker allow that.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;

use corelane_protocol::messages::metadata_request::MetadataRequestTopic;
use corelane_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use corelane_protocol::messages::{MetadataRequest, MetadataResponse};
use corelane_protocol::{ErrorCode, Str, Uuid};
use corelane_storage::model::TopicId;

use crate::controller::image::{ClusterImage, TopicImage, is_internal};
use crate::controller::names::check_name;
use crate::controller::requests::{CreateTopics, NewTopic, ask};
use crate::coordinator::{create_internal_topic, is_made_by_broker};
use crate::kafka::leaders::Leaders;
use crate::kafka::operations;
use crate::kafka::request::RequestContext;
use crate::shard::Shard;

/// A topic that was asked for: as it is, or why not.
enum Found {
    Topic(Arc<TopicImage>),
    Missing { name: Option<Str>, id: Uuid, error: ErrorCode },
}

/// First version that asks for topics by id; the field, and the name that may be null, are there before.
const IDS_FROM: i16 = 12;

pub async fn handle(context: RequestContext, request: MetadataRequest) -> MetadataResponse {
    let shard = &context.shard;
    let wants_ids = |asked: &MetadataRequestTopic| asked.name.is_none() || asked.topic_id != Uuid::ZERO;
    if context.version < IDS_FROM && request.topics.iter().flatten().any(wants_ids) {
        let topics = request
            .topics
            .into_iter()
            .flatten()
            .map(|asked| refused(Some(asked.name.unwrap_or_default()), asked.topic_id, ErrorCode::InvalidRequest));
        return MetadataResponse { topics: topics.collect(), ..Default::default() };
    }
    let asked = request.topics.filter(|topics| context.version > 0 || !topics.is_empty());
    let found = match asked {
        None => shard.image().topics().cloned().map(Found::Topic).collect(),
        Some(topics) => {
            let may_create = context.version < 4 || request.allow_auto_topic_creation;
            find(shard, topics, may_create && shard.config.broker().auto_create_topics).await
        }
    };
    let ids = found.iter().filter_map(|f| if let Found::Topic(topic) = f { Some(topic.id) } else { None });
    let leaders = Leaders::of(shard, ids).await;
    let operations = if request.include_topic_authorized_operations { operations::TOPIC } else { operations::UNKNOWN };
    MetadataResponse {
        brokers: shard
            .node
            .brokers()
            .into_iter()
            .map(|broker| MetadataResponseBroker {
                node_id: broker.id,
                host: broker.host.into(),
                port: i32::from(broker.port),
                rack: broker.rack.map(Into::into),
                ..Default::default()
            })
            .collect(),
        cluster_id: Some(shard.node.cluster_id.clone().into()),
        controller_id: shard.node.controller_id(),
        topics: found.into_iter().map(|f| describe(shard, &leaders, f, operations)).collect(),
        cluster_authorized_operations: match request.include_cluster_authorized_operations {
            true => operations::CLUSTER,
            false => operations::UNKNOWN,
        },
        ..Default::default()
    }
}

async fn find(shard: &Rc<Shard>, topics: Vec<MetadataRequestTopic>, create: bool) -> Vec<Found> {
    let image = shard.image();
    let topics = each_once(topics);
    let missing: Vec<Str> = topics
        .iter()
        .filter(|t| t.topic_id == Uuid::ZERO)
        .filter_map(|t| t.name.clone())
        .filter(|name| image.topic_named(name).is_none() && check_name(name).is_ok())
        .collect();
    for name in missing.iter().filter(|name| create && is_made_by_broker(name)) {
        // What goes wrong is in the log; the client hears that the topic is not there.
        let _ = create_internal_topic(shard, name).await;
    }
    let missing: Vec<Str> = missing.into_iter().filter(|name| !is_internal(name)).collect();
    let mut refused = BTreeMap::new();
    if create && !missing.is_empty() {
        let topics = missing.iter().map(|name| NewTopic::with_defaults(name)).collect();
        let call = CreateTopics { topics, validate_only: false };
        for (name, result) in missing.into_iter().zip(ask(shard, call).await) {
            if let Err(why) = result.map_err(|r| r.code) {
                refused.insert(name, why);
            }
        }
    }
    let image = shard.image();
    topics.into_iter().map(|topic| look_up(&image, topic, &refused)).collect()
}

/// Where one topic is asked for by its id, names do not count.
fn each_once(mut topics: Vec<MetadataRequestTopic>) -> Vec<MetadataRequestTopic> {
    let by_id = topics.iter().any(|t| t.topic_id != Uuid::ZERO);
    let mut seen = BTreeSet::new();
    topics.retain(|t| {
        (by_id == (t.topic_id != Uuid::ZERO)) && seen.insert((t.topic_id, if by_id { None } else { t.name.clone() }))
    });
    topics
}

fn look_up(image: &ClusterImage, asked: MetadataRequestTopic, refused: &BTreeMap<Str, ErrorCode>) -> Found {
    let MetadataRequestTopic { topic_id, name, .. } = asked;
    if topic_id != Uuid::ZERO {
        return match image.topic(TopicId(topic_id.0)) {
            Some(topic) => Found::Topic(topic.clone()),
            None => Found::Missing { name: None, id: topic_id, error: ErrorCode::UnknownTopicId },
        };
    }
    let Some(name) = name else {
        return Found::Missing { name: None, id: topic_id, error: ErrorCode::InvalidTopicException };
    };
    match image.topic_named(&name) {
        Some(topic) => Found::Topic(topic.clone()),
        None => {
            let error = match refused.get(&name) {
                // Somebody else was faster, and it went away again.
                Some(ErrorCode::TopicAlreadyExists) | None if check_name(&name).is_ok() => {
                    ErrorCode::UnknownTopicOrPartition
                }
                Some(why) => *why,
                None => ErrorCode::InvalidTopicException,
            };
            Found::Missing { name: Some(name), id: Uuid::ZERO, error }
        }
    }
}

fn refused(name: Option<Str>, topic_id: Uuid, error: ErrorCode) -> MetadataResponseTopic {
    MetadataResponseTopic {
        error_code: error.code(),
        name,
        topic_id,
        topic_authorized_operations: operations::UNKNOWN,
        ..Default::default()
    }
}

fn describe(shard: &Shard, leaders: &Leaders, found: Found, operations: i32) -> MetadataResponseTopic {
    let topic = match found {
        Found::Topic(topic) => topic,
        Found::Missing { name, id, error } => return refused(name, id, error),
    };
    let partition = |index: u32| {
        let state = leaders.state(shard, &topic, index);
        MetadataResponsePartition {
            error_code: state.error.code(),
            partition_index: index as i32,
            leader_id: state.leader,
            leader_epoch: state.leader_epoch,
            replica_nodes: vec![state.broker],
            isr_nodes: vec![state.broker],
            offline_replicas: if state.leader < 0 { vec![state.broker] } else { Vec::new() },
            ..Default::default()
        }
    };
    MetadataResponseTopic {
        name: Some(topic.wire_name()),
        topic_id: topic.uuid(),
        is_internal: topic.is_internal(),
        partitions: (0..topic.partitions).map(partition).collect(),
        topic_authorized_operations: operations,
        ..Default::default()
    }
}
