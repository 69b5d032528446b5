//! How a client shows who it is, and whom it trusts: Kafka's client properties, and flags that stand for some of them.

use super::assertion;
use super::tokens::{self, TokenSource};
use corelane_config::jaas::Jaas;
use corelane_config::{Password, Store, stores};
use corelane_sasl::Mechanism;
use corelane_sasl::scram::Hash;
use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion, version};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

/// What every connection of a client begins with; the default is neither TLS nor SASL.
#[derive(Clone, Debug, Default)]
pub struct Security {
    pub tls: Option<Arc<ClientConfig>>,
    pub login: Option<Login>,
}

/// Who a client is by SASL.
#[derive(Clone, Debug)]
pub enum Login {
    Plain {
        user: String,
        password: Password,
    },
    /// `is_token`: by a delegation token, whose id is the user and the text of whose HMAC is the password.
    Scram {
        hash: Hash,
        user: String,
        password: Password,
        is_token: bool,
    },
    OAuthBearer(TokenSource),
}

impl Login {
    pub fn mechanism(&self) -> Mechanism {
        match self {
            Login::Plain { .. } => Mechanism::Plain,
            Login::Scram { hash, .. } => Mechanism::Scram(*hash),
            Login::OAuthBearer(_) => Mechanism::OAuthBearer,
        }
    }
}

/// What flags say; they go over the properties.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    pub login: Option<(String, Password)>,
    pub mechanism: Option<String>,
    /// Certificates to trust, in PEM.
    pub ca: Option<PathBuf>,
    /// A private key and its certificates, in PEM.
    pub cert: Option<PathBuf>,
}

const PROTOCOL: &str = "security.protocol";
const MECHANISM: &str = "sasl.mechanism";
const JAAS: &str = "sasl.jaas.config";
const IDENTIFICATION: &str = "ssl.endpoint.identification.algorithm";
const PROTOCOLS: &str = "ssl.enabled.protocols";
const KEY_PASSWORD: &str = "ssl.key.password";
/// Beside those of tokens.
const HONOURED: [&str; 16] = [
    PROTOCOL,
    MECHANISM,
    JAAS,
    IDENTIFICATION,
    PROTOCOLS,
    KEY_PASSWORD,
    "ssl.keystore.type",
    "ssl.keystore.location",
    "ssl.keystore.key",
    "ssl.keystore.certificate.chain",
    "ssl.keystore.password",
    "ssl.truststore.type",
    "ssl.truststore.location",
    "ssl.truststore.certificates",
    "ssl.truststore.password",
    // Nothing but what the provider's name is for: `ssl.enabled.protocols` says what is spoken.
    "ssl.protocol",
];
/// What a user who says no mechanism comes by.
const DEFAULT_MECHANISM: &str = "SCRAM-SHA-512";

pub(super) type Properties = BTreeMap<String, String>;

/// Of a property, and why.
pub(super) fn wrong(name: &str, why: impl std::fmt::Display) -> String {
    format!("{name}: {why}")
}

impl Security {
    /// Errors tell no secret. Properties that are not about security are not looked at.
    pub fn new(properties: &Properties, flags: &Flags) -> Result<Security, String> {
        let of_security = |name: &&String| ["security.", "sasl.", "ssl."].iter().any(|p| name.starts_with(p));
        if let Some(name) = properties.keys().filter(of_security).find(|name| !is_honoured(name)) {
            return Err(wrong(name, "not honoured by this client"));
        }
        let protocol = properties.get(PROTOCOL).map_or("PLAINTEXT", String::as_str);
        let (tls, sasl) = match protocol.to_ascii_uppercase().as_str() {
            "PLAINTEXT" => (false, false),
            "SSL" => (true, false),
            "SASL_PLAINTEXT" => (false, true),
            "SASL_SSL" => (true, true),
            _ => {
                return Err(wrong(PROTOCOL, format!("{protocol} is none of PLAINTEXT, SSL, SASL_PLAINTEXT, SASL_SSL")));
            }
        };
        let tls = tls || flags.ca.is_some() || flags.cert.is_some();
        let login = (sasl || flags.login.is_some()).then(|| login(properties, flags)).transpose()?;
        Ok(Security { tls: tls.then(|| client_config(properties, flags)).transpose()?.map(Arc::new), login })
    }

    /// The properties that [`Security::new`] does not look at.
    pub fn unused(properties: &Properties) -> impl Iterator<Item = &String> {
        properties.keys().filter(|name| !is_honoured(name))
    }
}

fn is_honoured(name: &str) -> bool {
    HONOURED.contains(&name) || tokens::PROPERTIES.contains(&name) || assertion::PROPERTIES.contains(&name)
}

