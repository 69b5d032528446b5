//! Key stores as Java's `keytool` makes them, at a live broker.

use corelane_tests::broker::{Broker, is_corelane};
use corelane_tests::connection::Connection;
use corelane_tests::keytool::{KeyTool, STORE_SECRET};
use corelane_tests::{scratch, wait};
use rustls::version::{TLS12, TLS13};
use std::fs;

use crate::configs::{BROKER, describe};
use crate::live_listeners::{LIMIT, at, changed, options, refused};

const LOCATION: &str = "listener.name.ssl.ssl.keystore.location";
const STORE_PASSWORD: &str = "listener.name.ssl.ssl.keystore.password";
const KEY_PASSWORD: &str = "listener.name.ssl.ssl.key.password";
const KIND: &str = "listener.name.ssl.ssl.keystore.type";

#[test]
fn a_listener_opens_with_a_jks_and_takes_another_and_a_pkcs12() {
    if !is_corelane() {
        return;
    }
    let tool = KeyTool::make(&scratch::folder("key-stores"));
    tool.key("broker.jks", "JKS", "EC", "broker", "key-secret");
    let broker = Broker::start(options());
    let mut admin = Connection::open(broker.bootstrap()).expect("a connection");
    let listeners = format!("PLAINTEXT://127.0.0.1:{},SSL://127.0.0.1:{}", broker.port(), broker.port() + 4);
    let file = tool.file("broker.jks");
    // Of Kafka's default type, which is JKS.
    let begin = |store: &'static str, key: Option<&'static str>| {
        [
            ("listeners", Some(listeners.as_str())),
            (LOCATION, Some(file.as_str())),
            (STORE_PASSWORD, Some(store)),
            (KEY_PASSWORD, key),
        ]
    };
    refused(&mut admin, &begin(STORE_SECRET, None)[..2], "key store password is not specified");
    let why = format!("the key store {file} (ssl.keystore.location): ");
    let not_it = |property: &str, whose: &str| format!("{why}{property} is not {whose}");
    refused(&mut admin, &begin("wrong-secret", None), &not_it("ssl.keystore.password", "its password"));
    refused(&mut admin, &begin(STORE_SECRET, None), &format!("{why}its private key has a password of its own"));
    let wrong_key = begin(STORE_SECRET, Some("wrong-secret"));
    refused(&mut admin, &wrong_key, &not_it("ssl.key.password", "that of its private key"));
    let whole = fs::read(&file).expect("a store");
    fs::write(&file, &whole[..whole.len() / 2]).expect("half a store");
    let good = begin(STORE_SECRET, Some("key-secret"));
    refused(&mut admin, &good, &format!("{why}ssl.keystore.password is not its password, or it is damaged"));
    fs::write(&file, &whole).expect("a store");
    changed(&mut admin, &good);
    let authority = tool.authority();
    let connect = || Connection::open_tls(&at(&broker, 4), &authority.client(None, &[&TLS12, &TLS13]));
    let first = wait::until("the listener", LIMIT, || connect().ok()).stream().peer();
    // Another takes its place, in the way of those who do so safely.
    tool.key("next.jks", "JKS", "EC", "broker", "key-secret");
    fs::rename(tool.file("next.jks"), &file).expect("another store");
    let peer = || connect().ok()?.stream().peer();
    let second = wait::until("the new file", LIMIT, || peer().filter(|shown| Some(shown) != first.as_ref()));
    // One with a key of another kind, by a change of the properties.
    tool.key("broker.p12", "PKCS12", "RSA", "broker", STORE_SECRET);
    let other = tool.file("broker.p12");
    refused(&mut admin, &[(LOCATION, Some(&other))], "ssl.key.password is not that of its private key");
    changed(&mut admin, &[(KIND, Some("PKCS12")), (LOCATION, Some(&other)), (KEY_PASSWORD, None)]);
    wait::until("the new store", LIMIT, || peer().filter(|shown| *shown != second));
    let all = describe(&mut admin, BROKER, "1");
    let password = all.iter().find(|c| &*c.name == STORE_PASSWORD).expect("described");
    assert!(password.is_sensitive && password.value.is_none());
    for secret in [STORE_SECRET, "key-secret", "wrong-secret"] {
        assert!(!format!("{all:?}").contains(secret) && !broker.log().contains(secret), "{secret}");
    }
}
