//! Produce: idempotent producers, codecs, what is refused.

use bytes::Bytes;
use corelane_protocol::messages::ProduceResponsePartitionProduceResponse;
use corelane_tests::batch::{ProducerIdentity, build, now_ms, read, seal, zstd};
use corelane_tests::broker::Broker;
use corelane_tests::connection::{Connection, produce_request, to_leader};
use corelane_tests::librdkafka::{create_topic, unique};

const OUT_OF_ORDER_SEQUENCE: i16 = 45;
const INVALID_PRODUCER_EPOCH: i16 = 47;
const UNSUPPORTED_COMPRESSION_TYPE: i16 = 76;
const INVALID_RECORD: i16 = 87;
const CORRUPT_MESSAGE: i16 = 2;
const INVALID_TOPIC: i16 = 17;
const INVALID_TIMESTAMP: i16 = 32;

/// A topic of one partition and a connection to its leader.
fn topic(name: &str, configs: &[(&str, &str)]) -> (String, Connection) {
    let (broker, topic) = (Broker::shared(), unique(name));
    create_topic(broker, &topic, 1, configs);
    let connection = to_leader(broker.bootstrap(), &topic, 0).expect("the leader");
    (topic, connection)
}

fn records(who: ProducerIdentity, count: usize) -> Vec<u8> {
    build(who, now_ms(), (0..count).map(|_| (None, Some(&b"value"[..]))))
}

fn produce(
    connection: &mut Connection,
    version: i16,
    topic: &str,
    batch: impl Into<Bytes>,
) -> ProduceResponsePartitionProduceResponse {
    let answer = connection.call(version, &produce_request(topic, vec![(0, batch.into())], -1));
    answer.responses[0].partition_responses[0].clone()
}

#[test]
fn last_five_batches_of_a_producer_are_answered_again_and_not_written_again() {
    let (topic, mut connection) = topic("window", &[]);
    let (id, epoch) = connection.init_producer_id().expect("a producer id");
    let batch = |sequence| records(ProducerIdentity { id, epoch, sequence }, 2);
    let mut write = |sequence| {
        let answer = connection.produce(&topic, 0, batch(sequence)).expect("an answer");
        (answer.error_code, answer.base_offset)
    };
    for i in 0..7 {
        assert_eq!(write(i * 2), (0, i64::from(i) * 2));
    }
    for i in 2..7 {
        assert_eq!(write(i * 2), (0, i64::from(i) * 2), "batch {i} again");
    }
    assert_eq!(write(2).0, OUT_OF_ORDER_SEQUENCE, "the sixth from the end is forgotten");
    assert_eq!(write(16).0, OUT_OF_ORDER_SEQUENCE, "a gap");
    assert_eq!(write(13).0, OUT_OF_ORDER_SEQUENCE, "begins inside a batch that is there");
    assert_eq!(write(14), (0, 14), "the next one is still welcome");
    assert_eq!(connection.list_offset(&topic, 0, -1).expect("the end"), (16, 0));
}

#[test]
fn newer_epoch_of_a_producer_fences_the_older_one_and_begins_at_zero() {
    let (topic, mut connection) = topic("epoch", &[]);
    let (id, epoch) = connection.init_producer_id().expect("a producer id");
    let mut write = |epoch, sequence| {
        let batch = records(ProducerIdentity { id, epoch, sequence }, 1);
        connection.produce(&topic, 0, batch).expect("an answer").error_code
    };
    assert_eq!(write(epoch, 0), 0);
    assert_eq!(write(epoch + 1, 1), OUT_OF_ORDER_SEQUENCE);
    assert_eq!(write(epoch + 1, 0), 0);
    assert_eq!(write(epoch, 1), INVALID_PRODUCER_EPOCH);
    assert_eq!(write(epoch + 1, 1), 0);
}

#[test]
fn producer_that_the_partition_does_not_know_may_begin_anywhere() {
    let (topic, mut connection) = topic("unknown-producer", &[]);
    let (id, epoch) = connection.init_producer_id().expect("a producer id");
    let batch = |sequence| records(ProducerIdentity { id, epoch, sequence }, 1);
    assert_eq!(connection.produce(&topic, 0, batch(41)).expect("an answer").error_code, 0);
    assert_eq!(connection.produce(&topic, 0, batch(43)).expect("an answer").error_code, OUT_OF_ORDER_SEQUENCE);
    assert_eq!(connection.produce(&topic, 0, batch(42)).expect("an answer").error_code, 0);
}

