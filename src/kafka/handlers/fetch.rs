//! Fetch: reads from every shard that owns an asked partition, and waits once for the whole request.

use std::collections::BTreeMap;
use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

use core_pinning::ShardId;
use core_pinning::time::{Instant, now, timeout};
use corelane_protocol::messages::fetch_response::{
    FetchResponseEpochEndOffset, FetchResponseFetchableTopicResponse, FetchResponsePartitionData,
};
use corelane_protocol::messages::{FetchRequest, FetchResponse};
use corelane_protocol::{ErrorCode, Records};
use corelane_storage::model::PartitionKey;
use futures::stream::{FuturesUnordered, StreamExt};

use crate::controller::image::owner;
use crate::kafka::fetch_session::{Context, TopicName, Wanted};
use crate::kafka::request::RequestContext;
use crate::kafka::topics::find_topic;
use crate::partition::{EpochCheck, FetchRead, FetchWaiter, FetchedRecords, Partition};
use crate::router::ShardCall;
use crate::shard::Shard;

/// First version whose clients can read zstd (KIP-110).
const ZSTD_FROM: i16 = 10;

pub async fn handle(context: RequestContext, request: FetchRequest) -> FetchResponse {
    let shard = &context.shard;
    let session = match shard.fetch_sessions.context(&request, context.version >= 13) {
        Ok(session) => session,
        Err(error) => return FetchResponse { error_code: error.code(), ..Default::default() },
    };
    match session {
        Context::Full { wanted } => {
            let fetched = fetch(&context, &request, &wanted).await;
            respond(0, wanted.iter().zip(fetched))
        }
        Context::Opened { session } => {
            let wanted = session.partitions.borrow().clone();
            let fetched = fetch(&context, &request, &wanted).await;
            let response = respond(session.id, wanted.iter().zip(fetched.iter().cloned()));
            remember(&mut session.partitions.borrow_mut(), &fetched);
            response
        }
        Context::Incremental { session } => {
            let wanted = session.partitions.borrow().clone();
            let fetched = fetch(&context, &request, &wanted).await;
            let news = wanted.iter().zip(fetched.iter().cloned()).filter(|(wanted, fetched)| is_news(wanted, fetched));
            let response = respond(session.id, news);
            remember(&mut session.partitions.borrow_mut(), &fetched);
            response
        }
    }
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

/// One partition and its place in the request.
#[derive(Clone, Copy)]
struct Item {
    place: usize,
    key: PartitionKey,
    read: FetchRead,
}

/// Reads what there is, waits for `min_bytes` where there is less, up to `max_wait_ms`. As in Kafka, a partition that
/// failed ends the wait, one that is not known at all does not.
async fn fetch(context: &RequestContext, request: &FetchRequest, wanted: &[Wanted]) -> Vec<FetchedRecords> {
    let shard = &context.shard;
    let deadline = now() + Duration::from_millis(request.max_wait_ms.max(0) as u64);
    let most = (request.max_bytes.max(0) as usize).min(shard.config.fetch_max_bytes());
    let mut fetched = vec![FetchedRecords::failed(ErrorCode::UnknownTopicOrPartition); wanted.len()];
    let items = route(context, wanted, &mut fetched);
    loop {
        let max_bytes = reserve(context, &items, most).await;
        let min_bytes = (request.min_bytes.max(0) as usize).min(max_bytes);
        read(shard, &items, max_bytes, &mut fetched).await;
        let bytes: usize = fetched.iter().map(|f| f.bytes).sum();
        let told = items.values().flatten().filter_map(|item| fetched.get(item.place));
        let settled = told.into_iter().any(|f| f.error != ErrorCode::None || f.diverging.is_some());
        if settled || bytes >= min_bytes || items.is_empty() || now() >= deadline {
            return fetched;
        }
        context.memory.shrink_to(bytes);
        if !wait(shard, &items, &fetched, min_bytes - bytes, deadline).await {
            return fetched;
        }
    }
}

/// Takes memory for what the shards may read, of which the answer keeps `most` at most. Gives the bytes it may be.
async fn reserve(context: &RequestContext, items: &BTreeMap<ShardId, Vec<Item>>, most: usize) -> usize {
    let of_shard =
        |items: &Vec<Item>| items.iter().fold(0, |sum: usize, i| sum.saturating_add(i.read.max_bytes)).min(most);
    let wanted = items.values().map(of_shard).fold(0, usize::saturating_add);
    let got = if wanted == 0 { 0 } else { context.memory.reserve(wanted).await };
    if got < wanted { got / items.len() } else { most }
}

/// Sorts the partitions by the shards that own them; what cannot be asked for is answered in `fetched`.
fn route(context: &RequestContext, wanted: &[Wanted], fetched: &mut [FetchedRecords]) -> BTreeMap<ShardId, Vec<Item>> {
    let image = context.shard.image();
    let mut items: BTreeMap<ShardId, Vec<Item>> = BTreeMap::new();
    for ((place, wanted), fetched) in wanted.iter().enumerate().zip(fetched) {
        let TopicName { name, id } = &wanted.topic;
        let key = find_topic(&image, context.version >= 13, name, *id).and_then(|topic| {
            topic.partition(wanted.partition).map(|p| topic.key(p)).ok_or(ErrorCode::UnknownTopicOrPartition)
        });
        match key {
            Ok(key) => {
                let read = FetchRead {
                    offset: wanted.fetch_offset,
                    max_bytes: wanted.max_bytes.max(0) as usize,
                    at_least_one: false,
                    epochs: EpochCheck {
                        current_leader_epoch: wanted.current_leader_epoch,
                        last_fetched_epoch: wanted.last_fetched_epoch,
                    },
                    zstd: context.version >= ZSTD_FROM,
                };
                items.entry(owner(key, context.shard.shards)).or_default().push(Item { place, key, read });
            }
            Err(error) => *fetched = FetchedRecords::failed(error),
        }
    }
    items
}

struct ReadCall {
    items: Vec<Item>,
    max_bytes: usize,
}

impl ShardCall for ReadCall {
    type Reply = Vec<(usize, FetchedRecords)>;

    fn run(self, shard: &Rc<Shard>) -> impl Future<Output = Self::Reply> + 'static {
        let shard = shard.clone();
        async move {
            let mut rest = self.max_bytes;
            let mut any = false;
            let mut fetched = Vec::with_capacity(self.items.len());
            for Item { place, key, mut read } in self.items {
                let partition = match shard.partitions.find(key) {
                    Ok(partition) => partition,
                    Err(error) => {
                        fetched.push((place, FetchedRecords::failed(error)));
                        continue;
                    }
                };
                read.max_bytes = read.max_bytes.min(rest);
                read.at_least_one = !any;
                let records = partition.fetch(read).await;
                rest = rest.saturating_sub(records.bytes);
                any |= records.bytes > 0;
                fetched.push((place, records));
            }
            fetched
        }
    }
}

