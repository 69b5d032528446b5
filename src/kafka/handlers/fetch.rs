//! Fetch: reads from every shard that owns an asked partition, and waits once for the whole request.

use std::collections::BTreeMap;
use std::time::Duration;

use core_pinning::ShardId;
use core_pinning::time::{now, timeout_at};
use corelane_acl::{CLUSTER_NAME, Operation, ResourceType};
use corelane_protocol::messages::fetch_response::{
    FetchResponseAbortedTransaction, FetchResponseEpochEndOffset, FetchResponseFetchableTopicResponse,
    FetchResponsePartitionData,
};
use corelane_protocol::messages::{FetchRequest, FetchResponse};
use corelane_protocol::{ErrorCode, Records};
use corelane_storage::producer_state::AbortedTransaction;

use crate::kafka::fetch_read::{Asked, ReadCall};
use crate::kafka::fetch_session::{Context, TopicName, Wanted};
use crate::kafka::fetch_tails::{Part, Tail, Tails};
use crate::kafka::fetch_watch::Terms;
use crate::kafka::hints;
use crate::kafka::request::RequestContext;
use crate::kafka::request_memory::SMALL;
use crate::kafka::topics::{find_allowed, find_topic};
use crate::partition::{EpochCheck, FetchRead, FetchedRecords};

/// First version whose clients can read zstd (KIP-110).
const ZSTD_FROM: i16 = 10;
const READ_COMMITTED: i8 = 1;
/// Kafka: `FetchRequest.FUTURE_LOCAL_REPLICA_ID`.
const MOVING_REPLICA: i32 = -3;
/// What a watch reads at most for a request that waits: memory is only taken when it has come.
const PUSHED_MAX: usize = 1 << 20;

/// A large request waits no longer: it holds memory that others want.
const LARGE_WAITS_MAX: Duration = Duration::from_secs(1);

pub async fn handle(context: RequestContext, request: FetchRequest) -> FetchResponse {
    let replica = is_replica(&request);
    let mut response = answer(&context, request).await;
    hints::fetch(&context.shard, &context.client, context.version, &mut response).await;
    if replica {
        // it knows where the others are
        response.node_endpoints.clear();
    }
    response
}

async fn answer(context: &RequestContext, request: FetchRequest) -> FetchResponse {
    let shard = &context.shard;
    let session = match shard.fetch_sessions.context(&request, context.version >= 13, now()) {
        Ok(session) => session,
        Err(error) => return FetchResponse { error_code: error.code(), ..Default::default() },
    };
    match session {
        Context::Full { wanted } => {
            let fetched = fetch(context, &request, &wanted).await;
            let response = respond(&request, 0, wanted.iter().zip(fetched));
            held_up(context, &request, 0, &response).await.unwrap_or(response)
        }
        Context::Opened { session } => {
            let wanted = session.partitions.borrow().clone();
            let fetched = fetch(context, &request, &wanted).await;
            let response = respond(&request, session.id, wanted.iter().zip(fetched.iter().cloned()));
            if let Some(empty) = held_up(context, &request, 0, &response).await {
                shard.fetch_sessions.close(session.id);
                return empty;
            }
            remember(&mut session.partitions.borrow_mut(), &fetched);
            response
        }
        Context::Incremental { session } => {
            let wanted = session.partitions.borrow().clone();
            let fetched = fetch(context, &request, &wanted).await;
            let news = wanted.iter().zip(fetched.iter().cloned()).filter(|(wanted, fetched)| is_news(wanted, fetched));
            let response = respond(&request, session.id, news);
            if let Some(empty) = held_up(context, &request, session.id, &response).await {
                return empty;
            }
            remember(&mut session.partitions.borrow_mut(), &fetched);
            response
        }
    }
}

