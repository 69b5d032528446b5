//! InitializeShareGroupState: a share group begins with a partition, or begins anew.

use corelane_coordinator::share::Operation;
use corelane_protocol::messages::{
    InitializeShareGroupStateRequest, InitializeShareGroupStateResponse,
    InitializeShareGroupStateResponseInitializeStateResult, InitializeShareGroupStateResponsePartitionResult,
};

use crate::kafka::request::RequestContext;
use crate::kafka::share_state::{outcome, run};

pub async fn handle(
    context: RequestContext,
    request: InitializeShareGroupStateRequest,
) -> InitializeShareGroupStateResponse {
    // Unlike its siblings, this one passes over topics without partitions.
    let topics = request.topics.iter().filter(|topic| !topic.partitions.is_empty());
    let asked = topics.map(|topic| {
        let begun = topic
            .partitions
            .iter()
            .map(|p| (p.partition, Operation::Initialize { state_epoch: p.state_epoch, start_offset: p.start_offset }));
        (topic.topic_id, begun.collect())
    });
    let answered = run(&context.shard, &request.group_id, asked.collect()).await;
    let results = answered.into_iter().map(|(topic_id, answers)| {
        let partitions = answers.into_iter().map(|(partition, answer)| {
            let (error_code, error_message) = outcome(&answer);
            InitializeShareGroupStateResponsePartitionResult {
                partition,
                error_code,
                error_message,
                ..Default::default()
            }
        });
        InitializeShareGroupStateResponseInitializeStateResult {
            topic_id,
            partitions: partitions.collect(),
            ..Default::default()
        }
    });
    InitializeShareGroupStateResponse { results: results.collect(), ..Default::default() }
}
