//! Produce, in two stages: the batches are ordered when `accept` returns, the answer comes when they are safe.

use std::collections::BTreeMap;
use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use core_pinning::ShardId;
use core_pinning::time::timeout;
use corelane_acl::{Operation, ResourceType};
use corelane_protocol::messages::produce_response::{
    ProduceResponseBatchIndexAndErrorMessage, ProduceResponsePartitionProduceResponse,
    ProduceResponseTopicProduceResponse,
};
use corelane_protocol::messages::{ProduceRequest, ProduceResponse};
use corelane_protocol::{ErrorCode, Str, Uuid};
use corelane_storage::model::PartitionKey;

use super::{Body, Call};
use crate::controller::image::owner;
use crate::kafka::connection::{Accepted, Answer};
use crate::kafka::hints;
use crate::kafka::record_sets::{Writers, only_batch, writes_in_transaction};
use crate::kafka::request::RequestContext;
use crate::kafka::topics::find_allowed;
use crate::kafka::transaction_check::{TransactionalWriter, memberships};
use crate::partition::{Appended, Membership, ProduceContext, ProduceFailure};
use crate::router::{CallFuture, ShardCall};
use crate::shard::Shard;

/// First version that may compress with zstd (KIP-110).
const ZSTD_FROM: i16 = 7;

/// First version that names topics by id (KIP-516).
const IDS_FROM: i16 = 13;

/// Tools that may write to internal topics call themselves so (Kafka: `AdminUtils.ADMIN_CLIENT_ID`).
const ADMIN_CLIENT_ID: &str = "__admin_client";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Acks {
    None,
    Leader,
    All,
}

impl Acks {
    fn from_code(code: i16) -> Option<Acks> {
        match code {
            0 => Some(Acks::None),
            1 => Some(Acks::Leader),
            -1 => Some(Acks::All),
            _ => None,
        }
    }
}

pub fn accept(context: RequestContext, call: Call, body: Body<'_>) -> Result<Accepted, &'static str> {
    let (request, _): (ProduceRequest, _) = body.read(&context.shard, call.version)?;
    let silent = request.acks == 0;
    let outcome = enqueue(&context, request);
    let (shard, client, pace) = (context.shard, context.client, context.pace);
    // Who is over a quota has one request after the other taken, so that it gets no further.
    let overlaps = client.held_until().is_none();
    let answer = Box::pin(async move {
        let mut response = outcome.await;
        if let Some(pace) = pace {
            pace.produced(&shard, silent, &mut response).await;
        }
        match silent {
            false => call.answer(&response),
            true if failed(&response) => Answer::Close("produce with acks=0 failed"),
            true => Answer::Nothing,
        }
    });
    Ok(Accepted { answer, overlaps })
}

fn failed(response: &ProduceResponse) -> bool {
    response.responses.iter().flat_map(|t| &t.partition_responses).any(|p| p.error_code != 0)
}

type Outcome = Result<Appended, Failed>;

struct Failed {
    failure: ProduceFailure,
    /// -1 where the failure is not one of the log (Kafka: `ReplicaManager.appendRecordsToLeader`).
    log_start: i64,
}

impl From<ProduceFailure> for Failed {
    fn from(failure: ProduceFailure) -> Failed {
        Failed { failure, log_start: -1 }
    }
}

impl Failed {
    fn in_log(shard: &Shard, key: PartitionKey, failure: ProduceFailure) -> Failed {
        let unknown = matches!(
            failure.code,
            ErrorCode::UnknownTopicOrPartition
                | ErrorCode::NotLeaderOrFollower
                | ErrorCode::MessageTooLarge
                | ErrorCode::RecordListTooLarge
                | ErrorCode::CorruptMessage
                | ErrorCode::KafkaStorageError
        );
        let partition = shard.partitions.get(key).filter(|_| !unknown && !failure.before_log);
        Failed { failure, log_start: partition.map_or(-1, |p| p.bounds().log_start.0) }
    }
}

/// A leader's own write is never late in Kafka: the timeout of a request is for its followers.
const LEAST_TIMEOUT: Duration = Duration::from_secs(5);

/// One batch and its place in the response.
struct Batch {
    place: usize,
    key: PartitionKey,
    records: Bytes,
}

/// The batches of one request that belong to one shard.
struct ProduceCall {
    batches: Vec<Batch>,
    acks: Acks,
    context: ProduceContext,
    writer: Option<TransactionalWriter>,
    timeout: Duration,
}

impl ShardCall for ProduceCall {
    type Reply = Vec<(usize, Outcome)>;

    fn run(self, shard: &Rc<Shard>) -> impl Future<Output = Self::Reply> + 'static {
        let ProduceCall { batches, acks, context, writer, timeout: limit } = self;
        let shard = shard.clone();
        let memberships =
            writer.map(|writer| memberships(&shard, &writer, batches.iter().map(|b| (b.key, &b.records))));
        let memberships = memberships.into_iter().flatten().chain(std::iter::repeat(Membership::Known));
        let enqueued: Vec<_> = batches
            .into_iter()
            .zip(memberships)
            .map(|(Batch { place, key, records }, membership)| {
                (place, key, shard.produce(key, records, acks == Acks::All, context, membership))
            })
            .collect();
        async move {
            let finish = async {
                let mut outcomes = Vec::with_capacity(enqueued.len());
                let mut late = enqueued.into_iter();
                for (place, key, taken) in late.by_ref() {
                    let produced = match taken {
                        Ok(taken) => taken.ordered().await,
                        Err(failure) => Err(failure),
                    };
                    let outcome = match (produced, acks) {
                        (Err(failure), _) => Err(failure),
                        (Ok(produced), Acks::None) => Ok(produced.appended),
                        (Ok(produced), Acks::Leader) => produced.flushed().await,
                        (Ok(produced), Acks::All) => produced.applied().await,
                    };
                    outcomes.push((place, outcome.map_err(|failure| Failed::in_log(&shard, key, failure))));
                }
                outcomes
            };
            let outcomes = timeout(limit, finish).await.unwrap_or_default();
            // Where write-back has fallen behind, answers wait: clients have only so many requests on their way.
            if outcomes.iter().any(|(_, outcome)| outcome.is_ok()) {
                let _ = timeout(limit, shard.store.dirty().room()).await;
            }
            outcomes
        }
    }
}

