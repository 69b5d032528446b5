//! One partition of `__consumer_offsets` and its machine: loads it, writes for it, wakes it in time.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::rc::{Rc, Weak};
use std::time::Duration;

use core_pinning::sync::{Signal, oneshot};
use core_pinning::task::{Queue, Task, spawn};
use core_pinning::time::{now, sleep, wall_ms};
use corelane_coordinator::Now;
use corelane_coordinator::group::{
    Effects, GroupConfig, GroupCoordinator, Outcome, Reply, Response, WaitToken, Write, WriteId, WriteProducer,
};
use corelane_protocol::messages::{TxnOffsetCommitRequest, TxnOffsetCommitResponse};
use corelane_protocol::{ErrorCode, Str, Uuid};
use corelane_raft::Proposal;
use corelane_storage::model::{Offset, ProducerEpoch, ProducerId, Sequence};
use corelane_storage::record::{BatchBuilder, BatchHeader, Codec, TransactionMarker};
use futures::future::{Either, select};
use hashbrown::HashMap;
use std::collections::VecDeque;
use std::pin::pin;

use super::replay::{Found, replay};
use super::verification::{VerifyTransaction, verify_transaction};
use crate::partition::{Marker, Partition, ProduceFailure};
use crate::shard::Shard;

pub struct GroupPartition {
    partition: Rc<Partition>,
    /// `None` while it is rebuilt, and for good if that failed or the shard stops.
    machine: RefCell<Option<GroupCoordinator>>,
    failed: Cell<bool>,
    waiting: RefCell<HashMap<WaitToken, oneshot::Sender<Response>>>,
    /// Writes in the order of the log, whose fate is not known yet.
    writes: RefCell<VecDeque<(WriteId, Proposal)>>,
    written: Signal,
    /// Ends of transactions, for those who are about to write into one.
    ends: RefCell<HashMap<i64, Weak<Cell<Option<i16>>>>>,
    /// The next deadline may have changed.
    rescheduled: Signal,
    tasks: RefCell<Vec<Task<()>>>,
}

pub(super) fn time() -> Now {
    Now { mono_ms: (now().as_nanos() / 1_000_000) as i64, wall_ms: wall_ms() }
}

impl GroupPartition {
    pub fn start(partition: Rc<Partition>, config: GroupConfig) -> Rc<GroupPartition> {
        let group = Rc::new(GroupPartition {
            partition,
            machine: RefCell::new(None),
            failed: Cell::new(false),
            waiting: RefCell::default(),
            writes: RefCell::default(),
            written: Signal::default(),
            ends: RefCell::default(),
            rescheduled: Signal::default(),
            tasks: RefCell::default(),
        });
        let (loading, writing, timing) = (group.clone(), group.clone(), group.clone());
        *group.tasks.borrow_mut() = vec![
            spawn(Queue::Replicate, "group loading", async move { loading.load(config).await }),
            spawn(Queue::Serve, "group writes", async move { writing.follow_writes().await }),
            spawn(Queue::Serve, "group timers", async move { timing.keep_time().await }),
        ];
        group
    }

    /// Runs a request. The machine is changed and its records are ordered when this returns; the answer may come later.
    pub fn handle<R>(
        self: Rc<Self>,
        request: impl FnOnce(&mut GroupCoordinator, Now) -> Outcome<R>,
    ) -> Result<impl Future<Output = Result<R, ErrorCode>> + 'static, ErrorCode>
    where
        R: TryFrom<Response> + 'static,
    {
        let outcome = match self.machine.borrow_mut().as_mut() {
            Some(machine) => request(machine, time()),
            None => return Err(self.not_ready()),
        };
        let answer = match outcome.reply {
            Reply::Now(response) => Ok(response),
            Reply::Later(token) => {
                let (sender, receiver) = oneshot::channel();
                self.waiting.borrow_mut().insert(token, sender);
                Err(receiver)
            }
        };
        self.perform(outcome.effects);
        Ok(async move {
            match answer {
                Ok(response) => Ok(response),
                Err(receiver) => {
                    let response = receiver.await.map_err(|_| ErrorCode::NotCoordinator)?;
                    R::try_from(response).map_err(|_| ErrorCode::UnknownServerError)
                }
            }
        })
    }

    /// Looks at the machine, or moves a deadline; nothing is written.
    pub fn ask<R>(&self, question: impl FnOnce(&mut GroupCoordinator, Now) -> R) -> Result<R, ErrorCode> {
        let answer = self.machine.borrow_mut().as_mut().map(|machine| question(machine, time()));
        self.rescheduled.notify();
        answer.ok_or_else(|| self.not_ready())
    }

    fn not_ready(&self) -> ErrorCode {
        if self.failed.get() { ErrorCode::NotCoordinator } else { ErrorCode::CoordinatorLoadInProgress }
    }

    pub fn topics_deleted(&self, topics: &[(Str, Uuid)]) {
        let effects = self.machine.borrow_mut().as_mut().map(|machine| machine.topics_deleted(time(), topics));
        self.perform(effects.unwrap_or_default());
    }

