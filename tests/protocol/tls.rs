//! TLS listeners at a live broker: who gets in, as whom, and what becomes of those who do not shake hands.

use corelane_protocol::messages::ApiVersionsRequest;
use corelane_tests::batch::{ProducerIdentity, build, now_ms, read};
use corelane_tests::broker::{Broker, BrokerOptions, is_corelane};
use corelane_tests::connection::{Connection, Fate};
use corelane_tests::librdkafka::create_topic;
use corelane_tests::tls::Authority;
use corelane_tests::{scratch, wait};
use rustls::SupportedProtocolVersion;
use rustls::version::{TLS12, TLS13};
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

const BOTH: &[&SupportedProtocolVersion] = &[&TLS12, &TLS13];
const LIMIT: Duration = Duration::from_secs(60);

/// PLAINTEXT at the first port, SSL at the next, and a listener MAPPED at the third that asks for certificates.
pub fn start(authority: &Authority, set: &[(&str, &str)]) -> Broker {
    let options = BrokerOptions {
        set: authority.properties(),
        advertise: "node".into(),
        listen: Some(|port| {
            let (ssl, mapped) = (port + 4, port + 8);
            format!("PLAINTEXT://127.0.0.1:{port},SSL://127.0.0.1:{ssl},MAPPED://127.0.0.1:{mapped}")
        }),
        ..BrokerOptions::default()
    };
    let options = options
        .set("listener.security.protocol.map", "PLAINTEXT:PLAINTEXT,SSL:SSL,MAPPED:SSL")
        .set("listener.name.mapped.ssl.client.auth", "requested")
        .set("listener.name.mapped.ssl.principal.mapping.rules", "RULE:^CN=([^,]*).*$/$1/U,DEFAULT");
    Broker::start(set.iter().fold(options, |options, (k, v)| options.set(k, v)))
}

pub fn at(broker: &Broker, offset: u16) -> String {
    format!("127.0.0.1:{}", broker.port() + offset)
}

fn serves(connection: &mut Connection) {
    assert_eq!(connection.call(0, &ApiVersionsRequest::default()).error_code, 0);
}

/// Breaks the protocol, so that the broker says in its log who that was.
fn named_in_log(broker: &Broker, mut connection: Connection, principal: &str) {
    serves(&mut connection);
    connection.write(&[0x7f, 0xff, 0xff, 0xff, 0]).expect("written");
    assert!(matches!(connection.fate(), Fate::Closed));
    let line = format!("principal={principal:?} ");
    wait::until(&line, LIMIT, || broker.log().contains(&line).then_some(()));
}

#[test]
fn certificates_say_who_a_client_is() {
    if !is_corelane() {
        return;
    }
    let authority = Authority::make(&scratch::folder("tls-names"));
    let alice = authority.cert(&["alice"]);
    let strangers = Authority::make(&scratch::folder("tls-strangers"));
    let mallory = strangers.cert(&["mallory"]);
    let broker = start(&authority, &[("ssl.client.auth", "required")]);
    for versions in [&[&TLS12][..], &[&TLS13]] {
        let known = authority.client(Some(&alice), versions);
        serves(&mut Connection::open_tls(&at(&broker, 4), &known).expect("a connection"));
        // With TLS 1.3 a client learns only from its first read that it was turned away.
        for config in [authority.client(None, versions), authority.client(Some(&mallory), versions)] {
            let refused = Connection::open_tls(&at(&broker, 4), &config);
            let refused = refused.and_then(|mut c| c.try_call(0, &ApiVersionsRequest::default()));
            assert!(refused.is_err(), "{versions:?}");
        }
    }
    // Who does not trust the broker says so.
    assert!(Connection::open_tls(&at(&broker, 4), &strangers.client(None, BOTH)).is_err());
    let open = |offset, identity| {
        Connection::open_tls(&at(&broker, offset), &authority.client(identity, BOTH)).expect("a connection")
    };
    named_in_log(&broker, open(4, Some(&*alice)), "User:CN=alice");
    named_in_log(&broker, open(8, Some(&*alice)), "User:ALICE");
    named_in_log(&broker, open(8, None), "User:ANONYMOUS");
    named_in_log(&broker, Connection::open(&at(&broker, 0)).expect("a connection"), "User:ANONYMOUS");
}

