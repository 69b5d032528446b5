//! ReadShareGroupStateSummary: how far a share group is in a partition, for those who only look.

use corelane_coordinator::share::{Answer, Operation, Refusal, Summary};
use corelane_protocol::ErrorCode;
use corelane_protocol::messages::{
    ReadShareGroupStateSummaryRequest, ReadShareGroupStateSummaryResponse,
    ReadShareGroupStateSummaryResponsePartitionResult, ReadShareGroupStateSummaryResponseReadStateSummaryResult,
};

use crate::kafka::request::RequestContext;
use crate::kafka::share_state::{run, told};

pub async fn handle(
    context: RequestContext,
    request: ReadShareGroupStateSummaryRequest,
) -> ReadShareGroupStateSummaryResponse {
    let asked = request
        .topics
        .iter()
        .map(|topic| (topic.topic_id, topic.partitions.iter().map(|p| (p.partition, Operation::Summary)).collect()));
    let answered = run(&context.shard, &request.group_id, asked.collect()).await;
    let results =
        answered.into_iter().map(|(topic_id, answers)| ReadShareGroupStateSummaryResponseReadStateSummaryResult {
            topic_id,
            partitions: answers.into_iter().map(|(partition, answer)| result(partition, answer)).collect(),
            ..Default::default()
        });
    ReadShareGroupStateSummaryResponse { results: results.collect(), ..Default::default() }
}

fn result(partition: i32, answer: Result<Answer, Refusal>) -> ReadShareGroupStateSummaryResponsePartitionResult {
    let failed = |refusal: Refusal| {
        let (error_code, error_message) = told(&refusal);
        ReadShareGroupStateSummaryResponsePartitionResult { partition, error_code, error_message, ..Default::default() }
    };
    match answer {
        Ok(Answer::Summary(Summary { state_epoch, leader_epoch, start_offset, delivery_complete_count })) => {
            ReadShareGroupStateSummaryResponsePartitionResult {
                partition,
                state_epoch,
                leader_epoch,
                start_offset,
                delivery_complete_count,
                ..Default::default()
            }
        }
        Ok(_) => failed(ErrorCode::UnknownServerError.into()),
        Err(refusal) => failed(refusal),
    }
}
