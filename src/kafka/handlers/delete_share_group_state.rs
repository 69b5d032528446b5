//! DeleteShareGroupState: a share group is done with a partition for good.

use corelane_coordinator::share::Operation;
use corelane_protocol::messages::{
    DeleteShareGroupStateRequest, DeleteShareGroupStateResponse, DeleteShareGroupStateResponseDeleteStateResult,
    DeleteShareGroupStateResponsePartitionResult,
};

use crate::kafka::request::RequestContext;
use crate::kafka::share_state::{outcome, run};

pub async fn handle(context: RequestContext, request: DeleteShareGroupStateRequest) -> DeleteShareGroupStateResponse {
    let asked = request
        .topics
        .iter()
        .map(|topic| (topic.topic_id, topic.partitions.iter().map(|p| (p.partition, Operation::Delete)).collect()));
    let answered = run(&context.shard, &request.group_id, asked.collect()).await;
    let results = answered.into_iter().map(|(topic_id, answers)| {
        let partitions = answers.into_iter().map(|(partition, answer)| {
            let (error_code, error_message) = outcome(&answer);
            DeleteShareGroupStateResponsePartitionResult { partition, error_code, error_message, ..Default::default() }
        });
        DeleteShareGroupStateResponseDeleteStateResult {
            topic_id,
            partitions: partitions.collect(),
            ..Default::default()
        }
    });
    DeleteShareGroupStateResponse { results: results.collect(), ..Default::default() }
}
