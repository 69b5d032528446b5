//! librdkafka over TLS and SASL: the one that these tests are built with, and kcat's, which is the distribution's.

use corelane_tests::broker::{Broker, BrokerOptions, is_corelane};
use corelane_tests::kcat::{kcat, kcat_output};
use corelane_tests::librdkafka::{LIMIT, create_topic};
use corelane_tests::tls::Authority;
use corelane_tests::{scratch, wait};
use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::fs;
use std::sync::Mutex;
use std::time::Duration;

const MECHANISMS: [&str; 3] = ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"];
const TOPIC: &str = "secured";

/// A broker whose SASL_SSL knows alice, and whose SSL wants to see her certificate.
struct Secured {
    broker: Broker,
    ca: String,
    alice: String,
}

type Settings = Vec<(&'static str, String)>;

impl Secured {
    fn start(name: &str) -> Secured {
        let folder = scratch::folder(name);
        let authority = Authority::make(&folder);
        let users = folder.join("users");
        fs::write(&users, "alice=secret\n").expect("users");
        let options = BrokerOptions {
            set: authority.properties(),
            advertise: "node".into(),
            listen: Some(|port| {
                format!("PLAINTEXT://127.0.0.1:{port},SASL_SSL://127.0.0.1:{},SSL://127.0.0.1:{}", port + 4, port + 8)
            }),
            ..BrokerOptions::default()
        };
        let plain = "org.apache.kafka.common.security.plain.PlainLoginModule required user_alice=\"secret\";";
        let options = options
            .set("sasl.enabled.mechanisms", MECHANISMS.join(","))
            .set("listener.name.sasl_ssl.plain.sasl.jaas.config", plain)
            .set("scram.users.file", users.display())
            .set("ssl.client.auth", "required");
        let broker = Broker::start(options);
        create_topic(&broker, TOPIC, 1, &[]);
        let file = |name: &str| authority.pem(name).display().to_string();
        authority.cert(&["alice"]);
        Secured { broker, ca: file("ca"), alice: file("alice") }
    }

    fn by_sasl(&self, mechanism: &str, password: &str) -> Settings {
        vec![
            ("bootstrap.servers", format!("localhost:{}", self.broker.port() + 4)),
            ("security.protocol", "SASL_SSL".to_owned()),
            ("ssl.ca.location", self.ca.clone()),
            ("sasl.mechanism", mechanism.to_owned()),
            ("sasl.username", "alice".to_owned()),
            ("sasl.password", password.to_owned()),
        ]
    }

    fn by_certificate(&self, is_shown: bool) -> Settings {
        let mut all = vec![
            ("bootstrap.servers", format!("localhost:{}", self.broker.port() + 8)),
            ("security.protocol", "SSL".to_owned()),
            ("ssl.ca.location", self.ca.clone()),
        ];
        if is_shown {
            all.extend([("ssl.certificate.location", self.alice.clone()), ("ssl.key.location", self.alice.clone())]);
        }
        all
    }

    /// Settings that the broker takes.
    fn good(&self) -> impl Iterator<Item = Settings> {
        MECHANISMS.map(|m| self.by_sasl(m, "secret")).into_iter().chain([self.by_certificate(true)])
    }

    /// Settings that it does not take, and what it says to them.
    fn bad(&self) -> impl Iterator<Item = (Settings, &'static str)> {
        let wrong = MECHANISMS.map(|m| (self.by_sasl(m, "wrong"), "Authentication failed"));
        wrong.into_iter().chain([(self.by_certificate(false), "certificate required")])
    }
}

/// Keeps what a client says of its errors.
#[derive(Default)]
struct Told(Mutex<String>);

impl ClientContext for Told {
    fn error(&self, error: KafkaError, reason: &str) {
        self.0.lock().expect("what was told").push_str(&format!("{error}: {reason}\n"));
    }
}

impl ConsumerContext for Told {}

fn client(settings: &Settings) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set_log_level(RDKafkaLogLevel::Emerg).set("group.id", "readers");
    for (name, value) in settings {
        config.set(*name, value);
    }
    config
}

