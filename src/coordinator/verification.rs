//! Asking the transaction coordinator whether a partition belongs to a producer's transaction (KIP-890).

use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use corelane_coordinator::txn::{Partitions, Producer, TxnVersion};
use corelane_protocol::{ErrorCode, Str};

use super::transactions::coordinator_of;
use super::txn::TxnPartition;
use crate::router::ShardCall;
use crate::shard::Shard;

/// What a partition wants to know before it takes the first batch of a transaction. Kafka: AddPartitionsToTxn v4+ from broker to
/// broker, where `add` is the opposite of `verify_only`.
#[derive(Clone, Debug)]
pub struct VerifyTransaction {
    pub transactional_id: String,
    pub producer_id: i64,
    pub producer_epoch: i16,
    /// Topic and partition.
    pub partitions: Vec<(Arc<str>, u32)>,
    /// Add the partitions to the transaction and begin one where none is (Produce v12+, transactions version 2); without it the
    /// partitions must have been added.
    pub add: bool,
}

/// Runs `request` on the shard of the transactional id's coordinator; answers come in the order of `partitions`.
/// [`ErrorCode::None`]: the transaction is ongoing at this very producer epoch and the partition is in it, durably.
///
/// Errors, as Kafka's coordinator gives them in AddPartitionsToTxn v4+: INVALID_TXN_STATE (older requests), TRANSACTION_ABORTABLE
/// (the partition is not in the transaction; what the producer can read is the caller's business), INVALID_PRODUCER_ID_MAPPING,
/// INVALID_PRODUCER_EPOCH or PRODUCER_FENCED, CONCURRENT_TRANSACTIONS (the transaction before is still being ended; the caller
/// tries again), COORDINATOR_NOT_AVAILABLE, COORDINATOR_LOAD_IN_PROGRESS, NOT_COORDINATOR.
///
/// Several shards may ask for one producer at the same time. While the record of one such request is being written the next one
/// should wait for it rather than answer CONCURRENT_TRANSACTIONS.
pub async fn verify_transaction(shard: &Rc<Shard>, request: VerifyTransaction) -> Vec<ErrorCode> {
    let count = request.partitions.len();
    let (to, partition) = match coordinator_of(shard, &request.transactional_id) {
        Ok(found) => found,
        Err(error) => return vec![error; count],
    };
    shard.router.call(shard, to, Verify { partition, request }).await
}

struct Verify {
    partition: u32,
    request: VerifyTransaction,
}

impl ShardCall for Verify {
    type Reply = Vec<ErrorCode>;

    fn run(self, shard: &Rc<Shard>) -> impl Future<Output = Self::Reply> + 'static {
        let shard = shard.clone();
        async move {
            let count = self.request.partitions.len();
            match shard.coordinators.txn(self.partition) {
                Some(txn) => verify(shard, txn, self.request).await.unwrap_or_else(|error| vec![error; count]),
                None => vec![ErrorCode::NotCoordinator; count],
            }
        }
    }
}

async fn verify(
    shard: Rc<Shard>,
    txn: Rc<TxnPartition>,
    request: VerifyTransaction,
) -> Result<Vec<ErrorCode>, ErrorCode> {
    let VerifyTransaction { transactional_id, producer_id, producer_epoch, partitions, add } = request;
    let producer = Producer { id: producer_id, epoch: producer_epoch };
    let wanted: Vec<(Str, i32)> =
        partitions.iter().map(|(topic, index)| (Str::from(topic.to_string()), *index as i32)).collect();
    let set: Partitions = wanted.iter().cloned().collect();
    if add {
        let settings = &shard.config.broker().transactions;
        let time = |ms: i32| Duration::from_millis(u64::try_from(ms).unwrap_or(0));
        let pace = (time(settings.add_partitions_backoff_ms), time(settings.add_partitions_patience_ms));
        txn.handle_patiently(shard, pace, move |txns, now| {
            txns.add_partitions(now, &transactional_id, producer, &set, TxnVersion::V2)
        })
        .await?;
        return Ok(vec![ErrorCode::None; wanted.len()]);
    }
    let verified = txn.ask(|txns, _| txns.verify_partitions(&transactional_id, producer, &set))??;
    let error_of = |(topic, index): &(Str, i32)| {
        let found = verified.iter().find(|(t, i, _)| t == topic && i == index);
        found.map_or(ErrorCode::UnknownServerError, |(_, _, error)| *error)
    };
    Ok(wanted.iter().map(error_of).collect())
}
