//! TxnOffsetCommit: offsets that count when the producer's transaction is committed. From v5 on (KIP-890) the group's partition
//! joins the transaction by itself.

use std::time::Duration;

use core_pinning::time::timeout;
use corelane_coordinator::group::reject;
use corelane_protocol::messages::{
    TxnOffsetCommitRequest, TxnOffsetCommitResponse, TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic,
};
use corelane_protocol::{ErrorCode, Str};

use crate::coordinator::txn_offset_commit;
use crate::kafka::request::RequestContext;

/// First version that adds the group's partition to the transaction.
const ADDING_FROM: i16 = 5;
/// First version that knows TRANSACTION_ABORTABLE.
const ABORTABLE_FROM: i16 = 4;
/// First version whose clients wait for a coordinator that is loading.
const LOADING_FROM: i16 = 2;

pub async fn handle(context: RequestContext, mut request: TxnOffsetCommitRequest) -> TxnOffsetCommitResponse {
    let image = context.shard.image();
    let asked: Vec<(Str, Vec<i32>)> = request
        .topics
        .iter()
        .map(|t| (t.name.clone(), t.partitions.iter().map(|p| p.partition_index).collect()))
        .collect();
    // The group sees what exists; the rest is answered here.
    request.topics.retain_mut(|topic| {
        let found = image.topic_named(&topic.name);
        topic.partitions.retain(|p| found.is_some_and(|found| found.partition(p.partition_index).is_some()));
        !topic.partitions.is_empty()
    });
    let committed = match request.topics.is_empty() {
        true => TxnOffsetCommitResponse::default(),
        false => {
            let rejected = request.clone();
            let named = !request.group_id.is_empty();
            let call = txn_offset_commit(&context.shard, request, context.version >= ADDING_FROM);
            let limit = Duration::from_millis(context.shard.config.broker().offsets.commit_timeout_ms.max(0) as u64);
            let done = match named {
                true => timeout(limit, call).await.unwrap_or(Err(ErrorCode::CoordinatorNotAvailable)),
                false => Err(ErrorCode::InvalidGroupId),
            };
            done.unwrap_or_else(|error| reject::txn_offset_commit(&rejected, told(context.version, error)))
        }
    };
    let code = |name: &Str, index: i32| -> i16 {
        let of_topic = committed.topics.iter().filter(|topic| topic.name == *name);
        let partition = of_topic.flat_map(|topic| &topic.partitions).find(|p| p.partition_index == index);
        partition.map_or(ErrorCode::UnknownTopicOrPartition.code(), |p| p.error_code)
    };
    let topics = asked.iter().map(|(name, indexes)| TxnOffsetCommitResponseTopic {
        name: name.clone(),
        partitions: indexes
            .iter()
            .map(|index| TxnOffsetCommitResponsePartition {
                partition_index: *index,
                error_code: code(name, *index),
                ..Default::default()
            })
            .collect(),
        ..Default::default()
    });
    TxnOffsetCommitResponse { topics: topics.collect(), ..Default::default() }
}

/// What clients of a version make sense of.
fn told(version: i16, error: ErrorCode) -> ErrorCode {
    match error {
        ErrorCode::ProducerFenced => ErrorCode::InvalidProducerEpoch,
        ErrorCode::TransactionAbortable if version < ABORTABLE_FROM => ErrorCode::InvalidTxnState,
        ErrorCode::CoordinatorLoadInProgress if version < LOADING_FROM => ErrorCode::CoordinatorNotAvailable,
        other => other,
    }
}
