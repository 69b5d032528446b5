//! Real input: every line of thousands of source files, produced with the file's path as key to 16 partitions by one
//! client and consumed by another, compared byte for byte and in order.
//!
//! `CORELANE_TEST_INPUT_MB` bounds one round (default 60); `CORELANE_LONG=1` goes on, over all codecs and both
//! directions, until 1 GiB has gone through.

use corelane_tests::broker::Broker;
use corelane_tests::corpus::{lines, rust_sources};
use corelane_tests::java::Java;
use corelane_tests::librdkafka::{assign, consumer, create_topic, producer, read_until, send, unique};
use rdkafka::consumer::Consumer;
use rdkafka::message::Message;
use rdkafka::producer::{BaseRecord, Producer};
use rdkafka::topic_partition_list::Offset;
use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

const PARTITIONS: i32 = 16;
const LIMIT: Duration = Duration::from_secs(120);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Client {
    Librdkafka,
    Java,
}

/// What went through: (records, bytes of values).
type Volume = (u64, u64);

fn produce(topic: &str, files: &[PathBuf], codec: &str) -> Volume {
    let client = producer(
        Broker::shared(),
        &[
            ("enable.idempotence", "true"),
            ("compression.codec", codec),
            ("batch.size", "131072"),
            ("queue.buffering.max.kbytes", "131072"),
        ],
    );
    let (mut records, mut bytes) = (0, 0);
    let check = |wait: Duration| {
        client.poll(wait);
        for (number, report) in client.context().take() {
            report.unwrap_or_else(|e| panic!("record {number}: {e}"));
        }
    };
    for path in files {
        let text = fs::read(path).expect("a source file");
        let key = path.to_str().expect("an ASCII path").as_bytes();
        for line in lines(&text) {
            send(&client, BaseRecord::with_opaque_to(topic, Box::new(records)).key(key).payload(line));
            records += 1;
            bytes += line.len() as u64;
            if records % 1024 == 0 {
                check(Duration::ZERO);
            }
        }
    }
    client.flush(LIMIT).expect("flush");
    check(Duration::ZERO);
    (records, bytes)
}

struct Open {
    text: Vec<u8>,
    at: usize,
    partition: i32,
}

impl Open {
    /// The next line, or `None` behind the last one.
    fn next(&mut self) -> Option<&[u8]> {
        let rest = self.text.get(self.at..)?;
        let line = lines(rest).next()?;
        self.at += line.len() + 1;
        Some(line)
    }
}

fn consume(topic: &str, files: &[PathBuf], expected: Volume) {
    let client =
        consumer(Broker::shared(), &[("fetch.message.max.bytes", "4194304"), ("queued.min.messages", "400000")]);
    assign(&client, topic, PARTITIONS, Offset::Beginning);
    let known: HashMap<&str, &PathBuf> = files.iter().map(|p| (p.to_str().expect("an ASCII path"), p)).collect();
    let mut open: HashMap<String, Open> = HashMap::new();
    let mut got = (0, 0);
    read_until(&client, |m| {
        let key = std::str::from_utf8(m.key().expect("a key")).expect("a path");
        if !open.contains_key(key) {
            let path = known.get(key).unwrap_or_else(|| panic!("a key that was not sent: {key}"));
            let text = fs::read(path).expect("a source file");
            open.insert(key.to_owned(), Open { text, at: 0, partition: m.partition() });
        }
        let file = open.get_mut(key).expect("just opened");
        assert_eq!(file.partition, m.partition(), "{key} is in two partitions");
        let line = file.next().unwrap_or_else(|| panic!("{key} has more records than lines"));
        let value = m.payload().expect("a value");
        assert!(line == value, "{key}, {}/{}: not the next line of the file", m.partition(), m.offset());
        got = (got.0 + 1, got.1 + value.len() as u64);
        got.0 == expected.0
    });
    assert_eq!(got, expected);
    for (key, file) in &mut open {
        assert!(file.next().is_none(), "{key} has more lines than records");
    }
    for p in 0..PARTITIONS {
        assert!(client.fetch_watermarks(topic, p, LIMIT).expect("watermarks").0 == 0);
    }
}

fn java(mode: &str, topic: &str, list: &str, codec: &str) -> Volume {
    let out = Java::shared().run("RealInput", &[mode, Broker::shared().bootstrap(), topic, list, codec]).ok();
    let numbers: Vec<u64> = out.split_whitespace().map(|n| n.parse().expect("a number")).collect();
    let &[_, records, bytes] = numbers.as_slice() else { panic!("{out}") };
    (records, bytes)
}

fn round(from: Client, to: Client, codec: &str, files: &[PathBuf]) -> u64 {
    let broker = Broker::shared();
    let topic = unique("source");
    create_topic(broker, &topic, PARTITIONS, &[]);
    let list = broker.folder().join(&topic);
    let text: Vec<&str> = files.iter().map(|p| p.to_str().expect("an ASCII path")).collect();
    fs::write(&list, text.join("\n")).expect("the list of files");
    let list = list.to_str().expect("a path");
    let started = Instant::now();
    let sent = match from {
        Client::Librdkafka => produce(&topic, files, codec),
        Client::Java => java("produce", &topic, list, codec),
    };
    let produced = started.elapsed();
    match to {
        Client::Librdkafka => consume(&topic, files, sent),
        Client::Java => assert_eq!(java("consume", &topic, list, codec), sent),
    }
    println!(
        "{from:?} -> {to:?}, {codec}: {} files, {} records, {} MB; produced in {:.1} s, consumed in {:.1} s",
        files.len(),
        sent.0,
        sent.1 / 1_000_000,
        produced.as_secs_f64(),
        (started.elapsed() - produced).as_secs_f64()
    );
    sent.1
}

#[test]
fn source_files_come_through_byte_for_byte_and_in_order() {
    use Client::{Java, Librdkafka};
    let long = std::env::var_os("CORELANE_LONG").is_some();
    let megabytes = std::env::var("CORELANE_TEST_INPUT_MB").ok().map(|v| v.parse().expect("CORELANE_TEST_INPUT_MB"));
    let files = rust_sources(megabytes.unwrap_or(if long { 400 } else { 60 }) * 1_000_000);
    let mut bytes = round(Librdkafka, Java, "lz4", &files);
    bytes += round(Java, Librdkafka, "none", &files);
    if !long {
        return;
    }
    let more = [
        (Librdkafka, Java, "none"),
        (Java, Librdkafka, "zstd"),
        (Librdkafka, Librdkafka, "gzip"),
        (Java, Java, "snappy"),
        (Librdkafka, Java, "zstd"),
        (Java, Librdkafka, "gzip"),
        (Librdkafka, Java, "snappy"),
        (Java, Librdkafka, "lz4"),
    ];
    for (from, to, codec) in more.into_iter().cycle() {
        if bytes >= 1 << 30 {
            break;
        }
        bytes += round(from, to, codec, &files);
    }
    println!("{} MB in all", bytes / 1_000_000);
}
