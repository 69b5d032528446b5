//! OAUTHBEARER of one listener: where the keys of tokens come from, and what tokens must say. The rules are those of Kafka's
//! `BrokerJwtValidator` and `VerificationKeyResolverFactory`.
//!
//! Kafka takes unsigned tokens unless it is told otherwise; here a listener needs a JWKS. Which URLs and files Kafka may read is a
//! property of its process (`org.apache.kafka.sasl.oauthbearer.allowed.urls`), so that no administrator's request can make it trust
//! another issuer. Here such a request can set nothing of the kind ([`only_at_a_start`]): it stands where the broker is started.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use crate::layers::{BrokerProperties, Overrides};
use crate::listeners::{Listener, Wrong, wrong};
use crate::sasl::of_mechanism;
use crate::stores::{self, Store};
use crate::value::Value;

/// The mechanism's name.
pub(crate) const OAUTHBEARER: &str = "OAUTHBEARER";

const URL: &str = "sasl.oauthbearer.jwks.endpoint.url";
const REFRESH: &str = "sasl.oauthbearer.jwks.endpoint.refresh.ms";
const BACKOFF: &str = "sasl.oauthbearer.jwks.endpoint.retry.backoff.ms";
const BACKOFF_MAX: &str = "sasl.oauthbearer.jwks.endpoint.retry.backoff.max.ms";
pub(crate) const HANDLER: &str = "sasl.server.callback.handler.class";
const HANDLERS: [&str; 1] = ["org.apache.kafka.common.security.oauthbearer.OAuthBearerValidatorCallbackHandler"];
const VALIDATOR: &str = "sasl.oauthbearer.jwt.validator.class";
const VALIDATORS: [&str; 2] = [
    "org.apache.kafka.common.security.oauthbearer.DefaultJwtValidator",
    "org.apache.kafka.common.security.oauthbearer.BrokerJwtValidator",
];

/// How tokens are checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OAuthSettings {
    pub jwks: JwksSettings,
    /// A token is for one of these; empty: for nobody in particular.
    pub expected_audience: Vec<String>,
    pub expected_issuer: Option<String>,
    pub scope_claim: String,
    pub sub_claim: String,
    pub clock_skew_s: i64,
}

/// The keys that tokens are signed with, and how to keep up with them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JwksSettings {
    pub endpoint: Location,
    pub refresh_ms: u64,
    /// First pause after a failure, and how long one refresh may try in all.
    pub retry_backoff_ms: u64,
    pub retry_backoff_max_ms: u64,
    /// Certificates that those of the endpoint must go back to; `None`: those that this machine trusts.
    pub trust_store: Option<Store>,
}

/// What a URL names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// Of http or https.
    Http(String),
    File(PathBuf),
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Location::Http(url) => f.write_str(url),
            Location::File(path) => write!(f, "file://{}", path.display()),
        }
    }
}

/// The settings of a listener that offers OAUTHBEARER. `options`: those of its login module.
pub(crate) fn oauth(
    properties: &BrokerProperties,
    listener: &Listener,
    options: &BTreeMap<String, String>,
) -> Result<OAuthSettings, Wrong> {
    let r = Reader { properties, listener };
    r.one_of(HANDLER, &HANDLERS)?;
    r.one_of(VALIDATOR, &VALIDATORS)?;
    let Some(url) = r.text(URL)? else {
        let message = format!(
            "{OAUTHBEARER} needs {URL}, the keys that tokens are signed with: a token that nobody has signed, which Apache Kafka takes \
             by default, is not taken here"
        );
        return Err(r.wrong("sasl.enabled.mechanisms", message));
    };
    let (retry_backoff_ms, retry_backoff_max_ms) = (r.time(BACKOFF, 0)?, r.time(BACKOFF_MAX, 0)?);
    if retry_backoff_max_ms < retry_backoff_ms {
        return Err(r.wrong(BACKOFF_MAX, format!("must not be below {BACKOFF}")));
    }
    let jwks = JwksSettings {
        endpoint: Location::parse(&url).map_err(|why| r.wrong(URL, format!("{URL}: {url:?} {why}")))?,
        refresh_ms: r.time(REFRESH, 1)?,
        retry_backoff_ms,
        retry_backoff_max_ms,
        trust_store: r.trust_store(options)?,
    };
    let claim = |name: &str| r.text(name)?.ok_or_else(|| r.wrong(name, "a claim has a name".to_owned()));
    Ok(OAuthSettings {
        jwks,
        expected_audience: r.list("sasl.oauthbearer.expected.audience")?,
        expected_issuer: r.text("sasl.oauthbearer.expected.issuer")?,
        scope_claim: claim("sasl.oauthbearer.scope.claim.name")?,
        sub_claim: claim("sasl.oauthbearer.sub.claim.name")?,
        clock_skew_s: r.number("sasl.oauthbearer.clock.skew.seconds", 0)?,
    })
}