#[test]
fn much_goes_through_unchanged_both_ways() {
    if !is_corelane() {
        return;
    }
    let authority = Authority::make(&scratch::folder("tls-much"));
    let broker = start(&authority, &[("message.max.bytes", "20000000")]);
    create_topic(&broker, "much", 1, &[]);
    let values: Vec<Vec<u8>> =
        (0..9u8).map(|n| (0..800_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8 ^ n).collect()).collect();
    for (round, versions) in [&[&TLS12][..], &[&TLS13]].into_iter().enumerate() {
        let config = authority.client(None, versions);
        let mut connection = Connection::open_tls(&at(&broker, 4), &config).expect("a connection");
        let batch = build(ProducerIdentity::NONE, now_ms(), values.iter().map(|v| (None, Some(&v[..]))));
        let answer = connection.produce("much", 0, batch).expect("an answer");
        assert_eq!((answer.error_code, answer.base_offset), (0, (round * values.len()) as i64));
        let fetched = connection.fetch("much", 0, answer.base_offset).expect("an answer");
        let found = read(&fetched.records.expect("records").into_bytes());
        assert!(found.into_iter().filter_map(|r| r.value).eq(values.iter().map(Vec::as_slice)), "{versions:?}");
    }
}

#[test]
fn who_does_not_shake_hands_is_let_go_and_disturbs_nobody() {
    if !is_corelane() {
        return;
    }
    let authority = Authority::make(&scratch::folder("tls-garbage"));
    let broker = start(&authority, &[]);
    let config = authority.client(None, BOTH);
    let mut bystander = Connection::open_tls(&at(&broker, 4), &config).expect("a connection");
    let connect = |offset| {
        let stream = TcpStream::connect(at(&broker, offset)).expect("a connection");
        stream.set_read_timeout(Some(LIMIT)).expect("a timeout");
        stream
    };
    // A request without TLS, other protocols, noise, a record that is too long, an alert, a hello that makes no sense.
    let noise: Vec<u8> = (0..70_000u32).map(|i| (i.wrapping_mul(2_246_822_519) >> 13) as u8).collect();
    let hellos: [&[u8]; 8] = [
        &[0, 0, 0, 14, 0, 3, 0, 1, 0, 0, 0, 7, 0xff, 0xff, 0, 0, 0, 0],
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        &noise,
        &[22, 3, 1, 0xff, 0xff],
        &[21, 3, 3, 0, 2, 2, 40],
        &[22, 3, 1, 0, 4, 1, 0, 0, 0],
        &[22, 3, 3, 0, 5, 1, 0, 0, 1, 0xff],
        &[23, 3, 3, 0, 1, 0],
    ];
    let before = broker.rss_bytes().expect("a process");
    for round in 0..40 {
        for hello in hellos {
            let mut stream = connect(4);
            // It may be closed before all is written.
            let _ = stream.write_all(hello);
            let mut answer = Vec::new();
            match stream.read_to_end(&mut answer) {
                Ok(_) => {}
                Err(e) => assert_eq!(e.kind(), ErrorKind::ConnectionReset, "{round}: {hello:02x?}"),
            }
            // At most an alert.
            assert!(answer.len() < 16, "{answer:02x?}");
        }
    }
    // A hello to a listener without TLS announces a request that is too large.
    let mut stream = connect(0);
    stream.write_all(&[22, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3]).expect("written");
    assert_eq!(stream.read(&mut [0; 8]).unwrap_or(0), 0);
    // Those who begin and do not end, one that says nothing, and one that says a byte now and then.
    let silent: Vec<TcpStream> = (0..200).map(|_| connect(4)).collect();
    for (i, mut stream) in silent.iter().enumerate() {
        stream.write_all([&[22, 3, 1, 1, 0][..], &[]][i % 2]).expect("written");
    }
    serves(&mut bystander);
    let mut slow = connect(4);
    slow.set_read_timeout(Some(Duration::from_millis(100))).expect("a timeout");
    let hello = [&[22u8, 3, 1, 1, 0, 1, 0, 0, 0xfc, 3, 3][..], &[7; 200]].concat();
    let mut left = hello.iter();
    wait::until("the slow one to be let go", LIMIT, || {
        if let Some(byte) = left.next() {
            let _ = slow.write_all(&[*byte]);
        }
        match slow.read(&mut [0; 8]) {
            Ok(0) => Some(()),
            Err(e) if e.kind() == ErrorKind::ConnectionReset => Some(()),
            _ => None,
        }
    });
    for mut stream in silent {
        assert_eq!(stream.read(&mut [0; 8]).unwrap_or(0), 0);
    }
    serves(&mut bystander);
    serves(&mut Connection::open_tls(&at(&broker, 4), &config).expect("a connection"));
    // What a moment takes (a backtrace of a task that held its core) is given back.
    let grown = || broker.rss_bytes().expect("a process").saturating_sub(before);
    let settled = wait::within(LIMIT, || (grown() < 32 << 20).then_some(()));
    assert!(settled.is_some(), "{} bytes more than before", grown());
}

