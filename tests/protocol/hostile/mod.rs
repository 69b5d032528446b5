//! Clients that mean harm, at a live broker: each test says what they do. Beside them a bystander is answered as ever, and the
//! broker stays within its memory. More of them are in `frames`, `connections`, `mutations`, `unread`, `tls` and `sasl`.

mod certificates;
mod floods;
mod large;
mod names;
mod slow;
mod vanishing;

use corelane_protocol::messages::{FetchRequest, FetchRequestFetchPartition, FetchRequestFetchTopic};
use corelane_tests::broker::{Broker, BrokerOptions};
use corelane_tests::connection::Connection;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);
/// What the brokers of these tests take in one request.
const REQUEST_MAX: usize = 4 << 20;

/// A broker with little memory.
fn small(cores: &str) -> Broker {
    let options = BrokerOptions {
        args: vec!["--memory".into(), "128MiB".into()],
        cores: cores.into(),
        advertise: "node".into(),
        ..BrokerOptions::default()
    };
    Broker::start(options.set("socket.request.max.bytes", REQUEST_MAX))
}

fn open(broker: &Broker) -> Connection {
    Connection::open(broker.bootstrap()).expect("a connection")
}

/// Waits for records of one partition for a minute.
fn waiting_fetch(topic: &str) -> FetchRequest {
    let partitions = vec![FetchRequestFetchPartition { partition_max_bytes: 1 << 20, ..Default::default() }];
    FetchRequest {
        max_wait_ms: 60_000,
        min_bytes: 1,
        max_bytes: 1 << 20,
        session_epoch: -1,
        topics: vec![FetchRequestFetchTopic { topic: topic.to_owned().into(), partitions, ..Default::default() }],
        ..Default::default()
    }
}
