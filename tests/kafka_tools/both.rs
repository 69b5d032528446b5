//! One scenario of tool calls on two brokers, and whether it reads the same.

use corelane_protocol::messages::{
    CreateTopicsRequest, CreateTopicsRequestCreatableTopic, DescribeConfigsRequest,
    DescribeConfigsRequestDescribeConfigsResource, IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsRequestAlterConfigsResource, IncrementalAlterConfigsRequestAlterableConfig,
};
use corelane_tests::broker::{Broker, BrokerOptions};
use corelane_tests::connection::Connection;
use corelane_tests::java::{self, Java, Output};
use corelane_tests::kafka::Kafka;
use corelane_tests::wait;
use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// What both brokers are started with, after what all test brokers have.
const SETTINGS: [(&str, &str); 12] = [
    ("authorizer.class.name", "org.apache.kafka.metadata.authorizer.StandardAuthorizer"),
    ("allow.everyone.if.no.acl.found", "true"),
    ("auto.create.topics.enable", "false"),
    ("offsets.topic.num.partitions", "4"),
    ("transaction.state.log.num.partitions", "4"),
    ("sasl.enabled.mechanisms", "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512"),
    (
        "listener.name.sasl_plaintext.plain.sasl.jaas.config",
        "org.apache.kafka.common.security.plain.PlainLoginModule required user_alice=\"secret\";",
    ),
    ("listener.name.sasl_plaintext.scram-sha-256.sasl.jaas.config", SCRAM),
    ("listener.name.sasl_plaintext.scram-sha-512.sasl.jaas.config", SCRAM),
    ("delegation.token.secret.key", "key"),
    // what benches/kafka.sh has
    ("log.segment.bytes", "1073741824"),
    ("log.retention.hours", "168"),
];

const SCRAM: &str = "org.apache.kafka.common.security.scram.ScramLoginModule required;";

/// A topic that only [`Side::settle`] changes.
const BARRIER: &str = "barrier";
/// Kafka's code of a topic's configs.
const TOPIC: i8 = 2;

struct Pair {
    kafka: Kafka,
    corelane: Broker,
}

/// The brokers of this test process; both end with it.
fn pair() -> &'static Pair {
    static PAIR: OnceLock<Pair> = OnceLock::new();
    PAIR.get_or_init(|| {
        let kafka = Kafka::start_with_sasl(&SETTINGS, None, "");
        let options = SETTINGS.iter().fold(BrokerOptions::default(), |o, (k, v)| o.set(k, v));
        let corelane = Broker::start(BrokerOptions {
            advertise: "node".into(),
            listen: Some(|port| format!("PLAINTEXT://127.0.0.1:{port},SASL_PLAINTEXT://127.0.0.1:{}", port + 2)),
            ..options
        });
        kafka.wait_ready();
        for bootstrap in [&kafka.bootstrap, corelane.bootstrap()] {
            let topic = CreateTopicsRequestCreatableTopic {
                name: BARRIER.into(),
                num_partitions: 1,
                replication_factor: 1,
                ..Default::default()
            };
            let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: 10_000, ..Default::default() };
            let created = Connection::open(bootstrap).expect("a connection").call(7, &request);
            assert_eq!(created.topics[0].error_code, 0, "{:?}", created.topics[0].error_message);
        }
        Pair { kafka, corelane }
    })
}

/// One broker in a scenario.
pub struct Side {
    bootstrap: String,
    /// A listener where alice authenticates by PLAIN, with the password `secret`.
    sasl: String,
    /// A folder for files of the tools.
    folder: PathBuf,
    /// What this broker names by itself, and what it is called in the transcript.
    names: Vec<(String, String)>,
    transcript: RefCell<Vec<String>>,
}

/// Runs the scenario on Apache Kafka, then on Corelane: the transcripts must be the same.
#[track_caller]
pub fn on_both(scenario: impl Fn(&Side)) {
    let Pair { kafka, corelane } = pair();
    let kafka = Side::new([&kafka.bootstrap, &kafka.sasl], kafka.folder(), &kafka.folder().join("data"));
    scenario(&kafka);
    let sasl = format!("127.0.0.1:{}", corelane.port() + 2);
    let corelane = Side::new([corelane.bootstrap(), &sasl], corelane.folder(), &corelane.data_dir());
    scenario(&corelane);
    let (left, right) = (kafka.transcript.into_inner(), corelane.transcript.into_inner());
    let lines = left.len().max(right.len());
    let differing = (0..lines).filter(|i| left.get(*i) != right.get(*i)).collect::<Vec<_>>();
    let shown = |lines: &[String], at: usize| lines.get(at).cloned().unwrap_or_else(|| "(nothing)".into());
    let report: Vec<String> = differing
        .iter()
        .take(20)
        .map(|at| format!("kafka:    {}\ncorelane: {}\n", shown(&left, *at), shown(&right, *at)))
        .collect();
    assert!(differing.is_empty(), "{}\nall of it on Corelane:\n{}", report.join("\n"), right.join("\n"));
}

