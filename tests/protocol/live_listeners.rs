//! Listeners that change while the broker runs: they open, close, and take other certificates.

use corelane_protocol::messages::MetadataRequest;
use corelane_tests::broker::{Broker, BrokerOptions, is_corelane};
use corelane_tests::connection::{Connection, Fate};
use corelane_tests::tls::Authority;
use corelane_tests::{scratch, wait};
use rustls::version::{TLS12, TLS13};
use std::net::TcpListener;
use std::time::Duration;

use crate::configs::{BROKER, alter_all, describe};

pub const LIMIT: Duration = Duration::from_secs(60);
const INVALID_REQUEST: i16 = 42;
/// Dynamic of one broker.
const DYNAMIC_BROKER: i8 = 2;

pub fn at(broker: &Broker, offset: u16) -> String {
    format!("127.0.0.1:{}", broker.port() + offset)
}

pub fn options() -> BrokerOptions {
    BrokerOptions { advertise: "node".into(), ..BrokerOptions::default() }
        .set("listener.security.protocol.map", "PLAINTEXT:PLAINTEXT,NEW:PLAINTEXT,SSL:SSL")
}

fn change(connection: &mut Connection, changes: &[(&str, Option<&str>)]) -> (i16, String) {
    alter_all(connection, BROKER, "1", changes)
}

pub fn changed(connection: &mut Connection, changes: &[(&str, Option<&str>)]) {
    assert_eq!(change(connection, changes), (0, String::new()), "{changes:?}");
}

pub fn refused(connection: &mut Connection, changes: &[(&str, Option<&str>)], why: &str) {
    let (code, message) = change(connection, changes);
    assert!(code == INVALID_REQUEST && message.contains(why), "{changes:?}: {code} {message}");
}

/// A listener opens soon after the change was answered.
fn open(address: &str) -> Connection {
    wait::until(address, LIMIT, || Connection::open(address).ok())
}

fn told(connection: &mut Connection) -> Vec<i32> {
    connection.call(12, &MetadataRequest::default()).brokers.iter().map(|b| b.port).collect()
}

#[test]
fn a_listener_opens_is_told_of_and_is_there_after_a_restart() {
    if !is_corelane() {
        return;
    }
    let mut broker = Broker::start(options());
    let (first, second) = (broker.port(), broker.port() + 4);
    let mut admin = Connection::open(broker.bootstrap()).expect("a connection");
    let both = format!("PLAINTEXT://127.0.0.1:{first},NEW://127.0.0.1:{second}");
    changed(&mut admin, &[("listeners", Some(&both))]);
    assert_eq!(told(&mut open(&at(&broker, 4))), [i32::from(second)]);
    assert_eq!(told(&mut admin), [i32::from(first)]);
    // Clients were told of it.
    refused(&mut admin, &[("listeners", None)], "Advertised listeners 'PLAINTEXT, NEW' must be a subset of listeners");
    broker.kill();
    broker.resume();
    assert_eq!(told(&mut open(&at(&broker, 4))), [i32::from(second)]);
}

#[test]
fn a_listener_that_goes_takes_its_connections_along() {
    if !is_corelane() {
        return;
    }
    // Only the first is advertised, wherever that is.
    let broker = Broker::start(options().set("advertised.listeners", "PLAINTEXT://127.0.0.1:7000"));
    let (first, second) = (broker.port(), broker.port() + 4);
    let mut admin = Connection::open(broker.bootstrap()).expect("a connection");
    let both = format!("PLAINTEXT://127.0.0.1:{first},NEW://127.0.0.1:{second}");
    for _ in 0..2 {
        changed(&mut admin, &[("listeners", Some(&both))]);
        let mut came_by_it = open(&at(&broker, 4));
        assert_eq!(told(&mut came_by_it), [0; 0]);
        changed(&mut admin, &[("listeners", None)]);
        assert!(matches!(came_by_it.fate(), Fate::Closed));
        wait::until("nobody listens", LIMIT, || Connection::open(&at(&broker, 4)).err());
        assert_eq!(told(&mut admin), [7000]);
    }
}

