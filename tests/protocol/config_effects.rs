//! Properties that are changed for all brokers while one runs, each seen at work on what is there already; and those that say how
//! long something is kept, at work from the start on.

use std::fs;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use corelane_protocol::Str;
use corelane_protocol::messages::describe_producers_request::DescribeProducersRequestTopicRequest;
use corelane_protocol::messages::{
    ApiVersionsRequest, DescribeProducersRequest, FindCoordinatorRequest, InitProducerIdRequest,
    ListTransactionsRequest, OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
    OffsetFetchRequest, OffsetFetchRequestTopic,
};
use corelane_tests::batch::{ProducerIdentity, build, now_ms, read};
use corelane_tests::broker::{Broker, BrokerOptions, controllable};
use corelane_tests::connection::{Connection, Fate, to_leader};
use corelane_tests::librdkafka::{LIMIT, create_topic};
use corelane_tests::wait;

use crate::configs::{BROKER, alter};

const NOT_ENOUGH_REPLICAS: i16 = 19;
const INVALID_TIMESTAMP: i16 = 32;
const INVALID_RECORD: i16 = 87;
const OUT_OF_ORDER_SEQUENCE: i16 = 45;
const LATEST: i64 = -1;
const EARLIEST: i64 = -2;

/// A broker in which what has expired goes soon.
fn broker() -> Option<(Broker, Connection)> {
    if !controllable() {
        return None;
    }
    let options = BrokerOptions { advertise: "node".into(), ..BrokerOptions::default() };
    let broker = Broker::start(
        options
            .set("log.retention.check.interval.ms", 50)
            .set("offsets.retention.check.interval.ms", 50)
            .set("log.cleaner.backoff.ms", 50)
            .set("log.cleaner.min.compaction.lag.ms", 3_600_000)
            .set("transactional.id.expiration.ms", 1)
            .set("transaction.remove.expired.transaction.cleanup.interval.ms", 50),
    );
    let admin = Connection::open(broker.bootstrap()).expect("a connection");
    Some((broker, admin))
}

fn set(admin: &mut Connection, name: &str, value: impl ToString) {
    let value = value.to_string();
    assert_eq!(alter(admin, BROKER, "", name, Some(&value)), (0, String::new()), "{name}={value}");
}

fn unset(admin: &mut Connection, name: &str) {
    assert_eq!(alter(admin, BROKER, "", name, None), (0, String::new()), "{name}");
}

/// A topic of one partition, which has no settings but these, and its leader.
fn topic(broker: &Broker, name: &str, configs: &[(&str, &str)]) -> Connection {
    create_topic(broker, name, 1, configs);
    to_leader(broker.bootstrap(), name, 0).expect("the leader")
}

fn at(timestamp: i64, value: &[u8]) -> Vec<u8> {
    build(ProducerIdentity::NONE, timestamp, [(None, Some(value))])
}

/// The error, and the time of the append where that is what counts.
fn write(leader: &mut Connection, topic: &str, batch: Vec<u8>) -> (i16, i64) {
    let answer = leader.produce(topic, 0, batch).expect("an answer");
    (answer.error_code, answer.log_append_time_ms)
}

/// The batches that lie at this offset and after it.
fn stored(leader: &mut Connection, topic: &str, offset: i64) -> Bytes {
    let data = leader.fetch(topic, 0, offset).expect("an answer");
    assert_eq!(data.error_code, 0);
    data.records.map(|records| records.into_bytes()).unwrap_or_default()
}

fn codec(batch: &[u8]) -> u8 {
    batch[22] & 7
}

#[test]
fn what_is_changed_for_all_brokers_decides_about_the_next_batch() {
    let Some((broker, mut admin)) = broker() else { return };
    let mut leader = topic(&broker, "t", &[]);
    let old = now_ms() - 3_600_000;

    for (name, value, refusal) in [
        ("log.message.timestamp.before.max.ms", "60000", INVALID_TIMESTAMP),
        ("min.insync.replicas", "2", NOT_ENOUGH_REPLICAS),
        // records of a compacted topic have keys
        ("log.cleanup.policy", "compact", INVALID_RECORD),
    ] {
        assert_eq!(write(&mut leader, "t", at(old, b"v")), (0, -1), "before {name}");
        set(&mut admin, name, value);
        assert_eq!(write(&mut leader, "t", at(old, b"v")).0, refusal, "{name}");
        unset(&mut admin, name);
        assert_eq!(write(&mut leader, "t", at(old, b"v")), (0, -1), "after {name}");
    }
    set(&mut admin, "log.message.timestamp.after.max.ms", 60_000);
    assert_eq!(write(&mut leader, "t", at(now_ms() + 3_600_000, b"v")).0, INVALID_TIMESTAMP);

    set(&mut admin, "log.message.timestamp.type", "LogAppendTime");
    let (code, time) = write(&mut leader, "t", at(old, b"v"));
    assert!(code == 0 && time > old, "{code} {time}");
    unset(&mut admin, "log.message.timestamp.type");
    assert_eq!(write(&mut leader, "t", at(old, b"v")), (0, -1));
}

