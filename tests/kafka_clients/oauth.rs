//! OAUTHBEARER with Apache Kafka's clients, and its validator beside ours.

use corelane_sasl::oauth::{Expected, KeySet, first_message};
use corelane_tests::broker::{Broker, BrokerOptions, is_corelane};
use corelane_tests::connection::Connection;
use corelane_tests::issuer::{Issuer, base64, jwks};
use corelane_tests::java::Java;
use corelane_tests::kafka::Kafka;
use corelane_tests::librdkafka::create_topic;
use corelane_tests::oauth::{AUDIENCE, ISSUER, Provider, claims, now_s, properties};
use corelane_tests::sasl::{handshake, token};
use corelane_tests::{scratch, wait};
use std::fs;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);
/// Where both judge: so much that no token's time comes or goes while they do.
const SKEW_S: i64 = 2000;

/// In plain text at the first port, with tokens four further on. alice may do all, and nobody else anything.
fn serve(jwks_url: &str) -> Broker {
    let options = BrokerOptions {
        set: properties(jwks_url),
        advertise: "node".into(),
        listen: Some(|port| format!("PLAINTEXT://127.0.0.1:{port},SASL_PLAINTEXT://127.0.0.1:{}", port + 4)),
        ..BrokerOptions::default()
    };
    let options = options
        .set("num.partitions", 1)
        .set("authorizer.class.name", "org.apache.kafka.metadata.authorizer.StandardAuthorizer")
        .set("super.users", "User:ANONYMOUS;User:alice");
    Broker::start(options)
}

fn check(broker: &Broker, token_url: &str, name: &str) {
    let place = format!("127.0.0.1:{} {token_url}", broker.port() + 4);
    let out = Java::shared().run("OAuthChecks", &[&place, name]).ok();
    assert!(out.contains(&format!("ok {name}")), "{out}");
}

#[test]
fn javas_clients_come_with_tokens() {
    if !is_corelane() {
        return;
    }
    let provider = Provider::start("first", None);
    let broker = serve(&provider.jwks_url());
    check(&broker, &provider.token_url(), "records_go_through");
    provider.hand_out("alice", 10);
    let before = provider.asked().1;
    check(&broker, &provider.token_url(), "sessions_are_renewed");
    assert!(provider.asked().1 >= before + 2, "{:?}", provider.asked());
    // With new keys, tokens out of a file.
    provider.rotate("second");
    let folder = scratch::folder("oauth-clients");
    let file = |name: &str, token: &str| {
        let path = folder.join(name);
        fs::write(&path, token).expect("a file");
        format!("file://{}", path.display())
    };
    let alice = file("alice", &provider.token(&claims("alice", 3600)));
    // The first one to show the new key is refused, and has the keys read again.
    let stranger = file("stranger", &Issuer::new("second").token(&claims("alice", 3600)));
    check(&broker, &stranger, "a_strangers_token_is_refused");
    wait::until("the new key", LIMIT, || (provider.asked().0 > 1).then_some(()));
    check(&broker, &alice, "records_go_through");
    // Access rules are about the name in the token.
    create_topic(&broker, "closed", 1, &[]);
    let bob = file("bob", &provider.token(&claims("bob", 3600)));
    let place = format!("127.0.0.1:{} {bob}", broker.port() + 4);
    let out = Java::shared().run("OAuthChecks", &[&place, "records_go_through"]);
    assert!(out.status != 0 && out.stderr.contains("TopicAuthorizationException"), "{out:?}");
    let line = "principal=\"User:bob\"";
    wait::until(line, LIMIT, || broker.log().contains(line).then_some(()));
}

/// What Corelane makes of a token, as `Tokens.java` prints it.
fn judge(expected: &Expected, keys: &KeySet, token: &str) -> String {
    let now_ms = i64::try_from(now_s() * 1000).expect("a date");
    match expected.verify(token, keys, now_ms) {
        Ok(identity) => format!("{} {}", identity.user, identity.expires_ms.expect("an end")),
        Err(_) => "refused".to_owned(),
    }
}

