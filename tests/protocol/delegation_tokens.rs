//! Delegation tokens (KIP-48, KIP-373): who may make, see, renew and end them, and what they are good for.

use crate::sasl::{open, start, told};
use corelane_protocol::ErrorCode;
use corelane_protocol::messages::{
    CreateAclsRequest, CreateAclsRequestAclCreation, CreateDelegationTokenRequest,
    CreateDelegationTokenRequestCreatableRenewers as Renewer, CreateDelegationTokenResponse,
    DescribeDelegationTokenRequest, DescribeDelegationTokenRequestDescribeDelegationTokenOwner as Owner,
    DescribeDelegationTokenResponse, ExpireDelegationTokenRequest, MetadataRequest, RenewDelegationTokenRequest,
};
use corelane_sasl::scram::Hash;
use corelane_sasl::{Mechanism, TokenKey};
use corelane_tests::broker::{Broker, is_corelane};
use corelane_tests::connection::Connection;
use corelane_tests::sasl::{authenticate, authenticate_by_token};
use corelane_tests::wait;
use std::io;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);
const KEY: (&str, &str) = ("delegation.token.secret.key", "the-key-of-keys");
const HOUR_MS: i64 = 3_600_000;
const USERS: (&str, &str) = (
    "listener.name.sasl_plaintext.plain.sasl.jaas.config",
    "org.apache.kafka.common.security.plain.PlainLoginModule required user_alice=\"a\" user_bob=\"b\" user_carol=\"c\";",
);
const DISABLED: i16 = 61;
const NOT_FOUND: i16 = 62;
const OWNER_MISMATCH: i16 = 63;
const NOT_ALLOWED: i16 = 64;
const NOT_AUTHORIZED: i16 = 65;
const EXPIRED: i16 = 66;
const INVALID_PRINCIPAL: i16 = 67;

/// A connection of one of [`USERS`].
fn of(broker: &Broker, user: &str) -> Connection {
    let mut connection = open(broker);
    authenticate(&mut connection, Mechanism::Plain, user, &user[..1]).expect(user);
    connection
}

fn renewer(kind: &str, name: &str) -> Renewer {
    Renewer { principal_type: kind.to_owned().into(), principal_name: name.to_owned().into(), ..Default::default() }
}

/// For the client itself.
fn own(renewers: &[&str], max_lifetime_ms: i64) -> CreateDelegationTokenRequest {
    let renewers = renewers.iter().map(|name| renewer("User", name)).collect();
    CreateDelegationTokenRequest { renewers, max_lifetime_ms, ..Default::default() }
}

fn of_owner(kind: Option<&str>, name: &str) -> CreateDelegationTokenRequest {
    CreateDelegationTokenRequest {
        owner_principal_type: kind.map(|kind| kind.to_owned().into()),
        owner_principal_name: Some(name.to_owned().into()),
        ..own(&[], -1)
    }
}

#[track_caller]
fn made(connection: &mut Connection, request: &CreateDelegationTokenRequest) -> CreateDelegationTokenResponse {
    let token = connection.call(3, request);
    assert_eq!(token.error_code, 0);
    token
}

/// The error and the token's end.
fn renew(connection: &mut Connection, hmac: &[u8], renew_period_ms: i64) -> (i16, i64) {
    let request = RenewDelegationTokenRequest { hmac: hmac.to_vec().into(), renew_period_ms, ..Default::default() };
    let answer = connection.call(2, &request);
    (answer.error_code, answer.expiry_timestamp_ms)
}

fn expire(connection: &mut Connection, hmac: &[u8], expiry_time_period_ms: i64) -> (i16, i64) {
    let hmac = hmac.to_vec().into();
    let answer =
        connection.call(2, &ExpireDelegationTokenRequest { hmac, expiry_time_period_ms, ..Default::default() });
    (answer.error_code, answer.expiry_timestamp_ms)
}

