//! CreateDelegationToken (KIP-48, KIP-373): a token with which others come as its owner.

use bytes::Bytes;
use corelane_acl::{Operation, ResourceType};
use corelane_protocol::ErrorCode;
use corelane_protocol::messages::{CreateDelegationTokenRequest, CreateDelegationTokenResponse};

use super::delegation_tokens::{NO_TIME, may_have_tokens};
use crate::controller::requests::ask;
use crate::controller::tokens::CreateToken;
use crate::kafka::request::RequestContext;
use crate::security::{Principal, USER};

pub async fn handle(context: RequestContext, request: CreateDelegationTokenRequest) -> CreateDelegationTokenResponse {
    let requester = (*context.client.principal()).clone();
    let CreateDelegationTokenRequest { owner_principal_type, owner_principal_name, renewers, max_lifetime_ms, .. } =
        request;
    let owner = match (owner_principal_type, owner_principal_name.filter(|name| !name.is_empty())) {
        (_, None) => requester.clone(),
        (Some(kind), Some(name)) => Principal { kind: kind.detach(), name: name.detach() },
        (None, Some(_)) => {
            let nobody = Principal::anonymous();
            return refused(&context, ErrorCode::UnknownServerError, &nobody, &nobody, NO_TIME);
        }
    };
    let may_make = |owner: &Principal| {
        *owner == requester || context.may(Operation::CreateTokens, ResourceType::User, &owner.to_string())
    };
    let error = match () {
        () if !may_have_tokens(&context.client) => Some(ErrorCode::DelegationTokenRequestNotAllowed),
        () if !may_make(&owner) => Some(ErrorCode::DelegationTokenAuthorizationFailed),
        () if renewers.iter().any(|renewer| *renewer.principal_type != *USER) => Some(ErrorCode::InvalidPrincipalType),
        () => None,
    };
    if let Some(error) = error {
        return refused(&context, error, &owner, &requester, NO_TIME);
    }
    let renewers = renewers.into_iter().map(|renewer| Principal::user(renewer.principal_name.detach())).collect();
    let call = CreateToken { owner: owner.clone(), requester: requester.clone(), renewers, max_lifetime_ms };
    match (ask(&context.shard, call).await, context.shard.config.token_key()) {
        (Ok(token), Some(key)) => {
            tracing::info!(id = token.id, %owner, %requester, expires_ms = token.expires_ms, "a delegation token is made");
            CreateDelegationTokenResponse {
                issue_timestamp_ms: token.issued_ms,
                expiry_timestamp_ms: token.expires_ms,
                max_timestamp_ms: token.max_ms,
                hmac: Bytes::copy_from_slice(key.hmac(&token.id).as_bytes()),
                token_id: token.id.into(),
                ..answer(&context, &owner, &requester)
            }
        }
        (Ok(_), None) => refused(&context, ErrorCode::DelegationTokenAuthDisabled, &owner, &requester, 0),
        (Err(why), _) => refused(&context, why.code, &owner, &requester, 0),
    }
}

/// What it says of principals.
fn answer(context: &RequestContext, owner: &Principal, requester: &Principal) -> CreateDelegationTokenResponse {
    let mut answer = CreateDelegationTokenResponse {
        principal_type: owner.kind.clone(),
        principal_name: owner.name.clone(),
        ..Default::default()
    };
    if context.version >= 3 {
        answer.token_requester_principal_type = requester.kind.clone();
        answer.token_requester_principal_name = requester.name.clone();
    }
    answer
}

fn refused(
    context: &RequestContext,
    error: ErrorCode,
    owner: &Principal,
    requester: &Principal,
    time: i64,
) -> CreateDelegationTokenResponse {
    CreateDelegationTokenResponse {
        error_code: error.code(),
        issue_timestamp_ms: time,
        expiry_timestamp_ms: time,
        max_timestamp_ms: time,
        ..answer(context, owner, requester)
    }
}
