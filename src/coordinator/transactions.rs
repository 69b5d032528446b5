//! Reaching the transaction coordinators, from any shard.

use std::future::Future;
use std::rc::Rc;

use core_pinning::ShardId;
use corelane_coordinator::Now;
use corelane_coordinator::group::partition_for;
use corelane_coordinator::txn::{Answer, Outcome, TxnCoordinator};
use corelane_protocol::ErrorCode;

use crate::controller::image::{TRANSACTION_TOPIC, TopicImage, owner};
use crate::router::ShardCall;
use crate::shard::Shard;

/// The partition of `__transaction_state` that a transactional id belongs to.
pub fn txn_partition(topic: &TopicImage, transactional_id: &str) -> u32 {
    partition_for(transactional_id, topic.partitions as i32) as u32
}

/// Where the machine of a transactional id is: the shard, and the partition of `__transaction_state`.
pub(super) fn coordinator_of(shard: &Shard, transactional_id: &str) -> Result<(ShardId, u32), ErrorCode> {
    let image = shard.image();
    let topic = image.topic_named(TRANSACTION_TOPIC).ok_or(ErrorCode::CoordinatorNotAvailable)?;
    let partition = txn_partition(topic, transactional_id);
    Ok((owner(topic.key(partition), shard.shards), partition))
}

/// Runs `request` on the machine that a transactional id belongs to. Errors of a coordinator that is not there (yet) are among
/// the answers.
pub async fn with_transaction<F>(shard: &Rc<Shard>, transactional_id: &str, request: F) -> Answer
where
    F: FnOnce(&mut TxnCoordinator, Now) -> Outcome + Send + 'static,
{
    let (to, partition) = coordinator_of(shard, transactional_id)?;
    shard.router.call(shard, to, TxnCall { partition, request }).await
}

struct TxnCall<F> {
    partition: u32,
    request: F,
}

impl<F> ShardCall for TxnCall<F>
where
    F: FnOnce(&mut TxnCoordinator, Now) -> Outcome + Send + 'static,
{
    type Reply = Answer;

    fn run(self, shard: &Rc<Shard>) -> impl Future<Output = Answer> + 'static {
        let shard = shard.clone();
        async move {
            match shard.coordinators.txn(self.partition) {
                Some(txn) => txn.handle(shard, self.request).await,
                None => Err(ErrorCode::NotCoordinator),
            }
        }
    }
}

/// As [`with_transaction`], for what is answered at once and changes nothing.
pub async fn ask_transaction<R, F>(shard: &Rc<Shard>, transactional_id: &str, question: F) -> Result<R, ErrorCode>
where
    R: Send + 'static,
    F: FnOnce(&TxnCoordinator, Now) -> R + Send + 'static,
{
    let (to, partition) = coordinator_of(shard, transactional_id)?;
    shard.router.call(shard, to, TxnQuestion { partition, question }).await
}

struct TxnQuestion<F> {
    partition: u32,
    question: F,
}

impl<R, F> ShardCall for TxnQuestion<F>
where
    R: Send + 'static,
    F: FnOnce(&TxnCoordinator, Now) -> R + Send + 'static,
{
    type Reply = Result<R, ErrorCode>;

    fn run(self, shard: &Rc<Shard>) -> impl Future<Output = Self::Reply> + 'static {
        std::future::ready(match shard.coordinators.txn(self.partition) {
            Some(txn) => txn.ask(self.question),
            None => Err(ErrorCode::NotCoordinator),
        })
    }
}

/// Asks every transaction coordinator of the broker that the client is connected to; an error if one of them is not ready.
pub async fn every_transaction<R, F>(shard: &Rc<Shard>, question: F) -> Result<Vec<R>, ErrorCode>
where
    R: Send + 'static,
    F: Fn(&TxnCoordinator, Now) -> Vec<R> + Clone + Send + 'static,
{
    let mut all = Vec::new();
    for reply in shard.router.call_each(shard, shard.of_this_broker(), EveryTransaction { question }).await {
        all.extend(reply?);
    }
    Ok(all)
}

#[derive(Clone)]
struct EveryTransaction<F> {
    question: F,
}

impl<R, F> ShardCall for EveryTransaction<F>
where
    R: Send + 'static,
    F: Fn(&TxnCoordinator, Now) -> Vec<R> + Send + 'static,
{
    type Reply = Result<Vec<R>, ErrorCode>;

    fn run(self, shard: &Rc<Shard>) -> impl Future<Output = Self::Reply> + 'static {
        let answers =
            shard.coordinators.all_txns().into_iter().map(|txn| txn.ask(|txns, now| (self.question)(txns, now)));
        let answers: Result<Vec<Vec<R>>, ErrorCode> = answers.collect();
        std::future::ready(answers.map(|answers| answers.into_iter().flatten().collect()))
    }
}
