//! OffsetDelete (KIP-496).

use corelane_acl::Operation;
use corelane_coordinator::group::reject;
use corelane_protocol::messages::{
    OffsetDeleteRequest, OffsetDeleteResponse, OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};
use corelane_protocol::{ErrorCode, Uuid};

use crate::coordinator::with_group;
use crate::kafka::offset_answers::{OffsetAnswers, TopicAnswers};
use crate::kafka::request::RequestContext;

pub async fn handle(context: RequestContext, mut request: OffsetDeleteRequest) -> OffsetDeleteResponse {
    let image = context.shard.image();
    // Partitions that do not exist are answered here; the group sees the others.
    let mut answers = OffsetAnswers::default();
    for topic in &mut request.topics {
        if !context.may_topic(Operation::Read, &topic.name) {
            let refused = std::mem::take(&mut topic.partitions).into_iter().map(|p| p.partition_index);
            answers.refuse(&topic.name, Uuid::ZERO, refused, ErrorCode::TopicAuthorizationFailed);
            continue;
        }
        let known = image.topic_named(&topic.name);
        let is_gone = |index| known.is_none_or(|known| known.partition(index).is_none());
        let gone: Vec<_> = topic.partitions.extract_if(.., |p| is_gone(p.partition_index)).collect();
        if known.is_none() || !gone.is_empty() {
            let indexes = gone.iter().map(|p| p.partition_index);
            answers.refuse(&topic.name, Uuid::ZERO, indexes, ErrorCode::UnknownTopicOrPartition);
        }
    }
    request.topics.retain(|topic| !topic.partitions.is_empty());
    let group = request.group_id.clone();
    let deleted = with_group(&context.shard, &group, move |groups, now| groups.offset_delete(now, &request));
    let mut response = deleted.await.unwrap_or_else(reject::offset_delete);
    if response.error_code != 0 {
        return response;
    }
    let of_group = std::mem::take(&mut response.topics).into_iter().map(|topic| {
        (topic.name, Uuid::ZERO, topic.partitions.into_iter().map(|p| (p.partition_index, p.error_code)).collect())
    });
    let partition = |(partition_index, error_code)| OffsetDeleteResponsePartition { partition_index, error_code };
    let topic = |(name, _, partitions): TopicAnswers| OffsetDeleteResponseTopic {
        name,
        partitions: partitions.into_iter().map(partition).collect(),
    };
    OffsetDeleteResponse { topics: answers.merge(of_group).into_iter().map(topic).collect(), ..response }
}
