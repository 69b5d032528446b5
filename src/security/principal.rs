//! Who a client is (Kafka's `KafkaPrincipal`).

use std::fmt;

use corelane_protocol::Str;

/// The only kind there is without a principal builder of one's own.
pub const USER: &str = "User";

/// The name of those who were not asked.
pub const ANONYMOUS: &str = "ANONYMOUS";

/// `Display` gives Kafka's text, `User:alice`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Principal {
    pub kind: Str,
    pub name: Str,
}

impl Principal {
    pub fn user(name: impl Into<Str>) -> Principal {
        Principal { kind: USER.into(), name: name.into() }
    }

    /// The inverse of `Display`.
    pub fn parse(text: &str) -> Option<Principal> {
        let (kind, name) = text.split_once(':')?;
        Some(Principal { kind: kind.to_owned().into(), name: name.to_owned().into() })
    }

    /// A client of a listener that asks nobody who he is.
    pub fn anonymous() -> Principal {
        Principal::user(ANONYMOUS)
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kind, self.name)
    }
}
