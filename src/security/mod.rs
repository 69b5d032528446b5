//! Who clients are, and how their connections are kept from others.

pub mod audit;
mod principal;
pub mod sasl;
pub mod tls;

pub use principal::Principal;
