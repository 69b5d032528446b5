//! SaslAuthenticate out of its time (KIP-152).

use corelane_protocol::messages::{SaslAuthenticateRequest, SaslAuthenticateResponse};
use corelane_protocol::{ErrorCode, Str};

use crate::kafka::request::RequestContext;

pub async fn handle(_: RequestContext, _: SaslAuthenticateRequest) -> SaslAuthenticateResponse {
    SaslAuthenticateResponse {
        error_code: ErrorCode::IllegalSaslState.code(),
        error_message: Some(Str::from_static("SaslAuthenticate request received after successful authentication")),
        ..Default::default()
    }
}
