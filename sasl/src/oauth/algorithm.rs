//! The signature algorithms of tokens (RFC 7518, RFC 8037).

use ring::signature::{self, RsaParameters, VerificationAlgorithm};

/// How a token says that it is signed.
pub struct Algorithm {
    pub name: &'static str,
    pub scheme: Scheme,
}

#[derive(Clone, Copy)]
pub enum Scheme {
    Rsa(&'static RsaParameters),
    /// By points of the curve of this name.
    Curve(&'static str, &'static dyn VerificationAlgorithm),
}

/// Those that need a public key only. `none` and those of shared secrets are not there, so that no token can name them.
static ALGORITHMS: [Algorithm; 9] = [
    rsa("RS256", &signature::RSA_PKCS1_2048_8192_SHA256),
    rsa("RS384", &signature::RSA_PKCS1_2048_8192_SHA384),
    rsa("RS512", &signature::RSA_PKCS1_2048_8192_SHA512),
    rsa("PS256", &signature::RSA_PSS_2048_8192_SHA256),
    rsa("PS384", &signature::RSA_PSS_2048_8192_SHA384),
    rsa("PS512", &signature::RSA_PSS_2048_8192_SHA512),
    curve("ES256", "P-256", &signature::ECDSA_P256_SHA256_FIXED),
    curve("ES384", "P-384", &signature::ECDSA_P384_SHA384_FIXED),
    curve("EdDSA", "Ed25519", &signature::ED25519),
];

const fn rsa(name: &'static str, parameters: &'static RsaParameters) -> Algorithm {
    Algorithm { name, scheme: Scheme::Rsa(parameters) }
}

const fn curve(name: &'static str, curve: &'static str, verify: &'static dyn VerificationAlgorithm) -> Algorithm {
    Algorithm { name, scheme: Scheme::Curve(curve, verify) }
}

impl Algorithm {
    pub fn named(name: &str) -> Option<&'static Algorithm> {
        ALGORITHMS.iter().find(|algorithm| algorithm.name == name)
    }
}
