//! Where a client gets its tokens of OAUTHBEARER: out of a file, or from a provider, who gives them to those who show an id and a
//! secret (KIP-768), or an assertion (KIP-1139, KIP-1258). Properties, their meaning and what is tried again are those of Kafka's
//! `DefaultJwtRetriever`, `ClientCredentialsJwtRetriever` and `JwtBearerJwtRetriever`.

use super::assertion::Assertion;
use super::error::ClientError;
use super::security::{Properties, wrong};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use corelane_config::{Location, Password, http, stores};
use corelane_protocol::ErrorCode;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use ureq::Agent;

const URL: &str = "sasl.oauthbearer.token.endpoint.url";
const CLIENT_ID: &str = "sasl.oauthbearer.client.credentials.client.id";
const CLIENT_SECRET: &str = "sasl.oauthbearer.client.credentials.client.secret";
const SCOPE: &str = "sasl.oauthbearer.scope";
const ENCODED: &str = "sasl.oauthbearer.header.urlencode";
const HANDLER: &str = "sasl.login.callback.handler.class";
/// The one of the grant of assertions.
const JWT_BEARER: &str = "JwtBearerJwtRetriever";
const RETRIEVER: &str = "sasl.oauthbearer.jwt.retriever.class";
const CONNECT_TIMEOUT: &str = "sasl.login.connect.timeout.ms";
const READ_TIMEOUT: &str = "sasl.login.read.timeout.ms";
const BACKOFF: &str = "sasl.login.retry.backoff.ms";
const BACKOFF_MAX: &str = "sasl.login.retry.backoff.max.ms";

/// Beside those of assertions.
pub const PROPERTIES: [&str; 11] = [
    URL,
    CLIENT_ID,
    CLIENT_SECRET,
    SCOPE,
    ENCODED,
    HANDLER,
    RETRIEVER,
    CONNECT_TIMEOUT,
    READ_TIMEOUT,
    BACKOFF,
    BACKOFF_MAX,
];

/// Options of the login module: names of older versions for some of the properties, and whom the provider's certificate must go back to.
pub const OPTIONS: [&str; 7] = [
    "clientId",
    "clientSecret",
    "scope",
    "ssl.truststore.type",
    "ssl.truststore.location",
    "ssl.truststore.password",
    "ssl.truststore.certificates",
];

/// One attempt, all in all.
const ATTEMPT_MAX: Duration = Duration::from_secs(20);
/// No answer of a provider is larger.
const ANSWER_MAX: u64 = 1 << 20;
/// Answers that will be the same the next time.
const FINAL: [u16; 17] = [400, 401, 402, 403, 404, 405, 406, 407, 409, 410, 411, 412, 413, 414, 415, 501, 505];

#[derive(Clone, Debug)]
pub enum TokenSource {
    /// As it is when it is read: somebody else may renew it.
    File(PathBuf),
    Provider(Arc<Provider>),
}

impl fmt::Display for TokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TokenSource::File(path) => write!(f, "{}", path.display()),
            TokenSource::Provider(provider) => f.write_str(&provider.url),
        }
    }
}

impl TokenSource {
    /// `options`: those of the login module.
    pub fn new(properties: &Properties, options: &BTreeMap<String, String>) -> Result<TokenSource, String> {
        let url = properties.get(URL).ok_or_else(|| wrong(URL, "needed for OAUTHBEARER"))?.trim();
        let location = Location::parse(url).map_err(|why| wrong(URL, why))?;
        let classes: &[&str] = match &location {
            Location::File(_) => &["DefaultJwtRetriever", "FileJwtRetriever"],
            Location::Http(_) => &["DefaultJwtRetriever", "ClientCredentialsJwtRetriever", JWT_BEARER],
        };
        for (name, known) in [(HANDLER, &["OAuthBearerLoginCallbackHandler"][..]), (RETRIEVER, classes)] {
            if let Some(other) = properties.get(name).filter(|class| !known.contains(&simple(class))) {
                return Err(wrong(
                    name,
                    format!("{other} is not there for this client (allowed: {})", known.join(", ")),
                ));
            }
        }
        match location {
            Location::File(path) => Ok(TokenSource::File(path)),
            Location::Http(url) => {
                let grant = match properties.get(RETRIEVER).is_some_and(|class| simple(class) == JWT_BEARER) {
                    true => Grant::jwt_bearer(properties)?,
                    false => Grant::client_credentials(properties, options)?,
                };
                Ok(TokenSource::Provider(Arc::new(Provider::new(url, grant, properties, options)?)))
            }
        }
    }

