//! One partition of `__transaction_state` and its machine: loads it, writes for it, sends its markers, wakes it in time.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use core_pinning::sync::{Event, Signal, oneshot};
use core_pinning::task::{Queue, Task, spawn};
use core_pinning::time::{sleep, wall_ms};
use corelane_coordinator::Now;
use corelane_coordinator::group::{WaitToken, Write, WriteId};
use corelane_coordinator::txn::{Answer, Effects, Markers, Outcome, Reply, TxnConfig, TxnCoordinator};
use corelane_protocol::{ErrorCode, Str};
use corelane_raft::Proposal;
use corelane_storage::model::{PartitionKey, ProducerEpoch, ProducerId};
use corelane_storage::record::{BatchBuilder, Codec};
use futures::StreamExt;
use futures::future::{Either, LocalBoxFuture, select};
use futures::stream::FuturesUnordered;
use hashbrown::HashMap;

use super::group::time;
use super::markers::write_markers;
use super::replay::{Found, replay};
use crate::partition::{Marker, Partition, ProduceFailure};
use crate::producer_ids::ProducerIds;
use crate::shard::Shard;

/// Pause before markers that could not be written are tried again; it doubles up to the second value.
const RETRY: Duration = Duration::from_millis(20);
const RETRY_MAX: Duration = Duration::from_secs(1);

pub struct TxnPartition {
    partition: Rc<Partition>,
    /// `None` while it is rebuilt, and for good if that failed or the shard stops.
    machine: RefCell<Option<TxnCoordinator>>,
    failed: Cell<bool>,
    waiting: RefCell<HashMap<WaitToken, oneshot::Sender<Answer>>>,
    /// Writes in the order of the log, whose fate is not known yet.
    writes: RefCell<VecDeque<(WriteId, Proposal)>>,
    written: Signal,
    /// Markers that nobody has begun to send.
    markers: RefCell<VecDeque<Markers>>,
    to_send: Signal,
    /// A write has ended: who was told to come again may do so.
    changed: Event,
    /// The next deadline may have changed.
    rescheduled: Signal,
    tasks: RefCell<Vec<Task<()>>>,
}

impl TxnPartition {
    pub fn start(shard: &Rc<Shard>, partition: Rc<Partition>, config: TxnConfig) -> Rc<TxnPartition> {
        let txn = Rc::new(TxnPartition {
            partition,
            machine: RefCell::new(None),
            failed: Cell::new(false),
            waiting: RefCell::default(),
            writes: RefCell::default(),
            written: Signal::default(),
            markers: RefCell::default(),
            to_send: Signal::default(),
            changed: Event::default(),
            rescheduled: Signal::default(),
            tasks: RefCell::default(),
        });
        let (loading, writing, sending, timing) = (txn.clone(), txn.clone(), txn.clone(), txn.clone());
        let (from, on) = (shard.clone(), shard.clone());
        *txn.tasks.borrow_mut() = vec![
            spawn(Queue::Replicate, "transaction loading", async move { loading.load(config).await }),
            spawn(Queue::Serve, "transaction writes", async move { writing.follow_writes().await }),
            spawn(Queue::Serve, "transaction markers", async move { sending.send_markers(from).await }),
            spawn(Queue::Serve, "transaction timers", async move { timing.keep_time(on).await }),
        ];
        txn
    }