#[test]
fn codecs_and_their_levels_are_changed_for_all_brokers() {
    let Some((broker, mut admin)) = broker() else { return };
    let mut leader = topic(&broker, "t", &[]);
    // Numbers in words: what a codec finds in them depends on how long it looks.
    let text: String =
        (0..4_000_u64).map(|i| format!("{} at {}, ", i.wrapping_mul(2_654_435_761) % 9_973, i / 7)).collect();
    let sent = |leader: &mut Connection| {
        let from = leader.list_offset("t", 0, LATEST).expect("the end").0;
        assert_eq!(write(leader, "t", at(now_ms(), text.as_bytes())).0, 0);
        stored(leader, "t", from)
    };
    assert_eq!(codec(&sent(&mut leader)), 0);
    for (name, number, low, high) in [("gzip", 1, 1, 9), ("lz4", 3, 1, 17), ("zstd", 4, 1, 19)] {
        set(&mut admin, "compression.type", name);
        let level = format!("compression.{name}.level");
        let mut size = |level_of: i32| {
            set(&mut admin, &level, level_of);
            let batch = sent(&mut leader);
            assert_eq!(codec(&batch), number, "{name}");
            batch.len()
        };
        let (quick, thorough) = (size(low), size(high));
        assert!(thorough < quick, "{name}: {thorough} bytes at level {high}, {quick} at level {low}");
    }
    set(&mut admin, "compression.type", "snappy");
    assert_eq!(codec(&sent(&mut leader)), 2);
    unset(&mut admin, "compression.type");
    assert_eq!(codec(&sent(&mut leader)), 0);
}

/// Segments of the one partition of a topic.
fn segments(broker: &Broker, topic: &str) -> usize {
    fn count(folder: &Path, within: &str) -> usize {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        let of = |path: &Path| path.to_string_lossy().contains(within);
        entries
            .map(|entry| match entry.path() {
                path if path.is_dir() => count(&path, within),
                path => usize::from(path.extension().is_some_and(|e| e == "log") && of(&path)),
            })
            .sum()
    }
    count(&broker.data_dir(), &format!("/{topic}-0."))
}

#[test]
fn segments_end_and_go_as_it_is_changed_for_all_brokers() {
    let Some((broker, mut admin)) = broker() else { return };
    let mut leader = topic(&broker, "kept", &[]);
    let old = now_ms() - 3_600_000;
    let bounds = |leader: &mut Connection| {
        let mut of = |timestamp| leader.list_offset("kept", 0, timestamp).expect("an answer").0;
        (of(EARLIEST), of(LATEST))
    };

    set(&mut admin, "log.segment.delete.delay.ms", 0);
    // A new segment for each record that is a minute later than the first of the last one.
    set(&mut admin, "log.roll.ms", 30_000);
    for i in 0..3 {
        assert_eq!(write(&mut leader, "kept", at(old + i * 60_000, b"v")).0, 0);
    }
    wait::until("a segment for each record", LIMIT, || (segments(&broker, "kept") == 3).then_some(()));
    unset(&mut admin, "log.roll.ms");
    // And for each that the last one has no room for: two of these.
    set(&mut admin, "log.segment.bytes", 1 << 20);
    let large = vec![b'x'; 900_000];
    for i in 3..6 {
        assert_eq!(write(&mut leader, "kept", at(old + i * 60_000, &large)).0, 0);
    }
    wait::until("segments of the new size", LIMIT, || (segments(&broker, "kept") == 5).then_some(()));
    assert_eq!(bounds(&mut leader), (0, 6));

    set(&mut admin, "log.retention.bytes", 890_000);
    wait::until("only what fits", LIMIT, || (bounds(&mut leader) == (5, 6)).then_some(()));
    wait::until("the files of the rest gone", LIMIT, || (segments(&broker, "kept") == 1).then_some(()));
    unset(&mut admin, "log.retention.bytes");
    set(&mut admin, "log.retention.ms", 60_000);
    wait::until("nothing that old", LIMIT, || (bounds(&mut leader) == (6, 6)).then_some(()));
    assert_eq!(write(&mut leader, "kept", at(now_ms(), b"v")).0, 0);
    assert_eq!(bounds(&mut leader), (6, 7));
}

#[test]
fn compaction_follows_what_is_changed_for_all_brokers() {
    let Some((broker, mut admin)) = broker() else { return };
    let mut leader = topic(&broker, "keyed", &[("cleanup.policy", "compact"), ("segment.bytes", "1048576")]);
    let value = vec![b'x'; 700_000];
    for _ in 0..3 {
        let batch = build(ProducerIdentity::NONE, now_ms(), [(Some(&b"key"[..]), Some(&value[..]))]);
        assert_eq!(write(&mut leader, "keyed", batch).0, 0);
    }
    // Of one key, and in closed segments, but younger than the broker was told at its start.
    let has_first =
        |leader: &mut Connection| read(&stored(leader, "keyed", 0)).first().is_some_and(|record| record.offset == 0);
    assert!(has_first(&mut leader));
    // Nothing is that dirty.
    set(&mut admin, "log.cleaner.min.cleanable.ratio", 1);
    set(&mut admin, "log.cleaner.min.compaction.lag.ms", 0);
    assert!(has_first(&mut leader));
    set(&mut admin, "log.cleaner.min.cleanable.ratio", 0);
    wait::until("the value that another replaces gone", LIMIT, || (!has_first(&mut leader)).then_some(()));
}