#[test]
fn both_judge_tokens_alike() {
    let folder = scratch::folder("oauth-judged");
    let right = claims("alice", 3600);
    let made = Java::shared().run("Tokens", &["make", &right]).ok();
    let (set, made) = made.split_once('\n').expect("a JWKS");
    let issuer = Issuer::new("ours");
    let set = set.replacen(r#"{"keys":["#, &format!(r#"{{"keys":[{},"#, issuer.jwk()), 1);
    let path = folder.join("jwks.json");
    fs::write(&path, &set).expect("a file");
    let keys = KeySet::parse(set.as_bytes()).expect("a JWKS");
    let mut tokens: Vec<(String, String)> = made
        .lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(name, token)| {
            assert_ne!(judge(&expected(&[AUDIENCE], Some(ISSUER)), &keys, token), "refused", "{name}");
            (name.to_owned(), token.to_owned())
        })
        .collect();
    assert_eq!(tokens.len(), 12);
    let now = now_s();
    let (plus, minus) = (|n: u64| (now + n).to_string(), |n: u64| (now - n).to_string());
    for (from, to) in [
        ("alice", " alice ".to_owned()),
        ("alice", String::new()),
        ("alice", " ".to_owned()),
        (r#""alice""#, "7".to_owned()),
        (r#""alice""#, "null".to_owned()),
        (r#""alice""#, r#"["alice"]"#.to_owned()),
        (r#""corelane""#, r#"["x","corelane"]"#.to_owned()),
        (r#""corelane""#, r#"["x"]"#.to_owned()),
        (r#""corelane""#, "[]".to_owned()),
        (r#""corelane""#, r#"["corelane",7]"#.to_owned()),
        (r#""corelane""#, "7".to_owned()),
        (r#""corelane""#, "null".to_owned()),
        (ISSUER, "https://issuer.example/".to_owned()),
        (&format!(r#""{ISSUER}""#), "null".to_owned()),
        (&format!(r#""{ISSUER}""#), "7".to_owned()),
        (r#"["kafka"]"#, r#""a b""#.to_owned()),
        (r#"["kafka"]"#, r#"" ""#.to_owned()),
        (r#"["kafka"]"#, r#"["a","b"]"#.to_owned()),
        (r#"["kafka"]"#, r#"["a","a "]"#.to_owned()),
        (r#"["kafka"]"#, r#"["a",""]"#.to_owned()),
        (r#"["kafka"]"#, "[]".to_owned()),
        (r#"["kafka"]"#, "7".to_owned()),
        (r#"["kafka"]"#, "null".to_owned()),
        ("\"scope\"", r#""jti":7,"scope""#.to_owned()),
        ("\"scope\"", r#""sub":"root","scope""#.to_owned()),
        ("\"scope\"", r#""x":{"a":1,"a":2},"scope""#.to_owned()),
        ("\"scope\"", format!(r#""nbf":{},"scope""#, minus(60))),
        ("\"scope\"", format!(r#""nbf":{},"scope""#, plus(1000))),
        ("\"scope\"", format!(r#""nbf":{},"scope""#, plus(3000))),
        ("\"scope\"", format!(r#""nbf":{},"scope""#, plus(4000))),
        ("\"scope\"", r#""nbf":"x","scope""#.to_owned()),
        ("\"exp\"", "\"exq\"".to_owned()),
        ("\"iat\"", "\"iau\"".to_owned()),
        (&plus(3600), minus(1000)),
        (&plus(3600), minus(3000)),
        (&plus(3600), format!("{}.7", plus(100))),
        (&plus(3600), "1e10".to_owned()),
        (&plus(3600), "\"1\"".to_owned()),
        (&plus(3600), "true".to_owned()),
        (&plus(3600), i64::MAX.to_string()),
        (&plus(3600), "-1".to_owned()),
        (&format!("\"iat\":{now}"), format!("\"iat\":{}", plus(100))),
        (&format!("\"iat\":{now}"), format!("\"iat\":{}", plus(4000))),
        (&format!("\"iat\":{now}"), "\"iat\":-1".to_owned()),
    ] {
        let claims = right.replacen(from, &to, 1);
        tokens.push((format!("{from} -> {to}"), issuer.token(&claims)));
    }
    for (name, header) in [
        ("no kid", r#"{"alg":"ES256"}"#),
        ("another kid", r#"{"alg":"ES256","kid":"x"}"#),
        ("the kid of another kind", r#"{"alg":"ES256","kid":"key-0"}"#),
        ("a kid that is no text", r#"{"alg":"ES256","kid":7}"#),
        ("no alg", r#"{"kid":"ours"}"#),
        ("alg none", r#"{"alg":"none","kid":"ours"}"#),
        ("HS256", r#"{"alg":"HS256","kid":"ours"}"#),
        ("ES384", r#"{"alg":"ES384","kid":"ours"}"#),
        ("an extension", r#"{"alg":"ES256","kid":"ours","crit":["x"],"x":1}"#),
        ("a name twice", r#"{"alg":"ES256","kid":"ours","kid":"ours"}"#),
    ] {
        tokens.push((name.to_owned(), issuer.token_of(header, &right)));
    }
    let good = issuer.token(&right);
    let parts: Vec<&str> = good.split('.').collect();
    let root = base64(right.replace("alice", "root"));
    tokens.push(("another payload".into(), format!("{}.{root}.{}", parts[0], parts[2])));
    tokens.push(("unsigned".into(), format!("{}.{}.", base64(r#"{"alg":"none"}"#), parts[1])));
    tokens.push(("two parts".into(), format!("{}.{}", parts[0], parts[1])));
    tokens.push(("four parts".into(), format!("{good}.x")));
    tokens.push(("not JSON".into(), issuer.token("alice")));
    tokens.push(("a list".into(), issuer.token("[]")));
    tokens.push(("a stranger's".into(), Issuer::new("ours").token(&right)));
    let bare = right.replacen(&format!(r#""aud":"{AUDIENCE}","#), "", 1);
    tokens.push(("no audience".into(), issuer.token(&bare)));
    tokens.push(("no issuer".into(), issuer.token(&bare.replacen(&format!(r#""iss":"{ISSUER}","#), "", 1))));
    let input: String = tokens.iter().map(|(_, token)| format!("{token}\n")).collect();
    let url = format!("file://{}", path.display());
    for (audience, issuer) in
        [(&[AUDIENCE][..], Some(ISSUER)), (&["x", AUDIENCE], None), (&[], Some(ISSUER)), (&[], None)]
    {
        let mut arguments = vec!["judge".to_owned(), url.clone()];
        arguments.push(format!("sasl.oauthbearer.expected.audience={}", audience.join(",")));
        arguments.push(format!("sasl.oauthbearer.clock.skew.seconds={SKEW_S}"));
        arguments.extend(issuer.map(|issuer| format!("sasl.oauthbearer.expected.issuer={issuer}")));
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let out = Java::shared().run_with("Tokens", &arguments, input.as_bytes());
        assert_eq!(out.status, 0, "{}", out.stderr);
        let of_kafka: Vec<&str> = out.stdout.lines().collect();
        assert_eq!(of_kafka.len(), tokens.len(), "{}", out.stderr);
        let expected = expected(audience, issuer);
        let other = tokens.iter().zip(of_kafka).filter_map(|((name, token), of_kafka)| {
            let ours = judge(&expected, &keys, token);
            (ours != of_kafka).then(|| format!("{name}: {of_kafka} by Kafka, {ours} here"))
        });
        let other: Vec<String> = other.collect();
        assert!(other.is_empty(), "{audience:?} {issuer:?}:\n{}", other.join("\n"));
    }
}

/// What a listener answers to the messages of one connection, and how it ends.
fn answers(address: &str, messages: &[Vec<u8>]) -> Vec<String> {
    let mut connection = Connection::open(address).expect("a connection");
    let shaken = handshake(&mut connection, 1, "OAUTHBEARER").expect("an answer");
    assert_eq!((shaken.error_code, shaken.mechanisms.len()), (0, 1));
    let mut all = Vec::new();
    for message in messages {
        match token(&mut connection, 2, message.clone()) {
            Ok(answer) => {
                let text = String::from_utf8_lossy(&answer.auth_bytes).into_owned();
                let stays = answer.session_lifetime_ms > 0;
                all.push(format!("{} {:?} {text:?} {stays}", answer.error_code, answer.error_message));
            }
            Err(_) => all.push("closed".to_owned()),
        }
    }
    all
}

/// What Apache Kafka answers is written down here. The long form asks it: it takes its time to start.
#[test]
fn both_brokers_answer_the_same_bytes() {
    if !is_corelane() {
        return;
    }
    let issuer = Issuer::new("ours");
    let path = scratch::folder("oauth-beside").join("jwks.json");
    fs::write(&path, jwks(&[&issuer])).expect("a file");
    let url = format!("file://{}", path.display());
    let kafka = std::env::var_os("CORELANE_LONG").map(|_| kafka(&url));
    let corelane = serve(&url);
    let right = first_message(&issuer.token(&claims("alice", 3600)));
    let wrong = first_message(&Issuer::new("ours").token(&claims("alice", 3600)));
    let other = first_message(&issuer.token(&claims("alice", 60).replace(AUDIENCE, "other")));
    let named = |name: &str| {
        format!("n,a={name},\u{1}auth=Bearer {}\u{1}\u{1}", issuer.token(&claims("alice", 3600))).into_bytes()
    };
    let text = |text: &str| text.as_bytes().to_vec();
    const IN: &str = r#"0 Some("") "" true"#;
    const DENIED: &str = r#"0 Some("") "{\"status\":\"invalid_token\"}" false"#;
    const OUT: &str = r#"58 Some("{\"status\":\"invalid_token\"}") "" false"#;
    const BROKEN: &str = r#"58 Some("Authentication failed during authentication due to invalid credentials with SASL mechanism OAUTHBEARER") "" false"#;
    const OTHER: &str = r#"58 Some("Authentication failed: Client requested an authorization id (bob) that is different from the token's principal name (alice)") "" false"#;
    let cases: [(Vec<Vec<u8>>, &[&str]); 13] = [
        (vec![right], &[IN]),
        (vec![wrong.clone(), vec![1]], &[DENIED, OUT]),
        (vec![other, vec![1]], &[DENIED, OUT]),
        (vec![first_message("a.b"), vec![1]], &[DENIED, OUT]),
        (vec![wrong, text("n")], &[DENIED, BROKEN]),
        (vec![named("alice")], &[IN]),
        (vec![named("bob")], &[OTHER]),
        (vec![text("")], &[BROKEN]),
        (vec![vec![1]], &[BROKEN]),
        (vec![text("n,,\x01auth=Bearer x\x01")], &[BROKEN]),
        (vec![text("n,,\x01other=Bearer x\x01\x01")], &[BROKEN]),
        (vec![text("n,,\x01auth=Bearer x,y\x01\x01")], &[BROKEN]),
        (vec![text("n,,\x01auth=Bearer x\x01bad1=x\x01\x01")], &[BROKEN]),
    ];
    let mut brokers = vec![("Corelane", format!("127.0.0.1:{}", corelane.port() + 4))];
    if let Some(kafka) = &kafka {
        kafka.wait_ready();
        brokers.push(("Apache Kafka", kafka.sasl.clone()));
    }
    for (broker, address) in brokers {
        for (messages, expected) in &cases {
            let said: Vec<_> = messages.iter().map(|m| String::from_utf8_lossy(m)).collect();
            assert_eq!(answers(&address, messages), *expected, "{broker}: {said:?}");
        }
    }
}

/// Apache Kafka with the listener of [`serve`].
fn kafka(jwks_url: &str) -> Kafka {
    let package = "org.apache.kafka.common.security.oauthbearer";
    let of_mechanism = "listener.name.sasl_plaintext.oauthbearer.sasl";
    let (jaas, handler) =
        (format!("{of_mechanism}.jaas.config"), format!("{of_mechanism}.server.callback.handler.class"));
    let module = format!("{package}.OAuthBearerLoginModule required;");
    let class = format!("{package}.OAuthBearerValidatorCallbackHandler");
    let ours = properties(jwks_url);
    let mut more: Vec<(&str, &str)> = ours.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    more.extend([(jaas.as_str(), module.as_str()), (&handler, &class)]);
    Kafka::start_with_sasl(&more, None, &format!("-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls={jwks_url}"))
}

fn expected(audience: &[&str], issuer: Option<&str>) -> Expected {
    Expected {
        audience: audience.iter().map(|one| (*one).to_owned()).collect(),
        issuer: issuer.map(str::to_owned),
        clock_skew_s: SKEW_S,
        subject_claim: "sub".into(),
        scope_claim: "scope".into(),
    }
}
