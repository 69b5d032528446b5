//! Authentication by SASL as Kafka has it (KIP-12, KIP-43, KIP-48, KIP-84, KIP-152, KIP-255, KIP-368, KIP-768).
//!
//! [`Authenticator`] is what stands between the bytes of one connection and its requests: frames in, answers out, until it knows
//! who the client is. It is a state machine without clock, socket or memory of other connections. A mechanism is an [`Exchange`] in a
//! file of its own and a name in [`Mechanism`]; what it must know about users it asks [`Users`].
//!
//! Where Kafka tells a stranger more than he should know, this does not: to SCRAM an unknown user has a salt, too, and fails where
//! a wrong password does; requests that have nothing to do with authentication are not parsed before it.

#![deny(clippy::unwrap_used, clippy::indexing_slicing)]

mod authenticator;
mod exchange;
mod mechanism;
pub mod oauth;
pub mod plain;
pub mod scram;
mod token;

pub use authenticator::{Authenticator, Host, Outcome, Previous, Session};
pub use exchange::{Exchange, Failure, Identity, Step, Users};
pub use mechanism::Mechanism;
pub use token::{TokenHmac, TokenKey};
