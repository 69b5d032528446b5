//! DescribeShareGroupOffsets (KIP-932): where share groups are in their partitions, and how much is left.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use corelane_coordinator::share::{Answer, Operation, Refusal, Summary};
use corelane_protocol::messages::{
    DescribeShareGroupOffsetsRequest, DescribeShareGroupOffsetsRequestGroup, DescribeShareGroupOffsetsResponse,
    DescribeShareGroupOffsetsResponseGroup, DescribeShareGroupOffsetsResponsePartition,
    DescribeShareGroupOffsetsResponseTopic,
};
use corelane_protocol::{ErrorCode, Str, Uuid};
use corelane_storage::model::TopicId;

use crate::coordinator::{ask_group, ask_share_states};
use crate::kafka::each_partition::{each_partition, partition_of};
use crate::kafka::request::RequestContext;
use crate::partition::OffsetSpec;
use crate::shard::Shard;

/// Of a partition that the group has not begun to read.
const NOT_KNOWN: i64 = -1;
/// Nobody looks at the epoch of whoever asks.
const NO_EPOCH: i32 = -1;

pub async fn handle(
    context: RequestContext,
    request: DescribeShareGroupOffsetsRequest,
) -> DescribeShareGroupOffsetsResponse {
    let mut groups = Vec::with_capacity(request.groups.len());
    for group in &request.groups {
        groups.push(describe(&context.shard, group).await.unwrap_or_else(|error| {
            DescribeShareGroupOffsetsResponseGroup {
                group_id: group.group_id.clone(),
                error_code: error.code(),
                error_message: Some(Str::from_static(error.message())),
                ..Default::default()
            }
        }));
    }
    DescribeShareGroupOffsetsResponse { groups, ..Default::default() }
}

/// A topic of the answer, and the partitions that were asked for.
type Asked = (Uuid, Str, Vec<i32>);

async fn describe(
    shard: &Rc<Shard>,
    group: &DescribeShareGroupOffsetsRequestGroup,
) -> Result<DescribeShareGroupOffsetsResponseGroup, ErrorCode> {
    let (known, unknown) = asked_of(shard, group).await?;
    let operations = known.iter().flat_map(|(id, _, indexes)| indexes.iter().map(|i| (*id, *i, Operation::Summary)));
    let operations: Vec<_> = operations.collect();
    let answers = ask_share_states(shard, &group.group_id, operations).await;
    let summaries: Vec<(&Asked, i32, Option<Summary>)> = known
        .iter()
        .flat_map(|asked| asked.2.iter().map(move |index| (asked, *index)))
        .map(|(asked, index)| (asked, index, answers.get(&asked.0).and_then(|of| of.get(&index)).and_then(summary)))
        .collect();
    let ends = ends(shard, &summaries).await;
    let mut partitions: BTreeMap<Uuid, Vec<_>> = BTreeMap::new();
    for ((asked, index, summary), end) in summaries.iter().zip(ends) {
        partitions.entry(asked.0).or_default().push(described(*index, *summary, end));
    }
    let mut topics: Vec<_> = known
        .into_iter()
        .map(|(topic_id, topic_name, _)| DescribeShareGroupOffsetsResponseTopic {
            topic_id,
            topic_name,
            partitions: partitions.remove(&topic_id).unwrap_or_default(),
            ..Default::default()
        })
        .collect();
    topics.extend(unknown);
    Ok(DescribeShareGroupOffsetsResponseGroup { group_id: group.group_id.clone(), topics, ..Default::default() })
}

