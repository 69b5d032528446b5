//! AlterShareGroupOffsets (KIP-932): where a share group without members begins to read.

use corelane_coordinator::group::ShareOffsetsAlteration;
use corelane_protocol::messages::{AlterShareGroupOffsetsRequest, AlterShareGroupOffsetsResponse};
use corelane_protocol::{ErrorCode, Str};

use crate::coordinator::{ShareAnswers, advance_group, initialize_share_states, with_group};
use crate::kafka::request::RequestContext;

pub async fn handle(context: RequestContext, request: AlterShareGroupOffsetsRequest) -> AlterShareGroupOffsetsResponse {
    let group = request.group_id.clone();
    if group.is_empty() {
        return refuse(ErrorCode::InvalidGroupId);
    }
    let shard = &context.shard;
    let begun = with_group(shard, &group, move |groups, now| groups.begin_alter_share_offsets(now, &request)).await;
    let ShareOffsetsAlteration { mut response, initialize } = match begun {
        Ok(begun) => begun,
        Err(error) => return refuse(error),
    };
    if response.error_code != 0 || initialize.topics.is_empty() {
        return response;
    }
    if initialize.topics.values().flat_map(|offsets| offsets.keys()).any(|partition| *partition < 0) {
        // Kafka's persister throws, for the whole request (DefaultStatePersister.java: validate).
        return refuse(ErrorCode::UnknownServerError);
    }
    let answers = initialize_share_states(shard, &initialize).await;
    if put_errors(&mut response, &answers) {
        // Until it succeeds they count as being initialised.
        return response;
    }
    let done = advance_group(shard, &group, move |groups, now| groups.share_state_initialized(now, &initialize, false));
    match done.await {
        Ok(()) => response,
        Err(error) => refuse(error),
    }
}

/// Says whether there are any.
fn put_errors(response: &mut AlterShareGroupOffsetsResponse, answers: &ShareAnswers) -> bool {
    let mut any = false;
    for topic in &mut response.responses {
        let Some(of_topic) = answers.get(&topic.topic_id) else { continue };
        for partition in topic.partitions.iter_mut().filter(|partition| partition.error_code == 0) {
            if let Some(Err(refusal)) = of_topic.get(&partition.partition_index) {
                partition.error_code = refusal.code.code();
                partition.error_message = Some(Str::from_static(refusal.message()));
                any = true;
            }
        }
    }
    any
}

fn refuse(error: ErrorCode) -> AlterShareGroupOffsetsResponse {
    AlterShareGroupOffsetsResponse {
        error_code: error.code(),
        error_message: Some(Str::from_static(error.message())),
        ..Default::default()
    }
}
