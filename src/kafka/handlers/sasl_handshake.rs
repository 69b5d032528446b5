//! SaslHandshake out of its time: who comes by a listener without SASL, or is somebody already, has no use for it (KIP-152).

use corelane_protocol::ErrorCode;
use corelane_protocol::messages::{SaslHandshakeRequest, SaslHandshakeResponse};

use crate::kafka::request::RequestContext;

pub async fn handle(_: RequestContext, _: SaslHandshakeRequest) -> SaslHandshakeResponse {
    SaslHandshakeResponse { error_code: ErrorCode::IllegalSaslState.code(), ..Default::default() }
}
