//! The requests of authentication on one connection, in the order that Kafka demands (`SaslServerAuthenticator`).
//!
//! | state | may come | then |
//! |---|---|---|
//! | initial | ApiVersions, once; SaslHandshake | mechanism |
//! | again | SaslHandshake | mechanism, or bad mechanism |
//! | mechanism | SaslAuthenticate; after handshake 0 the bare token | itself, over |
//! | bad mechanism | anything | refused |

use bytes::Bytes;
use corelane_protocol::frame::{decode_request_header, encode_response};
use corelane_protocol::messages::{
    ApiVersionsRequest, ApiVersionsResponse, RequestHeader, SaslAuthenticateRequest, SaslAuthenticateResponse,
    SaslHandshakeRequest, SaslHandshakeResponse,
};
use corelane_protocol::{ApiKey, Decoder, ErrorCode, Message, Str};

use crate::exchange::{Exchange, Failure, Identity, Step, Users};
use crate::mechanism::Mechanism;

/// What authentication asks of its broker.
pub trait Host: Users {
    /// Those that the listener offers.
    fn mechanisms(&self) -> &[Mechanism];

    /// The answer to a request of a version that there is.
    fn api_versions(&self, version: i16, request: &ApiVersionsRequest) -> ApiVersionsResponse;

    /// The whole frame that answers a request of a version that there is not.
    fn unknown_api_versions(&self, correlation_id: i32) -> Vec<Bytes>;

    /// Milliseconds that somebody who has shown this may stay; `None`: for ever.
    fn session_ms(&self, mechanism: Mechanism, identity: &Identity) -> Option<i64>;
}

/// What becomes of a frame.
#[derive(Debug)]
pub enum Outcome {
    /// To be sent; the next frame is waited for.
    Next(Vec<Bytes>),
    /// To be sent; requests may come now.
    Done(Vec<Bytes>, Session),
    /// To be sent; nobody gets in, and the next frame says that the client knows.
    Denied { answer: Vec<Bytes>, reason: String },
    /// Ends the connection, with an answer or without, after a delay. `reason`: `None` after [`Outcome::Denied`].
    Refused { answer: Option<Vec<Bytes>>, reason: Option<String> },
    /// Ends the connection at once: its peer does not speak Kafka, or at the wrong time.
    Broken(&'static str),
}

/// Somebody got in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    pub user: String,
    pub mechanism: Mechanism,
    /// Milliseconds from now; `None`: for ever.
    pub lifetime_ms: Option<i64>,
    /// It showed a delegation token of the user's.
    pub by_token: bool,
}

/// Who a connection is that authenticates again (KIP-368): it must stay so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Previous {
    pub user: String,
    pub mechanism: Mechanism,
}

pub struct Authenticator {
    state: State,
    previous: Option<Previous>,
}

enum State {
    Initial { versions_told: bool },
    Mechanism { mechanism: Mechanism, exchange: Box<dyn Exchange>, bare: bool },
    BadMechanism(String),
    Over,
}

/// What a step of the mechanism has led to.
enum Progress {
    Open,
    /// Why nobody gets in.
    Denied(String),
    In(Session),
}

/// A request's header, and what follows it.
struct Asked {
    api: ApiKey,
    header: RequestHeader,
    body: Decoder,
}

impl Asked {
    fn parse(frame: Bytes) -> Option<Asked> {
        let mut body = Decoder::new(frame);
        let (api, header) = decode_request_header(&mut body).ok()?;
        Some(Asked { api, header, body })
    }

    fn version(&self) -> i16 {
        self.header.request_api_version
    }

    /// `None`: no such version, or other bytes.
    fn read<M: Message>(&mut self) -> Option<M> {
        let version = self.version();
        self.api.valid_versions().contains(&version).then(|| M::decode(&mut self.body, version).ok())?
    }

    fn answer<M: Message>(&self, response: &M) -> Vec<Bytes> {
        let answer = encode_response(self.api, self.version(), self.header.correlation_id, response);
        // Names and messages are bounded, so it fits a frame.
        answer.unwrap_or_default()
    }
}

