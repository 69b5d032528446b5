//! Frames and headers that are wrong.

use super::bystander::undisturbed_by;
use bytes::Bytes;
use corelane_protocol::messages::{ApiVersionsRequest, ApiVersionsResponse, MetadataRequest};
use corelane_protocol::{ApiKey, Decoder, Message, Str, frame};
use corelane_tests::broker::{Broker, is_corelane};
use corelane_tests::connection::{Connection, Fate};

fn open(broker: &Broker) -> Connection {
    Connection::open(broker.bootstrap()).expect("a connection")
}

fn fate(broker: &Broker, bytes: &[u8]) -> Fate {
    let mut connection = open(broker);
    // the broker may close before all is sent
    let _ = connection.write(bytes);
    connection.fate()
}

fn metadata_frame(version: i16, correlation_id: i32) -> Vec<u8> {
    let request = MetadataRequest { topics: Some(Vec::new()), ..MetadataRequest::default() };
    let slices = frame::request(version, correlation_id, Some(Str::from("t")), &request).expect("a frame");
    slices.concat()
}

/// Length, api key, version, correlation id, client id "t".
pub fn header(api: i16, version: i16, flexible: bool, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend(api.to_be_bytes());
    out.extend(version.to_be_bytes());
    out.extend(77_i32.to_be_bytes());
    out.extend([0, 1, b't']);
    if flexible {
        out.push(0);
    }
    out.extend(body);
    let mut framed = i32::try_from(out.len()).expect("small").to_be_bytes().to_vec();
    framed.extend(out);
    framed
}

#[test]
fn api_versions_of_an_unknown_version_is_answered_in_version_0_with_error_35() {
    let broker = Broker::shared();
    for version in [5, 99, 32767] {
        let mut connection = open(broker);
        connection.write(&header(18, version, true, b"\xff\xff garbage that must not be parsed")).expect("write");
        let mut d = Decoder::new(connection.read_frame().expect("an answer"));
        assert_eq!(d.i32(), Ok(77), "header version 0");
        let body = ApiVersionsResponse::decode(&mut d, 0).expect("a body of version 0");
        assert_eq!((body.error_code, d.remaining()), (35, 0), "version {version}");
        let own = body.api_keys.iter().find(|a| a.api_key == 18).expect("ApiVersions is among the APIs");
        assert!(own.max_version >= 3);
        // the connection goes on with a version that both know
        let answer = connection.call(0, &ApiVersionsRequest::default());
        assert_eq!(answer.error_code, 0);
    }
}

#[test]
fn impossible_lengths_close_the_connection() {
    undisturbed_by(|broker| {
        for length in [i32::MAX, -1, i32::MIN, 101 << 20, 1 << 30] {
            for tail in [&b""[..], &[0; 100]] {
                let mut bytes = length.to_be_bytes().to_vec();
                bytes.extend(tail);
                let fate = fate(broker, &bytes);
                assert!(matches!(fate, Fate::Closed), "length {length}: {fate:?}");
            }
        }
        for length in 0..8_usize {
            let mut bytes = i32::try_from(length).expect("small").to_be_bytes().to_vec();
            bytes.extend(vec![0; length]);
            let fate = fate(broker, &bytes);
            assert!(matches!(fate, Fate::Closed), "a frame of {length} bytes: {fate:?}");
        }
    });
}

#[test]
fn unknown_apis_and_versions_close_the_connection() {
    undisturbed_by(|broker| {
        for api in [-1, i16::MIN, 4, 5, 6, 7, 93, 500, i16::MAX] {
            let fate = fate(broker, &header(api, 0, false, &[0; 16]));
            assert!(matches!(fate, Fate::Closed), "api {api}: {fate:?}");
        }
        for api in ApiKey::ALL.iter().filter(|a| **a != ApiKey::ApiVersions) {
            for version in [-1, api.valid_versions().end() + 1, i16::MAX] {
                let fate = fate(broker, &header(api.key(), version, true, &[0; 16]));
                assert!(matches!(fate, Fate::Closed), "{} v{version}: {fate:?}", api.name());
            }
        }
    });
}