#[test]
fn new_connections_use_the_new_certificate_once_the_file_has_changed() {
    if !is_corelane() {
        return;
    }
    let authority = Authority::make(&scratch::folder("tls-renewed"));
    let broker = start(&authority, &[]);
    let config = authority.client(None, BOTH);
    let open = || Connection::open_tls(&at(&broker, 4), &config).expect("a connection");
    let mut old = open();
    let first = old.stream().peer();
    // Another name is not taken.
    authority.cert(&["broker", "--host", "elsewhere", "--replace"]);
    let refused = "the new certificate has other names";
    wait::until(refused, LIMIT, || broker.log().contains(refused).then_some(()));
    assert_eq!(open().stream().peer(), first);
    authority.cert(&["broker", "--host", "localhost", "--host", "127.0.0.1", "--replace"]);
    wait::until("the new certificate", LIMIT, || (open().stream().peer() != first).then_some(()));
    serves(&mut old);
}

#[test]
fn keys_that_are_not_served_are_refused_or_named() {
    if !is_corelane() {
        return;
    }
    let authority = Authority::make(&scratch::folder("tls-kinds"));
    let (alice, folder) = (authority.cert(&["alice"]), scratch::folder("tls-kinds-stores"));
    let ed448 = include_str!("../../config/tests/stores/ed448.pem");
    let certificate = ed448.find("-----BEGIN CERTIFICATE").and_then(|at| ed448.get(at..)).expect("a certificate");
    let file = |name: &str, text: &str| {
        std::fs::write(folder.join(name), text).expect("a file");
        folder.join(name).display().to_string()
    };
    let own = file("own.pem", ed448);
    let mut command = corelane_tests::process::command(corelane_tests::broker::binary());
    command.args(["start", "--cores", "0", "--listen", "SSL://127.0.0.1:0", "--set", "ssl.keystore.type=PEM"]);
    command.args(["--set", &format!("ssl.keystore.location={own}"), "--data-dir"]).arg(folder.join("data"));
    let out = command.output().expect("corelane");
    let told = String::from_utf8_lossy(&out.stderr).into_owned();
    let why = "its key is Ed448, which is not served: there are RSA of 2048 to 4096 bits, ECDSA of P-256 and P-384";
    assert!(!out.status.success() && told.contains(why), "{told}");
    // Beside others one may be trusted, which helps nobody.
    let ca = std::fs::read_to_string(authority.pem("ca")).expect("ca.pem");
    let trusted = file("trusted.pem", &format!("{certificate}{ca}"));
    let broker = start(
        &authority,
        &[
            ("listener.name.mapped.ssl.truststore.type", "PEM"),
            ("listener.name.mapped.ssl.truststore.location", &trusted),
        ],
    );
    let log = broker.log();
    assert!(log.contains("the trust store has a key that is not served") && log.contains("Ed448"), "{log}");
    let config = authority.client(Some(&alice), BOTH);
    serves(&mut Connection::open_tls(&at(&broker, 8), &config).expect("alice is trusted"));
    let mut admin = Connection::open(&at(&broker, 0)).expect("a connection");
    let location = "listener.name.ssl.ssl.keystore.location";
    let (code, message) = crate::configs::alter(&mut admin, crate::configs::BROKER, "1", location, Some(&own));
    assert!(code != 0 && message.contains(why), "{code} {message}");
}

