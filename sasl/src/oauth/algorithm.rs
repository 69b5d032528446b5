//! The signature algorithms of tokens (RFC 7518, RFC 8037).

use p521::ecdsa::{Signature, VerifyingKey, signature::Verifier as _};
use ring::signature::{self, RsaParameters, UnparsedPublicKey, VerificationAlgorithm};

/// How a token says that it is signed.
pub struct Algorithm {
    pub name: &'static str,
    pub scheme: Scheme,
}

#[derive(Clone, Copy)]
pub enum Scheme {
    Rsa(&'static RsaParameters),
    /// By points of the curve of this name.
    Curve(&'static str, Verifier),
}

#[derive(Clone, Copy)]
pub enum Verifier {
    Ring(&'static dyn VerificationAlgorithm),
    /// ring has no P-521.
    P521,
}

/// Those that need a public key only. `none` and those of shared secrets are not there, so that no token can name them.
static ALGORITHMS: [Algorithm; 10] = [
    rsa("RS256", &signature::RSA_PKCS1_2048_8192_SHA256),
    rsa("RS384", &signature::RSA_PKCS1_2048_8192_SHA384),
    rsa("RS512", &signature::RSA_PKCS1_2048_8192_SHA512),
    rsa("PS256", &signature::RSA_PSS_2048_8192_SHA256),
    rsa("PS384", &signature::RSA_PSS_2048_8192_SHA384),
    rsa("PS512", &signature::RSA_PSS_2048_8192_SHA512),
    curve("ES256", "P-256", Verifier::Ring(&signature::ECDSA_P256_SHA256_FIXED)),
    curve("ES384", "P-384", Verifier::Ring(&signature::ECDSA_P384_SHA384_FIXED)),
    curve("ES512", "P-521", Verifier::P521),
    curve("EdDSA", "Ed25519", Verifier::Ring(&signature::ED25519)),
];

const fn rsa(name: &'static str, parameters: &'static RsaParameters) -> Algorithm {
    Algorithm { name, scheme: Scheme::Rsa(parameters) }
}

const fn curve(name: &'static str, curve: &'static str, verifier: Verifier) -> Algorithm {
    Algorithm { name, scheme: Scheme::Curve(curve, verifier) }
}

impl Algorithm {
    pub fn named(name: &str) -> Option<&'static Algorithm> {
        ALGORITHMS.iter().find(|algorithm| algorithm.name == name)
    }
}

impl Verifier {
    /// Whether the key of this point (of ECDSA: uncompressed) has made the signature (of ECDSA: r and s, each as long as the field).
    pub fn verify(self, point: &[u8], signed: &[u8], signature: &[u8]) -> bool {
        match self {
            Verifier::Ring(algorithm) => UnparsedPublicKey::new(algorithm, point).verify(signed, signature).is_ok(),
            Verifier::P521 => VerifyingKey::from_sec1_bytes(point)
                .and_then(|key| key.verify(signed, &Signature::from_slice(signature)?))
                .is_ok(),
        }
    }
}
