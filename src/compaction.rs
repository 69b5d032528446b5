//! Compaction in the background: of the partitions that need it, the one with the largest dirty part goes first.

use std::rc::Rc;

use core_pinning::task::{Queue, Task, spawn, yield_now};
use core_pinning::time::{sleep, wall_ms};
use corelane_storage::Cleaner;
use corelane_storage::model::PartitionKey;
use hashbrown::HashSet;

use crate::partition::Partition;
use crate::shard::Shard;

/// Runs until it is cancelled, with a pause of `log.cleaner.backoff.ms` whenever nothing is left to do. `None` if
/// `log.cleaner.enable` is false.
pub fn start(shard: &Rc<Shard>) -> Option<Task<()>> {
    let mut options = shard.config.cleaner(shard.shards)?;
    let mut cleaner = Cleaner::new(options);
    let shard = shard.clone();
    Some(spawn(Queue::Background, "compaction", async move {
        loop {
            sleep(shard.config.cleaner_backoff()).await;
            if let Some(now) = shard.config.cleaner(shard.shards).filter(|now| *now != options) {
                options = now;
                cleaner = Cleaner::new(options);
            }
            // One that cannot be compacted now waits for the next round.
            let mut left_alone = HashSet::new();
            while let Some(partition) = dirtiest(&shard, &left_alone).await {
                if !clean(&mut cleaner, &partition).await {
                    left_alone.insert(partition.key);
                }
            }
        }
    }))
}

async fn dirtiest(shard: &Rc<Shard>, left_alone: &HashSet<PartitionKey>) -> Option<Rc<Partition>> {
    let mut found: Option<(f64, Rc<Partition>)> = None;
    for partition in shard.partitions.all() {
        yield_now().await;
        if partition.is_deleted() || left_alone.contains(&partition.key) || !partition.log().config().cleanup.compact {
            continue;
        }
        match partition.log().cleanable(wall_ms()).await {
            Ok(Some(cleanable)) if cleanable.is_due() => {
                let ratio = cleanable.dirty_ratio();
                if found.as_ref().is_none_or(|(most, _)| ratio > *most) {
                    found = Some((ratio, partition));
                }
            }
            Ok(_) => {}
            Err(error) => {
                tracing::error!(topic = %partition.topic, partition = partition.index, %error, "not looked at for compaction");
            }
        }
    }
    found.map(|(_, partition)| partition)
}

/// True if another pass over the partition may be made at once.
async fn clean(cleaner: &mut Cleaner, partition: &Partition) -> bool {
    let (topic, index) = (&partition.topic, partition.index);
    match cleaner.clean(partition.log(), wall_ms()).await {
        Ok(Some(cleaned)) => {
            tracing::info!(
                %topic,
                partition = index,
                upto = cleaned.upto.0,
                segments = cleaned.segments_before,
                into = cleaned.segments_after,
                bytes = cleaned.bytes_before,
                left = cleaned.bytes_after,
                "compacted"
            );
            true
        }
        Ok(None) => false,
        Err(error) => {
            tracing::error!(%topic, partition = index, %error, "compaction failed");
            false
        }
    }
}
