//! The state machine as a connection drives it, with a client's half on the other side.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;

use bytes::Bytes;
use corelane_protocol::frame::{decode_response_header, encode_response, request};
use corelane_protocol::messages::{
    ApiVersionsRequest, ApiVersionsResponse, MetadataRequest, SaslAuthenticateRequest, SaslAuthenticateResponse,
    SaslHandshakeRequest, SaslHandshakeResponse,
};
use corelane_protocol::{ApiKey, Decoder, Message, Request};
use corelane_sasl::oauth::first_message;
use corelane_sasl::plain::{self, Passwords};
use corelane_sasl::scram::{Credential, Decoys, Hash, ScramClient};
use corelane_sasl::{Authenticator, Host, Identity, Mechanism, Outcome, Previous, Session, TokenKey, Users};
use proptest::prelude::*;

const PLAIN: Mechanism = Mechanism::Plain;
const SCRAM: Mechanism = Mechanism::Scram(Hash::Sha512);

struct Broker {
    passwords: Passwords,
    credentials: BTreeMap<(Hash, String), Arc<Credential>>,
    decoys: Decoys,
    tokens: TokenKey,
    mechanisms: Vec<Mechanism>,
    session_ms: Option<i64>,
}

/// Knows alice, whose password is secret, and in PLAIN bob, too; a token of alice's is called one.
fn broker() -> Broker {
    let credential = |hash: Hash| {
        let iterations = NonZeroU32::new(4096).expect("not zero");
        let credential = Credential::of_password(hash, "secret", b"salt".to_vec(), iterations);
        ((hash, "alice".to_owned()), Arc::new(credential))
    };
    Broker {
        passwords: Passwords::new(&[1; 32], [("alice", "secret"), ("bob", "bobs")]),
        credentials: [Hash::Sha256, Hash::Sha512].into_iter().map(credential).collect(),
        decoys: Decoys::new(&[2; 32]),
        tokens: TokenKey::new("key"),
        mechanisms: Mechanism::ALL.to_vec(),
        session_ms: None,
    }
}

impl Users for Broker {
    fn has_password(&self, user: &str, password: &str) -> bool {
        self.passwords.has(user, password)
    }

    fn scram(&self, hash: Hash, user: &str) -> Arc<Credential> {
        let known = self.credentials.get(&(hash, user.to_owned())).cloned();
        known.unwrap_or_else(|| Arc::new(self.decoys.credential(hash, user, None)))
    }

    fn bearer(&self, token: &str) -> Result<Identity, String> {
        match token {
            "of.alice.x" => Ok(Identity { expires_ms: Some(7), ..Identity::user("alice") }),
            _ => Err("nobody's".to_owned()),
        }
    }

    fn token(&self, hash: Hash, id: &str) -> (Arc<Credential>, Option<Identity>) {
        let decoy = self.decoys.credential(hash, id, None);
        match id {
            "one" => {
                let credential = self.tokens.hmac(id).credential(hash, decoy.salt);
                let identity = Identity { expires_ms: Some(99), by_token: true, ..Identity::user("alice") };
                (Arc::new(credential), Some(identity))
            }
            _ => (Arc::new(decoy), None),
        }
    }
}

impl Host for Broker {
    fn mechanisms(&self) -> &[Mechanism] {
        &self.mechanisms
    }

    fn api_versions(&self, _: i16, _: &ApiVersionsRequest) -> ApiVersionsResponse {
        ApiVersionsResponse::default()
    }

    fn unknown_api_versions(&self, correlation_id: i32) -> Vec<Bytes> {
        let response = ApiVersionsResponse { error_code: 35, ..Default::default() };
        encode_response(ApiKey::ApiVersions, 0, correlation_id, &response).expect("it encodes")
    }

    fn session_ms(&self, _: Mechanism, identity: &Identity) -> Option<i64> {
        identity.expires_ms.filter(|_| identity.by_token).or(self.session_ms)
    }
}

