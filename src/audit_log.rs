//! The audit's topic: every shard writes down what it has seen of its clients, by the path that records of clients take. Nobody
//! waits for it. These writes are no requests, so that nothing of them is seen by the audit in turn.
//!
//! While the topic takes nothing (the disk is full, or a partition of it has failed), what was taken waits for it, and what comes is
//! gathered as far as there is room and counted beyond. What a crash finds here is in the log alone. Events are written at least once,
//! and how many are not in the topic is said in it, as soon as it takes that.

use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use core_pinning::task::{Queue, Task, spawn};
use core_pinning::time::{sleep, timeout, wall_ms};
use corelane_config::Overrides;
use corelane_protocol::ErrorCode;
use corelane_storage::model::PartitionKey;
use corelane_storage::record::{BatchBuilder, Codec};

use crate::controller::Refused;
use crate::controller::image::{AUDIT_TOPIC, owner};
use crate::controller::requests::{CreateTopics, NewTopic, create_each};
use crate::partition::{Membership, ProduceContext, ProduceFailure};
use crate::router::ShardCall;
use crate::security::audit::{Event, EventQueue, Seen, missing};
use crate::shard::Shard;

/// What is said again within this time is one event.
const GATHER: Duration = Duration::from_millis(500);
/// Bytes that a shard writes a second: who floods the broker with what it refuses shall not soon push out what was there before.
const PER_SECOND: u32 = 64 << 10;
/// What a batch may have, whatever the broker's default is.
const BATCH_MAX: usize = 1 << 20;
/// Between two attempts to write a batch.
const AGAIN_AFTER: Duration = Duration::from_millis(500);
/// How often a batch is tried that is refused for a reason that does not pass by itself.
const ATTEMPTS: usize = 20;
/// The same at the end, and how long the last events are tried then.
const LAST_AGAIN_AFTER: Duration = Duration::from_millis(50);
const LAST_MAX: Duration = Duration::from_secs(2);
/// How long they may hold up the end: an attempt may hang.
const END_MAX: Duration = Duration::from_secs(3);

/// The task that writes what one shard has seen.
pub struct AuditLog {
    queue: Rc<EventQueue>,
    task: Task<()>,
}

impl AuditLog {
    /// `None`: nobody wants the topic.
    pub fn start(shard: &Rc<Shard>) -> Option<AuditLog> {
        let queue = shard.audit.queue()?;
        let writer = Writer { shard: shard.clone(), queue: queue.clone(), missing: 0, refused: false, turn: 0 };
        Some(AuditLog { queue, task: spawn(Queue::Background, "audit log", writer.run()) })
    }

    /// Writes what the last clients have left. There are none any more.
    pub async fn end(mut self) {
        self.queue.end();
        if timeout(END_MAX, &mut self.task).await.is_err() {
            tracing::warn!("the last events of the audit are missing from its topic: it did not answer");
            self.task.cancel().await;
        }
    }
}

struct Writer {
    shard: Rc<Shard>,
    queue: Rc<EventQueue>,
    /// Events that are not in the topic, which does not say so yet.
    missing: u64,
    /// The topic took nothing the last time.
    refused: bool,
    /// Of the topic's partitions, each shard has its own, and goes on to the next where one takes nothing.
    turn: u32,
}

impl Writer {
    async fn run(mut self) {
        loop {
            self.queue.come().await;
            self.queue.pause(GATHER).await;
            let last = self.queue.ended().is_some();
            let written = self.write().await;
            if last {
                break;
            }
            self.queue.pause(Duration::from_secs(written as u64) / PER_SECOND).await;
        }
        if self.missing > 0 {
            tracing::warn!(
                lost = self.missing,
                "events of the audit are missing from its topic, which does not say so"
            );
        }
    }

    /// Bytes that it has written.
    async fn write(&mut self) -> usize {
        let waiting = self.queue.take();
        let mut lost = waiting.left_out;
        let events = waiting.in_order();
        let mut rest = events.as_slice();
        let mut written = 0;
        while !rest.is_empty() {
            let (batch, count) = next_batch(&mut rest, self.queue.room());
            match self.deliver(batch).await {
                Ok(bytes) => written += bytes,
                Err(()) => lost += count,
            }
        }
        if lost > 0 {
            tracing::warn!(lost, "events of the audit are missing from its topic");
            self.missing += lost;
        }
        if self.missing > 0 {
            let mut batch = BatchBuilder::new(Codec::None);
            let now = wall_ms();
            batch.push(now, None, Some(missing(self.missing, now).to_string().as_bytes()));
            if let Ok(bytes) = self.deliver(batch).await {
                written += bytes;
                self.missing = 0;
            }
        }
        written
    }

