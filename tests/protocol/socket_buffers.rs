//! What the kernel holds of answers that nobody reads.

use corelane_protocol::Str;
use corelane_protocol::messages::{FetchRequest, FetchRequestFetchPartition, FetchRequestFetchTopic, MetadataRequest};
use corelane_tests::batch::{ProducerIdentity, build, now_ms};
use corelane_tests::broker::{Broker, BrokerOptions, controllable};
use corelane_tests::connection::{Connection, to_leader};
use corelane_tests::librdkafka::{create_topic, unique};
use corelane_tests::tls::Stream;
use corelane_tests::wait;
use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(60);

/// Bytes that the other side of a connection over loopback has sent and this one's kernel has not taken (proc_net_tcp(5)).
fn under_way(connection: &mut Connection) -> u64 {
    let Stream::Plain(stream) = connection.stream() else { panic!("no plain connection") };
    let (ours, theirs) = (stream.local_addr().expect("an address"), stream.peer_addr().expect("an address"));
    let port = |a: SocketAddr| format!(":{:04X}", a.port());
    let all = fs::read_to_string("/proc/net/tcp").expect("the connections");
    let fields = |line: &str| -> Option<(String, String, u64)> {
        let mut fields = line.split_whitespace().skip(1);
        let (local, remote) = (fields.next()?.to_owned(), fields.next()?.to_owned());
        let queues = fields.nth(1)?;
        Some((local, remote, u64::from_str_radix(queues.split(':').next()?, 16).ok()?))
    };
    let found = all
        .lines()
        .filter_map(fields)
        .find(|(local, remote, _)| local.ends_with(&port(theirs)) && remote.ends_with(&port(ours)));
    found.expect("the other side").2
}

/// A connection to a broker with these settings, which is sent some MiB and reads nothing.
fn unread(settings: &[(&str, &str)]) -> (Broker, Connection) {
    // One core: who has been answered after the others knows that they have been, too.
    let options = BrokerOptions { cores: "0".into(), ..BrokerOptions::default() };
    let options = settings.iter().fold(options, |options, (name, value)| options.set(name, value));
    let broker = Broker::start(options);
    let topic = unique("buffers");
    create_topic(&broker, &topic, 1, &[]);
    let mut connection = to_leader(broker.bootstrap(), &topic, 0).expect("the leader");
    for _ in 0..8 {
        let batch = build(ProducerIdentity::NONE, now_ms(), [(None, Some(&[b'x'; 900_000][..]))]);
        assert_eq!(connection.produce(&topic, 0, batch).expect("produce").error_code, 0);
    }
    let partition = FetchRequestFetchPartition { partition_max_bytes: 50 << 20, ..Default::default() };
    let topic = Str::from(topic);
    let everything = FetchRequest {
        max_bytes: 50 << 20,
        session_epoch: -1,
        topics: vec![FetchRequestFetchTopic { topic, partitions: vec![partition], ..Default::default() }],
        ..Default::default()
    };
    connection.send(12, &everything).expect("sent");
    (broker, connection)
}

#[test]
fn the_send_buffer_is_as_large_as_it_is_said_to_be() {
    if !controllable() {
        return;
    }
    let (_broker, mut tuned) = unread(&[]);
    wait::until("a MiB in the kernel", PATIENCE, || (under_way(&mut tuned) > 1 << 20).then_some(()));
    // The kernel doubles it, and goes over it by a packet.
    let (broker, mut bounded) = unread(&[("socket.send.buffer.bytes", "102400")]);
    wait::until("some of the answer", PATIENCE, || (under_way(&mut bounded) > 0).then_some(()));
    let mut other = Connection::open(broker.bootstrap()).expect("a connection");
    other.call(12, &MetadataRequest { topics: None, ..Default::default() });
    let held = under_way(&mut bounded);
    assert!((1..512 << 10).contains(&held), "{held} bytes");
}
