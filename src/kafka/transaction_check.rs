//! Asking the transaction coordinator about the batches of a produce request (KIP-890; Kafka: `AddPartitionsToTxnManager`).

use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use corelane_protocol::ErrorCode;
use corelane_storage::model::{PartitionKey, ProducerEpoch, ProducerId};
use corelane_storage::record::{BatchHeader, First};
use futures::FutureExt;
use hashbrown::HashMap;

use crate::coordinator::{VerifyTransaction, verify_transaction};
use crate::partition::{Found, Membership, ProduceFailure, Question};
use crate::shard::Shard;

/// Produce versions from which a client knows TRANSACTION_ABORTABLE, and from which its partitions are added to the transaction
/// on the way.
const ABORTABLE_FROM: i16 = 11;
const ADD_FROM: i16 = 12;

/// Who writes in a transaction, and how its request is to be understood.
#[derive(Clone, Debug)]
pub struct TransactionalWriter {
    pub transactional_id: Arc<str>,
    /// Of the produce request.
    pub version: i16,
}

/// A batch's place, and what the coordinator is asked about.
struct Asked {
    place: usize,
    topic: Arc<str>,
    index: u32,
    question: Question,
}

/// The header of a whole batch that says it belongs to a transaction, of whichever producer or none.
fn transactional(records: &Bytes) -> Option<BatchHeader> {
    match First::of(records) {
        Ok(First::Batch { header, .. }) if header.is_transactional() => Some(header),
        _ => None,
    }
}

/// How each of the batches for partitions of this shard belongs to its transaction. The coordinator is asked once for all
/// partitions on which a producer's transaction is not open yet.
pub fn memberships<'a>(
    shard: &Rc<Shard>,
    writer: &TransactionalWriter,
    batches: impl Iterator<Item = (PartitionKey, &'a Bytes)>,
) -> Vec<Membership> {
    let mut memberships = Vec::new();
    let mut unknown: HashMap<(ProducerId, ProducerEpoch), Vec<Asked>> = HashMap::new();
    let version = writer.version;
    let add = version >= ADD_FROM;
    for (place, (key, records)) in batches.enumerate() {
        // Nobody answers for a batch without a producer; Kafka takes it as it is.
        let header = transactional(records).filter(BatchHeader::has_producer);
        let membership = match shard.partitions.get(key).zip(header) {
            None => Membership::Known,
            Some((partition, header)) => match partition.membership(&header, add) {
                Found::Is(membership) => membership,
                Found::Ask(question) => {
                    let asked = Asked { place, topic: partition.topic.clone(), index: partition.index, question };
                    unknown.entry((header.producer_id, header.producer_epoch)).or_default().push(asked);
                    Membership::Known
                }
            },
        };
        memberships.push(membership);
    }
    for ((producer, epoch), asked) in unknown {
        let request = VerifyTransaction {
            transactional_id: writer.transactional_id.to_string(),
            producer_id: producer.0,
            producer_epoch: epoch.0,
            partitions: asked.iter().map(|asked| (asked.topic.clone(), asked.index)).collect(),
            add,
        };
        let shard = shard.clone();
        let answers = async move { Rc::new(verify_transaction(&shard, request).await) }.boxed_local().shared();
        for (n, Asked { place, question, .. }) in asked.into_iter().enumerate() {
            let answers = answers.clone();
            let verdict = async move {
                let error = answers.await.get(n).copied().unwrap_or(ErrorCode::UnknownServerError);
                judge(error, version)
            };
            if let Some(membership) = memberships.get_mut(place) {
                let verdict = verdict.boxed_local().shared();
                *membership = Membership::Asked { question, verdict };
            }
        }
    }
    memberships
}

/// What a producer is told of the coordinator's error, in words that its version knows.
fn judge(error: ErrorCode, version: i16) -> Result<(), ProduceFailure> {
    let error = match error {
        ErrorCode::ProducerFenced => ErrorCode::InvalidProducerEpoch,
        ErrorCode::TransactionAbortable if version < ABORTABLE_FROM => ErrorCode::InvalidTxnState,
        other => other,
    };
    let refused = |code: ErrorCode| ProduceFailure { before_log: true, ..code.into() };
    let told = |code, message: String| Err(ProduceFailure { message: Some(message), ..refused(code) });
    match error {
        ErrorCode::None => Ok(()),
        ErrorCode::InvalidTxnState => told(error, "the partition is not in the producer's transaction".to_owned()),
        // Old clients give up on errors of a coordinator in a produce response, but try this one again.
        ErrorCode::CoordinatorLoadInProgress | ErrorCode::CoordinatorNotAvailable | ErrorCode::NotCoordinator => {
            told(ErrorCode::NotEnoughReplicas, format!("the transaction cannot be verified now: {error:?}"))
        }
        ErrorCode::ConcurrentTransactions if version < ADD_FROM => {
            told(ErrorCode::NotEnoughReplicas, format!("the transaction cannot be verified now: {error:?}"))
        }
        other => Err(refused(other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn producers_are_told_what_their_version_knows() {
        let told = |error, version| judge(error, version).err().map_or(ErrorCode::None, |failure| failure.code);
        for (error, of_10, of_11, of_12) in [
            (ErrorCode::None, ErrorCode::None, ErrorCode::None, ErrorCode::None),
            (
                ErrorCode::TransactionAbortable,
                ErrorCode::InvalidTxnState,
                ErrorCode::TransactionAbortable,
                ErrorCode::TransactionAbortable,
            ),
            (
                ErrorCode::ConcurrentTransactions,
                ErrorCode::NotEnoughReplicas,
                ErrorCode::NotEnoughReplicas,
                ErrorCode::ConcurrentTransactions,
            ),
            (
                ErrorCode::NotCoordinator,
                ErrorCode::NotEnoughReplicas,
                ErrorCode::NotEnoughReplicas,
                ErrorCode::NotEnoughReplicas,
            ),
            (
                ErrorCode::ProducerFenced,
                ErrorCode::InvalidProducerEpoch,
                ErrorCode::InvalidProducerEpoch,
                ErrorCode::InvalidProducerEpoch,
            ),
        ] {
            assert_eq!([told(error, 10), told(error, 11), told(error, 12)], [of_10, of_11, of_12], "{error:?}");
        }
    }
}
