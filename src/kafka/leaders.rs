//! The leader epochs of partitions, asked of the shards that own them.

use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;

use core_pinning::ShardId;
use corelane_protocol::ErrorCode;
use corelane_storage::model::{PartitionKey, TopicId};
use hashbrown::HashMap;

use crate::controller::image::{TopicImage, owner};
use crate::router::ShardCall;
use crate::shard::Shard;

/// One partition as Metadata and DescribeTopicPartitions show it.
#[derive(Clone, Copy, Debug)]
pub struct PartitionState {
    pub error: ErrorCode,
    /// -1: offline.
    pub leader: i32,
    pub leader_epoch: i32,
    pub broker: i32,
}

#[derive(Debug, Default)]
pub struct Leaders(HashMap<PartitionKey, i32>);

impl Leaders {
    pub async fn of(shard: &Rc<Shard>, topics: impl Iterator<Item = TopicId>) -> Leaders {
        let topics: Arc<Vec<TopicId>> = Arc::new(topics.collect());
        let calls: Vec<_> = (0..shard.shards as u16)
            .map(|to| shard.router.call(shard, ShardId(to), EpochsCall { topics: topics.clone() }))
            .collect();
        let mut epochs = HashMap::new();
        for call in calls {
            epochs.extend(call.await);
        }
        Leaders(epochs)
    }

    pub fn state(&self, shard: &Shard, topic: &TopicImage, partition: u32) -> PartitionState {
        let key = topic.key(partition);
        let broker = shard.node.broker_id(owner(key, shard.shards));
        match self.0.get(&key) {
            Some(epoch) => PartitionState { error: ErrorCode::None, leader: broker, leader_epoch: *epoch, broker },
            // Its log did not open.
            None => PartitionState { error: ErrorCode::LeaderNotAvailable, leader: -1, leader_epoch: -1, broker },
        }
    }
}

struct EpochsCall {
    topics: Arc<Vec<TopicId>>,
}

impl ShardCall for EpochsCall {
    type Reply = Vec<(PartitionKey, i32)>;

    fn run(self, shard: &Rc<Shard>) -> impl Future<Output = Self::Reply> + 'static {
        let image = shard.image();
        let mut epochs = Vec::new();
        for topic in self.topics.iter().filter_map(|id| image.topic(*id)) {
            let keys = (0..topic.partitions).map(|p| topic.key(p));
            let here = keys.filter_map(|key| shard.partitions.get(key));
            epochs.extend(here.map(|p| (p.key, p.leader_epoch().leader_epoch())));
        }
        std::future::ready(epochs)
    }
}
