//! SCRAM (RFC 5802, RFC 7677; Kafka's KIP-84): the password never travels, and the broker does not have it.

mod client;
mod credential;
mod decoy;
mod hash;
mod messages;
mod server;

pub use client::{ScramClient, ServerFault};
pub use credential::{Credential, ITERATIONS_MAX, ITERATIONS_MIN};
pub use decoy::Decoys;
pub use hash::Hash;
pub use server::ScramServer;
