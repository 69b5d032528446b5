//! CreateTopics. Answered when every partition of the new topics serves.

use std::collections::{BTreeMap, BTreeSet};

use corelane_config::Overrides;
use corelane_protocol::messages::create_topics_request::CreateTopicsRequestCreatableTopic;
use corelane_protocol::messages::create_topics_response::{
    CreateTopicsResponseCreatableTopicConfigs, CreateTopicsResponseCreatableTopicResult,
};
use corelane_protocol::messages::{CreateTopicsRequest, CreateTopicsResponse};
use corelane_protocol::{ErrorCode, Str};

use crate::controller::Refused;
use crate::controller::image::TopicImage;
use crate::controller::requests::{CreateTopics, NewTopic, ask};
use crate::kafka::request::RequestContext;

pub async fn handle(context: RequestContext, request: CreateTopicsRequest) -> CreateTopicsResponse {
    let shard = &context.shard;
    // Kafka's controller then does nothing; what is named twice does not get to it.
    let once = |topic: &CreateTopicsRequestCreatableTopic| {
        request.topics.iter().filter(|other| other.name == topic.name).count() == 1
    };
    if request.timeout_ms <= 0 && request.topics.iter().any(once) {
        let topics = request.topics.into_iter().map(|topic| refused(topic.name, super::out_of_time()));
        return CreateTopicsResponse { topics: topics.collect(), ..Default::default() };
    }
    let mut results: Vec<Result<TopicImage, Refused>> = Vec::new();
    let mut wanted = Vec::new();
    let names: Vec<_> = request.topics.iter().map(|t| t.name.clone()).collect();
    let mut topics = request.topics;
    // a topic that is named twice is refused once
    let mut seen = BTreeSet::new();
    topics.retain(|topic| seen.insert(topic.name.clone()));
    for (index, topic) in topics.iter().enumerate() {
        let twice = names.iter().filter(|name| **name == topic.name).count() > 1;
        let plan = match twice {
            true => Err(Refused::new(ErrorCode::InvalidRequest, "Duplicate topic name.")),
            false => new_topic(topic),
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
    let created = ask(shard, CreateTopics { topics: new, validate_only: request.validate_only }).await;
    for (place, result) in places.into_iter().zip(created) {
        if let Some(slot) = results.get_mut(place) {
            *slot = result;
        }
    }
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

fn new_topic(topic: &CreateTopicsRequestCreatableTopic) -> Result<NewTopic, Refused> {
    let mut assignments = BTreeMap::new();
    for assignment in &topic.assignments {
        if assignments.insert(assignment.partition_index, assignment.broker_ids.clone()).is_some() {
            let message =
                format!("Found multiple manual partition assignments for partition {}", assignment.partition_index);
            return Err(Refused::new(ErrorCode::InvalidReplicaAssignment, message));
        }
    }
    // of a property that is given twice the last value counts
    let mut configs = Overrides::new();
    for config in &topic.configs {
        let Some(value) = &config.value else {
            let message = format!("Null value not supported for topic configs: {}", config.name);
            return Err(Refused::new(ErrorCode::InvalidConfig, message));
        };
        configs.insert(config.name.to_string(), value.to_string());
    }
    Ok(NewTopic {
        name: topic.name.to_string(),
        partitions: topic.num_partitions,
        replication_factor: topic.replication_factor,
        assignments,
        configs,
        internal: false,
    })
}

fn configs(context: &RequestContext, image: &TopicImage) -> Vec<CreateTopicsResponseCreatableTopicConfigs> {
    let entries = context.shard.config.describe_topic(&image.configs);
    entries
        .unwrap_or_default()
        .into_iter()
        .map(|entry| CreateTopicsResponseCreatableTopicConfigs {
            name: entry.name.into(),
            // as it was written, where it was given
            value: image.configs.get(entry.name).cloned().or(entry.value).map(Into::into),
            read_only: entry.read_only,
            config_source: entry.set_by as i8,
            is_sensitive: entry.is_sensitive,
            ..Default::default()
        })
        .collect()
}
