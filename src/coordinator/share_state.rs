//! Reaching the share coordinators, from any shard.

use std::collections::BTreeMap;
use std::future::Future;
use std::rc::Rc;

use core_pinning::ShardId;
use corelane_coordinator::group::partition_for;
use corelane_coordinator::share::{Answer, Operation, Refusal, SharePartitionKey};
use corelane_protocol::ErrorCode;
use corelane_storage::model::TopicId;
use futures::future::join_all;

use crate::controller::image::{SHARE_STATE_TOPIC, TopicImage, owner};
use crate::router::ShardCall;
use crate::shard::Shard;

/// The partition of `__share_group_state` that a partition of a share group belongs to.
pub fn share_state_partition(topic: &TopicImage, key: &SharePartitionKey) -> u32 {
    partition_for(&key.to_string(), topic.partitions as i32) as u32
}

type Place = usize;

/// Runs operations, each on the machine that its key belongs to; answers come in their order. Those of one key run in the order
/// given. Errors of a coordinator that is not there (yet) are among the answers.
pub async fn share_states(
    shard: &Rc<Shard>,
    operations: Vec<(SharePartitionKey, Operation)>,
) -> Vec<Result<Answer, Refusal>> {
    let mut answers: Vec<Result<Answer, Refusal>> = vec![Err(ErrorCode::NotCoordinator.into()); operations.len()];
    let image = shard.image();
    // Where nobody has asked for a coordinator yet there is none.
    let Some(topic) = image.topic_named(SHARE_STATE_TOPIC) else { return answers };
    let mut by_shard: BTreeMap<ShardId, Vec<(Place, u32, SharePartitionKey, Operation)>> = BTreeMap::new();
    for (place, (key, operation)) in operations.into_iter().enumerate() {
        let partition = share_state_partition(topic, &key);
        let to = owner(topic.key(partition), shard.shards);
        by_shard.entry(to).or_default().push((place, partition, key, operation));
    }
    let calls: Vec<_> = by_shard
        .into_iter()
        .map(|(to, operations)| shard.router.call(shard, to, ShareStateCall { operations }))
        .collect();
    for call in calls {
        for (place, answer) in call.await {
            if let Some(slot) = answers.get_mut(place) {
                *slot = answer;
            }
        }
    }
    answers
}

/// Operations of one shard, with their places among the answers and their partitions of `__share_group_state`.
struct ShareStateCall {
    operations: Vec<(Place, u32, SharePartitionKey, Operation)>,
}

impl ShardCall for ShareStateCall {
    type Reply = Vec<(Place, Result<Answer, Refusal>)>;

    fn run(self, shard: &Rc<Shard>) -> impl Future<Output = Self::Reply> + 'static {
        let image = shard.image();
        let one = |(place, partition, key, operation): (Place, u32, SharePartitionKey, Operation)| {
            let exists = image.topic(TopicId(key.topic.0)).is_some_and(|t| t.partition(key.partition).is_some());
            let share = shard.coordinators.share_state(partition);
            let answer = share.map(|share| share.handle(&key, &operation, exists));
            async move {
                match answer {
                    Some(answer) => (place, answer.await),
                    None => (place, Err(ErrorCode::NotCoordinator.into())),
                }
            }
        };
        let all: Vec<_> = self.operations.into_iter().map(one).collect();
        join_all(all)
    }
}
