//! Apache Kafka's Java clients and command line tools of the same version.

use corelane_tests::broker::Broker;
use corelane_tests::java::{Java, Output};
use corelane_tests::librdkafka::{create_topic, produce_all, producer, unique};

macro_rules! checks {
    ($($class:literal: $($name:ident)*;)*) => {$($(
        #[test]
        fn $name() {
            let name = stringify!($name);
            let out = Java::shared().run($class, &[Broker::shared().bootstrap(), name]).ok();
            assert!(out.contains(&format!("ok {name}")), "{out}");
        }
    )*)*};
}

checks! {
    "ClientChecks":
        every_codec_round_trips
        acks_and_idempotence_round_trip
        too_large_record_is_refused
        invalid_records_are_refused_one_by_one
        classic_group_rebalances_commits_and_resumes
        offsets_by_time_and_position
        topic_created_again_is_noticed_by_its_id;
    "AdminChecks":
        topics_with_configs_come_and_go
        configs_are_described_with_source_and_synonyms
        configs_are_altered_one_by_one
        partitions_are_added
        offsets_are_listed_by_every_spec_and_records_deleted
        cluster_log_dirs_and_features_are_described
        groups_are_listed_described_and_deleted
        config_resources_are_listed;
    "ConsumerGroupChecks":
        members_share_commit_and_take_over
        pattern_of_the_broker_takes_in_topics_that_come
        static_member_keeps_its_partitions
        topics_grow_and_intervals_are_the_groups;
    "TransactionChecks":
        committed_is_seen_and_aborted_is_not
        open_transaction_holds_readers_back
        new_producer_fences_the_old_one
        slow_transaction_is_aborted
        offsets_count_with_their_transaction
        every_record_is_transformed_once
        many_producers_in_many_partitions
        transactions_are_described_and_listed;
}

const TOPICS: &str = "org.apache.kafka.tools.TopicCommand";
const CONFIGS: &str = "kafka.admin.ConfigCommand";
const GROUPS: &str = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand";
const OFFSETS: &str = "org.apache.kafka.tools.GetOffsetShell";
const PRODUCER: &str = "org.apache.kafka.tools.ConsoleProducer";
const CONSUMER: &str = "org.apache.kafka.tools.consumer.ConsoleConsumer";

fn tool(class: &str, arguments: &[&str]) -> Output {
    tool_with(class, arguments, b"")
}

fn tool_with(class: &str, arguments: &[&str], input: &[u8]) -> Output {
    let mut all = vec!["--bootstrap-server", Broker::shared().bootstrap()];
    all.extend(arguments);
    Java::shared().run_with(class, &all, input)
}

#[test]
fn kafka_topics_creates_describes_alters_and_deletes() {
    let topic = unique("cli");
    let out =
        tool(TOPICS, &["--create", "--topic", &topic, "--partitions", "3", "--config", "retention.ms=60000"]).ok();
    assert!(out.contains(&format!("Created topic {topic}.")), "{out}");
    let again = tool(TOPICS, &["--create", "--topic", &topic]);
    assert!(again.status != 0 && (again.stdout + &again.stderr).contains("already exists"));
    assert!(tool(TOPICS, &["--list"]).ok().lines().any(|line| line == topic));
    tool(TOPICS, &["--alter", "--topic", &topic, "--partitions", "5"]).ok();
    let out = tool(TOPICS, &["--describe", "--topic", &topic]).ok();
    assert!(out.contains("PartitionCount: 5") && out.contains("ReplicationFactor: 1"), "{out}");
    assert!(out.contains("retention.ms=60000"), "{out}");
    assert_eq!(out.lines().filter(|line| line.contains("Leader: ") && !line.contains("none")).count(), 5, "{out}");
    tool(TOPICS, &["--delete", "--topic", &topic]).ok();
    assert!(tool(TOPICS, &["--describe", "--topic", &topic]).status != 0);
}

#[test]
fn kafka_configs_alters_and_describes() {
    let topic = unique("cli-configs");
    create_topic(Broker::shared(), &topic, 1, &[]);
    let entity = ["--entity-type", "topics", "--entity-name", &topic];
    let call = |arguments: &[&str]| tool(CONFIGS, &[&entity[..], arguments].concat());
    call(&["--alter", "--add-config", "retention.ms=1234567,cleanup.policy=[delete]"]).ok();
    let out = call(&["--describe"]).ok();
    assert!(out.contains("retention.ms=1234567") && out.contains("cleanup.policy=delete"), "{out}");
    call(&["--alter", "--delete-config", "retention.ms"]).ok();
    let out = call(&["--describe"]).ok();
    assert!(!out.contains("retention.ms="), "{out}");
    let out = call(&["--describe", "--all"]).ok();
    assert!(out.contains("retention.ms=604800000"), "{out}");
    let wrong = call(&["--alter", "--add-config", "no.such.config=1"]);
    assert!(wrong.status != 0 && (wrong.stdout + &wrong.stderr).contains("no.such.config"));
    let out = tool(CONFIGS, &["--describe", "--entity-type", "brokers", "--all"]).ok();
    assert!(out.contains("num.partitions=4"), "{out}");
}