fn describe(connection: &mut Connection, owners: Option<&[&str]>) -> DescribeDelegationTokenResponse {
    let owner = |name: &&str| Owner {
        principal_type: "User".into(),
        principal_name: (*name).to_owned().into(),
        ..Default::default()
    };
    let owners = owners.map(|owners| owners.iter().map(owner).collect());
    connection.call(3, &DescribeDelegationTokenRequest { owners, ..Default::default() })
}

/// Ids, in order.
fn seen(connection: &mut Connection, owners: Option<&[&str]>) -> Vec<String> {
    let answer = describe(connection, owners);
    assert_eq!(answer.error_code, 0);
    let mut ids: Vec<String> = answer.tokens.iter().map(|token| token.token_id.to_string()).collect();
    ids.sort();
    ids
}

/// The HMAC of a token as clients type it, made from its id.
fn password(token: &CreateDelegationTokenResponse) -> String {
    let hmac = TokenKey::new(KEY.1).hmac(&token.token_id);
    assert_eq!(token.hmac, hmac.as_bytes());
    hmac.text()
}

/// What comes of a token that is shown at a new connection.
fn shown(broker: &Broker, hash: Hash, token: &CreateDelegationTokenResponse) -> io::Result<(Connection, i64)> {
    let mut connection = open(broker);
    let answer = authenticate_by_token(&mut connection, hash, &token.token_id, &password(token))?;
    Ok((connection, answer.session_lifetime_ms))
}

fn serves(connection: &mut Connection) -> bool {
    connection.try_call(12, &MetadataRequest::default()).is_ok()
}

/// All four requests about tokens, each at its versions; errors and times.
fn refused_alike(connection: &mut Connection, error: i16, time: i64, owner: &str) {
    for version in 1..=3 {
        let token = connection.call(version, &own(&[], -1));
        let times = [token.issue_timestamp_ms, token.expiry_timestamp_ms, token.max_timestamp_ms];
        assert_eq!((token.error_code, times), (error, [time; 3]));
        assert_eq!((token.principal_type.as_str(), token.principal_name.as_str()), ("User", owner));
        assert!(token.token_id.is_empty() && token.hmac.is_empty());
        let described = connection.call(version, &DescribeDelegationTokenRequest::default());
        assert_eq!((described.error_code, described.tokens.len()), (error, 0));
    }
    for version in 1..=2 {
        let renewed = connection.call(version, &RenewDelegationTokenRequest::default());
        assert_eq!((renewed.error_code, renewed.expiry_timestamp_ms), (error, time));
        let expired = connection.call(version, &ExpireDelegationTokenRequest::default());
        assert_eq!((expired.error_code, expired.expiry_timestamp_ms), (error, time));
    }
}

#[test]
fn without_a_key_or_a_name_there_are_no_tokens() {
    if !is_corelane() {
        return;
    }
    let (broker, _) = start("tokens-none", &[USERS]);
    refused_alike(&mut of(&broker, "alice"), DISABLED, 0, "alice");
    // Errors of the controller come after those of the broker.
    let group = CreateDelegationTokenRequest { renewers: vec![renewer("Group", "g")], ..own(&[], -1) };
    assert_eq!(of(&broker, "alice").call(3, &group).error_code, INVALID_PRINCIPAL);
}