/// What is to be looked up, each partition once, and what is known not to be there.
async fn asked_of(
    shard: &Rc<Shard>,
    group: &DescribeShareGroupOffsetsRequestGroup,
) -> Result<(Vec<Asked>, Vec<DescribeShareGroupOffsetsResponseTopic>), ErrorCode> {
    let image = shard.image();
    let Some(topics) = &group.topics else {
        let id = group.group_id.clone();
        let all = ask_group(shard, &group.group_id, move |groups, _| groups.initialized_share_partitions(&id)).await?;
        let named = all.into_iter().filter_map(|(id, indexes)| {
            Some((id, image.topic(TopicId(id.0))?.wire_name(), indexes.into_iter().collect()))
        });
        return Ok((named.collect(), Vec::new()));
    };
    let (mut known, mut unknown): (Vec<Asked>, Vec<_>) = Default::default();
    for topic in topics {
        match image.topic_named(&topic.topic_name) {
            Some(found) => {
                let place = known.iter().position(|(id, ..)| *id == found.uuid()).unwrap_or(known.len());
                if place == known.len() {
                    known.push((found.uuid(), topic.topic_name.clone(), Vec::new()));
                }
                let Some((.., indexes)) = known.get_mut(place) else { continue };
                let new = topic.partitions.iter().filter(|index| !indexes.contains(index)).copied();
                let new: BTreeSet<i32> = new.collect();
                indexes.extend(new);
            }
            None => unknown.push(DescribeShareGroupOffsetsResponseTopic {
                topic_name: topic.topic_name.clone(),
                partitions: topic.partitions.iter().map(|index| described(*index, None, None)).collect(),
                ..Default::default()
            }),
        }
    }
    Ok((known, unknown))
}

/// An error is no more than that nothing is known.
fn summary(answer: &Result<Answer, Refusal>) -> Option<Summary> {
    match answer {
        Ok(Answer::Summary(summary)) => Some(*summary),
        _ => None,
    }
}

type End = Option<Result<i64, ErrorCode>>;

/// Ends of the partitions of which a group has read something.
async fn ends(shard: &Rc<Shard>, summaries: &[(&Asked, i32, Option<Summary>)]) -> Vec<End> {
    let image = shard.image();
    let has_begun = |summary: &Summary| summary.start_offset != NOT_KNOWN && summary.delivery_complete_count != -1;
    let begun: Vec<bool> = summaries.iter().map(|(_, _, summary)| summary.as_ref().is_some_and(has_begun)).collect();
    let to_ask = summaries.iter().zip(&begun).filter(|(_, begun)| **begun).map(|((asked, index, _), _)| {
        let topic = image.topic(TopicId(asked.0.0)).ok_or(ErrorCode::UnknownTopicOrPartition);
        partition_of(&topic, *index).map(|key| (key, ()))
    });
    let answers = each_partition(shard, to_ask.collect(), |partition, ()| async move {
        partition.list_offset(OffsetSpec::Latest, NO_EPOCH, false).await.map(|at| at.offset)
    });
    let mut answers = answers.await.into_iter();
    begun.into_iter().map(|begun| if begun { answers.next() } else { None }).collect()
}

fn described(index: i32, summary: Option<Summary>, end: End) -> DescribeShareGroupOffsetsResponsePartition {
    let nothing = DescribeShareGroupOffsetsResponsePartition {
        partition_index: index,
        start_offset: NOT_KNOWN,
        lag: -1,
        ..Default::default()
    };
    match (summary, end) {
        (None, _) => nothing,
        (Some(summary), None) => DescribeShareGroupOffsetsResponsePartition {
            start_offset: summary.start_offset,
            leader_epoch: summary.leader_epoch,
            ..nothing
        },
        (Some(_), Some(Err(error))) => DescribeShareGroupOffsetsResponsePartition {
            partition_index: index,
            error_code: error.code(),
            error_message: Some(Str::from_static(error.message())),
            ..Default::default()
        },
        (Some(summary), Some(Ok(end))) => DescribeShareGroupOffsetsResponsePartition {
            start_offset: summary.start_offset,
            leader_epoch: summary.leader_epoch,
            lag: end - summary.start_offset - i64::from(summary.delivery_complete_count),
            ..nothing
        },
    }
}
