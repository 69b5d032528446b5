//! DescribeProducers: the producers that a partition knows, and their open transactions (KIP-664).

use corelane_protocol::messages::describe_producers_response::{
    DescribeProducersResponsePartitionResponse, DescribeProducersResponseProducerState,
    DescribeProducersResponseTopicResponse,
};
use corelane_protocol::messages::{DescribeProducersRequest, DescribeProducersResponse};
use corelane_protocol::{ErrorCode, Uuid};
use corelane_storage::producer_state::ProducerInfo;

use crate::controller::names::check_name;
use crate::kafka::each_partition::{each_partition, led_partition};
use crate::kafka::request::RequestContext;
use crate::kafka::topics::find_topic;

pub async fn handle(context: RequestContext, request: DescribeProducersRequest) -> DescribeProducersResponse {
    let image = context.shard.image();
    let mut asked = Vec::new();
    for topic in &request.topics {
        let named = check_name(&topic.name).map_err(|_| ErrorCode::InvalidTopicException);
        let found = named.and_then(|()| find_topic(&image, false, &topic.name, Uuid::ZERO));
        asked.extend(
            topic.partition_indexes.iter().map(|index| Ok((led_partition(&context.shard, &found, *index)?, ()))),
        );
    }
    let answers = each_partition(&context.shard, asked, |partition, ()| async move { Ok(partition.producers()) }).await;
    let mut answers = answers.into_iter();
    let mut respond = |partition_index: i32| match answers.next() {
        Some(Ok(producers)) => DescribeProducersResponsePartitionResponse {
            partition_index,
            active_producers: producers.into_iter().map(state).collect(),
            ..Default::default()
        },
        failed => {
            let error = super::error_of(failed);
            DescribeProducersResponsePartitionResponse {
                partition_index,
                error_code: error.code(),
                error_message: Some(error.message().into()),
                ..Default::default()
            }
        }
    };
    let topics = request.topics.into_iter().map(|topic| DescribeProducersResponseTopicResponse {
        name: topic.name,
        partitions: topic.partition_indexes.into_iter().map(&mut respond).collect(),
        ..Default::default()
    });
    DescribeProducersResponse { topics: topics.collect(), ..Default::default() }
}

fn state(producer: ProducerInfo) -> DescribeProducersResponseProducerState {
    DescribeProducersResponseProducerState {
        producer_id: producer.id.0,
        producer_epoch: producer.epoch.0.into(),
        last_sequence: producer.last_sequence.0,
        last_timestamp: producer.last_timestamp,
        coordinator_epoch: producer.coordinator_epoch,
        current_txn_start_offset: producer.txn_first_offset.map_or(-1, |offset| offset.0),
        ..Default::default()
    }
}