    /// Errors tell no secret.
    pub fn token(&self) -> Result<String, ClientError> {
        match self {
            TokenSource::File(path) => in_file(path),
            TokenSource::Provider(provider) => provider.token(),
        }
    }
}

/// A class's name without that of its package.
fn simple(class: &str) -> &str {
    class.rsplit('.').next().unwrap_or(class)
}

/// The token in a file, which is one line.
fn in_file(file: &Path) -> Result<String, ClientError> {
    let text = std::fs::read_to_string(file);
    let text = text.map_err(|e| ClientError::Invalid(format!("the token in {}: {e}", file.display())))?;
    plain(&text).ok_or_else(|| ClientError::Invalid(format!("there is no token in {}", file.display())))
}

fn plain(text: &str) -> Option<String> {
    let token = text.trim();
    (!token.is_empty() && token.bytes().all(|b| b.is_ascii_graphic())).then(|| token.to_owned())
}

/// One who gives tokens. What he has given is shown until most of its time is over, by all connections.
#[derive(Debug)]
pub struct Provider {
    url: String,
    agent: Agent,
    grant: Grant,
    backoff: Duration,
    backoff_max: Duration,
    held: Mutex<Option<Held>>,
}

/// For what a provider gives tokens.
#[derive(Debug)]
enum Grant {
    /// Who asks, as HTTP says it, and the form.
    Secret { authorization: Password, form: String },
    /// The form before it and behind.
    Assertion { before: &'static str, assertion: Assertion, behind: String },
}

impl Grant {
    fn jwt_bearer(properties: &Properties) -> Result<Grant, String> {
        let scope = properties.get(SCOPE).map(|text| text.trim()).filter(|text| !text.is_empty());
        Ok(Grant::Assertion {
            before: "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion=",
            assertion: Assertion::new(properties)?,
            behind: field("scope", scope),
        })
    }

    fn client_credentials(properties: &Properties, options: &BTreeMap<String, String>) -> Result<Grant, String> {
        let text = |name: &str, option: &str| {
            let text = properties.get(name).or_else(|| options.get(option)).map(|text| text.trim());
            text.filter(|text| !text.is_empty())
        };
        let needed = |name: &'static str, option: &str| {
            text(name, option).ok_or_else(|| wrong(name, "needed for tokens from a URL"))
        };
        let encoded = match properties.get(ENCODED).map(|text| text.trim().to_ascii_lowercase()).as_deref() {
            None | Some("false") => false,
            Some("true") => true,
            Some(_) => return Err(wrong(ENCODED, "neither true nor false")),
        };
        let scope = text(SCOPE, "scope");
        if Assertion::is_asked_for(properties) {
            return Ok(Grant::Assertion {
                before: "client_assertion_type=urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer&client_assertion=",
                assertion: Assertion::new(properties)?,
                behind: format!(
                    "&grant_type=client_credentials{}{}",
                    field("client_id", text(CLIENT_ID, "clientId")),
                    field("scope", scope)
                ),
            });
        }
        let form = |text: &str| if encoded { form_encoded(text) } else { text.to_owned() };
        let (id, secret) = (form(needed(CLIENT_ID, "clientId")?), form(needed(CLIENT_SECRET, "clientSecret")?));
        let scope = scope.map(|scope| format!("&scope={}", form(scope))).unwrap_or_default();
        Ok(Grant::Secret {
            authorization: Password::new(format!("Basic {}", STANDARD.encode(format!("{id}:{secret}")))),
            form: format!("grant_type=client_credentials{scope}"),
        })
    }

