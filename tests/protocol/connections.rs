//! Many connections, order of answers, pipelines.

use super::bystander::undisturbed_by;
use bytes::Bytes;
use corelane_protocol::messages::{FetchRequest, FetchRequestFetchPartition, FetchRequestFetchTopic, MetadataRequest};
use corelane_protocol::{Request, Str};
use corelane_tests::batch::{ProducerIdentity, build, now_ms};
use corelane_tests::broker::{Broker, BrokerOptions};
use corelane_tests::connection::{Connection, Fate, produce_request, to_leader};
use corelane_tests::librdkafka::{create_topic, unique};
use corelane_tests::wait;
use std::time::{Duration, Instant};

#[test]
fn pipelined_requests_are_answered_in_their_order() {
    let broker = Broker::shared();
    let topic = unique("pipeline");
    create_topic(broker, &topic, 1, &[]);
    let mut connection = to_leader(broker.bootstrap(), &topic, 0).expect("the leader");
    let mut expected = Vec::new();
    for i in 0..60_i64 {
        let batch = build(ProducerIdentity::NONE, now_ms(), [(None, Some(&b"v"[..]))]);
        let produce = produce_request(&topic, vec![(0, Bytes::from(batch))], -1);
        expected.push((connection.send(12, &produce).expect("send"), Some(i)));
        // a fast one right behind a durable write must wait for it
        let metadata = MetadataRequest { topics: Some(Vec::new()), ..MetadataRequest::default() };
        expected.push((connection.send(12, &metadata).expect("send"), None));
    }
    for (id, offset) in expected {
        match offset {
            Some(offset) => {
                let answer =
                    connection.receive::<corelane_protocol::messages::ProduceRequest>(12, id).expect("produce");
                let partition = &answer.responses[0].partition_responses[0];
                assert_eq!((partition.error_code, partition.base_offset), (0, offset));
            }
            None => drop(connection.receive::<MetadataRequest>(12, id).expect("metadata")),
        }
    }
}

#[test]
fn write_without_ack_has_no_answer_and_one_that_fails_closes_the_connection() {
    let broker = Broker::shared();
    let topic = unique("silent");
    create_topic(broker, &topic, 1, &[]);
    let mut connection = to_leader(broker.bootstrap(), &topic, 0).expect("the leader");
    let batch = Bytes::from(build(ProducerIdentity::NONE, now_ms(), [(None, Some(&b"v"[..]))]));
    connection.send(12, &produce_request(&topic, vec![(0, batch.clone())], 0)).expect("send");
    // the next answer on the connection belongs to the next request
    let (end, error) = connection.list_offset(&topic, 0, -2).expect("an answer");
    assert_eq!((end, error), (0, 0));
    wait::until("the record", Duration::from_secs(60), || {
        (connection.list_offset(&topic, 0, -1).expect("an answer") == (1, 0)).then_some(())
    });
    connection.send(12, &produce_request(&unique("absent"), vec![(0, batch.clone())], 0)).expect("send");
    assert!(connection.read_frame().is_err(), "the connection is closed");
    let mut connection = to_leader(broker.bootstrap(), &topic, 0).expect("the leader");
    let answer = connection.call(12, &produce_request(&topic, vec![(0, batch)], 5));
    assert_eq!(answer.responses[0].partition_responses[0].error_code, 21, "acks=5: INVALID_REQUIRED_ACKS");
}

#[test]
fn who_says_nothing_for_long_is_let_go() {
    const IDLE: Duration = Duration::from_secs(3);
    let broker = Broker::start(BrokerOptions::default().set("connections.max.idle.ms", IDLE.as_millis()));
    let open = || {
        let mut connection = Connection::open(broker.bootstrap()).expect("a connection");
        connection.metadata("idle").expect("an answer");
        connection
    };
    let (mut silent, mut talking) = (open(), open());
    silent.set_read_timeout(Duration::from_millis(200));
    let mut last = Instant::now();
    wait::until("the end of the silent connection", Duration::from_secs(60), || {
        let asked = Instant::now();
        if let Err(error) = talking.metadata("idle") {
            // On a slow machine it may have said nothing for as long.
            assert!(last.elapsed() >= IDLE, "who says something stays: {error}");
            talking = open();
        }
        last = asked;
        matches!(silent.fate(), Fate::Closed).then_some(())
    });
}

#[test]
fn waiting_fetch_does_not_hold_up_other_connections() {
    undisturbed_by(|broker| {
        let topic = unique("waiting");
        create_topic(broker, &topic, 1, &[]);
        let fetch = FetchRequest {
            max_wait_ms: 3000,
            min_bytes: 1,
            max_bytes: 1 << 20,
            topics: vec![FetchRequestFetchTopic {
                topic: Str::from(topic.clone()),
                partitions: vec![FetchRequestFetchPartition { partition_max_bytes: 1 << 20, ..Default::default() }],
                ..Default::default()
            }],
            ..FetchRequest::default()
        };
        let mut waiting: Vec<(Connection, i32)> = (0..100)
            .map(|_| {
                let mut connection = to_leader(broker.bootstrap(), &topic, 0).expect("the leader");
                let id = connection.send(12, &fetch).expect("send");
                (connection, id)
            })
            .collect();
        let mut writer = to_leader(broker.bootstrap(), &topic, 0).expect("the leader");
        let batch = build(ProducerIdentity::NONE, now_ms(), [(None, Some(&b"wake up"[..]))]);
        assert_eq!(writer.produce(&topic, 0, batch).expect("produce").error_code, 0);
        for (connection, id) in &mut waiting {
            let answer = connection.receive::<FetchRequest>(12, *id).expect("an answer");
            let data = &answer.responses[0].partitions[0];
            assert!(data.error_code == 0 && data.records.as_ref().is_some_and(|r| !r.is_empty()), "all of them see it");
        }
    });
}

#[test]
fn two_thousand_connections_are_served() {
    undisturbed_by(|broker| {
        let mut all: Vec<Connection> =
            (0..2000).map(|_| Connection::open(broker.bootstrap()).expect("a connection")).collect();
        let metadata = MetadataRequest { topics: Some(Vec::new()), ..MetadataRequest::default() };
        let ids: Vec<i32> = all.iter_mut().map(|c| c.send(12, &metadata).expect("send")).collect();
        for (connection, id) in all.iter_mut().zip(ids) {
            let answer = connection.receive::<MetadataRequest>(12, id).expect("an answer");
            assert!(!answer.brokers.is_empty(), "{}", MetadataRequest::API_KEY.name());
        }
    });
}
