//! SASL listeners at a live broker: who gets in, what may come before that, and who stays.

use crate::configs;
use corelane_protocol::messages::{
    ApiVersionsRequest, MetadataRequest, MetadataResponse, SaslAuthenticateRequest, SaslHandshakeRequest,
};
use corelane_sasl::Mechanism;
use corelane_sasl::scram::{Hash, ScramClient};
use corelane_tests::broker::{Broker, BrokerOptions, is_corelane};
use corelane_tests::connection::{Connection, Fate};
use corelane_tests::sasl::{authenticate, handshake, token};
use corelane_tests::tls::Authority;
use corelane_tests::{scratch, wait};
use std::fs;
use std::io::ErrorKind;
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(60);
pub const PLAIN: Mechanism = Mechanism::Plain;
const SCRAMS: [Mechanism; 2] = [Mechanism::Scram(Hash::Sha256), Mechanism::Scram(Hash::Sha512)];
const USERS: &str = "org.apache.kafka.common.security.plain.PlainLoginModule required \
                     user_alice=\"plain-secret\" user_bob=\"bobs-secret\";";

/// In plain text at the first port, with SASL at the next, with TLS and SASL at the third, with TLS alone at the fourth. alice and
/// bob may come.
pub fn options(folder: &str, set: &[(&str, &str)]) -> (BrokerOptions, Authority) {
    let folder = scratch::folder(folder);
    let authority = Authority::make(&folder);
    let users = folder.join("users");
    fs::write(&users, "alice=scram-secret\nSCRAM-SHA-512=[name=bob,password=bobs-secret,iterations=8192]\n")
        .expect("a file");
    let options = BrokerOptions {
        set: authority.properties(),
        advertise: "node".into(),
        args: vec!["--scram-users".into(), users.display().to_string()],
        listen: Some(|port| {
            let (sasl, both, tls) = (port + 4, port + 8, port + 12);
            format!(
                "PLAINTEXT://127.0.0.1:{port},SASL_PLAINTEXT://127.0.0.1:{sasl},SASL_SSL://127.0.0.1:{both},\
                 SSL://127.0.0.1:{tls}"
            )
        }),
        ..BrokerOptions::default()
    };
    let options = options
        .set("sasl.enabled.mechanisms", "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512")
        .set("listener.name.sasl_plaintext.plain.sasl.jaas.config", USERS)
        .set("listener.name.sasl_ssl.plain.sasl.jaas.config", USERS);
    (set.iter().fold(options, |options, (k, v)| options.set(k, v)), authority)
}

pub fn start(folder: &str, set: &[(&str, &str)]) -> (Broker, Authority) {
    let (options, authority) = options(folder, set);
    (Broker::start(options), authority)
}

pub fn open(broker: &Broker) -> Connection {
    Connection::open(&format!("127.0.0.1:{}", broker.port() + 4)).expect("a connection")
}

fn serves(connection: &mut Connection) -> MetadataResponse {
    connection.call(12, &MetadataRequest::default())
}

#[track_caller]
fn closed(connection: &mut Connection) {
    assert!(matches!(connection.fate(), Fate::Closed));
}

pub fn told(result: std::io::Result<impl std::fmt::Debug>) -> String {
    let error = result.expect_err("a refusal");
    assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
    error.to_string()
}

