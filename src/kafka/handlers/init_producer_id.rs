//! InitProducerId: a new producer id, or the next epoch of the one that a transactional id has.

use corelane_coordinator::txn::Producer;
use corelane_protocol::ErrorCode;
use corelane_protocol::messages::{InitProducerIdRequest, InitProducerIdResponse};

use super::end_txn::fenced;
use crate::coordinator::with_transaction;
use crate::kafka::request::RequestContext;
use crate::producer_ids::ProducerIds;

/// First version that knows PRODUCER_FENCED.
const FENCED_FROM: i16 = 4;

pub async fn handle(context: RequestContext, request: InitProducerIdRequest) -> InitProducerIdResponse {
    match init(&context, request).await {
        Ok(Producer { id, epoch }) => {
            InitProducerIdResponse { producer_id: id, producer_epoch: epoch, ..Default::default() }
        }
        Err(error) => InitProducerIdResponse {
            error_code: fenced(context.version >= FENCED_FROM, error).code(),
            producer_id: -1,
            producer_epoch: -1,
            ..Default::default()
        },
    }
}

async fn init(context: &RequestContext, request: InitProducerIdRequest) -> Result<Producer, ErrorCode> {
    let known = Producer { id: request.producer_id, epoch: request.producer_epoch };
    let expected = match (known.id != -1, known.epoch != -1) {
        (true, true) => Some(known),
        (false, false) => None,
        _ => return Err(ErrorCode::InvalidRequest),
    };
    match request.transactional_id {
        None => match ProducerIds::next(&context.shard).await {
            Ok(id) => Ok(Producer { id, epoch: 0 }),
            Err(refused) => Err(refused.code),
        },
        Some(id) if id.is_empty() => Err(ErrorCode::InvalidRequest),
        // What no coordinator takes is refused before one is looked for.
        Some(_) if !context.shard.config.transactions().is_timeout(request.transaction_timeout_ms) => {
            Err(ErrorCode::InvalidTransactionTimeout)
        }
        Some(id) => {
            let (key, timeout_ms) = (id.clone(), request.transaction_timeout_ms);
            with_transaction(&context.shard, &key, move |txns, now| {
                txns.init_producer_id(now, &id, timeout_ms, expected)
            })
            .await
        }
    }
}