fn reader(settings: &Settings) -> BaseConsumer<Told> {
    let consumer: BaseConsumer<Told> = client(settings).create_with_context(Told::default()).expect("a consumer");
    let mut from = TopicPartitionList::new();
    from.add_partition_offset(TOPIC, 0, Offset::Beginning).expect("an offset");
    consumer.assign(&from).expect("assigned");
    consumer
}

#[test]
fn librdkafka_comes_in_by_sasl_and_by_certificate() {
    if !is_corelane() {
        return;
    }
    let secured = Secured::start("librdkafka-secured");
    let mut written = Vec::new();
    for settings in secured.good() {
        let producer: BaseProducer = client(&settings).create().expect("a producer");
        let value = format!("{settings:?}");
        producer.send(BaseRecord::<(), _>::to(TOPIC).payload(&value)).expect("queued");
        producer.flush(LIMIT).expect("written");
        written.push(value);
        let consumer = reader(&settings);
        let mut found = Vec::new();
        wait::until("the records", LIMIT, || {
            let message = consumer.poll(Duration::from_millis(100))?.ok()?;
            found.push(String::from_utf8_lossy(message.payload()?).into_owned());
            (found.len() == written.len()).then_some(())
        });
        assert_eq!(found, written);
    }
    for (settings, why) in secured.bad() {
        let consumer = reader(&settings);
        wait::until(why, LIMIT, || {
            if let Some(Ok(message)) = consumer.poll(Duration::from_millis(100)) {
                panic!("{settings:?} read {:?}", message.payload());
            }
            consumer.context().0.lock().expect("what was told").contains(why).then_some(())
        });
    }
}

/// The version of kcat's librdkafka.
fn version_of_kcat() -> Vec<u32> {
    let out = kcat_output("none", &["-V"], b"");
    let text = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
    let (_, rest) = text.split_once("librdkafka ").expect("a version");
    let version = rest.split(|c: char| c != '.' && !c.is_ascii_digit()).next().expect("a version");
    version.split('.').map(|part| part.parse().expect("a number")).collect()
}

#[test]
fn kcat_comes_in_by_sasl_and_by_certificate() {
    if !is_corelane() {
        return;
    }
    let secured = Secured::start("kcat-secured");
    // Until 2.6.1 its last message of SCRAM has the client's nonce twice, which Apache Kafka 4 refuses as well (`ScramSaslServer`).
    let has_scram = version_of_kcat() >= vec![2, 6, 1];
    let arguments = |settings: &Settings, more: &[&str]| -> Vec<String> {
        let set = settings.iter().flat_map(|(name, value)| ["-X".to_owned(), format!("{name}={value}")]);
        set.chain(["-t", TOPIC].iter().chain(more).map(|a| (*a).to_owned())).collect()
    };
    let (mut written, mut refused) = (String::new(), Vec::new());
    for settings in secured.good() {
        let is_scram = settings.iter().any(|(_, value)| value.starts_with("SCRAM"));
        if is_scram && !has_scram {
            refused.push((settings, "Authentication failed"));
            continue;
        }
        let run = |more: &[&str], input: &str| {
            let all = arguments(&settings, more);
            let all: Vec<&str> = all.iter().map(String::as_str).collect();
            kcat(&settings[0].1, &all, input.as_bytes())
        };
        let line = format!("by {settings:?}\n");
        run(&["-P"], &line);
        written += &line;
        assert_eq!(run(&["-C", "-o", "beginning", "-e", "-q"], ""), written);
    }
    assert!(written.lines().count() >= 2);
    for (settings, why) in refused.into_iter().chain(secured.bad()) {
        let all = arguments(&settings, &["-P"]);
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        let out = kcat_output(&settings[0].1, &all, b"never written\n");
        let told = String::from_utf8_lossy(&out.stderr);
        assert!(!out.status.success() && told.contains(why), "{settings:?}: {told}");
    }
}