    /// Bytes of the batch. It is tried until the topic takes it, the end is over, or there is no hope.
    async fn deliver(&mut self, batch: BatchBuilder) -> Result<usize, ()> {
        let batch = batch.build().map_err(|error| tracing::error!(%error, "events of the audit do not encode"))?;
        let mut attempts = 0;
        loop {
            let refused = match self.attempt(batch.clone()).await {
                Ok(()) => {
                    if std::mem::take(&mut self.refused) {
                        tracing::info!("the audit's topic takes events again");
                    }
                    return Ok(batch.len());
                }
                Err(refused) => refused,
            };
            // A topic that is just being made is not yet there for a moment.
            if attempts > 0 && !std::mem::replace(&mut self.refused, true) {
                let Refused { code, message } = &refused;
                let reason = message.as_str();
                tracing::warn!(error = ?code, reason, "the audit's topic takes no events: they wait as far as there is room");
            }
            attempts += 1;
            let hopeless = !refused.code.retriable() && attempts >= ATTEMPTS;
            if hopeless || self.queue.ended().is_some_and(|ended| ended.elapsed() >= LAST_MAX) {
                return Err(());
            }
            self.turn = self.turn.wrapping_add(1);
            match self.queue.ended() {
                Some(_) => sleep(LAST_AGAIN_AFTER).await,
                None => self.queue.pause(AGAIN_AFTER).await,
            }
        }
    }

    async fn attempt(&self, batch: Bytes) -> Result<(), Refused> {
        let shard = &self.shard;
        if shard.image().topic_named(AUDIT_TOPIC).is_none() {
            create(shard).await?;
        }
        let image = shard.image();
        let missing = || Refused::new(ErrorCode::UnknownTopicOrPartition, "it is not there yet");
        let topic = image.topic_named(AUDIT_TOPIC).ok_or_else(missing)?;
        let key = topic.key(u32::from(shard.id.0).wrapping_add(self.turn) % topic.partitions.max(1));
        let written = shard.router.call(shard, owner(key, shard.shards), Write { key, batch }).await;
        written.map_err(|failure| Refused::new(failure.code, failure.message.unwrap_or_default()))
    }
}

/// The first of these events, as many as a batch takes, and how often they were seen.
fn next_batch(events: &mut &[(Event, Seen)], room: usize) -> (BatchBuilder, u64) {
    let (mut batch, mut count) = (BatchBuilder::new(Codec::None), 0);
    while batch.size() < room
        && let Some(((event, seen), rest)) = events.split_first()
    {
        batch.push(seen.first_ms, None, Some(event.to_json(*seen).to_string().as_bytes()));
        count += u64::from(seen.count);
        *events = rest;
    }
    (batch, count)
}

async fn create(shard: &Rc<Shard>) -> Result<(), Refused> {
    let broker = shard.config.broker();
    let Some(audit) = &broker.audit else { return Ok(()) };
    let configs = [
        ("cleanup.policy", "delete".to_owned()),
        ("max.message.bytes", BATCH_MAX.to_string()),
        ("retention.ms", audit.retention_ms.to_string()),
        ("retention.bytes", audit.retention_bytes.to_string()),
        ("segment.bytes", audit.segment_bytes.to_string()),
    ];
    let topic = NewTopic {
        partitions: audit.partitions,
        configs: configs.map(|(name, value)| (name.to_owned(), value)).into_iter().collect::<Overrides>(),
        internal: true,
        ..NewTopic::with_defaults(AUDIT_TOPIC)
    };
    let created = create_each(shard, CreateTopics { topics: vec![topic], validate_only: false, mutator: None }).await;
    match created.into_iter().next() {
        // Another shard was faster.
        Some(Err(refused)) if refused.code != ErrorCode::TopicAlreadyExists => Err(refused),
        _ => Ok(()),
    }
}

struct Write {
    key: PartitionKey,
    batch: Bytes,
}

impl ShardCall for Write {
    type Reply = Result<(), ProduceFailure>;

    fn run(self, shard: &Rc<Shard>) -> impl Future<Output = Self::Reply> + 'static {
        let taken = shard.produce(self.key, self.batch, false, ProduceContext { allow_zstd: true }, Membership::Known);
        async move { taken?.ordered().await?.flushed().await.map(drop) }
    }
}
