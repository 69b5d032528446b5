//! CreatePartitions: more partitions for topics that are there.

use std::collections::BTreeSet;

use corelane_protocol::messages::create_partitions_response::CreatePartitionsResponseCreatePartitionsTopicResult;
use corelane_protocol::messages::{CreatePartitionsRequest, CreatePartitionsResponse};
use corelane_protocol::{ErrorCode, Str};

use crate::controller::Refused;
use crate::controller::requests::{CreatePartitions, ask};
use crate::kafka::pace::{exceeded, mutator_waits};
use crate::kafka::request::RequestContext;
use crate::kafka::topics::named_twice;

/// First version that is refused where a quota is used up (KIP-599).
const STRICT_FROM: i16 = 3;

type TopicResult = CreatePartitionsResponseCreatePartitionsTopicResult;

pub async fn handle(context: RequestContext, request: CreatePartitionsRequest) -> CreatePartitionsResponse {
    let names: Vec<Str> = request.topics.iter().map(|t| t.name.clone()).collect();
    let twice = named_twice(&names);
    // What is named twice does not get to Kafka's controller.
    if request.timeout_ms <= 0 && !names.iter().all(|name| twice.contains(name)) {
        return late(names);
    }
    let mutator = context.mutator(STRICT_FROM);
    let mut refused = false;
    let mut results = Vec::with_capacity(request.topics.len());
    let mut told = BTreeSet::new();
    for topic in request.topics {
        let is_twice = twice.contains(&topic.name);
        if is_twice && !told.insert(topic.name.clone()) {
            continue;
        }
        let done = match is_twice {
            true => Err(Refused::new(ErrorCode::InvalidRequest, "Duplicate topic name.")),
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
        refused |= exceeded(done.as_ref().err());
        results.push(result(topic.name, done));
    }
    let throttle_time_ms = mutator_waits(&context.shard, mutator, refused).await;
    CreatePartitionsResponse { results, throttle_time_ms, ..Default::default() }
}

/// The controller, where it is asked for anything, does nothing: the request is late as it came.
pub fn late(names: Vec<Str>) -> CreatePartitionsResponse {
    let results = names.into_iter().map(|name| result(name, Err(super::out_of_time()))).collect();
    CreatePartitionsResponse { results, ..Default::default() }
}

fn result(name: Str, done: Result<(), Refused>) -> TopicResult {
    let (error_code, error_message) = super::outcome_unless_throttled(done);
    TopicResult { name, error_code, error_message, ..Default::default() }
}
