//! What a client shows who gives tokens instead of a secret: a signed statement of who it is (RFC 7523), out of a file, or made by
//! the client with a key of its own. Properties, defaults and bounds are those of Kafka's clients.

use super::security::{Properties, wrong};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use corelane_config::{Password, stores};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, RSA_PKCS1_SHA256, RsaKeyPair};
use rustls::pki_types::PrivateKeyDer;
use serde_json::{Map, Value};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

const ALGORITHM: &str = "sasl.oauthbearer.assertion.algorithm";
const AUDIENCE: &str = "sasl.oauthbearer.assertion.claim.aud";
const LIFETIME: &str = "sasl.oauthbearer.assertion.claim.exp.seconds";
const ISSUER: &str = "sasl.oauthbearer.assertion.claim.iss";
const WITH_ID: &str = "sasl.oauthbearer.assertion.claim.jti.include";
const LEEWAY: &str = "sasl.oauthbearer.assertion.claim.nbf.seconds";
const SUBJECT: &str = "sasl.oauthbearer.assertion.claim.sub";
const FILE: &str = "sasl.oauthbearer.assertion.file";
const KEY: &str = "sasl.oauthbearer.assertion.private.key.file";
const PASSPHRASE: &str = "sasl.oauthbearer.assertion.private.key.passphrase";
const TEMPLATE: &str = "sasl.oauthbearer.assertion.template.file";

pub const PROPERTIES: [&str; 11] =
    [ALGORITHM, AUDIENCE, LIFETIME, ISSUER, WITH_ID, LEEWAY, SUBJECT, FILE, KEY, PASSPHRASE, TEMPLATE];

/// Files are read whenever they are needed: somebody else may renew them.
#[derive(Debug)]
pub enum Assertion {
    File(PathBuf),
    Own(Own),
}

/// How a client makes one.
#[derive(Debug)]
pub struct Own {
    algorithm: Algorithm,
    key: PathBuf,
    passphrase: Option<Password>,
    /// What it says in any case, and a file that has more, which goes before.
    claims: Map<String, Value>,
    template: Option<PathBuf>,
    lifetime_s: u64,
    leeway_s: u64,
    with_id: bool,
}

#[derive(Clone, Copy, Debug)]
enum Algorithm {
    Rs256,
    Es256,
}

impl Assertion {
    /// Whether those who would have a secret (`client_credentials`) have one of these.
    pub fn is_asked_for(properties: &Properties) -> bool {
        properties.contains_key(ISSUER) || given(properties, FILE).is_some()
    }

    /// Reads what there is to read. Errors tell no secret.
    pub fn new(properties: &Properties) -> Result<Assertion, String> {
        let made = match given(properties, FILE) {
            Some(file) => Assertion::File(file.into()),
            None => Assertion::Own(Own::new(properties)?),
        };
        made.text().map(|_| made)
    }

    /// Signed, in three parts.
    pub fn text(&self) -> Result<String, String> {
        match self {
            Assertion::File(file) => {
                let text = read(FILE, file)?.trim().to_owned();
                let parts: Vec<&str> = text.split('.').collect();
                let is_object = |part: &&str| {
                    let json = URL_SAFE_NO_PAD.decode(part.trim_end_matches('=')).ok();
                    json.is_some_and(|json| serde_json::from_slice::<Map<String, Value>>(&json).is_ok())
                };
                match parts[..] {
                    [header, claims, _] if is_object(&header) && is_object(&claims) => Ok(text),
                    _ => Err(wrong(FILE, format!("there is no signed JWT in {}", file.display()))),
                }
            }
            Assertion::Own(own) => own.text(),
        }
    }
}

