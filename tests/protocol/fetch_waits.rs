//! Consumers that keep up: request after request from the end of the log, over partitions of every core.

use corelane_protocol::messages::{
    FetchRequest, FetchRequestFetchPartition, FetchRequestFetchTopic, FetchRequestForgottenTopic, FetchResponse,
};
use corelane_protocol::{Str, Uuid};
use corelane_tests::batch::{ProducerIdentity, build, now_ms, read};
use corelane_tests::broker::{Broker, BrokerOptions};
use corelane_tests::connection::{Connection, to_leader};
use corelane_tests::librdkafka::{admin, admin_options, block_on, create_topic, unique};
use std::time::Duration;

const PARTITIONS: i32 = 8;
const UNKNOWN_TOPIC_ID: i16 = 100;
/// Longer than the test may take: who is not woken is not helped by the deadline.
const FOR_EVER: i32 = 600_000;

struct Consumer {
    connection: Connection,
    topic: Str,
    id: Uuid,
    /// The next offset of every partition.
    next: Vec<i64>,
    /// The order in which the partitions are asked for.
    order: Vec<i32>,
}

impl Consumer {
    fn new(broker: &Broker, name: &str) -> Consumer {
        let mut connection = to_leader(broker.bootstrap(), name, 0).expect("the leader");
        connection.set_read_timeout(Duration::from_secs(30));
        let id = connection.metadata(name).expect("metadata").topics[0].topic_id;
        let (topic, next) = (Str::from(name.to_owned()), vec![0; PARTITIONS as usize]);
        Consumer { connection, topic, id, next, order: (0..PARTITIONS).collect() }
    }

    fn asked(&self, partitions: &[i32]) -> Vec<FetchRequestFetchTopic> {
        let asked = |p: &i32| FetchRequestFetchPartition {
            partition: *p,
            fetch_offset: self.next[*p as usize],
            partition_max_bytes: 1 << 20,
            ..Default::default()
        };
        let partitions = partitions.iter().map(asked).collect();
        vec![FetchRequestFetchTopic { topic: self.topic.clone(), topic_id: self.id, partitions, ..Default::default() }]
    }

    fn patient(&self) -> FetchRequest {
        FetchRequest {
            max_wait_ms: FOR_EVER,
            min_bytes: 1,
            max_bytes: 50 << 20,
            session_epoch: -1,
            topics: self.asked(&self.order),
            ..Default::default()
        }
    }

    fn send(&mut self, request: &FetchRequest) -> i32 {
        self.connection.send(13, request).expect("send")
    }

    fn answer(&mut self, id: i32) -> FetchResponse {
        self.connection.receive::<FetchRequest>(13, id).expect("an answer in time")
    }

    /// Takes the records of an answer: (partition, offset).
    fn take(&mut self, answer: &FetchResponse) -> Vec<(i32, i64)> {
        let got = records(answer);
        for (partition, offset) in &got {
            assert_eq!(*offset, self.next[*partition as usize], "the next record of partition {partition}");
            self.next[*partition as usize] += 1;
        }
        got
    }
}

fn records(answer: &FetchResponse) -> Vec<(i32, i64)> {
    assert_eq!(answer.error_code, 0);
    let partitions = answer.responses.iter().flat_map(|topic| &topic.partitions);
    partitions
        .flat_map(|p| {
            assert_eq!(p.error_code, 0, "partition {}", p.partition_index);
            let set = p.records.clone().map(|r| r.into_bytes()).unwrap_or_default();
            read(&set).into_iter().map(|r| (p.partition_index, r.offset)).collect::<Vec<_>>()
        })
        .collect()
}

struct Writer(Connection, String);

impl Writer {
    fn write(&mut self, partition: i32) -> i64 {
        let batch = build(ProducerIdentity::NONE, now_ms(), [(None, Some(&b"value"[..]))]);
        let answer = self.0.produce(&self.1, partition, batch).expect("produce");
        assert_eq!(answer.error_code, 0);
        answer.base_offset
    }
}

/// A broker of several cores that is one broker to its clients.
fn broker() -> Broker {
    Broker::start(BrokerOptions { advertise: "node".into(), ..BrokerOptions::default() })
}

fn start(broker: &Broker) -> (Consumer, Writer) {
    let name = unique("waits");
    create_topic(broker, &name, PARTITIONS, &[]);
    let writer = Writer(to_leader(broker.bootstrap(), &name, 0).expect("the leader"), name.clone());
    (Consumer::new(broker, &name), writer)
}

/// A simple generator: the order of the partitions differs from round to round and is the same in every run.
fn scattered(round: i32) -> i32 {
    (round.wrapping_mul(0x9E37) >> 5) % PARTITIONS
}

