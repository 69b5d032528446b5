//! AlterUserScramCredentials (KIP-554): makes, changes and takes away users of SCRAM. Passwords come salted.

use corelane_protocol::messages::{
    AlterUserScramCredentialsRequest, AlterUserScramCredentialsResponse,
    AlterUserScramCredentialsResponseAlterUserScramCredentialsResult as UserResult,
};

use crate::controller::requests::ask;
use crate::controller::scram::{AlterScramUsers, Upsertion};
use crate::kafka::access::every_user;
use crate::kafka::request::RequestContext;

pub async fn handle(
    context: RequestContext,
    request: AlterUserScramCredentialsRequest,
) -> AlterUserScramCredentialsResponse {
    let call = AlterScramUsers {
        deletions: request.deletions.iter().map(|d| (d.name.to_string(), d.mechanism)).collect(),
        upsertions: request
            .upsertions
            .iter()
            .map(|u| Upsertion {
                user: u.name.to_string(),
                mechanism: u.mechanism,
                iterations: u.iterations,
                salt: u.salt.to_vec(),
                salted_password: u.salted_password.to_vec(),
            })
            .collect(),
    };
    match ask(&context.shard, call).await {
        Ok(users) => {
            let result = |(user, outcome): (String, _)| {
                let (error_code, error_message) = super::outcome_of(outcome);
                UserResult { user: user.into(), error_code, error_message, ..Default::default() }
            };
            AlterUserScramCredentialsResponse { results: users.into_iter().map(result).collect(), ..Default::default() }
        }
        Err(refused) => {
            let (error_code, error_message) = super::outcome_of(Err(refused));
            every_user(&request, error_code, error_message)
        }
    }
}