impl Authenticator {
    pub fn new() -> Authenticator {
        Authenticator { state: State::Initial { versions_told: false }, previous: None }
    }

    /// For one who is somebody already; the next frame is a handshake.
    pub fn again(previous: Previous) -> Authenticator {
        Authenticator { state: State::Initial { versions_told: true }, previous: Some(previous) }
    }

    /// Who the client says it is, as far as it has said so.
    pub fn claimed(&self) -> Option<&str> {
        match &self.state {
            State::Mechanism { exchange, .. } => exchange.claimed(),
            _ => None,
        }
    }

    pub fn mechanism(&self) -> Option<Mechanism> {
        match &self.state {
            State::Mechanism { mechanism, .. } => Some(*mechanism),
            _ => None,
        }
    }

    pub fn frame(&mut self, frame: Bytes, host: &dyn Host) -> Outcome {
        match &mut self.state {
            State::Initial { versions_told } => match Asked::parse(frame) {
                Some(asked) if asked.api == ApiKey::ApiVersions && !*versions_told => self.api_versions(asked, host),
                Some(asked) if asked.api == ApiKey::SaslHandshake => self.handshake(asked, host),
                Some(_) => Outcome::Broken("a request before authentication"),
                None => Outcome::Broken("no Kafka request: another security protocol, or another client"),
            },
            State::Mechanism { bare: true, .. } => self.bare_token(&frame, host),
            State::Mechanism { .. } => match Asked::parse(frame) {
                Some(asked) if asked.api == ApiKey::SaslAuthenticate => self.token(asked, host),
                Some(asked) => untimely(asked),
                None => Outcome::Broken("no Kafka request within authentication"),
            },
            State::BadMechanism(reason) => Outcome::Refused { answer: None, reason: Some(std::mem::take(reason)) },
            State::Over => Outcome::Broken("authentication is over"),
        }
    }

    fn api_versions(&mut self, mut asked: Asked, host: &dyn Host) -> Outcome {
        if !ApiKey::ApiVersions.valid_versions().contains(&asked.version()) {
            return Outcome::Next(host.unknown_api_versions(asked.header.correlation_id));
        }
        let Some(request) = asked.read::<ApiVersionsRequest>() else {
            return Outcome::Broken("ApiVersions does not parse");
        };
        let response = host.api_versions(asked.version(), &request);
        if response.error_code == 0 {
            self.state = State::Initial { versions_told: true };
        }
        Outcome::Next(asked.answer(&response))
    }

    fn handshake(&mut self, mut asked: Asked, host: &dyn Host) -> Outcome {
        let Some(request) = asked.read::<SaslHandshakeRequest>() else {
            return Outcome::Broken("SaslHandshake does not parse");
        };
        let mechanisms = host.mechanisms().iter().map(|m| Str::from_static(m.name())).collect();
        let mut response = SaslHandshakeResponse { mechanisms, ..Default::default() };
        let chosen = Mechanism::named(&request.mechanism).filter(|m| host.mechanisms().contains(m));
        let Some(mechanism) = chosen else {
            response.error_code = ErrorCode::UnsupportedSaslMechanism.code();
            let reason = Some("a mechanism that the listener does not offer".to_owned());
            return Outcome::Refused { answer: Some(asked.answer(&response)), reason };
        };
        self.state = match &self.previous {
            Some(previous) if previous.mechanism != mechanism => State::BadMechanism(format!(
                "SASL mechanism '{mechanism}' requested by client is not supported for re-authentication of mechanism '{}'",
                previous.mechanism
            )),
            _ => State::Mechanism { mechanism, exchange: mechanism.begin(), bare: asked.version() == 0 },
        };
        Outcome::Next(asked.answer(&response))
    }

