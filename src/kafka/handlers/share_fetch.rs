//! ShareFetch: lends records to a member of a share group, after taking what it says of those before.

use std::collections::BTreeMap;
use std::time::Duration;

use core_pinning::ShardId;
use core_pinning::time::{now, sleep, timeout_at};
use corelane_coordinator::share::in_flight::{Acknowledgement, AcquireMode};
use corelane_protocol::messages::share_fetch_response::{
    ShareFetchResponseAcquiredRecords, ShareFetchResponsePartitionData, ShareFetchResponseShareFetchableTopicResponse,
};
use corelane_protocol::messages::{ShareFetchRequest, ShareFetchResponse};
use corelane_protocol::{ErrorCode, Records, Str};
use corelane_storage::model::PartitionKey;
use futures::future::{join, join_all, select_all};

use crate::controller::image::owner;
use crate::kafka::hints;
use crate::kafka::request::RequestContext;
use crate::kafka::share::acknowledge::{Terms, acknowledge};
use crate::kafka::share::fetch::{Ask, BeginCall, LendCall, Lent};
use crate::kafka::share::homes;
use crate::kafka::share::partitions::find_readable;
use crate::kafka::share::sessions::{Context, Name, Told, Who};
use crate::kafka::share::wait::Wait;

/// First version that renews locks (KIP-1222) and bounds what is lent (KIP-1206).
pub(super) const RENEW_FROM: i16 = 2;
const RECORD_LIMIT: i8 = 1;
const MEMBER_ID_MAX: usize = 36;

pub fn is_member(id: &Str) -> bool {
    !id.is_empty() && id.encode_utf16().count() <= MEMBER_ID_MAX
}

pub async fn handle(context: RequestContext, request: ShareFetchRequest) -> ShareFetchResponse {
    match answer(&context, request).await {
        Ok(response) => response,
        Err(error) => ShareFetchResponse {
            error_code: error.code(),
            error_message: Some(error.message().into()),
            ..Default::default()
        },
    }
}

async fn answer(context: &RequestContext, request: ShareFetchRequest) -> Result<ShareFetchResponse, ErrorCode> {
    let shard = &context.shard;
    let (Some(group), Some(member)) = (&request.group_id, request.member_id.as_ref().filter(|id| is_member(id))) else {
        return Err(ErrorCode::InvalidRequest);
    };
    let who = Who { group: group.detach(), member: member.detach() };
    let renews = context.version >= RENEW_FROM && request.is_renew_ack;
    let asks = [request.max_bytes, request.min_bytes, request.max_records, request.max_wait_ms];
    if renews && asks.iter().any(|wanted| *wanted != 0) {
        return Err(ErrorCode::InvalidRequest);
    }
    let said = said(&request);
    let acknowledges = said.iter().any(|(_, batches)| !batches.is_empty());
    let named = (said.iter().map(|(name, _)| *name).collect(), forgotten(&request));
    let epoch = request.share_session_epoch;
    let taken = homes::fetch(shard, &context.client, &who, epoch, named, acknowledges).await;
    let (session, home) = match taken {
        Err(ErrorCode::ShareSessionLimitReached) => {
            // So that the client does not come again and again.
            sleep(Duration::from_millis(request.max_wait_ms.max(0) as u64)).await;
            return Err(ErrorCode::ShareSessionLimitReached);
        }
        other => other?,
    };
    let terms = Terms { renew_known: context.version >= RENEW_FROM, renews };
    let acknowledging =
        async { if acknowledges { acknowledge(context, &who, terms, said).await } else { BTreeMap::new() } };
    let fetching = async {
        match &session {
            Context::Opened(names) if !renews => fetch(context, &request, &who, names.clone(), true).await,
            Context::Incremental(names) if !renews => fetch(context, &request, &who, names.clone(), false).await,
            _ => Vec::new(),
        }
    };
    // What is said takes effect before anything is lent; while it is stored, more can be lent.
    let (acknowledged, mut lent) = join(acknowledging, fetching).await;
    lent.retain(|(_, lent)| lent.reached || lent.error != ErrorCode::None);
    if let Context::Incremental(_) = &session {
        let told = |(name, lent): &(Name, Lent)| Told {
            name: *name,
            records: lent.bytes > 0,
            failed: lent.error != ErrorCode::None,
        };
        let news = homes::news(shard, home, &who, lent.iter().map(told).collect()).await;
        let mut news = news.into_iter();
        lent.retain(|_| news.next().unwrap_or(true));
    }
    let responses = respond(lent, acknowledged);
    if session == Context::Final {
        homes::end(shard, home, &who).await;
    }
    let lock_ms = shard.group_properties(&who.group).share.record_lock_duration_ms;
    let mut response = ShareFetchResponse { acquisition_lock_timeout_ms: lock_ms, responses, ..Default::default() };
    hints::share_fetch(shard, &context.client, &mut response).await;
    Ok(response)
}