impl Own {
    fn new(properties: &Properties) -> Result<Own, String> {
        let present = |name: &'static str| match properties.contains_key(name) {
            true => given(properties, name).map(Some).ok_or_else(|| wrong(name, "has no value")),
            false => Ok(None),
        };
        let number = |name: &'static str, default: u64, most: u64| match properties.get(name) {
            None => Ok(default),
            Some(text) => text
                .trim()
                .parse()
                .ok()
                .filter(|n| *n <= most)
                .ok_or_else(|| wrong(name, format!("no number of seconds from 0 to {most}"))),
        };
        let algorithm = match properties.get(ALGORITHM).map(|name| name.trim().to_ascii_uppercase()).as_deref() {
            None | Some("RS256") => Algorithm::Rs256,
            Some("ES256") => Algorithm::Es256,
            Some(_) => return Err(wrong(ALGORITHM, "neither RS256 nor ES256")),
        };
        let mut claims = Map::new();
        for (claim, name) in [("aud", AUDIENCE), ("iss", ISSUER), ("sub", SUBJECT)] {
            claims.extend(present(name)?.map(|text| (claim.to_owned(), text.into())));
        }
        Ok(Own {
            algorithm,
            key: given(properties, KEY).ok_or_else(|| wrong(KEY, "needed, or a signed JWT"))?.into(),
            passphrase: present(PASSPHRASE)?.map(Password::new),
            claims,
            template: present(TEMPLATE)?.map(PathBuf::from),
            lifetime_s: number(LIFETIME, 300, 86_400)?,
            leeway_s: number(LEEWAY, 60, 3_600)?,
            with_id: match properties.get(WITH_ID).map(|text| text.trim().to_ascii_lowercase()).as_deref() {
                None | Some("false") => false,
                Some("true") => true,
                Some(_) => return Err(wrong(WITH_ID, "neither true nor false")),
            },
        })
    }

    fn text(&self) -> Result<String, String> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let (mut header, mut claims) = (Map::new(), self.claims.clone());
        if let Some(file) = &self.template {
            let template = serde_json::from_str::<Map<String, Value>>(&read(TEMPLATE, file)?);
            let bad = || wrong(TEMPLATE, format!("{} is no object with a header and a payload", file.display()));
            for (name, all) in template.map_err(|_| bad())? {
                match (name.as_str(), all) {
                    ("header", Value::Object(all)) => header.extend(all),
                    ("payload", Value::Object(all)) => claims.extend(all),
                    ("header" | "payload", Value::Null) => {}
                    ("header" | "payload", _) => return Err(bad()),
                    _ => {}
                }
            }
        }
        header.insert("alg".to_owned(), self.algorithm.name().into());
        header.insert("typ".to_owned(), "JWT".into());
        claims.insert("iat".to_owned(), now.into());
        claims.insert("exp".to_owned(), (now + self.lifetime_s).into());
        claims.insert("nbf".to_owned(), now.saturating_sub(self.leeway_s).into());
        if self.with_id {
            claims.insert("jti".to_owned(), format!("{:032x}", rand::random::<u128>()).into());
        }
        let [header, claims] = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(Value::Object(part).to_string()));
        let signed = format!("{header}.{claims}");
        let signature = self.signature(signed.as_bytes()).map_err(|why| wrong(KEY, why))?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }

    fn signature(&self, text: &[u8]) -> Result<Vec<u8>, String> {
        let file = self.key.display();
        let pem = fs::read(&self.key).map_err(|e| format!("{file}: {e}"))?;
        let key = stores::private_key(&pem, self.passphrase.as_ref(), PASSPHRASE);
        let PrivateKeyDer::Pkcs8(key) = key.map_err(|why| format!("{file}: {why}"))? else {
            return Err(format!("{file}: the private key is not in PKCS #8 form"));
        };
        let signature = self.algorithm.sign(key.secret_pkcs8_der(), text);
        signature.map_err(|why| format!("{file}: no key of {}: {why}", self.algorithm.name()))
    }
}