#[test]
fn every_record_ends_the_wait_wherever_its_partition_is() {
    let broker = broker();
    let (mut consumer, mut writer) = start(&broker);
    for round in 0..400 {
        // librdkafka begins with another partition every time
        consumer.order.rotate_left(usize::from(round % 3 == 0));
        let id = {
            let request = consumer.patient();
            consumer.send(&request)
        };
        let partition = scattered(round);
        let offset = writer.write(partition);
        let answer = consumer.answer(id);
        assert_eq!(consumer.take(&answer), [(partition, offset)], "round {round}");
    }
}

#[test]
fn records_that_come_between_requests_are_there_for_the_next_ones() {
    let broker = broker();
    let (mut consumer, mut writer) = start(&broker);
    let mut written = 0;
    let mut taken = 0;
    for round in 0..100 {
        for partition in 0..=scattered(round) {
            writer.write(partition);
            written += 1;
        }
        while taken < written {
            let request = consumer.patient();
            let id = consumer.send(&request);
            let answer = consumer.answer(id);
            taken += consumer.take(&answer).len();
        }
    }
    assert_eq!(consumer.next.iter().sum::<i64>(), written as i64);
}

#[test]
fn who_does_not_wait_sees_what_was_acknowledged_and_who_asks_again_gets_it_again() {
    let broker = broker();
    let (mut consumer, mut writer) = start(&broker);
    for round in 0..100 {
        // leaves the consumer waiting on every core for the other partitions
        let request = consumer.patient();
        let id = consumer.send(&request);
        writer.write(0);
        let answer = consumer.answer(id);
        consumer.take(&answer);
        let partition = 1 + scattered(round) % (PARTITIONS - 1);
        let offset = writer.write(partition);
        let at_once = FetchRequest { max_wait_ms: 0, ..consumer.patient() };
        let id = consumer.send(&at_once);
        let answer = consumer.answer(id);
        assert_eq!(records(&answer), [(partition, offset)], "round {round}");
        let request = consumer.patient();
        let id = consumer.send(&request);
        let answer = consumer.answer(id);
        assert_eq!(records(&answer), [(partition, offset)], "round {round}: it was not taken");
        let id = consumer.send(&request);
        let answer = consumer.answer(id);
        assert_eq!(consumer.take(&answer), [(partition, offset)], "round {round}: and again");
    }
}

#[test]
fn session_goes_on_over_partitions_that_are_added_removed_and_deleted() {
    let broker = broker();
    let (mut consumer, mut writer) = start(&broker);
    let step = |epoch, topics, id| FetchRequest {
        session_id: id,
        session_epoch: epoch,
        max_wait_ms: FOR_EVER,
        min_bytes: 1,
        max_bytes: 50 << 20,
        topics,
        ..Default::default()
    };
    writer.write(0);
    let some: Vec<i32> = (0..PARTITIONS / 2).collect();
    let request = step(0, consumer.asked(&some), 0);
    let id = consumer.send(&request);
    let answer = consumer.answer(id);
    let session = answer.session_id;
    assert_ne!(session, 0);
    consumer.take(&answer);
    let mut epoch = 1;
    let mut last = vec![0];
    for round in 0..100 {
        let all = round >= 50;
        let news = if round == 50 { (PARTITIONS / 2..PARTITIONS).chain(last.clone()).collect() } else { last.clone() };
        let request = step(epoch, consumer.asked(&news), session);
        let id = consumer.send(&request);
        let partition = scattered(round) % if all { PARTITIONS } else { PARTITIONS / 2 };
        let offset = writer.write(partition);
        let answer = consumer.answer(id);
        assert_eq!(consumer.take(&answer), [(partition, offset)], "round {round}");
        last = vec![partition];
        epoch += 1;
    }
    let gone = FetchRequestForgottenTopic {
        topic: consumer.topic.clone(),
        topic_id: consumer.id,
        partitions: vec![3],
        ..Default::default()
    };
    let request = FetchRequest { forgotten_topics_data: vec![gone], ..step(epoch, consumer.asked(&last), session) };
    let id = consumer.send(&request);
    writer.write(3);
    let offset = writer.write(4);
    let answer = consumer.answer(id);
    assert_eq!(consumer.take(&answer), [(4, offset)]);
    let request = step(epoch + 1, consumer.asked(&[4]), session);
    let id = consumer.send(&request);
    let name = writer.1.clone();
    let deleted = block_on(admin(&broker).delete_topics(&[&name], &admin_options())).expect("DeleteTopics");
    assert_eq!(deleted, [Ok(name)]);
    let answer = consumer.answer(id);
    let told: Vec<i16> = answer.responses.iter().flat_map(|t| &t.partitions).map(|p| p.error_code).collect();
    assert!(told.iter().any(|error| *error != 0), "the wait ends with the topic: {told:?}");
    let request = step(epoch + 2, Vec::new(), session);
    let id = consumer.connection.send(13, &FetchRequest { max_wait_ms: 0, ..request }).expect("send");
    let answer = consumer.answer(id);
    let told = answer.responses.iter().flat_map(|t| &t.partitions).map(|p| p.error_code);
    assert!(told.into_iter().all(|error| error == UNKNOWN_TOPIC_ID));
}
