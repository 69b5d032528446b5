//! kafka-topics, kafka-configs on topics, kafka-get-offsets, kafka-delete-records and the console tools.

use crate::both::{Side, on_both};

const TOPICS: &str = "org.apache.kafka.tools.TopicCommand";
const CONFIGS: &str = "kafka.admin.ConfigCommand";
const OFFSETS: &str = "org.apache.kafka.tools.GetOffsetShell";
const DELETE_RECORDS: &str = "org.apache.kafka.tools.DeleteRecordsCommand";
const PRODUCER: &str = "org.apache.kafka.tools.ConsoleProducer";
const CONSUMER: &str = "org.apache.kafka.tools.consumer.ConsoleConsumer";

pub fn create(side: &Side, topic: &str, partitions: &str) {
    side.tool(TOPICS, &["--create", "--topic", topic, "--partitions", partitions]).ok();
}

/// One record a line.
pub fn produce(side: &Side, topic: &str, lines: &str) {
    side.tool_with(PRODUCER, &["--topic", topic], lines).ok();
}

#[test]
fn kafka_topics() {
    on_both(|side| {
        let topics = |arguments: &[&str]| side.tool(TOPICS, arguments);
        topics(&["--create", "--topic", "tools", "--partitions", "3", "--config", "retention.ms=60000"]).ok();
        assert_ne!(topics(&["--create", "--topic", "tools"]).status, 0);
        topics(&["--create", "--topic", "tools", "--if-not-exists"]).ok();
        assert_ne!(topics(&["--create", "--topic", "tools.wide", "--replication-factor", "2"]).status, 0);
        assert_ne!(topics(&["--create", "--topic", "tools/wrong"]).status, 0);
        topics(&["--create", "--topic", "tools-placed", "--replica-assignment", "1,1"]).ok();
        topics(&["--describe", "--topic", "tools-placed"]).ok();
        let all = side.unseen(TOPICS, &["--list"], "").ok();
        assert!(all.lines().any(|line| line == "tools-placed"), "{all}");
        topics(&["--list", "--topic", "tools.*", "--exclude-internal"]).ok();
        topics(&["--alter", "--topic", "tools", "--partitions", "5"]).ok();
        assert_ne!(topics(&["--alter", "--topic", "tools", "--partitions", "2"]).status, 0);
        topics(&["--describe", "--topic", "tools"]).ok();
        topics(&["--describe", "--topic", "tools", "--partition-size-limit-per-response", "2"]).ok();
        topics(&["--describe", "--topic", "tools.*", "--topics-with-overrides"]).ok();
        for bad in ["under-replicated", "unavailable", "under-min-isr", "at-min-isr"] {
            topics(&["--describe", "--topic", "tools.*", &format!("--{bad}-partitions")]).ok();
        }
        topics(&["--delete", "--topic", "tools"]).ok();
        assert_ne!(topics(&["--delete", "--topic", "tools"]).status, 0);
        assert_ne!(topics(&["--describe", "--topic", "tools"]).status, 0);
        topics(&["--describe", "--topic", "tools", "--if-exists"]).ok();
        topics(&["--delete", "--topic", "tools-.*"]).ok();
        topics(&["--list", "--topic", "tools.*"]).ok();
    });
}

#[test]
fn kafka_configs_of_topics() {
    on_both(|side| {
        create(side, "configured", "1");
        let entity = ["--entity-type", "topics", "--entity-name", "configured"];
        let configs = |arguments: &[&str]| side.tool(CONFIGS, &[&entity[..], arguments].concat());
        configs(&["--describe"]).ok();
        configs(&["--alter", "--add-config", "retention.ms=1234567,cleanup.policy=[compact,delete]"]).ok();
        configs(&["--describe"]).ok();
        configs(&["--alter", "--delete-config", "retention.ms"]).ok();
        configs(&["--describe"]).ok();
        assert_ne!(configs(&["--alter", "--add-config", "no.such.config=1"]).status, 0);
        assert_ne!(configs(&["--alter", "--add-config", "retention.ms=much"]).status, 0);
        configs(&["--alter", "--delete-config", "no.such.config"]);
        let file = side.file("topic.properties", "segment.ms=60000\nmax.message.bytes=5000\n");
        configs(&["--alter", "--add-config-file", &file]).ok();
        configs(&["--describe"]).ok();
        let missing = ["--entity-type", "topics", "--entity-name", "configured-not", "--describe"];
        side.tool(CONFIGS, &missing);
    });
}

#[test]
fn records_go_in_are_read_are_counted_and_are_deleted() {
    on_both(|side| {
        create(side, "records", "2");
        let offsets = |arguments: &[&str]| side.tool(OFFSETS, arguments);
        let keyed = ["--reader-property", "parse.key=true", "--reader-property", "key.separator=:"];
        let lines: String = (0..100).map(|i| format!("key-{}:line {i} äöü\n", i % 7)).collect();
        side.tool_with(PRODUCER, &[&["--topic", "records"], &keyed[..]].concat(), &lines).ok();
        offsets(&["--topic", "records"]).ok();
        for time in ["earliest", "latest", "-1", "-2", "-3", "max-timestamp", "0", "99999999999999"] {
            let output = side.unseen(OFFSETS, &["--topic", "records", "--time", time], "").ok();
            // which of those with the latest timestamp came first is a matter of the producer's batches
            if !matches!(time, "-3" | "max-timestamp") {
                side.note(&output);
            }
        }
        offsets(&["--topic-partitions", "records:0-1"]).ok();
        offsets(&["--topic-partitions", "records:1,none.*:0"]).ok();
        assert_ne!(offsets(&["--topic", "records-none"]).status, 0);
        let read = |more: &[&str]| {
            let arguments = ["--topic", "records", "--timeout-ms", "30000", "--formatter-property", "print.key=true"];
            side.unseen(CONSUMER, &[&arguments[..], more].concat(), "").ok()
        };
        // in the order of each partition; of the two whichever answers first is read first
        let mut all: Vec<String> =
            read(&["--from-beginning", "--max-messages", "100"]).lines().map(str::to_owned).collect();
        all.sort();
        side.note(&all.join("\n"));
        let shown = ["--formatter-property", "print.offset=true", "--formatter-property", "print.partition=true"];
        side.note(&read(&[&["--partition", "1", "--offset", "2", "--max-messages", "5"], &shown[..]].concat()));
        side.note(&read(&[&["--partition", "0", "--offset", "earliest", "--max-messages", "3"], &shown[..]].concat()));
        let partitions = r#"{"partitions":[{"topic":"records","partition":0,"offset":5},{"topic":"records","partition":1,"offset":-1}],"version":1}"#;
        let file = side.file("delete-records.json", partitions);
        let mut deleted: Vec<String> =
            side.unseen(DELETE_RECORDS, &["--offset-json-file", &file], "").ok().lines().map(str::to_owned).collect();
        deleted.sort();
        side.note(&deleted.join("\n"));
        offsets(&["--topic", "records", "--time", "earliest"]).ok();
        offsets(&["--topic", "records", "--time", "latest"]).ok();
    });
}
