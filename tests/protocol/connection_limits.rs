//! How many connections may be open and how fast they may come, as it was set last.

use crate::configs::{BROKER, alter, value};
use corelane_protocol::messages::ApiVersionsRequest;
use corelane_tests::broker::{Broker, BrokerOptions, controllable, is_corelane};
use corelane_tests::connection::{Connection, Fate};
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

/// A broker with two listeners, of which the first is that of brokers.
fn of_two_listeners(set: &[(&str, &str)]) -> (Broker, String) {
    let options = BrokerOptions {
        advertise: "node".into(),
        listen: Some(|port| format!("PLAINTEXT://127.0.0.1:{port},CLIENTS://127.0.0.1:{}", port + 4)),
        ..BrokerOptions::default()
    };
    let options = options.set("listener.security.protocol.map", "PLAINTEXT:PLAINTEXT,CLIENTS:PLAINTEXT");
    let broker = Broker::start(set.iter().fold(options, |options, (name, value)| options.set(name, value)));
    let clients = format!("127.0.0.1:{}", broker.port() + 4);
    (broker, clients)
}

fn answers(connection: &mut Connection) {
    assert_eq!(connection.call(0, &ApiVersionsRequest::default()).error_code, 0);
}

/// A connection that is served, as soon as there is a place.
fn open(address: &str) -> Connection {
    let mut connection = Connection::open(address).expect("the kernel takes it");
    answers(&mut connection);
    connection
}

/// One that asks for something, and the number of its request.
fn waiting(address: &str) -> (Connection, i32) {
    let mut connection = Connection::open(address).expect("the kernel takes it");
    let id = connection.send(0, &ApiVersionsRequest::default()).expect("the kernel takes it");
    connection.set_read_timeout(Duration::from_millis(50));
    assert!(matches!(connection.fate(), Fate::Silent), "there is no place");
    (connection, id)
}

fn is_answered((mut connection, id): (Connection, i32)) -> Connection {
    connection.set_read_timeout(LIMIT);
    assert_eq!(connection.receive::<ApiVersionsRequest>(0, id).expect("an answer").error_code, 0);
    connection
}

#[test]
fn a_listener_may_have_a_limit_of_its_own() {
    const OWN: &str = "listener.name.clients.max.connections";
    if !is_corelane() {
        return;
    }
    let (broker, clients) = of_two_listeners(&[(OWN, "2")]);
    let mut admin = open(broker.bootstrap());
    let mut served = vec![open(&clients), open(&clients)];
    let more = [waiting(&clients), waiting(&clients)];
    answers(&mut open(broker.bootstrap()));
    assert_eq!(value(&mut admin, BROKER, "1", OWN), Some(("2".to_owned(), 4)));
    set(&mut admin, OWN, Some("4"));
    assert_eq!(value(&mut admin, BROKER, "1", OWN), Some(("4".to_owned(), 3)));
    assert_eq!(value(&mut admin, BROKER, "", OWN), Some(("4".to_owned(), 3)));
    served.extend(more.map(is_answered));
    let fifth = waiting(&clients);
    // Of this broker it goes before that of all.
    assert_eq!(alter(&mut admin, BROKER, "1", OWN, Some("5")), (0, String::new()));
    served.push(is_answered(fifth));
    assert_eq!(alter(&mut admin, BROKER, "1", OWN, None), (0, String::new()));
    set(&mut admin, OWN, None);
    // Those that are there stay.
    served.iter_mut().for_each(answers);
    let sixth = waiting(&clients);
    drop(served);
    is_answered(sixth);
    for (name, value, why) in [
        (OWN, "0", "Invalid max.connections 0 of listener CLIENTS"),
        ("listener.name.nobody.max.connections", "1", "there is no listener nobody"),
    ] {
        let (code, message) = alter(&mut admin, BROKER, "", name, Some(value));
        assert!(code != 0 && message.contains(why), "{name}: {code} {message}");
    }
}

#[test]
fn those_who_come_by_the_listener_of_brokers_find_a_place() {
    if !is_corelane() {
        return;
    }
    let (broker, clients) = of_two_listeners(&[("max.connections", "4")]);
    let mut of_brokers = vec![open(broker.bootstrap())];
    let [mut a, mut b, mut c] = [open(&clients), open(&clients), open(&clients)];
    let _nobody = waiting(&clients);
    answers(&mut a);
    answers(&mut c);
    of_brokers.push(open(broker.bootstrap()));
    assert!(matches!(b.fate(), Fate::Closed), "it was idle longest");
    answers(&mut c);
    answers(&mut a);
    of_brokers.push(open(broker.bootstrap()));
    assert!(matches!(c.fate(), Fate::Closed), "it was idle longest");
    answers(&mut a);
    of_brokers.push(open(broker.bootstrap()));
    assert!(matches!(a.fate(), Fate::Closed), "there is no other");
    // What the broker may have its listeners may have, too.
    let fifth = waiting(broker.bootstrap());
    of_brokers.iter_mut().for_each(answers);
    drop(of_brokers);
    is_answered(fifth);
}

#[test]
fn who_has_been_idle_longest_goes_when_there_may_be_fewer() {
    if !is_corelane() {
        return;
    }
    let broker = Broker::start(BrokerOptions { advertise: "node".into(), ..Default::default() });
    let mut others: Vec<Connection> = (0..5).map(|_| open(broker.bootstrap())).collect();
    let mut admin = open(broker.bootstrap());
    let first = &mut others[0];
    answers(first);
    set(&mut admin, "max.connections", Some("3"));
    for idle in [1, 2, 3] {
        assert!(matches!(others[idle].fate(), Fate::Closed), "{idle}");
    }
    for busier in [0, 4] {
        answers(&mut others[busier]);
    }
    answers(&mut admin);
}

#[test]
fn connections_that_come_by_a_listener_too_fast_wait() {
    const RATE: &str = "listener.name.clients.max.connection.creation.rate";
    if !is_corelane() {
        return;
    }
    let (broker, clients) = of_two_listeners(&[]);
    let mut admin = open(broker.bootstrap());
    assert_eq!(alter(&mut admin, BROKER, "1", RATE, Some("1")), (0, String::new()));
    let begun = Instant::now();
    (0..12).for_each(|_| drop(open(&clients)));
    assert!(begun.elapsed() >= Duration::from_secs(1), "{:?}", begun.elapsed());
    assert_ne!(alter(&mut admin, BROKER, "1", RATE, Some("0")).0, 0, "nobody could come any more");
    assert_eq!(alter(&mut admin, BROKER, "1", RATE, None), (0, String::new()));
    answers(&mut open(&clients));
}
