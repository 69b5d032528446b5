//! ShareAcknowledge: what a member of a share group did with the records that it was lent.

use corelane_coordinator::share::in_flight::Acknowledgement;
use corelane_protocol::ErrorCode;
use corelane_protocol::messages::{
    ShareAcknowledgeRequest, ShareAcknowledgeResponse, ShareAcknowledgeResponsePartitionData,
    ShareAcknowledgeResponseShareAcknowledgeTopicResponse,
};

use super::share_fetch::{RENEW_FROM, is_member};
use crate::kafka::hints;
use crate::kafka::request::RequestContext;
use crate::kafka::share::acknowledge::{Terms, acknowledge};
use crate::kafka::share::homes;
use crate::kafka::share::sessions::{Name, Who, is_final};

pub async fn handle(context: RequestContext, request: ShareAcknowledgeRequest) -> ShareAcknowledgeResponse {
    let failed = |error: ErrorCode| ShareAcknowledgeResponse {
        error_code: error.code(),
        error_message: Some(error.message().into()),
        ..Default::default()
    };
    let (Some(group), Some(member)) = (request.group_id, request.member_id.filter(is_member)) else {
        return failed(ErrorCode::InvalidRequest);
    };
    let (shard, who) = (&context.shard, Who { group: group.detach(), member: member.detach() });
    let home = match homes::acknowledge(shard, &who, request.share_session_epoch).await {
        Ok(home) => home,
        Err(error) => return failed(error),
    };
    let said = request.topics.iter().flat_map(|topic| {
        topic.partitions.iter().map(|partition| {
            let batches = partition.acknowledgement_batches.iter().map(|batch| Acknowledgement {
                first: batch.first_offset,
                last: batch.last_offset,
                types: batch.acknowledge_types.clone(),
            });
            (Name { topic: topic.topic_id, partition: partition.partition_index }, batches.collect())
        })
    });
    let terms = Terms { renew_known: context.version >= RENEW_FROM, renews: request.is_renew_ack };
    let answers = acknowledge(&context, &who, terms, said.collect()).await;
    if is_final(request.share_session_epoch) {
        homes::end(shard, home, &who).await;
    }
    let mut responses: Vec<ShareAcknowledgeResponseShareAcknowledgeTopicResponse> = Vec::new();
    for (name, error) in answers {
        if responses.last().is_none_or(|topic| topic.topic_id != name.topic) {
            responses.push(ShareAcknowledgeResponseShareAcknowledgeTopicResponse {
                topic_id: name.topic,
                ..Default::default()
            });
        }
        if let Some(topic) = responses.last_mut() {
            topic.partitions.push(ShareAcknowledgeResponsePartitionData {
                partition_index: name.partition,
                error_code: error.code(),
                error_message: (error != ErrorCode::None).then(|| error.message().into()),
                ..Default::default()
            });
        }
    }
    let lock_ms = shard.group_properties(&who.group).share.record_lock_duration_ms;
    let mut response =
        ShareAcknowledgeResponse { acquisition_lock_timeout_ms: lock_ms, responses, ..Default::default() };
    hints::share_acknowledge(shard, &context.client, &mut response).await;
    response
}
