//! Coordinators of this broker: state machines over partitions of internal topics, on the shards that own those.
//!
//! A request finds the partition that its group belongs to, runs the machine there, writes the records that come out of it
//! to that partition, and is answered when they are applied. After a start the same records rebuild the machine.

mod group;
mod group_view;
mod host;
mod markers;
mod replay;
mod share;
mod share_group;
mod share_state;
mod topics;
mod transactions;
mod txn;
mod verification;

use std::cell::RefCell;
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;

use core_pinning::ShardId;
use corelane_coordinator::Now;
use corelane_coordinator::group::{Effects, GroupCoordinator, Outcome, Response, partition_for};
use corelane_coordinator::txn::TxnVersion;
use corelane_protocol::messages::{TxnOffsetCommitRequest, TxnOffsetCommitResponse};
use corelane_protocol::{ErrorCode, Str, Uuid};
use corelane_storage::model::TopicId;
use hashbrown::HashMap;

pub use self::group::GroupPartition;
pub use self::markers::write_markers;
pub use self::share::ShareStatePartition;
pub use self::share_group::{
    ShareAnswers, ask_share_states, delete_share_states, error_among, initialize_share_states,
};
pub use self::share_state::{share_state_partition, share_states};
pub use self::topics::create_internal_topic;
pub use self::transactions::{ask_transaction, every_transaction, txn_partition, with_transaction};
pub use self::txn::TxnPartition;
pub use self::verification::{VerifyTransaction, verify_transaction};
use crate::controller::features::TRANSACTION_VERSION;
use crate::controller::image::{ClusterImage, OFFSETS_TOPIC, SHARE_STATE_TOPIC, TRANSACTION_TOPIC, TopicImage, owner};
use crate::router::ShardCall;
use crate::shard::Shard;

#[derive(Default)]
pub struct Coordinators {
    /// By partition of `__consumer_offsets`.
    groups: RefCell<HashMap<u32, Rc<GroupPartition>>>,
    /// By partition of `__transaction_state`.
    txns: RefCell<HashMap<u32, Rc<TxnPartition>>>,
    /// By partition of `__share_group_state`.
    share_states: RefCell<HashMap<u32, Rc<ShareStatePartition>>>,
    /// Names of the topics there were, so that offsets of deleted ones can go.
    names: RefCell<HashMap<TopicId, Arc<str>>>,
}

impl Coordinators {
    pub fn get(&self, partition: u32) -> Option<Rc<GroupPartition>> {
        self.groups.borrow().get(&partition).cloned()
    }

    pub fn all(&self) -> Vec<Rc<GroupPartition>> {
        self.groups.borrow().values().cloned().collect()
    }

    pub fn txn(&self, partition: u32) -> Option<Rc<TxnPartition>> {
        self.txns.borrow().get(&partition).cloned()
    }

    pub fn all_txns(&self) -> Vec<Rc<TxnPartition>> {
        self.txns.borrow().values().cloned().collect()
    }

    pub fn share_state(&self, partition: u32) -> Option<Rc<ShareStatePartition>> {
        self.share_states.borrow().get(&partition).cloned()
    }

    fn all_share_states(&self) -> Vec<Rc<ShareStatePartition>> {
        self.share_states.borrow().values().cloned().collect()
    }

    /// Starts the coordinators of new partitions of `__consumer_offsets`, `__transaction_state` and `__share_group_state`, and lets
    /// what is stored of deleted topics go.
    pub fn take_image(&self, shard: &Rc<Shard>, image: &Arc<ClusterImage>, touched: &[TopicId]) {
        let version = TxnVersion::from_level(image.feature(TRANSACTION_VERSION));
        self.all_txns().iter().for_each(|txn| txn.set_version(version));
        let (mut deleted, mut changed) = (Vec::new(), Vec::new());
        for id in touched {
            match image.topic(*id) {
                Some(topic) => {
                    changed.push(topic.wire_name());
                    self.names.borrow_mut().insert(*id, topic.name.clone());
                    if &*topic.name == OFFSETS_TOPIC {
                        self.start_groups(shard, topic);
                    }
                    if &*topic.name == TRANSACTION_TOPIC {
                        self.start_txns(shard, topic, version);
                    }
                    if &*topic.name == SHARE_STATE_TOPIC {
                        self.start_share_states(shard, topic);
                    }
                }
                None => deleted
                    .extend(self.names.borrow_mut().remove(id).map(|name| (Str::from(name.to_string()), Uuid(id.0)))),
            }
        }
        changed.extend(deleted.iter().map(|(name, _): &(Str, Uuid)| name.clone()));
        if !changed.is_empty() {
            self.all().iter().for_each(|group| group.take_topics(shard, image, &changed));
        }
        if !deleted.is_empty() {
            self.all().iter().for_each(|group| group.topics_deleted(&deleted));
            let deleted: Vec<Uuid> = deleted.into_iter().map(|(_, id)| id).collect();
            self.all_share_states().iter().for_each(|share| share.topics_deleted(&deleted));
        }
    }