    /// The mechanism's next step, and what has come of it; or what the client is told of its failure, and what the audit is.
    fn step(&mut self, token: &[u8], host: &dyn Host) -> Result<(Vec<u8>, Progress), (String, Option<String>)> {
        let State::Mechanism { mechanism, exchange, .. } = &mut self.state else {
            return Err(("authentication is over".to_owned(), None));
        };
        let mechanism = *mechanism;
        let again = if self.previous.is_some() { "re-authentication" } else { "authentication" };
        match exchange.step(token, host) {
            Step::Challenge(token) => Ok((token, Progress::Open)),
            Step::Denied { answer, reason } => Ok((answer, Progress::Denied(reason))),
            Step::Done(token, identity) => {
                if let Some(previous) = self.previous.as_ref().filter(|previous| previous.user != identity.user) {
                    let told = format!(
                        "Cannot change principals during re-authentication from User.{}: User.{}",
                        previous.user, identity.user
                    );
                    return Err((told.clone(), Some(told)));
                }
                let lifetime_ms = host.session_ms(mechanism, &identity);
                let Identity { user, by_token, .. } = identity;
                Ok((token, Progress::In(Session { user, mechanism, lifetime_ms, by_token })))
            }
            Step::Failed(Failure::Told(reason)) => Err((reason.to_owned(), Some(reason.to_owned()))),
            Step::Failed(Failure::ToldOther { told, reason }) => Err((told, reason.map(str::to_owned))),
            Step::Failed(Failure::Untold(reason)) => {
                let told = format!(
                    "Authentication failed during {again} due to invalid credentials with SASL mechanism {mechanism}"
                );
                Err((told, Some(reason.to_owned())))
            }
        }
    }

    fn token(&mut self, mut asked: Asked, host: &dyn Host) -> Outcome {
        let Some(request) = asked.read::<SaslAuthenticateRequest>() else {
            return Outcome::Broken("SaslAuthenticate does not parse");
        };
        match self.step(&request.auth_bytes, host) {
            Ok((token, progress)) => {
                let lifetime_ms = match &progress {
                    Progress::In(session) => session.lifetime_ms,
                    Progress::Open | Progress::Denied(_) => None,
                };
                let answer = asked.answer(&SaslAuthenticateResponse {
                    auth_bytes: token.into(),
                    session_lifetime_ms: lifetime_ms.filter(|_| asked.version() > 0).unwrap_or(0),
                    ..Default::default()
                });
                self.went_on(answer, progress)
            }
            Err((told, reason)) => {
                let answer = asked.answer(&SaslAuthenticateResponse {
                    error_code: ErrorCode::SaslAuthenticationFailed.code(),
                    error_message: Some(told.into()),
                    ..Default::default()
                });
                Outcome::Refused { answer: Some(answer), reason }
            }
        }
    }

    fn bare_token(&mut self, token: &[u8], host: &dyn Host) -> Outcome {
        match self.step(token, host) {
            Ok((token, progress)) => {
                let size = (token.len() as u32).to_be_bytes();
                self.went_on(vec![Bytes::copy_from_slice(&size), token.into()], progress)
            }
            Err((_, reason)) => Outcome::Refused { answer: None, reason },
        }
    }

    fn went_on(&mut self, answer: Vec<Bytes>, progress: Progress) -> Outcome {
        match progress {
            Progress::Open => Outcome::Next(answer),
            Progress::Denied(reason) => Outcome::Denied { answer, reason },
            Progress::In(session) => {
                self.state = State::Over;
                Outcome::Done(answer, session)
            }
        }
    }
}

impl Default for Authenticator {
    fn default() -> Authenticator {
        Authenticator::new()
    }
}

/// Another request between tokens. Kafka answers any; here only those are that stand before requests anyway, as nothing else is
/// parsed.
fn untimely(mut asked: Asked) -> Outcome {
    let error_code = ErrorCode::IllegalSaslState.code();
    let versions = ApiVersionsResponse { error_code, ..Default::default() };
    let answer = match asked.api {
        ApiKey::ApiVersions if !ApiKey::ApiVersions.valid_versions().contains(&asked.version()) => {
            asked.header.request_api_version = 0;
            Some(asked.answer(&versions))
        }
        ApiKey::ApiVersions => asked.read::<ApiVersionsRequest>().map(|_| asked.answer(&versions)),
        ApiKey::SaslHandshake => asked
            .read::<SaslHandshakeRequest>()
            .map(|_| asked.answer(&SaslHandshakeResponse { error_code, ..Default::default() })),
        _ => None,
    };
    Outcome::Refused { answer, reason: Some("another request within authentication".to_owned()) }
}
