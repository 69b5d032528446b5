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

use crate::kafka::request::RequestContext;
use crate::router::ShardCall;
use crate::shard::Shard;

/// Sizes of all partitions of a shard: topic, partition, bytes.
struct SizesCall;

impl ShardCall for SizesCall {
    type Reply = Vec<(String, u32, u64)>;

    fn run(self, shard: &Rc<Shard>) -> impl Future<Output = Self::Reply> + 'static {
        let size = |p: &Rc<crate::partition::Partition>| (p.topic.to_string(), p.index, p.log().size_bytes());
        std::future::ready(shard.partitions.all().iter().map(size).collect())
    }
}

pub async fn handle(context: RequestContext, request: DescribeLogDirsRequest) -> DescribeLogDirsResponse {
    let shard = &context.shard;
    let calls: Vec<_> = shard.of_this_broker().map(|to| shard.router.call(shard, to, SizesCall)).collect();
    let mut topics: BTreeMap<String, Vec<(u32, u64)>> = BTreeMap::new();
    let wanted = |topic: &str, partition: u32| match &request.topics {
        None => true,
        Some(asked) => asked.iter().any(|t| t.topic.as_str() == topic && t.partitions.contains(&(partition as i32))),
    };
    for call in calls {
        for (topic, partition, bytes) in call.await {
            if wanted(&topic, partition) {
                topics.entry(topic).or_default().push((partition, bytes));
            }
        }
    }
    let space = free_space(shard.data_dir()).await.ok();
    let topics = topics.into_iter().map(|(name, mut partitions)| {
        partitions.sort_unstable();
        let partition = |(index, bytes): (u32, u64)| DescribeLogDirsResponseDescribeLogDirsPartition {
            partition_index: index as i32,
            partition_size: bytes as i64,
            ..Default::default()
        };
        DescribeLogDirsResponseDescribeLogDirsTopic {
            name: name.into(),
            partitions: partitions.into_iter().map(partition).collect(),
            ..Default::default()
        }
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
