//! The mechanisms that there are.

use std::fmt;

use crate::exchange::Exchange;
use crate::oauth::OAuthServer;
use crate::plain::Plain;
use crate::scram::{Hash, ScramServer};

/// How clients prove who they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mechanism {
    Plain,
    Scram(Hash),
    OAuthBearer,
}

impl Mechanism {
    pub const ALL: [Mechanism; 4] =
        [Mechanism::Plain, Mechanism::Scram(Hash::Sha256), Mechanism::Scram(Hash::Sha512), Mechanism::OAuthBearer];

    /// The name that IANA has registered.
    pub fn name(self) -> &'static str {
        match self {
            Mechanism::Plain => "PLAIN",
            Mechanism::Scram(Hash::Sha256) => "SCRAM-SHA-256",
            Mechanism::Scram(Hash::Sha512) => "SCRAM-SHA-512",
            Mechanism::OAuthBearer => "OAUTHBEARER",
        }
    }

    /// Names are in capitals.
    pub fn named(name: &str) -> Option<Mechanism> {
        Self::ALL.into_iter().find(|m| m.name() == name)
    }

    /// The broker's part of it.
    pub fn begin(self) -> Box<dyn Exchange> {
        match self {
            Mechanism::Plain => Box::new(Plain::default()),
            Mechanism::Scram(hash) => Box::new(ScramServer::new(hash)),
            Mechanism::OAuthBearer => Box::new(OAuthServer::default()),
        }
    }
}

impl fmt::Display for Mechanism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
