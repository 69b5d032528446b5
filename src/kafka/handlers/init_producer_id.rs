//! InitProducerId for idempotent producers. Transactional ids are refused: transactions are not served.

use corelane_protocol::ErrorCode;
use corelane_protocol::messages::{InitProducerIdRequest, InitProducerIdResponse};

use crate::kafka::request::RequestContext;
use crate::producer_ids::ProducerIds;

pub async fn handle(context: RequestContext, request: InitProducerIdRequest) -> InitProducerIdResponse {
    let failed = |code: ErrorCode| InitProducerIdResponse {
        error_code: code.code(),
        producer_id: -1,
        producer_epoch: -1,
        ..Default::default()
    };
    let known = (request.producer_id != -1, request.producer_epoch != -1);
    if request.transactional_id.as_ref().is_some_and(|id| id.is_empty()) || known.0 != known.1 {
        return failed(ErrorCode::InvalidRequest);
    }
    if request.transactional_id.is_some() {
        return failed(ErrorCode::TransactionalIdAuthorizationFailed);
    }
    match ProducerIds::next(&context.shard).await {
        Ok(producer_id) => InitProducerIdResponse { producer_id, producer_epoch: 0, ..Default::default() },
        Err(refused) => failed(refused.code),
    }
}
