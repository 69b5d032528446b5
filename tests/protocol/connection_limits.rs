//! How many connections may be open and how fast they may come, as it was set last.

use crate::configs::{BROKER, alter};
use corelane_tests::broker::{Broker, BrokerOptions, controllable};
use corelane_tests::connection::Connection;
use corelane_tests::librdkafka::LIMIT;
use corelane_tests::wait;
use std::time::{Duration, Instant};

fn set(connection: &mut Connection, name: &str, value: Option<&str>) {
    assert_eq!(alter(connection, BROKER, "", name, value), (0, String::new()), "{name}={value:?}");
}

/// A new connection, if it is served.
fn served(broker: &Broker) -> Option<Connection> {
    let mut connection = Connection::open(broker.bootstrap()).ok()?;
    connection.metadata("none").ok().map(|_| connection)
}

fn is_served(broker: &Broker) -> bool {
    served(broker).is_some()
}

#[test]
fn an_address_may_have_a_limit_of_its_own() {
    if !controllable() {
        return;
    }
    const OVERRIDES: &str = "max.connections.per.ip.overrides";
    let broker = Broker::start(BrokerOptions::default().set(OVERRIDES, "127.0.0.1:2,10.0.0.1:7"));
    // the connection that saw the broker ready counts until the broker has seen its end
    let two = || Some((served(&broker)?, served(&broker)?));
    let (mut first, _second) = wait::until("two connections", LIMIT, two);
    assert!(!is_served(&broker), "two of this address are allowed");
    set(&mut first, OVERRIDES, Some("127.0.0.1:3"));
    assert!(is_served(&broker));
    let (code, message) = alter(&mut first, BROKER, "", OVERRIDES, Some("127.0.0.1"));
    assert!(code != 0 && message.contains("127.0.0.1"), "{message}");
    // every other address is closed out
    set(&mut first, OVERRIDES, Some("10.0.0.1:1"));
    set(&mut first, "max.connections.per.ip", Some("0"));
    assert!(!is_served(&broker));
    set(&mut first, OVERRIDES, Some("10.0.0.1:1,127.0.0.1:100"));
    assert!(is_served(&broker));
    assert_ne!(alter(&mut first, BROKER, "", OVERRIDES, Some("")).0, 0, "nobody could connect then");
}

#[test]
fn connections_that_come_too_fast_wait() {
    const RATE: &str = "max.connection.creation.rate";
    if !controllable() {
        return;
    }
    let broker = Broker::start(BrokerOptions { cores: "0".into(), ..Default::default() });
    let mut admin = Connection::open(broker.bootstrap()).expect("a connection");
    set(&mut admin, RATE, Some("1"));
    // What is saved up in ten seconds comes at once, and those after it one a second.
    let begun = Instant::now();
    assert!((0..12).all(|_| is_served(&broker)), "they are served all the same");
    assert!(begun.elapsed() >= Duration::from_secs(1), "{:?}", begun.elapsed());
    set(&mut admin, RATE, None);
    assert!(is_served(&broker));
}
