//! Key and trust stores, as brokers and clients name them: `ssl.keystore.*`, `ssl.truststore.*`. The rules are those of Kafka's
//! `DefaultSslEngineFactory`.

mod asn1;
mod certificate;
mod java;
mod jks;
mod pem;
mod pkcs12;
mod protection;
#[cfg(test)]
mod tests;

use crate::tls::Password;
pub use certificate::unserved_key;
use java::{Fault, JavaStore};
pub use pem::private_key;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use std::path::{Path, PathBuf};

/// No store is larger, or somebody named the wrong file.
const STORE_MAX: u64 = 16 << 20;

/// What one shows in a handshake.
pub struct Identity {
    /// Its own certificate first.
    pub chain: Vec<CertificateDer<'static>>,
    pub key: PrivateKeyDer<'static>,
}

/// Where keys and certificates are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Store {
    /// PEM; has a private key in it where it is a key store's.
    Text(Password),
    Pem(PathBuf),
    /// PKCS12 or JKS, with the password of the store.
    Java(PathBuf, Option<Password>),
}

impl Store {
    pub fn file(&self) -> Option<&Path> {
        match self {
            Store::Text(_) => None,
            Store::Pem(file) | Store::Java(file, _) => Some(file),
        }
    }

    /// The private key with its certificates; `key_password` where that is not the store's. Reads a file. Errors tell nothing of what
    /// is in it.
    pub fn identity(&self, key_password: Option<&Password>) -> Result<Identity, String> {
        let read = || match self {
            Store::Java(_, password) => {
                let store = JavaStore::read(&self.bytes()?, password.as_ref());
                let identity = store.and_then(|store| store.identity(key_password.or(password.as_ref())));
                identity.map_err(|fault| told(fault, "ssl.keystore.password", key_password.is_some()))
            }
            _ => pem::identity(&self.bytes()?, key_password),
        };
        let mut identity = read().map_err(|why| self.named("the key store", "ssl.keystore", &why))?;
        if let (PrivateKeyDer::Pkcs8(key), Some(certificate)) = (&identity.key, identity.chain.first())
            && let Some(whole) = certificate::with_public_half(key.secret_pkcs8_der(), certificate)
        {
            identity.key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(whole));
        }
        Ok(identity)
    }

    /// Those that are trusted, at least one. Reads a file.
    pub fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, String> {
        let read = || match self {
            Store::Java(_, password) => {
                let store = JavaStore::read(&self.bytes()?, password.as_ref());
                let trusted = store.and_then(JavaStore::certificates);
                trusted.map_err(|fault| told(fault, "ssl.truststore.password", false))
            }
            _ => pem::certificates(&self.bytes()?),
        };
        read().map_err(|why| self.named("the trust store", "ssl.truststore", &why))
    }

    fn bytes(&self) -> Result<Vec<u8>, String> {
        match self {
            Store::Text(text) => {
                // A property is one line, so line ends may be written as they are in code.
                let text = text.reveal().replace("\\n", "\n");
                Ok(text.into_bytes())
            }
            Store::Pem(file) | Store::Java(file, _) => {
                if std::fs::metadata(file).map_err(|e| e.to_string())?.len() > STORE_MAX {
                    return Err(format!("larger than {STORE_MAX} bytes, which no store is"));
                }
                std::fs::read(file).map_err(|e| e.to_string())
            }
        }
    }

    fn named(&self, role: &str, prefix: &str, why: &str) -> String {
        match self.file() {
            Some(file) => format!("{role} {} ({prefix}.location): {why}", file.display()),
            None => format!("{role}: {why}"),
        }
    }
}

fn told(fault: Fault, password: &str, has_key_password: bool) -> String {
    match fault {
        Fault::Damaged => "it is damaged, or ends too early".to_owned(),
        Fault::Password => format!("{password} is not its password, or it is damaged"),
        Fault::NoPassword => format!("its certificates are encrypted: {password} is needed"),
        Fault::KeyPassword if has_key_password => "ssl.key.password is not that of its private key".to_owned(),
        Fault::KeyPassword => "its private key has a password of its own: ssl.key.password is needed".to_owned(),
        Fault::Other(why) => why,
    }
}

/// The form of a store.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Pem,
    Java,
}

