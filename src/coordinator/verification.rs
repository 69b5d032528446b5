//! Asking the transaction coordinator whether a partition belongs to a producer's transaction (KIP-890).

use std::rc::Rc;
use std::sync::Arc;

use corelane_protocol::ErrorCode;

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
pub async fn verify_transaction(_shard: &Rc<Shard>, request: VerifyTransaction) -> Vec<ErrorCode> {
    // Transactional ids are refused, so nobody has a transaction.
    let VerifyTransaction { transactional_id, producer_id, producer_epoch, partitions, add } = request;
    tracing::debug!(transactional_id, producer_id, producer_epoch, add, "no such transaction");
    vec![ErrorCode::InvalidTxnState; partitions.len()]
}
