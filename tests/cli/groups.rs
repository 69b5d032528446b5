//! `corelane group` with groups of every kind.

use std::time::Duration;

use corelane_protocol::Str;
use corelane_protocol::messages::{
    ConsumerGroupHeartbeatRequest, FindCoordinatorRequest, OffsetCommitRequest, OffsetCommitRequestPartition,
    OffsetCommitRequestTopic, ShareGroupHeartbeatRequest, StreamsGroupHeartbeatRequest,
    StreamsGroupHeartbeatRequestSubtopology, StreamsGroupHeartbeatRequestTopology,
};
use corelane_tests::broker::Broker;
use corelane_tests::command::{Output, corelane, corelane_with};
use corelane_tests::connection::Connection;
use corelane_tests::librdkafka::unique;
use corelane_tests::wait;
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(30);
const LINES: usize = 12;

fn run(arguments: &[&str]) -> Output {
    corelane(Broker::shared().bootstrap(), arguments)
}

/// A topic of one partition with [`LINES`] records.
fn topic() -> String {
    let topic = unique("grouped");
    run(&["topic", "create", &topic, "-p", "1"]).ok();
    let lines: String = (0..LINES).map(|n| format!("line {n}\n")).collect();
    corelane_with(Broker::shared().bootstrap(), &["produce", &topic], lines.as_bytes()).ok();
    topic
}

/// A connection to the coordinator of a group.
fn coordinator(group: &str) -> Connection {
    let mut connection = Connection::open(Broker::shared().bootstrap()).expect("a connection");
    let request = FindCoordinatorRequest { coordinator_keys: vec![text(group)], ..Default::default() };
    let found = wait::until("a coordinator", LIMIT, || {
        let found = connection.call(4, &request).coordinators.remove(0);
        (found.error_code == 0).then_some(found)
    });
    Connection::open(&format!("{}:{}", found.host, found.port)).expect("a connection")
}

fn text(text: &str) -> Str {
    Str::from(text.to_owned())
}

fn listed(group: &str, arguments: &[&str]) -> Option<Value> {
    let all = run(&[&["group", "list", "--json"], arguments].concat()).json();
    all["groups"].as_array().expect("groups").iter().find(|g| g["name"] == group).cloned()
}

/// The group as JSON, after a look at what people are shown.
fn described(group: &str, words: &[&str]) -> Value {
    let shown = run(&["group", "describe", group]).ok();
    for word in words {
        assert!(shown.contains(word), "no '{word}' in:\n{shown}");
    }
    run(&["group", "describe", group, "--json"]).json()
}

/// What follows once the members have gone: reset, and delete.
fn reset_and_delete(group: &str, topic: &str, at: &str) {
    run(&["group", "reset", group, "--to", "5", "-t", topic, "--dry-run"]).ok();
    let before = described(group, &[topic])["offsets"][0].clone();
    assert_ne!(before[at], 5, "{before}");
    run(&["group", "reset", group, "--to", "5"]).ok();
    let after = described(group, &["Empty"])["offsets"][0].clone();
    assert_eq!((&after[at], &after["end"], &after["lag"]), (&json!(5), &json!(LINES), &json!(LINES - 5)), "{after}");
    run(&["group", "delete", group]).ok();
    run(&["group", "describe", group]).fails(4, &[group]);
    assert_eq!(listed(group, &[]), None);
}

#[test]
fn consumer_groups_are_listed_described_reset_and_deleted() {
    let (topic, group) = (topic(), unique("consumers"));
    let mut connection = coordinator(&group);
    let mut beat = ConsumerGroupHeartbeatRequest {
        group_id: text(&group),
        member_id: text("reader"),
        rebalance_timeout_ms: 60_000,
        subscribed_topic_names: Some(vec![text(&topic)]),
        topic_partitions: Some(Vec::new()),
        ..Default::default()
    };
    let joined = wait::until("the coordinator", LIMIT, || {
        let answer = connection.call(1, &beat);
        (answer.error_code == 0).then_some(answer)
    });
    let commit = OffsetCommitRequest {
        group_id: text(&group),
        member_id: text("reader"),
        generation_id_or_member_epoch: joined.member_epoch,
        topics: vec![OffsetCommitRequestTopic {
            name: text(&topic),
            partitions: vec![OffsetCommitRequestPartition { committed_offset: 3, ..Default::default() }],
            ..Default::default()
        }],
        ..Default::default()
    };
    assert_eq!(connection.call(9, &commit).topics[0].partitions[0].error_code, 0);
    assert_eq!(listed(&group, &["--type", "consumer"]).expect("listed")["type"], "consumer");
    assert_eq!(listed(&group, &["--type", "share", "--type", "classic"]), None);
    let found = described(&group, &["consumer", "uniform", "reader", &topic]);
    assert_eq!((&found["type"], &found["assignor"]), (&json!("consumer"), &json!("uniform")), "{found}");
    assert_eq!(found["members"][0]["assigned"], json!({ (&topic): [0] }), "{found}");
    let offset = &found["offsets"][0];
    assert_eq!((&offset["committed"], &offset["member"]), (&json!(3), &json!("reader")), "{found}");
    run(&["group", "reset", &group, "--to", "earliest"]).fails(6, &["1 members"]);
    run(&["group", "delete", &group]).fails(6, &[&group]);
    beat.member_epoch = -1;
    assert_eq!(connection.call(1, &beat).error_code, 0);
    reset_and_delete(&group, &topic, "committed");
}

