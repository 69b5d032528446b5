//! Kafka Streams, exactly once, while the broker is killed under it.

use corelane_tests::broker::{Broker, BrokerOptions};
use corelane_tests::java::Java;
use corelane_tests::librdkafka::{config, unique};
use corelane_tests::wait;
use rdkafka::consumer::{BaseConsumer, Consumer};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);

/// Records of a topic so far, with the marks of transactions; 0 while it is not there.
fn length(client: &BaseConsumer, topic: &str, partitions: i32) -> i64 {
    let high = |p| client.fetch_watermarks(topic, p, Duration::from_secs(5)).map_or(0, |(_, high)| high.max(0));
    (0..partitions).map(high).sum()
}

fn words_are_counted_once_through_a_kill(protocol: &str) {
    let settings = [("heartbeat.interval", 500), ("min.heartbeat.interval", 500), ("initial.rebalance.delay", 0)];
    let set = |options: BrokerOptions, (name, ms)| options.set(&format!("group.streams.{name}.ms"), ms);
    let mut broker = Broker::start(settings.into_iter().fold(BrokerOptions::default(), set));
    let name = unique(&format!("streams-{protocol}"));
    let bootstrap = broker.bootstrap().to_owned();
    let folder = broker.folder().join("streams");
    std::thread::scope(|scope| {
        let application = scope.spawn(|| {
            let folder = folder.to_str().expect("a path");
            Java::shared().run("StreamsChecks", &[&bootstrap, protocol, &name, folder])
        });
        let client: BaseConsumer = config(&broker).create().expect("a client");
        let out = format!("{name}-out");
        for records in [400, 3000] {
            wait::within(LIMIT, || (length(&client, &out, 3) >= records || application.is_finished()).then_some(()));
            broker.kill();
            broker.resume();
        }
        let out = application.join().expect("the application").ok();
        assert!(out.contains(&format!("ok {name}")), "{out}");
    });
}

#[test]
fn streams_with_the_classic_protocol_counts_once() {
    words_are_counted_once_through_a_kill("classic");
}

#[test]
fn streams_with_the_streams_protocol_counts_once() {
    words_are_counted_once_through_a_kill("streams");
}

#[test]
fn kafka_streams_groups_lists_describes_and_deletes() {
    let broker = Broker::shared();
    let group = unique("streams-tool");
    let folder = broker.folder().join(&group);
    let arguments = [broker.bootstrap(), "streams", &group, folder.to_str().expect("a path"), "--offsets"];
    let shown = Java::shared().run("StreamsChecks", &arguments).ok();
    let of = |topic: &str| shown.lines().filter(|line| line.contains(&format!(" {group}-{topic} "))).count();
    assert_eq!((of("in"), of("words-repartition")), (4, 4), "{shown}");
    let tool = |arguments: &[&str]| {
        let all = [&["--bootstrap-server", broker.bootstrap()], arguments].concat();
        Java::shared().run("org.apache.kafka.tools.streams.StreamsGroupCommand", &all).ok()
    };
    assert!(tool(&["--list"]).lines().any(|line| line.trim() == group));
    let out = tool(&["--delete", "--group", &group]);
    assert!(out.contains("success"), "{out}");
    assert!(!tool(&["--list"]).contains(&group));
}
