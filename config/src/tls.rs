//! TLS of one listener: where its certificate and those it trusts come from, and who must show one.
//! The rules are those of Kafka's `DefaultSslEngineFactory`.

use crate::layers::BrokerProperties;
use crate::listeners::{Listener, SecurityProtocol, Wrong, wrong};
use crate::stores::{self, Store};
use crate::value::Value;
use std::fmt;

/// A secret: never shown, in no log and no error.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(String);

impl Password {
    pub fn new(secret: impl Into<String>) -> Password {
        Password(secret.into())
    }

    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[hidden]")
    }
}

/// Whether clients must show a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAuth {
    None,
    /// One that is shown must be trusted; who shows none is anonymous.
    Requested,
    Required,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsSettings {
    /// The private key and the certificate chain of the broker.
    pub key_store: Store,
    pub key_password: Option<Password>,
    /// Certificates that those of clients must go back to.
    pub trust_store: Option<Store>,
    pub client_auth: ClientAuth,
    /// `TLSv1.2`, `TLSv1.3`.
    pub protocols: Vec<String>,
    /// In Java's names; empty: all that there are.
    pub cipher_suites: Vec<String>,
    /// How names of certificates become names of users.
    pub mapping_rules: String,
}

impl TlsSettings {
    /// With the stores of another: those may change while the listener is open.
    pub(crate) fn with_stores_of(&self, other: &TlsSettings) -> TlsSettings {
        TlsSettings {
            key_store: other.key_store.clone(),
            key_password: other.key_password.clone(),
            trust_store: other.trust_store.clone(),
            ..self.clone()
        }
    }
}

/// The settings of a listener that is encrypted.
pub(crate) fn tls(properties: &BrokerProperties, listener: &Listener) -> Result<TlsSettings, Wrong> {
    let r = Reader { properties, listener };
    let client_auth = match r.text("ssl.client.auth")?.as_deref() {
        // As in Kafka: who says who he is by SASL is asked for a certificate only where the listener's own property says so.
        _ if listener.protocol == SecurityProtocol::SaslSsl && !r.is_own("ssl.client.auth") => ClientAuth::None,
        Some("required") => ClientAuth::Required,
        Some("requested") => ClientAuth::Requested,
        _ => ClientAuth::None,
    };
    let trust_store = r.trust_store()?;
    if client_auth != ClientAuth::None && trust_store.is_none() {
        return Err(r.wrong(
            "ssl.client.auth",
            "clients' certificates need ssl.truststore.location or ssl.truststore.certificates",
        ));
    }
    Ok(TlsSettings {
        key_store: r.key_store()?,
        key_password: r.password("ssl.key.password")?,
        trust_store,
        client_auth,
        protocols: r.protocols()?,
        cipher_suites: r.list("ssl.cipher.suites")?,
        mapping_rules: r.text("ssl.principal.mapping.rules")?.unwrap_or_else(|| "DEFAULT".to_owned()),
    })
}

struct Reader<'a> {
    properties: &'a BrokerProperties,
    listener: &'a Listener,
}