    /// Runs a request and waits for its answer.
    pub async fn handle(
        self: Rc<Self>,
        shard: Rc<Shard>,
        request: impl FnOnce(&mut TxnCoordinator, Now) -> Outcome,
    ) -> Answer {
        self.provide_producer_id(&shard).await?;
        let outcome = match self.machine.borrow_mut().as_mut() {
            Some(machine) => request(machine, time()),
            None => return Err(self.not_ready()),
        };
        let answer = match outcome.reply {
            Reply::Now(answer) => Ok(answer),
            Reply::Later(token) => {
                let (sender, receiver) = oneshot::channel();
                self.waiting.borrow_mut().insert(token, sender);
                Err(receiver)
            }
        };
        self.perform(outcome.effects);
        match answer {
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
        let answer = self.machine.borrow().as_ref().map(|machine| question(machine, time()));
        answer.ok_or_else(|| self.not_ready())
    }

    fn not_ready(&self) -> ErrorCode {
        if self.failed.get() { ErrorCode::NotCoordinator } else { ErrorCode::CoordinatorLoadInProgress }
    }

    /// Sees to it that the machine has a producer id to give out.
    async fn provide_producer_id(&self, shard: &Rc<Shard>) -> Result<(), ErrorCode> {
        while self.machine.borrow().as_ref().is_some_and(TxnCoordinator::wants_producer_id) {
            let id = ProducerIds::next(shard).await.map_err(|refused| refused.code)?;
            if let Some(machine) = self.machine.borrow_mut().as_mut() {
                machine.add_producer_id(id);
            }
        }
        Ok(())
    }

    /// Starts the writes and the markers, and gives out the answers.
    fn perform(&self, effects: Effects) {
        let mut refused = None;
        for write in effects.writes {
            let id = write.id;
            match self.write(write) {
                Ok(proposal) => {
                    self.writes.borrow_mut().push_back((id, proposal));
                    self.written.notify();
                }
                Err(failure) => {
                    // With it go all that come after it.
                    refused = Some((id, failure.code));
                    break;
                }
            }
        }
        if !effects.markers.is_empty() {
            self.markers.borrow_mut().extend(effects.markers);
            self.to_send.notify();
        }
        for completed in effects.completed {
            if let Some(sender) = self.waiting.borrow_mut().remove(&completed.token) {
                // Whoever asked may have gone away with its connection.
                let _ = sender.send(completed.answer);
            }
        }
        self.rescheduled.notify();
        if let Some((id, error)) = refused {
            self.advance(|machine| machine.write_failed(time(), id, error));
        }
    }

    /// Moves the machine, if it is there, and does what comes out of it.
    fn advance(&self, step: impl FnOnce(&mut TxnCoordinator) -> Effects) {
        let effects = self.machine.borrow_mut().as_mut().map(step);
        self.perform(effects.unwrap_or_default());
    }

    fn write(&self, write: Write) -> Result<Proposal, ProduceFailure> {
        let mut batch = BatchBuilder::new(Codec::None);
        let now = wall_ms();
        write.records.iter().for_each(|r| batch.push(now, Some(&r.key), r.value.as_deref()));
        self.partition.append(batch)
    }

    /// Tells the machine of each write what became of it, in their order.
    async fn follow_writes(self: Rc<Self>) {
        loop {
            let next = self.writes.borrow_mut().pop_front();
            let Some((id, proposal)) = next else {
                self.written.wait().await;
                continue;
            };
            match proposal.applied().await {
                Ok(_) => self.advance(|machine| machine.write_completed(time(), id)),
                Err(error) if error.appended_nothing() => {
                    let error = ProduceFailure::from(error).code;
                    self.advance(|machine| machine.write_failed(time(), id, error));
                }
                Err(error) => {
                    tracing::error!(partition = self.partition.index, %error, "transaction coordinator gives up");
                    self.unload();
                }
            }
            self.changed.notify_all();
        }
    }

    async fn send_markers(self: Rc<Self>, shard: Rc<Shard>) {
        let mut sending: FuturesUnordered<LocalBoxFuture<'static, Markers>> = FuturesUnordered::new();
        loop {
            for markers in self.markers.take() {
                sending.push(Box::pin(send(shard.clone(), self.coordinator_epoch(), markers)));
            }
            if sending.is_empty() {
                self.to_send.wait().await;
                continue;
            }
            let done = {
                let to_send = pin!(self.to_send.wait());
                match select(to_send, sending.next()).await {
                    Either::Left(_) => None,
                    Either::Right((done, _)) => done,
                }
            };
            if let Some(done) = done {
                self.advance(|machine| machine.markers_written(time(), &done.transactional_id, done.producer));
            }
        }
    }

    /// Markers of a later coordinator go over those of an earlier one.
    fn coordinator_epoch(&self) -> i32 {
        i32::try_from(self.partition.leader_epoch().0).unwrap_or(i32::MAX)
    }

    async fn keep_time(self: Rc<Self>, shard: Rc<Shard>) {
        loop {
            let deadline = self.machine.borrow().as_ref().and_then(TxnCoordinator::next_deadline);
            let Some(deadline) = deadline else {
                self.rescheduled.wait().await;
                continue;
            };
            let left = Duration::from_millis(deadline.saturating_sub(time().mono_ms).max(0) as u64);
            if !left.is_zero() {
                let rescheduled = pin!(self.rescheduled.wait());
                if let Either::Left(_) = select(rescheduled, pin!(sleep(left))).await {
                    continue;
                }
            }
            // Without one, what needs it waits for the next look.
            let _ = self.provide_producer_id(&shard).await;
            self.advance(|machine| machine.tick(time()));
        }
    }

    async fn load(self: Rc<Self>, config: TxnConfig) {
        let mut machine = TxnCoordinator::new(config);
        let take = |_: &_, found| match found {
            Found::Record { key, value } => machine.replay(key, value).map(drop).map_err(|e| e.to_string()),
            Found::Marker(_) => Ok(()),
        };
        match replay(&self.partition, take).await {
            Ok(()) => {
                let effects = machine.finish_loading(time());
                self.machine.replace(Some(machine));
                self.perform(effects);
            }
            Err(error) => {
                self.failed.set(true);
                tracing::error!(
                    partition = self.partition.index,
                    error,
                    "transaction coordinator could not be rebuilt"
                );
            }
        }
    }

    /// Everybody who waits is told to look for another coordinator, and so is everybody from now on. What is being
    /// written may or may not come to be.
    fn unload(&self) {
        self.failed.set(true);
        let machine = self.machine.take();
        let completed = machine.map(|m| m.unload(ErrorCode::NotCoordinator)).unwrap_or_default();
        self.markers.borrow_mut().clear();
        self.perform(Effects { completed, ..Effects::default() });
    }

    pub async fn stop(&self) {
        self.unload();
        let tasks = self.tasks.take();
        for task in tasks {
            task.cancel().await;
        }
    }
}

/// Writes markers until every partition that is still there has its own.
async fn send(shard: Rc<Shard>, coordinator_epoch: i32, markers: Markers) -> Markers {
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
            return markers;
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