fn said(request: &ShareFetchRequest) -> Vec<(Name, Vec<Acknowledgement>)> {
    let partitions = request.topics.iter().flat_map(|topic| topic.partitions.iter().map(move |p| (topic.topic_id, p)));
    let named = partitions.map(|(topic, partition)| {
        let batches = partition.acknowledgement_batches.iter().map(|batch| Acknowledgement {
            first: batch.first_offset,
            last: batch.last_offset,
            types: batch.acknowledge_types.clone(),
        });
        (Name { topic, partition: partition.partition_index }, batches.collect())
    });
    named.collect()
}

fn forgotten(request: &ShareFetchRequest) -> Vec<Name> {
    let topics = request.forgotten_topics_data.iter();
    let named = topics.flat_map(|t| t.partitions.iter().map(|p| Name { topic: t.topic_id, partition: *p }));
    named.collect()
}

/// Lends what there is, or waits for something, up to `max_wait_ms`; `opens`: a session has just begun.
async fn fetch(
    context: &RequestContext,
    request: &ShareFetchRequest,
    who: &Who,
    mut names: Vec<Name>,
    opens: bool,
) -> Vec<(Name, Lent)> {
    let shard = &context.shard;
    let deadline = now() + Duration::from_millis(request.max_wait_ms.max(0) as u64);
    let mut answers: Vec<(Name, Lent)> = Vec::new();
    // Each request begins with another partition.
    let turn = usize::try_from(request.share_session_epoch).unwrap_or(0).checked_rem(names.len()).unwrap_or(0);
    names.rotate_left(turn);
    let mut wanted: Vec<(ShardId, Vec<(Name, PartitionKey)>)> = Vec::new();
    for name in names {
        match find_readable(context, name) {
            Ok(key) => {
                let to = owner(key, shard.shards);
                match wanted.iter_mut().find(|(known, _)| *known == to) {
                    Some((_, partitions)) => partitions.push((name, key)),
                    None => wanted.push((to, vec![(name, key)])),
                }
            }
            Err(error) => answers.push((name, Lent::failed(error))),
        }
    }
    let count: usize = wanted.iter().map(|(_, partitions)| partitions.len()).sum();
    if count == 0 || request.max_records == 0 || request.max_bytes == 0 {
        return answers;
    }
    if opens && wanted.len() > 1 {
        let begin = |(to, partitions): &(ShardId, Vec<(Name, PartitionKey)>)| {
            let keys = partitions.iter().map(|(_, key)| *key).collect();
            shard.router.call(shard, *to, BeginCall { who: who.clone(), keys })
        };
        join_all(wanted.iter().map(begin).collect::<Vec<_>>()).await;
    }
    let most = (request.max_bytes.max(0) as usize).min(shard.config.fetch_max_bytes());
    let least = (request.min_bytes.max(0) as usize).min(most);
    // Less than none is no limit of Kafka's: it waits as for any number, and lends nothing.
    let lends = request.max_records > 0;
    let mut ask = Ask {
        who: who.clone(),
        keys: Vec::new(),
        mode: if request.share_acquire_mode == RECORD_LIMIT {
            AcquireMode::RecordLimit
        } else {
            AcquireMode::BatchOptimized
        },
        max_records: request.max_records,
        batch_size: request.batch_size,
        max_bytes: 0,
        until: deadline,
        lend: false,
    };
    if most == 0 {
        // Kafka's word for a limit that lets nothing through (`PartitionMaxBytesStrategy.checkValidArguments`).
        let found = look(context, &wanted, &ask).await;
        answers.extend(found.into_iter().map(|(name, _, lent)| {
            (name, if lent.reached { Lent::failed(ErrorCode::UnknownServerError) } else { lent })
        }));
        return answers;
    }
    loop {
        let is_late = now() >= deadline;
        // As much from each, so that none waits for the others for ever.
        ask.max_bytes = (context.memory.reserve(most).await.min(most) / count).max(1);
        // A look costs a read: only who wants more than a byte needs one.
        let mut found = Found::new();
        let mut enough = lends && (least <= 1 || is_late);
        if !enough {
            found = look(context, &wanted, &ask).await;
            set_aside(&mut found, &mut wanted, &mut answers);
            enough = bytes(&found) >= least;
        }
        if enough && lends {
            found = look(context, &wanted, &Ask { lend: true, ..ask.clone() }).await;
        }
        set_aside(&mut found, &mut wanted, &mut answers);
        let lent = found.iter().any(|(_, _, lent)| !lent.ranges.is_empty());
        let reached = found.iter().any(|(_, _, lent)| lent.reached);
        // Who wants no bytes at all does not wait for any.
        let satisfied = lent || (enough && reached && (least == 0 || !lends));
        if satisfied || wanted.is_empty() || is_late {
            if !lends {
                found.iter_mut().for_each(|(_, _, lent)| lent.bytes = 0);
            }
            context.memory.shrink_to(bytes(&found));
            answers.extend(found.into_iter().map(|(name, _, lent)| (name, lent)));
            return answers;
        }
        context.memory.shrink_to(0);
        let waits: Vec<Wait> = wanted
            .iter()
            .map(|(to, _)| {
                let seen = found.iter().filter(|(_, key, _)| owner(*key, shard.shards) == *to);
                let seen = seen.map(|(_, key, lent)| (*key, lent.seen)).collect();
                Wait::begin(shard, *to, who.clone(), seen)
            })
            .collect();
        let _ = timeout_at(deadline, select_all(waits)).await;
    }
}