/// The empty answer that a client over its quota gets instead, which changes nothing of its session.
async fn held_up(
    context: &RequestContext,
    request: &FetchRequest,
    session_id: i32,
    response: &FetchResponse,
) -> Option<FetchResponse> {
    let pace = context.pace.as_ref().filter(|_| !is_replica(request))?;
    let wait = pace.fetched(&context.shard, context.version, response).await;
    let throttle_time_ms = i32::try_from(wait.as_millis()).unwrap_or(i32::MAX);
    (throttle_time_ms > 0).then(|| FetchResponse { session_id, throttle_time_ms, ..Default::default() })
}

/// Kafka: `CachedPartition.maybeUpdateResponseData`.
fn is_news(wanted: &Wanted, fetched: &FetchedRecords) -> bool {
    fetched.bytes > 0
        || fetched.error != ErrorCode::None
        || fetched.diverging.is_some()
        || fetched.high_watermark != wanted.told_high_watermark
        || fetched.log_start != wanted.told_log_start
}

/// Notes what the client was told, and lets the partitions that gave nothing go first next time.
fn remember(partitions: &mut Vec<Wanted>, fetched: &[FetchedRecords]) {
    for (wanted, fetched) in partitions.iter_mut().zip(fetched) {
        let failed = fetched.error != ErrorCode::None;
        wanted.told_high_watermark = if failed { -1 } else { fetched.high_watermark };
        wanted.told_log_start = fetched.log_start;
    }
    let order = std::mem::take(partitions);
    let got = |i: usize| fetched.get(i).is_some_and(|f| f.bytes > 0);
    let (last, first): (Vec<_>, Vec<_>) = order.into_iter().enumerate().partition(|(i, _)| got(*i));
    partitions.extend(first.into_iter().chain(last).map(|(_, wanted)| wanted));
}

/// Reads what there is, waits for `min_bytes` where there is less, up to `max_wait_ms`. As in Kafka, a partition that
/// failed ends the wait, one that is not known at all does not.
async fn fetch(context: &RequestContext, request: &FetchRequest, wanted: &[Wanted]) -> Vec<FetchedRecords> {
    let shard = &context.shard;
    let wait = Duration::from_millis(request.max_wait_ms.max(0) as u64);
    let deadline = now() + if context.size > SMALL { wait.min(LARGE_WAITS_MAX) } else { wait };
    let pace = context.pace.as_ref().filter(|_| !is_replica(request));
    let quota = pace.map_or(usize::MAX, |pace| pace.fetch_max_bytes(shard));
    let most = (request.max_bytes.max(0) as usize).min(shard.config.fetch_max_bytes()).min(quota);
    let mut fetched = vec![FetchedRecords::failed(ErrorCode::UnknownTopicOrPartition); wanted.len()];
    // Content with anything, and ready to wait for it: what such a request finds unread, the next one will get.
    let content = request.min_bytes == 1 && request.max_wait_ms > 0;
    let reading = Terms { missing: 1, read: Some(most.min(PUSHED_MAX)) };
    let mut tails = context.client.fetch_tails.take();
    let mut unread = tails.begin(route(context, request, wanted, &mut fetched), content);
    if content {
        tails.watch(shard, reading, |to| !unread.contains(&to));
        tails.look();
        hold(context, tails.bytes()).await;
    }
    loop {
        let max_bytes = if unread.is_empty() { most } else { read(context, &mut tails, &unread, most).await };
        let min_bytes = (request.min_bytes.max(0) as usize).min(max_bytes);
        let bytes = tails.bytes();
        if tails.is_settled() || bytes >= min_bytes || tails.is_empty() || now() >= deadline {
            break;
        }
        context.memory.shrink_to(bytes);
        let missing = (min_bytes - bytes).div_ceil(tails.shards());
        tails.watch(shard, if content { reading } else { Terms { missing, read: None } }, |_| true);
        if timeout_at(deadline, tails.changed()).await.is_err() {
            break;
        }
        unread = if content { Vec::new() } else { tails.ids() };
        if content {
            hold(context, tails.bytes()).await;
        }
    }
    tails.end(&mut fetched);
    if tails.shards() > 1 {
        keep_within(most, &mut fetched);
    }
    if content {
        context.client.fetch_tails.replace(tails);
    }
    fetched
}

