//! A client that shows a token: one of OAUTHBEARER, or a delegation token.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use corelane_protocol::messages::CreateDelegationTokenRequest;
use corelane_sasl::Mechanism;
use corelane_tests::broker::{Broker, BrokerOptions, is_corelane};
use corelane_tests::command::{Output, corelane_with};
use corelane_tests::connection::Connection;
use corelane_tests::issuer::{Issuer, jwks};
use corelane_tests::oauth::{Provider, claims, properties};
use corelane_tests::sasl::authenticate;
use corelane_tests::tls::Authority;
use corelane_tests::{scratch, wait};
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, UnparsedPublicKey,
};
use serde_json::{Value, json};
use std::fs;
use std::time::Duration;

/// In plain text at the first port, with tokens four further on; `keys`: a file with those that sign them.
fn options(keys: &str) -> BrokerOptions {
    BrokerOptions {
        set: properties(&format!("file://{keys}")),
        advertise: "node".into(),
        listen: Some(|port| format!("PLAINTEXT://127.0.0.1:{port},SASL_PLAINTEXT://127.0.0.1:{}", port + 4)),
        ..BrokerOptions::default()
    }
}

#[test]
fn who_shows_a_token_comes_in() {
    if !is_corelane() {
        return;
    }
    let folder = scratch::folder("cli-tokens");
    let file = |name: &str, text: &str| {
        let path = folder.join(name);
        fs::write(&path, text).expect("a file");
        path.display().to_string()
    };
    let issuer = Issuer::new("ours");
    let options = options(&file("jwks", &jwks(&[&issuer])));
    let users = "org.apache.kafka.common.security.plain.PlainLoginModule required user_alice=\"secret\";";
    let options = options
        .set("listener.name.sasl_plaintext.sasl.enabled.mechanisms", "PLAIN,SCRAM-SHA-256,OAUTHBEARER")
        .set("listener.name.sasl_plaintext.plain.sasl.jaas.config", users)
        .set("delegation.token.secret.key", "the-key-of-keys");
    let broker = Broker::start(options);
    let bootstrap = format!("127.0.0.1:{}", broker.port() + 4);
    let with = |mechanism: &str, module: &str, more: &str| -> Output {
        let text = format!(
            "security.protocol=SASL_PLAINTEXT\nsasl.mechanism={mechanism}\n\
             sasl.jaas.config=org.apache.kafka.common.security.{module};\n{more}"
        );
        let config = file("client.properties", &text);
        corelane_with(&bootstrap, &["topic", "list", "--json", "--command-config", &config], b"")
    };
    // Of OAUTHBEARER.
    let token = issuer.token(&claims("alice", 3600));
    let path = file("token", &format!("{token}\n"));
    let more = format!(
        "sasl.oauthbearer.token.endpoint.url=file://{path}\n\
         sasl.login.callback.handler.class=org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginCallbackHandler\n"
    );
    let bearer = || with("OAUTHBEARER", "oauthbearer.OAuthBearerLoginModule required", &more);
    bearer().json();
    let forged = Issuer::new("ours").token(&claims("alice", 3600));
    file("token", &forged);
    let refused = bearer();
    assert!(!refused.stderr.contains(&forged), "{}", refused.stderr);
    refused.fails(6, &["the bearer of", &path, "SASL_AUTHENTICATION_FAILED"]);
    file("token", "two words");
    bearer().fails(1, &["there is no token in", &path]);
    // A delegation token, which alice has made.
    let mut alice = Connection::open(&bootstrap).expect("a connection");
    authenticate(&mut alice, Mechanism::Plain, "alice", "secret").expect("alice");
    let made = alice.call(3, &CreateDelegationTokenRequest { max_lifetime_ms: -1, ..Default::default() });
    assert_eq!(made.error_code, 0);
    let scram = |hmac: &[u8], more: &str| {
        let hmac = STANDARD.encode(hmac);
        let module =
            format!("scram.ScramLoginModule required username=\"{}\" password=\"{hmac}\"{more}", &*made.token_id);
        with("SCRAM-SHA-256", &module, "")
    };
    scram(&made.hmac, " tokenauth=\"true\"").json();
    scram(&made.hmac, "").fails(6, &["user", "SASL_AUTHENTICATION_FAILED"]);
    scram(b"another", " tokenauth=\"true\"").fails(6, &["delegation token", "SASL_AUTHENTICATION_FAILED"]);
}