type Found = Vec<(Name, PartitionKey, Lent)>;

/// What has failed is answered so and asked no more: a partition that could not be loaded would be loaded again at each look, and the
/// last one does not wait for that.
fn set_aside(
    found: &mut Found,
    wanted: &mut Vec<(ShardId, Vec<(Name, PartitionKey)>)>,
    answers: &mut Vec<(Name, Lent)>,
) {
    for (name, _, lent) in found.extract_if(.., |(_, _, lent)| lent.error != ErrorCode::None) {
        wanted.iter_mut().for_each(|(_, partitions)| partitions.retain(|(known, _)| *known != name));
        answers.push((name, lent));
    }
    wanted.retain(|(_, partitions)| !partitions.is_empty());
}

fn bytes(found: &Found) -> usize {
    found.iter().map(|(_, _, lent)| lent.bytes).sum()
}

/// Asks one shard after the other, each for what is left of the records.
async fn look(context: &RequestContext, wanted: &[(ShardId, Vec<(Name, PartitionKey)>)], ask: &Ask) -> Found {
    let shard = &context.shard;
    let mut found = Vec::new();
    let mut left = ask.max_records;
    for (to, partitions) in wanted {
        let keys = partitions.iter().map(|(_, key)| *key).collect();
        let call = LendCall(Ask { keys, max_records: left, ..ask.clone() });
        let lent = shard.router.call(shard, *to, call).await;
        let records: i64 = lent.iter().map(Lent::records).sum();
        left = left.saturating_sub(i32::try_from(records).unwrap_or(i32::MAX));
        found.extend(partitions.iter().zip(lent).map(|((name, key), lent)| (*name, *key, lent)));
    }
    found
}

fn respond(
    lent: Vec<(Name, Lent)>,
    mut acknowledged: BTreeMap<Name, ErrorCode>,
) -> Vec<ShareFetchResponseShareFetchableTopicResponse> {
    let mut partitions: Vec<(Name, ShareFetchResponsePartitionData)> = Vec::with_capacity(lent.len());
    for (name, lent) in lent {
        let acquired = lent.ranges.iter().map(|range| ShareFetchResponseAcquiredRecords {
            first_offset: range.first,
            last_offset: range.last,
            delivery_count: range.delivery_count,
            ..Default::default()
        });
        let failed = lent.error != ErrorCode::None;
        partitions.push((
            name,
            ShareFetchResponsePartitionData {
                partition_index: name.partition,
                error_code: lent.error.code(),
                error_message: failed.then(|| lent.error.message().into()),
                acquired_records: acquired.collect(),
                records: Some(Records::from(lent.slices)),
                ..acknowledgement(acknowledged.remove(&name))
            },
        ));
    }
    for (name, error) in acknowledged {
        let data = ShareFetchResponsePartitionData {
            partition_index: name.partition,
            records: Some(Records::from(Vec::new())),
            ..acknowledgement(Some(error))
        };
        partitions.push((name, data));
    }
    let mut responses: Vec<ShareFetchResponseShareFetchableTopicResponse> = Vec::new();
    for (name, data) in partitions {
        match responses.iter_mut().find(|topic| topic.topic_id == name.topic) {
            Some(topic) => topic.partitions.push(data),
            None => responses.push(ShareFetchResponseShareFetchableTopicResponse {
                topic_id: name.topic,
                partitions: vec![data],
                ..Default::default()
            }),
        }
    }
    responses
}

fn acknowledgement(error: Option<ErrorCode>) -> ShareFetchResponsePartitionData {
    let error = error.unwrap_or(ErrorCode::None);
    ShareFetchResponsePartitionData {
        acknowledge_error_code: error.code(),
        acknowledge_error_message: (error != ErrorCode::None).then(|| error.message().into()),
        ..Default::default()
    }
}