impl Reader<'_> {
    fn wrong(&self, name: &str, message: impl fmt::Display) -> Wrong {
        let name = self.properties.place(self.listener, name);
        wrong(&name, format!("listener {}: {message}", self.listener.name))
    }

    fn is_own(&self, name: &str) -> bool {
        self.properties.own_of_listener(self.listener, name).is_some()
    }

    fn value(&self, name: &str) -> Result<Option<Value>, Wrong> {
        self.properties.value_of_listener(self.listener, name).map_err(|e| self.wrong(name, e))
    }

    fn text(&self, name: &str) -> Result<Option<String>, Wrong> {
        Ok(self.value(name)?.map(|v| v.to_string()).filter(|text| !text.is_empty()))
    }

    fn password(&self, name: &str) -> Result<Option<Password>, Wrong> {
        Ok(self.text(name)?.map(Password))
    }

    fn list(&self, name: &str) -> Result<Vec<String>, Wrong> {
        Ok(self.value(name)?.map(|v| v.items().to_vec()).unwrap_or_default())
    }

    fn protocols(&self) -> Result<Vec<String>, Wrong> {
        let name = "ssl.enabled.protocols";
        let all = self.list(name)?;
        match all.iter().find(|p| !["TLSv1.2", "TLSv1.3"].contains(&p.as_str())) {
            Some(other) => Err(self.wrong(name, format!("{other} is not served: there are TLSv1.2 and TLSv1.3"))),
            None if all.is_empty() => Err(self.wrong(name, "at least one of TLSv1.2 and TLSv1.3 is needed")),
            None => Ok(all),
        }
    }

    fn key_store(&self) -> Result<Store, Wrong> {
        let found = stores::key_store(&|name| self.text(name), &|name, message| self.wrong(name, message))?;
        found.ok_or_else(|| {
            self.wrong(
                "ssl.keystore.location",
                "a listener with TLS needs a certificate: ssl.keystore.location of a ssl.keystore.type (PEM, PKCS12, JKS), or \
                 ssl.keystore.key and ssl.keystore.certificate.chain",
            )
        })
    }

    fn trust_store(&self) -> Result<Option<Store>, Wrong> {
        stores::trust_store(&|name| self.text(name), &|name, message| self.wrong(name, message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listeners::one;

    fn load(set: &[(&str, &str)]) -> Result<TlsSettings, (String, String)> {
        Ok(one("SSL://127.0.0.1:1", set)?.tls.unwrap())
    }

    #[test]
    fn a_listener_has_its_own_settings_over_those_of_all() {
        let tls = load(&[
            ("ssl.keystore.type", "PEM"),
            ("ssl.keystore.location", "/a"),
            ("listener.name.ssl.ssl.keystore.location", "/b"),
            ("ssl.key.password", "secret"),
            ("ssl.enabled.protocols", "TLSv1.3"),
        ]);
        let tls = tls.unwrap();
        assert_eq!(tls.key_store, Store::Pem("/b".into()));
        assert_eq!((tls.client_auth, tls.protocols.len()), (ClientAuth::None, 1));
        assert!(!format!("{tls:?}").contains("secret"));
    }

    #[test]
    fn stores_of_java_have_kafkas_default_type_and_their_passwords() {
        let set = [
            ("ssl.keystore.location", "/k"),
            ("ssl.keystore.password", "store-secret"),
            ("ssl.truststore.location", "/t"),
        ];
        let tls = load(&set).unwrap();
        assert_eq!(tls.key_store, Store::Java("/k".into(), Some(Password::new("store-secret"))));
        assert_eq!(tls.trust_store, Some(Store::Java("/t".into(), None)));
        assert!(!format!("{tls:?}").contains("store-secret"));
        let set = [set[0], set[1], ("ssl.keystore.type", "pkcs12"), ("ssl.key.password", "x")];
        let tls = load(&set).unwrap();
        assert_eq!((tls.key_store.file(), tls.key_password), (Some("/k".as_ref()), Some(Password::new("x"))));
    }

    #[test]
    fn what_does_not_fit_together_is_refused_with_the_property() {
        let pem = ("ssl.keystore.type", "PEM");
        let file = ("ssl.keystore.location", "/a");
        for (set, name, why) in [
            (vec![], "ssl.keystore.location", "needs a certificate"),
            (vec![file], "ssl.keystore.password", "but key store password is not specified"),
            (
                vec![file, ("ssl.keystore.type", "BKS")],
                "ssl.keystore.type",
                "of type BKS (given by ssl.keystore.location)",
            ),
            (vec![("ssl.keystore.password", "x")], "ssl.keystore.password", "SSL key store is not specified"),
            (vec![("ssl.keystore.key", "x")], "ssl.keystore.key", "only for PEM, but key store type is JKS"),
            (vec![file, pem, ("ssl.keystore.password", "x")], "ssl.keystore.password", "only key password"),
            (
                vec![file, pem, ("ssl.keystore.key", "x"), ("ssl.keystore.certificate.chain", "y")],
                "ssl.keystore.key",
                "Both SSL key store location",
            ),
            (vec![pem, ("ssl.keystore.key", "x")], "ssl.keystore.key", "certificate chain is not specified"),
            (vec![file, pem, ("ssl.client.auth", "required")], "ssl.client.auth", "need ssl.truststore"),
            (vec![file, pem, ("ssl.enabled.protocols", "TLSv1.1")], "ssl.enabled.protocols", "TLSv1.1 is not served"),
            (vec![file, pem, ("ssl.truststore.certificates", "x")], "ssl.truststore.certificates", "only for PEM"),
            (vec![file, pem, ("ssl.truststore.password", "x")], "ssl.truststore.password", "is not specified"),
            (
                vec![file, pem, ("ssl.truststore.location", "/t"), ("ssl.truststore.type", "pem")],
                "ssl.truststore.type",
                "of type pem (given by ssl.truststore.location)",
            ),
        ] {
            let (at, message) = load(&set).unwrap_err();
            assert!(at == name && message.contains(why), "{set:?}: {at}: {message}");
        }
    }
}
