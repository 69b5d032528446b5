//! ReadShareGroupState: what a partition's leader starts from when a share group reads there.

use corelane_coordinator::share::{Answer, Known, Operation, Refusal};
use corelane_protocol::ErrorCode;
use corelane_protocol::messages::read_share_group_state_response::ReadShareGroupStateResponseStateBatch;
use corelane_protocol::messages::{
    ReadShareGroupStateRequest, ReadShareGroupStateResponse, ReadShareGroupStateResponsePartitionResult,
    ReadShareGroupStateResponseReadStateResult,
};

use crate::kafka::request::RequestContext;
use crate::kafka::share_state::{run, told};

pub async fn handle(context: RequestContext, request: ReadShareGroupStateRequest) -> ReadShareGroupStateResponse {
    let asked = request.topics.iter().map(|topic| {
        let read = |leader_epoch| Operation::Read { leader_epoch };
        (topic.topic_id, topic.partitions.iter().map(|p| (p.partition, read(p.leader_epoch))).collect())
    });
    let answered = run(&context.shard, &request.group_id, asked.collect()).await;
    let results = answered.into_iter().map(|(topic_id, answers)| ReadShareGroupStateResponseReadStateResult {
        topic_id,
        partitions: answers.into_iter().map(|(partition, answer)| result(partition, answer)).collect(),
        ..Default::default()
    });
    ReadShareGroupStateResponse { results: results.collect(), ..Default::default() }
}

fn result(partition: i32, answer: Result<Answer, Refusal>) -> ReadShareGroupStateResponsePartitionResult {
    let failed = |refusal: Refusal| {
        let (error_code, error_message) = told(&refusal);
        ReadShareGroupStateResponsePartitionResult { partition, error_code, error_message, ..Default::default() }
    };
    match answer {
        Ok(Answer::Known(Known { state_epoch, start_offset, batches })) => {
            let batches = batches.into_iter().map(|batch| ReadShareGroupStateResponseStateBatch {
                first_offset: batch.first,
                last_offset: batch.last,
                delivery_state: batch.delivery_state,
                delivery_count: batch.delivery_count,
                ..Default::default()
            });
            ReadShareGroupStateResponsePartitionResult {
                partition,
                state_epoch,
                start_offset,
                state_batches: batches.collect(),
                ..Default::default()
            }
        }
        Ok(_) => failed(ErrorCode::UnknownServerError.into()),
        Err(refusal) => failed(refusal),
    }
}
