//! Clients that take their time.

use super::{LIMIT, REQUEST_MAX, open, small, waiting_fetch};
use crate::bystander::{StopAtEnd, undisturbed};
use corelane_protocol::frame;
use corelane_protocol::messages::{ApiVersionsRequest, MetadataRequest};
use corelane_tests::batch::{ProducerIdentity, build, now_ms};
use corelane_tests::broker::{Broker, BrokerOptions, is_corelane};
use corelane_tests::connection::{Connection, Fate, to_leader};
use corelane_tests::librdkafka::{create_topic, unique};
use corelane_tests::wait;
use std::io::Write;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

/// The length of a frame, and its first bytes.
fn begun(size: usize, bytes: usize) -> Vec<u8> {
    let mut out = (size as u32).to_be_bytes().to_vec();
    out.resize(bytes, 0);
    out
}

#[test]
fn frames_that_never_end_give_their_memory_to_those_that_do() {
    if !is_corelane() {
        return;
    }
    let broker = small("0,1");
    let topic = unique("patient");
    create_topic(&broker, &topic, 1, &[]);
    undisturbed(&broker, |broker| {
        // More than there is memory for requests of their size. Half of them send another byte now and then.
        let mut stalled: Vec<Connection> = (0..300).map(|_| open(broker)).collect();
        let ended = AtomicBool::new(false);
        thread::scope(|scope| {
            for (i, connection) in stalled.iter_mut().enumerate() {
                let size = if i % 4 < 3 { 1 << 20 } else { REQUEST_MAX };
                connection.write(&begun(size, 60 << 10)).expect("the beginning of a frame");
            }
            let (dripping, still) = stalled.split_at_mut(150);
            let (ended, stopping) = (&ended, StopAtEnd(&ended));
            let drip = scope.spawn(move || {
                while !ended.load(SeqCst) {
                    // those that are given up do not take it any more
                    dripping.iter_mut().for_each(|connection| drop(connection.write(&[0])));
                    thread::park_timeout(Duration::from_millis(50));
                }
                dripping
            });
            let mut writer = to_leader(broker.bootstrap(), &topic, 0).expect("the leader");
            let batch = build(ProducerIdentity::NONE, now_ms(), [(None, Some(&[b'x'; 300 << 10][..]))]);
            for _ in 0..3 {
                let answer = writer.produce(&topic, 0, batch.clone()).expect("an answer");
                assert_eq!(answer.error_code, 0);
            }
            drop(stopping);
            let dripping = drip.join().expect("the dripping clients");
            // Who is given up is not said: those that waited for memory have it when enough of them are.
            let given_up = |connection: &mut Connection| {
                connection.set_read_timeout(Duration::from_millis(1));
                matches!(connection.fate(), Fate::Closed)
            };
            let some = wait::within(LIMIT, || dripping.iter_mut().chain(&mut *still).any(given_up).then_some(()));
            assert!(some.is_some(), "nobody was given up");
        });
    });
}

#[test]
fn large_parts_of_frames_that_never_end_cost_nobody_else_the_connection() {
    if !is_corelane() {
        return;
    }
    let broker = small("0,1");
    undisturbed(&broker, |broker| {
        // As much as each is let send, and those that are let go come again.
        for _ in 0..3 {
            let mut streams: Vec<TcpStream> = (0..200)
                .map(|_| {
                    let stream = TcpStream::connect(broker.bootstrap()).expect("a connection");
                    stream.set_nonblocking(true).expect("a socket that does not block");
                    stream
                })
                .collect();
            let frame = begun(REQUEST_MAX, 2 << 20);
            let mut sent = vec![0; streams.len()];
            for _ in 0..20 {
                for (stream, sent) in streams.iter_mut().zip(&mut sent) {
                    while let Ok(n @ 1..) = stream.write(frame.get(*sent..).unwrap_or_default()) {
                        *sent += n;
                    }
                }
                thread::park_timeout(Duration::from_millis(20));
            }
            assert!(sent.iter().sum::<usize>() > 32 << 20, "as much as there is memory for: {sent:?}");
        }
    });
}

#[test]
fn requests_behind_one_that_waits_keep_no_receive_memory_from_others() {
    if !is_corelane() {
        return;
    }
    // Each of these connections asks for records that do not come, and sends more with that. What else comes fills one receive
    // buffer of the shard after the other, and each holds something of one of them.
    let broker = small("0");
    let (quiet, filled) = (unique("quiet"), unique("filled"));
    create_topic(&broker, &quiet, 1, &[]);
    create_topic(&broker, &filled, 1, &[]);
    let fetch = frame::request(12, 1, None, &waiting_fetch(&quiet)).expect("a frame").concat();
    undisturbed(&broker, |broker| {
        let mut filling = open(broker);
        let batch = build(ProducerIdentity::NONE, now_ms(), [(None, Some(&[b'x'; 300 << 10][..]))]);
        let waiting: Vec<Connection> = (0..40)
            .map(|_| {
                let mut connection = open(broker);
                connection.write(&[&fetch[..], &fetch].concat()).expect("two requests");
                assert_eq!(filling.produce(&filled, 0, batch.clone()).expect("an answer").error_code, 0);
                connection
            })
            .collect();
        let mut other = open(broker);
        assert!(other.metadata(&quiet).is_ok());
        // They are served all the same, once there is something for them.
        let batch = build(ProducerIdentity::NONE, now_ms(), [(None, Some(&b"awaited"[..]))]);
        assert_eq!(other.produce(&quiet, 0, batch).expect("an answer").error_code, 0);
        for mut connection in waiting {
            for _ in 0..2 {
                connection.read_frame().expect("an answer");
            }
        }
    });
}

#[test]
fn peers_that_have_gone_without_a_word_are_let_go() {
    if !is_corelane() {
        return;
    }
    let options = BrokerOptions::default().set("connections.max.idle.ms", 1000);
    let broker = Broker::start(options);
    undisturbed(&broker, |broker| {
        // Nothing comes of them any more: from the beginning, within a length, within a frame, after an answer.
        let mut gone: Vec<Connection> = (0..400)
            .map(|i| {
                let mut connection = open(broker);
                match i % 4 {
                    0 => {}
                    1 => connection.write(&[0, 0]).expect("half a length"),
                    2 => connection.write(&begun(REQUEST_MAX, 1000)).expect("the beginning of a frame"),
                    _ => assert_eq!(connection.call(0, &ApiVersionsRequest::default()).error_code, 0),
                }
                connection
            })
            .collect();
        for (i, connection) in gone.iter_mut().enumerate() {
            connection.set_read_timeout(LIMIT);
            let fate = connection.fate();
            assert!(matches!(fate, Fate::Closed), "connection {i}: {fate:?}");
        }
        let mut alive = open(broker);
        assert!(!alive.call(12, &MetadataRequest::default()).brokers.is_empty());
    });
}