/// The private key with its certificates. `text` gives what a property is set to, `wrong` makes an error about one.
pub fn key_store<E>(
    text: &impl Fn(&'static str) -> Result<Option<String>, E>,
    wrong: &impl Fn(&'static str, String) -> E,
) -> Result<Option<Store>, E> {
    let (key, chain, location) = ("ssl.keystore.key", "ssl.keystore.certificate.chain", "ssl.keystore.location");
    let password = "ssl.keystore.password";
    let refused = |name, message: &str| Err(wrong(name, message.to_owned()));
    let path = text(location)?.map(PathBuf::from);
    let (kind, form) = form(text, "ssl.keystore.type")?;
    match (text(key)?, text(chain)?, path, text(password)?, form) {
        (Some(_), ..) if form != Some(Form::Pem) => Err(wrong(
            key,
            format!("SSL private key can be specified only for PEM, but key store type is {kind} (ssl.keystore.type)."),
        )),
        (Some(_), None, ..) => refused(key, "SSL private key is specified, but certificate chain is not specified."),
        (Some(_), _, Some(_), ..) => {
            refused(key, "Both SSL key store location and separate private key are specified.")
        }
        (None, Some(_), ..) => refused(chain, "SSL certificate chain is specified, but private key is not specified"),
        (_, _, _, Some(_), Some(Form::Pem)) => refused(
            password,
            "SSL key store password cannot be specified with PEM format, only key password may be specified",
        ),
        (Some(key), Some(chain), ..) => Ok(Some(Store::Text(Password::new(format!("{key}\n{chain}"))))),
        (_, _, Some(path), None, Some(Form::Pem)) => Ok(Some(Store::Pem(path))),
        (_, _, Some(_), _, None) => Err(wrong("ssl.keystore.type", unread(&kind, location))),
        (_, _, Some(_), None, Some(Form::Java)) => {
            refused(password, "SSL key store is specified, but key store password is not specified.")
        }
        (_, _, Some(path), Some(password), Some(Form::Java)) => {
            Ok(Some(Store::Java(path, Some(Password::new(password)))))
        }
        (_, _, None, Some(_), _) => {
            refused(password, "SSL key store is not specified, but key store password is specified.")
        }
        (None, None, None, None, _) => Ok(None),
    }
}

/// Those that are trusted.
pub fn trust_store<E>(
    text: &impl Fn(&'static str) -> Result<Option<String>, E>,
    wrong: &impl Fn(&'static str, String) -> E,
) -> Result<Option<Store>, E> {
    let (certificates, location) = ("ssl.truststore.certificates", "ssl.truststore.location");
    let password = "ssl.truststore.password";
    let refused = |name, message: &str| Err(wrong(name, message.to_owned()));
    let path = text(location)?.map(PathBuf::from);
    let (kind, form) = form(text, "ssl.truststore.type")?;
    match (text(certificates)?, path, text(password)?, form) {
        (Some(_), ..) if form != Some(Form::Pem) => Err(wrong(
            certificates,
            format!(
                "SSL trust store certs can be specified only for PEM, but trust store type is {kind} (ssl.truststore.type)."
            ),
        )),
        (Some(_), Some(_), ..) => {
            refused(certificates, "Both SSL trust store location and separate trust certificates are specified.")
        }
        (_, _, Some(_), Some(Form::Pem)) => {
            refused(password, "SSL trust store password cannot be specified for PEM format.")
        }
        (Some(inline), ..) => Ok(Some(Store::Text(Password::new(inline)))),
        (None, Some(path), _, Some(Form::Pem)) => Ok(Some(Store::Pem(path))),
        (None, Some(_), _, None) => Err(wrong("ssl.truststore.type", unread(&kind, location))),
        (None, Some(path), password, Some(Form::Java)) => Ok(Some(Store::Java(path, password.map(Password::new)))),
        (None, None, Some(_), _) => {
            refused(password, "SSL trust store is not specified, but trust store password is specified.")
        }
        (None, None, None, _) => Ok(None),
    }
}

/// The type of a store, and its form if that is read. As in Java a store of either of its types is read as what it is.
fn form<E>(
    text: &impl Fn(&'static str) -> Result<Option<String>, E>,
    name: &'static str,
) -> Result<(String, Option<Form>), E> {
    // Kafka's default.
    let kind = text(name)?.unwrap_or_else(|| "JKS".to_owned());
    let is = |known: &[&str]| known.iter().any(|k| kind.eq_ignore_ascii_case(k));
    let form = match kind.as_str() {
        "PEM" => Some(Form::Pem),
        _ if is(&["JKS", "PKCS12"]) => Some(Form::Java),
        _ => None,
    };
    Ok((kind, form))
}

fn unread(kind: &str, location: &str) -> String {
    format!("a store of type {kind} (given by {location}) is not read: there are PEM, PKCS12 and JKS")
}
