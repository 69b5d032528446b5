//! OffsetFetch: of one group, or (v8+) of several. From v10 on topics are named by id.

use corelane_acl::{Operation, ResourceType};
use corelane_coordinator::group::{fetch_response, fetched_groups, reject};
use corelane_protocol::messages::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopics, OffsetFetchResponse,
    OffsetFetchResponseGroup, OffsetFetchResponsePartitions, OffsetFetchResponseTopics,
};
use corelane_protocol::{ErrorCode, Str};
use corelane_storage::model::TopicId;

use crate::controller::image::ClusterImage;
use crate::coordinator::with_group;
use crate::kafka::request::RequestContext;

/// First version with topic ids.
const TOPIC_IDS_FROM: i16 = 10;

pub async fn handle(context: RequestContext, request: OffsetFetchRequest) -> OffsetFetchResponse {
    let mut groups = Vec::new();
    for group in fetched_groups(context.version, &request) {
        groups.push(fetch(&context, group, request.require_stable).await);
    }
    fetch_response(context.version, groups)
}

async fn fetch(
    context: &RequestContext,
    mut group: OffsetFetchRequestGroup,
    require_stable: bool,
) -> OffsetFetchResponseGroup {
    if !context.may(Operation::Describe, ResourceType::Group, &group.group_id) {
        return reject::offset_fetch(context.version, &group, ErrorCode::GroupAuthorizationFailed);
    }
    let by_id = context.version >= TOPIC_IDS_FROM;
    let image = context.shard.image();
    let mut unknown = Vec::new();
    if by_id {
        unknown = name_topics(&image, &mut group);
    }
    // Where all are asked for, those that the client may not see are left out.
    let all = group.topics.is_none();
    let hidden = take_hidden(context, &mut group);
    let (version, rejected, id) = (context.version, group.clone(), group.group_id.clone());
    let call = with_group(&context.shard, &id, move |groups, _| groups.offset_fetch(&group, require_stable));
    let mut fetched = call.await.unwrap_or_else(|error| reject::offset_fetch(version, &rejected, error));
    if all {
        fetched.topics.retain(|topic| context.may_topic(Operation::Describe, &topic.name));
    }
    if fetched.error_code == 0 {
        fetched.topics.extend(hidden);
    }
    if by_id {
        for topic in &mut fetched.topics {
            if let Some(found) = image.topic_named(&topic.name).filter(|_| topic.topic_id.is_zero()) {
                topic.topic_id = found.uuid();
            }
            topic.name = Str::EMPTY;
        }
        // Offsets of a topic that is gone have no id to be told by.
        fetched.topics.retain(|topic| !topic.topic_id.is_zero());
        if fetched.error_code == 0 {
            fetched.topics.extend(unknown);
        }
    }
    fetched
}

/// Takes out the topics whose offsets the client may not see; gives the answers for them.
fn take_hidden(context: &RequestContext, group: &mut OffsetFetchRequestGroup) -> Vec<OffsetFetchResponseTopics> {
    let Some(topics) = &mut group.topics else { return Vec::new() };
    let hidden = topics.extract_if(.., |topic| !context.may_topic(Operation::Describe, &topic.name));
    let answer = |topic: OffsetFetchRequestTopics| OffsetFetchResponseTopics {
        partitions: refused(&topic.partition_indexes, ErrorCode::TopicAuthorizationFailed),
        name: topic.name,
        topic_id: topic.topic_id,
        ..Default::default()
    };
    hidden.map(answer).collect()
}

fn refused(indexes: &[i32], error: ErrorCode) -> Vec<OffsetFetchResponsePartitions> {
    let partition = |index: &i32| OffsetFetchResponsePartitions {
        partition_index: *index,
        committed_offset: -1,
        committed_leader_epoch: -1,
        metadata: Some(Str::EMPTY),
        error_code: error.code(),
        ..Default::default()
    };
    indexes.iter().map(partition).collect()
}

/// Fills in the names of topics that are there; gives the answers for those that are not.
fn name_topics(image: &ClusterImage, group: &mut OffsetFetchRequestGroup) -> Vec<OffsetFetchResponseTopics> {
    let Some(topics) = &mut group.topics else { return Vec::new() };
    let mut unknown = Vec::new();
    topics.retain_mut(|topic| match image.topic(TopicId(topic.topic_id.0)) {
        Some(found) => {
            topic.name = found.wire_name();
            true
        }
        None => {
            unknown.push(OffsetFetchResponseTopics {
                topic_id: topic.topic_id,
                partitions: refused(&topic.partition_indexes, ErrorCode::UnknownTopicId),
                ..Default::default()
            });
            false
        }
    });
    unknown
}