#[test]
fn tokens_come_from_a_provider() {
    if !is_corelane() {
        return;
    }
    let folder = scratch::folder("cli-provider");
    let authority = Authority::make(&folder);
    let provider = Provider::start("ours", Some(authority.server("broker")));
    let keys = folder.join("jwks");
    fs::write(&keys, provider.jwks()).expect("a file");
    let broker = Broker::start(options(&keys.display().to_string()));
    let bootstrap = format!("127.0.0.1:{}", broker.port() + 4);
    let trust = format!(" ssl.truststore.type=\"PEM\" ssl.truststore.location=\"{}\"", authority.pem("ca").display());
    let run = |options: &str, more: &str, arguments: &[&str]| -> Output {
        let text = format!(
            "security.protocol=SASL_PLAINTEXT\nsasl.mechanism=OAUTHBEARER\n\
             sasl.oauthbearer.token.endpoint.url={}\nsasl.login.retry.backoff.ms=20\n\
             sasl.jaas.config=org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required{options};\n{more}",
            provider.token_url()
        );
        let config = folder.join(format!("{}.properties", arguments.join("-")));
        fs::write(&config, text).expect("a file");
        corelane_with(&bootstrap, &[arguments, &["--command-config", &config.display().to_string()]].concat(), b"one\n")
    };
    let new = "sasl.oauthbearer.client.credentials.client.id=app\n\
               sasl.oauthbearer.client.credentials.client.secret=app:secret\nsasl.oauthbearer.scope=kafka\n";
    let list = ["topic", "list", "--json"];
    let asked = |who: &str, body: &str| (format!("Basic {}", STANDARD.encode(who)), body.to_owned());
    run(&trust, new, &list).json();
    assert_eq!(provider.last_asked(), asked("app:app:secret", "grant_type=client_credentials&scope=kafka"));
    assert_eq!(provider.asked().1, 1, "one token for all connections");
    // As the login module's options, and encoded.
    let old = format!("{trust} clientId=\"a b\" clientSecret=\"s&t\"");
    run(&old, "sasl.oauthbearer.header.urlencode=true\n", &list).json();
    assert_eq!(provider.last_asked(), asked("a+b:s%26t", "grant_type=client_credentials"));
    // A provider who is away for a moment, and one who does not know the client.
    let before = provider.asked().1;
    provider.refuse(&[("503 Service Unavailable", ""), ("500 Internal Server Error", "{}")]);
    run(&trust, new, &list).json();
    assert_eq!(provider.asked().1, before + 3);
    provider.refuse(&[("401 Unauthorized", r#"{"error":"invalid_client","error_description":"who\u001b[2J?"}"#)]);
    let refused = run(&trust, new, &list);
    assert!(!refused.stderr.contains("app:secret") && !refused.stderr.contains('\u{1b}'), "{}", refused.stderr);
    refused.fails(6, &["no token from", &provider.token_url(), "401", "invalid_client", "SASL_AUTHENTICATION_FAILED"]);
    assert_eq!(provider.asked().1, before + 4, "it is not asked again");
    provider.refuse(&[("200 OK", r#"{"access_token":""}"#)]);
    run(&trust, new, &list).fails(6, &["its answer has none"]);
    // Not over a connection that anybody may answer.
    let before = provider.asked().1;
    assert_ne!(run("", &format!("{new}sasl.login.retry.backoff.max.ms=20\n"), &list).code, Some(0));
    assert_eq!(provider.asked().1, before);
    // Tokens that end while their bearer stays: he gets others.
    const LIFETIME_S: u64 = 8;
    run(&trust, new, &["topic", "create", "long", "-p", "2"]).ok();
    provider.hand_out("alice", LIFETIME_S);
    let before = provider.asked().1;
    std::thread::scope(|threads| {
        let reader = threads.spawn(|| run(&trust, new, &["consume", "long", "--from", "beginning", "-n", "1"]));
        let longer = Duration::from_secs(LIFETIME_S + 1);
        assert!(wait::within(longer, || reader.is_finished().then_some(())).is_none());
        run(&trust, new, &["produce", "long"]).ok();
        assert_eq!(reader.join().expect("the reader").ok(), "one\n");
    });
    assert!(provider.asked().1 >= before + 3, "{} tokens", provider.asked().1 - before);
    assert!(!broker.log().contains("its session has ended"), "{}", broker.log());
}

/// What a form says.
fn field<'a>(form: &'a str, name: &str) -> Option<&'a str> {
    form.split('&').find_map(|field| field.strip_prefix(name)?.strip_prefix('='))
}

#[test]
fn tokens_come_for_an_assertion_that_the_client_has_signed() {
    if !is_corelane() {
        return;
    }
    let folder = scratch::folder("cli-assertion");
    let file = |name: &str, text: &str| {
        let path = folder.join(name);
        fs::write(&path, text).expect("a file");
        path.display().to_string()
    };
    let provider = Provider::start("ours", None);
    let broker = Broker::start(options(&file("jwks", &provider.jwks())));
    let bootstrap = format!("127.0.0.1:{}", broker.port() + 4);
    let run = |more: &str| -> Output {
        let text = format!(
            "security.protocol=SASL_PLAINTEXT\nsasl.mechanism=OAUTHBEARER\nsasl.oauthbearer.token.endpoint.url={}\n\
             sasl.jaas.config=org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required;\n{more}",
            provider.token_url()
        );
        let config = file("client.properties", &text);
        corelane_with(&bootstrap, &["topic", "list", "--json", "--command-config", &config], b"")
    };
    let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).expect("a key");
    let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, document.as_ref(), &SystemRandom::new());
    let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key.expect("a key").public_key().as_ref().to_vec());
    let body = STANDARD.encode(document.as_ref());
    let lines: Vec<&str> = body.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).expect("text")).collect();
    let pem = format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", lines.join("\n"));
    let own = format!(
        "sasl.oauthbearer.assertion.algorithm=ES256\nsasl.oauthbearer.assertion.private.key.file={}\n\
         sasl.oauthbearer.assertion.claim.iss=app\nsasl.oauthbearer.assertion.claim.aud=provider\n\
         sasl.oauthbearer.assertion.claim.exp.seconds=90\nsasl.oauthbearer.assertion.claim.jti.include=true\n\
         sasl.oauthbearer.scope=kafka\n",
        file("key.pem", &pem)
    );
    let bearer = "sasl.oauthbearer.jwt.retriever.class=\
                  org.apache.kafka.common.security.oauthbearer.JwtBearerJwtRetriever\n";
    // What it signs by itself is its key's, and says what it is told to say.
    let claims = |assertion: &str| -> Value {
        let (signed, signature) = assertion.rsplit_once('.').expect("three parts");
        let signature = URL_SAFE_NO_PAD.decode(signature).expect("a signature");
        public.verify(signed.as_bytes(), &signature).expect("the signature of its key");
        let (_, claims) = signed.split_once('.').expect("three parts");
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).expect("claims")).expect("JSON")
    };
    let asked = |more: &str, name: &str, grant: &str| -> String {
        run(more).json();
        let (who, form) = provider.last_asked();
        let found = (who.as_str(), field(&form, "grant_type"), field(&form, "scope"));
        assert_eq!(found, ("", Some(grant), Some("kafka")), "{form}");
        field(&form, name).expect("an assertion").to_owned()
    };
    const GRANT: &str = "urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer";
    let (first, second) = (format!("{own}{bearer}"), own.clone());
    let first = asked(&first, "assertion", GRANT);
    let said = claims(&first);
    assert_eq!((&said["iss"], &said["aud"]), (&json!("app"), &json!("provider")), "{said}");
    assert_eq!(said["exp"].as_u64(), said["iat"].as_u64().map(|now| now + 90), "{said}");
    // Each has an id of its own; and one may stand for the secret of a client.
    let other = claims(&asked(&second, "client_assertion", "client_credentials"));
    assert!(said["jti"].is_string() && said["jti"] != other["jti"], "{said} {other}");
    // One that is made already.
    let ready =
        format!("{bearer}sasl.oauthbearer.scope=kafka\nsasl.oauthbearer.assertion.file={}\n", file("ready", &first));
    assert_eq!(asked(&ready, "assertion", GRANT), first);
    // Nobody is asked without one.
    let before = provider.asked().1;
    run(&own.replace("ES256", "RS256")).fails(2, &["sasl.oauthbearer.assertion.private.key.file", "no key of RS256"]);
    file("ready", "x");
    run(&ready).fails(2, &["sasl.oauthbearer.assertion.file", "no signed JWT"]);
    assert_eq!(provider.asked().1, before);
    // A provider that does not believe it.
    provider.refuse(&[("400 Bad Request", r#"{"error":"invalid_grant"}"#)]);
    run(&format!("{own}{bearer}")).fails(6, &["no token from", "400", "invalid_grant", "SASL_AUTHENTICATION_FAILED"]);
}