#[test]
fn tokens_are_for_those_who_have_shown_more_than_a_token() {
    if !is_corelane() {
        return;
    }
    let (broker, authority) = start("tokens-nobody", &[USERS, KEY]);
    let mut plain = Connection::open(broker.bootstrap()).expect("a connection");
    refused_alike(&mut plain, NOT_ALLOWED, -1, "ANONYMOUS");
    let tls = authority.client(None, &[&rustls::version::TLS13]);
    let mut nobody = Connection::open_tls(&format!("127.0.0.1:{}", broker.port() + 12), &tls).expect("a connection");
    refused_alike(&mut nobody, NOT_ALLOWED, -1, "ANONYMOUS");
    let token = made(&mut of(&broker, "alice"), &own(&[], -1));
    let (mut by_token, _) = shown(&broker, Hash::Sha256, &token).expect("alice");
    refused_alike(&mut by_token, NOT_ALLOWED, -1, "alice");
    // Kafka has no answer for an owner without a kind.
    for connection in [&mut plain, &mut of(&broker, "alice")] {
        let answer = connection.call(3, &of_owner(None, "bob"));
        assert_eq!((answer.error_code, answer.principal_name.as_str()), (-1, "ANONYMOUS"));
        assert_eq!((answer.token_requester_principal_name.as_str(), answer.issue_timestamp_ms), ("ANONYMOUS", -1));
    }
    // An owner whose name fits no record.
    let long = of_owner(Some("User"), &"n".repeat(i16::MAX as usize - 4));
    assert_eq!(of(&broker, "alice").call(3, &long).error_code, ErrorCode::UnknownServerError.code());
    let many = own(&vec!["r"; 10_001], -1);
    assert_eq!(of(&broker, "alice").call(3, &many).error_code, ErrorCode::PolicyViolation.code());
}

#[test]
fn a_token_is_made_shown_renewed_and_ended() {
    if !is_corelane() {
        return;
    }
    let (mut broker, _) = start("tokens-life", &[USERS, KEY]);
    let mut alice = of(&broker, "alice");
    for version in 1..=3 {
        let token = alice.call(version, &own(&["bob"], -1));
        assert_eq!((token.error_code, token.principal_name.as_str(), token.token_id.len()), (0, "alice", 22));
        let requester = if version == 3 { ["User", "alice"] } else { [""; 2] };
        let told = [&token.token_requester_principal_type, &token.token_requester_principal_name];
        assert_eq!(told.map(|text| text.as_str()), requester);
        assert_eq!(token.expiry_timestamp_ms - token.issue_timestamp_ms, 24 * HOUR_MS);
        assert_eq!(token.max_timestamp_ms - token.issue_timestamp_ms, 7 * 24 * HOUR_MS);
        assert_eq!(expire(&mut alice, &token.hmac, -1).0, 0);
    }
    let token = made(&mut alice, &own(&["bob"], 10 * HOUR_MS));
    assert_eq!(token.expiry_timestamp_ms, token.max_timestamp_ms);
    let (mut bob, mut carol) = (of(&broker, "bob"), of(&broker, "carol"));
    // Who may know of it, and asks for whose.
    let own_id = vec![token.token_id.to_string()];
    for (asked, found) in
        [(None, true), (Some(&["alice"][..]), true), (Some(&["bob", "x"]), true), (Some(&["x"]), false)]
    {
        for user in [&mut alice, &mut bob] {
            assert_eq!(seen(user, asked), if found { own_id.clone() } else { Vec::new() }, "{asked:?}");
        }
    }
    assert!(seen(&mut alice, Some(&[])).is_empty());
    let described = describe(&mut bob, None).tokens.remove(0);
    assert_eq!((described.hmac, described.renewers.len()), (token.hmac.clone(), 1));
    assert_eq!(
        (described.principal_name.as_str(), described.token_requester_principal_name.as_str()),
        ("alice", "alice")
    );
    assert_eq!(
        (described.issue_timestamp, described.max_timestamp),
        (token.issue_timestamp_ms, token.max_timestamp_ms)
    );
    // Who may change its end, and how far.
    assert_eq!(renew(&mut alice, b"", -1), (NOT_FOUND, 0));
    assert_eq!(expire(&mut alice, &[7; 64], -1), (NOT_FOUND, 0));
    assert_eq!(renew(&mut carol, &token.hmac, -1), (OWNER_MISMATCH, 0));
    assert_eq!(expire(&mut carol, &token.hmac, -1), (OWNER_MISMATCH, 0));
    assert_eq!(renew(&mut bob, &token.hmac, -1), (0, token.max_timestamp_ms));
    assert_eq!(renew(&mut alice, &token.hmac, i64::MAX), (0, token.max_timestamp_ms));
    let (error, sooner) = expire(&mut bob, &token.hmac, HOUR_MS);
    assert!(error == 0 && sooner < token.max_timestamp_ms, "{sooner}");
    let (error, later) = renew(&mut bob, &token.hmac, 2 * HOUR_MS);
    assert!(error == 0 && sooner < later && later < token.max_timestamp_ms, "{later}");
    // It is good for both mechanisms, and for no longer than it lasts.
    for hash in [Hash::Sha256, Hash::Sha512] {
        for _ in 0..2 {
            let (mut connection, lifetime_ms) = shown(&broker, hash, &token).expect("alice");
            assert!(serves(&mut connection) && (1..=2 * HOUR_MS).contains(&lifetime_ms), "{lifetime_ms}");
        }
        let mut wrong = open(&broker);
        let error = told(authenticate_by_token(&mut wrong, hash, &token.token_id, "x"));
        let unknown = told(authenticate_by_token(&mut open(&broker), hash, "x", &password(&token)));
        assert_eq!(error, unknown);
        told(authenticate(&mut open(&broker), Mechanism::Scram(hash), &token.token_id, &password(&token)));
    }
    // A crash forgets nothing of it.
    broker.kill();
    broker.resume();
    let mut alice = of(&broker, "alice");
    let described = describe(&mut alice, None).tokens.remove(0);
    assert_eq!((described.token_id.clone(), described.expiry_timestamp), (token.token_id.clone(), later));
    let (mut by_token, _) = shown(&broker, Hash::Sha512, &token).expect("alice");
    let log = broker.log_with(&[token.token_id.as_str()]);
    assert!(!log.contains(&password(&token)) && !log.contains(KEY.1));
    // Taken away, it lets nobody in any more; who is in stays.
    let (error, ended) = expire(&mut alice, &token.hmac, -1);
    assert!(error == 0 && ended < later);
    assert_eq!(renew(&mut alice, &token.hmac, -1), (NOT_FOUND, 0));
    told(shown(&broker, Hash::Sha512, &token).map(|_| ()));
    assert!(serves(&mut by_token) && seen(&mut alice, None).is_empty());
}