    /// The header of who asks, and the form.
    fn request(&self) -> Result<(Option<&str>, String), String> {
        match self {
            Grant::Secret { authorization, form } => Ok((Some(authorization.reveal()), form.clone())),
            Grant::Assertion { before, assertion, behind } => {
                Ok((None, format!("{before}{}{behind}", form_encoded(&assertion.text()?))))
            }
        }
    }
}

#[derive(Debug)]
struct Held {
    token: Password,
    renew: Instant,
    end: Instant,
}

struct Refusal {
    /// Nothing else will come of it.
    is_final: bool,
    why: String,
}

impl Provider {
    fn new(
        url: String,
        grant: Grant,
        properties: &Properties,
        options: &BTreeMap<String, String>,
    ) -> Result<Provider, String> {
        let ms = |name: &'static str| {
            let ms = properties
                .get(name)
                .map(|text| text.trim().parse().map_err(|_| wrong(name, "no number of milliseconds")));
            ms.transpose().map(|ms| ms.map(Duration::from_millis))
        };
        let (backoff, backoff_max) = (ms(BACKOFF)?.unwrap_or(Duration::from_millis(100)), ms(BACKOFF_MAX)?);
        let trusted = |name: &'static str| Ok(options.get(name).cloned());
        let trusted = stores::trust_store(&trusted, &|name, why: String| wrong(name, why))?;
        let client = http::client_of(&url, trusted.as_ref()).map_err(|why| wrong(URL, why))?;
        // A secret goes nowhere but where it is told to go.
        let client = client.max_redirects(0).http_status_as_error(false).timeout_global(Some(ATTEMPT_MAX));
        let client = client.timeout_connect(ms(CONNECT_TIMEOUT)?).timeout_recv_response(ms(READ_TIMEOUT)?);
        Ok(Provider {
            agent: client.build().into(),
            url,
            grant,
            backoff,
            backoff_max: backoff_max.unwrap_or(Duration::from_secs(10)),
            held: Mutex::default(),
        })
    }

    fn token(&self) -> Result<String, ClientError> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let shown = |held: &Held| Ok(held.token.reveal().to_owned());
        if let Some(held) = held.as_ref().filter(|held| Instant::now() < held.renew) {
            return shown(held);
        }
        match self.ask() {
            Ok(token) => {
                *held = lifetime(&token).and_then(|lifetime| {
                    let now = Instant::now();
                    // As Kafka's clients have it.
                    let (renew, end) = (now.checked_add(lifetime.mul_f64(0.8))?, now.checked_add(lifetime)?);
                    Some(Held { token: Password::new(token.as_str()), renew, end })
                });
                Ok(token)
            }
            Err(refusal) => match held.as_ref().filter(|held| Instant::now() < held.end) {
                Some(held) => shown(held),
                None => Err(self.error(refusal)),
            },
        }
    }

    fn error(&self, refusal: Refusal) -> ClientError {
        let (what, why) = (format!("no token from {}", self.url), refusal.why);
        match refusal.is_final {
            true => ClientError::Server { what, code: ErrorCode::SaslAuthenticationFailed.code(), message: Some(why) },
            false => ClientError::Invalid(format!("{what}: {why}")),
        }
    }

    fn ask(&self) -> Result<String, Refusal> {
        let (authorization, form) = self.grant.request().map_err(|why| Refusal { is_final: false, why })?;
        let (end, mut pause) = (Instant::now() + self.backoff_max, self.backoff);
        loop {
            let refusal = match self.ask_once(authorization, &form) {
                Ok(token) => return Ok(token),
                Err(refusal) => refusal,
            };
            let wait = pause.min(end.saturating_duration_since(Instant::now()));
            if refusal.is_final || wait.is_zero() {
                return Err(refusal);
            }
            thread::sleep(wait);
            pause = pause.saturating_mul(2);
        }
    }

    fn ask_once(&self, authorization: Option<&str>, form: &str) -> Result<String, Refusal> {
        let passing = |e: ureq::Error| Refusal { is_final: false, why: e.to_string() };
        let request =
            self.agent.post(&self.url).header("accept", "application/json").header("cache-control", "no-cache");
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        let request = match authorization {
            Some(who) => request.header("authorization", who),
            None => request,
        };
        let mut answer = request.send(form).map_err(passing)?;
        let status = answer.status().as_u16();
        let body = answer.body_mut().with_config().limit(ANSWER_MAX).read_to_vec().map_err(passing)?;
        let json = serde_json::from_slice::<Value>(&body).unwrap_or_default();
        match status {
            200 | 201 => {
                let token = ["access_token", "id_token"].iter().find_map(|name| plain(json.get(name)?.as_str()?));
                token.ok_or_else(|| Refusal { is_final: true, why: "its answer has none".to_owned() })
            }
            // Who is not known at all gets a reason (RFC 6749, 5.2), which may be anything.
            _ => {
                let said = ["error", "error_description"].iter().filter_map(|name| json.get(name)?.as_str());
                let why = said.fold(format!("it answers {status}"), |why, said| format!("{why}, {said:?}"));
                Err(Refusal { is_final: FINAL.contains(&status), why })
            }
        }
    }
}

