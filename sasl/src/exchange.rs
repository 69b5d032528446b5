//! What a mechanism is to the rest: tokens in, tokens out, and in the end somebody or nobody.

use std::sync::Arc;

use crate::scram::{Credential, Hash};

/// The broker's half of one authentication.
pub trait Exchange {
    /// Takes what the client sent. Nothing more may be asked once it is done or has failed.
    fn step(&mut self, token: &[u8], users: &dyn Users) -> Step;

    /// Who the client says it is, as far as it has said so: for the audit.
    fn claimed(&self) -> Option<&str> {
        None
    }
}

#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Goes to the client, which has to answer.
    Challenge(Vec<u8>),
    /// The last token goes to the client.
    Done(Vec<u8>, Identity),
    /// Nobody gets in, and the client answers that it knows (RFC 7628). `reason`: for the audit.
    Denied {
        answer: Vec<u8>,
        reason: String,
    },
    Failed(Failure),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub user: String,
    /// When what it showed stops being valid, in milliseconds since 1970; `None`: never.
    pub expires_ms: Option<i64>,
    /// It showed a delegation token of the user's (KIP-48).
    pub by_token: bool,
}

impl Identity {
    /// A user who showed what only he has, for as long as he likes.
    pub fn user(name: impl Into<String>) -> Identity {
        Identity { user: name.into(), expires_ms: None, by_token: false }
    }
}

/// Why nobody got in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The client is told.
    Told(&'static str),
    /// The client is told no more than that it failed.
    Untold(&'static str),
    /// The client is told something else than the audit, which may have been told before.
    ToldOther { told: String, reason: Option<&'static str> },
}

/// Those who may get in.
pub trait Users {
    /// Takes as long for a user who is not there.
    fn has_password(&self, user: &str, password: &str) -> bool;

    /// What the user proves his password against. Who is not there has one that no password fits ([`crate::scram::Decoys`]).
    fn scram(&self, hash: Hash, user: &str) -> Arc<Credential>;

    /// The same of a delegation token, by its id, and who comes by it; `None`: there is no such token.
    fn token(&self, hash: Hash, id: &str) -> (Arc<Credential>, Option<Identity>);

    /// Who a token says that the client is, if it is believed; else the reason, for the audit.
    fn bearer(&self, token: &str) -> Result<Identity, String>;
}
