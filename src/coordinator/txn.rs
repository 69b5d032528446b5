//! One partition of `__transaction_state` and its machine: loads it, runs requests on it, sends its markers.

use std::cell::Cell;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use core_pinning::sync::Event;
use core_pinning::task::{Queue, spawn};
use core_pinning::time::sleep;
use corelane_coordinator::Now;
use corelane_coordinator::group::{WaitToken, Write, WriteId};
use corelane_coordinator::txn::{Answer, Effects, Markers, Outcome, TxnConfig, TxnCoordinator, TxnVersion};
use corelane_protocol::{ErrorCode, Str};
use corelane_storage::model::{PartitionKey, ProducerEpoch, ProducerId};
use futures::StreamExt;
use futures::future::{Either, LocalBoxFuture, select};
use futures::stream::FuturesUnordered;

use super::host::{Host, Machine, Work, time};
use super::markers::write_markers;
use super::replay::{Found, replay};
use crate::partition::{Marker, Partition};
use crate::producer_ids::ProducerIds;
use crate::shard::Shard;

/// Pause before markers that could not be written are tried again; it doubles up to the second value.
const RETRY: Duration = Duration::from_millis(20);
const RETRY_MAX: Duration = Duration::from_secs(1);

pub struct TxnPartition {
    host: Host<TxnCoordinator>,
    /// A write has ended: who was told to come again may do so.
    changed: Event,
    /// What the cluster has agreed on, for a machine that is not there yet.
    version: Cell<TxnVersion>,
}

impl Machine for TxnCoordinator {
    const NAME: &'static str = "transaction coordinator";
    type Answer = Answer;
    type Errand = Markers;
    type Effects = Effects;

    fn finish_loading(&mut self, now: Now) -> Effects {
        self.finish_loading(now)
    }

    fn write_completed(&mut self, now: Now, id: WriteId) -> Effects {
        self.write_completed(now, id)
    }

    fn write_failed(&mut self, now: Now, id: WriteId, error: ErrorCode) -> Effects {
        self.write_failed(now, id, error)
    }

    fn next_deadline(&self) -> Option<i64> {
        self.next_deadline()
    }

    fn tick(&mut self, now: Now) -> Effects {
        self.tick(now)
    }

    fn unload(self, _now: Now, error: ErrorCode) -> Vec<(WaitToken, Answer)> {
        self.unload(error).into_iter().map(|c| (c.token, c.answer)).collect()
    }

    fn step(write: &Write) -> Option<String> {
        write.records.first().map(|record| format!("state {}", TxnCoordinator::state_of(record)))
    }
}

impl From<Effects> for Work<TxnCoordinator> {
    fn from(effects: Effects) -> Self {
        let answers = effects.completed.into_iter().map(|c| (c.token, c.answer)).collect();
        Work { writes: effects.writes, errands: effects.markers, answers }
    }
}

impl TxnPartition {
    pub fn start(
        shard: &Rc<Shard>,
        partition: Rc<Partition>,
        config: TxnConfig,
        version: TxnVersion,
    ) -> Rc<TxnPartition> {
        let txn = Rc::new(TxnPartition {
            host: Host::new(partition),
            changed: Event::default(),
            version: Cell::new(version),
        });
        let (loading, writing, sending, timing) = (txn.clone(), txn.clone(), txn.clone(), txn.clone());
        let (from, on) = (shard.clone(), shard.clone());
        let write = async move { writing.host.follow_writes(|| writing.changed.notify_all()).await };
        let wake = async move {
            let provide = async || {
                // Without one, what needs it waits for the next look.
                let _ = timing.provide_producer_id(&on).await;
            };
            timing.host.keep_time(provide).await;
        };
        txn.host.keep(vec![
            spawn(Queue::Replicate, "transaction loading", async move { loading.load(config).await }),
            spawn(Queue::Serve, "transaction writes", write),
            spawn(Queue::Serve, "transaction markers", async move { sending.send_markers(from).await }),
            spawn(Queue::Serve, "transaction timers", wake),
        ]);
        txn
    }

    /// Runs a request and waits for its answer.
    pub async fn handle(
        self: Rc<Self>,
        shard: Rc<Shard>,
        request: impl FnOnce(&mut TxnCoordinator, Now) -> Outcome,
    ) -> Answer {
        self.provide_producer_id(&shard).await?;
        let promise = self.host.run(|machine, now| {
            let outcome = request(machine, now);
            (outcome.reply, outcome.effects)
        })?;
        match promise {
            Ok(answer) => answer,
            Err(receiver) => receiver.await.unwrap_or(Err(ErrorCode::NotCoordinator)),
        }
    }

    /// As [`handle`](Self::handle), but goes on asking while something of the transactional id is still being written or ended:
    /// for `patience`, and after `backoff` at the latest.
    pub async fn handle_patiently(
        self: Rc<Self>,
        shard: Rc<Shard>,
        (backoff, patience): (Duration, Duration),
        request: impl Fn(&mut TxnCoordinator, Now) -> Outcome,
    ) -> Answer {
        let end = core_pinning::time::now() + patience;
        loop {
            let changed = self.changed.listen();
            let answer = self.clone().handle(shard.clone(), &request).await;
            if answer != Err(ErrorCode::ConcurrentTransactions) || core_pinning::time::now() >= end {
                return answer;
            }
            let _ = select(pin!(changed), pin!(sleep(backoff))).await;
        }
    }

