//! RenewDelegationToken (KIP-48): puts the end of a token off, for its owner and those whom it names.

use corelane_protocol::messages::{RenewDelegationTokenRequest, RenewDelegationTokenResponse};

use super::delegation_tokens::change_end;
use crate::controller::tokens::RenewToken;
use crate::kafka::request::RequestContext;

pub async fn handle(context: RequestContext, request: RenewDelegationTokenRequest) -> RenewDelegationTokenResponse {
    let (hmac, period_ms) = (request.hmac.to_vec(), request.renew_period_ms);
    let (error, expiry_timestamp_ms) = change_end(&context, |by| RenewToken { hmac, by, period_ms }).await;
    RenewDelegationTokenResponse { error_code: error.code(), expiry_timestamp_ms, ..Default::default() }
}
