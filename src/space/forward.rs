//! Retention brought forward, when the disk is nearly full.
//!
//! Whole segments go, the one whose newest record is oldest first, over all partitions of the node. A partition gives only
//! what its topic would let go some time: `cleanup.policy` names `delete`, and `retention.ms` or `retention.bytes` is limited.
//! Never: the active segment, entries that are not applied, records younger than `storage.min.retention.ms`, the broker's own
//! topics.

use std::future::Future;
use std::rc::Rc;

use core_pinning::ShardId;
use core_pinning::task::yield_if_needed;
use core_pinning::time::wall_ms;
use corelane_storage::Expendable;
use corelane_storage::model::PartitionKey;

use crate::partition::Partition;
use crate::router::ShardCall;
use crate::shard::Shard;

/// What went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Forwarded {
    pub segments: usize,
    pub bytes: u64,
}

/// A segment of a shard's partition that may go.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    partition: PartitionKey,
    segment: Expendable,
}

/// Deletes segments until `bytes` are free, or nothing is left that may go.
pub async fn free(shard: &Rc<Shard>, bytes: u64) -> Forwarded {
    let before_ms = wall_ms().saturating_sub(shard.config.broker().space.min_retention_ms);
    let replies = shard.router.call_each(shard, shard.all_shards(), CandidatesCall { before_ms, bytes }).await;
    let mut candidates: Vec<(ShardId, Candidate)> = Vec::new();
    for (of, found) in shard.all_shards().zip(replies) {
        candidates.extend(found.into_iter().map(|candidate| (of, candidate)));
    }
    // Stable: the segments of one partition stay in their order.
    candidates.sort_by_key(|(_, c)| (c.segment.max_timestamp, c.partition));
    let mut freed = Forwarded::default();
    for (of, candidate) in candidates {
        if freed.bytes >= bytes {
            break;
        }
        if shard.router.call(shard, of, LetGoCall(candidate)).await {
            freed.segments += 1;
            freed.bytes += candidate.segment.bytes;
        }
    }
    freed
}

/// The oldest segments of each partition of a shard that may go, up to `bytes`.
#[derive(Clone)]
struct CandidatesCall {
    before_ms: i64,
    bytes: u64,
}

impl ShardCall for CandidatesCall {
    type Reply = Vec<Candidate>;

    fn run(self, shard: &Rc<Shard>) -> impl Future<Output = Self::Reply> + 'static {
        let partitions = shard.partitions.all();
        async move {
            let mut found = Vec::new();
            for partition in partitions.iter().filter(|p| may_give(p)) {
                match partition.log().expendable(self.before_ms, self.bytes).await {
                    Ok(segments) => {
                        let candidate = |segment| Candidate { partition: partition.key, segment };
                        found.extend(segments.into_iter().map(candidate));
                    }
                    Err(error) => {
                        tracing::warn!(topic = %partition.topic, partition = partition.index, %error, "nothing can be let go");
                    }
                }
                yield_if_needed().await;
            }
            found
        }
    }
}

fn may_give(partition: &Partition) -> bool {
    let config = partition.log().config();
    let limited = config.retention_ms >= 0 || config.retention_bytes >= 0;
    !partition.is_deleted() && config.cleanup.delete && limited && !config.essential
}

/// True if the segment is gone.
struct LetGoCall(Candidate);

impl ShardCall for LetGoCall {
    type Reply = bool;

    fn run(self, shard: &Rc<Shard>) -> impl Future<Output = bool> + 'static {
        let LetGoCall(Candidate { partition, segment }) = self;
        let partition = shard.partitions.get(partition);
        async move {
            let Some(partition) = partition else { return false };
            let (topic, index) = (&partition.topic, partition.index);
            let (bytes, newest_ms) = (segment.bytes, segment.max_timestamp);
            match partition.log().trim(segment.end).await {
                Ok(()) => {
                    let log_start = segment.end.0;
                    tracing::warn!(%topic, partition = index, bytes, newest_ms, log_start, "retention brought forward");
                    true
                }
                Err(error) => {
                    tracing::error!(%topic, partition = index, %error, "retention could not be brought forward");
                    false
                }
            }
        }
    }
}
