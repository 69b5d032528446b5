//! Users who come by SCRAM (KIP-554). Passwords are salted here: brokers never see them.

use super::error::ClientError;
use super::routing::Cluster;
use corelane_config::Password;
use corelane_protocol::Str;
use corelane_protocol::messages::{
    AlterUserScramCredentialsRequest, AlterUserScramCredentialsRequestScramCredentialDeletion,
    AlterUserScramCredentialsRequestScramCredentialUpsertion, DescribeUserScramCredentialsRequest,
    DescribeUserScramCredentialsRequestUserName, DescribeUserScramCredentialsResponseCredentialInfo as CredentialInfo,
};
use corelane_sasl::scram::Hash;
use std::collections::BTreeMap;
use std::num::NonZeroU32;

/// By user: the hashes he may come by, and how often each is run over.
pub type ScramUsers = BTreeMap<String, Vec<(Hash, i32)>>;

/// Random bytes before a password is hashed.
const SALT: usize = 26;

impl Cluster {
    /// All users, or one.
    pub fn scram_users(&mut self, user: Option<&str>) -> Result<ScramUsers, ClientError> {
        let named = |name: &str| DescribeUserScramCredentialsRequestUserName { name: text(name), ..Default::default() };
        let users = user.map(|name| vec![named(name)]);
        let request = DescribeUserScramCredentialsRequest { users, ..Default::default() };
        let answer = self.any()?.call(&request)?;
        ClientError::check(|| "users".to_owned(), answer.error_code, answer.error_message.as_deref())?;
        let mut all = ScramUsers::new();
        for r in &answer.results {
            ClientError::check(|| format!("user {}", r.user), r.error_code, r.error_message.as_deref())?;
            let known = |c: &CredentialInfo| Some((Hash::from_code(c.mechanism)?, c.iterations));
            all.insert(r.user.to_string(), r.credential_infos.iter().filter_map(known).collect());
        }
        Ok(all)
    }

    /// Makes a user, or gives him another password: by each hash in a request of its own, as brokers take one change of a user.
    pub fn set_scram_user(
        &mut self,
        user: &str,
        password: &Password,
        hashes: &[Hash],
        iterations: NonZeroU32,
    ) -> Result<(), ClientError> {
        for hash in hashes {
            let salt: [u8; SALT] = rand::random();
            let salted = hash.salted_password(password.reveal(), &salt, iterations);
            let upsertion = AlterUserScramCredentialsRequestScramCredentialUpsertion {
                name: text(user),
                mechanism: hash.code(),
                iterations: i32::try_from(iterations.get()).unwrap_or(i32::MAX),
                salt: salt.to_vec().into(),
                salted_password: salted.into(),
                ..Default::default()
            };
            let request = AlterUserScramCredentialsRequest { upsertions: vec![upsertion], ..Default::default() };
            self.alter_scram_users(&request)?;
        }
        Ok(())
    }

    pub fn delete_scram_user(&mut self, user: &str, hashes: &[Hash]) -> Result<(), ClientError> {
        for hash in hashes {
            let deletion = AlterUserScramCredentialsRequestScramCredentialDeletion {
                name: text(user),
                mechanism: hash.code(),
                ..Default::default()
            };
            let request = AlterUserScramCredentialsRequest { deletions: vec![deletion], ..Default::default() };
            self.alter_scram_users(&request)?;
        }
        Ok(())
    }

    fn alter_scram_users(&mut self, request: &AlterUserScramCredentialsRequest) -> Result<(), ClientError> {
        let answer = self.any()?.call(request)?;
        for r in &answer.results {
            ClientError::check(|| format!("user {}", r.user), r.error_code, r.error_message.as_deref())?;
        }
        Ok(())
    }
}

fn text(name: &str) -> Str {
    Str::from(name.to_owned())
}
