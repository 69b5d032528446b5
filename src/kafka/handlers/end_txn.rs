//! EndTxn: commit or abort. From v5 on the client works with transactions version 2 (KIP-890).

use corelane_coordinator::txn::{Producer, TxnResult, TxnVersion};
use corelane_protocol::ErrorCode;
use corelane_protocol::messages::{EndTxnRequest, EndTxnResponse};

use crate::coordinator::with_transaction;
use crate::kafka::request::RequestContext;

/// First version whose epoch rises with every transaction.
const BUMPING_FROM: i16 = 5;
/// First version that knows PRODUCER_FENCED.
const FENCED_FROM: i16 = 2;

pub async fn handle(context: RequestContext, request: EndTxnRequest) -> EndTxnResponse {
    let bumping = context.version >= BUMPING_FROM;
    let version = if bumping { TxnVersion::V2 } else { TxnVersion::V0 };
    let producer = Producer { id: request.producer_id, epoch: request.producer_epoch };
    let result = if request.committed { TxnResult::Commit } else { TxnResult::Abort };
    let id = request.transactional_id;
    let key = id.clone();
    let ended =
        with_transaction(&context.shard, &key, move |txns, now| txns.end(now, &id, producer, result, version)).await;
    match ended {
        Ok(Producer { id, epoch }) if bumping => {
            EndTxnResponse { producer_id: id, producer_epoch: epoch, ..Default::default() }
        }
        Ok(_) => EndTxnResponse::default(),
        Err(error) => {
            EndTxnResponse { error_code: fenced(context.version >= FENCED_FROM, error).code(), ..Default::default() }
        }
    }
}

/// Older clients know a fenced producer by another name.
pub(super) fn fenced(known: bool, error: ErrorCode) -> ErrorCode {
    if error == ErrorCode::ProducerFenced && !known { ErrorCode::InvalidProducerEpoch } else { error }
}
