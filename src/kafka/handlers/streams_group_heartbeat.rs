//! StreamsGroupHeartbeat (KIP-1071). Internal topics that the application lacks are made here, as Kafka's brokers do for their clients.

use corelane_acl::{CLUSTER_NAME, Operation, ResourceType};
use corelane_coordinator::group::{InternalTopic, StreamsHeartbeat, StreamsStatus, reject};
use corelane_protocol::messages::{
    StreamsGroupHeartbeatRequest, StreamsGroupHeartbeatRequestTopology, StreamsGroupHeartbeatResponse,
    StreamsGroupHeartbeatResponseStatus,
};
use corelane_protocol::{ErrorCode, Str};

use super::group_context::group_context;
use crate::controller::image::is_essential;
use crate::controller::names::check_name;
use crate::controller::requests::{CreateTopics, NewTopic, create_each};
use crate::coordinator::with_group;
use crate::kafka::request::RequestContext;

pub async fn handle(context: RequestContext, request: StreamsGroupHeartbeatRequest) -> StreamsGroupHeartbeatResponse {
    if let Some(message) = request.topology.as_ref().and_then(wrong_topics) {
        return StreamsGroupHeartbeatResponse {
            error_message: Some(message.into()),
            ..reject::streams_heartbeat(ErrorCode::StreamsInvalidTopology)
        };
    }
    let topics = request.topology.as_ref().map(topics_of).unwrap_or_default();
    if topics.iter().any(|name| !context.may_topic(Operation::Describe, name)) {
        return reject::streams_heartbeat(ErrorCode::TopicAuthorizationFailed);
    }
    let shard = &context.shard;
    let (group, client) = (request.group_id.clone(), group_context(&context));
    let settings = shard.config.streams_group(&shard.group_properties(&group));
    let beat =
        with_group(shard, &group, move |groups, now| groups.streams_group_heartbeat(now, &client, &request, settings));
    match beat.await {
        Ok(StreamsHeartbeat { mut response, missing }) => {
            if !missing.is_empty() {
                match not_made(&context, &missing) {
                    Some(refused) => put_not_made(&mut response, &refused),
                    None => create(&context, missing, &mut response).await,
                }
            }
            response
        }
        Err(error) => reject::streams_heartbeat(error),
    }
}

fn topics_of(topology: &StreamsGroupHeartbeatRequestTopology) -> Vec<&Str> {
    let mut names: Vec<&Str> = Vec::new();
    for s in &topology.subtopologies {
        let internal = s.repartition_source_topics.iter().chain(&s.state_changelog_topics).map(|topic| &topic.name);
        names.extend(s.source_topics.iter().chain(&s.repartition_sink_topics).chain(internal));
    }
    names
}

/// Topics that the client may not make; then none is made.
fn not_made(context: &RequestContext, missing: &[InternalTopic]) -> Option<String> {
    if context.may_see(Operation::Create, ResourceType::Cluster, CLUSTER_NAME) {
        return None;
    }
    let names = missing.iter().map(|topic| topic.name.as_str());
    let refused: Vec<&str> = names.filter(|name| !context.may_topic(Operation::Create, name)).collect();
    (!refused.is_empty()).then(|| refused.join(", "))
}

fn put_not_made(response: &mut StreamsGroupHeartbeatResponse, refused: &str) {
    let told = format!("Unauthorized to CREATE on topics {refused}.");
    let code = StreamsStatus::MissingInternalTopics.code();
    let all = response.status.get_or_insert_default();
    match all.iter_mut().find(|status| status.status_code == code) {
        Some(status) => status.status_detail = Str::from(format!("{}; {told}", status.status_detail)),
        None => all.push(StreamsGroupHeartbeatResponseStatus {
            status_code: code,
            status_detail: told.into(),
            ..Default::default()
        }),
    }
}

/// Why an application may not use these topics.
fn wrong_topics(topology: &StreamsGroupHeartbeatRequestTopology) -> Option<String> {
    let names = topics_of(topology);
    let those = |wrong: &dyn Fn(&str) -> bool| -> Option<String> {
        let mut found: Vec<&str> = Vec::new();
        for name in names.iter().map(|name| name.as_str()).filter(|name| wrong(name)) {
            if !found.contains(&name) {
                found.push(name);
            }
        }
        (!found.is_empty()).then(|| found.join(","))
    };
    if let Some(found) = those(&is_essential) {
        return Some(format!("Use of Kafka internal topics {found} in a Kafka Streams topology is prohibited."));
    }
    those(&|name| check_name(name).is_err()).map(|found| format!("Topic names {found} are not valid topic names."))
}

/// Makes the topics. The member is told what failed; it asks again.
async fn create(context: &RequestContext, missing: Vec<InternalTopic>, response: &mut StreamsGroupHeartbeatResponse) {
    let names: Vec<Str> = missing.iter().map(|topic| topic.name.clone()).collect();
    let topics = missing.into_iter().map(new_topic).collect();
    let call = CreateTopics { topics, validate_only: false, mutator: context.mutator_by_the_way() };
    let created = create_each(&context.shard, call).await;
    let failed: Vec<String> = names
        .iter()
        .zip(created)
        .filter_map(|(name, result)| match result {
            Err(why) if why.code != ErrorCode::TopicAlreadyExists => Some(format!("{name} ({})", why.message)),
            _ => None,
        })
        .collect();
    if failed.is_empty() {
        return;
    }
    let code = StreamsStatus::MissingInternalTopics.code();
    let status = response.status.iter_mut().flatten().find(|status| status.status_code == code);
    if let Some(status) = status {
        let more = failed.len().saturating_sub(3);
        let shown: Vec<&str> = failed.iter().take(3).map(String::as_str).collect();
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        status.status_detail =
            Str::from(format!("{}; Creation failed: {}{more}.", status.status_detail, shown.join(", ")));
    }
}

fn new_topic(topic: InternalTopic) -> NewTopic {
    NewTopic {
        partitions: topic.partitions,
        replication_factor: topic.replication_factor.unwrap_or(-1),
        configs: topic.configs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect(),
        ..NewTopic::with_defaults(&topic.name)
    }
}
