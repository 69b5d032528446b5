//! kafka-configs of Apache Kafka on everything that has configs.

use corelane_tests::broker::{Broker, BrokerOptions, controllable};
use corelane_tests::java::{Java, Output};
use corelane_tests::librdkafka::create_topic;

struct Tool(Broker);

impl Tool {
    /// A broker of its own: what is set for all brokers is everybody's.
    fn start() -> Option<Tool> {
        let options = BrokerOptions { advertise: "node".into(), ..BrokerOptions::default() };
        controllable().then(|| Tool(Broker::start(options)))
    }

    fn run(&self, entity: &[&str], action: &[&str]) -> Output {
        let mut all = vec!["--bootstrap-server", self.0.bootstrap()];
        all.extend(entity);
        all.extend(action);
        Java::shared().run_with("kafka.admin.ConfigCommand", &all, b"")
    }

    fn alter(&self, entity: &[&str], action: &[&str]) -> String {
        self.run(entity, &[&["--alter"], action].concat()).ok()
    }

    fn describe(&self, entity: &[&str]) -> String {
        self.run(entity, &["--describe"]).ok()
    }

    /// What the tool says of a change that is not taken.
    fn refusal(&self, entity: &[&str], config: &str) -> String {
        let out = self.run(entity, &["--alter", "--add-config", config]);
        assert_ne!(out.status, 0, "{config} is refused: {out:?}");
        out.stdout + &out.stderr
    }
}

#[track_caller]
fn has(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "no {part:?} in\n{text}");
    }
}

#[test]
fn kafka_configs_changes_brokers_one_by_one_and_all_together() {
    let Some(tool) = Tool::start() else { return };
    let (all, one) =
        (["--entity-type", "brokers", "--entity-default"], ["--entity-type", "brokers", "--entity-name", "1"]);
    let out = tool.alter(&all, &["--add-config", "log.retention.ms=3600000,log.cleaner.backoff.ms=1000"]);
    has(&out, &["Completed updating default config for brokers in the cluster."]);
    tool.alter(&one, &["--add-config", "log.retention.ms=7200000,listener.name.plaintext.max.connections=500"]);
    let out = tool.describe(&all);
    has(&out, &["log.retention.ms=3600000", "log.cleaner.backoff.ms=1000"]);
    let out = tool.describe(&one);
    has(&out, &["log.retention.ms=7200000", "DYNAMIC_BROKER_CONFIG:log.retention.ms=7200000"]);
    let own = "{DYNAMIC_BROKER_CONFIG:listener.name.plaintext.max.connections=500, DEFAULT_CONFIG:max.connections=2147483647}";
    has(&out, &[own]);
    has(&out, &["DYNAMIC_DEFAULT_BROKER_CONFIG:log.retention.ms=3600000", "DEFAULT_CONFIG:log.retention.hours=168"]);
    let out = tool.run(&one, &["--describe", "--all"]).ok();
    has(&out, &["group.min.session.timeout.ms=500", "STATIC_BROKER_CONFIG:num.partitions=4", "background.threads=10"]);
    has(&tool.refusal(&one, "background.threads=11"), &["every core runs one reactor"]);
    has(&tool.refusal(&one, "num.partitions=5"), &["Cannot update these configs dynamically: [num.partitions]"]);
    has(&tool.refusal(&all, "log.retention.ms=soon"), &["Not a number of type LONG"]);
    tool.alter(&one, &["--delete-config", "log.retention.ms,listener.name.plaintext.max.connections"]);
    has(&tool.run(&one, &["--describe", "--all"]).ok(), &["log.retention.ms=3600000"]);
    tool.alter(&all, &["--delete-config", "log.retention.ms,log.cleaner.backoff.ms"]);
    assert!(!tool.describe(&all).contains("log.retention.ms"));
}

#[test]
fn kafka_configs_changes_topics_groups_and_client_metrics() {
    let Some(tool) = Tool::start() else { return };
    create_topic(&tool.0, "t", 1, &[]);
    let topic = ["--entity-type", "topics", "--entity-name", "t"];
    tool.alter(&topic, &["--add-config", "cleanup.policy=[compact,delete],retention.ms=5000"]);
    has(&tool.describe(&topic), &["cleanup.policy=compact,delete", "DYNAMIC_TOPIC_CONFIG:retention.ms=5000"]);
    has(&tool.refusal(&topic, "preallocate=true"), &["the storage engine decides by fill rate"]);

    let group = ["--entity-type", "groups", "--entity-name", "g"];
    has(
        &tool.alter(&group, &["--add-config", "consumer.session.timeout.ms=50000"]),
        &["Completed updating config for group g."],
    );
    let out = tool.describe(&group);
    has(&out, &["consumer.session.timeout.ms=50000", "DEFAULT_CONFIG:group.consumer.session.timeout.ms=45000"]);
    has(
        &tool.refusal(&group, "consumer.session.timeout.ms=1"),
        &["must be greater than or equal to group.consumer.min.session.timeout.ms"],
    );
    has(
        &tool.run(&["--entity-type", "groups"], &["--describe"]).ok(),
        &["group g", "consumer.session.timeout.ms=50000"],
    );
    tool.alter(&group, &["--delete-config", "consumer.session.timeout.ms"]);
    assert!(!tool.describe(&group).contains("consumer.session.timeout.ms=50000"));

    let metrics = ["--entity-type", "client-metrics", "--entity-name", "m"];
    tool.alter(&metrics, &["--add-config", "metrics=[org.apache.kafka.],interval.ms=5000,match=[client_id=a.*]"]);
    has(&tool.describe(&metrics), &["interval.ms=5000", "match=client_id=a.*", "metrics=org.apache.kafka."]);
    has(&tool.run(&["--entity-type", "client-metrics"], &["--describe"]).ok(), &["client-metric m"]);
    tool.alter(&metrics, &["--delete-config", "metrics,interval.ms,match"]);
    assert!(!tool.describe(&metrics).contains("interval.ms=5000"));
}