impl Side {
    fn new([bootstrap, sasl]: [&str; 2], folder: &Path, data: &Path) -> Side {
        let metadata = Connection::open(bootstrap).and_then(|mut c| c.metadata("none")).expect("metadata");
        let port = bootstrap.rsplit_once(':').expect("host:port").1;
        let mut names = vec![
            (data.display().to_string(), "DATA".to_owned()),
            (folder.display().to_string(), "FOLDER".to_owned()),
            ("localhost".to_owned(), "HOST".to_owned()),
            ("127.0.0.1".to_owned(), "HOST".to_owned()),
            (port.to_owned(), "PORT".to_owned()),
        ];
        names.extend(metadata.cluster_id.map(|id| (id.to_string(), "CLUSTER".to_owned())));
        let (bootstrap, sasl) = (bootstrap.to_owned(), sasl.to_owned());
        Side { bootstrap, sasl, folder: folder.to_owned(), names, transcript: RefCell::default() }
    }

    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// A file for a tool to read.
    pub fn file(&self, name: &str, text: &str) -> String {
        let path = self.folder.join(name);
        std::fs::write(&path, text).expect("a file");
        path.display().to_string()
    }

    /// Runs a tool on this broker, `input` on its stdin; what it says goes into the transcript.
    pub fn tool_with(&self, class: &str, arguments: &[&str], input: &str) -> Output {
        let output = self.unseen(class, arguments, input);
        self.note(&format!("$ {} {}", class.rsplit('.').next().unwrap_or(class), arguments.join(" ")));
        self.note(&output.stdout);
        self.note(&output.stderr);
        self.note(&format!("-> {}", output.status));
        output
    }

    pub fn tool(&self, class: &str, arguments: &[&str]) -> Output {
        self.tool_with(class, arguments, "")
    }

    /// As [`Self::tool`], for output with figures in it that are never the same.
    pub fn unseen(&self, class: &str, arguments: &[&str], input: &str) -> Output {
        self.at(&self.bootstrap, class, arguments, input)
    }

    /// As [`Self::unseen`], on the listener for SASL.
    pub fn unseen_by_sasl(&self, class: &str, arguments: &[&str]) -> Output {
        self.at(&self.sasl, class, arguments, "")
    }

    fn at(&self, bootstrap: &str, class: &str, arguments: &[&str], input: &str) -> Output {
        self.settle();
        Java::shared().run_with(class, &[&["--bootstrap-server", bootstrap], arguments].concat(), input.as_bytes())
    }

    /// As [`Self::unseen`], in a JVM of its own: for tools that go on working after their main method.
    pub fn alone(&self, class: &str, arguments: &[&str]) -> String {
        let mut command = java::alone(class, &self.folder);
        command.args(["--bootstrap-server", &self.bootstrap]).args(arguments);
        let out = command.stdin(Stdio::null()).output().expect("java");
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        assert!(out.status.success(), "{class}: {}\n{text}\n{}", out.status, String::from_utf8_lossy(&out.stderr));
        text
    }

    /// Waits until what was changed can be seen: Kafka answers before its broker has taken its controller's metadata, and takes
    /// it in order, so that a change after it (and its last step after the next) shows that it has.
    fn settle(&self) {
        let mut connection = Connection::open(&self.bootstrap).expect("a connection");
        for _ in 0..2 {
            static NEXT: AtomicU64 = AtomicU64::new(1_000_000);
            let value = NEXT.fetch_add(1, Relaxed).to_string();
            let config = IncrementalAlterConfigsRequestAlterableConfig {
                name: "retention.ms".into(),
                value: Some(value.clone().into()),
                ..Default::default()
            };
            let set = IncrementalAlterConfigsRequestAlterConfigsResource {
                resource_type: TOPIC,
                resource_name: BARRIER.into(),
                configs: vec![config],
                ..Default::default()
            };
            connection.call(1, &IncrementalAlterConfigsRequest { resources: vec![set], ..Default::default() });
            let get = DescribeConfigsRequestDescribeConfigsResource {
                resource_type: TOPIC,
                resource_name: BARRIER.into(),
                configuration_keys: Some(vec!["retention.ms".into()]),
                ..Default::default()
            };
            let get = DescribeConfigsRequest { resources: vec![get], ..Default::default() };
            wait::until("a change to be seen", Duration::from_secs(30), || {
                let answer = connection.call(4, &get);
                let shown = answer.results.first()?.configs.first()?.value.clone()?;
                (*shown == *value).then_some(())
            });
        }
    }

    /// Adds lines to the transcript: without what this broker names by itself, the width of columns, and wordings of its own.
    pub fn note(&self, text: &str) {
        let lines = text.lines().filter(|line| !is_of_the_jvm(line));
        self.transcript.borrow_mut().extend(lines.map(|line| self.line(line)));
    }

    fn line(&self, line: &str) -> String {
        let mut line = line.split_whitespace().collect::<Vec<_>>().join(" ");
        for (own, name) in &self.names {
            line = line.replace(own, name);
        }
        if let Some((head, rest)) = line.split_once("TopicId: ") {
            line = format!("{head}TopicId: ID{}", rest.get(22..).unwrap_or_default());
        }
        if let Some((head, _)) = line.split_once(" command : ") {
            return format!("{head} command : ...");
        }
        if let Some((head, configs)) = line.split_once(" Configs: ") {
            // Kafka 4.3 has an override of this one for the whole cluster
            let mut configs: Vec<&str> = configs.split(',').filter(|c| *c != "min.insync.replicas=1").collect();
            configs.sort_unstable();
            line = format!("{head} Configs: {}", configs.join(","));
        }
        line
    }
}

/// Where in the tool an exception was thrown, and how a tool ends that does not know its host.
fn is_of_the_jvm(line: &str) -> bool {
    line.starts_with("\tat ")
        || line.starts_with("\t... ")
        || line.starts_with("exit ")
        || line.starts_with("Host$Ended")
}
