//! DescribeLogDirs: the one data directory, what is in it and what is free.

use std::collections::BTreeMap;
use std::future::Future;
use std::rc::Rc;

use core_pinning::disk::fs::free_space;
use corelane_protocol::messages::describe_log_dirs_response::{
    DescribeLogDirsResponseDescribeLogDirsPartition, DescribeLogDirsResponseDescribeLogDirsResult,
    DescribeLogDirsResponseDescribeLogDirsTopic,
};
use corelane_protocol::messages::{DescribeLogDirsRequest, DescribeLogDirsResponse};
use corelane_storage::model::PartitionKey;

use crate::kafka::request::RequestContext;
use crate::partition::Partition;
use crate::router::ShardCall;
use crate::shard::Shard;

/// Kafka's lag of a replica whose log is not there (`ReplicaManager.getLogEndOffsetLag`).
const OFFLINE: i64 = -1;

/// A partition in the data directory.
struct Found {
    topic: String,
    partition: u32,
    bytes: u64,
    /// Its log did not open.
    offline: bool,
}

/// All partitions of a shard.
#[derive(Clone)]
struct SizesCall;

impl ShardCall for SizesCall {
    type Reply = Vec<Found>;

    fn run(self, shard: &Rc<Shard>) -> impl Future<Output = Self::Reply> + 'static {
        let open = |p: &Rc<Partition>| Found {
            topic: p.topic.to_string(),
            partition: p.index,
            bytes: p.log().size_bytes(),
            offline: false,
        };
        let mut found: Vec<Found> = shard.partitions.all().iter().map(open).collect();
        let (shard, failed) = (shard.clone(), shard.partitions.failed());
        async move {
            if !failed.is_empty() {
                found.extend(offline(&shard, &failed).await);
            }
            found
        }
    }
}

/// What did not open takes its room all the same.
async fn offline(shard: &Shard, failed: &[PartitionKey]) -> Vec<Found> {
    let image = shard.image();
    let mut found = Vec::with_capacity(failed.len());
    for (key, dir) in shard.store.unopened().await.unwrap_or_default() {
        let Some(topic) = image.topic(key.topic).filter(|_| failed.contains(&key)) else { continue };
        let bytes = shard.store.bytes_of_unopened(&dir).await.unwrap_or(0);
        found.push(Found { topic: topic.name.to_string(), partition: key.partition, bytes, offline: true });
    }
    found
}

pub async fn handle(context: RequestContext, request: DescribeLogDirsRequest) -> DescribeLogDirsResponse {
    let shard = &context.shard;
    let sizes = shard.router.call_each(shard, shard.of_this_broker(), SizesCall).await;
    let mut topics: BTreeMap<String, Vec<DescribeLogDirsResponseDescribeLogDirsPartition>> = BTreeMap::new();
    let wanted = |topic: &str, partition: u32| match &request.topics {
        None => true,
        Some(asked) => asked.iter().any(|t| t.topic.as_str() == topic && t.partitions.contains(&(partition as i32))),
    };
    for Found { topic, partition, bytes, offline } in sizes.into_iter().flatten() {
        if wanted(&topic, partition) {
            topics.entry(topic).or_default().push(DescribeLogDirsResponseDescribeLogDirsPartition {
                partition_index: partition as i32,
                partition_size: bytes as i64,
                offset_lag: if offline { OFFLINE } else { 0 },
                ..Default::default()
            });
        }
    }
    let space = free_space(shard.data_dir()).await.ok();
    let topics = topics.into_iter().map(|(name, mut partitions)| {
        partitions.sort_unstable_by_key(|p| p.partition_index);
        DescribeLogDirsResponseDescribeLogDirsTopic { name: name.into(), partitions, ..Default::default() }
    });
    let result = DescribeLogDirsResponseDescribeLogDirsResult {
        log_dir: shard.data_dir().display().to_string().into(),
        topics: topics.collect(),
        total_bytes: space.as_ref().map_or(-1, |s| s.total as i64),
        usable_bytes: space.as_ref().map_or(-1, |s| s.available as i64),
        ..Default::default()
    };
    DescribeLogDirsResponse { results: vec![result], ..Default::default() }
}