#[test]
fn java_reads_what_the_broker_has_recompressed() {
    let prefix = unique("recompressed-for-java");
    let codecs = ["gzip", "snappy", "lz4", "zstd", "uncompressed"];
    for target in codecs {
        let topic = format!("{prefix}-{target}");
        create_topic(Broker::shared(), &topic, 1, &[("compression.type", target)]);
        let client = producer(Broker::shared(), &[("compression.codec", "zstd"), ("linger.ms", "20")]);
        let lines: Vec<String> = (0..200).map(|n| format!("{target} {n} {}", "corelane ".repeat(n % 50))).collect();
        produce_all(&client, &topic, lines.iter().map(|line| (&b"k"[..], line.as_bytes())));
    }
    let include = format!("{prefix}-.*");
    let out = tool(CONSUMER, &["--include", &include, "--from-beginning", "--max-messages", "1000"]).ok();
    for target in codecs {
        let numbers = out.lines().filter_map(|line| line.strip_prefix(target)?.split_whitespace().next());
        assert!(numbers.map(|n| n.parse::<usize>().expect("a number")).eq(0..200), "{target}: {out}");
    }
}

#[test]
fn console_tools_produce_consume_and_show_the_group() {
    let (topic, group) = (unique("cli-console"), unique("cli-group"));
    create_topic(Broker::shared(), &topic, 3, &[]);
    let lines: String = (0..300).map(|i| format!("key-{}:line {i} äöü\n", i % 7)).collect();
    tool_with(
        PRODUCER,
        &["--topic", &topic, "--reader-property", "parse.key=true", "--reader-property", "key.separator=:"],
        lines.as_bytes(),
    )
    .ok();
    let out = tool(OFFSETS, &["--topic", &topic]).ok();
    let sum: i64 = out.lines().filter_map(|line| line.rsplit(':').next()?.parse::<i64>().ok()).sum();
    assert_eq!(sum, 300, "{out}");
    let read = |more: &[&str]| {
        let arguments = [
            "--topic",
            &topic,
            "--formatter-property",
            "print.key=true",
            "--formatter-property",
            "key.separator=:",
            "--timeout-ms",
            "30000",
        ];
        tool(CONSUMER, &[&arguments[..], more].concat()).ok()
    };
    let group_property = format!("group.id={group}");
    let out = read(&["--from-beginning", "--max-messages", "300", "--command-property", &group_property]);
    let of_key = |text: &str, key: &str| -> Vec<String> {
        text.lines().filter(|line| line.starts_with(key)).map(str::to_owned).collect()
    };
    assert_eq!(out.lines().count(), 300, "{out}");
    for k in 0..7 {
        let key = format!("key-{k}:");
        assert_eq!(of_key(&out, &key), of_key(&lines, &key), "records of {key} in order");
    }
    let one = read(&["--partition", "1", "--offset", "2", "--max-messages", "1"]);
    assert_eq!(one.lines().count(), 1);
    let out = tool(GROUPS, &["--describe", "--group", &group]).ok();
    let lag: Vec<&str> =
        out.lines().filter(|l| l.contains(&topic)).filter_map(|l| l.split_whitespace().nth(5)).collect();
    assert_eq!(lag, ["0", "0", "0"], "{out}");
    assert!(tool(GROUPS, &["--list"]).ok().contains(&group));
    let shown = tool(GROUPS, &["--describe", "--group", &group, "--state"]).ok();
    assert!(shown.contains("Empty"), "{shown}");
    let reset = ["--reset-offsets", "--to-offset", "5", "--topic", &topic, "--group", &group, "--execute"];
    tool(GROUPS, &reset).ok();
    let out = tool(GROUPS, &["--describe", "--group", &group, "--offsets"]).ok();
    let at: Vec<&str> =
        out.lines().filter(|l| l.contains(&topic)).filter_map(|l| l.split_whitespace().nth(3)).collect();
    assert_eq!(at, ["5", "5", "5"], "{out}");
    let out = tool(OFFSETS, &["--topic", &topic, "--time", "earliest"]).ok();
    assert_eq!(out.lines().filter(|l| l.ends_with(":0")).count(), 3, "{out}");
    tool(GROUPS, &["--delete", "--group", &group]).ok();
    assert!(!tool(GROUPS, &["--list"]).ok().contains(&group));
}

#[test]
fn further_tools_understand_the_broker() {
    let topic = unique("cli-more");
    create_topic(Broker::shared(), &topic, 2, &[]);
    let out = tool("org.apache.kafka.tools.BrokerApiVersionsCommand", &[]).ok();
    assert!(out.contains("Produce(0): ") && out.contains("ApiVersions(18): "), "{out}");
    let out = Java::shared()
        .run("org.apache.kafka.tools.ClusterTool", &["cluster-id", "--bootstrap-server", Broker::shared().bootstrap()])
        .ok();
    assert!(out.contains("Cluster ID: "), "{out}");
    let out = tool("org.apache.kafka.tools.LogDirsCommand", &["--describe", "--topic-list", &topic]).ok();
    assert!(out.contains(&format!("{topic}-0")) && out.contains(&format!("{topic}-1")), "{out}");
    tool_with(PRODUCER, &["--topic", &topic], b"one\ntwo\nthree\n").ok();
    let file = Broker::shared().folder().join("delete-records.json");
    let partitions = format!(
        r#"{{"partitions":[{{"topic":"{topic}","partition":0,"offset":-1}},{{"topic":"{topic}","partition":1,"offset":-1}}],"version":1}}"#
    );
    std::fs::write(&file, partitions).expect("a file");
    let path = file.to_str().expect("a path");
    let out = tool("org.apache.kafka.tools.DeleteRecordsCommand", &["--offset-json-file", path]).ok();
    assert!(out.contains("low_watermark"), "{out}");
    let early = tool(OFFSETS, &["--topic", &topic, "--time", "earliest"]).ok();
    let late = tool(OFFSETS, &["--topic", &topic, "--time", "latest"]).ok();
    assert_eq!(early, late, "nothing is left");
}
