//! A token in the compact form of RFC 7515: header, payload and signature.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use super::algorithm::Algorithm;
use super::json;
use super::key_set::KeySet;

/// Bytes of a token. Those of real providers pass through headers of HTTP, which end earlier.
const TOKEN_MAX: usize = 64 << 10;
/// Bytes of a header in base64url: it is read before anybody has vouched for it.
const HEADER_MAX: usize = 8 << 10;
/// Letters of a key's id (`RefreshingHttpsJwks`).
const KEY_ID_MAX: usize = 1000;

/// Why a token is not believed: for the log, without a part of the token that nobody has vouched for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unverified {
    /// It may be signed with a key that is newer than those that are known.
    UnknownKey {
        id: Option<String>,
    },
    Refused(String),
}

impl Unverified {
    pub fn refused(why: impl Into<String>) -> Unverified {
        Unverified::Refused(why.into())
    }
}

impl fmt::Display for Unverified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unverified::UnknownKey { id: Some(id) } => write!(f, "no key of the JWKS is meant by its kid {id:?}"),
            Unverified::UnknownKey { id: None } => f.write_str("it names no kid, and no key of the JWKS fits"),
            Unverified::Refused(why) => f.write_str(why),
        }
    }
}

/// The claims of a token that one of the keys has signed.
pub fn claims(token: &str, keys: &KeySet) -> Result<Map<String, Value>, Unverified> {
    if token.len() > TOKEN_MAX {
        return Err(Unverified::refused(format!("it is longer than {TOKEN_MAX} bytes")));
    }
    let mut parts = token.split('.');
    let (Some(header), Some(payload), Some(signature), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(Unverified::refused("it has not three parts"));
    };
    if header.len() > HEADER_MAX {
        return Err(Unverified::refused(format!("its header is longer than {HEADER_MAX} bytes")));
    }
    let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).ok();
    let signed = token.strip_suffix(signature).and_then(|rest| rest.strip_suffix('.')).unwrap_or_default();
    let header = decode(header).and_then(|text| json::object(&text));
    let header = header.ok_or_else(|| Unverified::refused("its header is no JSON in base64url"))?;
    if header.contains_key("crit") {
        return Err(Unverified::refused("its header has critical extensions"));
    }
    let text = |name: &str| match header.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.as_str())),
        Some(_) => Err(Unverified::refused(format!("its {name} is no text"))),
    };
    let algorithm = text("alg")?.ok_or_else(|| Unverified::refused("it names no algorithm"))?;
    let algorithm = Algorithm::named(algorithm).ok_or_else(|| {
        let name: String = algorithm.chars().take(16).collect();
        Unverified::refused(format!("its algorithm {name:?} is not taken"))
    })?;
    let id = text("kid")?;
    if id.is_some_and(|id| id.len() > KEY_ID_MAX) {
        return Err(Unverified::refused(format!("its kid is longer than {KEY_ID_MAX} bytes")));
    }
    let key = keys.find(id, algorithm).ok_or_else(|| {
        let unserved = keys.unserved().iter().find(|unserved| id.is_some() && unserved.id.as_deref() == id);
        match unserved {
            Some(unserved) => Unverified::refused(format!("its kid means {}, which is not served", unserved.kind)),
            None => Unverified::UnknownKey { id: id.map(str::to_owned) },
        }
    })?;
    let signature = decode(signature).ok_or_else(|| Unverified::refused("its signature is not in base64url"))?;
    if !key.has_signed(algorithm, signed.as_bytes(), &signature) {
        return Err(Unverified::refused("its signature is not that of the key"));
    }
    let claims = decode(payload).and_then(|text| json::object(&text));
    claims.ok_or_else(|| Unverified::refused("its claims are no JSON in base64url with names that are unique"))
}