async fn read(
    shard: &Rc<Shard>,
    items: &BTreeMap<ShardId, Vec<Item>>,
    max_bytes: usize,
    fetched: &mut [FetchedRecords],
) {
    let calls: Vec<_> = items
        .iter()
        .map(|(to, items)| shard.router.call(shard, *to, ReadCall { items: items.clone(), max_bytes }))
        .collect();
    for call in calls {
        for (place, records) in call.await {
            if let Some(slot) = fetched.get_mut(place) {
                *slot = records;
            }
        }
    }
    if items.len() > 1 {
        keep_within(max_bytes, fetched);
    }
}

/// Every shard read up to the whole limit. What is over it, in the order of the request, is fetched again next time; the
/// first partition with records keeps them whatever their size.
fn keep_within(max_bytes: usize, fetched: &mut [FetchedRecords]) {
    let mut total = 0;
    for records in fetched.iter_mut().filter(|f| f.bytes > 0) {
        if total > 0 && total + records.bytes > max_bytes {
            records.slices.clear();
            records.bytes = 0;
        }
        total += records.bytes;
    }
}

/// Counts growth of the partitions of one shard until `missing` bytes have come.
struct WaitCall {
    id: u64,
    /// Partition, and the high watermark that was seen there.
    partitions: Vec<(PartitionKey, i64)>,
    missing: usize,
    deadline: Instant,
}

