//! Fetch: bounds of bytes, epochs, ids, sessions.

use bytes::Bytes;
use corelane_protocol::messages::{
    FetchRequest, FetchRequestFetchPartition, FetchRequestFetchTopic, FetchRequestForgottenTopic, FetchResponse,
    FetchResponsePartitionData,
};
use corelane_protocol::{Str, Uuid};
use corelane_tests::batch::{ProducerIdentity, build, now_ms, read, zstd};
use corelane_tests::broker::{Broker, BrokerOptions, controllable, is_corelane};
use corelane_tests::connection::{Connection, to_leader};
use corelane_tests::librdkafka::{create_topic, unique};

const NONE: i16 = 0;
const OFFSET_OUT_OF_RANGE: i16 = 1;
const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
const FETCH_SESSION_ID_NOT_FOUND: i16 = 70;
const INVALID_FETCH_SESSION_EPOCH: i16 = 71;
const FENCED_LEADER_EPOCH: i16 = 74;
const UNKNOWN_LEADER_EPOCH: i16 = 75;
const UNSUPPORTED_COMPRESSION_TYPE: i16 = 76;
const UNKNOWN_TOPIC_ID: i16 = 100;
const FETCH_SESSION_TOPIC_ID_ERROR: i16 = 106;

/// A topic and a connection to the leader of its partition 0.
struct Topic {
    name: String,
    id: Uuid,
    leader_epoch: i32,
    connection: Connection,
}

fn topic(broker: &Broker, name: &str, partitions: i32) -> Topic {
    topic_with(broker, name, partitions, &[])
}

fn topic_with(broker: &Broker, name: &str, partitions: i32, configs: &[(&str, &str)]) -> Topic {
    let name = unique(name);
    create_topic(broker, &name, partitions, configs);
    let mut connection = to_leader(broker.bootstrap(), &name, 0).expect("the leader");
    let metadata = connection.metadata(&name).expect("metadata");
    let (id, leader_epoch) = (metadata.topics[0].topic_id, metadata.topics[0].partitions[0].leader_epoch);
    Topic { name, id, leader_epoch, connection }
}

fn value(size: usize) -> Vec<u8> {
    build(ProducerIdentity::NONE, now_ms(), [(None, Some(&vec![b'v'; size][..]))])
}

impl Topic {
    fn write(&mut self, partition: i32, batch: impl Into<Bytes>) {
        let answer = self.connection.produce(&self.name, partition, batch).expect("produce");
        assert_eq!(answer.error_code, 0);
    }

    fn asked(&self, partitions: Vec<FetchRequestFetchPartition>) -> FetchRequestFetchTopic {
        FetchRequestFetchTopic {
            topic: Str::from(self.name.clone()),
            topic_id: self.id,
            partitions,
            ..Default::default()
        }
    }

    /// One partition without waiting; changed by `change`.
    fn fetch(
        &mut self,
        version: i16,
        change: impl FnOnce(&mut FetchRequestFetchPartition),
    ) -> FetchResponsePartitionData {
        let mut wanted = partition(0, 0);
        change(&mut wanted);
        let request = once(vec![self.asked(vec![wanted])]);
        let answer = self.connection.call(version, &request);
        assert_eq!(answer.error_code, NONE);
        answer.responses[0].partitions[0].clone()
    }
}

fn partition(partition: i32, fetch_offset: i64) -> FetchRequestFetchPartition {
    FetchRequestFetchPartition { partition, fetch_offset, partition_max_bytes: 1 << 20, ..Default::default() }
}

fn once(topics: Vec<FetchRequestFetchTopic>) -> FetchRequest {
    FetchRequest { max_wait_ms: 0, min_bytes: 0, max_bytes: 50 << 20, session_epoch: -1, topics, ..Default::default() }
}

fn offsets(data: &FetchResponsePartitionData) -> Vec<i64> {
    let set = data.records.clone().map(|r| r.into_bytes()).unwrap_or_default();
    read(&set).iter().map(|r| r.offset).collect()
}

