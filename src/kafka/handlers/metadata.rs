//! Metadata: brokers, topics, leaders. Creates topics that a client names, where it and the broker allow that.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use corelane_acl::{CLUSTER_NAME, Operation, ResourceType};
use corelane_protocol::messages::metadata_request::MetadataRequestTopic;
use corelane_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use corelane_protocol::messages::{MetadataRequest, MetadataResponse};
use corelane_protocol::{ErrorCode, Str, Uuid};
use corelane_storage::model::TopicId;

use crate::controller::image::{ClusterImage, TopicImage, is_essential};
use crate::controller::names::check_name;
use crate::controller::requests::{CreateTopics, NewTopic, create_each};
use crate::coordinator::create_internal_topic;
use crate::kafka::access::cluster_operations;
use crate::kafka::leaders::Leaders;
use crate::kafka::operations;
use crate::kafka::request::RequestContext;
use crate::shard::Shard;

/// A topic that was asked for: as it is, or why not.
enum Found {
    Topic(Arc<TopicImage>),
    Missing {
        name: Option<Str>,
        id: Uuid,
        error: ErrorCode,
    },
    /// It would have been made for the client, if the client might make it.
    NotMade(Str),
}

/// First version that asks for topics by id; the field, and the name that may be null, are there before.
const IDS_FROM: i16 = 12;

/// First version whose clients know of a leader that their listener does not reach.
const LISTENER_ERROR_FROM: i16 = 6;

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
        None => {
            let image = shard.image();
            let shown =
                |topic: &&Arc<TopicImage>| context.may_see(Operation::Describe, ResourceType::Topic, &topic.name);
            image.topics().filter(shown).cloned().map(Found::Topic).collect()
        }
        Some(topics) => {
            let may_create = context.version < 4 || request.allow_auto_topic_creation;
            find(&context, topics, may_create && shard.config.broker().auto_create_topics).await
        }
    };
    let ids = found.iter().filter_map(|f| if let Found::Topic(topic) = f { Some(topic.id) } else { None });
    let leaders =
        Leaders::of(shard, ids).await.seen_by(&context.client.listener, context.version >= LISTENER_ERROR_FROM);
    let operations = |name: &str| match request.include_topic_authorized_operations {
        true => context.operations(ResourceType::Topic, name),
        false => operations::UNKNOWN,
    };
    let mut of_cluster = match request.include_cluster_authorized_operations {
        true => operations::CLUSTER,
        false => operations::UNKNOWN,
    };
    if let Some(access) = context.access() {
        cluster_operations(&access, &mut of_cluster);
    }
    MetadataResponse {
        brokers: shard
            .node
            .brokers(&context.client.listener)
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
        topics: found.into_iter().map(|f| describe(shard, &leaders, f, &operations)).collect(),
        cluster_authorized_operations: of_cluster,
        ..Default::default()
    }
}

async fn find(context: &RequestContext, topics: Vec<MetadataRequestTopic>, create: bool) -> Vec<Found> {
    let shard = &context.shard;
    let image = shard.image();
    let mut topics = each_once(topics);
    let mut hidden = take_hidden(context, &image, &mut topics);
    if create {
        hidden.extend(take_not_made(context, &image, &mut topics));
    }
    let missing: Vec<Str> = topics
        .iter()
        .filter(|t| t.topic_id == Uuid::ZERO)
        .filter_map(|t| t.name.clone())
        .filter(|name| image.topic_named(name).is_none() && check_name(name).is_ok())
        .collect();
    for name in missing.iter().filter(|name| create && is_essential(name)) {
        // What goes wrong is in the log; the client hears that the topic is not there.
        let _ = create_internal_topic(shard, name).await;
    }
    let missing: Vec<Str> = missing.into_iter().filter(|name| !shard.config.is_internal(name)).collect();
    let mut refused = BTreeMap::new();
    if create && !missing.is_empty() {
        let topics = missing.iter().map(|name| NewTopic::with_defaults(name)).collect();
        let call = CreateTopics { topics, validate_only: false, mutator: context.mutator_by_the_way() };
        for (name, result) in missing.into_iter().zip(create_each(shard, call).await) {
            if let Err(why) = result.map_err(|r| r.code) {
                refused.insert(name, why);
            }
        }
    }
    let image = shard.image();
    topics.into_iter().map(|topic| look_up(&image, topic, &refused)).chain(hidden).collect()
}

/// Takes out the topics that the client may not see: whether they are there it does not hear.
fn take_hidden(context: &RequestContext, image: &ClusterImage, topics: &mut Vec<MetadataRequestTopic>) -> Vec<Found> {
    let error = ErrorCode::TopicAuthorizationFailed;
    let mut hidden = Vec::new();
    topics.retain(|asked| {
        let (name, id) = (asked.name.as_ref(), asked.topic_id);
        let (known, answer) = match id {
            Uuid::ZERO => (name.cloned(), Found::Missing { name: name.cloned(), id, error }),
            id => {
                let known = image.topic(TopicId(id.0)).map(|topic| topic.wire_name());
                (known, Found::Missing { name: None, id, error })
            }
        };
        let shown = known.is_none_or(|name| context.may_topic(Operation::Describe, &name));
        if !shown {
            hidden.push(answer);
        }
        shown
    });
    hidden
}

/// Takes out the topics that are not there, and that the client may not make.
fn take_not_made(context: &RequestContext, image: &ClusterImage, topics: &mut Vec<MetadataRequestTopic>) -> Vec<Found> {
    let not_there = |asked: &MetadataRequestTopic| {
        asked.topic_id == Uuid::ZERO && asked.name.as_ref().is_some_and(|name| image.topic_named(name).is_none())
    };
    if !topics.iter().any(not_there) || context.may_see(Operation::Create, ResourceType::Cluster, CLUSTER_NAME) {
        return Vec::new();
    }
    let may_make = |name: &Option<Str>| name.as_ref().is_none_or(|name| context.may_topic(Operation::Create, name));
    let refused = topics.extract_if(.., |asked| not_there(asked) && !may_make(&asked.name));
    refused.filter_map(|asked| asked.name).map(Found::NotMade).collect()
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
                // Somebody else was faster, and it went away again; or a quota is used up, of which Kafka's controller tells the
                // broker and not the client.
                Some(ErrorCode::TopicAlreadyExists | ErrorCode::ThrottlingQuotaExceeded) | None
                    if check_name(&name).is_ok() =>
                {
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

fn describe(
    shard: &Shard,
    leaders: &Leaders,
    found: Found,
    operations: &impl Fn(&str) -> i32,
) -> MetadataResponseTopic {
    let topic = match found {
        Found::Topic(topic) => topic,
        // Kafka tells what may be done to a name, whether there is such a topic or not; to an id it does not know, nothing.
        Found::Missing { name, id: Uuid::ZERO, error } if error != ErrorCode::TopicAuthorizationFailed => {
            let topic_authorized_operations = operations(name.as_deref().unwrap_or_default());
            return MetadataResponseTopic { topic_authorized_operations, ..refused(name, Uuid::ZERO, error) };
        }
        Found::Missing { name, id, error } => return refused(name, id, error),
        Found::NotMade(name) => {
            let is_internal = shard.config.is_internal(&name);
            let answer = refused(Some(name), Uuid::ZERO, ErrorCode::TopicAuthorizationFailed);
            return MetadataResponseTopic { is_internal, ..answer };
        }
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
        is_internal: shard.config.is_internal(&topic.name),
        partitions: (0..topic.partitions).map(partition).collect(),
        topic_authorized_operations: operations(&topic.name),
        ..Default::default()
    }
}
