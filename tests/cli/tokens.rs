//! A client that shows a token: one of OAUTHBEARER, or a delegation token.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use corelane_protocol::messages::CreateDelegationTokenRequest;
use corelane_sasl::Mechanism;
use corelane_tests::broker::{Broker, BrokerOptions, is_corelane};
use corelane_tests::command::{Output, corelane_with};
use corelane_tests::connection::Connection;
use corelane_tests::issuer::{Issuer, jwks};
use corelane_tests::oauth::{claims, properties};
use corelane_tests::sasl::authenticate;
use corelane_tests::scratch;
use std::fs;

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
    let options = BrokerOptions {
        set: properties(&format!("file://{}", file("jwks", &jwks(&[&issuer])))),
        advertise: "node".into(),
        listen: Some(|port| format!("PLAINTEXT://127.0.0.1:{port},SASL_PLAINTEXT://127.0.0.1:{}", port + 4)),
        ..BrokerOptions::default()
    };
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