#[test]
fn producers_transactional_ids_and_offsets_are_forgotten_in_time() {
    let Some((broker, mut admin)) = broker() else { return };
    let mut leader = topic(&broker, "t", &[]);
    let (id, epoch) = admin.init_producer_id().expect("a producer id");
    let batch = |sequence| build(ProducerIdentity { id, epoch, sequence }, now_ms(), [(None, Some(&b"v"[..]))]);
    let producers = |leader: &mut Connection| {
        let topic =
            DescribeProducersRequestTopicRequest { name: "t".into(), partition_indexes: vec![0], ..Default::default() };
        let answer = leader.call(0, &DescribeProducersRequest { topics: vec![topic], ..Default::default() });
        answer.topics[0].partitions[0].active_producers.len()
    };
    assert_eq!(write(&mut leader, "t", batch(0)).0, 0);
    assert_eq!(write(&mut leader, "t", batch(7)).0, OUT_OF_ORDER_SEQUENCE);
    assert_eq!(producers(&mut leader), 1);
    set(&mut admin, "producer.id.expiration.ms", 1);
    wait::until("the producer forgotten", LIMIT, || (producers(&mut leader) == 0).then_some(()));
    assert_eq!(write(&mut leader, "t", batch(7)).0, 0, "whom nobody knows may begin anywhere");

    let found = |connection: &mut Connection, key: &str, key_type| {
        let request = FindCoordinatorRequest { key: Str::from(key.to_owned()), key_type, ..Default::default() };
        connection.call(3, &request).error_code == 0
    };
    let begin = InitProducerIdRequest {
        transactional_id: Some("id".into()),
        transaction_timeout_ms: 60_000,
        producer_id: -1,
        producer_epoch: -1,
        ..Default::default()
    };
    for _ in 0..2 {
        let begun = wait::until("a producer id", LIMIT, || {
            found(&mut admin, "id", 1);
            Some(admin.call(4, &begin)).filter(|answer| answer.error_code == 0)
        });
        assert_eq!(begun.producer_epoch, 0, "nobody has used the id");
        wait::until("the transactional id forgotten", LIMIT, || {
            let listed = admin.call(0, &ListTransactionsRequest::default());
            (listed.error_code == 0 && listed.transaction_states.is_empty()).then_some(())
        });
    }

    let partition = OffsetCommitRequestPartition { committed_offset: 3, ..Default::default() };
    let topic = OffsetCommitRequestTopic { name: "t".into(), partitions: vec![partition], ..Default::default() };
    let committed = |connection: &mut Connection, group: &str| {
        let topic = OffsetFetchRequestTopic { name: "t".into(), partition_indexes: vec![0], ..Default::default() };
        let request = OffsetFetchRequest {
            group_id: Str::from(group.to_owned()),
            topics: Some(vec![topic]),
            ..Default::default()
        };
        connection.call(5, &request).topics[0].partitions[0].committed_offset
    };
    // The versions that can say so say how long they last.
    for (group, retention_time_ms) in [("lasting", 3_600_000), ("passing", 1)] {
        let request = OffsetCommitRequest {
            group_id: Str::from(group.to_owned()),
            generation_id_or_member_epoch: -1,
            retention_time_ms,
            topics: vec![topic.clone()],
            ..Default::default()
        };
        wait::until("a commit", LIMIT, || {
            found(&mut admin, group, 0);
            (admin.call(4, &request).topics[0].partitions[0].error_code == 0).then_some(())
        });
    }
    wait::until("the offset forgotten", LIMIT, || (committed(&mut admin, "passing") == -1).then_some(()));
    assert_eq!(committed(&mut admin, "lasting"), 3);
}

#[test]
fn who_comes_to_a_full_broker_waits_for_a_place() {
    let Some((broker, mut admin)) = broker() else { return };
    set(&mut admin, "max.connections", 2);
    let _second = wait::until("a second connection", LIMIT, || {
        let mut connection = Connection::open(broker.bootstrap()).ok()?;
        connection.metadata("none").ok().map(|_| connection)
    });
    let request = ApiVersionsRequest::default();
    // Some of them come to each core.
    let mut more: Vec<(Connection, i32)> = (0..8)
        .map(|_| {
            let mut connection = Connection::open(broker.bootstrap()).expect("the kernel takes it");
            let id = connection.send(0, &request).expect("the kernel takes it");
            (connection, id)
        })
        .collect();
    for (connection, _) in &mut more {
        connection.set_read_timeout(Duration::from_millis(50));
        assert!(matches!(connection.fate(), Fate::Silent), "two are served");
    }
    unset(&mut admin, "max.connections");
    for (connection, id) in &mut more {
        connection.set_read_timeout(LIMIT);
        assert_eq!(connection.receive::<ApiVersionsRequest>(0, *id).expect("an answer").error_code, 0);
    }
}