fn login(properties: &Properties, flags: &Flags) -> Result<Login, String> {
    let named = flags.mechanism.as_ref().or(properties.get(MECHANISM)).map(String::as_str);
    // Kafka's default, where it is Kafka's properties that speak.
    let name = named.unwrap_or(if flags.login.is_some() { DEFAULT_MECHANISM } else { "GSSAPI" });
    let mechanism = Mechanism::named(name).ok_or_else(|| {
        let known = Mechanism::ALL.map(Mechanism::name).join(", ");
        wrong(MECHANISM, format!("{name} is not spoken by this client (allowed: {known})"))
    })?;
    if let Some((user, password)) = flags.login.clone() {
        return match mechanism {
            Mechanism::Plain => Ok(Login::Plain { user, password }),
            Mechanism::Scram(hash) => Ok(Login::Scram { hash, user, password, is_token: false }),
            Mechanism::OAuthBearer => {
                Err(wrong(MECHANISM, format!("{name} has no user with a password; its properties go into a file")))
            }
        };
    }
    let line = properties.get(JAAS).ok_or_else(|| wrong(JAAS, "needed for SASL, or --user"))?;
    let jaas = Jaas::parse(line).map_err(|why| wrong(JAAS, why))?;
    let (module, known): (_, &[&str]) = match mechanism {
        Mechanism::Plain => ("PlainLoginModule", &["username", "password"]),
        Mechanism::Scram(_) => ("ScramLoginModule", &["username", "password", "tokenauth"]),
        Mechanism::OAuthBearer => ("OAuthBearerLoginModule", &tokens::OPTIONS),
    };
    if jaas.module_name() != module {
        return Err(wrong(JAAS, format!("{mechanism} has the login module {module}, not {}", jaas.module)));
    }
    if let Some(other) = jaas.options.keys().find(|name| !known.contains(&name.as_str())) {
        return Err(wrong(JAAS, format!("the option {other} is not honoured by this client")));
    }
    let option = |name: &str| jaas.options.get(name).cloned().ok_or_else(|| wrong(JAAS, format!("{name} is needed")));
    match mechanism {
        Mechanism::Plain => {
            Ok(Login::Plain { user: option("username")?, password: Password::new(option("password")?) })
        }
        Mechanism::Scram(hash) => {
            let is_token = option("tokenauth").is_ok_and(|value| value.eq_ignore_ascii_case("true"));
            Ok(Login::Scram { hash, user: option("username")?, password: Password::new(option("password")?), is_token })
        }
        Mechanism::OAuthBearer => Ok(Login::OAuthBearer(TokenSource::new(properties, &jaas.options)?)),
    }
}

