//! ExpireDelegationToken (KIP-48): sets the end of a token, or takes it away at once.

use corelane_protocol::messages::{ExpireDelegationTokenRequest, ExpireDelegationTokenResponse};

use super::delegation_tokens::change_end;
use crate::controller::tokens::ExpireToken;
use crate::kafka::request::RequestContext;

pub async fn handle(context: RequestContext, request: ExpireDelegationTokenRequest) -> ExpireDelegationTokenResponse {
    let (hmac, period_ms) = (request.hmac.to_vec(), request.expiry_time_period_ms);
    let (error, expiry_timestamp_ms) = change_end(&context, |by| ExpireToken { hmac, by, period_ms }).await;
    ExpireDelegationTokenResponse { error_code: error.code(), expiry_timestamp_ms, ..Default::default() }
}