#[test]
fn tags_that_nobody_knows_are_passed_over() {
    let mut connection = open(Broker::shared());
    let unknown = b"\x02\x07\x03abc\xff\x01\x00";
    // Two in the header, and two behind a body that asks for no topic.
    let mut frame = vec![0, 3, 0, 12, 0, 0, 0, 5, 0, 1, b't'];
    frame.extend(unknown);
    frame.extend([1, 0, 0]);
    frame.extend(unknown);
    connection.write(&i32::try_from(frame.len()).expect("small").to_be_bytes()).expect("write");
    connection.write(&frame).expect("write");
    let answer = connection.receive::<MetadataRequest>(12, 5).expect("an answer");
    assert_eq!((answer.topics.len(), answer.brokers.len()), (0, 1));
}

#[test]
fn broken_headers_close_the_connection() {
    undisturbed_by(|broker| {
        let client_ids: [&[u8]; 5] = [&[0x7f, 0xff], &[0xff, 0xfe], &[0, 200, b'x'], &[0, 2, 0xff, 0xfe], &[0, 0]];
        for client_id in client_ids {
            for tags in [&b""[..], b"\xff\xff\xff\xff\x0f", b"\x01\x00\xff\xff\xff\xff\x0f", b"\x05"] {
                let mut out = vec![0, 3, 0, 9, 0, 0, 0, 1];
                out.extend(client_id);
                out.extend(tags);
                let mut bytes = i32::try_from(out.len()).expect("small").to_be_bytes().to_vec();
                bytes.extend(out);
                let fate = fate(broker, &bytes);
                assert!(matches!(fate, Fate::Closed), "client id {client_id:?}, tags {tags:?}: {fate:?}");
            }
        }
    });
}

#[test]
fn requests_cut_anywhere_do_no_harm() {
    undisturbed_by(|broker| {
        for version in [1, 9, 13] {
            let whole = metadata_frame(version, 5);
            for cut in 0..whole.len() {
                // the peer goes away inside a frame
                let mut connection = open(broker);
                connection.write(&whole[..cut]).expect("write");
                drop(connection);
                // a whole frame with a body that ends early: answered or closed, not waited for
                let mut short = whole[..cut].to_vec();
                if cut >= 4 {
                    short[..4].copy_from_slice(&i32::try_from(cut - 4).expect("small").to_be_bytes());
                    let fate = fate(broker, &short);
                    assert!(!matches!(fate, Fate::Silent), "v{version} cut at {cut}: {fate:?}");
                }
            }
        }
    });
}

#[test]
fn bytes_behind_a_request_are_not_executed() {
    undisturbed_by(|broker| {
        let mut bytes = metadata_frame(9, 5);
        bytes.extend([0xde; 40]);
        let length = i32::try_from(bytes.len() - 4).expect("small");
        bytes[..4].copy_from_slice(&length.to_be_bytes());
        let fate = fate(broker, &bytes);
        assert!(!matches!(fate, Fate::Silent), "{fate:?}");
    });
}

#[test]
fn slow_half_frames_keep_nobody_waiting_and_are_answered_in_the_end() {
    undisturbed_by(|broker| {
        let whole = metadata_frame(12, 9);
        let mut slow: Vec<Connection> = (0..200).map(|_| open(broker)).collect();
        for (i, connection) in slow.iter_mut().enumerate() {
            connection.write(&whole[..1 + i % (whole.len() - 1)]).expect("half a frame");
        }
        for (i, connection) in slow.iter_mut().enumerate() {
            for byte in &whole[1 + i % (whole.len() - 1)..] {
                connection.write(&[*byte]).expect("a byte");
            }
        }
        for connection in &mut slow {
            let answer = connection.read_frame().expect("an answer");
            assert_eq!(answer.slice(..4), Bytes::from_static(&[0, 0, 0, 9]));
        }
    });
}

#[test]
fn frame_announced_but_not_sent_takes_no_memory() {
    if !is_corelane() {
        return; // Apache Kafka allocates what is announced, and does not survive this
    }
    undisturbed_by(|broker| {
        // 300 connections announce 95 MiB each, which is allowed, and send a little of it
        let waiting: Vec<Connection> = (0..300)
            .map(|_| {
                let mut connection = open(broker);
                let mut bytes = (95_i32 << 20).to_be_bytes().to_vec();
                bytes.extend([0, 3, 0, 9, 0, 0, 0, 1, 0, 1, b't', 0]);
                connection.write(&bytes).expect("write");
                connection
            })
            .collect();
        let mut connection = open(broker);
        assert!(connection.metadata("no-such-topic").is_ok());
        drop(waiting);
    });
}