impl Location {
    /// Or why it is none.
    pub fn parse(url: &str) -> Result<Location, &'static str> {
        const FORMS: &str = "is no URL of the form https://HOST/PATH, http://HOST/PATH or file:///PATH";
        let (scheme, rest) = url.split_once(':').ok_or(FORMS)?;
        if scheme.eq_ignore_ascii_case("file") {
            let path = rest.strip_prefix("//").unwrap_or(rest);
            return if path.starts_with('/') { Ok(Location::File(path.into())) } else { Err(FORMS) };
        }
        if !["http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) {
            return Err(FORMS);
        }
        let host = rest.strip_prefix("//").and_then(|rest| rest.split(['/', '?', '#']).next()).unwrap_or_default();
        if host.is_empty() || url.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err(FORMS);
        }
        // It would stand in the log.
        if host.contains('@') { Err("has a password in it") } else { Ok(Location::Http(url.to_owned())) }
    }
}

/// No request may say whom the broker believes.
pub(crate) fn only_at_a_start(set: &Overrides) -> Result<(), String> {
    let of_tokens = |name: &&String| {
        let property = name.strip_prefix("listener.name.").and_then(|rest| rest.split_once('.'));
        property.is_some_and(|(_, name)| name.starts_with("sasl.oauthbearer.") || name.starts_with("oauthbearer."))
    };
    match set.keys().find(of_tokens) {
        None => Ok(()),
        Some(name) => Err(format!(
            "Cannot update these configs dynamically: [{name}]; whose tokens are believed is said where the broker is started"
        )),
    }
}

struct Reader<'a> {
    properties: &'a BrokerProperties,
    listener: &'a Listener,
}

impl Reader<'_> {
    /// The value for this mechanism of this listener, else that of the listener, else that of all, and the name that gave it.
    fn value(&self, name: &str) -> Result<(String, Option<Value>), Wrong> {
        if let Some((name, value)) = of_mechanism(self.properties, self.listener, OAUTHBEARER, name)? {
            return Ok((name, Some(value)));
        }
        let place = self.properties.place(self.listener, name);
        let value = self.properties.value_of_listener(self.listener, name);
        value.map_err(|e| wrong(&place, e.to_string())).map(|value| (place, value))
    }

    fn wrong(&self, name: &str, message: String) -> Wrong {
        let name = self.value(name).map_or_else(|_| name.to_owned(), |(place, _)| place);
        wrong(&name, format!("listener {}: {message}", self.listener.name))
    }

    fn text(&self, name: &str) -> Result<Option<String>, Wrong> {
        let text = self.value(name)?.1.map(|value| value.to_string().trim().to_owned());
        Ok(text.filter(|text| !text.is_empty()))
    }

    fn list(&self, name: &str) -> Result<Vec<String>, Wrong> {
        Ok(self.value(name)?.1.map(|value| value.items().to_vec()).unwrap_or_default())
    }

    fn number(&self, name: &str, least: i64) -> Result<i64, Wrong> {
        match self.value(name)?.1 {
            Some(Value::Integer(n)) if n >= least => Ok(n),
            _ => Err(self.wrong(name, format!("{name} must be at least {least}"))),
        }
    }

    fn time(&self, name: &str, least: i64) -> Result<u64, Wrong> {
        Ok(self.number(name, least)?.unsigned_abs())
    }

    fn one_of(&self, name: &str, known: &[&str]) -> Result<(), Wrong> {
        match self.text(name)? {
            Some(other) if !known.contains(&other.as_str()) => {
                Err(self.wrong(name, format!("{name}: there is no {other} here, only {}", known.join(" and "))))
            }
            _ => Ok(()),
        }
    }

    /// As in Kafka the TLS of a client of the endpoint is that of the login module.
    fn trust_store(&self, options: &BTreeMap<String, String>) -> Result<Option<Store>, Wrong> {
        let known = ["type", "location", "password", "certificates"].map(|part| format!("ssl.truststore.{part}"));
        let wrong = |message: String| self.wrong("sasl.jaas.config", message);
        if let Some(other) = options.keys().find(|name| name.starts_with("ssl.") && !known.contains(name)) {
            return Err(wrong(format!("{other} is not served by this version: there are {}", known.join(", "))));
        }
        let text = |name: &'static str| Ok(options.get(name).cloned());
        stores::trust_store(&text, &|name, message| wrong(format!("{name}: {message}")))
    }
}
