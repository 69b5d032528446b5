//! What several targets share.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use corelane_sasl::oauth::{Expected, KeySet};
use ring::signature::{Ed25519KeyPair, KeyPair};

/// Milliseconds since 1970 at which tokens are looked at.
pub const NOW_MS: i64 = 1_800_000_000_000;

pub const ALICES_CLAIMS: &str = r#"{"sub":"alice","iat":1799999000,"exp":1800001000,"scope":"read write"}"#;
pub const HEADER: &str = r#"{"alg":"EdDSA","kid":"k"}"#;

/// Somebody who signs tokens.
pub struct Issuer(Ed25519KeyPair);

impl Issuer {
    pub fn new() -> Issuer {
        Issuer(Ed25519KeyPair::from_seed_unchecked(&[3; 32]).expect("a seed"))
    }

    /// His only key.
    pub fn keys(&self) -> KeySet {
        let x = URL_SAFE_NO_PAD.encode(self.0.public_key());
        let set = format!(r#"{{"keys":[{{"kty":"OKP","crv":"Ed25519","kid":"k","x":"{x}"}}]}}"#);
        KeySet::parse(set.as_bytes()).expect("a key set")
    }

    pub fn sign(&self, header: &[u8], claims: &[u8]) -> String {
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(self.0.sign(signed.as_bytes())))
    }
}

impl Default for Issuer {
    fn default() -> Issuer {
        Issuer::new()
    }
}

/// Of tokens for anybody, from anybody.
pub fn expected() -> Expected {
    Expected {
        audience: Vec::new(),
        issuer: None,
        clock_skew_s: 0,
        subject_claim: "sub".to_owned(),
        scope_claim: "scope".to_owned(),
    }
}
