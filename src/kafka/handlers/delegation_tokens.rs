//! What the requests about delegation tokens have in common.

use corelane_config::SecurityProtocol;
use corelane_protocol::ErrorCode;

use crate::controller::Decision;
use crate::controller::requests::ask;
use crate::controller::tokens::Token;
use crate::kafka::request::{Client, RequestContext};
use crate::security::Principal;

/// Kafka's time where the broker itself refuses; its controller says 0.
pub const NO_TIME: i64 = -1;

/// Whether a connection may have to do with tokens at all: not if its client is one that anybody may be, or is somebody only by such
/// a token (Kafka: `allowTokenRequests`).
pub fn may_have_tokens(client: &Client) -> bool {
    !client.is_by_token()
        && match client.listener.protocol {
            SecurityProtocol::Plaintext => false,
            SecurityProtocol::Ssl => *client.principal() != Principal::anonymous(),
            SecurityProtocol::SaslPlaintext | SecurityProtocol::SaslSsl => true,
        }
}

/// Changes the end of a token for the client; the error, and when the token ends then.
pub async fn change_end<D: Decision<Told = Token>>(
    context: &RequestContext,
    change: impl FnOnce(Principal) -> D,
) -> (ErrorCode, i64) {
    if !may_have_tokens(&context.client) {
        return (ErrorCode::DelegationTokenRequestNotAllowed, NO_TIME);
    }
    let by = context.client.principal();
    match ask(&context.shard, change((*by).clone())).await {
        Ok(Token { id, expires_ms, .. }) => {
            tracing::info!(id, %by, api = context.api.name(), expires_ms, "a delegation token has another end");
            (ErrorCode::None, expires_ms)
        }
        Err(refused) => (refused.code, 0),
    }
}
