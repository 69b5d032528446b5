//! OAUTHBEARER (RFC 7628; Kafka's KIP-255, KIP-768): the client shows a token that somebody else has signed, a JWT.
//!
//! A token is believed where a key of the JWKS has signed it (RFC 7515) and its claims are those that the broker expects (RFC 7519):
//! [`Expected::verify`], by the rules of Kafka's `BrokerJwtValidator`. Stricter than that: a key that names an algorithm takes no
//! other, JOSE is base64url without padding, and neither `none` nor a shared secret (`HS256`) signs anything. Not there:
//! EdDSA of Ed448, RSA of more than 8192 bits ([`KeySet::unserved`]), nested and encrypted tokens.

mod algorithm;
mod claims;
mod first_message;
mod json;
mod key_set;
mod server;
mod token;

pub use claims::Expected;
pub use key_set::KeySet;
pub use server::OAuthServer;
pub use token::Unverified;

/// What a client sends, with its token.
pub fn first_message(token: &str) -> Vec<u8> {
    format!("n,,\u{1}auth=Bearer {token}\u{1}\u{1}").into_bytes()
}
