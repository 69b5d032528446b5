//! WriteShareGroupState: how far a share group has come in a partition.

use corelane_coordinator::share::{Operation, StateBatch};
use corelane_protocol::messages::write_share_group_state_request::WriteShareGroupStateRequestPartitionData;
use corelane_protocol::messages::{
    WriteShareGroupStateRequest, WriteShareGroupStateResponse, WriteShareGroupStateResponsePartitionResult,
    WriteShareGroupStateResponseWriteStateResult,
};

use crate::kafka::request::RequestContext;
use crate::kafka::share_state::{outcome, run};

pub async fn handle(context: RequestContext, request: WriteShareGroupStateRequest) -> WriteShareGroupStateResponse {
    let asked = request
        .topics
        .iter()
        .map(|topic| (topic.topic_id, topic.partitions.iter().map(|data| (data.partition, operation(data))).collect()));
    let answered = run(&context.shard, &request.group_id, asked.collect()).await;
    let results = answered.into_iter().map(|(topic_id, answers)| {
        let partitions = answers.into_iter().map(|(partition, answer)| {
            let (error_code, error_message) = outcome(&answer);
            WriteShareGroupStateResponsePartitionResult { partition, error_code, error_message, ..Default::default() }
        });
        WriteShareGroupStateResponseWriteStateResult {
            topic_id,
            partitions: partitions.collect(),
            ..Default::default()
        }
    });
    WriteShareGroupStateResponse { results: results.collect(), ..Default::default() }
}

fn operation(data: &WriteShareGroupStateRequestPartitionData) -> Operation {
    let batches = data.state_batches.iter().map(|batch| StateBatch {
        first: batch.first_offset,
        last: batch.last_offset,
        delivery_count: batch.delivery_count,
        delivery_state: batch.delivery_state,
    });
    Operation::Write {
        state_epoch: data.state_epoch,
        leader_epoch: data.leader_epoch,
        start_offset: data.start_offset,
        delivery_complete_count: data.delivery_complete_count,
        batches: batches.collect(),
    }
}
