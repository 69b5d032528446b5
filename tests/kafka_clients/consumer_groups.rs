//! Java's consumers in groups of KIP-848 while the broker is killed, and while the group changes its protocol.

use corelane_tests::broker::{Broker, BrokerOptions};
use corelane_tests::java::Java;
use corelane_tests::librdkafka::{config, unique};
use corelane_tests::wait;
use rdkafka::consumer::{BaseConsumer, Consumer};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);

/// A broker whose groups need no seconds for a rebalance.
fn quick_groups() -> BrokerOptions {
    BrokerOptions::default()
        .set("group.consumer.min.heartbeat.interval.ms", 100)
        .set("group.consumer.heartbeat.interval.ms", 200)
        .set("group.consumer.assignment.interval.ms", 0)
}

/// Kills the broker each time that the topic's first partition has so many records, while the Java class does its work.
fn through_kills(class: &str, name: &str, more: &[&str], kills: &[i64]) {
    let mut broker = Broker::start(quick_groups());
    let bootstrap = broker.bootstrap().to_owned();
    let arguments: Vec<&str> = [bootstrap.as_str(), name].iter().chain(more).copied().collect();
    std::thread::scope(|scope| {
        let consumers = scope.spawn(|| Java::shared().run(class, &arguments));
        let client: BaseConsumer = config(&broker).create().expect("a client");
        for records in kills {
            let length = || client.fetch_watermarks(name, 0, Duration::from_secs(5)).map_or(0, |(_, high)| high);
            wait::within(LIMIT, || (length() >= *records || consumers.is_finished()).then_some(()));
            broker.kill();
            broker.resume();
        }
        let out = consumers.join().expect("the consumers").ok();
        assert!(out.contains(&format!("ok {name}")), "{out}");
    });
}

#[test]
fn consumers_go_on_through_kills() {
    through_kills("GroupThroughKills", &unique("group-kill"), &["2000"], &[200, 600]);
}

#[test]
fn members_change_their_protocol_one_by_one_and_back() {
    let (broker, name) = (Broker::start(quick_groups()), unique("migration"));
    let out = Java::shared().run("GroupMigration", &[broker.bootstrap(), &name]).ok();
    assert!(out.contains(&format!("ok {name}")), "{out}");
}

#[test]
fn members_change_their_protocol_through_kills() {
    through_kills("GroupMigration", &unique("migration-kill"), &[], &[50, 120]);
}