impl ShardCall for WaitCall {
    type Reply = ();

    fn run(self, shard: &Rc<Shard>) -> impl Future<Output = ()> + 'static {
        let waiter = FetchWaiter::new(self.missing as i64);
        let found = self.partitions.iter().filter_map(|(key, seen)| Some((shard.partitions.get(*key)?, *seen)));
        let found: Vec<(Rc<Partition>, i64)> = found.collect();
        if found.len() < self.partitions.len() {
            waiter.fire();
        }
        found.iter().for_each(|(partition, seen)| partition.watch(&waiter, *seen));
        shard.fetch_waits.borrow_mut().insert(self.id, waiter.clone());
        let partitions = found.into_iter().map(|(partition, _)| partition).collect();
        let watch = Watch { shard: shard.clone(), id: self.id, partitions, waiter };
        async move {
            let left = self.deadline.saturating_duration_since(now());
            let _ = timeout(left, watch.waiter.fired()).await;
        }
    }
}

/// A wait, until it is dropped: answered, cancelled, or its connection gone.
struct Watch {
    shard: Rc<Shard>,
    id: u64,
    partitions: Vec<Rc<Partition>>,
    waiter: Rc<FetchWaiter>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.partitions.iter().for_each(|partition| partition.forget(&self.waiter));
        self.shard.fetch_waits.borrow_mut().remove(&self.id);
    }
}

/// The fetch is answered; the shard need not wait any longer.
struct CancelWait {
    id: u64,
}

impl ShardCall for CancelWait {
    type Reply = ();

    fn run(self, shard: &Rc<Shard>) -> impl Future<Output = ()> + 'static {
        if let Some(waiter) = shard.fetch_waits.borrow().get(&self.id) {
            waiter.fire();
        }
        std::future::ready(())
    }
}

/// Waits on all shards at once; false when the time is over.
async fn wait(
    shard: &Rc<Shard>,
    items: &BTreeMap<ShardId, Vec<Item>>,
    fetched: &[FetchedRecords],
    missing: usize,
    deadline: Instant,
) -> bool {
    let id = shard.next_wait_id();
    let seen = |item: &Item| (item.key, fetched.get(item.place).map_or(-1, |f| f.high_watermark));
    let mut waits: FuturesUnordered<_> = items
        .iter()
        .map(|(to, items)| {
            let call = WaitCall { id, partitions: items.iter().map(seen).collect(), missing, deadline };
            shard.router.call(shard, *to, call)
        })
        .collect();
    waits.next().await;
    if !waits.is_empty() {
        items.keys().for_each(|to| drop(shard.router.call(shard, *to, CancelWait { id })));
    }
    now() < deadline
}

fn respond<'a>(session_id: i32, partitions: impl Iterator<Item = (&'a Wanted, FetchedRecords)>) -> FetchResponse {
    let mut responses: Vec<FetchResponseFetchableTopicResponse> = Vec::new();
    for (wanted, fetched) in partitions {
        let TopicName { name, id } = &wanted.topic;
        if !responses.last().is_some_and(|t| t.topic == *name && t.topic_id == *id) {
            responses.push(FetchResponseFetchableTopicResponse {
                topic: name.clone(),
                topic_id: *id,
                ..Default::default()
            });
        }
        if let Some(topic) = responses.last_mut() {
            topic.partitions.push(partition_data(wanted.partition, fetched));
        }
    }
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
