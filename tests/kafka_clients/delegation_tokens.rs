//! Apache Kafka's Java clients with a delegation token: it is all that they have, through re-authentications and a crash.

use corelane_tests::broker::{Broker, BrokerOptions, is_corelane};
use corelane_tests::java::Java;
use corelane_tests::scratch;
use corelane_tests::tls::Authority;
use std::fs;

const SETTINGS: [(&str, &str); 7] = [
    ("num.partitions", "1"),
    ("delegation.token.secret.key", "key"),
    ("sasl.enabled.mechanisms", "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512"),
    ("connections.max.reauth.ms", "3000"),
    (
        "listener.name.sasl_ssl.plain.sasl.jaas.config",
        "org.apache.kafka.common.security.plain.PlainLoginModule required user_alice=\"secret\";",
    ),
    ("authorizer.class.name", "org.apache.kafka.metadata.authorizer.StandardAuthorizer"),
    ("super.users", "User:alice"),
];

#[test]
fn clients_with_a_token_come_as_its_owner() {
    if !is_corelane() {
        return;
    }
    let folder = scratch::folder("token-clients");
    let authority = Authority::make(&folder);
    let options = BrokerOptions {
        set: authority.properties(),
        advertise: "node".into(),
        listen: Some(|port| format!("PLAINTEXT://127.0.0.1:{port},SASL_SSL://127.0.0.1:{}", port + 4)),
        ..BrokerOptions::default()
    };
    let mut broker = Broker::start(SETTINGS.iter().fold(options, |options, (k, v)| options.set(k, v)));
    let bootstrap = format!("localhost:{}", broker.port() + 4);
    let ca = authority.pem("ca").display().to_string();
    let client = |mechanism: &str, jaas: &str| {
        let text = format!(
            "security.protocol=SASL_SSL\nsasl.mechanism={mechanism}\nssl.truststore.type=PEM\n\
             ssl.truststore.location={ca}\nsasl.jaas.config=org.apache.kafka.common.security.{jaas};\n"
        );
        let path = folder.join(format!("{mechanism}.properties"));
        fs::write(&path, text).expect("a file");
        path.display().to_string()
    };
    let run = |class: &str, config: &str, arguments: &[&str], input: &[u8]| {
        let common = ["--bootstrap-server", &bootstrap, "--command-config", config];
        Java::shared().run_with(&format!("org.apache.kafka.tools.{class}"), &[&common, arguments].concat(), input)
    };
    let alice = client("PLAIN", "plain.PlainLoginModule required username=\"alice\" password=\"secret\"");
    let made = run("DelegationTokenCommand", &alice, &["--create", "--max-life-time-period", "-1"], b"").ok();
    let words: Vec<&str> = made.lines().last().expect("a line").split_whitespace().collect();
    let &[id, hmac, "User:alice", "User:alice", ..] = words.as_slice() else { panic!("{made}") };
    let jaas = |hmac: &str| {
        format!("scram.ScramLoginModule required username=\"{id}\" password=\"{hmac}\" tokenauth=\"true\"")
    };
    let mut written = String::new();
    for mechanism in ["SCRAM-SHA-256", "SCRAM-SHA-512"] {
        let config = client(mechanism, &jaas(hmac));
        let line = format!("by {mechanism}\n");
        run("ConsoleProducer", &config, &["--topic", "by-token"], line.as_bytes()).ok();
        written += &line;
        let count = written.lines().count().to_string();
        let options = ["--topic", "by-token", "--from-beginning", "--max-messages", &count];
        assert_eq!(run("consumer.ConsoleConsumer", &config, &options, b"").ok(), written);
        broker.kill();
        broker.resume();
    }
    let refused = run("TopicCommand", &client("SCRAM-SHA-256", &jaas("AAAA")), &["--list"], b"");
    let told = format!("{}{}", refused.stdout, refused.stderr);
    assert!(refused.status != 0 && told.contains("Authentication failed"), "{told}");
    // It is good for everything but more tokens.
    let config = client("SCRAM-SHA-256", &jaas(hmac));
    let refused = run("DelegationTokenCommand", &config, &["--create", "--max-life-time-period", "-1"], b"");
    assert!(
        refused.status != 0
            && refused.stderr.contains("DelegationTokenDisabled")
                | refused.stderr.contains("Delegation Token requests are not allowed"),
        "{}",
        refused.stderr
    );
    let expire = ["--expire", "--expiry-time-period", "-1", "--hmac", hmac];
    run("DelegationTokenCommand", &alice, &expire, b"").ok();
    assert_ne!(run("TopicCommand", &config, &["--list"], b"").status, 0);
}