/// Batches whose request asks for acks that there are not: Kafka sees that only when the coordinator has been asked about them.
struct RefuseCall {
    batches: Vec<Batch>,
    writer: Option<TransactionalWriter>,
}

impl ShardCall for RefuseCall {
    type Reply = Vec<(usize, Outcome)>;

    fn run(self, shard: &Rc<Shard>) -> impl Future<Output = Self::Reply> + 'static {
        let RefuseCall { batches, writer } = self;
        let memberships = writer.map(|writer| memberships(shard, &writer, batches.iter().map(|b| (b.key, &b.records))));
        let memberships = memberships.into_iter().flatten().chain(std::iter::repeat(Membership::Known));
        let asked: Vec<_> = batches.into_iter().map(|batch| batch.place).zip(memberships).collect();
        async move {
            let mut outcomes = Vec::with_capacity(asked.len());
            for (place, membership) in asked {
                let failure = membership.verdict().await.err().unwrap_or_else(|| ErrorCode::InvalidRequiredAcks.into());
                outcomes.push((place, Err(failure.into())));
            }
            outcomes
        }
    }
}

fn enqueue(context: &RequestContext, request: ProduceRequest) -> impl Future<Output = ProduceResponse> + use<> {
    let shard = &context.shard;
    let image = shard.image();
    let acks = Acks::from_code(request.acks);
    let mut refused = refusal(context, &request).err();
    let admin = context.client.id().is_some_and(|id| &*id == ADMIN_CLIENT_ID);
    let allow_zstd = context.version >= ZSTD_FROM;
    let mut writers = Writers::default();
    let mut places: Vec<Option<Outcome>> = Vec::new();
    let mut shape: Vec<(Str, Uuid, Vec<i32>)> = Vec::new();
    let mut by_shard: BTreeMap<ShardId, Vec<Batch>> = BTreeMap::new();
    for topic in request.topic_data {
        let by_id = context.version >= IDS_FROM;
        let found = find_allowed(context, Operation::Write, &image, by_id, &topic.name, topic.topic_id);
        let mut indexes = Vec::with_capacity(topic.partition_data.len());
        for data in topic.partition_data {
            indexes.push(data.index);
            let check = || -> Result<(PartitionKey, Bytes), ProduceFailure> {
                if let Some(failure) = &refused {
                    return Err(failure.clone());
                }
                let topic = found.as_ref().map_err(|error| *error)?;
                let index = topic.partition(data.index).ok_or(ErrorCode::UnknownTopicOrPartition)?;
                let (key, records) = (topic.key(index), data.records.ok_or(ErrorCode::InvalidRecord)?);
                writers.add(&only_batch(&records, allow_zstd)?);
                // Where the acks are good, the log looks at the batch: its topic, and its leader's.
                if acks.is_some() {
                    if shard.config.is_internal(&topic.name) && !admin {
                        return Err(ErrorCode::InvalidTopicException.into());
                    }
                    shard.leading(key)?;
                }
                Ok((key, records))
            };
            match check() {
                Ok((key, records)) => {
                    let batch = Batch { place: places.len(), key, records };
                    by_shard.entry(owner(key, shard.shards)).or_default().push(batch);
                    places.push(None);
                }
                Err(failure) => places.push(Some(Err(failure.into()))),
            }
        }
        if !indexes.is_empty() {
            shape.push((topic.name, topic.topic_id, indexes));
        }
    }
    refused = refused.or_else(|| writers.refusal());
    if let Some(failure) = refused {
        by_shard.clear();
        places.iter_mut().for_each(|place| *place = Some(Err(failure.clone().into())));
    }
    let writer = request
        .transactional_id
        .as_ref()
        .map(|id| TransactionalWriter { transactional_id: (&**id).into(), version: context.version });
    let produce = ProduceContext { allow_zstd };
    let limit = Duration::from_millis(request.timeout_ms.max(0) as u64).max(LEAST_TIMEOUT);
    let mut calls: Vec<CallFuture<ProduceCall>> = Vec::new();
    let mut refusals: Vec<CallFuture<RefuseCall>> = Vec::new();
    for (to, batches) in by_shard {
        let writer = writer.clone();
        match acks {
            Some(acks) => {
                let call = ProduceCall { batches, acks, context: produce, writer, timeout: limit };
                calls.push(shard.router.call(shard, to, call));
            }
            None => refusals.push(shard.router.call(shard, to, RefuseCall { batches, writer })),
        }
    }
    let (shard, client, version) = (shard.clone(), context.client.clone(), context.version);
    async move {
        let mut take = |outcomes: Vec<(usize, Outcome)>| {
            for (place, outcome) in outcomes {
                if let Some(slot) = places.get_mut(place) {
                    *slot = Some(outcome);
                }
            }
        };
        for call in calls {
            take(call.await);
        }
        for refusal in refusals {
            take(refusal.await);
        }
        let mut response = respond(shape, places);
        hints::produce(&shard, &client, version, &mut response).await;
        response
    }
}

