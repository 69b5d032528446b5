//! TxnOffsetCommit: offsets that count when the producer's transaction is committed. From v5 on (KIP-890) the group's partition
//! joins the transaction by itself.

use std::time::Duration;

use core_pinning::time::timeout;
use corelane_acl::Operation;
use corelane_coordinator::group::reject;
use corelane_protocol::messages::{
    TxnOffsetCommitRequest, TxnOffsetCommitResponse, TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic,
};
use corelane_protocol::{ErrorCode, Uuid};

use crate::coordinator::txn_offset_commit;
use crate::kafka::offset_answers::{OffsetAnswers, TopicAnswers};
use crate::kafka::request::RequestContext;

/// First version that adds the group's partition to the transaction.
const ADDING_FROM: i16 = 5;
/// First version that knows TRANSACTION_ABORTABLE.
const ABORTABLE_FROM: i16 = 4;
/// First version whose clients wait for a coordinator that is loading.
const LOADING_FROM: i16 = 2;

pub async fn handle(context: RequestContext, mut request: TxnOffsetCommitRequest) -> TxnOffsetCommitResponse {
    let image = context.shard.image();
    // The group sees what exists; the rest is answered here.
    let mut answers = OffsetAnswers::default();
    request.topics.retain_mut(|topic| {
        if !context.may_topic(Operation::Read, &topic.name) {
            let refused = topic.partitions.iter().map(|p| p.partition_index);
            answers.refuse(&topic.name, Uuid::ZERO, refused, ErrorCode::TopicAuthorizationFailed);
            return false;
        }
        let found = image.topic_named(&topic.name);
        let is_gone = |index| found.is_none_or(|found| found.partition(index).is_none());
        let gone: Vec<_> = topic.partitions.extract_if(.., |p| is_gone(p.partition_index)).collect();
        if found.is_none() || !gone.is_empty() {
            let indexes = gone.iter().map(|p| p.partition_index);
            answers.refuse(&topic.name, Uuid::ZERO, indexes, ErrorCode::UnknownTopicOrPartition);
        }
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
    let of_group = committed.topics.into_iter().map(|topic| {
        (topic.name, Uuid::ZERO, topic.partitions.into_iter().map(|p| (p.partition_index, p.error_code)).collect())
    });
    let partition = |(partition_index, error_code)| TxnOffsetCommitResponsePartition {
        partition_index,
        error_code,
        ..Default::default()
    };
    let topic = |(name, _, partitions): TopicAnswers| TxnOffsetCommitResponseTopic {
        name,
        partitions: partitions.into_iter().map(partition).collect(),
        ..Default::default()
    };
    TxnOffsetCommitResponse { topics: answers.merge(of_group).into_iter().map(topic).collect(), ..Default::default() }
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
