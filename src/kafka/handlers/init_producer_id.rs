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
    if request.transactional_id.is_some() {
        return failed(ErrorCode::TransactionalIdAuthorizationFailed);
    }
    match ProducerIds::next(&context.shard).await {
        Ok(producer_id) => InitProducerIdResponse { producer_id, producer_epoch: 0, ..Default::default() },
        Err(refused) => failed(refused.code),
    }
}
