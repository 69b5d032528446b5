//! Users of SCRAM: the cluster's.

use std::collections::BTreeSet;

use corelane_acl::Operation;
use corelane_protocol::messages::{
    AlterUserScramCredentialsRequest, AlterUserScramCredentialsResponse,
    AlterUserScramCredentialsResponseAlterUserScramCredentialsResult, DescribeUserScramCredentialsRequest,
    DescribeUserScramCredentialsResponse, DescribeUserScramCredentialsResponseDescribeUserScramCredentialsResult,
};
use corelane_protocol::{ErrorCode, Str};

use super::{Access, Guarded, Verdict, worded};

const REFUSED: ErrorCode = ErrorCode::ClusterAuthorizationFailed;

impl Guarded for DescribeUserScramCredentialsRequest {
    fn guard(&mut self, access: &Access<'_>) -> Verdict<DescribeUserScramCredentialsResponse> {
        Verdict::unless(access.cluster(Operation::Describe), || {
            let (error_code, error_message) = worded(REFUSED);
            let user = DescribeUserScramCredentialsResponseDescribeUserScramCredentialsResult {
                error_code,
                error_message: error_message.clone(),
                ..Default::default()
            };
            let results = vec![user; self.users.as_ref().map_or(0, Vec::len)];
            DescribeUserScramCredentialsResponse { error_code, error_message, results, ..Default::default() }
        })
    }
}

impl Guarded for AlterUserScramCredentialsRequest {
    fn guard(&mut self, access: &Access<'_>) -> Verdict<AlterUserScramCredentialsResponse> {
        Verdict::unless(access.cluster(Operation::Alter), || {
            let (error_code, error_message) = worded(REFUSED);
            every_user(self, error_code, error_message)
        })
    }
}

/// One outcome for everybody whom a request names.
pub fn every_user(
    request: &AlterUserScramCredentialsRequest,
    error_code: i16,
    error_message: Option<Str>,
) -> AlterUserScramCredentialsResponse {
    let users = request.deletions.iter().map(|d| &d.name).chain(request.upsertions.iter().map(|u| &u.name));
    let users: BTreeSet<&Str> = users.collect();
    let results = users.into_iter().map(|user| AlterUserScramCredentialsResponseAlterUserScramCredentialsResult {
        user: user.clone(),
        error_code,
        error_message: error_message.clone(),
        ..Default::default()
    });
    AlterUserScramCredentialsResponse { results: results.collect(), ..Default::default() }
}