/// How long a token will be taken; `None`: it does not say.
fn lifetime(token: &str) -> Option<Duration> {
    let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    let end = serde_json::from_slice::<Value>(&claims).ok()?.get("exp")?.as_f64()?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_secs_f64();
    Duration::try_from_secs_f64(end - now).ok()
}

/// One more field of a form, if there is something in it.
fn field(name: &str, text: Option<&str>) -> String {
    text.map(|text| format!("&{name}={}", form_encoded(text))).unwrap_or_default()
}

/// As a field of a form (Java's `URLEncoder`).
fn form_encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |text, byte| match byte {
        b' ' => text + "+",
        b'.' | b'-' | b'*' | b'_' => text + char::from(byte).encode_utf8(&mut [0; 4]),
        _ if byte.is_ascii_alphanumeric() => text + char::from(byte).encode_utf8(&mut [0; 4]),
        _ => format!("{text}%{byte:02X}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: &str = "http://issuer.example/token";

    fn source(set: &[(&str, &str)], options: &[(&str, &str)]) -> Result<TokenSource, String> {
        let map = |all: &[(&str, &str)]| all.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        TokenSource::new(&map(set), &map(options))
    }

    fn provider(set: &[(&str, &str)], options: &[(&str, &str)]) -> Arc<Provider> {
        match source(&[&[(URL, PLACE)], set].concat(), options).unwrap() {
            TokenSource::Provider(provider) => provider,
            TokenSource::File(path) => panic!("{path:?}"),
        }
    }

    /// Who asks, and for what.
    fn asks(provider: &Provider) -> (String, String) {
        let (who, form) = provider.grant.request().unwrap();
        let basic = who.unwrap().strip_prefix("Basic ").unwrap();
        (String::from_utf8(STANDARD.decode(basic).unwrap()).unwrap(), form)
    }

    #[test]
    fn properties_go_before_options_and_are_encoded_where_that_is_asked_for() {
        let old = [("clientId", "old"), ("clientSecret", "old-secret"), ("scope", "old scope")];
        let body = |scope: &str| format!("grant_type=client_credentials&scope={scope}");
        assert_eq!(asks(&provider(&[], &old)), ("old:old-secret".to_owned(), body("old scope")));
        let new = [(CLIENT_ID, " me "), (CLIENT_SECRET, "top:secret%é"), (SCOPE, "a b*")];
        let found = provider(&new, &old);
        assert_eq!(asks(&found), ("me:top:secret%é".to_owned(), body("a b*")));
        assert!(!format!("{found:?}").contains(found.grant.request().unwrap().0.unwrap()));
        let encoded = provider(&[&new[..], &[(ENCODED, "true")]].concat(), &[]);
        assert_eq!(asks(&encoded), ("me:top%3Asecret%25%C3%A9".to_owned(), body("a+b*")));
        assert_eq!(asks(&provider(&new[..2], &[])).1, "grant_type=client_credentials");
    }

    #[test]
    fn an_assertion_is_a_grant_of_its_own_or_stands_for_a_secret() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "e30.e30.x").unwrap();
        let ready = ("sasl.oauthbearer.assertion.file", file.path().to_str().unwrap());
        let form = |set: &[(&str, &str)], options: &[(&str, &str)]| {
            let found = provider(&[&[ready], set].concat(), options);
            let (who, form) = found.grant.request().unwrap();
            assert_eq!(who, None);
            form
        };
        let bearer = (RETRIEVER, "org.apache.kafka.common.security.oauthbearer.JwtBearerJwtRetriever");
        let grant = "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion=e30.e30.x";
        // The login module's options are of the other.
        assert_eq!(form(&[bearer], &[("scope", "old")]), grant);
        assert_eq!(form(&[bearer, (SCOPE, " a b ")], &[]), format!("{grant}&scope=a+b"));
        let of_client = "client_assertion_type=urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer\
                         &client_assertion=e30.e30.x&grant_type=client_credentials";
        assert_eq!(form(&[], &[]), of_client);
        let all = form(&[(CLIENT_ID, "m:e")], &[("scope", "old")]);
        assert_eq!(all, format!("{of_client}&client_id=m%3Ae&scope=old"));
    }

    #[test]
    fn what_does_not_fit_is_refused_by_name() {
        let who = [(URL, PLACE), (CLIENT_ID, "me"), (CLIENT_SECRET, "top-secret")];
        let file = [(URL, "file:///run/token")];
        let retriever = |class| (RETRIEVER, class);
        assert!(source(&[&file[..], &[retriever("a.FileJwtRetriever")]].concat(), &[]).is_ok());
        assert!(source(&[&who[..], &[retriever("a.ClientCredentialsJwtRetriever")]].concat(), &[]).is_ok());
        for (set, why) in [
            (vec![], "sasl.oauthbearer.token.endpoint.url: needed"),
            (vec![(URL, "ftp://issuer/token")], "sasl.oauthbearer.token.endpoint.url: is no URL"),
            (vec![(URL, "http://me:top-secret@issuer/token")], "sasl.oauthbearer.token.endpoint.url: has a password"),
            (who[..1].to_vec(), "sasl.oauthbearer.client.credentials.client.id: needed"),
            (who[..2].to_vec(), "sasl.oauthbearer.client.credentials.client.secret: needed"),
            (
                [&file[..], &[retriever("a.JwtBearerJwtRetriever")]].concat(),
                "sasl.oauthbearer.jwt.retriever.class: a.Jwt",
            ),
            ([&file[..], &[(HANDLER, "a.B")]].concat(), "sasl.login.callback.handler.class: a.B is not"),
            ([&who[..], &[retriever("a.FileJwtRetriever")]].concat(), "sasl.oauthbearer.jwt.retriever.class: a.File"),
            (
                [&who[..], &[retriever("a.JwtBearerJwtRetriever")]].concat(),
                "sasl.oauthbearer.assertion.private.key.file: needed",
            ),
            ([&who[..], &[(BACKOFF, "soon")]].concat(), "sasl.login.retry.backoff.ms: no number"),
            ([&who[..], &[(ENCODED, "yes")]].concat(), "sasl.oauthbearer.header.urlencode: neither"),
        ] {
            let message = source(&set, &[]).unwrap_err();
            assert!(message.contains(why) && !message.contains("top-secret"), "{set:?}: {message}");
        }
    }

    #[test]
    fn a_token_says_how_long_it_lasts() {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let token = |claims: &str| format!("e30.{}.x", URL_SAFE_NO_PAD.encode(claims));
        let left = lifetime(&token(&format!(r#"{{"exp":{}}}"#, now + 3600))).unwrap();
        assert!(left <= Duration::from_secs(3600) && left > Duration::from_secs(3000), "{left:?}");
        for none in [token(r#"{"exp":7}"#), token("{}"), token("x"), "opaque".to_owned(), "a.=.b".to_owned()] {
            assert_eq!(lifetime(&none), None, "{none}");
        }
    }
}
