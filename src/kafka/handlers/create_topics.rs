//! CreateTopics. Answered when every partition of the new topics serves.

use std::collections::BTreeMap;

use corelane_protocol::ErrorCode;
use corelane_protocol::messages::create_topics_request::CreateTopicsRequestCreatableTopic;
use corelane_protocol::messages::create_topics_response::{
    CreateTopicsResponseCreatableTopicConfigs, CreateTopicsResponseCreatableTopicResult,
};
use corelane_protocol::messages::{CreateTopicsRequest, CreateTopicsResponse};

use crate::controller::Refused;
use crate::controller::image::TopicImage;
use crate::controller::requests::{CreateTopics, NewTopic, ask};
use crate::kafka::request::RequestContext;

pub async fn handle(context: RequestContext, request: CreateTopicsRequest) -> CreateTopicsResponse {
    let shard = &context.shard;
    let mut results: Vec<Result<TopicImage, Refused>> = Vec::new();
    let mut wanted = Vec::new();
    for (index, topic) in request.topics.iter().enumerate() {
        let twice = request.topics.iter().enumerate().any(|(i, other)| i != index && other.name == topic.name);
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
    let (places, topics): (Vec<usize>, Vec<NewTopic>) = wanted.into_iter().unzip();
    let created = ask(shard, CreateTopics { topics, validate_only: request.validate_only }).await;
    for (place, result) in places.into_iter().zip(created) {
        if let Some(slot) = results.get_mut(place) {
            *slot = result;
        }
    }
    let topics = request.topics.into_iter().zip(results).map(|(topic, result)| match result {
        Ok(image) => CreateTopicsResponseCreatableTopicResult {
            name: topic.name,
            topic_id: if request.validate_only { Default::default() } else { image.uuid() },
            num_partitions: image.partitions as i32,
            replication_factor: 1,
            configs: Some(configs(&context, &image)),
            ..Default::default()
        },
        Err(refused) => CreateTopicsResponseCreatableTopicResult {
            name: topic.name,
            error_code: refused.code.code(),
            error_message: Some(refused.message.into()),
            num_partitions: -1,
            replication_factor: -1,
            ..Default::default()
        },
    });
    CreateTopicsResponse { topics: topics.collect(), ..Default::default() }
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
    let pairs = topic.configs.iter().map(|c| (c.name.as_str(), c.value.as_ref().map(|v| v.as_str())));
    let configs = corelane_config::alter::collect(pairs).map_err(Refused::from)?;
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
            value: entry.value.map(Into::into),
            read_only: entry.read_only,
            config_source: entry.source as i8,
            is_sensitive: entry.is_sensitive,
            ..Default::default()
        })
        .collect()
}
