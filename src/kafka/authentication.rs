//! Authentication by SASL on one connection: before its first request, and again while it lasts (KIP-368).
//!
//! Frames pass [`intercept`] before they become requests. While somebody authenticates, all of them are taken here; later a
//! handshake is, where sessions have an end, and everything once that is past.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use core_pinning::time::{Instant, now, sleep, wall_ms};
use corelane_protocol::messages::{ApiVersionsRequest, ApiVersionsResponse};
use corelane_protocol::{ApiKey, Str};
use corelane_sasl::scram::{Credential, Hash};
use corelane_sasl::{Authenticator, Host, Identity, Mechanism, Outcome, Previous, Session, Users};

use super::connection::{Accepted, Answer};
use super::handlers::api_versions;
use super::request::Client;
use crate::security::Principal;
use crate::security::sasl::{DECOYS, SaslContext};
use crate::shard::Shard;

/// How long authentication may take in all. A client that knows its password needs a few round trips.
pub const AUTHENTICATION_MAX: Duration = Duration::from_secs(30);
/// Who authenticates again does not do so more often.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// How far a connection has come.
pub struct Authentication {
    context: Arc<SaslContext>,
    begun: Instant,
    /// When it last began to authenticate again.
    again: Cell<Option<Instant>>,
    progress: RefCell<Progress>,
}

enum Progress {
    Authenticating(Box<Authenticator>),
    /// Somebody got in, until then.
    In {
        session: Session,
        expires_at: Option<Instant>,
    },
}

impl Authentication {
    pub fn new(context: Arc<SaslContext>) -> Authentication {
        let progress = RefCell::new(Progress::Authenticating(Box::default()));
        Authentication { context, begun: now(), again: Cell::new(None), progress }
    }

    /// Until when somebody must have got in for the first time.
    pub fn ends_at(&self) -> Instant {
        self.begun + AUTHENTICATION_MAX
    }

    /// Of a frame, before that.
    pub fn max_receive_bytes(&self) -> usize {
        self.context.max_receive_bytes
    }
}

/// What becomes of a frame where it is not a request like others.
pub fn intercept(shard: &Rc<Shard>, client: &Rc<Client>, frame: &Bytes) -> Option<Accepted> {
    let authentication = client.authentication.as_ref()?;
    let mut progress = authentication.progress.borrow_mut();
    if let Progress::In { session, expires_at } = &*progress {
        let expires_at = (*expires_at)?;
        let present = now();
        let handshake = frame.first_chunk::<2>() == Some(&ApiKey::SaslHandshake.key().to_be_bytes());
        if !handshake || authentication.again.get().is_some_and(|last| present - last < AGAIN_AFTER) {
            return (present > expires_at).then(|| at_once(Answer::Close("its session has ended")));
        }
        authentication.again.set(Some(present));
        let previous = Previous { user: session.user.clone(), mechanism: session.mechanism };
        *progress = Progress::Authenticating(Box::new(Authenticator::again(previous)));
    }
    let Progress::Authenticating(authenticator) = &mut *progress else { return None };
    if frame.len() > authentication.max_receive_bytes() {
        return Some(refused(shard, client, authenticator, None, Some(TOO_LARGE)));
    }
    let host = Broker { shard, client, context: &authentication.context };
    Some(match authenticator.frame(frame.clone(), &host) {
        Outcome::Next(answer) => at_once(Answer::Send(answer)),
        Outcome::Done(answer, session) => {
            let lifetime = session.lifetime_ms.map(|ms| Duration::from_millis(ms.max(0).unsigned_abs()));
            let expires_at = lifetime.map(|lifetime| now() + lifetime);
            client.set_principal(Principal::user(Str::from(session.user.clone())));
            client.set_by_token(session.by_token);
            *progress = Progress::In { session, expires_at };
            at_once(Answer::Send(answer))
        }
        Outcome::Denied { answer, reason } => {
            audit(shard, client, authenticator, &reason);
            at_once(Answer::Send(answer))
        }
        Outcome::Refused { answer, reason } => refused(shard, client, authenticator, answer, reason.as_deref()),
        Outcome::Broken(reason) => {
            audit(shard, client, authenticator, reason);
            at_once(Answer::Close(reason))
        }
    })
}