/// Takes memory for what watches have read: what is new at the end of a log, and mostly in memory for all its readers.
async fn hold(context: &RequestContext, bytes: usize) {
    if bytes > 0 {
        context.memory.reserve(bytes).await;
    }
}

/// What of its topics a client may read.
#[derive(Clone, Copy)]
enum Readable {
    All,
    /// Those that it is allowed to.
    Allowed,
    Nothing,
}

/// Who says that it is a replica, by its number; below zero: it does not.
fn replica_id(request: &FetchRequest) -> i32 {
    if request.replica_id == -1 { request.replica_state.replica_id } else { request.replica_id }
}

fn is_replica(request: &FetchRequest) -> bool {
    replica_id(request) >= 0
}

/// It wants only what is committed. A replica on its way to another directory has all that there is.
fn reads_committed(request: &FetchRequest) -> bool {
    request.isolation_level == READ_COMMITTED && replica_id(request) != MOVING_REPLICA
}

/// Who says that it is a replica must belong to the cluster.
fn readable(context: &RequestContext, request: &FetchRequest) -> Readable {
    match is_replica(request) {
        false => Readable::Allowed,
        true if context.may(Operation::ClusterAction, ResourceType::Cluster, CLUSTER_NAME) => Readable::All,
        true => Readable::Nothing,
    }
}

/// Sorts the partitions by the shards that own them; what cannot be asked for is answered in `fetched`.
fn route(
    context: &RequestContext,
    request: &FetchRequest,
    wanted: &[Wanted],
    fetched: &mut [FetchedRecords],
) -> BTreeMap<ShardId, Part> {
    let (readable, replica) = (readable(context, request), is_replica(request));
    let committed = reads_committed(request);
    let image = context.shard.image();
    let mut parts: BTreeMap<ShardId, Part> = BTreeMap::new();
    for ((place, wanted), fetched) in wanted.iter().enumerate().zip(fetched) {
        let TopicName { name, id } = &wanted.topic;
        let by_id = context.version >= 13;
        let found = match readable {
            Readable::All => find_topic(&image, by_id, name, *id),
            Readable::Allowed => find_allowed(context, Operation::Read, &image, by_id, name, *id),
            Readable::Nothing => Err(ErrorCode::TopicAuthorizationFailed),
        };
        let key = found.and_then(|topic| {
            topic.partition(wanted.partition).map(|p| topic.key(p)).ok_or(ErrorCode::UnknownTopicOrPartition)
        });
        match key.and_then(|key| context.shard.leading(key).map(|to| (key, to))) {
            Ok((key, to)) => {
                let read = FetchRead {
                    offset: wanted.fetch_offset,
                    max_bytes: wanted.max_bytes.max(0) as usize,
                    at_least_one: false,
                    epochs: EpochCheck {
                        current_leader_epoch: wanted.current_leader_epoch,
                        last_fetched_epoch: wanted.last_fetched_epoch,
                    },
                    zstd: context.version >= ZSTD_FROM,
                    committed,
                    replica,
                };
                let part = parts.entry(to).or_default();
                part.asked.push(Asked { key, read });
                part.places.push(place);
            }
            Err(error) => *fetched = FetchedRecords::failed(error),
        }
    }
    parts
}

