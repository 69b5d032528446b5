//! Clients that ask for much and read nothing.

use super::bystander::undisturbed;
use corelane_protocol::Str;
use corelane_protocol::messages::{FetchRequest, FetchRequestFetchPartition, FetchRequestFetchTopic, MetadataRequest};
use corelane_tests::batch::{ProducerIdentity, build, now_ms, read};
use corelane_tests::broker::{Broker, BrokerOptions, is_corelane};
use corelane_tests::connection::{Connection, to_leader};
use corelane_tests::librdkafka::{create_topic, unique};
use std::io::ErrorKind;
use std::time::Duration;

const PARTITIONS: i32 = 4;
const BATCHES: i64 = 100;

fn everything(topic: &str) -> FetchRequest {
    let partitions = (0..PARTITIONS).map(|partition| FetchRequestFetchPartition {
        partition,
        partition_max_bytes: 50 << 20,
        ..Default::default()
    });
    FetchRequest {
        max_bytes: 50 << 20,
        session_epoch: -1,
        topics: vec![FetchRequestFetchTopic {
            topic: Str::from(topic.to_owned()),
            partitions: partitions.collect(),
            ..Default::default()
        }],
        ..Default::default()
    }
}

/// Sends requests until the broker takes no more of them, and reads no answer.
fn deluge<R: corelane_protocol::Request>(broker: &Broker, request: &R) -> Connection {
    let mut connection = Connection::open(broker.bootstrap()).expect("a connection");
    for _ in 0..300 {
        match connection.send(12, request) {
            Ok(_) => {}
            Err(e) if matches!(e.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => break,
            Err(e) => panic!("{e}"),
        }
    }
    connection
}

#[test]
fn answers_that_nobody_reads_do_not_grow_the_broker_or_hold_up_others() {
    if !is_corelane() {
        return;
    }
    let options = BrokerOptions {
        args: vec!["--memory".into(), "128MiB".into()],
        advertise: "node".into(),
        ..BrokerOptions::default()
    };
    let broker = Broker::start(options);
    let topic = unique("unread");
    create_topic(&broker, &topic, PARTITIONS, &[]);
    create_topic(&broker, &unique("wide"), 400, &[]);
    let mut writer = to_leader(broker.bootstrap(), &topic, 0).expect("the leader");
    let value = vec![b'x'; 900_000];
    for i in 0..BATCHES {
        let batch = build(ProducerIdentity::NONE, now_ms(), [(None, Some(&value[..]))]);
        let partition = i as i32 % PARTITIONS;
        assert_eq!(writer.produce(&topic, partition, batch).expect("produce").error_code, 0);
    }
    undisturbed(&broker, |broker| {
        let fetches: Vec<Connection> = (0..40).map(|_| deluge(broker, &everything(&topic))).collect();
        let all = MetadataRequest { topics: None, ..Default::default() };
        let metadata: Vec<Connection> = (0..40).map(|_| deluge(broker, &all)).collect();
        // One that does read gets all there is.
        let mut reader = to_leader(broker.bootstrap(), &topic, 0).expect("the leader");
        reader.set_read_timeout(Duration::from_secs(60));
        for partition in 0..PARTITIONS {
            let mut next = 0;
            while next < BATCHES / i64::from(PARTITIONS) {
                let data = reader.fetch(&topic, partition, next).expect("an answer");
                let records = read(&data.records.expect("records").into_bytes());
                next = records.last().expect("a record").offset + 1;
            }
        }
        drop((fetches, metadata));
    });
}

#[test]
fn peer_that_has_closed_its_half_still_gets_its_answers() {
    let broker = Broker::shared();
    let topic = unique("half-closed");
    create_topic(broker, &topic, PARTITIONS, &[]);
    let mut writer = to_leader(broker.bootstrap(), &topic, 0).expect("the leader");
    let value = vec![b'x'; 900_000];
    for _ in 0..10 {
        let batch = build(ProducerIdentity::NONE, now_ms(), [(None, Some(&value[..]))]);
        assert_eq!(writer.produce(&topic, 0, batch).expect("produce").error_code, 0);
    }
    let mut connection = to_leader(broker.bootstrap(), &topic, 0).expect("the leader");
    let ids: Vec<i32> = (0..3).map(|_| connection.send(12, &everything(&topic)).expect("send")).collect();
    connection.end_of_requests();
    for id in ids {
        let answer = connection.receive::<FetchRequest>(12, id).expect("an answer");
        assert_eq!(answer.responses[0].partitions.len(), PARTITIONS as usize);
    }
}
