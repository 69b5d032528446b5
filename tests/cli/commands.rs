//! Commands against a running broker.

use corelane_tests::broker::Broker;
use corelane_tests::command::{Output, corelane, corelane_with};
use corelane_tests::librdkafka::unique;

fn run(arguments: &[&str]) -> Output {
    corelane(Broker::shared().bootstrap(), arguments)
}

#[test]
fn topics_are_created_listed_described_altered_and_deleted() {
    let topic = unique("cli");
    assert!(run(&["topic", "create", &topic, "-p", "3", "-c", "retention.ms=60000"]).ok().contains(&topic));
    run(&["topic", "create", &topic]).fails(5, &[&topic, "already exists"]);
    run(&["topic", "create", &topic, "--if-missing"]).ok();
    run(&["topic", "create", "no/slash"]).fails(6, &["no/slash"]);
    let list = run(&["topic", "list", "--json"]).json();
    let found =
        list["topics"].as_array().expect("topics").iter().find(|t| t["name"] == topic.as_str()).expect("listed");
    assert_eq!(found["partitions"], 3);
    assert!(run(&["topic", "list"]).ok().contains(&topic));
    run(&["topic", "alter", &topic, "--set", "max.message.bytes=5000", "--unset", "retention.ms", "-p", "5"]).ok();
    run(&["topic", "alter", &topic, "--set", "no.such.thing=1"]).fails(6, &["no.such.thing"]);
    let shown = run(&["topic", "describe", &topic, "--json"]).json();
    assert_eq!(shown["partitions"].as_array().map(Vec::len), Some(5));
    assert!(shown["configs"].to_string().contains("max.message.bytes"), "{shown}");
    assert!(!shown["configs"].to_string().contains("retention.ms"), "{shown}");
    run(&["topic", "delete", &topic]).ok();
    run(&["topic", "describe", &topic]).fails(4, &[&topic]);
}

#[test]
fn lines_that_are_produced_are_consumed() {
    let (topic, group) = (unique("lines"), unique("group"));
    let bootstrap = Broker::shared().bootstrap();
    run(&["topic", "create", &topic, "-p", "4"]).ok();
    let lines: String = (0..400).map(|i| format!("key-{}=line {i} äöü\n", i % 9)).collect();
    corelane_with(bootstrap, &["produce", &topic, "-k", "=", "-z", "zstd"], lines.as_bytes()).ok();
    let out = run(&["consume", &topic, "--from", "beginning", "-e", "--json"]).ok();
    let records: Vec<serde_json::Value> = out.lines().map(|l| serde_json::from_str(l).expect("JSON")).collect();
    assert_eq!(records.len(), 400);
    for k in 0..9 {
        let key = format!("key-{k}");
        let got: Vec<&str> =
            records.iter().filter(|r| r["key"] == key.as_str()).filter_map(|r| r["value"].as_str()).collect();
        let sent: Vec<String> = (0..400).filter(|i| i % 9 == k).map(|i| format!("line {i} äöü")).collect();
        assert_eq!(got, sent, "values of {key} in order");
    }
    assert_eq!(run(&["consume", &topic, "-g", &group, "--from", "beginning", "-n", "400"]).ok().lines().count(), 400);
    assert!(run(&["group", "list"]).ok().contains(&group));
    assert!(run(&["group", "describe", &group]).ok().contains(&topic));
    run(&["group", "delete", &group]).ok();
    run(&["group", "describe", &group]).fails(4, &[&group]);
}

#[test]
fn cluster_and_doctor_report() {
    let info = run(&["cluster", "info", "--json"]).json();
    assert!(!info["brokers"].as_array().expect("brokers").is_empty());
    let out = run(&["doctor"]);
    assert!(out.stdout.contains("io_uring") && out.stdout.contains("direct I/O"), "{}", out.stdout);
    for line in run(&["doctor", "--json"]).stdout.lines() {
        let check: serde_json::Value = serde_json::from_str(line).expect("JSON");
        assert!(check["level"] == "ok" || !check["fix"].as_str().unwrap_or_default().is_empty(), "{check}");
    }
}

#[test]
fn every_command_prints_json_where_that_is_asked_for() {
    let (topic, group) = (unique("json"), unique("json-group"));
    let json = |arguments: &[&str], input: &[u8]| {
        let out = corelane_with(Broker::shared().bootstrap(), &[arguments, &["--json"]].concat(), input).ok();
        let lines: Vec<serde_json::Value> = out
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{arguments:?}: {e}: {line}")))
            .collect();
        assert!(!lines.is_empty(), "{arguments:?} prints nothing");
        lines
    };
    json(&["topic", "create", &topic, "-p", "1"], b"");
    json(&["produce", &topic], b"one\ntwo\n");
    let read = json(&["consume", &topic, "-g", &group, "--from", "beginning", "-n", "2"], b"");
    assert!(["one", "two"].iter().all(|value| read.iter().any(|record| record["value"] == *value)), "{read:?}");
    for arguments in [
        &["topic", "list"][..],
        &["topic", "describe", &topic],
        &["topic", "alter", &topic, "--set", "retention.ms=60000"],
        &["group", "list"],
        &["group", "describe", &group],
        &["group", "reset", &group, "--topic", &topic, "--to", "earliest"],
        &["group", "delete", &group],
        &["topic", "delete", &topic],
        &["cluster", "info"],
        &["start", "--properties"],
    ] {
        json(arguments, b"");
    }
}

#[test]
fn nobody_there_and_wrong_usage_have_codes_of_their_own() {
    corelane("127.0.0.1:1", &["topic", "list", "--timeout", "1"]).fails(3, &["127.0.0.1:1"]);
    run(&["topic", "list", "--no-such-flag"]).fails(2, &["--no-such-flag"]);
    run(&["fly"]).fails(2, &["fly"]);
    run(&["dump-log", "/nowhere/at/all"]).fails(4, &["/nowhere/at/all"]);
    for command in ["start", "topic", "produce", "consume", "group", "cluster", "bench", "dump-log", "check", "doctor"]
    {
        assert!(run(&[command, "--help"]).ok().contains("Usage: corelane"), "{command} --help");
    }
}
