//! OffsetForLeaderEpoch (KIP-320): where an epoch ended, so that a client can see whether its log was cut.

use corelane_protocol::Uuid;
use corelane_protocol::messages::offset_for_leader_epoch_response::{
    OffsetForLeaderEpochResponseEpochEndOffset, OffsetForLeaderEpochResponseOffsetForLeaderTopicResult,
};
use corelane_protocol::messages::{OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse};

use crate::kafka::each_partition::{each_partition, led_partition};
use crate::kafka::request::RequestContext;
use crate::kafka::topics::find_topic;

pub async fn handle(context: RequestContext, request: OffsetForLeaderEpochRequest) -> OffsetForLeaderEpochResponse {
    let image = context.shard.image();
    let mut asked = Vec::new();
    for topic in &request.topics {
        let found = find_topic(&image, false, &topic.topic, Uuid::ZERO);
        let partitions = topic.partitions.iter();
        asked.extend(partitions.map(|p| {
            Ok((led_partition(&context.shard, &found, p.partition)?, (p.current_leader_epoch, p.leader_epoch)))
        }));
    }
    let answers = each_partition(&context.shard, asked, |partition, (current, epoch)| async move {
        partition.check_epoch(current)?;
        Ok(partition.end_offset_for_epoch(epoch))
    });
    let mut answers = answers.await.into_iter();
    let mut respond = |partition: i32| match answers.next() {
        Some(Ok((leader_epoch, end_offset))) => {
            OffsetForLeaderEpochResponseEpochEndOffset { partition, leader_epoch, end_offset, ..Default::default() }
        }
        failed => OffsetForLeaderEpochResponseEpochEndOffset {
            partition,
            error_code: super::error_of(failed).code(),
            ..Default::default()
        },
    };
    let topics = request
        .topics
        .into_iter()
        .map(|topic| OffsetForLeaderEpochResponseOffsetForLeaderTopicResult {
            topic: topic.topic,
            partitions: topic.partitions.iter().map(|p| respond(p.partition)).collect(),
            ..Default::default()
        })
        .collect();
    OffsetForLeaderEpochResponse { topics, ..Default::default() }
}
