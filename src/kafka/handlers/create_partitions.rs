//! CreatePartitions: more partitions for topics that are there.

use corelane_protocol::ErrorCode;
use corelane_protocol::messages::create_partitions_response::CreatePartitionsResponseCreatePartitionsTopicResult;
use corelane_protocol::messages::{CreatePartitionsRequest, CreatePartitionsResponse};

use crate::controller::Refused;
use crate::controller::requests::{CreatePartitions, ask};
use crate::kafka::pace::{exceeded, mutator_waits};
use crate::kafka::request::RequestContext;

/// First version that is refused where a quota is used up (KIP-599).
const STRICT_FROM: i16 = 3;

pub async fn handle(context: RequestContext, request: CreatePartitionsRequest) -> CreatePartitionsResponse {
    let mutator = context.mutator(STRICT_FROM);
    let mut refused = false;
    let mut results = Vec::with_capacity(request.topics.len());
    let names: Vec<_> = request.topics.iter().map(|t| t.name.clone()).collect();
    for (place, topic) in request.topics.into_iter().enumerate() {
        let twice = names.iter().filter(|name| **name == topic.name).count() > 1;
        if names.iter().take(place).any(|name| *name == topic.name) {
            continue;
        }
        let result = match twice {
            true => Err(Refused::new(ErrorCode::InvalidRequest, "Duplicate topic name.")),
            false if request.timeout_ms <= 0 => Err(super::out_of_time()),
            false => {
                let assignments = topic.assignments.map(|a| a.into_iter().map(|a| a.broker_ids).collect());
                let call = CreatePartitions {
                    topic: topic.name.to_string(),
                    count: topic.count,
                    assignments,
                    validate_only: request.validate_only,
                    mutator,
                };
                ask(&context.shard, call).await
            }
        };
        refused |= exceeded(result.as_ref().err());
        let (error_code, error_message) = super::outcome_unless_throttled(result);
        results.push(CreatePartitionsResponseCreatePartitionsTopicResult {
            name: topic.name,
            error_code,
            error_message,
            ..Default::default()
        });
    }
    let throttle_time_ms = mutator_waits(&context.shard, mutator, refused).await;
    CreatePartitionsResponse { results, throttle_time_ms, ..Default::default() }
}