#[test]
fn share_groups_are_listed_described_reset_and_deleted() {
    let (topic, group) = (topic(), unique("sharers"));
    let mut connection = coordinator(&group);
    let mut beat = |member: &'static str, epoch| {
        let request = ShareGroupHeartbeatRequest {
            group_id: text(&group),
            member_id: text(member),
            member_epoch: epoch,
            subscribed_topic_names: (epoch == 0).then(|| vec![text(&topic)]),
            ..Default::default()
        };
        connection.call(1, &request)
    };
    // The partition is assigned once its state is initialised.
    for member in ["one", "two"] {
        wait::until("an assignment", LIMIT, || {
            let answer = beat(member, 0);
            answer.assignment.is_some_and(|a| !a.topic_partitions.is_empty()).then_some(())
        });
    }
    assert_eq!(listed(&group, &["--type", "share"]).expect("listed")["type"], "share");
    let found = described(&group, &["share", "one", "two", &topic]);
    assert_eq!((&found["type"], &found["state"]), (&json!("share"), &json!("Stable")), "{found}");
    assert_eq!(found["offsets"][0]["members"], json!(["one", "two"]), "both read the partition: {found}");
    run(&["group", "reset", &group, "--to", "earliest"]).fails(6, &["2 members"]);
    for member in ["one", "two"] {
        assert_eq!(beat(member, -1).error_code, 0);
    }
    reset_and_delete(&group, &topic, "start");
}

#[test]
fn streams_groups_are_listed_described_reset_and_deleted() {
    let (topic, group) = (topic(), unique("streams"));
    let mut connection = coordinator(&group);
    let topology = StreamsGroupHeartbeatRequestTopology {
        subtopologies: vec![StreamsGroupHeartbeatRequestSubtopology {
            subtopology_id: text("0"),
            source_topics: vec![text(&topic)],
            ..Default::default()
        }],
        ..Default::default()
    };
    let mut beat = StreamsGroupHeartbeatRequest {
        group_id: text(&group),
        member_id: text("worker"),
        rebalance_timeout_ms: 60_000,
        endpoint_information_epoch: -1,
        topology: Some(topology),
        active_tasks: Some(Vec::new()),
        standby_tasks: Some(Vec::new()),
        warmup_tasks: Some(Vec::new()),
        process_id: Some(text("process")),
        ..Default::default()
    };
    wait::until("a task", LIMIT, || {
        let answer = connection.call(0, &beat);
        answer.active_tasks.is_some_and(|tasks| !tasks.is_empty()).then_some(())
    });
    assert_eq!(listed(&group, &["--type", "streams"]).expect("listed")["type"], "streams");
    let found = described(&group, &["streams", "worker", "0_0", &topic]);
    assert_eq!(
        (&found["type"], &found["members"][0]["tasks"]["active"]),
        (&json!("streams"), &json!(["0_0"])),
        "{found}"
    );
    assert_eq!(found["offsets"][0]["member"], "worker", "{found}");
    run(&["group", "reset", &group, "--to", "earliest", "-t", &topic]).fails(6, &["1 members"]);
    beat = StreamsGroupHeartbeatRequest {
        group_id: beat.group_id,
        member_id: beat.member_id,
        member_epoch: -1,
        rebalance_timeout_ms: -1,
        ..Default::default()
    };
    assert_eq!(connection.call(0, &beat).error_code, 0);
    run(&["group", "reset", &group, "--to", "latest", "-t", &topic]).ok();
    reset_and_delete(&group, &topic, "committed");
}