#[test]
fn first_batch_comes_whole_however_small_the_bounds_and_nothing_beyond_them_follows() {
    let mut t = topic(Broker::shared(), "bounds", 2);
    for _ in 0..3 {
        t.write(0, value(10_000));
    }
    let mut other = to_leader(Broker::shared().bootstrap(), &t.name, 1).expect("the leader");
    assert_eq!(other.produce(&t.name, 1, value(10_000)).expect("produce").error_code, 0);
    let one = t.fetch(12, |p| p.partition_max_bytes = 1);
    assert_eq!(offsets(&one), [0], "a partition's bound");
    let one = t.fetch(12, |p| p.partition_max_bytes = 0);
    assert_eq!(offsets(&one), [0], "no bytes at all");
    let mut request = once(vec![t.asked(vec![partition(0, 0)])]);
    request.max_bytes = 1;
    let answer = t.connection.call(12, &request);
    assert_eq!(offsets(&answer.responses[0].partitions[0]), [0], "the bound of the request");
    let two = t.fetch(12, |p| p.partition_max_bytes = 25_000);
    assert_eq!(offsets(&two), [0, 1], "whole batches up to the bound");
    if is_corelane() && std::env::var("CORELANE_TEST_ADVERTISE").is_ok_and(|a| a == "shard") {
        return; // the partitions may have different leaders
    }
    // Only one of the two partitions gets its batch.
    let mut request = once(vec![t.asked(vec![partition(0, 0), partition(1, 0)])]);
    request.max_bytes = 1;
    let answer = t.connection.call(12, &request);
    let got: Vec<usize> = answer.responses[0].partitions.iter().map(|p| offsets(p).len()).collect();
    assert_eq!(got, [1, 0]);
    let mut request = once(vec![t.asked(vec![partition(0, 3), partition(1, 0)])]);
    request.max_bytes = 1;
    let answer = t.connection.call(12, &request);
    let got: Vec<usize> = answer.responses[0].partitions.iter().map(|p| offsets(p).len()).collect();
    assert_eq!(got, [0, 1], "the first partition that has any");
}

#[test]
fn bounds_hold_for_what_comes_from_the_disk_of_many_partitions_at_once() {
    const PARTITIONS: i32 = 8;
    const BATCHES: i64 = 5;
    if !controllable() {
        return;
    }
    let mut broker = Broker::start(BrokerOptions { advertise: "node".into(), ..BrokerOptions::default() });
    let mut t = topic(&broker, "cold", PARTITIONS);
    for batch in 0..PARTITIONS * BATCHES as i32 {
        t.write(batch % PARTITIONS, value(10_000));
    }
    broker.stop();
    broker.resume();
    t.connection = to_leader(broker.bootstrap(), &t.name, 0).expect("the leader");
    let mut fetch = |from: &[i64], partition_max_bytes, min_bytes, max_bytes| {
        let wanted = from.iter().zip(0..).map(|(offset, p)| partition(p, *offset));
        let wanted = wanted.map(|p| FetchRequestFetchPartition { partition_max_bytes, ..p }).collect();
        let request = FetchRequest { max_wait_ms: 10_000, min_bytes, max_bytes, ..once(vec![t.asked(wanted)]) };
        let answer = t.connection.call(12, &request);
        answer.responses[0].partitions.iter().map(offsets).collect::<Vec<_>>()
    };
    let begin = [0; PARTITIONS as usize];
    assert_eq!(
        fetch(&begin, 25_000, PARTITIONS * 20_000, 50 << 20),
        [[0, 1]; PARTITIONS as usize],
        "the bound of each"
    );
    assert_eq!(fetch(&begin, 25_000, 1, 1).concat(), [0], "one batch in all");
    let mut from = begin.to_vec();
    while from.iter().any(|offset| *offset < BATCHES) {
        let got = fetch(&from, 25_000, 1, 35_000);
        let count = got.iter().flatten().count();
        assert!((1..=3).contains(&count), "{count} batches of 10,000 bytes in 35,000");
        for (offset, got) in from.iter_mut().zip(got) {
            assert_eq!(got, (*offset..).take(got.len()).collect::<Vec<_>>());
            *offset += got.len() as i64;
        }
    }
}

#[test]
fn offsets_inside_a_batch_at_the_end_and_out_of_range() {
    let mut t = topic(Broker::shared(), "range", 1);
    t.write(0, build(ProducerIdentity::NONE, now_ms(), (0..4).map(|_| (None, Some(&b"v"[..])))));
    assert_eq!(offsets(&t.fetch(12, |p| p.fetch_offset = 2)), [0, 1, 2, 3], "the whole batch");
    let end = t.fetch(12, |p| p.fetch_offset = 4);
    assert_eq!((end.error_code, end.high_watermark, offsets(&end).len()), (NONE, 4, 0));
    for offset in [5, -1, i64::MAX] {
        let beyond = t.fetch(12, |p| p.fetch_offset = offset);
        let told = (beyond.error_code, beyond.high_watermark, beyond.log_start_offset);
        assert_eq!(told, (OFFSET_OUT_OF_RANGE, -1, -1), "{offset}");
    }
}

