//! OAUTHBEARER at a live broker: whose tokens are believed, what the others are told, and keys that change.

use crate::configs;
use crate::sasl::{open, told};
use corelane_protocol::messages::{MetadataRequest, SaslAuthenticateResponse};
use corelane_sasl::{Mechanism, oauth::first_message};
use corelane_tests::broker::{Broker, BrokerOptions, is_corelane};
use corelane_tests::connection::{Connection, Fate};
use corelane_tests::issuer::{Issuer, jwks};
use corelane_tests::oauth::{Provider, claims, properties};
use corelane_tests::sasl::{authenticate, handshake, token};
use corelane_tests::tls::Authority;
use corelane_tests::{process, scratch, wait};
use std::io;
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(60);
const OAUTH: Mechanism = Mechanism::OAuthBearer;
const INVALID: &str = "{\"status\":\"invalid_token\"}";

/// In plain text at the first port, with SASL at the next.
fn start(jwks_url: &str, set: &[(&str, &str)]) -> Broker {
    let options = BrokerOptions {
        set: properties(jwks_url),
        advertise: "node".into(),
        listen: Some(|port| format!("PLAINTEXT://127.0.0.1:{port},SASL_PLAINTEXT://127.0.0.1:{}", port + 4)),
        ..BrokerOptions::default()
    };
    let options = options.set("sasl.oauthbearer.clock.skew.seconds", 0);
    Broker::start(set.iter().fold(options, |options, (k, v)| options.set(k, v)))
}

fn show(broker: &Broker, token: &str) -> io::Result<SaslAuthenticateResponse> {
    authenticate(&mut open(broker), OAUTH, "", token)
}

/// One message after the handshake.
fn begin(broker: &Broker, message: &[u8]) -> (Connection, SaslAuthenticateResponse) {
    let mut connection = open(broker);
    assert_eq!(handshake(&mut connection, 1, "OAUTHBEARER").expect("an answer").error_code, 0);
    let answer = token(&mut connection, 2, message.to_vec()).expect("an answer");
    (connection, answer)
}

#[track_caller]
fn logged(broker: &Broker, line: &str) {
    wait::until(line, LIMIT, || broker.log().contains(line).then_some(()));
}

#[test]
fn a_token_names_the_user_and_how_long_he_stays() {
    if !is_corelane() {
        return;
    }
    let provider = Provider::start("k", None);
    // In the other tests P-256 signs.
    provider.rotate_to(Issuer::of_p521("k"));
    let broker =
        start(&provider.jwks_url(), &[("listener.name.sasl_plaintext.oauthbearer.connections.max.reauth.ms", "60000")]);
    let mut connection = open(&broker);
    let answer = authenticate(&mut connection, OAUTH, "", &provider.token(&claims("alice", 3600))).expect("alice");
    assert_eq!((answer.session_lifetime_ms, answer.auth_bytes.len()), (60_000, 0));
    connection.call(12, &MetadataRequest::default());
    // Whichever ends first.
    let answer = show(&broker, &provider.token(&claims("alice", 30))).expect("alice");
    assert!((1..=30_000).contains(&answer.session_lifetime_ms), "{}", answer.session_lifetime_ms);
    // Another user cannot take over; alice goes on, and on, until her token ends.
    let other = told(authenticate(&mut connection, OAUTH, "", &provider.token(&claims("bob", 3600))));
    assert!(other.contains("Cannot change principals during re-authentication from User.alice: User.bob"), "{other}");
    // (A slow machine may let its time pass before it is shown.)
    let mut connection = wait::until("a session in time", LIMIT, || {
        let mut connection = open(&broker);
        authenticate(&mut connection, OAUTH, "", &provider.token(&claims("alice", 3600))).expect("alice");
        authenticate(&mut connection, OAUTH, "", &provider.token(&claims("alice", 3))).ok()?;
        connection.try_call(12, &MetadataRequest::default()).ok().map(|_| connection)
    });
    wait::until("the end of the session", LIMIT, || connection.try_call(12, &MetadataRequest::default()).err());
    logged(&broker, "reason=\"its session has ended\"");
    // The name that a client may say besides must be that of the token.
    let token = provider.token(&claims("alice", 3600));
    let message = |name: &str| format!("n,a={name},\u{1}auth=Bearer {token}\u{1}ext=x\u{1}\u{1}");
    let (_, answer) = begin(&broker, message("alice").as_bytes());
    assert_eq!(answer.error_code, 0);
    let (_, answer) = begin(&broker, message("bob").as_bytes());
    let expected = "Authentication failed: Client requested an authorization id (bob) that is different from the token's principal name (alice)";
    assert_eq!((answer.error_code, answer.error_message.as_deref()), (58, Some(expected)));
}