/// Reads `unread` shards, after taking memory for what the answer may hold: `most` bytes. Where they have been asked for more
/// than there is room for, each reads its share, so that nothing comes from a disk in vain. Gives the bytes that all may read.
async fn read(context: &RequestContext, tails: &mut Tails, unread: &[ShardId], most: usize) -> usize {
    let shard = &context.shard;
    let have = tails.bytes();
    let of_shard =
        |tail: &Tail| tail.asked().iter().fold(0, |sum: usize, a| sum.saturating_add(a.read.max_bytes)).min(most);
    let wanted = unread.iter().filter_map(|to| tails.get(*to)).map(of_shard).fold(0, usize::saturating_add);
    let room = wanted.min(most);
    let got = match room {
        0 => 0,
        _ => context.memory.reserve(room.saturating_add(have)).await.saturating_sub(have),
    };
    let max_bytes = if got < wanted { got / unread.len() } else { most };
    let call = |(to, tail): (ShardId, &Tail)| {
        (to, shard.router.call(shard, to, ReadCall { asked: tail.asked().clone(), max_bytes }))
    };
    let calls: Vec<_> = unread.iter().filter_map(|to| Some((*to, tails.get(*to)?))).map(call).collect();
    for (to, call) in calls {
        let told = call.await;
        if let Some(tail) = tails.get_mut(to) {
            tail.tell(told);
        }
    }
    if got < room { got } else { most }
}

/// Every shard read up to the whole limit. What is over it, in the order of the request, is fetched again next time; the
/// first partition with records keeps them whatever their size.
fn keep_within(max_bytes: usize, fetched: &mut [FetchedRecords]) {
    let mut total = 0;
    for records in fetched.iter_mut().filter(|f| f.bytes > 0) {
        if total > 0 && total + records.bytes > max_bytes {
            records.slices.clear();
            records.aborted.clear();
            records.bytes = 0;
        }
        total += records.bytes;
    }
}

fn respond<'a>(
    request: &FetchRequest,
    session_id: i32,
    partitions: impl Iterator<Item = (&'a Wanted, FetchedRecords)>,
) -> FetchResponse {
    // Who reads what is not committed, or nothing, is told of no aborted transactions, and not that there are none.
    let aborted = |fetched: &mut FetchedRecords, unknown: bool| {
        let one = |aborted: AbortedTransaction| FetchResponseAbortedTransaction {
            producer_id: aborted.producer.0,
            first_offset: aborted.first_offset.0,
            ..Default::default()
        };
        let found = std::mem::take(&mut fetched.aborted);
        let read = fetched.error == ErrorCode::None && fetched.diverging.is_none();
        (unknown || (read && reads_committed(request))).then(|| found.into_iter().map(one).collect())
    };
    let mut responses: Vec<FetchResponseFetchableTopicResponse> = Vec::new();
    let mut put = |wanted: &Wanted, mut fetched: FetchedRecords, unknown: bool| {
        let TopicName { name, id } = &wanted.topic;
        if !responses.last().is_some_and(|t| t.topic == *name && t.topic_id == *id) {
            responses.push(FetchResponseFetchableTopicResponse {
                topic: name.clone(),
                topic_id: *id,
                ..Default::default()
            });
        }
        if let Some(topic) = responses.last_mut() {
            let aborted_transactions = aborted(&mut fetched, unknown);
            let data = partition_data(wanted.partition, fetched);
            topic.partitions.push(FetchResponsePartitionData { aborted_transactions, ..data });
        }
    };
    // What could not even be asked for comes last.
    let mut last = Vec::new();
    for (wanted, fetched) in partitions {
        match fetched.error {
            ErrorCode::UnknownTopicOrPartition | ErrorCode::UnknownTopicId | ErrorCode::TopicAuthorizationFailed => {
                last.push((wanted, fetched));
            }
            _ => put(wanted, fetched, false),
        }
    }
    last.into_iter().for_each(|(wanted, fetched)| put(wanted, fetched, true));
    FetchResponse { session_id, responses, ..Default::default() }
}

fn partition_data(partition_index: i32, fetched: FetchedRecords) -> FetchResponsePartitionData {
    FetchResponsePartitionData {
        partition_index,
        error_code: fetched.error.code(),
        high_watermark: fetched.high_watermark,
        last_stable_offset: fetched.last_stable_offset,
        log_start_offset: fetched.log_start,
        diverging_epoch: fetched
            .diverging
            .map(|(epoch, end_offset)| FetchResponseEpochEndOffset { epoch, end_offset, ..Default::default() })
            .unwrap_or_default(),
        records: Some(Records::from(fetched.slices)),
        ..Default::default()
    }
}
