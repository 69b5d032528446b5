//! One who makes tokens of OAUTHBEARER: a key, what a JWKS says of it, and what it has signed.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use p521::ecdsa::{Signature, SigningKey, signature::Signer};
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};

type Sign = Box<dyn Fn(&[u8]) -> Vec<u8> + Send + Sync>;

pub struct Issuer {
    id: String,
    algorithm: &'static str,
    curve: &'static str,
    /// The public key: an uncompressed point.
    point: Vec<u8>,
    sign: Sign,
}

pub fn base64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

impl Issuer {
    /// With a key of its own of P-256, which has this id.
    pub fn new(id: &str) -> Issuer {
        let (scheme, random) = (&ECDSA_P256_SHA256_FIXED_SIGNING, SystemRandom::new());
        let key = EcdsaKeyPair::generate_pkcs8(scheme, &random).expect("a key");
        let key = EcdsaKeyPair::from_pkcs8(scheme, key.as_ref(), &random).expect("a key");
        let point = key.public_key().as_ref().to_vec();
        let sign = Box::new(move |signed: &[u8]| key.sign(&random, signed).expect("a signature").as_ref().to_vec());
        Issuer { id: id.to_owned(), algorithm: "ES256", curve: "P-256", point, sign }
    }

    /// The same with a key of P-521.
    pub fn of_p521(id: &str) -> Issuer {
        // The highest bits stay zero: it is below the order of the curve.
        let mut secret = [0; 66];
        SystemRandom::new().fill(&mut secret[1..]).expect("random bytes");
        let key = SigningKey::from_slice(&secret).expect("a key");
        let point = key.verifying_key().to_sec1_point(false).as_bytes().to_vec();
        let sign = Box::new(move |signed: &[u8]| {
            let signature: Signature = key.sign(signed);
            signature.to_bytes().to_vec()
        });
        Issuer { id: id.to_owned(), algorithm: "ES512", curve: "P-521", point, sign }
    }

    /// The public key: an uncompressed point.
    pub fn public_key(&self) -> &[u8] {
        &self.point
    }

    /// The entry of a JWKS.
    pub fn jwk(&self) -> String {
        let (x, y) = self.point[1..].split_at(self.point.len() / 2);
        let (x, y) = (base64(x), base64(y));
        let Issuer { id, algorithm, curve, .. } = self;
        format!(r#"{{"kty":"EC","crv":"{curve}","use":"sig","alg":"{algorithm}","kid":"{id}","x":"{x}","y":"{y}"}}"#)
    }

    /// A token of these claims.
    pub fn token(&self, claims: &str) -> String {
        let Issuer { id, algorithm, .. } = self;
        self.token_of(&format!(r#"{{"alg":"{algorithm}","typ":"JWT","kid":"{id}"}}"#), claims)
    }

    /// The same with this header.
    pub fn token_of(&self, header: &str, claims: &str) -> String {
        let signed = format!("{}.{}", base64(header), base64(claims));
        format!("{signed}.{}", base64((self.sign)(signed.as_bytes())))
    }
}

/// The text of a JWKS.
pub fn jwks(all: &[&Issuer]) -> String {
    let keys: Vec<String> = all.iter().map(|issuer| issuer.jwk()).collect();
    format!(r#"{{"keys":[{}]}}"#, keys.join(","))
}
