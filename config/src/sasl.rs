//! SASL of one listener: which mechanisms it offers, and what each is told. The rules are those of Kafka's `JaasContext` and
//! `SaslChannelBuilder`.

use crate::jaas::Jaas;
use crate::layers::BrokerProperties;
use crate::listeners::{Listener, Wrong, wrong};
use crate::oauth::{HANDLER, OAUTHBEARER, OAuthSettings, oauth};
use crate::tls::Password;
use crate::value::Value;
use std::collections::BTreeMap;

/// The mechanisms that this version has, in the order in which it offers them.
pub const SASL_MECHANISMS: [&str; 4] = ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", OAUTHBEARER];

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SaslSettings {
    /// Some of [`SASL_MECHANISMS`], at least one.
    pub mechanisms: Vec<SaslMechanism>,
    /// Who may come by PLAIN, and with which password.
    pub plain_users: BTreeMap<String, Password>,
    /// Where OAUTHBEARER is among the mechanisms.
    pub oauth: Option<OAuthSettings>,
    /// Bytes of a frame before somebody has got in.
    pub max_receive_bytes: i32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SaslMechanism {
    pub name: &'static str,
    /// How long somebody may stay before he authenticates again; `None`: for ever.
    pub session_ms: Option<i64>,
}

const ENABLED: &str = "sasl.enabled.mechanisms";
const JAAS: &str = "sasl.jaas.config";
const REAUTH: &str = "connections.max.reauth.ms";
const RECEIVE: &str = "sasl.server.max.receive.size";

/// The settings of a listener whose clients authenticate by SASL.
pub(crate) fn sasl(properties: &BrokerProperties, listener: &Listener) -> Result<SaslSettings, Wrong> {
    let value = |name: &str| {
        properties
            .value_of_listener(listener, name)
            .map_err(|e| wrong(&properties.place(listener, name), e.to_string()))
    };
    let number = |name: &str| -> Result<i64, Wrong> {
        match value(name)? {
            Some(Value::Integer(n)) => Ok(n),
            _ => Ok(0),
        }
    };
    let enabled_at = properties.place(listener, ENABLED);
    let refused = |name: &str| {
        let all = SASL_MECHANISMS.join(", ");
        let message = format!("listener {}: {ENABLED}: {name} is not served (allowed: some of {all})", listener.name);
        wrong(&enabled_at, message)
    };
    let mut mechanisms = Vec::new();
    let enabled = value(ENABLED)?;
    let enabled: &[String] = enabled.as_ref().map(Value::items).unwrap_or_default();
    for name in enabled {
        let known = SASL_MECHANISMS.into_iter().find(|known| *known == name).ok_or_else(|| refused(name))?;
        let session_ms = match of_mechanism(properties, listener, known, REAUTH)? {
            Some((_, Value::Integer(ms))) => ms,
            _ => number(REAUTH)?,
        };
        let session_ms = Some(session_ms).filter(|ms| *ms > 0);
        mechanisms.push(SaslMechanism { name: known, session_ms });
    }
    if mechanisms.is_empty() {
        return Err(wrong(&enabled_at, format!("listener {}: at least one mechanism is needed", listener.name)));
    }
    let (mut plain_users, mut oauth_options) = (BTreeMap::new(), BTreeMap::new());
    for mechanism in SASL_MECHANISMS {
        let handler = of_mechanism(properties, listener, mechanism, HANDLER)?;
        if let Some((name, class)) = handler.filter(|_| mechanism != OAUTHBEARER) {
            let why = format!("there is no Java virtual machine to load {class} into");
            return Err(wrong(&name, format!("listener {}: {HANDLER} of {mechanism}: {why}", listener.name)));
        }
        let given = of_mechanism(properties, listener, mechanism, JAAS)?;
        let wanted = match mechanism {
            "PLAIN" => "PlainLoginModule",
            OAUTHBEARER => "OAuthBearerLoginModule",
            _ => "ScramLoginModule",
        };
        if let Some((name, value)) = &given {
            let refuse = |why: String| wrong(name, format!("listener {}: {why}", listener.name));
            let jaas = Jaas::parse(&value.to_string()).map_err(refuse)?;
            if jaas.module_name() != wanted {
                let why = format!("{mechanism} has the login module {wanted}, not {}", jaas.module);
                return Err(refuse(why));
            }
            if mechanism == "PLAIN" {
                let users =
                    jaas.options.into_iter().filter_map(|(k, v)| Some((k.strip_prefix("user_")?.to_owned(), v)));
                plain_users.extend(users.map(|(name, password)| (name, Password::new(password))));
            } else if mechanism == OAUTHBEARER {
                oauth_options = jaas.options;
            }
        }
        if mechanism == "PLAIN" && plain_users.is_empty() && mechanisms.iter().any(|m| m.name == mechanism) {
            let name = of_mechanism_name(listener, mechanism, JAAS);
            let message = format!(
                "listener {}: PLAIN needs users: {name}=org.apache.kafka.common.security.plain.PlainLoginModule required \
                 user_NAME=\"PASSWORD\";",
                listener.name
            );
            return Err(wrong(if given.is_some() { &name } else { &enabled_at }, message));
        }
    }
    let max_receive_bytes = i32::try_from(number(RECEIVE)?).unwrap_or(i32::MAX);
    if max_receive_bytes < 0 {
        return Err(wrong(&properties.place(listener, RECEIVE), "must be at least 0".to_owned()));
    }
    let oauth = mechanisms.iter().any(|m| m.name == OAUTHBEARER).then(|| oauth(properties, listener, &oauth_options));
    Ok(SaslSettings { mechanisms, plain_users, oauth: oauth.transpose()?, max_receive_bytes })
}

fn of_mechanism_name(listener: &Listener, mechanism: &str, name: &str) -> String {
    format!("{}{}.{name}", listener.prefix(), mechanism.to_lowercase())
}

/// The value of `listener.name.<listener>.<mechanism>.<name>`, and that name.
pub(crate) fn of_mechanism(
    properties: &BrokerProperties,
    listener: &Listener,
    mechanism: &str,
    name: &str,
) -> Result<Option<(String, Value)>, Wrong> {
    let full = of_mechanism_name(listener, mechanism, name);
    let given = properties.own_of_listener(listener, &format!("{}.{name}", mechanism.to_lowercase()));
    let Some(text) = given else { return Ok(None) };
    let Some(setting) = crate::Scope::Broker.find(name) else { return Ok(None) };
    // Not the value: it may be a secret.
    let value = Value::parse(setting, text).map_err(|e| wrong(&full, e.to_string()))?;
    Ok(Some((full, value)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listeners::one;
    use crate::oauth::{JwksSettings, Location};
    use crate::stores::Store;

    const PLAIN: &str = "listener.name.sasl_plaintext.plain.sasl.jaas.config";
    const HANDLED: &str = "listener.name.sasl_plaintext.plain.sasl.server.callback.handler.class";
    const USERS: &str =
        "org.apache.kafka.common.security.plain.PlainLoginModule required username=\"x\" user_a=\"b\" user_c=\"d\";";

    fn load(set: &[(&str, &str)]) -> Result<SaslSettings, (String, String)> {
        Ok(one("SASL_PLAINTEXT://127.0.0.1:1", set)?.sasl.unwrap())
    }

    #[test]
    fn a_listener_and_a_mechanism_have_settings_of_their_own() {
        let sasl = load(&[
            ("sasl.enabled.mechanisms", "SCRAM-SHA-512"),
            ("listener.name.sasl_plaintext.sasl.enabled.mechanisms", "PLAIN,SCRAM-SHA-256"),
            ("connections.max.reauth.ms", "5000"),
            ("listener.name.sasl_plaintext.plain.connections.max.reauth.ms", "7000"),
            ("listener.name.sasl_plaintext.scram-sha-256.sasl.jaas.config", "a.ScramLoginModule required;"),
            (PLAIN, USERS),
        ]);
        let sasl = sasl.unwrap();
        let mechanisms: Vec<_> = sasl.mechanisms.iter().map(|m| (m.name, m.session_ms)).collect();
        assert_eq!(mechanisms, [("PLAIN", Some(7000)), ("SCRAM-SHA-256", Some(5000))]);
        let users: Vec<_> =
            sasl.plain_users.iter().map(|(name, password)| (name.as_str(), password.reveal())).collect();
        assert_eq!(users, [("a", "b"), ("c", "d")]);
        assert_eq!(sasl.max_receive_bytes, 524_288);
        let sasl = load(&[("sasl.enabled.mechanisms", "SCRAM-SHA-512")]).unwrap();
        assert_eq!((sasl.mechanisms[0].session_ms, sasl.plain_users.len()), (None, 0));
    }

    #[test]
    fn tokens_are_checked_as_a_mechanism_a_listener_and_all_say() {
        let module = "a.b.OAuthBearerLoginModule required ssl.truststore.type=\"PEM\" ssl.truststore.location=\"/ca\";";
        let sasl = load(&[
            ("sasl.enabled.mechanisms", OAUTHBEARER),
            ("sasl.oauthbearer.jwks.endpoint.url", "http://all/jwks"),
            ("listener.name.sasl_plaintext.sasl.oauthbearer.jwks.endpoint.url", "http://listener/jwks"),
            ("listener.name.sasl_plaintext.oauthbearer.sasl.oauthbearer.jwks.endpoint.url", "https://own/jwks"),
            ("listener.name.sasl_plaintext.sasl.oauthbearer.expected.audience", "a,b"),
            ("sasl.oauthbearer.expected.audience", "c"),
            ("listener.name.sasl_plaintext.oauthbearer.sasl.jaas.config", module),
            ("listener.name.sasl_plaintext.oauthbearer.connections.max.reauth.ms", "9"),
        ]);
        let sasl = sasl.unwrap();
        assert_eq!(sasl.mechanisms, [SaslMechanism { name: OAUTHBEARER, session_ms: Some(9) }]);
        let oauth = sasl.oauth.unwrap();
        let jwks = JwksSettings {
            endpoint: Location::Http("https://own/jwks".into()),
            refresh_ms: 3_600_000,
            retry_backoff_ms: 100,
            retry_backoff_max_ms: 10_000,
            trust_store: Some(Store::Pem("/ca".into())),
        };
        assert_eq!(oauth.jwks, jwks);
        assert_eq!((oauth.expected_audience, oauth.expected_issuer), (vec!["a".into(), "b".into()], None));
        assert_eq!((oauth.sub_claim.as_str(), oauth.scope_claim.as_str(), oauth.clock_skew_s), ("sub", "scope", 30));
    }

    #[test]
    fn tokens_that_could_not_be_checked_are_refused_with_the_property() {
        const URL: &str = "sasl.oauthbearer.jwks.endpoint.url";
        let jaas = "listener.name.sasl_plaintext.oauthbearer.sasl.jaas.config";
        let handler = "listener.name.sasl_plaintext.oauthbearer.sasl.server.callback.handler.class";
        let validator = "sasl.oauthbearer.jwt.validator.class";
        let client = "org.apache.kafka.common.security.oauthbearer.ClientJwtValidator";
        let unsecured = "org.apache.kafka.common.security.oauthbearer.internals.unsecured.OAuthBearerUnsecuredValidatorCallbackHandler";
        let url = (URL, "http://h/jwks");
        for (set, name, why) in [
            (vec![], "sasl.enabled.mechanisms", "OAUTHBEARER needs sasl.oauthbearer.jwks.endpoint.url"),
            (vec![(URL, "ftp://h/jwks")], URL, "is no URL of the form"),
            (vec![(URL, "http://")], URL, "is no URL of the form"),
            (vec![(URL, "file:relative")], URL, "is no URL of the form"),
            (vec![(URL, "/etc/jwks")], URL, "is no URL of the form"),
            (vec![(URL, "https://a:b@h/jwks")], URL, "has a password in it"),
            (vec![url, (handler, unsecured)], handler, "there is no org.apache"),
            (vec![url, (validator, client)], validator, "only org.apache"),
            (vec![url, (jaas, "a.PlainLoginModule required;")], jaas, "has the login module OAuthBearerLoginModule"),
            (
                vec![
                    url,
                    (
                        jaas,
                        "OAuthBearerLoginModule required ssl.truststore.location=\"/a\" ssl.truststore.type=\"BKS\";",
                    ),
                ],
                jaas,
                "ssl.truststore.type: a store of type BKS",
            ),
            (vec![url, (jaas, "OAuthBearerLoginModule required ssl.keystore.location=\"/a\";")], jaas, "is not served"),
            (
                vec![url, ("sasl.oauthbearer.clock.skew.seconds", "-1")],
                "sasl.oauthbearer.clock.skew.seconds",
                "at least 0",
            ),
            (
                vec![url, ("sasl.oauthbearer.jwks.endpoint.refresh.ms", "0")],
                "sasl.oauthbearer.jwks.endpoint.refresh.ms",
                "at least 1",
            ),
            (
                vec![url, ("sasl.oauthbearer.jwks.endpoint.retry.backoff.max.ms", "50")],
                "sasl.oauthbearer.jwks.endpoint.retry.backoff.max.ms",
                "must not be below",
            ),
            (
                vec![url, ("sasl.oauthbearer.sub.claim.name", " ")],
                "sasl.oauthbearer.sub.claim.name",
                "a claim has a name",
            ),
            (
                vec![url, ("sasl.server.callback.handler.class", "x")],
                "sasl.server.callback.handler.class",
                "belongs to a listener",
            ),
        ] {
            let (at, message) = load(&[&[("sasl.enabled.mechanisms", OAUTHBEARER)], &set[..]].concat()).unwrap_err();
            assert!(at == name && message.contains(why), "{set:?}: {at}: {message}");
        }
    }

    #[test]
    fn what_does_not_fit_is_refused_with_the_property() {
        let plain = ("sasl.enabled.mechanisms", "PLAIN");
        for (set, name, why) in [
            (vec![], "sasl.enabled.mechanisms", "GSSAPI is not served (allowed: some of PLAIN"),
            (vec![("sasl.enabled.mechanisms", "plain")], "sasl.enabled.mechanisms", "plain is not served"),
            (vec![("sasl.enabled.mechanisms", "")], "sasl.enabled.mechanisms", "at least one"),
            (vec![plain], "sasl.enabled.mechanisms", "PLAIN needs users"),
            (vec![plain, (HANDLED, "my.Handler")], HANDLED, "no Java virtual machine to load my.Handler into"),
            (vec![plain, (PLAIN, "a.PlainLoginModule required;")], PLAIN, "PLAIN needs users"),
            (vec![plain, (PLAIN, "a.PlainLoginModule required user_a=\"b\"")], PLAIN, "semicolon"),
            (
                vec![plain, (PLAIN, "a.ScramLoginModule required user_a=\"b\";")],
                PLAIN,
                "has the login module PlainLoginModule",
            ),
        ] {
            let (at, message) = load(&set).unwrap_err();
            assert!(at == name && message.contains(why), "{set:?}: {at}: {message}");
        }
    }
}
