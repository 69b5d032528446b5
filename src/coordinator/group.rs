//! One partition of `__consumer_offsets` and its machine: loads it, runs requests on it, ends transactions in it.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use core_pinning::task::{Queue, spawn};
use corelane_coordinator::Now;
use corelane_coordinator::group::{
    Effects, Errand, GroupConfig, GroupCoordinator, Outcome, Response, WaitToken, Write, WriteId,
};
use corelane_protocol::messages::{TxnOffsetCommitRequest, TxnOffsetCommitResponse};
use corelane_protocol::{ErrorCode, Str, Uuid};
use corelane_storage::model::Offset;
use corelane_storage::record::{BatchHeader, TransactionMarker};
use futures::StreamExt;
use futures::future::{Either, select};
use futures::stream::FuturesUnordered;
use hashbrown::HashMap;

use super::group_view::{ImageTopics, ShardSettings};
use super::host::{Host, Machine, Work, time};
use super::replay::{Found, replay};
use super::share_group::{error_among, initialize_share_states};
use super::verification::{VerifyTransaction, verify_transaction};
use crate::controller::image::ClusterImage;
use crate::partition::{Marker, Partition};
use crate::shard::Shard;

pub struct GroupPartition {
    host: Host<GroupCoordinator>,
    /// Ends of transactions, for those who are about to write into one.
    ends: RefCell<HashMap<i64, Weak<Cell<Option<i16>>>>>,
}

impl Machine for GroupCoordinator {
    const NAME: &'static str = "group coordinator";
    type Answer = Response;
    type Errand = Errand;
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

    fn unload(self, now: Now, error: ErrorCode) -> Vec<(WaitToken, Response)> {
        self.unload(now, error).into_iter().map(|c| (c.token, c.response)).collect()
    }

    fn step(write: &Write) -> Option<String> {
        write.producer.map(|_| "offsets".to_owned())
    }
}

impl From<Effects> for Work<GroupCoordinator> {
    fn from(effects: Effects) -> Self {
        let answers = effects.completed.into_iter().map(|c| (c.token, c.response)).collect();
        Work { writes: effects.writes, errands: effects.errands, answers }
    }
}

impl GroupPartition {
    pub fn start(shard: &Rc<Shard>, partition: Rc<Partition>, config: GroupConfig) -> Rc<GroupPartition> {
        let group = Rc::new(GroupPartition { host: Host::new(partition), ends: RefCell::default() });
        let (loading, writing, running, timing) = (group.clone(), group.clone(), group.clone(), group.clone());
        let (shard, from) = (shard.clone(), shard.clone());
        group.host.keep(vec![
            spawn(Queue::Replicate, "group loading", async move { loading.load(&shard, config).await }),
            spawn(Queue::Serve, "group writes", async move { writing.host.follow_writes(|| {}).await }),
            spawn(Queue::Serve, "group errands", async move { running.run_errands(from).await }),
            spawn(Queue::Serve, "group timers", async move { timing.host.keep_time(async || {}).await }),
        ]);
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
        let promise = self.host.run(|machine, now| {
            let outcome = request(machine, now);
            (outcome.reply, outcome.effects)
        })?;
        Ok(async move {
            match promise {
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
        let answer = self.host.change(|machine| question(machine, time()));
        self.host.reschedule();
        answer.ok_or_else(|| self.host.not_ready())
    }

    /// Moves the machine by what comes from elsewhere.
    pub fn advance(&self, step: impl FnOnce(&mut GroupCoordinator, Now) -> Effects) -> Result<(), ErrorCode> {
        self.host.ready()?;
        self.host.advance(|machine| step(machine, time()));
        Ok(())
    }

    /// Does what the machine asks of others, each thing by itself.
    async fn run_errands(self: Rc<Self>, shard: Rc<Shard>) {
        let mut under_way = FuturesUnordered::new();
        loop {
            for Errand::InitializeShareState(asked) in self.host.take_errands() {
                let shard = shard.clone();
                under_way.push(async move {
                    let answers = initialize_share_states(&shard, &asked).await;
                    let error = answers.values().find_map(error_among);
                    if let Some(error) = error {
                        let group = asked.group.as_str();
                        tracing::warn!(group, ?error, "states of a share group could not be initialised");
                    }
                    (asked, error.is_some())
                });
            }
            if under_way.is_empty() {
                self.host.errand().await;
                continue;
            }
            let done = {
                let more = pin!(self.host.errand());
                match select(more, under_way.next()).await {
                    Either::Left(_) => None,
                    Either::Right((done, _)) => done,
                }
            };
            if let Some((asked, failed)) = done {
                self.host.advance(|machine| machine.share_state_initialized(time(), &asked, failed));
            }
        }
    }

    pub fn topics_deleted(&self, topics: &[(Str, Uuid)]) {
        self.host.advance(|machine| machine.topics_deleted(time(), topics));
    }

    /// A new version of the cluster's topics: those of these names were created, changed or deleted.
    pub fn take_topics(&self, shard: &Shard, image: &Arc<ClusterImage>, changed: &[Str]) {
        let topics = Rc::new(ImageTopics::of(shard, image.clone()));
        self.host.change(|machine| machine.set_topics(topics, changed));
    }

    async fn load(self: Rc<Self>, shard: &Rc<Shard>, config: GroupConfig) {
        let mut machine = GroupCoordinator::new(config);
        machine.set_consumer_settings(Rc::new(ShardSettings::of(shard)));
        machine.set_share_settings(Rc::new(ShardSettings::of(shard)));
        let replayed = self.replay(machine).await.map(|mut machine| {
            machine.set_topics(Rc::new(ImageTopics::of(shard, shard.image())), &[]);
            machine
        });
        self.host.loaded(replayed);
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
        replay(&self.host.partition, take).await?;
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
        self.host.ready()?;
        let verification = VerifyTransaction {
            transactional_id: request.transactional_id.to_string(),
            producer_id: request.producer_id,
            producer_epoch: request.producer_epoch,
            partitions: vec![(self.host.partition.topic.clone(), self.host.partition.index)],
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
        self.host.ready()?;
        if let Some(last) = self.ends.borrow().get(&marker.producer_id.0).and_then(Weak::upgrade) {
            last.set(Some(marker.producer_epoch.0));
        }
        let offset = self.host.partition.write_marker(marker).await?;
        self.host.change(|machine| machine.transaction_ended(marker.producer_id.0, marker.commit));
        Ok(offset)
    }

    pub async fn stop(&self) {
        self.host.stop().await;
    }
}