/// What becomes of a client that announces a frame above [`Authentication::max_receive_bytes`].
pub fn too_large(shard: &Rc<Shard>, client: &Client) -> Accepted {
    refused(shard, client, &Authenticator::new(), None, Some(TOO_LARGE))
}

const TOO_LARGE: &str = "a frame above sasl.server.max.receive.size";

fn at_once(answer: Answer) -> Accepted {
    Accepted { answer: Box::pin(std::future::ready(answer)), overlaps: false }
}

/// Who guesses waits for each guess.
fn refused(
    shard: &Rc<Shard>,
    client: &Client,
    authenticator: &Authenticator,
    answer: Option<Vec<Bytes>>,
    reason: Option<&str>,
) -> Accepted {
    if let Some(reason) = reason {
        audit(shard, client, authenticator, reason);
    }
    let delay =
        Duration::from_millis(shard.config.broker().failed_authentication_delay_ms.max(0).unsigned_abs().into());
    let answer = async move {
        sleep(delay).await;
        Answer::Last(answer.unwrap_or_default(), "its authentication has failed")
    };
    Accepted { answer: Box::pin(answer), overlaps: false }
}

fn audit(shard: &Shard, client: &Client, authenticator: &Authenticator, reason: &str) {
    let mechanism = authenticator.mechanism().map_or("none", Mechanism::name);
    shard.audit.unauthenticated(client.peer, &client.listener.name, mechanism, authenticator.claimed(), reason);
}

/// The broker as an authenticator sees it.
struct Broker<'a> {
    shard: &'a Rc<Shard>,
    client: &'a Rc<Client>,
    context: &'a SaslContext,
}

impl Users for Broker<'_> {
    fn has_password(&self, user: &str, password: &str) -> bool {
        self.context.passwords.has(user, password)
    }

    fn scram(&self, hash: Hash, user: &str) -> Arc<Credential> {
        let image = self.shard.image();
        let users = image.scram_users();
        // Made up for those who are there, too: it takes the same time.
        let decoy = DECOYS.credential(hash, user, users.any(hash));
        users.get(hash, user).cloned().unwrap_or_else(|| Arc::new(decoy))
    }

    fn bearer(&self, token: &str) -> Result<Identity, String> {
        self.context.bearer(token, wall_ms())
    }

    fn token(&self, hash: Hash, id: &str) -> (Arc<Credential>, Option<Identity>) {
        let decoy = DECOYS.credential(hash, id, None);
        let image = self.shard.image();
        // Kafka lets one in whose time is over, and takes no request from it.
        let kept = image.tokens().get(id).filter(|kept| !kept.token.is_past(wall_ms()));
        let Some((kept, key)) = kept.zip(self.shard.config.token_key()) else { return (Arc::new(decoy), None) };
        let (token, credential) = (&kept.token, kept.credential(key, hash, decoy.salt));
        let owner = Identity::user(token.owner.name.as_str());
        (credential, Some(Identity { expires_ms: Some(token.expires_ms), by_token: true, ..owner }))
    }
}

impl Host for Broker<'_> {
    fn mechanisms(&self) -> &[Mechanism] {
        &self.context.mechanisms
    }

    fn api_versions(&self, version: i16, request: &ApiVersionsRequest) -> ApiVersionsResponse {
        api_versions::answer(self.shard, self.client, version, request)
    }

    fn unknown_api_versions(&self, correlation_id: i32) -> Vec<Bytes> {
        api_versions::unknown(correlation_id)
    }

    fn session_ms(&self, mechanism: Mechanism, identity: &Identity) -> Option<i64> {
        let left = identity.expires_ms.map(|at| at.saturating_sub(wall_ms()).max(0));
        [self.context.session_ms(mechanism), left].into_iter().flatten().min()
    }
}