#[test]
fn a_token_whose_time_is_over_is_nobody_s() {
    if !is_corelane() {
        return;
    }
    let (broker, _) = start("tokens-over", &[USERS, KEY]);
    let mut alice = of(&broker, "alice");
    // Its connections end with it. (A slow machine may let its time pass before it comes.)
    let (token, (mut connection, lifetime_ms)) = wait::until("a login in time", LIMIT, || {
        let token = made(&mut alice, &own(&[], 1500));
        let login = shown(&broker, Hash::Sha256, &token).ok();
        if login.is_none() {
            assert_eq!(expire(&mut alice, &token.hmac, -1).0, 0);
        }
        Some((token, login?))
    });
    assert!((1..=1500).contains(&lifetime_ms), "{lifetime_ms}");
    wait::until("the end of the session", LIMIT, || (!serves(&mut connection)).then_some(()));
    wait::until("the end of the token", LIMIT, || (renew(&mut alice, &token.hmac, -1).0 == EXPIRED).then_some(()));
    assert_eq!(expire(&mut alice, &token.hmac, HOUR_MS), (EXPIRED, 0));
    told(shown(&broker, Hash::Sha256, &token).map(|_| ()));
    assert_eq!(seen(&mut alice, None), [token.token_id.to_string()], "it is not taken away yet");
    assert_eq!(expire(&mut alice, &token.hmac, -1).0, 0);
    assert!(seen(&mut alice, None).is_empty());
    // Where it is looked at more often.
    let often = ("delegation.token.expiry.check.interval.ms", "50");
    let short = [("delegation.token.expiry.time.ms", "2000"), ("delegation.token.max.lifetime.ms", "3600000")];
    let (broker, _) = start("tokens-swept", &[&[USERS, KEY, often][..], &short].concat());
    let mut alice = of(&broker, "alice");
    let (first, kept) = (made(&mut alice, &own(&[], 1)), made(&mut alice, &own(&[], -1)));
    assert_eq!(kept.expiry_timestamp_ms - kept.issue_timestamp_ms, 2000);
    assert_eq!(kept.max_timestamp_ms - kept.issue_timestamp_ms, HOUR_MS);
    let gone = wait::until("a token to be swept", LIMIT, || {
        let ids = seen(&mut alice, None);
        (!ids.contains(&first.token_id.to_string())).then_some(ids)
    });
    assert!(gone.is_empty() || gone == [kept.token_id.to_string()]);
    wait::until("all tokens to be swept", LIMIT, || seen(&mut alice, None).is_empty().then_some(()));
    assert_eq!(renew(&mut alice, &first.hmac, -1), (NOT_FOUND, 0));
}

