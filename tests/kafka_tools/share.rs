//! kafka-share-groups, kafka-console-share-consumer, kafka-share-consumer-perf-test and kafka-verifiable-share-consumer.

use crate::both::{Side, on_both};
use crate::topics::{create, produce};
use corelane_tests::wait;
use std::time::Duration;

const SHARE_GROUPS: &str = "org.apache.kafka.tools.consumer.group.ShareGroupCommand";
const CONSUMER: &str = "org.apache.kafka.tools.consumer.ConsoleShareConsumer";
const PERFORMANCE: &str = "org.apache.kafka.tools.ShareConsumerPerformance";
const VERIFIABLE: &str = "org.apache.kafka.tools.VerifiableShareConsumer";
const CONFIGS: &str = "kafka.admin.ConfigCommand";
const RECORDS: usize = 30;

/// A topic with records, and a group that begins with the first of them.
fn begin(side: &Side, topic: &str, group: &str) {
    create(side, topic, "1");
    let lines: Vec<String> = (0..RECORDS).map(|n| format!("line {n}\n")).collect();
    produce(side, topic, &lines.concat());
    let group = ["--alter", "--entity-type", "groups", "--entity-name", group];
    side.tool(CONFIGS, &[&group[..], &["--add-config", "share.auto.offset.reset=earliest"]].concat()).ok();
}

/// Its members leave with the connections of their clients, or when these have said so.
fn until_empty(side: &Side, group: &str) {
    wait::until("the group to be empty", Duration::from_secs(60), || {
        let state = side.unseen(SHARE_GROUPS, &["--describe", "--group", group, "--state"], "").ok();
        state.contains("Empty").then_some(())
    });
}

/// The columns of the line that names the topic; the coordinator's epochs are its own.
fn offsets(side: &Side, group: &str) {
    let out = side.unseen(SHARE_GROUPS, &["--describe", "--group", group, "--offsets"], "").ok();
    side.note(&out);
}

#[test]
fn kafka_share_groups() {
    on_both(|side| {
        begin(side, "lent", "tools-share");
        let consume = |group: &str| {
            let records = RECORDS.to_string();
            let arguments = ["--topic", "lent", "--group", group, "--timeout-ms", "60000", "--max-messages", &records];
            side.note(&side.unseen(CONSUMER, &arguments, "").ok());
        };
        let one = |arguments: &[&str]| side.tool(SHARE_GROUPS, &[arguments, &["--group", "tools-share"]].concat());
        let listed = |more: &[&str]| {
            let out = side.unseen(SHARE_GROUPS, &[&["--list"], more].concat(), "").ok();
            side.note(&out.lines().filter(|line| line.contains("tools-share")).collect::<Vec<_>>().join("\n"));
        };
        consume("tools-share");
        until_empty(side, "tools-share");
        listed(&[]);
        listed(&["--state"]);
        listed(&["--state", "Empty"]);
        listed(&["--state", "Stable"]);
        offsets(side, "tools-share");
        one(&["--describe", "--members"]);
        one(&["--describe", "--state"]).ok();
        let reset = |how: &[&str]| one(&[&["--reset-offsets", "--topic", "lent"], how].concat());
        reset(&["--to-earliest", "--dry-run"]).ok();
        offsets(side, "tools-share");
        reset(&["--to-earliest", "--execute"]).ok();
        offsets(side, "tools-share");
        reset(&["--to-datetime", "2020-01-01T00:00:00.000", "--execute"]).ok();
        consume("tools-share");
        until_empty(side, "tools-share");
        reset(&["--to-latest", "--execute"]).ok();
        one(&["--reset-offsets", "--all-topics", "--to-earliest", "--execute"]).ok();
        offsets(side, "tools-share");
        reset(&["--topic", "lent-none", "--to-earliest", "--execute"]);
        // what the broker says of it is in its own words
        let missing = ["--delete-offsets", "--topic", "lent-none", "--group", "tools-share"];
        let out = side.unseen(SHARE_GROUPS, &missing, "");
        side.note(&format!("{} {}", out.status, out.stdout.split("Error:").next().unwrap_or_default()));
        one(&["--delete-offsets", "--topic", "lent"]).ok();
        offsets(side, "tools-share");
        one(&["--delete"]).ok();
        one(&["--delete"]);
        one(&["--describe"]);
        listed(&[]);
    });
}

#[test]
fn share_consumers_of_the_tools() {
    on_both(|side| {
        begin(side, "lent-load", "tools-share-load");
        let records = RECORDS.to_string();
        let load =
            ["--topic", "lent-load", "--group", "tools-share-load", "--num-records", &records, "--timeout", "60000"];
        let out = side.unseen(PERFORMANCE, &load, "").ok();
        let figures: Vec<&str> = out.lines().nth(1).expect("a line of figures").split(", ").collect();
        assert_eq!(figures.get(5).copied(), Some("30"), "{out}");
        begin(side, "lent-verified", "tools-share-verifiers");
        let verify = ["--topic", "lent-verified", "--group-id", "tools-share-verifiers", "--max-messages", &records];
        let out = side.alone(VERIFIABLE, &[&verify[..], &["--verbose"]].concat());
        let values: Vec<&str> = out.lines().filter(|l| l.contains(r#""name":"record_data""#)).collect();
        assert_eq!(values.len(), RECORDS, "{out}");
        assert!(out.contains("offsets_acknowledged"), "{out}");
    });
}