#[test]
fn a_token_that_is_not_believed_is_answered_in_two_steps() {
    if !is_corelane() {
        return;
    }
    let provider = Provider::start("k", None);
    let broker = start(&provider.jwks_url(), &[("connection.failed.authentication.delay.ms", "0")]);
    let stranger = Issuer::new("k").token(&claims("alice", 3600));
    for (wrong, why) in [
        (stranger.clone(), "its signature is not that of the key"),
        (provider.token(&claims("alice", 0)), "it has expired"),
        (provider.token(&claims("alice", 60).replace("corelane", "other")), "its audience is another"),
        ("a".into(), "it has not three parts"),
    ] {
        let (mut connection, answer) = begin(&broker, &first_message(&wrong));
        assert_eq!((answer.error_code, &answer.auth_bytes[..]), (0, INVALID.as_bytes()), "{why}");
        assert_eq!((answer.error_message.as_deref(), answer.session_lifetime_ms), (Some(""), 0));
        let answer = token(&mut connection, 2, vec![1]).expect("an answer");
        assert_eq!((answer.error_code, answer.error_message.as_deref()), (58, Some(INVALID)));
        assert!(matches!(connection.fate(), Fate::Closed));
        logged(&broker, &format!("mechanism=\"OAUTHBEARER\" user=None reason=\"{why}\" outcome=\"unauthenticated\""));
    }
    // One token is enough for a connection, and nothing else comes in between.
    let right = first_message(&provider.token(&claims("alice", 3600)));
    let untold =
        "Authentication failed during authentication due to invalid credentials with SASL mechanism OAUTHBEARER";
    let (mut connection, _) = begin(&broker, &first_message(&stranger));
    let answer = token(&mut connection, 2, right.clone()).expect("an answer");
    assert_eq!((answer.error_code, answer.error_message.as_deref()), (58, Some(untold)));
    let (mut connection, _) = begin(&broker, &first_message(&stranger));
    connection.send(12, &MetadataRequest::default()).expect("sent");
    assert!(matches!(connection.fate(), Fate::Closed));
    // What is no first message at all.
    for wrong in
        [&b""[..], b"\x01", b"n,,\x01auth=Bearer x\x01", b"n,,\x01auth=Basic x\x01\x01", b"\0alice\0secret", &[255; 99]]
    {
        let (mut connection, answer) = begin(&broker, wrong);
        assert_eq!((answer.error_code, answer.error_message.as_deref()), (58, Some(untold)), "{wrong:?}");
        assert!(matches!(connection.fate(), Fate::Closed));
    }
    // A handshake of version 0 has its tokens bare.
    let mut connection = open(&broker);
    assert_eq!(handshake(&mut connection, 0, "OAUTHBEARER").expect("an answer").error_code, 0);
    let bare = |message: &[u8]| [&(message.len() as u32).to_be_bytes(), message].concat();
    connection.write(&bare(&right)).expect("written");
    assert_eq!(connection.read_frame().expect("an empty frame").len(), 0);
    connection.call(12, &MetadataRequest::default());
    // Neither tokens nor parts of them are written down.
    let log = broker.log();
    for part in stranger.split('.') {
        assert!(!log.contains(part), "{part}");
    }
}

#[test]
fn keys_that_change_are_taken() {
    if !is_corelane() {
        return;
    }
    let provider = Provider::start("first", None);
    let broker = start(&provider.jwks_url(), &[("sasl.oauthbearer.jwks.endpoint.retry.backoff.ms", "20")]);
    assert_eq!(provider.asked().0, 1);
    let first = provider.token(&claims("alice", 3600));
    show(&broker, &first).expect("alice");
    provider.rotate("second");
    show(&broker, &first).expect("the old keys are still in force");
    let second = provider.token(&claims("alice", 3600));
    // A key that is not there is asked for, and the next attempt finds it.
    told(show(&broker, &second));
    wait::until("the second key", LIMIT, || show(&broker, &second).ok());
    assert_eq!(provider.asked().0, 2);
    told(show(&broker, &first));
    // Whatever strangers name, the provider is asked once a second at most, and once for each.
    let (begun, before) = (Instant::now(), provider.asked().0);
    for n in 0..40 {
        told(show(&broker, &Issuer::new(&format!("none-{}", n % 4)).token(&claims("alice", 3600))));
    }
    show(&broker, &second).expect("alice");
    let most = begun.elapsed().as_secs() as usize + 2;
    assert!(provider.asked().0 <= before + most, "{:?} in {:?}", provider.asked(), begun.elapsed());
    // While it fails, and while it talks nonsense, the old keys stay.
    for nonsense in [None, Some("<html>"), Some("{}")] {
        provider.say(nonsense);
        let before = provider.asked().0;
        let name = format!("while-{nonsense:?}").replace('"', "");
        let unknown = Issuer::new(&name).token(&claims("alice", 3600));
        wait::until("another attempt", LIMIT, || {
            told(show(&broker, &unknown));
            (provider.asked().0 > before + 1).then_some(())
        });
        show(&broker, &second).expect("alice");
    }
    provider.rotate("third");
    let third = provider.token(&claims("alice", 3600));
    wait::until("the third key", LIMIT, || show(&broker, &third).ok());
}