#[test]
fn zstd_does_not_go_to_clients_below_version_10() {
    if !is_corelane() {
        return; // Apache Kafka has ceased to look since it no longer converts batches for old clients
    }
    for codec in ["zstd", "producer"] {
        let mut t = topic_with(Broker::shared(), "zstd-fetch", 1, &[("compression.type", codec)]);
        t.write(0, zstd(&value(2000)));
        for version in 4..10 {
            let data = t.fetch(version, |_| ());
            assert_eq!(data.error_code, UNSUPPORTED_COMPRESSION_TYPE, "{codec}, version {version}");
            assert!(data.records.is_none_or(|r| r.is_empty()), "{codec}, version {version}");
        }
        for version in 10..13 {
            let data = t.fetch(version, |_| ());
            let some = data.records.is_some_and(|r| !r.is_empty());
            assert_eq!((data.error_code, some), (NONE, true), "{codec}, version {version}");
        }
    }
}

#[test]
fn leader_epochs_are_checked() {
    let mut t = topic(Broker::shared(), "epochs", 1);
    t.write(0, value(10));
    let current = t.leader_epoch;
    for (epoch, expected) in [(current, NONE), (-1, NONE), (current + 1, UNKNOWN_LEADER_EPOCH)] {
        let data = t.fetch(12, |p| p.current_leader_epoch = epoch);
        assert_eq!(data.error_code, expected, "epoch {epoch}");
    }
    if current > 0 {
        let data = t.fetch(12, |p| p.current_leader_epoch = current - 1);
        assert_eq!(data.error_code, FENCED_LEADER_EPOCH);
    }
    // What the client has last: of this epoch, or beyond its end (KIP-595).
    let same = t.fetch(12, |p| (p.fetch_offset, p.last_fetched_epoch) = (1, current));
    assert_eq!((same.error_code, same.diverging_epoch.end_offset), (NONE, -1));
    let ahead = t.fetch(12, |p| (p.fetch_offset, p.last_fetched_epoch) = (5, current));
    assert_eq!((ahead.error_code, ahead.diverging_epoch.epoch, ahead.diverging_epoch.end_offset), (NONE, current, 1));
    let unheard = t.fetch(12, |p| (p.fetch_offset, p.last_fetched_epoch) = (1, current + 1));
    assert_eq!(unheard.error_code, OFFSET_OUT_OF_RANGE);
}

#[test]
fn topics_and_ids_that_are_not_there() {
    let mut t = topic(Broker::shared(), "ids", 1);
    t.write(0, value(10));
    for version in [13, 17, 18] {
        assert_eq!(offsets(&t.fetch(version, |_| ())), [0], "version {version}");
    }
    let missing = t.fetch(17, |p| p.partition = 7);
    assert_eq!(missing.error_code, UNKNOWN_TOPIC_OR_PARTITION);
    t.id = Uuid(*b"nobody has it...");
    assert_eq!(t.fetch(17, |_| ()).error_code, UNKNOWN_TOPIC_ID);
    t.name = unique("absent");
    assert_eq!(t.fetch(12, |_| ()).error_code, UNKNOWN_TOPIC_OR_PARTITION);
}

/// The partitions of an answer.
fn told(answer: &FetchResponse) -> Vec<i32> {
    let mut all: Vec<i32> =
        answer.responses.iter().flat_map(|t| t.partitions.iter().map(|p| p.partition_index)).collect();
    all.sort_unstable();
    all
}

#[test]
fn session_tells_only_what_changed() {
    let mut t = topic(Broker::shared(), "session", 3);
    let mut open = once(vec![t.asked((0..3).map(|p| partition(p, 0)).collect())]);
    open.session_epoch = 0;
    let answer = t.connection.call(12, &open);
    let session_id = answer.session_id;
    assert_eq!((answer.error_code, told(&answer)), (NONE, vec![0, 1, 2]));
    assert!(session_id > 0);
    let step = |epoch| FetchRequest { session_id, session_epoch: epoch, ..once(Vec::new()) };

    let quiet = t.connection.call(12, &step(1));
    assert_eq!((quiet.error_code, quiet.session_id, told(&quiet)), (NONE, session_id, vec![]));
    t.write(1, value(10));
    let news = t.connection.call(12, &step(2));
    assert_eq!(told(&news), [1]);
    assert_eq!(offsets(&news.responses[0].partitions[0]), [0]);
    // Read on from there, and forget another partition.
    let forgotten =
        FetchRequestForgottenTopic { topic: Str::from(t.name.clone()), partitions: vec![2], ..Default::default() };
    let change = FetchRequest {
        topics: vec![t.asked(vec![partition(1, 1)])],
        forgotten_topics_data: vec![forgotten],
        ..step(3)
    };
    assert_eq!(told(&t.connection.call(12, &change)), [] as [i32; 0]);
    t.write(2, value(10));
    t.write(0, value(10));
    assert_eq!(told(&t.connection.call(12, &step(4))), [0], "partition 2 is forgotten, 1 has nothing new");

    let wrong = t.connection.call(12, &step(4));
    assert_eq!((wrong.error_code, wrong.session_id), (INVALID_FETCH_SESSION_EPOCH, 0), "an epoch used before");
    assert_eq!(t.connection.call(12, &step(7)).error_code, INVALID_FETCH_SESSION_EPOCH);
    let by_id = t.connection.call(17, &step(5));
    assert_eq!(by_id.error_code, FETCH_SESSION_TOPIC_ID_ERROR);
    assert_eq!(t.connection.call(12, &step(5)).error_code, NONE, "the session has survived all that");
    let unknown = t.connection.call(12, &FetchRequest { session_id: session_id ^ 0x4000, ..step(6) });
    assert_eq!((unknown.error_code, unknown.session_id), (FETCH_SESSION_ID_NOT_FOUND, 0));
    let end = t.connection.call(12, &step(-1));
    assert_eq!((end.error_code, end.session_id), (NONE, 0));
    assert_eq!(t.connection.call(12, &step(6)).error_code, FETCH_SESSION_ID_NOT_FOUND);
}