impl Algorithm {
    fn name(self) -> &'static str {
        match self {
            Algorithm::Rs256 => "RS256",
            Algorithm::Es256 => "ES256",
        }
    }

    /// `key` in PKCS #8 form.
    fn sign(self, key: &[u8], text: &[u8]) -> Result<Vec<u8>, String> {
        let random = SystemRandom::new();
        let rejected = |e: ring::error::KeyRejected| e.to_string();
        let failed = |_: ring::error::Unspecified| "it does not sign".to_owned();
        match self {
            Algorithm::Rs256 => {
                let key = RsaKeyPair::from_pkcs8(key).map_err(rejected)?;
                let mut signature = vec![0; key.public().modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &random, text, &mut signature).map_err(failed)?;
                Ok(signature)
            }
            Algorithm::Es256 => {
                let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, key, &random).map_err(rejected)?;
                Ok(key.sign(&random, text).map_err(failed)?.as_ref().to_vec())
            }
        }
    }
}

/// The value of a property, if it has one.
fn given<'a>(properties: &'a Properties, name: &str) -> Option<&'a str> {
    properties.get(name).map(|text| text.trim()).filter(|text| !text.is_empty())
}

fn read(name: &str, file: &Path) -> Result<String, String> {
    fs::read_to_string(file).map_err(|e| wrong(name, format!("{}: {e}", file.display())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::KeyPair;
    use ring::signature::{ECDSA_P256_SHA256_FIXED, KeyPair as _, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
    use serde_json::json;

    const RSA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../config/tests/stores/rsa.pem");

    fn assertion(set: &[(&str, &str)]) -> Result<Assertion, String> {
        Assertion::new(&set.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect())
    }

    /// The path of a file that says `text`.
    fn written(folder: &Path, name: &str, text: &str) -> String {
        let path = folder.join(name);
        fs::write(&path, text).unwrap();
        path.display().to_string()
    }

    /// Header, claims, what is signed, and the signature.
    fn parts(text: &str) -> (Value, Value, &str, Vec<u8>) {
        let (signed, signature) = text.rsplit_once('.').unwrap();
        let (header, claims) = signed.split_once('.').unwrap();
        let json = |part: &str| serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap();
        (json(header), json(claims), signed, URL_SAFE_NO_PAD.decode(signature).unwrap())
    }

    #[test]
    fn an_encrypted_key_of_rsa_signs_what_kafka_says_by_default() {
        let made = assertion(&[(KEY, RSA), (PASSPHRASE, "key-secret"), (ISSUER, " me ")]).unwrap();
        assert!(!format!("{made:?}").contains("key-secret"));
        let text = made.text().unwrap();
        let (header, claims, signed, signature) = parts(&text);
        assert_eq!(header, json!({ "alg": "RS256", "typ": "JWT" }));
        let now = claims["iat"].as_u64().unwrap();
        assert_eq!(claims, json!({ "iss": "me", "iat": now, "exp": now + 300, "nbf": now - 60 }));
        let pem = fs::read(RSA).unwrap();
        let key = stores::private_key(&pem, Some(&Password::new("key-secret")), PASSPHRASE).unwrap();
        let key = RsaKeyPair::from_pkcs8(key.secret_der()).unwrap();
        let key = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key.public_key().as_ref());
        key.verify(signed.as_bytes(), &signature).unwrap();
    }

    #[test]
    fn a_template_goes_over_properties_and_what_is_of_the_moment_over_both() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| written(folder.path(), name, text);
        let key = KeyPair::generate().unwrap();
        let pem = file("key.pem", &key.serialize_pem());
        let template =
            file("template", r#"{"header":{"kid":"k","alg":"none"},"payload":{"iss":"file","n":[1],"exp":1}}"#);
        let set = [(ALGORITHM, "es256"), (KEY, &pem), (TEMPLATE, &template), (ISSUER, "set"), (SUBJECT, "s")];
        let more = [(AUDIENCE, "a"), (LIFETIME, "0"), (LEEWAY, "3600"), (WITH_ID, "TRUE")];
        let made = assertion(&[&set[..], &more].concat()).unwrap();
        let text = made.text().unwrap();
        let (header, claims, signed, signature) = parts(&text);
        assert_eq!(header, json!({ "kid": "k", "alg": "ES256", "typ": "JWT" }));
        let (now, id) = (claims["iat"].as_u64().unwrap(), claims["jti"].as_str().unwrap());
        let said = json!({ "iss": "file", "sub": "s", "aud": "a", "n": [1], "jti": id });
        let times = json!({ "iat": now, "exp": now, "nbf": now - 3600 });
        let whole = [said, times].into_iter().flat_map(|part| part.as_object().unwrap().clone()).collect::<Map<_, _>>();
        assert_eq!(claims, Value::Object(whole));
        let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key.public_key_raw());
        public.verify(signed.as_bytes(), &signature).unwrap();
        assert_ne!(parts(&made.text().unwrap()).1["jti"], id);
        // What somebody has renewed is taken.
        file("template", r#"{"header":null,"payload":{"iss":"other"},"more":1}"#);
        let text = made.text().unwrap();
        assert_eq!((&parts(&text).0["kid"], &parts(&text).1["iss"]), (&Value::Null, &json!("other")));
        // One that is made already.
        let ready = file("ready", &format!(" {text}\n"));
        let made = assertion(&[(FILE, &ready), (ALGORITHM, "none")]).unwrap();
        assert_eq!(made.text().unwrap(), text);
        for damaged in ["", "a.b.c", &text[1..], signed] {
            file("ready", damaged);
            assert!(made.text().unwrap_err().contains("sasl.oauthbearer.assertion.file: there is no signed JWT"));
        }
    }

    #[test]
    fn what_does_not_fit_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| written(folder.path(), name, text);
        let key = [(KEY, RSA), (PASSPHRASE, "key-secret")];
        let (list, none) = (file("list", "[]"), file("none", "x"));
        for (set, why) in [
            (vec![], "sasl.oauthbearer.assertion.private.key.file: needed"),
            (vec![(FILE, "/no/such")], "sasl.oauthbearer.assertion.file: /no/such: No such file"),
            (vec![(KEY, "/no/such")], "sasl.oauthbearer.assertion.private.key.file: /no/such: No such file"),
            (vec![(KEY, &none)], "there is no private key in it"),
            (vec![(KEY, RSA)], "sasl.oauthbearer.assertion.private.key.passphrase is needed"),
            (vec![key[0], (PASSPHRASE, "top-secret")], "sasl.oauthbearer.assertion.private.key.passphrase right?"),
            (vec![key[0], (PASSPHRASE, " ")], "sasl.oauthbearer.assertion.private.key.passphrase: has no value"),
            ([&key[..], &[(ALGORITHM, "ES256")]].concat(), "no key of ES256"),
            ([&key[..], &[(ALGORITHM, "HS256")]].concat(), "sasl.oauthbearer.assertion.algorithm: neither"),
            ([&key[..], &[(LIFETIME, "86401")]].concat(), "sasl.oauthbearer.assertion.claim.exp.seconds: no number"),
            ([&key[..], &[(LEEWAY, "3601")]].concat(), "sasl.oauthbearer.assertion.claim.nbf.seconds: no number"),
            ([&key[..], &[(LEEWAY, "-1")]].concat(), "sasl.oauthbearer.assertion.claim.nbf.seconds: no number"),
            ([&key[..], &[(WITH_ID, "1")]].concat(), "sasl.oauthbearer.assertion.claim.jti.include: neither"),
            ([&key[..], &[(SUBJECT, "")]].concat(), "sasl.oauthbearer.assertion.claim.sub: has no value"),
            ([&key[..], &[(TEMPLATE, &list)]].concat(), "sasl.oauthbearer.assertion.template.file: "),
        ] {
            let message = assertion(&set).unwrap_err();
            assert!(message.contains(why) && !message.contains("top-secret"), "{set:?}: {message}");
        }
    }
}
