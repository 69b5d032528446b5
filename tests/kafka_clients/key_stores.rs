//! Stores of JKS and PKCS12, made by `keytool`, on both sides of TLS: at the broker, at Apache Kafka's tools and at `corelane`.

use corelane_tests::broker::{Broker, BrokerOptions, is_corelane};
use corelane_tests::command::corelane_with;
use corelane_tests::java::Java;
use corelane_tests::keytool::{KeyTool, STORE_SECRET};
use corelane_tests::scratch;
use std::fs;

#[test]
fn clients_and_broker_know_one_another_by_stores_of_java() {
    if !is_corelane() {
        return;
    }
    let folder = scratch::folder("key-stores");
    let tool = KeyTool::make(&folder);
    tool.key("broker.jks", "JKS", "EC", "broker", "key-secret");
    tool.key("broker.p12", "PKCS12", "RSA", "broker", STORE_SECRET);
    tool.key("alice.jks", "JKS", "EC", "alice", "alice-secret");
    tool.trust("trust.jks", "JKS");
    tool.trust("trust.p12", "PKCS12");
    let options = BrokerOptions {
        advertise: "node".into(),
        listen: Some(|port| {
            format!("PLAINTEXT://127.0.0.1:{port},JKS://127.0.0.1:{},P12://127.0.0.1:{}", port + 4, port + 8)
        }),
        ..BrokerOptions::default()
    };
    let options = options
        .set("listener.security.protocol.map", "PLAINTEXT:PLAINTEXT,JKS:SSL,P12:SSL")
        .set("num.partitions", 1)
        .set("ssl.client.auth", "required")
        .set("ssl.keystore.password", STORE_SECRET)
        .set("listener.name.jks.ssl.keystore.location", tool.file("broker.jks"))
        .set("listener.name.jks.ssl.key.password", "key-secret")
        // Without a password, as in Kafka: nobody looks whether it was changed.
        .set("listener.name.jks.ssl.truststore.location", tool.file("trust.jks"))
        .set("listener.name.p12.ssl.keystore.type", "PKCS12")
        .set("listener.name.p12.ssl.keystore.location", tool.file("broker.p12"))
        .set("listener.name.p12.ssl.truststore.type", "PKCS12")
        .set("listener.name.p12.ssl.truststore.location", tool.file("trust.p12"))
        .set("listener.name.p12.ssl.truststore.password", STORE_SECRET);
    let broker = Broker::start(options);
    let alice = |trust: &str, kind: &str, key_password: &str| {
        let text = format!(
            "security.protocol=SSL\nssl.truststore.type={kind}\nssl.truststore.location={}\nssl.truststore.password={STORE_SECRET}\n\
             ssl.keystore.location={}\nssl.keystore.password={STORE_SECRET}\nssl.key.password={key_password}\n",
            tool.file(trust),
            tool.file("alice.jks"),
        );
        let path = folder.join(format!("{kind}-{key_password}.properties"));
        fs::write(&path, text).expect("properties");
        path.display().to_string()
    };
    let with_jks = alice("trust.jks", "JKS", "alice-secret");
    let with_pkcs12 = alice("trust.p12", "PKCS12", "alice-secret");
    let mut written = String::new();
    for (port, config) in [(broker.port() + 4, &with_jks), (broker.port() + 8, &with_pkcs12)] {
        let bootstrap = format!("localhost:{port}");
        let common = ["--bootstrap-server", &bootstrap, "--command-config", config, "--topic", "stores"];
        let java = |class: &str, arguments: &[&str], input: &[u8]| {
            Java::shared().run_with(class, &[&common, arguments].concat(), input).ok()
        };
        let line = format!("by {config}\n");
        java("org.apache.kafka.tools.ConsoleProducer", &[], line.as_bytes());
        written += &line;
        let count = written.lines().count().to_string();
        let options = ["--from-beginning", "--max-messages", &count];
        assert_eq!(java("org.apache.kafka.tools.consumer.ConsoleConsumer", &options, b""), written);
        let list = |config: &str| corelane_with(&bootstrap, &["topic", "list", "--command-config", config], b"");
        assert!(list(config).ok().contains("stores"));
        let wrong = alice("trust.jks", "JKS", "wrong-secret");
        list(&wrong).fails(2, &["alice.jks", "ssl.key.password is not that of its private key"]);
    }
}
