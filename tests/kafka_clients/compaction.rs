//! A compacted topic, as librdkafka, Kafka's consumer and Kafka's DumpLogSegments read it.

use std::collections::BTreeMap;

use corelane_tests::broker::{Broker, BrokerOptions, is_corelane};
use corelane_tests::java::Java;
use corelane_tests::librdkafka::{
    LIMIT, assign, config, consumer, create_topic, produce_all, producer, read_until, unique,
};
use corelane_tests::wait;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::message::Message;
use rdkafka::producer::{BaseRecord, Producer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

const KEYS: usize = 100;
const ROUNDS: usize = 60;
const GROUPS: usize = 4;
const COMMITTED: i32 = 20;

fn read(broker: &Broker, topic: &str, last: i64) -> Vec<(i64, String, String)> {
    let consumer = consumer(broker, &[]);
    assign(&consumer, topic, 1, Offset::Beginning);
    let text = |bytes: Option<&[u8]>| String::from_utf8(bytes.unwrap_or_default().to_vec()).expect("text");
    let mut found = Vec::new();
    read_until(&consumer, |m| {
        found.push((m.offset(), text(m.key()), text(m.payload())));
        m.offset() == last
    });
    found
}

#[test]
fn a_compacted_topic_has_the_last_value_of_each_key() {
    if !is_corelane() {
        return;
    }
    let options = BrokerOptions::default().set("log.cleaner.backoff.ms", 200);
    let mut broker = Broker::start(options);
    let topic = unique("compacted");
    let configs = [("cleanup.policy", "compact"), ("segment.bytes", "1048576"), ("min.cleanable.dirty.ratio", "0.01")];
    create_topic(&broker, &topic, 1, &configs);
    let records: Vec<(String, String)> = (0..ROUNDS)
        .flat_map(|round| (0..KEYS).map(move |key| (format!("k{key}"), format!("{round}-{}", "x".repeat(600)))))
        .collect();
    let client = producer(&broker, &[("compression.type", "none"), ("enable.idempotence", "true")]);
    produce_all(&client, &topic, records.iter().map(|(k, v)| (k.as_bytes(), v.as_bytes())));
    let last = (ROUNDS * KEYS - 1) as i64;
    // Once each key is in the closed segments once there is nothing more to compact, and what is there stays.
    let found = wait::until("compaction", LIMIT, || {
        let found = read(&broker, &topic, last);
        let active = active_segment(&broker, &topic);
        (found.iter().filter(|(offset, ..)| *offset < active).count() <= KEYS).then_some(found)
    });
    assert!(found.len() < records.len() / 2, "{} of {} records", found.len(), records.len());
    assert!(found.windows(2).all(|w| w[0].0 < w[1].0), "offsets rise");
    for (offset, key, value) in &found {
        assert_eq!(
            (key, value),
            (&records[*offset as usize].0, &records[*offset as usize].1),
            "offsets have not moved"
        );
    }
    let values: BTreeMap<&str, &str> = found.iter().map(|(_, k, v)| (k.as_str(), v.as_str())).collect();
    assert_eq!(values.len(), KEYS);
    assert!(values.values().all(|v| v.starts_with(&format!("{}-", ROUNDS - 1))), "the last of each key");

    let refused = send_without_key(&broker, &topic);
    assert_eq!(refused, RDKafkaErrorCode::InvalidRecord);

    let count = found.len().to_string();
    let arguments = ["--bootstrap-server", broker.bootstrap(), "--topic", &topic, "--from-beginning"];
    let arguments: Vec<&str> =
        arguments.into_iter().chain(["--max-messages", &count, "--formatter-property", "print.key=true"]).collect();
    let out = Java::shared().run("org.apache.kafka.tools.consumer.ConsoleConsumer", &arguments).ok();
    let lines = out.lines().filter_map(|l| l.split_once('\t')).map(|(k, v)| (k.to_owned(), v.to_owned()));
    assert_eq!(lines.collect::<Vec<_>>(), found.iter().map(|f| (f.1.clone(), f.2.clone())).collect::<Vec<_>>());

    assert!(broker.stop().is_some_and(|s| s.success()));
    let mut files = Vec::new();
    segments(&broker.data_dir(), &topic, &mut files);
    files.sort();
    let list: Vec<&str> = files.iter().map(|p| p.to_str().expect("a path")).collect();
    let arguments = ["--deep-iteration", "--print-data-log", "--files", &list.join(",")];
    let out = Java::shared().run("org.apache.kafka.tools.DumpLogSegments", &arguments).ok();
    assert_eq!(out.lines().filter(|l| l.starts_with("| offset: ")).count(), found.len(), "records");
    assert!(!out.contains("isvalid: false") && !out.contains("invalid bytes"));
    broker.resume();
    assert_eq!(read(&broker, &topic, last), found, "and so it is after a restart");
}

/// Offsets that many groups commit again and again, each with a note, so that the log grows.
fn commit(broker: &Broker, group: usize, topic: &str, round: i64) {
    let client: BaseConsumer =
        config(broker).set("group.id", format!("compacting-{group}")).create().expect("a consumer");
    let mut list = TopicPartitionList::new();
    for partition in 0..COMMITTED {
        let mut one = list.add_partition(topic, partition);
        one.set_offset(Offset::Offset(round * 100 + i64::from(partition))).expect("an offset");
        one.set_metadata("m".repeat(3000));
    }
    wait::until("a commit", LIMIT, || client.commit(&list, CommitMode::Sync).ok());
}

/// Group, partition and offset of each commit in the log, as Kafka's DumpLogSegments reads it. Nobody writes to it now.
fn commits(broker: &Broker) -> Vec<(String, i32, i64)> {
    let mut files = Vec::new();
    segments(&broker.data_dir(), "__consumer_offsets", &mut files);
    files.sort();
    let out = Java::shared().dump_log("--offsets-decoder", &files);
    let field = |line: &str, name: &str| {
        let (_, rest) = line.split_once(&format!("\"{name}\":"))?;
        rest.split([',', '}']).next().map(|value| value.trim_matches('"').to_owned())
    };
    let commit = |line: &str| {
        let (group, partition) = (field(line, "group")?, field(line, "partition")?.parse().ok()?);
        Some((group, partition, field(line, "offset")?.parse().ok()?))
    };
    out.lines().filter_map(commit).collect()
}

fn assert_committed(broker: &Broker, topic: &str, round: i64) {
    for group in 0..GROUPS {
        let client: BaseConsumer =
            config(broker).set("group.id", format!("compacting-{group}")).create().expect("a consumer");
        let mut ask = TopicPartitionList::new();
        ask.add_partition_range(topic, 0, COMMITTED - 1);
        let found = wait::until("OffsetFetch", LIMIT, || client.committed_offsets(ask.clone(), LIMIT).ok());
        for partition in 0..COMMITTED {
            let offset = found.find_partition(topic, partition).expect("the partition").offset();
            assert_eq!(offset, Offset::Offset(round * 100 + i64::from(partition)), "group {group}");
        }
    }
}

#[test]
fn committed_offsets_are_compacted_and_found_again() {
    if !is_corelane() {
        return;
    }
    let options = BrokerOptions::default()
        .set("log.cleaner.backoff.ms", 200)
        .set("offsets.topic.num.partitions", 1)
        .set("offsets.topic.segment.bytes", 1 << 20);
    let mut broker = Broker::start(options);
    let topic = unique("committed-to");
    create_topic(&broker, &topic, COMMITTED, &[]);
    let rounds = 30;
    for round in 0..rounds {
        (0..GROUPS).for_each(|group| commit(&broker, group, &topic, round));
    }
    let written = rounds as u64 * GROUPS as u64 * COMMITTED as u64 * 3000;
    let size = |broker: &Broker| -> u64 {
        let mut files = Vec::new();
        segments(&broker.data_dir(), "__consumer_offsets", &mut files);
        files.iter().filter_map(|f| f.metadata().ok()).map(|m| m.len()).sum()
    };
    // What has been compacted, the one segment that is written to, and room ahead in it.
    let small = wait::until("compaction", LIMIT, || Some(size(&broker)).filter(|size| *size < written / 2));
    assert!(written > 6 << 20 && small > 0, "{written} bytes were written, {small} are left");
    assert_committed(&broker, &topic, rounds - 1);
    broker.kill();
    broker.resume();
    assert_committed(&broker, &topic, rounds - 1);
    commit(&broker, 0, &topic, rounds - 1);
    assert!(broker.stop().is_some_and(|s| s.success()));
    let left = commits(&broker);
    assert!(left.iter().all(|(_, partition, offset)| *offset != i64::from(*partition)), "the first commits are gone");
    for group in (0..GROUPS).map(|group| format!("compacting-{group}")) {
        for partition in 0..COMMITTED {
            let own = left.iter().filter(|(g, p, _)| *g == group && *p == partition);
            let last = own.map(|(.., offset)| *offset).max();
            assert_eq!(last, Some((rounds - 1) * 100 + i64::from(partition)), "{group} {partition}");
        }
    }
    broker.resume();
    assert_committed(&broker, &topic, rounds - 1);
}

fn send_without_key(broker: &Broker, topic: &str) -> RDKafkaErrorCode {
    let client = producer(broker, &[]);
    client
        .send(BaseRecord::<[u8], [u8], Box<u64>>::with_opaque_to(topic, Box::new(0)).payload(&b"v"[..]))
        .unwrap_or_else(|(error, _)| panic!("{error}"));
    client.flush(LIMIT).expect("flush");
    let report = client.context().take().remove(&0).expect("a report");
    report.expect_err("refused")
}

/// Where the segment that is written to begins.
fn active_segment(broker: &Broker, topic: &str) -> i64 {
    let mut files = Vec::new();
    segments(&broker.data_dir(), topic, &mut files);
    let base = |path: &std::path::PathBuf| path.file_stem()?.to_str()?.parse().ok();
    files.iter().filter_map(base).max().expect("a segment")
}

fn segments(dir: &std::path::Path, topic: &str, out: &mut Vec<std::path::PathBuf>) {
    for path in std::fs::read_dir(dir).expect("a folder").flatten().map(|e| e.path()) {
        if path.is_dir() {
            segments(&path, topic, out);
        } else if path.extension().is_some_and(|e| e == "log") && path.to_string_lossy().contains(topic) {
            out.push(path);
        }
    }
}
