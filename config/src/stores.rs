//! Key and trust stores, as brokers and clients name them: `ssl.keystore.*`, `ssl.truststore.*`. The rules are those of Kafka's
//! `DefaultSslEngineFactory`.

use crate::tls::Password;
use std::path::PathBuf;

/// PEM text, or a file of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pem {
    File(PathBuf),
    /// Has a private key in it where it is a key store's.
    Text(Password),
}

/// The private key with its certificates. `text` gives what a property is set to, `wrong` makes an error about one.
pub fn key_store<E>(
    text: &impl Fn(&'static str) -> Result<Option<String>, E>,
    wrong: &impl Fn(&'static str, String) -> E,
) -> Result<Option<Pem>, E> {
    let (key, chain, location) = ("ssl.keystore.key", "ssl.keystore.certificate.chain", "ssl.keystore.location");
    let path = text(location)?;
    let texts = (text(key)?, text(chain)?);
    let by = if path.is_some() { location } else { key };
    only_pem(text, wrong, "ssl.keystore.type", (path.is_some() || texts.0.is_some()).then_some(by))?;
    if text("ssl.keystore.password")?.is_some() {
        let message = "SSL key store password cannot be specified with PEM format, only key password may be specified";
        return Err(wrong("ssl.keystore.password", message.to_owned()));
    }
    match (texts, path) {
        ((Some(_), _), Some(_)) => {
            Err(wrong(key, "Both SSL key store location and separate private key are specified.".to_owned()))
        }
        ((Some(_), None), None) => {
            Err(wrong(key, "SSL private key is specified, but certificate chain is not specified.".to_owned()))
        }
        ((None, Some(_)), _) => {
            Err(wrong(chain, "SSL certificate chain is specified, but private key is not specified".to_owned()))
        }
        ((Some(key), Some(chain)), None) => Ok(Some(Pem::Text(Password::new(format!("{key}\n{chain}"))))),
        ((None, None), path) => Ok(path.map(|path| Pem::File(path.into()))),
    }
}

/// Those that are trusted.
pub fn trust_store<E>(
    text: &impl Fn(&'static str) -> Result<Option<String>, E>,
    wrong: &impl Fn(&'static str, String) -> E,
) -> Result<Option<Pem>, E> {
    let (certificates, location) = ("ssl.truststore.certificates", "ssl.truststore.location");
    let (inline, path) = (text(certificates)?, text(location)?);
    let by = if path.is_some() { location } else { certificates };
    only_pem(text, wrong, "ssl.truststore.type", (path.is_some() || inline.is_some()).then_some(by))?;
    if text("ssl.truststore.password")?.is_some() {
        let message = "SSL trust store password cannot be specified for PEM format.";
        return Err(wrong("ssl.truststore.password", message.to_owned()));
    }
    match (inline, path) {
        (Some(_), Some(_)) => Err(wrong(
            certificates,
            "Both SSL trust store location and separate trust certificates are specified.".to_owned(),
        )),
        (Some(inline), None) => Ok(Some(Pem::Text(Password::new(inline)))),
        (None, path) => Ok(path.map(|path| Pem::File(path.into()))),
    }
}

/// `by` gives a store, whose type must be one that can be read.
fn only_pem<E>(
    text: &impl Fn(&'static str) -> Result<Option<String>, E>,
    wrong: &impl Fn(&'static str, String) -> E,
    name: &'static str,
    by: Option<&str>,
) -> Result<(), E> {
    // Kafka's default.
    let kind = text(name)?.unwrap_or_else(|| "JKS".to_owned());
    let Some(by) = by.filter(|_| kind != "PEM") else { return Ok(()) };
    let message = format!(
        "a store of type {kind} (given by {by}) is not read by this version: convert it to PEM (keytool -importkeystore to \
         PKCS12, then openssl pkcs12) and set {name}=PEM"
    );
    Err(wrong(name, message))
}