#[test]
fn stores_stand_in_properties_and_versions_are_a_listeners_own() {
    if !is_corelane() {
        return;
    }
    let authority = Authority::make(&scratch::folder("tls-inline"));
    let alice = authority.cert(&["alice"]);
    // In one line, as properties have them, and each by itself.
    let of = |name: &str, key: bool| {
        let text = std::fs::read_to_string(authority.pem(name)).expect("PEM");
        let blocks = text.split("-----BEGIN ").skip(1).filter(|block| block.contains("PRIVATE KEY") == key);
        let whole: String = blocks.map(|block| format!("-----BEGIN {block}")).collect();
        whole.replace('\n', "\\n")
    };
    let options = BrokerOptions {
        advertise: "node".into(),
        listen: Some(|port| {
            let (ssl, newer) = (port + 4, port + 8);
            format!("PLAINTEXT://127.0.0.1:{port},SSL://127.0.0.1:{ssl},NEWER://127.0.0.1:{newer}")
        }),
        ..BrokerOptions::default()
    };
    let broker = Broker::start(
        options
            .set("listener.security.protocol.map", "PLAINTEXT:PLAINTEXT,SSL:SSL,NEWER:SSL")
            .set("ssl.keystore.type", "PEM")
            .set("ssl.keystore.key", of("broker", true))
            .set("ssl.keystore.certificate.chain", of("broker", false))
            .set("ssl.truststore.type", "PEM")
            .set("ssl.truststore.certificates", of("ca", false))
            .set("listener.name.newer.ssl.client.auth", "required")
            .set("listener.name.newer.ssl.enabled.protocols", "TLSv1.3"),
    );
    let open = |offset, identity, versions| {
        let connection = Connection::open_tls(&at(&broker, offset), &authority.client(identity, versions));
        connection.and_then(|mut c| c.try_call(0, &ApiVersionsRequest::default())).map(|answer| answer.error_code)
    };
    let old: &[_] = &[&TLS12];
    assert_eq!(open(4, None, old).expect("a connection"), 0);
    assert_eq!(open(8, Some(&*alice), BOTH).expect("a connection"), 0);
    assert!(open(8, Some(&*alice), old).is_err(), "its own versions");
    assert!(open(8, None, BOTH).is_err(), "its clients show who they are");
}

#[test]
fn secrets_are_not_shown() {
    if !is_corelane() {
        return;
    }
    let authority = Authority::make(&scratch::folder("tls-secrets"));
    let broker = start(&authority, &[("ssl.key.password", "open-sesame")]);
    let mut connection = Connection::open(&at(&broker, 0)).expect("a connection");
    let shown = crate::configs::describe(&mut connection, crate::configs::BROKER, "1");
    let password = shown.iter().find(|c| &*c.name == "ssl.key.password").expect("described");
    assert!(password.is_sensitive && password.value.is_none());
    assert!(!format!("{shown:?}").contains("open-sesame") && !broker.log().contains("open-sesame"));
}

#[test]
fn a_broker_does_not_start_open_to_other_machines_unless_told_to() {
    if !is_corelane() {
        return;
    }
    let authority = Authority::make(&scratch::folder("tls-exposed"));
    let port = corelane_tests::ports::free(2);
    let start = |listen: &str, more: &[&str]| {
        let mut command = corelane_tests::process::command(corelane_tests::broker::binary());
        let data = scratch::folder("tls-exposed-data");
        command.args(["start", "--cores", "0", "--listen", listen, "--data-dir"]).arg(data.join("data"));
        for (name, value) in authority.properties() {
            command.args(["--set", &format!("{name}={value}")]);
        }
        command.args(more);
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
        corelane_tests::process::spawn(command).expect("corelane")
    };
    let open = format!("PLAINTEXT://0.0.0.0:{port}");
    let asks_nobody = format!("PLAINTEXT://127.0.0.1:{},SSL://:{port}", port + 1);
    for listen in [&open, &asks_nobody] {
        let out = start(listen, &[]).wait_with_output().expect("corelane");
        let told = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(!out.status.success() && told.contains("--allow-unauthenticated"), "{listen}: {told}");
    }
    for (listen, more) in [(&open, "--allow-unauthenticated"), (&asks_nobody, "--set=ssl.client.auth=required")] {
        let mut child = start(listen, &[more]);
        let mut ready = vec![0; 20];
        child.stdout.take().expect("stdout").read_exact(&mut ready).expect("it is ready");
        child.kill().expect("kill -9");
        child.wait().expect("the killed process");
    }
}
