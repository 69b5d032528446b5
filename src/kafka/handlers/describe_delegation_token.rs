//! DescribeDelegationToken (KIP-48): the tokens that a client may know of, with their HMACs.

use bytes::Bytes;
use corelane_acl::{Operation, ResourceType};
use corelane_protocol::ErrorCode;
use corelane_protocol::messages::{
    DescribeDelegationTokenRequest, DescribeDelegationTokenRequestDescribeDelegationTokenOwner as Owner,
    DescribeDelegationTokenResponse, DescribeDelegationTokenResponseDescribedDelegationToken as Described,
    DescribeDelegationTokenResponseDescribedDelegationTokenRenewer as Renewer,
};
use corelane_sasl::TokenKey;

use super::delegation_tokens::may_have_tokens;
use crate::controller::tokens::{KeptToken, Token};
use crate::kafka::request::RequestContext;
use crate::security::Principal;

pub async fn handle(
    context: RequestContext,
    request: DescribeDelegationTokenRequest,
) -> DescribeDelegationTokenResponse {
    let refused = |error: ErrorCode| DescribeDelegationTokenResponse { error_code: error.code(), ..Default::default() };
    if !may_have_tokens(&context.client) {
        return refused(ErrorCode::DelegationTokenRequestNotAllowed);
    }
    let Some(key) = context.shard.config.token_key() else {
        return refused(ErrorCode::DelegationTokenAuthDisabled);
    };
    let principal = |owner: &Owner| {
        let (kind, name) = (&owner.principal_type, &owner.principal_name);
        Principal { kind: kind.clone(), name: name.clone() }
    };
    // Not given: everybody.
    let owners: Option<Vec<Principal>> = request.owners.map(|owners| owners.iter().map(principal).collect());
    let is_asked_for =
        |token: &Token| owners.as_ref().is_none_or(|owners| owners.iter().any(|owner| token.concerns(owner)));
    let own = context.client.principal();
    let may_see = |token: &Token| {
        token.concerns(&own)
            || context.may_see(Operation::Describe, ResourceType::DelegationToken, &token.id)
            || context.may_see(Operation::DescribeTokens, ResourceType::User, &token.owner.to_string())
    };
    let image = context.shard.image();
    let shown = image.tokens().iter().filter(|kept| is_asked_for(&kept.token) && may_see(&kept.token));
    let tokens = shown.map(|kept| described(kept, key, context.version)).collect();
    DescribeDelegationTokenResponse { tokens, ..Default::default() }
}

fn described(kept: &KeptToken, key: &TokenKey, version: i16) -> Described {
    let token = &*kept.token;
    let renewer = |renewer: &Principal| Renewer {
        principal_type: renewer.kind.clone(),
        principal_name: renewer.name.clone(),
        ..Default::default()
    };
    let mut described = Described {
        principal_type: token.owner.kind.clone(),
        principal_name: token.owner.name.clone(),
        issue_timestamp: token.issued_ms,
        expiry_timestamp: token.expires_ms,
        max_timestamp: token.max_ms,
        token_id: token.id.clone().into(),
        hmac: Bytes::copy_from_slice(kept.hmac(key).as_bytes()),
        renewers: token.renewers.iter().map(renewer).collect(),
        ..Default::default()
    };
    if version >= 3 {
        described.token_requester_principal_type = token.requester.kind.clone();
        described.token_requester_principal_name = token.requester.name.clone();
    }
    described
}
