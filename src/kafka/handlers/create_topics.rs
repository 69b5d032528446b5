//! CreateTopics. Answered when every partition of the new topics serves.

use std::collections::BTreeSet;

use corelane_protocol::messages::create_topics_request::CreateTopicsRequestCreatableTopic;
use corelane_protocol::messages::create_topics_response::{
    CreateTopicsResponseCreatableTopicConfigs, CreateTopicsResponseCreatableTopicResult,
};
use corelane_protocol::messages::{CreateTopicsRequest, CreateTopicsResponse};
use corelane_protocol::{ErrorCode, Str};

use crate::controller::Refused;
use crate::controller::image::{METADATA_TOPIC, TopicImage};
use crate::controller::requests::{CreateTopics, NewTopic, ask};
use crate::kafka::pace::{exceeded, mutator_waits};
use crate::kafka::request::RequestContext;
use crate::kafka::topics::named_twice;

/// First version that is refused where a quota is used up (KIP-599).
const STRICT_FROM: i16 = 6;

pub async fn handle(context: RequestContext, request: CreateTopicsRequest) -> CreateTopicsResponse {
    let shard = &context.shard;
    let names: Vec<Str> = request.topics.iter().map(|t| t.name.clone()).collect();
    let twice = named_twice(&names);
    if request.timeout_ms <= 0 && names.iter().any(|name| is_for_controller(name, &twice)) {
        return late(names);
    }
    let mut results: Vec<Result<TopicImage, Refused>> = Vec::new();
    let mut wanted = Vec::new();
    let mut topics = request.topics;
    // a topic that is named twice is refused once
    let mut seen = BTreeSet::new();
    topics.retain(|topic| seen.insert(topic.name.clone()));
    for (index, topic) in topics.iter().enumerate() {
        let refused = |message: &str| Err(Refused::new(ErrorCode::InvalidRequest, message));
        let plan = match &*topic.name {
            _ if twice.contains(&topic.name) => refused("Duplicate topic name."),
            METADATA_TOPIC => refused("Creation of internal topic __cluster_metadata is prohibited."),
            _ => Ok(new_topic(topic)),
        };
        match plan {
            Ok(new) => {
                wanted.push((index, new));
                results.push(Err(Refused::new(ErrorCode::UnknownServerError, "the controller gave no answer")));
            }
            Err(refused) => results.push(Err(refused)),
        }
    }
    let (places, new): (Vec<usize>, Vec<NewTopic>) = wanted.into_iter().unzip();
    let mutator = context.mutator(STRICT_FROM);
    let call = CreateTopics { topics: new, validate_only: request.validate_only, mutator };
    let created = match ask(shard, call).await {
        Ok(created) => created,
        // Kafka's controller then answers the request as it came, and not by its topics.
        Err(why) => {
            let topics = names.into_iter().map(|name| refused(name, why.clone()));
            return CreateTopicsResponse { topics: topics.collect(), ..Default::default() };
        }
    };
    for (place, result) in places.into_iter().zip(created) {
        if let Some(slot) = results.get_mut(place) {
            *slot = result;
        }
    }
    let throttle_time_ms =
        mutator_waits(shard, mutator, exceeded(results.iter().filter_map(|r| r.as_ref().err()))).await;
    let topics = topics.into_iter().zip(results).map(|(topic, result)| match result {
        Ok(image) => CreateTopicsResponseCreatableTopicResult {
            name: topic.name,
            error_message: None,
            topic_id: image.uuid(),
            num_partitions: image.partitions as i32,
            replication_factor: 1,
            configs: Some(configs(&context, &image)),
            ..Default::default()
        },
        Err(why) => refused(topic.name, why),
    });
    CreateTopicsResponse { topics: topics.collect(), throttle_time_ms, ..Default::default() }
}

/// Whether Kafka's controller is asked for the topic; the others are refused before.
pub fn is_for_controller(name: &Str, twice: &BTreeSet<Str>) -> bool {
    !twice.contains(name) && **name != *METADATA_TOPIC
}

/// The controller, where it is asked for anything, does nothing: the request is late as it came.
pub fn late(names: Vec<Str>) -> CreateTopicsResponse {
    let topics = names.into_iter().map(|name| refused(name, super::out_of_time()));
    CreateTopicsResponse { topics: topics.collect(), ..Default::default() }
}

fn refused(name: Str, why: Refused) -> CreateTopicsResponseCreatableTopicResult {
    CreateTopicsResponseCreatableTopicResult {
        name,
        error_code: why.code.code(),
        error_message: Some(why.message.into()),
        num_partitions: -1,
        replication_factor: -1,
        ..Default::default()
    }
}

fn new_topic(topic: &CreateTopicsRequestCreatableTopic) -> NewTopic {
    // of a property that is given twice the last value counts
    let given = topic.configs.iter().filter_map(|c| Some((c.name.to_string(), c.value.as_ref()?.to_string())));
    let nulls = topic.configs.iter().filter(|config| config.value.is_none());
    NewTopic {
        name: topic.name.to_string(),
        partitions: topic.num_partitions,
        replication_factor: topic.replication_factor,
        assignments: topic.assignments.iter().map(|a| (a.partition_index, a.broker_ids.clone())).collect(),
        configs: given.collect(),
        nulls: nulls.map(|config| config.name.to_string()).collect(),
        internal: false,
    }
}

fn configs(context: &RequestContext, image: &TopicImage) -> Vec<CreateTopicsResponseCreatableTopicConfigs> {
    let entries = context.shard.config.describe_topic(&image.configs);
    entries
        .unwrap_or_default()
        .into_iter()
        .map(|entry| CreateTopicsResponseCreatableTopicConfigs {
            // as it was written, where it was given
            value: image.configs.get(&*entry.name).cloned().or(entry.value).map(Into::into),
            name: entry.name.into_owned().into(),
            read_only: entry.read_only,
            config_source: entry.set_by as i8,
            is_sensitive: entry.is_sensitive,
            ..Default::default()
        })
        .collect()
}