#[test]
fn what_cannot_be_opened_is_refused_and_changes_nothing() {
    if !is_corelane() {
        return;
    }
    let broker = Broker::start(options());
    let (first, second) = (broker.port(), broker.port() + 4);
    let mut admin = Connection::open(broker.bootstrap()).expect("a connection");
    let before = describe(&mut admin, BROKER, "1");
    let taken = TcpListener::bind(("127.0.0.1", second)).expect("a free port");
    let with = |more: &str| format!("PLAINTEXT://127.0.0.1:{first},{more}");
    let new = with(&format!("NEW://127.0.0.1:{second}"));
    refused(&mut admin, &[("listeners", Some(&new))], "listener NEW: cannot listen on");
    drop(taken);
    let other = with(&format!("OTHER://127.0.0.1:{second}"));
    refused(&mut admin, &[("listeners", Some(&other))], "No security protocol defined for listener OTHER");
    let unknown_host = with(&format!("NEW://no.such.host.invalid:{second}"));
    refused(&mut admin, &[("listeners", Some(&unknown_host))], "listener NEW");
    let outside = with(&format!("NEW://0.0.0.0:{second}"));
    refused(&mut admin, &[("listeners", Some(&outside))], "can be reached from other machines");
    let moved = format!("PLAINTEXT://127.0.0.1:{second}");
    refused(&mut admin, &[("listeners", Some(&moved))], "restart the broker");
    let secure = with(&format!("SSL://127.0.0.1:{second}"));
    refused(&mut admin, &[("listeners", Some(&secure))], "needs a certificate");
    let store = [
        ("listeners", Some(secure.as_str())),
        ("listener.name.ssl.ssl.keystore.type", Some("PEM")),
        ("listener.name.ssl.ssl.keystore.location", Some("/no/such/store.pem")),
    ];
    refused(&mut admin, &store, "listener SSL: the key store");
    assert_eq!(describe(&mut admin, BROKER, "1"), before);
}

#[test]
fn a_listener_takes_another_certificate() {
    if !is_corelane() {
        return;
    }
    let authority = Authority::make(&scratch::folder("live-tls"));
    let broker = Broker::start(options());
    let mut admin = Connection::open(broker.bootstrap()).expect("a connection");
    let listeners = format!("PLAINTEXT://127.0.0.1:{},SSL://127.0.0.1:{}", broker.port(), broker.port() + 4);
    let kept = scratch::folder("live-tls-kept").join("first.pem");
    std::fs::copy(authority.pem("broker"), &kept).expect("a copy");
    let (kind, location) = ("listener.name.ssl.ssl.keystore.type", "listener.name.ssl.ssl.keystore.location");
    let first = kept.display().to_string();
    let begin = [("listeners", Some(listeners.as_str())), (kind, Some("PEM")), (location, Some(first.as_str()))];
    changed(&mut admin, &begin);
    let config = authority.client(None, &[&TLS12, &TLS13]);
    let connect = || Connection::open_tls(&at(&broker, 4), &config);
    let mut old = wait::until("the listener", LIMIT, || connect().ok());
    let shown = old.stream().peer();
    // The names must stay; a key that does not open changes nothing.
    let other = authority.cert(&["other", "--host", "elsewhere"]).display().to_string();
    refused(&mut admin, &[(location, Some(&other))], "the new certificate has other names");
    refused(&mut admin, &[(location, Some("/no/such/store.pem"))], "the key store");
    assert_eq!(connect().expect("a connection").stream().peer(), shown);
    // A renewed one of the same names, and with it a secret.
    let next = authority.cert(&["broker", "--host", "localhost", "--host", "127.0.0.1", "--replace"]);
    let next = next.display().to_string();
    let secret = ("listener.name.ssl.ssl.key.password", Some("open-sesame"));
    changed(&mut admin, &[(location, Some(&next)), secret]);
    wait::until("the new certificate", LIMIT, || (connect().ok()?.stream().peer() != shown).then_some(()));
    assert_eq!(told(&mut old).len(), 1, "who is there stays");
    let all = describe(&mut admin, BROKER, "1");
    let entry = |name: &str| all.iter().find(|c| &*c.name == name).expect("described").clone();
    assert_eq!(entry(location).value.as_deref(), Some(next.as_str()));
    assert_eq!(entry(location).config_source, DYNAMIC_BROKER);
    assert!(entry(secret.0).is_sensitive && !format!("{all:?}").contains("open-sesame"));
    assert!(!broker.log().contains("open-sesame"));
}
