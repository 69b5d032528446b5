//! TLS with certificates of clients: Apache Kafka's tools, as their users set them up.

use corelane_tests::broker::{Broker, BrokerOptions, is_corelane};
use corelane_tests::java::Java;
use corelane_tests::scratch;
use corelane_tests::tls::Authority;
use std::fs;

#[test]
fn clients_produce_and_consume_over_tls_with_their_certificates() {
    if !is_corelane() {
        return;
    }
    let folder = scratch::folder("tls-clients");
    let authority = Authority::make(&folder);
    let alice = authority.cert(&["alice"]).display().to_string();
    let ca = authority.pem("ca").display().to_string();
    let options = BrokerOptions {
        set: authority.properties(),
        advertise: "node".into(),
        listen: Some(|port| format!("PLAINTEXT://127.0.0.1:{port},SSL://127.0.0.1:{}", port + 4)),
        ..BrokerOptions::default()
    };
    let options = options.set("ssl.client.auth", "required").set("num.partitions", 1);
    let broker = Broker::start(options.set("ssl.cipher.suites", "TLS_AES_128_GCM_SHA256,TLS_AES_256_GCM_SHA384"));
    let bootstrap = format!("localhost:{}", broker.port() + 4);
    let text = format!(
        "security.protocol=SSL\nssl.truststore.type=PEM\nssl.truststore.location={ca}\n\
         ssl.keystore.type=PEM\nssl.keystore.location={alice}\n"
    );
    let config = folder.join("client.properties");
    fs::write(&config, text).expect("client.properties");
    let config = config.display().to_string();
    let common = ["--bootstrap-server", &bootstrap, "--command-config", &config];
    let java = |class: &str, arguments: &[&str], input: &[u8]| {
        Java::shared().run_with(class, &[&common, arguments].concat(), input)
    };
    let made = java("org.apache.kafka.tools.TopicCommand", &["--create", "--topic", "secured"], b"");
    assert!(made.ok().contains("Created topic secured."));
    let lines: String = (0..5000).map(|i| format!("line {i}\n")).collect();
    java("org.apache.kafka.tools.ConsoleProducer", &["--topic", "secured"], lines.as_bytes()).ok();
    let options = ["--topic", "secured", "--from-beginning", "--max-messages", "5000"];
    assert_eq!(java("org.apache.kafka.tools.consumer.ConsoleConsumer", &options, b"").ok(), lines);
    // Who shows none is told, by TLS, that one is needed.
    let text = format!("security.protocol=SSL\nssl.truststore.type=PEM\nssl.truststore.location={ca}\n");
    let anonymous = folder.join("anonymous.properties");
    fs::write(&anonymous, text).expect("anonymous.properties");
    let arguments = ["--bootstrap-server", &bootstrap, "--command-config", &anonymous.display().to_string(), "--list"];
    let refused = Java::shared().run("org.apache.kafka.tools.TopicCommand", &arguments);
    assert_ne!(refused.status, 0);
    let told = format!("{}{}", refused.stdout, refused.stderr);
    // With TLS 1.3 the refusal follows the handshake, for the client's side of it is over by then.
    let why = ["SSL handshake failed", "Failed to process post-handshake messages"];
    assert!(why.iter().any(|why| told.contains(why)), "{told}");
}