#[test]
fn session_without_partitions_ends_and_one_that_fails_is_told_again() {
    let mut t = topic(Broker::shared(), "session-end", 1);
    let mut open = once(vec![t.asked(vec![partition(0, 9)])]);
    open.session_epoch = 0;
    let answer = t.connection.call(12, &open);
    assert_eq!(answer.responses[0].partitions[0].error_code, OFFSET_OUT_OF_RANGE);
    let session_id = answer.session_id;
    let step = |epoch| FetchRequest { session_id, session_epoch: epoch, ..once(Vec::new()) };
    let again = t.connection.call(12, &step(1));
    assert_eq!(again.responses[0].partitions[0].error_code, OFFSET_OUT_OF_RANGE, "errors are always told");
    let mended = FetchRequest { topics: vec![t.asked(vec![partition(0, 0)])], ..step(2) };
    assert_eq!(told(&t.connection.call(12, &mended)), [0], "the first answer after an error tells the bounds");
    let forgotten =
        FetchRequestForgottenTopic { topic: Str::from(t.name.clone()), partitions: vec![0], ..Default::default() };
    let empty = t.connection.call(12, &FetchRequest { forgotten_topics_data: vec![forgotten], ..step(3) });
    assert_eq!((empty.error_code, empty.session_id), (NONE, 0));
    assert_eq!(t.connection.call(12, &step(4)).error_code, FETCH_SESSION_ID_NOT_FOUND);
}

#[test]
fn full_session_cache_gives_no_session() {
    if !is_corelane() {
        return;
    }
    let options = BrokerOptions { cores: "0".into(), ..Default::default() };
    let broker = Broker::start(options.set("max.incremental.fetch.session.cache.slots", 2));
    let mut t = topic(&broker, "cache", 1);
    let open = FetchRequest { session_epoch: 0, ..once(vec![t.asked(vec![partition(0, 0)])]) };
    let ids: Vec<i32> = (0..3).map(|_| t.connection.call(12, &open).session_id).collect();
    assert!(ids[0] != 0 && ids[1] != 0 && ids[0] != ids[1], "{ids:?}");
    assert_eq!(ids[2], 0, "no session is idle for long enough to give way");
    // One that is closed by a full request makes room.
    let reopen = FetchRequest { session_id: ids[0], ..open.clone() };
    let next = t.connection.call(12, &reopen).session_id;
    assert!(next != 0 && next != ids[0]);
    let step = FetchRequest { session_id: ids[0], session_epoch: 1, ..once(Vec::new()) };
    assert_eq!(t.connection.call(12, &step).error_code, FETCH_SESSION_ID_NOT_FOUND);
}

#[test]
fn fetch_waits_for_its_least_bytes_and_unknown_partitions_do_not_end_the_wait() {
    let mut t = topic(Broker::shared(), "least", 1);
    let name = t.name.clone();
    let patient = FetchRequest {
        max_wait_ms: 600_000,
        min_bytes: 3000,
        ..once(vec![t.asked(vec![partition(0, 0), partition(99, 0)])])
    };
    let id = t.connection.send(12, &patient).expect("send");
    let mut writer = to_leader(Broker::shared().bootstrap(), &name, 0).expect("the leader");
    for _ in 0..4 {
        assert_eq!(writer.produce(&name, 0, value(1000)).expect("produce").error_code, 0);
    }
    let answer = t.connection.receive::<FetchRequest>(12, id).expect("an answer");
    let by_index = |index| answer.responses[0].partitions.iter().find(|p| p.partition_index == index).expect("told");
    assert!(offsets(by_index(0)).len() >= 3, "{:?}", offsets(by_index(0)));
    assert_eq!(by_index(99).error_code, UNKNOWN_TOPIC_OR_PARTITION);
}