/// Whether the whole of the request is refused: its transactional id may not write, which a null one may not.
fn refusal(context: &RequestContext, request: &ProduceRequest) -> Result<(), ProduceFailure> {
    let may = |id: &Str| context.may(Operation::Write, ResourceType::TransactionalId, id);
    if writes_in_transaction(request)? && !request.transactional_id.as_ref().is_some_and(may) {
        return Err(ErrorCode::TransactionalIdAuthorizationFailed.into());
    }
    Ok(())
}

fn respond(shape: Vec<(Str, Uuid, Vec<i32>)>, places: Vec<Option<Outcome>>) -> ProduceResponse {
    let mut outcomes = places.into_iter();
    let mut partition = |index: i32| {
        // A batch without an outcome was still on its way when the request's time was over.
        let outcome =
            outcomes.next().flatten().unwrap_or_else(|| Err(ProduceFailure::from(ErrorCode::RequestTimedOut).into()));
        match outcome {
            Ok(appended) => ProduceResponsePartitionProduceResponse {
                index,
                base_offset: appended.base_offset.0,
                log_append_time_ms: appended.append_time_ms,
                log_start_offset: appended.log_start.0,
                ..Default::default()
            },
            Err(Failed { failure, log_start }) => ProduceResponsePartitionProduceResponse {
                index,
                error_code: failure.code.code(),
                base_offset: -1,
                log_append_time_ms: -1,
                log_start_offset: log_start,
                record_errors: failure
                    .records
                    .into_iter()
                    .map(|(batch_index, message)| ProduceResponseBatchIndexAndErrorMessage {
                        batch_index,
                        batch_index_error_message: Some(message.into()),
                        ..Default::default()
                    })
                    .collect(),
                error_message: failure.message.map(Into::into),
                ..Default::default()
            },
        }
    };
    let responses = shape
        .into_iter()
        .map(|(name, topic_id, indexes)| ProduceResponseTopicProduceResponse {
            name,
            topic_id,
            partition_responses: indexes.into_iter().map(&mut partition).collect(),
            ..Default::default()
        })
        .collect();
    ProduceResponse { responses, ..Default::default() }
}
