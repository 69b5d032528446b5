//! The keys of those who may sign tokens: a JWKS (RFC 7517).

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::RsaPublicKeyComponents;
use serde_json::{Map, Value};

use super::algorithm::{Algorithm, Scheme};
use super::json;

#[derive(Debug, Default, PartialEq, Eq)]
pub struct KeySet {
    keys: Vec<Key>,
}

/// A public key.
#[derive(Debug, PartialEq, Eq)]
pub struct Key {
    id: Option<String>,
    /// The one algorithm that it is for; `None`: any that it fits.
    algorithm: Option<String>,
    material: Material,
}

#[derive(Debug, PartialEq, Eq)]
enum Material {
    /// Modulus and exponent.
    Rsa { n: Vec<u8>, e: Vec<u8> },
    /// A point of a curve: of ECDSA uncompressed, of Ed25519 as it is.
    Point { curve: String, point: Vec<u8> },
}

impl KeySet {
    /// Keys of other kinds and purposes are left out, as in Kafka.
    pub fn parse(text: &[u8]) -> Result<KeySet, &'static str> {
        let set = json::object(text).ok_or("it is no JSON object with names that are unique")?;
        let Some(Value::Array(keys)) = set.get("keys") else { return Err("there is no list \"keys\" in it") };
        let keys = keys.iter().filter_map(|key| Key::parse(key.as_object()?)).collect();
        Ok(KeySet { keys })
    }

    pub fn len(&self) -> usize {
        self.keys.len()
    }

    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The key that a token says it is signed with. As in Kafka it is the first one that may be meant.
    pub fn find(&self, id: Option<&str>, algorithm: &Algorithm) -> Option<&Key> {
        self.keys.iter().find(|key| (id.is_none() || key.id.as_deref() == id) && key.fits(algorithm))
    }
}

impl Key {
    fn parse(key: &Map<String, Value>) -> Option<Key> {
        let text = |name: &str| key.get(name).and_then(Value::as_str);
        let bytes = |name: &str| URL_SAFE_NO_PAD.decode(text(name)?).ok().filter(|bytes| !bytes.is_empty());
        if text("use").is_some_and(|purpose| purpose != "sig") {
            return None;
        }
        if let Some(Value::Array(operations)) = key.get("key_ops")
            && !operations.iter().any(|operation| operation == "verify")
        {
            return None;
        }
        let material = match (text("kty")?, text("crv")) {
            ("RSA", _) => {
                let number = |name: &str| {
                    let bytes = bytes(name)?;
                    Some(bytes.into_iter().skip_while(|byte| *byte == 0).collect())
                };
                Material::Rsa { n: number("n")?, e: number("e")? }
            }
            ("EC", Some(curve)) => {
                let size = match curve {
                    "P-256" => 32,
                    "P-384" => 48,
                    "P-521" => 66,
                    _ => return None,
                };
                let (x, y) = (bytes("x")?, bytes("y")?);
                if x.len() != size || y.len() != size {
                    return None;
                }
                // Uncompressed.
                Material::Point { curve: curve.to_owned(), point: [&[4], &x[..], &y[..]].concat() }
            }
            ("OKP", Some(curve @ "Ed25519")) => Material::Point { curve: curve.to_owned(), point: bytes("x")? },
            _ => return None,
        };
        Some(Key { id: text("kid").map(str::to_owned), algorithm: text("alg").map(str::to_owned), material })
    }

    fn fits(&self, algorithm: &Algorithm) -> bool {
        let kind = match (&self.material, algorithm.scheme) {
            (Material::Rsa { .. }, Scheme::Rsa(_)) => true,
            (Material::Point { curve, .. }, Scheme::Curve(name, _)) => curve == name,
            _ => false,
        };
        kind && self.algorithm.as_deref().is_none_or(|own| own == algorithm.name)
    }

    /// Whether it has made this signature.
    pub fn has_signed(&self, algorithm: &Algorithm, signed: &[u8], signature: &[u8]) -> bool {
        match (&self.material, algorithm.scheme) {
            (Material::Rsa { n, e }, Scheme::Rsa(parameters)) => {
                RsaPublicKeyComponents { n, e }.verify(parameters, signed, signature).is_ok()
            }
            (Material::Point { curve, point }, Scheme::Curve(name, verifier)) if curve == name => {
                verifier.verify(point, signed, signature)
            }
            _ => false,
        }
    }
}
