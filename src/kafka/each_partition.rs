//! The same small question to many partitions, each on the shard that owns it.

use std::collections::BTreeMap;
use std::future::Future;
use std::rc::Rc;

use core_pinning::ShardId;
use corelane_protocol::ErrorCode;
use corelane_storage::model::PartitionKey;

use crate::controller::image::{TopicImage, owner};
use crate::partition::Partition;
use crate::router::ShardCall;
use crate::shard::Shard;

/// The partition that a request means by `index` of what may be a topic.
pub fn partition_of(
    topic: &Result<&std::sync::Arc<TopicImage>, ErrorCode>,
    index: i32,
) -> Result<PartitionKey, ErrorCode> {
    let topic = topic.as_ref().map_err(|error| *error)?;
    topic.partition(index).map(|p| topic.key(p)).ok_or(ErrorCode::UnknownTopicOrPartition)
}

/// The same of a request that only the leader answers.
pub fn led_partition(
    shard: &Shard,
    topic: &Result<&std::sync::Arc<TopicImage>, ErrorCode>,
    index: i32,
) -> Result<PartitionKey, ErrorCode> {
    let key = partition_of(topic, index)?;
    shard.leading(key).map(|_| key)
}

/// Runs `question` for every partition that was found; answers come in the order of `asked`.
pub async fn each_partition<P, R, F, Fut>(
    shard: &Rc<Shard>,
    asked: Vec<Result<(PartitionKey, P), ErrorCode>>,
    question: F,
) -> Vec<Result<R, ErrorCode>>
where
    P: Send + 'static,
    R: Send + 'static,
    F: Fn(Rc<Partition>, P) -> Fut + Copy + Send + 'static,
    Fut: Future<Output = Result<R, ErrorCode>> + 'static,
{
    let mut answers = Vec::with_capacity(asked.len());
    let mut by_shard: BTreeMap<ShardId, Vec<(usize, PartitionKey, P)>> = BTreeMap::new();
    for asked in asked {
        match asked {
            Ok((key, parameters)) => {
                by_shard.entry(owner(key, shard.shards)).or_default().push((answers.len(), key, parameters));
                answers.push(Err(ErrorCode::UnknownServerError));
            }
            Err(error) => answers.push(Err(error)),
        }
    }
    let calls: Vec<_> =
        by_shard.into_iter().map(|(to, items)| shard.router.call(shard, to, Questions { items, question })).collect();
    for call in calls {
        for (place, answer) in call.await {
            if let Some(slot) = answers.get_mut(place) {
                *slot = answer;
            }
        }
    }
    answers
}

struct Questions<P, F> {
    items: Vec<(usize, PartitionKey, P)>,
    question: F,
}

impl<P, R, F, Fut> ShardCall for Questions<P, F>
where
    P: Send + 'static,
    R: Send + 'static,
    F: Fn(Rc<Partition>, P) -> Fut + Copy + Send + 'static,
    Fut: Future<Output = Result<R, ErrorCode>> + 'static,
{
    type Reply = Vec<(usize, Result<R, ErrorCode>)>;

    fn run(self, shard: &Rc<Shard>) -> impl Future<Output = Self::Reply> + 'static {
        let shard = shard.clone();
        async move {
            let mut answers = Vec::with_capacity(self.items.len());
            for (place, key, parameters) in self.items {
                let answer = match shard.partitions.find(key) {
                    Ok(partition) => (self.question)(partition, parameters).await,
                    Err(error) => Err(error),
                };
                answers.push((place, answer));
            }
            answers
        }
    }
}
