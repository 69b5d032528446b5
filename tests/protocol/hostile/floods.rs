//! Clients that come in great numbers. `CORELANE_LONG`: for 20 seconds each, instead of so many.

use super::{LIMIT, open, small};
use crate::bystander::undisturbed;
use crate::frames::header;
use crate::{sasl, tls};
use corelane_protocol::messages::ApiVersionsRequest;
use corelane_sasl::Mechanism;
use corelane_sasl::scram::{Hash, ScramClient};
use corelane_tests::broker::is_corelane;
use corelane_tests::connection::Connection;
use corelane_tests::sasl::{authenticate, handshake, token};
use corelane_tests::scratch;
use corelane_tests::tls::Authority;
use rustls::ClientConnection;
use rustls::pki_types::ServerName;
use rustls::version::{TLS12, TLS13};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

const THREADS: usize = 4;

/// Does it `times` times in each of a few threads.
fn flood(times: usize, what: impl Fn(usize) + Sync) {
    let end = std::env::var_os("CORELANE_LONG").map(|_| Instant::now() + Duration::from_secs(20));
    let goes_on = |i: usize| end.map_or(i < times, |end| Instant::now() < end);
    let begun = Instant::now();
    let all: usize = thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|_| scope.spawn(|| (0..).take_while(|i| goes_on(*i)).inspect(|i| what(*i)).count()))
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("a flooding thread")).sum()
    });
    println!("{all} in {:?}", begun.elapsed());
}

fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).expect("a connection");
    stream.set_read_timeout(Some(LIMIT)).expect("a timeout");
    stream
}

#[test]
fn connections_that_come_and_go_all_the_time_leave_nothing_behind() {
    if !is_corelane() {
        return;
    }
    let broker = small("0,1");
    let request = header(18, 0, false, &[]);
    undisturbed(&broker, |broker| {
        flood(1500, |i| {
            let mut stream = connect(broker.port());
            match i % 3 {
                0 => {}
                1 => stream.write_all(&request[..5]).expect("a part of a request"),
                // The answer is on its way to nobody.
                _ => stream.write_all(&request).expect("a request"),
            }
        });
        assert_eq!(open(broker).call(0, &ApiVersionsRequest::default()).error_code, 0);
    });
}

#[test]
fn handshakes_of_tls_that_nobody_finishes_hold_up_nobody() {
    if !is_corelane() {
        return;
    }
    let authority = Authority::make(&scratch::folder("tls-flood"));
    let broker = tls::start(&authority, &[]);
    let configs = [&[&TLS12][..], &[&TLS13]].map(|versions| authority.client(None, versions));
    undisturbed(&broker, |broker| {
        flood(150, |i| {
            let name = ServerName::try_from("localhost").expect("a name");
            let mut client = ClientConnection::new(configs[i % 2].clone(), name).expect("a client");
            let mut hello = Vec::new();
            client.write_tls(&mut hello).expect("a hello");
            let mut stream = connect(broker.port() + 4);
            stream.write_all(&hello).expect("the hello");
            if i % 4 < 2 {
                // The broker has done its part.
                assert!(stream.read(&mut [0; 1000]).expect("an answer") > 0);
            }
        });
        let served = Connection::open_tls(&tls::at(broker, 4), &configs[1]);
        assert_eq!(served.expect("a connection").call(0, &ApiVersionsRequest::default()).error_code, 0);
    });
}

#[test]
fn logins_that_nobody_finishes_hold_up_nobody() {
    if !is_corelane() {
        return;
    }
    let (broker, _) = sasl::start("sasl-flood", &[]);
    undisturbed(&broker, |broker| {
        flood(150, |i| {
            let mut connection = sasl::open(broker);
            let hash = [Hash::Sha256, Hash::Sha512][i % 2];
            assert_eq!(handshake(&mut connection, 1, Mechanism::Scram(hash).name()).expect("an answer").error_code, 0);
            let first = ScramClient::new(hash, ["alice", "nobody"][i / 2 % 2], "wrong", "nonce").first();
            if i % 3 > 0 {
                assert_eq!(token(&mut connection, 2, first).expect("a challenge").error_code, 0);
            }
        });
        let mut connection = sasl::open(broker);
        authenticate(&mut connection, sasl::PLAIN, "alice", "plain-secret").expect("alice");
    });
}