    /// Looks at the machine; nothing is written.
    pub fn ask<R>(&self, question: impl FnOnce(&TxnCoordinator, Now) -> R) -> Result<R, ErrorCode> {
        self.host.look(|machine| question(machine, time())).ok_or_else(|| self.host.not_ready())
    }

    /// Sees to it that the machine has a producer id to give out.
    async fn provide_producer_id(&self, shard: &Rc<Shard>) -> Result<(), ErrorCode> {
        while self.host.look(TxnCoordinator::wants_producer_id).unwrap_or(false) {
            let id = ProducerIds::next(shard).await.map_err(|refused| refused.code)?;
            self.host.change(|machine| machine.add_producer_id(id));
        }
        Ok(())
    }

    async fn send_markers(self: Rc<Self>, shard: Rc<Shard>) {
        let mut sending: FuturesUnordered<LocalBoxFuture<'static, Option<Markers>>> = FuturesUnordered::new();
        loop {
            for markers in self.host.take_errands() {
                sending.push(Box::pin(send(shard.clone(), self.coordinator_epoch(), markers)));
            }
            if sending.is_empty() {
                self.host.errand().await;
                continue;
            }
            let done = {
                let to_send = pin!(self.host.errand());
                match select(to_send, sending.next()).await {
                    Either::Left(_) => None,
                    Either::Right((done, _)) => done,
                }
            };
            if let Some(Some(done)) = done {
                self.host.advance(|machine| machine.markers_written(time(), &done.transactional_id, done.producer));
            }
        }
    }

    /// Markers of a later coordinator go over those of an earlier one.
    fn coordinator_epoch(&self) -> i32 {
        i32::try_from(self.host.partition.leader_epoch().0).unwrap_or(i32::MAX)
    }

    async fn load(self: Rc<Self>, config: TxnConfig) {
        let mut machine = TxnCoordinator::new(config);
        let take = |_: &_, found| match found {
            Found::Record { key, value } => machine.replay(key, value).map(drop).map_err(|e| e.to_string()),
            Found::Marker(_) => Ok(()),
        };
        let replayed = replay(&self.host.partition, take).await;
        machine.set_version(self.version.get());
        self.host.loaded(replayed.map(|()| machine));
    }

    pub fn set_version(&self, version: TxnVersion) {
        if self.version.replace(version) != version {
            self.host.change(|machine| machine.set_version(version));
        }
    }

    pub async fn stop(&self) {
        self.host.stop().await;
    }
}

/// Writes markers until every partition that is still there has its own. `None`: a later coordinator has written in one of them, so
/// that the transaction is not this one's to complete (any more).
async fn send(shard: Rc<Shard>, coordinator_epoch: i32, markers: Markers) -> Option<Markers> {
    let marker = Marker {
        producer_id: ProducerId(markers.producer.id),
        producer_epoch: ProducerEpoch(markers.producer.epoch),
        coordinator_epoch,
        commit: markers.commit,
        transaction_version: markers.version,
    };
    let mut left: Vec<(Str, i32)> = markers.partitions.iter().map(|(topic, index)| (topic.clone(), index)).collect();
    let mut pause = RETRY;
    loop {
        left.retain(|(topic, index)| key_of(&shard, topic, *index).is_some());
        let keys: Vec<PartitionKey> = left.iter().filter_map(|(topic, index)| key_of(&shard, topic, *index)).collect();
        let answers = write_markers(&shard, keys.into_iter().map(|key| (key, marker)).collect()).await;
        if answers.contains(&Err(ErrorCode::TransactionCoordinatorFenced)) {
            let id = markers.transactional_id.as_str();
            tracing::warn!(
                id,
                coordinator_epoch,
                "a later coordinator has written markers: those of this one are given up"
            );
            return None;
        }
        let mut answers = answers.into_iter();
        left.retain(|(topic, index)| match answers.next() {
            Some(Ok(_)) => false,
            // The producer has gone on with a later epoch there: nothing of this transaction is open.
            Some(Err(ErrorCode::InvalidProducerEpoch | ErrorCode::ProducerFenced)) => false,
            Some(Err(error)) => {
                let id = markers.transactional_id.as_str();
                tracing::debug!(id, topic = topic.as_str(), index, ?error, "a marker is tried again");
                true
            }
            None => true,
        });
        if left.is_empty() {
            return Some(markers);
        }
        sleep(pause).await;
        pause = (pause * 2).min(RETRY_MAX);
    }
}

/// `None` once the topic is deleted: a shard that only has not opened the partition yet says so when it is asked.
fn key_of(shard: &Shard, topic: &str, index: i32) -> Option<PartitionKey> {
    let image = shard.image();
    let topic = image.topic_named(topic)?;
    Some(topic.key(topic.partition(index)?))
}
