//! DescribeUserScramCredentials (KIP-554): who may come by SCRAM. Of the credentials themselves nothing is told.

use std::collections::BTreeMap;

use corelane_protocol::ErrorCode;
use corelane_protocol::messages::{
    DescribeUserScramCredentialsRequest, DescribeUserScramCredentialsResponse,
    DescribeUserScramCredentialsResponseCredentialInfo,
    DescribeUserScramCredentialsResponseDescribeUserScramCredentialsResult as UserResult,
};
use corelane_sasl::scram::Hash;

use crate::controller::scram::ScramUsers;
use crate::kafka::request::RequestContext;

pub async fn handle(
    context: RequestContext,
    request: DescribeUserScramCredentialsRequest,
) -> DescribeUserScramCredentialsResponse {
    let image = context.shard.image();
    let users = image.scram_users();
    let asked = request.users.unwrap_or_default();
    // How often each is asked for; nobody: everybody.
    let mut names: BTreeMap<&str, usize> = BTreeMap::new();
    asked.iter().for_each(|user| *names.entry(&user.name).or_default() += 1);
    if asked.is_empty() {
        names.extend(users.names().into_iter().map(|name| (name, 1)));
    }
    let results = names.into_iter().map(|(name, asked)| describe(users, name, asked)).collect();
    DescribeUserScramCredentialsResponse { results, ..Default::default() }
}

fn describe(users: &ScramUsers, name: &str, asked: usize) -> UserResult {
    let refused = |code: ErrorCode, message: String| UserResult {
        user: name.to_owned().into(),
        error_code: code.code(),
        error_message: Some(message.into()),
        ..Default::default()
    };
    if asked > 1 {
        let message = format!("Cannot describe SCRAM credentials for the same user twice in a single request: {name}");
        return refused(ErrorCode::DuplicateResource, message);
    }
    let infos = [Hash::Sha256, Hash::Sha512].into_iter().filter_map(|hash| {
        let credential = users.get(hash, name)?;
        Some(DescribeUserScramCredentialsResponseCredentialInfo {
            mechanism: hash.code(),
            iterations: credential.iterations as i32,
            ..Default::default()
        })
    });
    let credential_infos: Vec<_> = infos.collect();
    if credential_infos.is_empty() {
        let message = format!("Attempt to describe a user credential that does not exist: {name}");
        return refused(ErrorCode::ResourceNotFound, message);
    }
    UserResult { user: name.to_owned().into(), credential_infos, ..Default::default() }
}