#[test]
fn who_shows_the_right_password_is_that_user() {
    if !is_corelane() {
        return;
    }
    let (broker, authority) = start("sasl-right", &[]);
    let tls = authority.client(None, &[&rustls::version::TLS13]);
    for encrypted in [false, true] {
        let open = || match encrypted {
            false => open(&broker),
            true => Connection::open_tls(&format!("127.0.0.1:{}", broker.port() + 8), &tls).expect("a connection"),
        };
        for (mechanism, password) in [(PLAIN, "plain-secret"), (SCRAMS[0], "scram-secret"), (SCRAMS[1], "scram-secret")]
        {
            let mut connection = open();
            let versions = connection.call(
                3,
                &ApiVersionsRequest {
                    client_software_name: "t".into(),
                    client_software_version: "1".into(),
                    ..Default::default()
                },
            );
            assert!(versions.error_code == 0 && versions.api_keys.len() > 50);
            let last = authenticate(&mut connection, mechanism, "alice", password).expect("alice");
            assert_eq!(last.session_lifetime_ms, 0);
            // Clients of a listener are told of the brokers as that listener has them.
            let port = broker.port() + if encrypted { 8 } else { 4 };
            assert_eq!(serves(&mut connection).brokers[0].port, i32::from(port));
            for wrong in ["", "x", "plain-secret ", "Scram-secret"] {
                told(authenticate(&mut open(), mechanism, "alice", wrong));
                told(authenticate(&mut open(), mechanism, "mallory", wrong));
            }
        }
    }
    // bob has one of the two.
    authenticate(&mut open(&broker), SCRAMS[1], "bob", "bobs-secret").expect("bob");
    told(authenticate(&mut open(&broker), SCRAMS[0], "bob", "bobs-secret"));
    let mut connection = open(&broker);
    authenticate(&mut connection, PLAIN, "bob", "bobs-secret").expect("bob");
    connection.write(&[0x7f, 0xff, 0xff, 0xff]).expect("written");
    closed(&mut connection);
    let line = "principal=\"User:bob\" ";
    wait::until(line, LIMIT, || broker.log().contains(line).then_some(()));
}

#[test]
fn strangers_learn_nothing_and_wait() {
    if !is_corelane() {
        return;
    }
    let (broker, _) = start("sasl-wrong", &[("connection.failed.authentication.delay.ms", "300")]);
    for mechanism in [PLAIN, SCRAMS[0], SCRAMS[1]] {
        let (mut known, mut unknown) = (open(&broker), open(&broker));
        let begun = Instant::now();
        let of_alice = told(authenticate(&mut known, mechanism, "alice", "wrong"));
        let waited = begun.elapsed();
        assert!(waited >= Duration::from_millis(300), "{waited:?}");
        let of_nobody = told(authenticate(&mut unknown, mechanism, "nobody", "wrong"));
        assert!(of_alice == of_nobody && of_alice.starts_with("error 58: Authentication failed"), "{of_nobody}");
        closed(&mut known);
        closed(&mut unknown);
    }
    let line = "mechanism=\"SCRAM-SHA-512\" user=Some(\"nobody\") reason=\"wrong password, or no such user\" outcome=\"unauthenticated\"";
    wait::until(line, LIMIT, || broker.log().contains(line).then_some(()));
    let mut connection = Connection::open(broker.bootstrap()).expect("a connection");
    let shown = format!("{:?}", configs::describe(&mut connection, configs::BROKER, "1"));
    let log = broker.log();
    for secret in ["plain-secret", "scram-secret", "bobs-secret"] {
        assert!(!log.contains(secret) && !shown.contains(secret), "{secret}");
    }
}