#[test]
fn rules_say_who_makes_and_sees_tokens_of_others() {
    if !is_corelane() {
        return;
    }
    let rules = [
        USERS,
        KEY,
        ("authorizer.class.name", "org.apache.kafka.metadata.authorizer.StandardAuthorizer"),
        ("super.users", "User:ANONYMOUS"),
    ];
    let (broker, _) = start("tokens-rules", &rules);
    let mut admin = Connection::open(broker.bootstrap()).expect("a connection");
    let mut allow = |user: &str, resource_type: i8, name: &str, operation: i8| {
        let rule = CreateAclsRequestAclCreation {
            resource_type,
            resource_name: name.to_owned().into(),
            resource_pattern_type: 3,
            principal: format!("User:{user}").into(),
            host: "*".into(),
            operation,
            permission_type: 3,
            ..Default::default()
        };
        let answer = admin.call(3, &CreateAclsRequest { creations: vec![rule], ..Default::default() });
        assert_eq!(answer.results[0].error_code, 0, "{:?}", answer.results[0].error_message);
    };
    let (user, token, describe_it, create_tokens, describe_tokens) = (7, 6, 8, 13, 14);
    let (mut alice, mut bob, mut carol) = (of(&broker, "alice"), of(&broker, "bob"), of(&broker, "carol"));
    // One's own needs no rule.
    let first = made(&mut alice, &own(&[], -1));
    let for_alice = of_owner(Some("User"), "alice");
    let refused = bob.call(3, &for_alice);
    assert_eq!((refused.error_code, refused.principal_name.as_str()), (NOT_AUTHORIZED, "alice"));
    assert_eq!((refused.token_requester_principal_name.as_str(), refused.issue_timestamp_ms), ("bob", -1));
    allow("bob", user, "User:alice", create_tokens);
    let second = made(&mut bob, &for_alice);
    assert_eq!((second.principal_name.as_str(), second.token_requester_principal_name.as_str()), ("alice", "bob"));
    let (mut by_token, _) = shown(&broker, Hash::Sha256, &second).expect("alice");
    assert!(serves(&mut by_token));
    // Who has asked for it knows of it, but it is not his.
    assert_eq!(seen(&mut bob, None), [second.token_id.to_string()]);
    assert_eq!(renew(&mut bob, &second.hmac, -1), (OWNER_MISMATCH, 0));
    assert_eq!(renew(&mut alice, &second.hmac, -1).0, 0);
    assert!(seen(&mut carol, None).is_empty());
    allow("carol", token, &first.token_id, describe_it);
    assert_eq!(seen(&mut carol, None), [first.token_id.to_string()]);
    allow("carol", user, "User:alice", describe_tokens);
    assert_eq!(seen(&mut carol, None).len(), 2);
    assert_eq!(seen(&mut carol, Some(&["bob"])), [second.token_id.to_string()]);
    broker.log_with(&["audit:", "User:bob", "CreateDelegationToken", "CreateTokens", "\"User:alice\"", "refused"]);
    broker.log_with(&["audit:", "User:bob", "CreateDelegationToken", "of alice", "done"]);
    broker.log_with(&["audit:", "User:bob", "RenewDelegationToken", "for -1 ms", "DelegationTokenOwnerMismatch"]);
}
