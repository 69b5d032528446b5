//! Levels of loggers change what a running broker writes (KIP-412).

use crate::configs::{alter, describe, value};
use corelane_tests::broker::{Broker, BrokerOptions, is_corelane};
use corelane_tests::connection::Connection;
use corelane_tests::wait;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);
const BROKER_LOGGER: i8 = 8;
/// `DYNAMIC_BROKER_LOGGER_CONFIG`
const SOURCE: i8 = 6;
const INVALID_REQUEST: i16 = 42;
const INVALID_CONFIG: i16 = 40;

/// Lines about closed connections so far: the broker writes one at level INFO when a client breaks the protocol.
fn closed(broker: &Broker) -> usize {
    broker.log().lines().filter(|line| line.contains("request header does not parse")).count()
}

fn break_off(broker: &Broker) {
    let mut connection = Connection::open(broker.bootstrap()).expect("a connection");
    connection.write(&[0, 0, 0, 4, 0x7f, 0xff, 0, 0]).expect("written");
    assert!(connection.read_frame().is_err(), "there is no such API");
}

#[test]
fn a_logger_says_as_much_as_its_level() {
    if !is_corelane() {
        return;
    }
    let broker = Broker::start(BrokerOptions { advertise: "node".into(), ..Default::default() });
    let mut admin = Connection::open(broker.bootstrap()).expect("a connection");
    let mut set = |logger: &str, level: Option<&str>| alter(&mut admin, BROKER_LOGGER, "1", logger, level);
    break_off(&broker);
    wait::until("a line", LIMIT, || (closed(&broker) == 1).then_some(()));
    assert_eq!(set("corelane.kafka", Some("WARN")), (0, String::new()));
    break_off(&broker);
    assert_eq!(set("corelane.kafka", None), (0, String::new()));
    break_off(&broker);
    wait::until("a line", LIMIT, || (closed(&broker) == 2).then_some(()));
    assert_eq!(set("root", Some("FATAL")), (0, String::new()));
    break_off(&broker);
    assert_eq!(set("corelane", Some("DEBUG")), (0, String::new()));
    break_off(&broker);
    wait::until("a line", LIMIT, || (closed(&broker) == 3).then_some(()));

    assert_eq!(set("corelane.nothing", Some("INFO")).0, INVALID_CONFIG);
    assert_eq!(set("corelane", Some("LOUD")).0, INVALID_CONFIG);
    assert_eq!(set("root", None).0, INVALID_REQUEST);
    assert_eq!(alter(&mut admin, BROKER_LOGGER, "2", "root", Some("INFO")).0, INVALID_REQUEST);
    let level = |admin: &mut Connection, logger: &str| value(admin, BROKER_LOGGER, "1", logger);
    assert_eq!(level(&mut admin, "root"), Some(("FATAL".into(), SOURCE)));
    assert_eq!(level(&mut admin, "corelane.kafka"), Some(("DEBUG".into(), SOURCE)), "its parent's");
    assert_eq!(level(&mut admin, "corelane_storage.log"), Some(("FATAL".into(), SOURCE)));
    assert!(describe(&mut admin, BROKER_LOGGER, "1").iter().all(|entry| !entry.read_only));
}