    fn start_groups(&self, shard: &Rc<Shard>, topic: &TopicImage) {
        for index in 0..topic.partitions {
            let Some(partition) = shard.partitions.get(topic.key(index)) else { continue };
            let mut groups = self.groups.borrow_mut();
            groups.entry(index).or_insert_with(|| GroupPartition::start(shard, partition, shard.config.groups()));
        }
    }

    fn start_txns(&self, shard: &Rc<Shard>, topic: &TopicImage, version: TxnVersion) {
        for index in 0..topic.partitions {
            let Some(partition) = shard.partitions.get(topic.key(index)) else { continue };
            let mut txns = self.txns.borrow_mut();
            txns.entry(index)
                .or_insert_with(|| TxnPartition::start(shard, partition, shard.config.transactions(), version));
        }
    }

    fn start_share_states(&self, shard: &Rc<Shard>, topic: &TopicImage) {
        for index in 0..topic.partitions {
            let Some(partition) = shard.partitions.get(topic.key(index)) else { continue };
            let mut share_states = self.share_states.borrow_mut();
            share_states.entry(index).or_insert_with(|| ShareStatePartition::start(partition, &shard.config));
        }
    }

    /// Answers everybody who waits; nothing is written afterwards.
    pub async fn stop(&self) {
        for txn in self.all_txns() {
            txn.stop().await;
        }
        for share in self.all_share_states() {
            share.stop().await;
        }
        for group in self.all() {
            group.stop().await;
        }
    }
}

/// Runs `request` on the machine that `group` belongs to. Errors are those of a coordinator that is not there (yet).
pub async fn with_group<R, F>(shard: &Rc<Shard>, group: &str, request: F) -> Result<R, ErrorCode>
where
    R: TryFrom<Response> + Send + 'static,
    F: FnOnce(&mut GroupCoordinator, Now) -> Outcome<R> + Send + 'static,
{
    let (to, partition) = coordinator_of(shard, group)?;
    shard.router.call(shard, to, GroupCall { partition, request }).await
}

/// As [`with_group`], for what is answered at once and writes nothing.
pub async fn ask_group<R, F>(shard: &Rc<Shard>, group: &str, question: F) -> Result<R, ErrorCode>
where
    R: Send + 'static,
    F: FnOnce(&mut GroupCoordinator, Now) -> R + Send + 'static,
{
    let (to, partition) = coordinator_of(shard, group)?;
    shard.router.call(shard, to, GroupQuestion { partition, question }).await
}

/// As [`with_group`], for what comes from elsewhere and is answered by nobody. The step is taken when this returns; what it writes
/// may not yet be stored.
pub async fn advance_group<F>(shard: &Rc<Shard>, group: &str, step: F) -> Result<(), ErrorCode>
where
    F: FnOnce(&mut GroupCoordinator, Now) -> Effects + Send + 'static,
{
    let (to, partition) = coordinator_of(shard, group)?;
    shard.router.call(shard, to, GroupStep { partition, step }).await
}

struct GroupStep<F> {
    partition: u32,
    step: F,
}

impl<F> ShardCall for GroupStep<F>
where
    F: FnOnce(&mut GroupCoordinator, Now) -> Effects + Send + 'static,
{
    type Reply = Result<(), ErrorCode>;

    fn run(self, shard: &Rc<Shard>) -> impl Future<Output = Self::Reply> + 'static {
        std::future::ready(match shard.coordinators.get(self.partition) {
            Some(group) => group.advance(self.step),
            None => Err(ErrorCode::NotCoordinator),
        })
    }
}

struct GroupQuestion<F> {
    partition: u32,
    question: F,
}

