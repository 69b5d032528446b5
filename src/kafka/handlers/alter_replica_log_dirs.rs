//! AlterReplicaLogDirs (KIP-113): a broker has one data directory, so its partitions are where they are asked to be, or there
//! is no such directory.

use std::collections::BTreeMap;
use std::path::Path;

use corelane_protocol::messages::alter_replica_log_dirs_response::{
    AlterReplicaLogDirsResponseAlterReplicaLogDirPartitionResult,
    AlterReplicaLogDirsResponseAlterReplicaLogDirTopicResult,
};
use corelane_protocol::messages::{AlterReplicaLogDirsRequest, AlterReplicaLogDirsResponse};
use corelane_protocol::{ErrorCode, Str, Uuid};
use corelane_storage::model::PartitionKey;

use crate::controller::image::{TopicImage, owner};
use crate::kafka::each_partition::each_partition;
use crate::kafka::request::RequestContext;
use crate::kafka::topics::find_topic;
use crate::shard::Shard;

pub async fn handle(context: RequestContext, request: AlterReplicaLogDirsRequest) -> AlterReplicaLogDirsResponse {
    let shard = &context.shard;
    // Of a partition that is named twice the last directory counts.
    let mut wanted: BTreeMap<Str, BTreeMap<i32, Str>> = BTreeMap::new();
    for dir in request.dirs {
        for topic in dir.topics.into_iter().filter(|t| !t.partitions.is_empty()) {
            let partitions = wanted.entry(topic.name).or_default();
            partitions.extend(topic.partitions.into_iter().map(|index| (index, dir.path.clone())));
        }
    }
    let image = shard.image();
    let mut asked = Vec::new();
    for (name, partitions) in &wanted {
        for (index, path) in partitions {
            let here = Path::new(path.as_str()) == shard.data_dir();
            let topic = || find_topic(&image, false, name, Uuid::ZERO);
            let found = match () {
                _ if !can_be_named(name, *index) => Err(ErrorCode::InvalidTopicException),
                _ if !here => Err(ErrorCode::LogDirNotFound),
                _ => topic(),
            };
            asked.push(found.and_then(|topic| Ok((served(shard, topic, *index)?, ()))));
        }
    }
    // An open log is where it is asked to be; one that did not open has the error of its disk.
    let answers = each_partition(shard, asked, |_, ()| async { Ok(()) }).await;
    let mut answers = answers.into_iter();
    let results = wanted.into_iter().map(|(topic_name, partitions)| {
        let partition = |partition_index: i32| AlterReplicaLogDirsResponseAlterReplicaLogDirPartitionResult {
            partition_index,
            error_code: answers.next().and_then(Result::err).unwrap_or(ErrorCode::None).code(),
            ..Default::default()
        };
        AlterReplicaLogDirsResponseAlterReplicaLogDirTopicResult {
            topic_name,
            partitions: partitions.into_keys().map(partition).collect(),
            ..Default::default()
        }
    });
    AlterReplicaLogDirsResponse { results: results.collect(), ..Default::default() }
}

/// Kafka names the folder of a replica on its way `topic-partition.` with 32 digits and `-future`, in 255 bytes.
fn can_be_named(topic: &str, partition: i32) -> bool {
    format!("{topic}-{partition}.").len() + 32 + "-future".len() <= 255
}

/// A partition whose replica the broker has that was asked.
fn served(shard: &Shard, topic: &TopicImage, index: i32) -> Result<PartitionKey, ErrorCode> {
    let key = topic.partition(index).map(|p| topic.key(p)).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    let here = shard.of_this_broker().any(|id| id == owner(key, shard.shards));
    if here { Ok(key) } else { Err(ErrorCode::ReplicaNotAvailable) }
}
