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
    unserved: Vec<Unserved>,
}

/// A key that may have signed tokens, which cannot be checked here.
#[derive(Debug, PartialEq, Eq)]
pub struct Unserved {
    pub id: Option<String>,
    /// What kind of key it is; short, whatever the JWKS says.
    pub kind: String,
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
    /// Keys of other kinds and purposes are left out, as in Kafka; of other kinds are [`KeySet::unserved`].
    pub fn parse(text: &[u8]) -> Result<KeySet, &'static str> {
        let set = json::object(text).ok_or("it is no JSON object with names that are unique")?;
        let Some(Value::Array(keys)) = set.get("keys") else { return Err("there is no list \"keys\" in it") };
        let mut set = KeySet::default();
        for key in keys.iter().filter_map(Value::as_object).filter(|key| may_verify(key)) {
            match Key::parse(key) {
                Ok(key) => set.keys.push(key),
                Err(kind) => set.unserved.push(Unserved { id: said(key, "kid").map(str::to_owned), kind }),
            }
        }
        Ok(set)
    }

    pub fn unserved(&self) -> &[Unserved] {
        &self.unserved
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

/// Letters of what a JWKS says that are repeated.
const SAID_MAX: usize = 32;
/// Bits of a modulus that the crypto library takes.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

fn said<'a>(key: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    key.get(name).and_then(Value::as_str)
}

/// Whether the JWKS has it for signatures.
fn may_verify(key: &Map<String, Value>) -> bool {
    let is_for_that = match key.get("key_ops") {
        Some(Value::Array(operations)) => operations.iter().any(|operation| operation == "verify"),
        _ => true,
    };
    is_for_that && said(key, "use").is_none_or(|purpose| purpose == "sig")
}

impl Key {
    /// Or what kind of key it is that cannot be served.
    fn parse(key: &Map<String, Value>) -> Result<Key, String> {
        let short = |said: &str| said.chars().take(SAID_MAX).collect::<String>();
        let bytes = |name: &str| {
            let bytes = said(key, name).and_then(|text| URL_SAFE_NO_PAD.decode(text).ok());
            bytes.filter(|bytes| !bytes.is_empty()).ok_or_else(|| format!("a key without its {name}"))
        };
        let material = match (said(key, "kty").unwrap_or_default(), said(key, "crv")) {
            ("RSA", _) => {
                let number = |name: &str| {
                    Ok::<Vec<u8>, String>(bytes(name)?.into_iter().skip_while(|byte| *byte == 0).collect())
                };
                let (n, e) = (number("n")?, number("e")?);
                let bits = n.len() * 8 - n.first().map_or(0, |first| first.leading_zeros() as usize);
                if !RSA_BITS.contains(&bits) {
                    return Err(format!("an RSA key of {bits} bits ({} to {} are)", RSA_BITS.start(), RSA_BITS.end()));
                }
                Material::Rsa { n, e }
            }
            ("EC", Some(curve @ ("P-256" | "P-384" | "P-521"))) => {
                let size = match curve {
                    "P-256" => 32,
                    "P-384" => 48,
                    _ => 66,
                };
                let (x, y) = (bytes("x")?, bytes("y")?);
                if x.len() != size || y.len() != size {
                    return Err(format!("a key that is no point of {curve}"));
                }
                // Uncompressed.
                Material::Point { curve: curve.to_owned(), point: [&[4], &x[..], &y[..]].concat() }
            }
            ("OKP", Some(curve @ "Ed25519")) => Material::Point { curve: curve.to_owned(), point: bytes("x")? },
            (kind, Some(curve)) => return Err(format!("a key of {:?} on the curve {:?}", short(kind), short(curve))),
            (kind, None) => return Err(format!("a key of {:?}", short(kind))),
        };
        let owned = |name| said(key, name).map(str::to_owned);
        Ok(Key { id: owned("kid"), algorithm: owned("alg"), material })
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
