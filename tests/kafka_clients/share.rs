//! Share groups (KIP-932) with Java's consumer, its admin client and its tools.

use corelane_tests::broker::{Broker, BrokerOptions};
use corelane_tests::java::{Java, Output};
use corelane_tests::librdkafka::{create_topic, produce_all, producer, unique};
use corelane_tests::wait;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);
const SHARE_GROUPS: &str = "org.apache.kafka.tools.consumer.group.ShareGroupCommand";
const SHARE_CONSUMER: &str = "org.apache.kafka.tools.consumer.ConsoleShareConsumer";

fn check(broker: &Broker, name: &str) {
    let out = Java::shared().run("ShareChecks", &[broker.bootstrap(), name]).ok();
    assert!(out.contains(&format!("ok {name}")), "{out}");
}

macro_rules! checks {
    ($($name:ident)*) => {$(
        #[test]
        fn $name() {
            check(Broker::shared(), stringify!($name));
        }
    )*};
}

checks! {
    what_was_polled_is_acknowledged_by_the_next_poll
    released_comes_again_and_rejected_does_not
    what_is_released_too_often_is_archived
    consumers_share_a_partition
    groups_are_described_and_their_offsets_altered
}

#[test]
fn what_is_not_acknowledged_in_time_comes_again() {
    let options = BrokerOptions::default()
        .set("group.share.min.record.lock.duration.ms", 1_000)
        .set("group.share.record.lock.duration.ms", 1_500);
    check(&Broker::start(options), "what_is_not_acknowledged_in_time_comes_again");
}

#[test]
fn every_record_is_acknowledged_once_through_kills() {
    let mut broker = Broker::start(BrokerOptions::default());
    let (name, bootstrap) = (unique("share-kill"), broker.bootstrap().to_owned());
    std::thread::scope(|scope| {
        let arguments = [bootstrap.as_str(), &name, "2000"];
        let consumers = scope.spawn(move || Java::shared().run("ShareThroughKills", &arguments));
        let client: rdkafka::consumer::BaseConsumer =
            corelane_tests::librdkafka::config(&broker).create().expect("a client");
        use rdkafka::consumer::Consumer;
        for records in [400, 1200] {
            let length = || client.fetch_watermarks(&name, 0, Duration::from_secs(5)).map_or(0, |(_, high)| high);
            wait::within(LIMIT, || (length() >= records || consumers.is_finished()).then_some(()));
            broker.kill();
            broker.resume();
        }
        let out = consumers.join().expect("the consumers").ok();
        assert!(out.contains(&format!("ok {name}")), "{out}");
    });
}

fn tool(class: &str, arguments: &[&str]) -> Output {
    let mut all = vec!["--bootstrap-server", Broker::shared().bootstrap()];
    all.extend(arguments);
    Java::shared().run(class, &all)
}

/// The words of the line that tells of `topic`.
fn line_of<'a>(out: &'a str, topic: &str) -> Vec<&'a str> {
    out.lines().find(|line| line.contains(topic)).unwrap_or_default().split_whitespace().collect()
}

#[test]
fn share_group_tools_consume_describe_reset_and_delete() {
    let (topic, group) = (unique("share-cli"), unique("share-cli-group"));
    create_topic(Broker::shared(), &topic, 1, &[]);
    let client = producer(Broker::shared(), &[]);
    let lines: Vec<String> = (0..30).map(|n| format!("line {n}")).collect();
    produce_all(&client, &topic, lines.iter().map(|line| (&b"k"[..], line.as_bytes())));
    // The group begins at the first record: its offsets are set before it has members.
    let configs = ["--alter", "--entity-type", "groups", "--entity-name", &group, "--add-config"];
    tool("kafka.admin.ConfigCommand", &[&configs[..], &["share.auto.offset.reset=earliest"]].concat()).ok();
    let consume = |count: &str| {
        let arguments = ["--topic", &topic, "--group", &group, "--timeout-ms", "30000", "--max-messages", count];
        tool(SHARE_CONSUMER, &arguments).ok()
    };
    assert_eq!(consume("30").lines().collect::<Vec<_>>(), lines);
    assert!(tool(SHARE_GROUPS, &["--list"]).ok().lines().any(|line| line == group));
    let describe = |more: &[&str]| tool(SHARE_GROUPS, &[&["--describe", "--group", &group], more].concat()).ok();
    wait::until("the group is empty", LIMIT, || describe(&["--state"]).contains("Empty").then_some(()));
    assert_eq!(line_of(&describe(&["--offsets"]), &topic).last(), Some(&"0"), "nothing is left");
    describe(&["--members"]);
    describe(&["--state", "--verbose"]);
    describe(&["--offsets", "--verbose"]);
    let reset = ["--reset-offsets", "--group", &group, "--topic", &topic, "--to-earliest"];
    tool(SHARE_GROUPS, &[&reset[..], &["--dry-run"]].concat()).ok();
    tool(SHARE_GROUPS, &[&reset[..], &["--execute"]].concat()).ok();
    assert_eq!(line_of(&describe(&["--offsets"]), &topic)[2..], ["0", "0", "30"]);
    assert_eq!(consume("30").lines().collect::<Vec<_>>(), lines, "everything once more");
    wait::until("the group is empty", LIMIT, || describe(&["--state"]).contains("Empty").then_some(()));
    tool(SHARE_GROUPS, &["--delete-offsets", "--group", &group, "--topic", &topic]).ok();
    assert!(!describe(&["--offsets"]).contains(&topic));
    tool(SHARE_GROUPS, &["--delete", "--group", &group]).ok();
    assert!(!tool(SHARE_GROUPS, &["--list"]).ok().lines().any(|line| line == group));
}