    /// Starts the writes and gives out the answers.
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
                    // With it go all that come after it: the machine takes them back together.
                    refused = Some((id, failure.code));
                    break;
                }
            }
        }
        for completed in effects.completed {
            if let Some(sender) = self.waiting.borrow_mut().remove(&completed.token) {
                // Whoever asked may have gone away with its connection.
                let _ = sender.send(completed.response);
            }
        }
        self.rescheduled.notify();
        if let Some((id, error)) = refused {
            let effects = self.machine.borrow_mut().as_mut().map(|machine| machine.write_failed(time(), id, error));
            self.perform(effects.unwrap_or_default());
        }
    }

    fn write(&self, write: Write) -> Result<Proposal, ProduceFailure> {
        let mut batch = BatchBuilder::new(Codec::None);
        if let Some(WriteProducer { id, epoch }) = write.producer {
            batch = batch.producer(ProducerId(id), ProducerEpoch(epoch), Sequence::NONE).transactional();
        }
        let now = wall_ms();
        write.records.iter().for_each(|r| batch.push(now, Some(&r.key), r.value.as_deref()));
        self.partition.append(batch)
    }

    /// Tells the machine of each write what became of it, in their order.
    async fn follow_writes(self: Rc<Self>) {
        loop {
            let Some((id, proposal)) = self.writes.borrow_mut().pop_front() else {
                self.written.wait().await;
                continue;
            };
            let effects = match proposal.applied().await {
                Ok(_) => self.machine.borrow_mut().as_mut().map(|machine| machine.write_completed(time(), id)),
                Err(error) if error.appended_nothing() => {
                    let error = ProduceFailure::from(error).code;
                    self.machine.borrow_mut().as_mut().map(|machine| machine.write_failed(time(), id, error))
                }
                Err(error) => {
                    tracing::error!(partition = self.partition.index, %error, "group coordinator gives up");
                    self.unload();
                    None
                }
            };
            self.perform(effects.unwrap_or_default());
        }
    }

    async fn keep_time(self: Rc<Self>) {
        loop {
            let deadline = self.machine.borrow().as_ref().and_then(GroupCoordinator::next_deadline);
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
            let effects = self.machine.borrow_mut().as_mut().map(|machine| machine.tick(time()));
            self.perform(effects.unwrap_or_default());
        }
    }

    async fn load(self: Rc<Self>, config: GroupConfig) {
        match self.replay(GroupCoordinator::new(config)).await {
            Ok(mut machine) => {
                let effects = machine.finish_loading(time());
                self.machine.replace(Some(machine));
                self.perform(effects);
            }
            Err(error) => {
                self.failed.set(true);
                tracing::error!(partition = self.partition.index, error, "group coordinator could not be rebuilt");
            }
        }
    }

    async fn replay(&self, mut machine: GroupCoordinator) -> Result<GroupCoordinator, String> {
        let take = |header: &BatchHeader, found| match found {
            Found::Record { key, value } => {
                let producer_id = header.is_transactional().then_some(header.producer_id.0);
                machine.replay(time(), key, value, producer_id).map(drop).map_err(|e| e.to_string())
            }
            Found::Marker(marker) => {
                machine.transaction_ended(header.producer_id.0, marker == TransactionMarker::Commit);
                Ok(())
            }
        };
        replay(&self.partition, take).await?;
        Ok(machine)
    }

    /// Stores offsets as part of a producer's transaction, which has this partition: that is looked up, or with `add` seen to,
    /// at `transactional_id`'s coordinator.
    pub async fn txn_offset_commit(
        self: Rc<Self>,
        shard: Rc<Shard>,
        request: TxnOffsetCommitRequest,
        add: bool,
    ) -> Result<TxnOffsetCommitResponse, ErrorCode> {
        if self.machine.borrow().is_none() {
            return Err(self.not_ready());
        }
        let verification = VerifyTransaction {
            transactional_id: request.transactional_id.to_string(),
            producer_id: request.producer_id,
            producer_epoch: request.producer_epoch,
            partitions: vec![(self.partition.topic.clone(), self.partition.index)],
            add,
        };
        let ends = self.ends_of(request.producer_id);
        let verified = verify_transaction(&shard, verification).await;
        match verified.first() {
            Some(ErrorCode::None) => {}
            Some(error) => return Err(*error),
            None => return Err(ErrorCode::UnknownServerError),
        }
        // Where every transaction has its own epoch, a marker with this one ended the transaction before.
        if ends.get().is_some_and(|epoch| !add || epoch > request.producer_epoch) {
            // The transaction that was looked at has ended meanwhile: what is written now would belong to none.
            return Err(ErrorCode::ConcurrentTransactions);
        }
        let answer = self.handle(move |groups, now| groups.txn_offset_commit(now, &request))?;
        answer.await
    }

    /// Follows the ends of a producer's transactions here from now on, as long as somebody holds it: the epoch of the last
    /// marker.
    fn ends_of(&self, producer_id: i64) -> Rc<Cell<Option<i16>>> {
        let mut ends = self.ends.borrow_mut();
        ends.retain(|_, last| last.strong_count() > 0);
        if let Some(last) = ends.get(&producer_id).and_then(Weak::upgrade) {
            return last;
        }
        let last = Rc::new(Cell::new(None));
        ends.insert(producer_id, Rc::downgrade(&last));
        last
    }

    /// Writes a transaction's marker, after which the offsets that were committed in it count, or are dropped.
    pub async fn end_transaction(&self, marker: Marker) -> Result<Offset, ErrorCode> {
        if self.machine.borrow().is_none() {
            return Err(self.not_ready());
        }
        if let Some(last) = self.ends.borrow().get(&marker.producer_id.0).and_then(Weak::upgrade) {
            last.set(Some(marker.producer_epoch.0));
        }
        let offset = self.partition.write_marker(marker).await?;
        if let Some(machine) = self.machine.borrow_mut().as_mut() {
            machine.transaction_ended(marker.producer_id.0, marker.commit);
        }
        Ok(offset)
    }

    /// Everybody who waits is told to look for another coordinator, and so is everybody from now on. What is being
    /// written may or may not come to be.
    fn unload(&self) {
        self.failed.set(true);
        let machine = self.machine.take();
        let completed = machine.map(|m| m.unload(time(), ErrorCode::NotCoordinator)).unwrap_or_default();
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
