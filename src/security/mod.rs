//! Who clients are, and how their connections are kept from others.

pub mod audit;
mod oauth;
mod principal;
pub mod sasl;
pub mod tls;

pub use principal::{Principal, USER};