#[test]
fn keys_are_read_from_a_file_that_changes() {
    if !is_corelane() {
        return;
    }
    let folder = scratch::folder("oauth-file");
    let (path, next) = (folder.join("jwks.json"), folder.join("next.json"));
    let (old, new) = (Issuer::new("old"), Issuer::new("new"));
    std::fs::write(&path, jwks(&[&old])).expect("a file");
    let broker = start(&format!("file://{}", path.display()), &[]);
    let (of_old, of_new) = (old.token(&claims("alice", 3600)), new.token(&claims("alice", 3600)));
    show(&broker, &of_old).expect("alice");
    told(show(&broker, &of_new));
    std::fs::write(&path, "{").expect("a file");
    logged(&broker, "the JWKS could not be read: the old keys stay");
    show(&broker, &of_old).expect("alice");
    // Beside one of a kind that is not served, which is named.
    let ed448 = r#"{"keys":[{"kty":"OKP","crv":"Ed448","kid":"edwards","x":"AAAA"},"#;
    std::fs::write(&next, jwks(&[&new]).replacen(r#"{"keys":["#, ed448, 1)).expect("a file");
    std::fs::rename(&next, &path).expect("renamed");
    wait::until("the new key", LIMIT, || show(&broker, &of_new).ok());
    told(show(&broker, &of_old));
    logged(&broker, "the JWKS has a key that is not served: no token of it is taken");
    assert!(broker.log().contains("edwards") && broker.log().contains("Ed448"), "{}", broker.log());
}

#[test]
fn keys_come_over_tls_that_is_checked() {
    if !is_corelane() {
        return;
    }
    let authority = Authority::make(&scratch::folder("oauth-tls"));
    let provider = Provider::start("k", Some(authority.server("broker")));
    let jaas = format!(
        "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required ssl.truststore.type=\"PEM\" \
         ssl.truststore.location=\"{}\";",
        authority.pem("ca").display()
    );
    let handler = "org.apache.kafka.common.security.oauthbearer.OAuthBearerValidatorCallbackHandler";
    let broker = start(
        &provider.jwks_url(),
        &[
            ("listener.name.sasl_plaintext.oauthbearer.sasl.jaas.config", &jaas),
            ("listener.name.sasl_plaintext.oauthbearer.sasl.server.callback.handler.class", handler),
            ("sasl.oauthbearer.jwt.validator.class", "org.apache.kafka.common.security.oauthbearer.BrokerJwtValidator"),
        ],
    );
    show(&broker, &provider.token(&claims("alice", 3600))).expect("alice");
    // A machine does not trust this authority by itself.
    let refused = refused_start(&properties(&provider.jwks_url()));
    assert!(refused.contains("the JWKS at https://localhost") && refused.contains("certificate"), "{refused}");
}

/// What a broker says that does not start.
fn refused_start(set: &[(String, String)]) -> String {
    let folder = scratch::folder("oauth-refused");
    let mut command = process::command(corelane_tests::broker::binary());
    command.arg("start").arg("--data-dir").arg(&folder);
    command.args(["--listen", "SASL_PLAINTEXT://127.0.0.1:0", "--cores", "0"]);
    for (name, value) in set {
        command.args(["--set", &format!("{name}={value}")]);
    }
    let out = command.output().expect("corelane");
    assert!(!out.status.success(), "it starts");
    format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr))
}

#[test]
fn a_broker_does_not_start_without_keys() {
    if !is_corelane() {
        return;
    }
    let unset = [("sasl.enabled.mechanisms".to_owned(), "OAUTHBEARER".to_owned())];
    let refused = refused_start(&unset);
    assert!(refused.contains("OAUTHBEARER needs sasl.oauthbearer.jwks.endpoint.url"), "{refused}");
    let provider = Provider::start("k", None);
    provider.say(None);
    let refused = refused_start(&properties(&provider.jwks_url()));
    assert!(refused.contains("the JWKS at http://localhost") && refused.contains("503"), "{refused}");
    provider.say(Some("[]"));
    let refused = refused_start(&properties(&provider.jwks_url()));
    assert!(refused.contains("it is no JSON object"), "{refused}");
    let refused = refused_start(&properties("file:///nonexistent/jwks.json"));
    assert!(refused.contains("the JWKS at file:///nonexistent/jwks.json: No such file"), "{refused}");
}

#[test]
fn no_request_says_whose_tokens_are_believed() {
    if !is_corelane() {
        return;
    }
    let provider = Provider::start("k", None);
    let broker = start(&provider.jwks_url(), &[]);
    let mut connection = Connection::open(broker.bootstrap()).expect("a connection");
    for name in [
        "sasl.oauthbearer.jwks.endpoint.url",
        "listener.name.sasl_plaintext.sasl.oauthbearer.jwks.endpoint.url",
        "listener.name.sasl_plaintext.oauthbearer.sasl.oauthbearer.expected.issuer",
        "listener.name.plaintext.oauthbearer.sasl.oauthbearer.jwks.endpoint.url",
        "listener.name.plaintext.sasl.oauthbearer.sub.claim.name",
        "listener.name.sasl_plaintext.oauthbearer.sasl.jaas.config",
    ] {
        let (code, message) = configs::alter(&mut connection, configs::BROKER, "1", name, Some("file:///tmp/other"));
        assert!(code == 42 && message.contains("Cannot update these configs dynamically"), "{name}: {code} {message}");
    }
}
