//! The leader epochs of partitions, asked of the shards that own them.

use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;

use corelane_protocol::ErrorCode;
use corelane_storage::model::{PartitionKey, TopicId};
use hashbrown::HashMap;

use crate::controller::image::{TopicImage, owner};
use crate::node::Listener;
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
pub struct Leaders {
    epochs: HashMap<PartitionKey, i32>,
    /// What is wrong with every leader: those who ask cannot reach it.
    unreachable: Option<ErrorCode>,
}

impl Leaders {
    pub async fn of(shard: &Rc<Shard>, topics: impl Iterator<Item = TopicId>) -> Leaders {
        let call = EpochsCall { topics: Arc::new(topics.collect()) };
        let replies = shard.router.call_each(shard, shard.all_shards(), call).await;
        Leaders { epochs: replies.into_iter().flatten().collect(), unreachable: None }
    }

    /// For the clients of a listener. `knows`: they know of the error that says what is wrong.
    pub fn seen_by(self, listener: &Listener, knows: bool) -> Leaders {
        let error = if knows { ErrorCode::ListenerNotFound } else { ErrorCode::LeaderNotAvailable };
        Leaders { unreachable: listener.advertised.is_none().then_some(error), ..self }
    }

    pub fn state(&self, shard: &Shard, topic: &TopicImage, partition: u32) -> PartitionState {
        let key = topic.key(partition);
        let broker = shard.node.broker_id(owner(key, shard.shards));
        match self.epochs.get(&key) {
            Some(epoch) if let Some(error) = self.unreachable => {
                PartitionState { error, leader: -1, leader_epoch: *epoch, broker }
            }
            Some(epoch) => PartitionState { error: ErrorCode::None, leader: broker, leader_epoch: *epoch, broker },
            // Its log did not open.
            None => PartitionState { error: ErrorCode::LeaderNotAvailable, leader: -1, leader_epoch: -1, broker },
        }
    }
}

#[derive(Clone)]
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
