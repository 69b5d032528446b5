//! One who makes tokens of OAUTHBEARER: a key, what a JWKS says of it, and what it has signed.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};

pub struct Issuer {
    id: String,
    key: EcdsaKeyPair,
}

pub fn base64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

impl Issuer {
    /// With a key of its own, which has this id.
    pub fn new(id: &str) -> Issuer {
        let (scheme, random) = (&ECDSA_P256_SHA256_FIXED_SIGNING, SystemRandom::new());
        let key = EcdsaKeyPair::generate_pkcs8(scheme, &random).expect("a key");
        let key = EcdsaKeyPair::from_pkcs8(scheme, key.as_ref(), &random).expect("a key");
        Issuer { id: id.to_owned(), key }
    }

    /// The public key: an uncompressed point.
    pub fn public_key(&self) -> &[u8] {
        self.key.public_key().as_ref()
    }

    /// The entry of a JWKS.
    pub fn jwk(&self) -> String {
        let point = self.public_key();
        let (x, y) = (base64(&point[1..33]), base64(&point[33..]));
        let id = &self.id;
        format!(r#"{{"kty":"EC","crv":"P-256","use":"sig","alg":"ES256","kid":"{id}","x":"{x}","y":"{y}"}}"#)
    }

    /// A token of these claims.
    pub fn token(&self, claims: &str) -> String {
        self.token_of(&format!(r#"{{"alg":"ES256","typ":"JWT","kid":"{}"}}"#, self.id), claims)
    }

    /// The same with this header.
    pub fn token_of(&self, header: &str, claims: &str) -> String {
        let signed = format!("{}.{}", base64(header), base64(claims));
        let signature = self.key.sign(&SystemRandom::new(), signed.as_bytes()).expect("a signature");
        format!("{signed}.{}", base64(signature))
    }
}

/// The text of a JWKS.
pub fn jwks(all: &[&Issuer]) -> String {
    let keys: Vec<String> = all.iter().map(|issuer| issuer.jwk()).collect();
    format!(r#"{{"keys":[{}]}}"#, keys.join(","))
}
