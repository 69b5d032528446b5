//! SASL, as users of Apache Kafka's tools and of librdkafka set it up.

use corelane_tests::broker::{Broker, BrokerOptions, is_corelane};
use corelane_tests::java::Java;
use corelane_tests::librdkafka::create_topic;
use corelane_tests::scratch;
use corelane_tests::tls::Authority;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use std::fs;
use std::time::Duration;

const PLAIN_USERS: &str = "org.apache.kafka.common.security.plain.PlainLoginModule required user_alice=\"secret\";";

#[test]
fn clients_authenticate_by_every_mechanism() {
    if !is_corelane() {
        return;
    }
    let folder = scratch::folder("sasl-clients");
    let authority = Authority::make(&folder);
    let ca = authority.pem("ca").display().to_string();
    let options = BrokerOptions {
        set: authority.properties(),
        advertise: "node".into(),
        listen: Some(|port| {
            let (sasl, both) = (port + 4, port + 8);
            format!("PLAINTEXT://127.0.0.1:{port},SASL_PLAINTEXT://127.0.0.1:{sasl},SASL_SSL://127.0.0.1:{both}")
        }),
        ..BrokerOptions::default()
    };
    let options = options
        .set("num.partitions", 1)
        .set("sasl.enabled.mechanisms", "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512")
        .set("connections.max.reauth.ms", 3000)
        .set("listener.name.sasl_plaintext.plain.sasl.jaas.config", PLAIN_USERS)
        .set("listener.name.sasl_ssl.plain.sasl.jaas.config", PLAIN_USERS);
    let broker = Broker::start(options);
    create_topic(&broker, "secured", 1, &[]);
    let configs = |arguments: &[&str]| {
        let common = ["--bootstrap-server", broker.bootstrap(), "--entity-type", "users"];
        Java::shared().run("kafka.admin.ConfigCommand", &[&common, arguments].concat()).ok()
    };
    // One mechanism at a time: Apache Kafka refuses two changes of a user in one request.
    for credential in ["SCRAM-SHA-256=[password=secret]", "SCRAM-SHA-512=[iterations=8192,password=secret]"] {
        let made = configs(&["--entity-name", "alice", "--alter", "--add-config", credential]);
        assert!(made.contains("Completed updating config for user alice."), "{made}");
    }
    let client = |protocol: &str, mechanism: &str, password: &str| {
        let module = if mechanism == "PLAIN" { "plain.PlainLoginModule" } else { "scram.ScramLoginModule" };
        let text = format!(
            "security.protocol={protocol}\nsasl.mechanism={mechanism}\nssl.truststore.type=PEM\nssl.truststore.location={ca}\n\
             sasl.jaas.config=org.apache.kafka.common.security.{module} required username=\"alice\" password=\"{password}\";\n"
        );
        let path = folder.join(format!("{protocol}-{mechanism}-{password}.properties"));
        fs::write(&path, text).expect("a file");
        path.display().to_string()
    };
    let mut written = String::new();
    for (protocol, port) in [("SASL_PLAINTEXT", broker.port() + 4), ("SASL_SSL", broker.port() + 8)] {
        let bootstrap = format!("localhost:{port}");
        for mechanism in ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] {
            let config = client(protocol, mechanism, "secret");
            let common = ["--bootstrap-server", &bootstrap, "--command-config", &config, "--topic", "secured"];
            let java = |class: &str, arguments: &[&str], input: &[u8]| {
                Java::shared().run_with(class, &[&common, arguments].concat(), input).ok()
            };
            let line = format!("{protocol} {mechanism}\n");
            java("org.apache.kafka.tools.ConsoleProducer", &[], line.as_bytes());
            written += &line;
            let count = written.lines().count().to_string();
            let options = ["--from-beginning", "--max-messages", &count];
            assert_eq!(java("org.apache.kafka.tools.consumer.ConsoleConsumer", &options, b""), written);
        }
    }
    let bootstrap = format!("localhost:{}", broker.port() + 4);
    for mechanism in ["PLAIN", "SCRAM-SHA-512"] {
        let config = client("SASL_PLAINTEXT", mechanism, "wrong");
        let arguments = ["--bootstrap-server", &bootstrap, "--command-config", &config, "--list"];
        let refused = Java::shared().run("org.apache.kafka.tools.TopicCommand", &arguments);
        let told = format!("{}{}", refused.stdout, refused.stderr);
        assert!(refused.status != 0 && told.contains("Authentication failed"), "{told}");
    }
    let librdkafka = |password: &str| -> BaseConsumer {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &bootstrap).set("security.protocol", "sasl_plaintext");
        config.set("sasl.mechanism", "PLAIN").set("sasl.username", "alice").set("sasl.password", password);
        config.create().expect("a consumer")
    };
    let found = librdkafka("secret").fetch_metadata(Some("secured"), Duration::from_secs(30)).expect("metadata");
    assert_eq!(found.topics()[0].partitions().len(), 1);
    match librdkafka("wrong").fetch_metadata(Some("secured"), Duration::from_secs(3)) {
        Err(KafkaError::MetadataFetch(code)) => {
            let failed = [
                RDKafkaErrorCode::BrokerTransportFailure,
                RDKafkaErrorCode::Authentication,
                RDKafkaErrorCode::OperationTimedOut,
            ];
            assert!(failed.contains(&code), "{code}");
        }
        other => panic!("{:?}", other.map(|_| ())),
    }
}