fn frame<R: Request>(version: i16, request_: &R) -> Bytes {
    let whole = request(version, 9, None, request_).expect("a request").concat();
    Bytes::from(whole).slice(4..)
}

fn read<R: Request>(version: i16, answer: Vec<Bytes>) -> R::Response {
    let mut d = Decoder::new(Bytes::from(answer.concat()).slice(4..));
    assert_eq!(decode_response_header(&mut d, R::API_KEY, version).expect("a header").correlation_id, 9);
    R::Response::decode(&mut d, version).expect("a response")
}

fn shake(mechanism: &str) -> SaslHandshakeRequest {
    SaslHandshakeRequest { mechanism: mechanism.to_owned().into() }
}

fn auth(token: impl Into<Bytes>) -> SaslAuthenticateRequest {
    SaslAuthenticateRequest { auth_bytes: token.into(), ..Default::default() }
}

/// A handshake that goes well.
fn begin(authenticator: &mut Authenticator, broker: &Broker, mechanism: Mechanism, version: i16) {
    let answer = next(authenticator.frame(frame(version, &shake(mechanism.name())), broker));
    let answer: SaslHandshakeResponse = read::<SaslHandshakeRequest>(version, answer);
    assert_eq!((answer.error_code, answer.mechanisms.len()), (0, broker.mechanisms.len()));
}