impl<R, F> ShardCall for GroupQuestion<F>
where
    R: Send + 'static,
    F: FnOnce(&mut GroupCoordinator, Now) -> R + Send + 'static,
{
    type Reply = Result<R, ErrorCode>;

    fn run(self, shard: &Rc<Shard>) -> impl Future<Output = Self::Reply> + 'static {
        std::future::ready(match shard.coordinators.get(self.partition) {
            Some(group) => group.ask(self.question),
            None => Err(ErrorCode::NotCoordinator),
        })
    }
}

/// Where a group's machine is: the shard, and the partition of `__consumer_offsets`.
fn coordinator_of(shard: &Shard, group: &str) -> Result<(ShardId, u32), ErrorCode> {
    let image = shard.image();
    let topic = image.topic_named(OFFSETS_TOPIC).ok_or(ErrorCode::CoordinatorNotAvailable)?;
    let partition = group_partition(topic, group);
    Ok((owner(topic.key(partition), shard.shards), partition))
}

/// The partition of `__consumer_offsets` that a group belongs to.
pub fn group_partition(topic: &TopicImage, group: &str) -> u32 {
    partition_for(group, topic.partitions as i32) as u32
}

struct GroupCall<F> {
    partition: u32,
    request: F,
}

impl<R, F> ShardCall for GroupCall<F>
where
    R: TryFrom<Response> + Send + 'static,
    F: FnOnce(&mut GroupCoordinator, Now) -> Outcome<R> + Send + 'static,
{
    type Reply = Result<R, ErrorCode>;

    fn run(self, shard: &Rc<Shard>) -> impl Future<Output = Self::Reply> + 'static {
        let answer = match shard.coordinators.get(self.partition) {
            Some(group) => group.handle(self.request),
            None => Err(ErrorCode::NotCoordinator),
        };
        async move {
            match answer {
                Ok(answer) => answer.await,
                Err(error) => Err(error),
            }
        }
    }
}

/// Stores offsets in a transaction, at the group's coordinator. Errors: those of a coordinator that is not there (yet), and of
/// [`verify_transaction`].
pub async fn txn_offset_commit(
    shard: &Rc<Shard>,
    request: TxnOffsetCommitRequest,
    add: bool,
) -> Result<TxnOffsetCommitResponse, ErrorCode> {
    let (to, partition) = coordinator_of(shard, &request.group_id)?;
    shard.router.call(shard, to, TxnOffsetCommitCall { partition, request, add }).await
}

struct TxnOffsetCommitCall {
    partition: u32,
    request: TxnOffsetCommitRequest,
    add: bool,
}

impl ShardCall for TxnOffsetCommitCall {
    type Reply = Result<TxnOffsetCommitResponse, ErrorCode>;

    fn run(self, shard: &Rc<Shard>) -> impl Future<Output = Self::Reply> + 'static {
        let shard = shard.clone();
        async move {
            match shard.coordinators.get(self.partition) {
                Some(group) => group.txn_offset_commit(shard, self.request, self.add).await,
                None => Err(ErrorCode::NotCoordinator),
            }
        }
    }
}

/// Asks every coordinator of the broker that the client is connected to; an error if one of them is not ready. Where every
/// shard is a broker of its own, those are this shard's: a client asks each broker and adds the answers up.
pub async fn every_group<R, F>(shard: &Rc<Shard>, question: F) -> Result<Vec<R>, ErrorCode>
where
    R: Send + 'static,
    F: Fn(&mut GroupCoordinator) -> Vec<R> + Clone + Send + 'static,
{
    let mut all = Vec::new();
    for reply in shard.router.call_each(shard, shard.of_this_broker(), EveryGroup { question }).await {
        all.extend(reply?);
    }
    Ok(all)
}

#[derive(Clone)]
struct EveryGroup<F> {
    question: F,
}

impl<R, F> ShardCall for EveryGroup<F>
where
    R: Send + 'static,
    F: Fn(&mut GroupCoordinator) -> Vec<R> + Send + 'static,
{
    type Reply = Result<Vec<R>, ErrorCode>;

    fn run(self, shard: &Rc<Shard>) -> impl Future<Output = Self::Reply> + 'static {
        let answers = shard.coordinators.all().into_iter().map(|group| group.ask(|groups, _| (self.question)(groups)));
        let answers: Result<Vec<Vec<R>>, ErrorCode> = answers.collect();
        std::future::ready(answers.map(|answers| answers.into_iter().flatten().collect()))
    }
}
