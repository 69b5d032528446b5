//! Retention in the background: deletes segments that are too old or too many, and forgets producers that went away.

use std::rc::Rc;

use core_pinning::task::{Queue, Task, spawn, yield_now};
use core_pinning::time::{sleep, wall_ms};

use crate::shard::Shard;

/// Runs every `log.retention.check.interval.ms` until it is cancelled.
pub fn start(shard: &Rc<Shard>) -> Task<()> {
    let shard = shard.clone();
    spawn(Queue::Background, "retention", async move {
        loop {
            sleep(shard.config.retention_check_interval()).await;
            pass(&shard).await;
        }
    })
}

/// Applies the retention of every topic to this shard's partitions, now.
pub async fn pass(shard: &Rc<Shard>) {
    for partition in shard.partitions.all() {
        if partition.is_deleted() {
            continue;
        }
        let now = wall_ms();
        match partition.log().apply_retention(now).await {
            Ok(freed) if freed.segments > 0 => {
                let (segments, bytes) = (freed.segments, freed.bytes);
                tracing::info!(topic = %partition.topic, partition = partition.index, segments, bytes, "segments deleted");
            }
            Ok(_) => {}
            Err(error) => {
                tracing::error!(topic = %partition.topic, partition = partition.index, %error, "retention failed");
            }
        }
        let expiration = i64::from(shard.config.broker().producer_expiration_ms);
        partition.expire_producers(now, expiration);
        yield_now().await;
    }
}