#[test]
fn only_what_authentication_needs_may_come_before_it() {
    if !is_corelane() {
        return;
    }
    let (broker, _) = start("sasl-order", &[("sasl.server.max.receive.size", "2000")]);
    let mut bystander = open(&broker);
    authenticate(&mut bystander, PLAIN, "alice", "plain-secret").expect("alice");
    // Requests at once, garbage, another protocol.
    for first in [
        &b"\0\0\0\x0e\0\x03\0\x01\0\0\0\x07\xff\xff\0\0\0\0"[..],
        &[0, 0, 0, 0],
        &[0, 0, 0, 2, 1, 2],
        b"GET / HTTP/1.1\r\n\r\n",
        &[0xff; 64],
    ] {
        let mut connection = open(&broker);
        connection.write(first).expect("written");
        closed(&mut connection);
    }
    let mut connection = open(&broker);
    connection.send(2, &SaslAuthenticateRequest::default()).expect("sent");
    closed(&mut connection);
    // ApiVersions once, then the handshake.
    let mut connection = open(&broker);
    assert_eq!(connection.call(0, &ApiVersionsRequest::default()).error_code, 0);
    connection.send(0, &ApiVersionsRequest::default()).expect("sent");
    closed(&mut connection);
    // An unknown mechanism is told which there are.
    let mut connection = open(&broker);
    let answer = handshake(&mut connection, 1, "GSSAPI").expect("an answer");
    let names: Vec<&str> = answer.mechanisms.iter().map(|m| m.as_str()).collect();
    assert_eq!((answer.error_code, names), (33, vec!["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]));
    closed(&mut connection);
    // Between handshake and token nothing else comes.
    let mut connection = open(&broker);
    assert_eq!(handshake(&mut connection, 1, "PLAIN").expect("an answer").error_code, 0);
    assert_eq!(connection.call(1, &SaslHandshakeRequest::default()).error_code, 34);
    closed(&mut connection);
    let mut connection = open(&broker);
    assert_eq!(handshake(&mut connection, 1, "PLAIN").expect("an answer").error_code, 0);
    connection.send(12, &MetadataRequest::default()).expect("sent");
    closed(&mut connection);
    // Larger than is taken.
    for shaken in [false, true] {
        let mut connection = open(&broker);
        if shaken {
            assert_eq!(handshake(&mut connection, 1, "PLAIN").expect("an answer").error_code, 0);
        }
        connection.write(&2001u32.to_be_bytes()).expect("written");
        closed(&mut connection);
    }
    let line = "reason=\"a frame above sasl.server.max.receive.size\"";
    wait::until(line, LIMIT, || broker.log().contains(line).then_some(()));
    // Once in, frames may be larger again, and there is nothing more to authenticate.
    let topics = |n: usize| MetadataRequest {
        topics: Some(
            (0..n)
                .map(|_| corelane_protocol::messages::MetadataRequestTopic {
                    name: Some("none".into()),
                    ..Default::default()
                })
                .collect(),
        ),
        allow_auto_topic_creation: false,
        ..Default::default()
    };
    assert_eq!(bystander.call(12, &topics(1000)).topics.len(), 1);
    assert_eq!(handshake(&mut bystander, 1, "PLAIN").expect("an answer").error_code, 34);
    assert_eq!(token(&mut bystander, 2, Vec::new()).expect("an answer").error_code, 34);
    // So there is on a listener without SASL.
    let mut plain = Connection::open(broker.bootstrap()).expect("a connection");
    assert_eq!(handshake(&mut plain, 0, "PLAIN").expect("an answer").error_code, 34);
    assert_eq!(token(&mut plain, 0, Vec::new()).expect("an answer").error_code, 34);
    serves(&mut plain);
}

#[test]
fn bare_tokens_follow_the_first_handshake() {
    if !is_corelane() {
        return;
    }
    let (broker, _) = start("sasl-bare", &[]);
    let bare = |connection: &mut Connection, token: &[u8]| {
        let frame = [&(token.len() as u32).to_be_bytes()[..], token].concat();
        connection.write(&frame).expect("written");
    };
    let begin = |mechanism: Mechanism| {
        let mut connection = open(&broker);
        assert_eq!(handshake(&mut connection, 0, mechanism.name()).expect("an answer").error_code, 0);
        connection
    };
    let mut connection = begin(PLAIN);
    bare(&mut connection, b"\0alice\0plain-secret");
    assert_eq!(connection.read_frame().expect("an answer").len(), 0);
    serves(&mut connection);
    let mut connection = begin(SCRAMS[0]);
    let mut client = ScramClient::new(Hash::Sha256, "alice", "scram-secret", "n");
    bare(&mut connection, &client.first());
    let challenge = connection.read_frame().expect("a challenge");
    bare(&mut connection, &client.last(&challenge).expect("a challenge"));
    client.verify(&connection.read_frame().expect("an answer")).expect("the broker");
    serves(&mut connection);
    for garbage in [&b""[..], b"\0", b"\0alice\0wrong", &[0xff; 300], b"n,,n=alice,r=x"] {
        let mut connection = begin(PLAIN);
        bare(&mut connection, garbage);
        closed(&mut connection);
    }
}

#[test]
fn scram_takes_no_garbage_and_nothing_recorded() {
    if !is_corelane() {
        return;
    }
    let (broker, _) = start("sasl-garbage", &[("connection.failed.authentication.delay.ms", "0")]);
    let begin = || {
        let mut connection = open(&broker);
        assert_eq!(handshake(&mut connection, 1, "SCRAM-SHA-512").expect("an answer").error_code, 0);
        connection
    };
    let long = format!("n,,n={},r=x", "u".repeat(9000));
    for first in [
        "",
        "n",
        "n,,",
        "n,,n=,r=",
        "y,,n=alice,r=x",
        "n,,n=alice,r=x,",
        "n,,n=al=ice,r=x",
        "n,a=bob,n=alice,r=x",
        "n,,n=alice,r=\0",
        &long,
    ] {
        let mut connection = begin();
        let answer = token(&mut connection, 2, first.as_bytes().to_vec()).expect("an answer");
        assert_eq!(answer.error_code, 58, "{first}");
        closed(&mut connection);
    }
    for last in [
        "",
        "c=biws",
        "c=biws,r=x,p=AAAA",
        "c=,r=,p=",
        "p=AAAA,c=biws,r=x",
        "c=biws,r=NONCE",
        "c=biws,r=NONCE,p=AAAA",
        "c=eSws,r=NONCE,p=AAAA",
    ] {
        let mut connection = begin();
        let challenge = token(&mut connection, 2, b"n,,n=alice,r=x".to_vec()).expect("a challenge").auth_bytes;
        let challenge = String::from_utf8(challenge.to_vec()).expect("text");
        let nonce = challenge.split(',').next().expect("a nonce").trim_start_matches("r=");
        let answer = token(&mut connection, 2, last.replace("NONCE", nonce).into_bytes()).expect("an answer");
        assert_eq!(answer.error_code, 58, "{last}");
        closed(&mut connection);
    }
    // Said again, what once was right is not.
    let mut client = ScramClient::new(Hash::Sha512, "alice", "scram-secret", "n");
    let mut connection = begin();
    let challenge = token(&mut connection, 2, client.first()).expect("a challenge").auth_bytes;
    let last = client.last(&challenge).expect("a challenge");
    assert_eq!(token(&mut connection, 2, last.clone()).expect("an answer").error_code, 0);
    let mut replay = begin();
    token(&mut replay, 2, client.first()).expect("a challenge");
    assert_eq!(token(&mut replay, 2, last).expect("an answer").error_code, 58);
    closed(&mut replay);
    serves(&mut connection);
}

#[test]
fn who_stays_authenticates_again_as_himself() {
    if !is_corelane() {
        return;
    }
    let long = [
        ("connections.max.reauth.ms", "60000"),
        ("listener.name.sasl_plaintext.scram-sha-256.connections.max.reauth.ms", "1200"),
    ];
    let (broker, _) = start("sasl-again", &long);
    let mut connection = open(&broker);
    let answer = authenticate(&mut connection, PLAIN, "alice", "plain-secret").expect("alice");
    assert_eq!(answer.session_lifetime_ms, 60_000);
    let begun = Instant::now();
    let answer = authenticate(&mut connection, PLAIN, "alice", "plain-secret").expect("alice again");
    assert_eq!(answer.session_lifetime_ms, 60_000);
    serves(&mut connection);
    // Not all the time; a machine that has been slower than that has authenticated once more.
    let code = handshake(&mut connection, 1, "PLAIN").expect("an answer").error_code;
    if begun.elapsed() < Duration::from_secs(1) {
        assert_eq!(code, 34);
        serves(&mut connection);
    }
    let mut connection = open(&broker);
    authenticate(&mut connection, PLAIN, "alice", "plain-secret").expect("alice");
    let other = told(authenticate(&mut connection, PLAIN, "bob", "bobs-secret"));
    assert!(other.contains("Cannot change principals during re-authentication from User.alice: User.bob"), "{other}");
    closed(&mut connection);
    let mut connection = open(&broker);
    authenticate(&mut connection, PLAIN, "alice", "plain-secret").expect("alice");
    assert_eq!(handshake(&mut connection, 1, "SCRAM-SHA-512").expect("an answer").error_code, 0);
    connection.send(2, &SaslAuthenticateRequest::default()).expect("sent");
    closed(&mut connection);
    // Nothing else comes in between.
    let mut connection = open(&broker);
    authenticate(&mut connection, PLAIN, "alice", "plain-secret").expect("alice");
    assert_eq!(handshake(&mut connection, 1, "PLAIN").expect("an answer").error_code, 0);
    connection.send(12, &MetadataRequest::default()).expect("sent");
    closed(&mut connection);
    // A session that is over serves nobody.
    let mut connection = open(&broker);
    let answer = authenticate(&mut connection, SCRAMS[0], "alice", "scram-secret").expect("alice");
    assert_eq!(answer.session_lifetime_ms, 1200);
    wait::until("the end of the session", LIMIT, || connection.try_call(12, &MetadataRequest::default()).err());
    let line = "reason=\"its session has ended\"";
    wait::until(line, LIMIT, || broker.log().contains(line).then_some(()));
}