#[track_caller]
fn next(outcome: Outcome) -> Vec<Bytes> {
    match outcome {
        Outcome::Next(answer) => answer,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn done(outcome: Outcome) -> (Vec<Bytes>, Session) {
    match outcome {
        Outcome::Done(answer, session) => (answer, session),
        other => panic!("{other:?}"),
    }
}

/// The error and its text, and what the audit is told.
#[track_caller]
fn refused(outcome: Outcome) -> (i16, String, String) {
    match outcome {
        Outcome::Refused { answer: Some(answer), reason } => {
            let answer: SaslAuthenticateResponse = read::<SaslAuthenticateRequest>(2, answer);
            (answer.error_code, answer.error_message.expect("a message").to_string(), reason.unwrap_or_default())
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn plain_gets_in_by_either_handshake() {
    let broker = broker();
    for version in [0, 1, 2] {
        let mut authenticator = Authenticator::new();
        begin(&mut authenticator, &broker, PLAIN, 1);
        let outcome = authenticator.frame(frame(version, &auth(plain::token("bob", "bobs"))), &broker);
        let (answer, session) = done(outcome);
        let bob = Session { user: "bob".into(), mechanism: PLAIN, lifetime_ms: None, by_token: false };
        assert_eq!(session, bob);
        let answer: SaslAuthenticateResponse = read::<SaslAuthenticateRequest>(version, answer);
        assert_eq!((answer.error_code, answer.auth_bytes.len(), answer.session_lifetime_ms), (0, 0, 0));
        let after = authenticator.frame(frame(2, &auth("")), &broker);
        assert!(matches!(after, Outcome::Broken(_)));
    }
    let mut authenticator = Authenticator::new();
    begin(&mut authenticator, &broker, PLAIN, 0);
    let (answer, session) = done(authenticator.frame(Bytes::from(plain::token("bob", "bobs")), &broker));
    assert_eq!((answer.concat(), session.user.as_str()), (vec![0; 4], "bob"));
}

#[test]
fn scram_gets_in_and_both_sides_know_the_password() {
    let broker = Broker { session_ms: Some(5000), ..broker() };
    for hash in [Hash::Sha256, Hash::Sha512] {
        let mut authenticator = Authenticator::new();
        next(authenticator.frame(frame(3, &ApiVersionsRequest::default()), &broker));
        begin(&mut authenticator, &broker, Mechanism::Scram(hash), 1);
        let mut client = ScramClient::new(hash, "alice", "secret", "nonce");
        let challenge = next(authenticator.frame(frame(2, &auth(client.first())), &broker));
        let challenge: SaslAuthenticateResponse = read::<SaslAuthenticateRequest>(2, challenge);
        assert_eq!(authenticator.claimed(), Some("alice"));
        let last = client.last(&challenge.auth_bytes).expect("a challenge");
        let (answer, session) = done(authenticator.frame(frame(2, &auth(last)), &broker));
        let answer: SaslAuthenticateResponse = read::<SaslAuthenticateRequest>(2, answer);
        assert_eq!((answer.session_lifetime_ms, session.lifetime_ms), (5000, Some(5000)));
        client.verify(&answer.auth_bytes).expect("the broker's signature");
        assert!(client.verify(b"v=AAAA").is_err());
        assert_eq!(session.user, "alice");
    }
}

/// A whole exchange of SCRAM, up to how its last message fares; and the challenge.
fn attempt(broker: &Broker, user: &str, password: &str) -> (Outcome, String) {
    attempt_as(broker, ScramClient::new(Hash::Sha512, user, password, "n"))
}

fn attempt_as(broker: &Broker, mut client: ScramClient) -> (Outcome, String) {
    let mut authenticator = Authenticator::new();
    begin(&mut authenticator, broker, SCRAM, 1);
    let challenge = next(authenticator.frame(frame(2, &auth(client.first())), broker));
    let challenge: SaslAuthenticateResponse = read::<SaslAuthenticateRequest>(2, challenge);
    let last = client.last(&challenge.auth_bytes).expect("a challenge");
    let outcome = authenticator.frame(frame(2, &auth(last)), broker);
    (outcome, String::from_utf8(challenge.auth_bytes.to_vec()).expect("text"))
}

#[test]
fn a_user_who_is_not_there_looks_like_a_wrong_password() {
    let broker = broker();
    let parts = |challenge: &str| challenge.split(',').skip(1).map(str::to_owned).collect::<Vec<_>>();
    let (wrong, known) = attempt(&broker, "alice", "Secret");
    let (nobody, unknown) = attempt(&broker, "mallory", "secret");
    let (_, again) = attempt(&broker, "mallory", "other");
    let told =
        "Authentication failed during authentication due to invalid credentials with SASL mechanism SCRAM-SHA-512";
    let (wrong, nobody) = (refused(wrong), refused(nobody));
    assert_eq!((wrong.0, wrong.1.as_str()), (58, told));
    assert_eq!(nobody, wrong);
    assert_eq!(parts(&unknown), parts(&again), "the same salt whenever it is asked for");
    assert_eq!(parts(&unknown).len(), parts(&known).len());
    // A decoy looks like those who are there.
    let alice = broker.scram(Hash::Sha512, "alice");
    let decoy = broker.decoys.credential(Hash::Sha512, "mallory", Some(&alice));
    assert_eq!((decoy.salt.len(), decoy.iterations), (alice.salt.len(), alice.iterations));
    assert_ne!(decoy.stored_key, broker.decoys.credential(Hash::Sha512, "mallorz", Some(&alice)).stored_key);
}

#[test]
fn a_token_makes_its_owner_of_who_shows_it() {
    let broker = broker();
    let hmac = broker.tokens.hmac("one").text();
    let attempt = |id: &str, hmac: &str| attempt_as(&broker, ScramClient::of_token(Hash::Sha512, id, hmac, "n"));
    let (_, session) = done(attempt("one", &hmac).0);
    let expected = Session { user: "alice".into(), mechanism: SCRAM, lifetime_ms: Some(99), by_token: true };
    assert_eq!(session, expected);
    let other = broker.tokens.hmac("other").text();
    for (id, hmac) in [("one", "secret"), ("one", ""), ("one", &other), ("other", &other), ("alice", "secret")] {
        let told = refused(attempt(id, hmac).0);
        assert_eq!((told.0, told.2.as_str()), (58, "wrong HMAC, or no such token"), "{id}");
    }
    // A token is no user, and no user a token.
    for user in ["one", "alice"] {
        let told = refused(attempt_as(&broker, ScramClient::new(Hash::Sha512, user, &hmac, "n")).0);
        assert_eq!(told.2, "wrong password, or no such user");
    }
}

#[test]
fn a_recorded_exchange_is_worth_nothing() {
    let broker = broker();
    let mut client = ScramClient::new(Hash::Sha512, "alice", "secret", "n");
    let first = client.first();
    let exchange = |first: &[u8]| {
        let mut authenticator = Authenticator::new();
        begin(&mut authenticator, &broker, SCRAM, 1);
        let challenge = next(authenticator.frame(frame(2, &auth(first.to_vec())), &broker));
        let challenge: SaslAuthenticateResponse = read::<SaslAuthenticateRequest>(2, challenge);
        (authenticator, challenge.auth_bytes)
    };
    let (mut authenticator, challenge) = exchange(&first);
    let last = client.last(&challenge).expect("a challenge");
    done(authenticator.frame(frame(2, &auth(last.clone())), &broker));
    let (mut authenticator, _) = exchange(&first);
    let told = refused(authenticator.frame(frame(2, &auth(last)), &broker));
    assert_eq!((told.0, told.2.as_str()), (58, "the last message belongs to another exchange"));
}

#[test]
fn what_comes_at_the_wrong_time_ends_the_connection() {
    let broker = broker();
    let broken = |frames: &[Bytes]| {
        let mut authenticator = Authenticator::new();
        let (last, before) = frames.split_last().expect("a frame");
        before.iter().for_each(|frame| drop(next(authenticator.frame(frame.clone(), &broker))));
        match authenticator.frame(last.clone(), &broker) {
            Outcome::Broken(_) => None,
            Outcome::Refused { answer, .. } => Some(answer.is_some()),
            other => panic!("{other:?}"),
        }
    };
    let versions = frame(3, &ApiVersionsRequest::default());
    let (shaken, metadata) = (frame(1, &shake("PLAIN")), frame(12, &MetadataRequest::default()));
    assert_eq!(broken(&[Bytes::new()]), None);
    assert_eq!(broken(&[Bytes::from_static(b"GET / HTTP/1.1")]), None);
    assert_eq!(broken(std::slice::from_ref(&metadata)), None);
    assert_eq!(broken(&[frame(1, &auth("x"))]), None);
    assert_eq!(broken(&[versions.clone(), versions.clone()]), None);
    assert_eq!(broken(&[shaken.clone(), metadata]), Some(false));
    assert_eq!(broken(&[shaken.clone(), shaken.clone()]), Some(true));
    assert_eq!(broken(&[versions.clone(), shaken.clone(), versions]), Some(true));
    assert_eq!(broken(&[shaken, Bytes::from_static(b"\0\x24\0\x09\0\0\0\0\xff\xff\0")]), None);
    assert_eq!(broken(&[frame(1, &shake("plain"))]), Some(true));
    assert_eq!(broken(&[frame(1, &shake("GSSAPI"))]), Some(true));
    assert_eq!(broken(&[frame(0, &shake("PLAIN")), Bytes::from_static(b"\0alice\0wrong")]), Some(false));
    // A version that nobody knows is told which there are, as often as one likes.
    let mut later = frame(3, &ApiVersionsRequest::default()).to_vec();
    later[3] = 99;
    let mut authenticator = Authenticator::new();
    for _ in 0..3 {
        let answer = next(authenticator.frame(later.clone().into(), &broker)).concat();
        assert_eq!(answer.get(8..10), Some(&[0, 35][..]));
    }
    begin(&mut authenticator, &broker, PLAIN, 1);
}

#[test]
fn who_authenticates_again_stays_who_it_is() {
    let broker = broker();
    let again = || Authenticator::again(Previous { user: "alice".into(), mechanism: PLAIN });
    let mut authenticator = again();
    begin(&mut authenticator, &broker, PLAIN, 1);
    let (_, session) = done(authenticator.frame(frame(2, &auth(plain::token("alice", "secret"))), &broker));
    assert_eq!(session.user, "alice");
    let mut authenticator = again();
    begin(&mut authenticator, &broker, PLAIN, 1);
    let told = refused(authenticator.frame(frame(2, &auth(plain::token("bob", "bobs"))), &broker));
    assert_eq!(told.1, "Cannot change principals during re-authentication from User.alice: User.bob");
    let mut authenticator = again();
    begin(&mut authenticator, &broker, SCRAM, 1);
    let outcome = authenticator.frame(frame(2, &auth("n,,n=alice,r=x")), &broker);
    assert!(
        matches!(outcome, Outcome::Refused { answer: None, reason: Some(reason) } if reason.contains("re-authentication of mechanism 'PLAIN'"))
    );
    assert!(matches!(again().frame(frame(3, &ApiVersionsRequest::default()), &broker), Outcome::Broken(_)));
}

#[test]
fn a_token_gets_in_or_is_denied_in_two_steps() {
    let broker = broker();
    let begun = || {
        let mut authenticator = Authenticator::new();
        begin(&mut authenticator, &broker, Mechanism::OAuthBearer, 1);
        authenticator
    };
    let (_, session) = done(begun().frame(frame(2, &auth(first_message("of.alice.x"))), &broker));
    assert_eq!(
        session,
        Session { user: "alice".into(), mechanism: Mechanism::OAuthBearer, lifetime_ms: None, by_token: false }
    );
    let other = refused(begun().frame(frame(2, &auth("n,a=bob,\u{1}auth=Bearer of.alice.x\u{1}\u{1}")), &broker));
    let told = "Authentication failed: Client requested an authorization id (bob) that is different from the token's principal name \
                (alice)";
    assert_eq!(
        (other.0, other.1.as_str(), other.2.as_str()),
        (58, told, "another authorization id than the token names")
    );
    let untold =
        "Authentication failed during authentication due to invalid credentials with SASL mechanism OAUTHBEARER";
    for (second, told) in [
        (vec![1], "{\"status\":\"invalid_token\"}"),
        (first_message("of.alice.x"), untold),
        (vec![1, 1], untold),
        (vec![], untold),
    ] {
        let mut authenticator = begun();
        match authenticator.frame(frame(2, &auth(first_message("of.mallory.x"))), &broker) {
            Outcome::Denied { answer, reason } => {
                let answer: SaslAuthenticateResponse = read::<SaslAuthenticateRequest>(2, answer);
                assert_eq!((answer.error_code, answer.error_message.as_deref()), (0, Some("")));
                assert_eq!((&answer.auth_bytes[..], &*reason), (&b"{\"status\":\"invalid_token\"}"[..], "nobody's"));
            }
            other => panic!("{other:?}"),
        }
        let over = refused(authenticator.frame(frame(2, &auth(second.clone())), &broker));
        assert_eq!((over.0, over.1.as_str()), (58, told));
        assert_eq!(over.2.is_empty(), second == [1], "what was denied before is not told twice");
    }
    assert_eq!(refused(begun().frame(frame(2, &auth(vec![1])), &broker)).1, untold);
}

proptest! {
    /// Nobody gets in by chance, and nothing breaks.
    #[test]
    fn noise_gets_nowhere(
        mechanism in 0..4usize, version in 0..2i16, tokens in prop::collection::vec("[ -~]{0,40}|n,,n=[a-z,=]{1,6},r=[a-z]{0,3}|c=biws,r=[a-z]{1,3},p=[A-Za-z+/]{0,9}=?|n,,\u{1}auth=Bearer [a-z.]{0,9}\u{1}\u{1}", 1..4)
    ) {
        let (broker, mut authenticator) = (broker(), Authenticator::new());
        begin(&mut authenticator, &broker, Mechanism::ALL[mechanism], version);
        for token in tokens {
            let token = if version == 0 { Bytes::from(token) } else { frame(2, &auth(token)) };
            match authenticator.frame(token, &broker) {
                Outcome::Next(_) => {}
                Outcome::Done(..) => prop_assert!(false, "somebody got in"),
                Outcome::Denied { .. } | Outcome::Refused { .. } | Outcome::Broken(_) => break,
            }
        }
    }
}
