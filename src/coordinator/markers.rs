//! Writing transaction markers to partitions of any shard.

use std::collections::BTreeMap;
use std::future::Future;
use std::rc::Rc;

use core_pinning::ShardId;
use corelane_protocol::ErrorCode;
use corelane_storage::model::{Offset, PartitionKey};
use futures::future::join_all;

use crate::controller::image::{OFFSETS_TOPIC, owner};
use crate::partition::Marker;
use crate::router::ShardCall;
use crate::shard::Shard;

/// Writes markers, each on the shard that owns its partition; returns their offsets, in the order of `markers`, when they are
/// durable and applied. Errors: [`Partition::write_marker`](crate::partition::Partition::write_marker). A partition that is not
/// there answers UNKNOWN_TOPIC_OR_PARTITION: if its topic is gone a transaction has nothing to end there any more, else it has
/// yet to be opened. Offsets committed in the transaction count, or are dropped, before a group's partition answers.
pub async fn write_markers(shard: &Rc<Shard>, markers: Vec<(PartitionKey, Marker)>) -> Vec<Result<Offset, ErrorCode>> {
    let mut answers = vec![Err(ErrorCode::UnknownServerError); markers.len()];
    let mut by_shard: BTreeMap<ShardId, Vec<(usize, PartitionKey, Marker)>> = BTreeMap::new();
    for (place, (key, marker)) in markers.into_iter().enumerate() {
        by_shard.entry(owner(key, shard.shards)).or_default().push((place, key, marker));
    }
    let calls: Vec<_> =
        by_shard.into_iter().map(|(to, markers)| shard.router.call(shard, to, WriteMarkers { markers })).collect();
    for call in calls {
        for (place, answer) in call.await {
            if let Some(slot) = answers.get_mut(place) {
                *slot = answer;
            }
        }
    }
    answers
}

/// Markers for partitions of one shard, with their places among the answers.
struct WriteMarkers {
    markers: Vec<(usize, PartitionKey, Marker)>,
}

impl ShardCall for WriteMarkers {
    type Reply = Vec<(usize, Result<Offset, ErrorCode>)>;

    fn run(self, shard: &Rc<Shard>) -> impl Future<Output = Self::Reply> + 'static {
        let shard = shard.clone();
        async move {
            let write = async |(place, key, marker)| {
                let answer = match shard.partitions.find(key) {
                    Ok(partition) if &*partition.topic == OFFSETS_TOPIC => {
                        match shard.coordinators.get(key.partition) {
                            Some(group) => group.end_transaction(marker).await,
                            None => Err(ErrorCode::CoordinatorLoadInProgress),
                        }
                    }
                    Ok(partition) => partition.write_marker(marker).await,
                    Err(error) => Err(error),
                };
                (place, answer)
            };
            join_all(self.markers.into_iter().map(write)).await
        }
    }
}
