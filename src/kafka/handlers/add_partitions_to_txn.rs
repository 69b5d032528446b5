//! AddPartitionsToTxn: of one transaction, from a client, or (v4+) of several, from brokers.

use std::collections::BTreeMap;

use corelane_acl::Operation;
use corelane_coordinator::txn::{Partitions, Producer, TxnVersion};
use corelane_protocol::messages::{
    AddPartitionsToTxnRequest, AddPartitionsToTxnRequestAddPartitionsToTxnTopic,
    AddPartitionsToTxnRequestAddPartitionsToTxnTransaction, AddPartitionsToTxnResponse,
    AddPartitionsToTxnResponseAddPartitionsToTxnPartitionResult, AddPartitionsToTxnResponseAddPartitionsToTxnResult,
    AddPartitionsToTxnResponseAddPartitionsToTxnTopicResult,
};
use corelane_protocol::{ErrorCode, Str};

use super::end_txn::fenced;
use crate::coordinator::{ask_transaction, with_transaction};
use crate::kafka::request::RequestContext;

/// First version with several transactions, which can also only ask.
const BATCHED_FROM: i16 = 4;
/// First version that knows PRODUCER_FENCED.
const FENCED_FROM: i16 = 2;

type Topics = Vec<AddPartitionsToTxnRequestAddPartitionsToTxnTopic>;
type TopicResults = Vec<AddPartitionsToTxnResponseAddPartitionsToTxnTopicResult>;

pub async fn handle(context: RequestContext, request: AddPartitionsToTxnRequest) -> AddPartitionsToTxnResponse {
    if context.version < BATCHED_FROM {
        let transaction = AddPartitionsToTxnRequestAddPartitionsToTxnTransaction {
            transactional_id: request.v3_and_below_transactional_id,
            producer_id: request.v3_and_below_producer_id,
            producer_epoch: request.v3_and_below_producer_epoch,
            verify_only: false,
            topics: request.v3_and_below_topics,
            ..Default::default()
        };
        let results_by_topic_v3_and_below = add(&context, transaction).await.unwrap_or_default();
        return AddPartitionsToTxnResponse { results_by_topic_v3_and_below, ..Default::default() };
    }
    let mut results = Vec::with_capacity(request.transactions.len());
    for transaction in request.transactions {
        let transactional_id = transaction.transactional_id.clone();
        let topic_results = match add(&context, transaction).await {
            Ok(results) => results,
            Err(error) => return AddPartitionsToTxnResponse { error_code: error.code(), ..Default::default() },
        };
        results.push(AddPartitionsToTxnResponseAddPartitionsToTxnResult {
            transactional_id,
            topic_results,
            ..Default::default()
        });
    }
    AddPartitionsToTxnResponse { results_by_transaction: results, ..Default::default() }
}

/// Error: UNSUPPORTED_VERSION, which brokers hear of the whole request.
async fn add(
    context: &RequestContext,
    transaction: AddPartitionsToTxnRequestAddPartitionsToTxnTransaction,
) -> Result<TopicResults, ErrorCode> {
    let topics = transaction.topics;
    if let Some(refused) = check(context, &topics) {
        return Ok(refused);
    }
    let all = topics.iter().flat_map(|t| t.partitions.iter().map(|index| (t.name.clone(), *index)));
    let partitions: Partitions = all.collect();
    let producer = Producer { id: transaction.producer_id, epoch: transaction.producer_epoch };
    let (id, key) = (transaction.transactional_id.clone(), transaction.transactional_id);
    if transaction.verify_only {
        let question = move |txns: &corelane_coordinator::txn::TxnCoordinator, _| {
            txns.verify_partitions(&id, producer, &partitions)
        };
        let verified = ask_transaction(&context.shard, &key, question).await.and_then(|verified| verified);
        return Ok(results(&each_once(&topics), |name, index| match &verified {
            Ok(verified) => {
                let found = verified.iter().find(|(topic, partition, _)| topic == name && *partition == index);
                found.map_or(ErrorCode::UnknownServerError, |(_, _, error)| *error)
            }
            Err(error) => *error,
        }));
    }
    let version = if context.version >= BATCHED_FROM { TxnVersion::V2 } else { TxnVersion::V0 };
    let call = move |txns: &mut corelane_coordinator::txn::TxnCoordinator, now| {
        txns.add_partitions(now, &id, producer, &partitions, version)
    };
    let error = with_transaction(&context.shard, &key, call).await.err().unwrap_or(ErrorCode::None);
    match error {
        ErrorCode::UnsupportedVersion => Err(error),
        error => Ok(results(&topics, |_, _| fenced(context.version >= FENCED_FROM, error))),
    }
}

/// All or nothing: where one partition cannot be added, nothing is attempted.
fn check(context: &RequestContext, topics: &Topics) -> Option<TopicResults> {
    let image = context.shard.image();
    let error_of = |name: &Str, index: i32| match image.topic_named(name) {
        // Clients do not write to the broker's own topics.
        Some(topic) if context.shard.config.is_internal(&topic.name) && context.version < BATCHED_FROM => {
            ErrorCode::TopicAuthorizationFailed
        }
        _ if context.version < BATCHED_FROM && !context.may_topic(Operation::Write, name) => {
            ErrorCode::TopicAuthorizationFailed
        }
        Some(topic) if topic.partition(index).is_some() => ErrorCode::None,
        _ => ErrorCode::UnknownTopicOrPartition,
    };
    let mut all = topics.iter().flat_map(|t| t.partitions.iter().map(|index| (&t.name, *index)));
    all.any(|(name, index)| error_of(name, index) != ErrorCode::None).then(|| {
        results(&each_once(topics), |name, index| match error_of(name, index) {
            ErrorCode::None => ErrorCode::OperationNotAttempted,
            error => error,
        })
    })
}

/// Every partition once, under its topic once: of a whole answer Kafka makes a map, where it does not repeat one error.
fn each_once(topics: &Topics) -> Topics {
    let mut once: BTreeMap<&Str, Vec<i32>> = BTreeMap::new();
    for (name, index) in topics.iter().flat_map(|t| t.partitions.iter().map(move |index| (&t.name, *index))) {
        let partitions = once.entry(name).or_default();
        if !partitions.contains(&index) {
            partitions.push(index);
        }
    }
    let topic = |(name, partitions): (&Str, Vec<i32>)| AddPartitionsToTxnRequestAddPartitionsToTxnTopic {
        name: name.clone(),
        partitions,
        ..Default::default()
    };
    once.into_iter().map(topic).collect()
}

fn results(topics: &Topics, error_of: impl Fn(&Str, i32) -> ErrorCode) -> TopicResults {
    let partition = |name: &Str, index: i32| AddPartitionsToTxnResponseAddPartitionsToTxnPartitionResult {
        partition_index: index,
        partition_error_code: error_of(name, index).code(),
        ..Default::default()
    };
    let topic = |topic: &AddPartitionsToTxnRequestAddPartitionsToTxnTopic| {
        AddPartitionsToTxnResponseAddPartitionsToTxnTopicResult {
            name: topic.name.clone(),
            results_by_partition: topic.partitions.iter().map(|index| partition(&topic.name, *index)).collect(),
            ..Default::default()
        }
    };
    topics.iter().map(topic).collect()
}