fn client_config(properties: &Properties, flags: &Flags) -> Result<ClientConfig, String> {
    let text = |name: &'static str| Ok(properties.get(name).filter(|value| !value.is_empty()).cloned());
    let wrong_store = |name: &'static str, why: String| wrong(name, why);
    if properties.get(IDENTIFICATION).is_some_and(|value| !value.eq_ignore_ascii_case("https")) {
        return Err(wrong(
            IDENTIFICATION,
            "this client always checks that a certificate is the broker's (allowed: https)",
        ));
    }
    let trusted = match &flags.ca {
        Some(path) => Some(Store::Pem(path.clone())),
        None => stores::trust_store(&text, &wrong_store)?,
    };
    let trusted = trusted.ok_or("TLS needs certificates to trust: ssl.truststore.location, or --tls-ca")?;
    let mut roots = RootCertStore::empty();
    for certificate in trusted.certificates()? {
        roots.add(certificate).map_err(|e| format!("the trust store: {e}"))?;
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_protocol_versions(&versions(properties)?).map_err(|e| wrong(PROTOCOLS, e))?;
    let builder = builder.with_root_certificates(roots);
    let shown = match &flags.cert {
        Some(path) => Some(Store::Pem(path.clone())),
        None => stores::key_store(&text, &wrong_store)?,
    };
    let Some(shown) = shown else { return Ok(builder.with_no_client_auth()) };
    let password = properties.get(KEY_PASSWORD).map(|secret| Password::new(secret.as_str()));
    let identity = shown.identity(password.as_ref())?;
    builder.with_client_auth_cert(identity.chain, identity.key).map_err(|e| format!("the key store: {e}"))
}

fn versions(properties: &Properties) -> Result<Vec<&'static SupportedProtocolVersion>, String> {
    let Some(names) = properties.get(PROTOCOLS) else { return Ok(vec![&version::TLS13, &version::TLS12]) };
    let version = |name: &str| match name.trim() {
        "TLSv1.2" => Ok(&version::TLS12),
        "TLSv1.3" => Ok(&version::TLS13),
        other => Err(wrong(PROTOCOLS, format!("{other} is not spoken: there are TLSv1.2 and TLSv1.3"))),
    };
    names.split(',').map(version).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn properties(set: &[(&str, &str)]) -> Properties {
        set.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    const SCRAM: &str = "org.apache.kafka.common.security.scram.ScramLoginModule required username=\"alice\" \
                         password=\"top-secret\";";

    /// Mechanism, user, password, and whether they are those of a delegation token.
    fn who(login: &Login) -> (&str, &str, &str, bool) {
        let mechanism = login.mechanism().name();
        match login {
            Login::Plain { user, password } => (mechanism, user, password.reveal(), false),
            Login::Scram { user, password, is_token, .. } => (mechanism, user, password.reveal(), *is_token),
            Login::OAuthBearer(TokenSource::File(file)) => (mechanism, file.to_str().unwrap(), "", false),
            Login::OAuthBearer(provider) => panic!("{provider}"),
        }
    }

    #[test]
    fn tokens_of_both_kinds_are_shown() {
        let sasl = |mechanism, jaas, more: &[(&str, &str)]| {
            let set = [&[(PROTOCOL, "SASL_PLAINTEXT"), (MECHANISM, mechanism), (JAAS, jaas)], more].concat();
            Security::new(&properties(&set), &Flags::default()).map(|security| security.login.unwrap())
        };
        let token = SCRAM.replace("username", "tokenauth=\"true\" username");
        assert_eq!(who(&sasl("SCRAM-SHA-256", &token, &[]).unwrap()), ("SCRAM-SHA-256", "alice", "top-secret", true));
        let bearer = "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required;";
        let place = ("sasl.oauthbearer.token.endpoint.url", "file:///run/token");
        let found = sasl("OAUTHBEARER", bearer, &[place]).unwrap();
        assert_eq!(who(&found), ("OAUTHBEARER", "/run/token", "", false));
        let other = bearer.replace(" required", " required extension_x=\"top-secret\"");
        for (jaas, more, why) in [
            (bearer, &[][..], "sasl.oauthbearer.token.endpoint.url: needed"),
            (other.as_str(), &[place], "option extension_x"),
        ] {
            let message = sasl("OAUTHBEARER", jaas, more).unwrap_err();
            assert!(message.contains(why) && !message.contains("top-secret"), "{message}");
        }
    }

    #[test]
    fn flags_go_over_properties_and_the_protocol_follows_both() {
        let none = Security::new(&Properties::new(), &Flags::default()).unwrap();
        assert!(none.tls.is_none() && none.login.is_none());
        let file = properties(&[(PROTOCOL, "sasl_plaintext"), (MECHANISM, "SCRAM-SHA-256"), (JAAS, SCRAM)]);
        let login = |file: &Properties, flags: &Flags| Security::new(file, flags).unwrap().login.unwrap();
        let alice = login(&file, &Flags::default());
        assert!(!format!("{alice:?}").contains("top-secret"));
        assert_eq!(who(&alice), ("SCRAM-SHA-256", "alice", "top-secret", false));
        let flags = Flags { login: Some(("bob".to_owned(), Password::new("x"))), ..Flags::default() };
        assert_eq!(who(&login(&file, &flags)), ("SCRAM-SHA-256", "bob", "x", false));
        assert_eq!(who(&login(&Properties::new(), &flags)), (DEFAULT_MECHANISM, "bob", "x", false));
        let flags = Flags { mechanism: Some("PLAIN".to_owned()), ..flags };
        assert_eq!(who(&login(&file, &flags)), ("PLAIN", "bob", "x", false));
        assert!(!Security::unused(&file).any(|_| true));
        assert_eq!(Security::unused(&properties(&[("acks", "all")])).collect::<Vec<_>>(), ["acks"]);
    }

    #[test]
    fn what_does_not_fit_is_refused_with_the_property_and_without_secrets() {
        let sasl = (PROTOCOL, "SASL_PLAINTEXT");
        let scram = (MECHANISM, "SCRAM-SHA-512");
        let plain = SCRAM.replace("Scram", "Plain");
        let token = plain.replace("username", "tokenauth=\"true\" username");
        let nobody = SCRAM.replace("username", "user");
        for (set, why) in [
            (vec![(PROTOCOL, "TLS")], "security.protocol: TLS is none of"),
            (vec![sasl, (JAAS, SCRAM)], "sasl.mechanism: GSSAPI is not spoken"),
            (vec![sasl, scram], "sasl.jaas.config: needed"),
            (vec![sasl, scram, (JAAS, &plain)], "has the login module ScramLoginModule"),
            (vec![sasl, (MECHANISM, "PLAIN"), (JAAS, &token)], "option tokenauth"),
            (vec![sasl, scram, (JAAS, &nobody)], "option user"),
            (vec![sasl, scram, (JAAS, SCRAM.trim_end_matches(';'))], "semicolon"),
            (vec![(PROTOCOL, "SSL")], "certificates to trust"),
            (
                vec![(PROTOCOL, "SSL"), ("ssl.truststore.location", "/no-store")],
                "the trust store /no-store (ssl.truststore.location): No such file",
            ),
            (vec![(PROTOCOL, "SSL"), (IDENTIFICATION, "")], "ssl.endpoint.identification.algorithm"),
            (vec![("ssl.cipher.suites", "x")], "ssl.cipher.suites: not honoured"),
        ] {
            let message = Security::new(&properties(&set), &Flags::default()).unwrap_err();
            assert!(message.contains(why) && !message.contains("top-secret"), "{set:?}: {message}");
        }
    }
}