#[test]
fn sequence_wraps_to_zero() {
    let (topic, mut connection) = topic("wrap", &[]);
    let (id, epoch) = connection.init_producer_id().expect("a producer id");
    for (sequence, count, expected) in [(i32::MAX - 1, 4, 0), (2, 1, 0), (2, 1, 0), (4, 1, OUT_OF_ORDER_SEQUENCE)] {
        let batch = records(ProducerIdentity { id, epoch, sequence }, count);
        assert_eq!(connection.produce(&topic, 0, batch).expect("an answer").error_code, expected, "{sequence}");
    }
}

#[test]
fn zstd_is_refused_below_version_7() {
    let (topic, mut connection) = topic("zstd-produce", &[]);
    let batch = Bytes::from(zstd(&records(ProducerIdentity::NONE, 3)));
    for version in 3..7 {
        let answer = produce(&mut connection, version, &topic, batch.clone());
        assert_eq!(answer.error_code, UNSUPPORTED_COMPRESSION_TYPE, "version {version}");
    }
    assert_eq!(produce(&mut connection, 7, &topic, batch).error_code, 0);
    assert_eq!(connection.list_offset(&topic, 0, -1).expect("the end"), (3, 0));
}

#[test]
fn batches_that_lie_are_refused_and_nothing_of_them_is_written() {
    let (topic, mut connection) = topic("liars", &[]);
    let good = records(ProducerIdentity::NONE, 2);
    let changed = |at: usize, bytes: &[u8]| {
        let mut batch = good.clone();
        batch[at..at + bytes.len()].copy_from_slice(bytes);
        seal(&mut batch);
        batch
    };
    let mut bad_crc = good.clone();
    bad_crc[70] ^= 1;
    let expired = build(ProducerIdentity::NONE, now_ms() + 7_200_000, [(None, Some(&b"v"[..]))]);
    let cases: [(&str, Vec<u8>, &[i16]); 8] = [
        ("two batches", [&good[..], &good[..]].concat(), &[INVALID_RECORD]),
        ("an empty record set", Vec::new(), &[INVALID_RECORD]),
        ("magic 1", changed(16, &[1]), &[INVALID_RECORD, CORRUPT_MESSAGE]),
        ("a wrong CRC", bad_crc, &[CORRUPT_MESSAGE]),
        ("a base offset", changed(0, &7_i64.to_be_bytes()), &[INVALID_RECORD]),
        ("more records than it has", changed(57, &3_i32.to_be_bytes()), &[INVALID_RECORD]),
        ("a control batch", changed(21, &[0, 0x20]), &[INVALID_RECORD]),
        ("two hours ahead", expired, &[INVALID_TIMESTAMP]),
    ];
    for (what, batch, expected) in cases {
        let answer = produce(&mut connection, 12, &topic, batch);
        assert!(expected.contains(&answer.error_code), "{what}: {}", answer.error_code);
        assert_eq!(answer.base_offset, -1, "{what}");
    }
    assert_eq!(connection.list_offset(&topic, 0, -1).expect("the end"), (0, 0));
}

#[test]
fn internal_topics_are_not_for_clients_to_write() {
    let (_, mut connection) = topic("before-internal", &[]);
    let find = corelane_protocol::messages::FindCoordinatorRequest { key: "g".into(), ..Default::default() };
    corelane_tests::wait::until("the coordinator", std::time::Duration::from_secs(30), || {
        (connection.call(3, &find).error_code == 0).then_some(())
    });
    let mut connection = to_leader(Broker::shared().bootstrap(), "__consumer_offsets", 0).expect("the leader");
    let answer = produce(&mut connection, 12, "__consumer_offsets", records(ProducerIdentity::NONE, 1));
    assert_eq!(answer.error_code, INVALID_TOPIC);
}

#[test]
fn log_append_time_is_the_brokers() {
    let (topic, mut connection) = topic("append-time", &[("message.timestamp.type", "LogAppendTime")]);
    let before = now_ms();
    let batch = build(ProducerIdentity::NONE, 12_345, [(None, Some(&b"v"[..]))]);
    let answer = produce(&mut connection, 12, &topic, batch);
    assert_eq!(answer.error_code, 0);
    assert!((before..=now_ms()).contains(&answer.log_append_time_ms), "{}", answer.log_append_time_ms);
    let data = connection.fetch(&topic, 0, 0).expect("the record");
    let set = data.records.expect("records").into_bytes();
    assert_eq!(set[22] & 0x08, 0x08, "the attribute is set");
    assert_eq!(set[35..43], answer.log_append_time_ms.to_be_bytes(), "as the largest timestamp");
    assert_eq!(read(&set).len(), 1);
    let mut claims = records(ProducerIdentity::NONE, 1);
    claims[22] |= 0x08;
    seal(&mut claims);
    assert_eq!(produce(&mut connection, 12, &topic, claims).error_code, INVALID_TIMESTAMP, "not a client's to say");
}
