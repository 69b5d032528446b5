//! librdkafka: produce, consume, offsets.

use corelane_tests::broker::Broker;
use corelane_tests::librdkafka::{
    LIMIT, Read, admin, admin_options, assign, block_on, consumer, create_topic, produce_all, producer, read_all,
    read_until, send, unique, wait_leaders,
};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

const PARTITIONS: i32 = 16;

/// Keys and values of `n` records: some empty, some long, some that compress, some that do not.
fn records(n: u64) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut x = 0x9E37_79B9_7F4A_7C15_u64;
    (0..n)
        .map(|i| {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            let len = usize::try_from(x % 900).expect("small");
            let value = match i % 4 {
                0 => format!("{{\"n\":{i},\"text\":\"{}\"}}", "corelane ".repeat(len / 9)).into_bytes(),
                1 => (0..len).map(|k| (x.rotate_left(u32::try_from(k % 64).expect("small")) as u8) ^ k as u8).collect(),
                2 => Vec::new(),
                _ => i.to_be_bytes().to_vec(),
            };
            (format!("key-{}", i % 97).into_bytes(), value)
        })
        .collect()
}

/// Produces `records`, reads them back, and compares places, keys, values and order.
fn round_trip(topic: &str, settings: &[(&str, &str)], n: u64) {
    let broker = Broker::shared();
    let sent = records(n);
    let client = producer(broker, settings);
    let places = produce_all(&client, topic, sent.iter().map(|(k, v)| (k.as_slice(), v.as_slice())));
    let mut by_place: BTreeMap<(i32, i64), usize> = BTreeMap::new();
    for (number, place) in places {
        let before = by_place.insert(place, usize::try_from(number).expect("an index"));
        assert!(before.is_none(), "two records at {place:?}");
    }
    let got = read_all(broker, topic, PARTITIONS, sent.len());
    let mut next: HashMap<i32, i64> = HashMap::new();
    let mut last_of_key: HashMap<&[u8], usize> = HashMap::new();
    for read in &got {
        let expected = next.entry(read.partition).or_insert(0);
        assert_eq!(read.offset, *expected, "offsets of partition {} have no holes and start at 0", read.partition);
        *expected += 1;
        let number = by_place[&(read.partition, read.offset)];
        assert_eq!(read.key.as_deref(), Some(sent[number].0.as_slice()), "key of record {number}");
        assert_eq!(read.value.as_deref(), Some(sent[number].1.as_slice()), "value of record {number}");
        if let Some(before) = last_of_key.insert(&sent[number].0, number) {
            assert!(before < number, "record {number} came after {before}, which has the same key");
        }
    }
}

fn codec_round_trip(codec: &str) {
    let topic = unique(codec);
    create_topic(Broker::shared(), &topic, PARTITIONS, &[]);
    round_trip(&topic, &[("compression.codec", codec)], 4000);
}

#[test]
fn uncompressed_records_come_back_as_sent() {
    codec_round_trip("none");
}

#[test]
fn gzip_records_come_back_as_sent() {
    codec_round_trip("gzip");
}

#[test]
fn snappy_records_come_back_as_sent() {
    codec_round_trip("snappy");
}

#[test]
fn lz4_records_come_back_as_sent() {
    codec_round_trip("lz4");
}

#[test]
fn zstd_records_come_back_as_sent() {
    codec_round_trip("zstd");
}

#[test]
fn broker_recompresses_every_codec_to_that_of_the_topic() {
    std::thread::scope(|scope| {
        for target in ["uncompressed", "gzip", "snappy", "lz4", "zstd"] {
            scope.spawn(move || {
                let topic = unique("recompress");
                create_topic(Broker::shared(), &topic, PARTITIONS, &[("compression.type", target)]);
                let mut next = 0;
                for source in ["none", "gzip", "snappy", "lz4", "zstd"] {
                    let sent = records(100);
                    let client = producer(Broker::shared(), &[("compression.codec", source), ("linger.ms", "20")]);
                    produce_all(&client, &topic, sent.iter().map(|(k, v)| (k.as_slice(), v.as_slice())));
                    next += sent.len();
                    let got = read_all(Broker::shared(), &topic, PARTITIONS, next);
                    let mut values: Vec<_> = got.into_iter().map(|read| (read.key, read.value)).collect();
                    let five = sent.iter().map(|(k, v)| (Some(k.clone()), Some(v.clone())));
                    let mut expected: Vec<_> = five.cycle().take(next).collect();
                    values.sort();
                    expected.sort();
                    assert!(values == expected, "{source} to {target}");
                }
            });
        }
    });
}

/// Large batches that the broker compresses again, slowly, and small ones behind them, all to one partition.
#[test]
fn batches_that_take_long_stay_in_order() {
    let broker = Broker::shared();
    let topic = unique("slow");
    create_topic(broker, &topic, 1, &[("compression.type", "zstd"), ("compression.zstd.level", "6")]);
    let settings = [
        ("compression.codec", "lz4"),
        ("batch.size", "900000"),
        ("linger.ms", "10"),
        ("max.in.flight.requests.per.connection", "5"),
        // An idempotent producer would hide a wrong order by sending again.
        ("enable.idempotence", "false"),
    ];
    let client = producer(broker, &settings);
    let large: Vec<u8> = records(60).into_iter().flat_map(|(_, value)| value).take(8000).collect();
    let sent: Vec<(Vec<u8>, Vec<u8>)> =
        (0..1200_u32).map(|n| (n.to_be_bytes().to_vec(), if n % 300 < 200 { large.clone() } else { vec![] })).collect();
    produce_all(&client, &topic, sent.iter().map(|(k, v)| (k.as_slice(), v.as_slice())));
    let got = read_all(broker, &topic, 1, sent.len());
    for (read, (key, value)) in got.iter().zip(&sent) {
        assert_eq!((read.key.as_ref(), read.value.as_ref()), (Some(key), Some(value)), "at {}", read.offset);
    }
}

#[test]
fn idempotent_producer_writes_every_record_once() {
    let topic = unique("idempotent");
    create_topic(Broker::shared(), &topic, PARTITIONS, &[]);
    round_trip(&topic, &[("enable.idempotence", "true"), ("batch.num.messages", "7"), ("linger.ms", "0")], 5000);
}

#[test]
fn one_ack_is_enough_when_asked_for() {
    let topic = unique("acks-1");
    create_topic(Broker::shared(), &topic, PARTITIONS, &[]);
    round_trip(&topic, &[("acks", "1")], 2000);
}

#[test]
fn records_without_ack_arrive() {
    let broker = Broker::shared();
    let topic = unique("acks-0");
    create_topic(broker, &topic, 1, &[]);
    let sent = records(2000);
    let client = producer(broker, &[("acks", "0")]);
    for (i, (key, value)) in sent.iter().enumerate() {
        send(&client, BaseRecord::with_opaque_to(topic.as_str(), Box::new(i as u64)).key(&key[..]).payload(&value[..]));
    }
    client.flush(LIMIT).expect("flush");
    let got = read_all(broker, &topic, 1, sent.len());
    for (read, (key, value)) in got.iter().zip(&sent) {
        assert_eq!((read.key.as_ref(), read.value.as_ref()), (Some(key), Some(value)));
    }
}

#[test]
fn null_empty_headers_and_timestamps_are_kept() {
    let broker = Broker::shared();
    let topic = unique("fields");
    create_topic(broker, &topic, 1, &[]);
    let client = producer(broker, &[]);
    let headers = || {
        OwnedHeaders::new()
            .insert(Header { key: "a", value: Some(&b"1"[..]) })
            .insert(Header { key: "null", value: None::<&[u8]> })
            .insert(Header { key: "a", value: Some(&b""[..]) })
    };
    let base = 1_700_000_000_000_i64;
    let topic = topic.as_str();
    let all: [BaseRecord<'_, [u8], [u8], Box<u64>>; 4] = [
        BaseRecord::with_opaque_to(topic, Box::new(0))
            .key(&b"k"[..])
            .payload(&b"v"[..])
            .timestamp(base)
            .headers(headers()),
        BaseRecord::with_opaque_to(topic, Box::new(1)).key(&b"tombstone"[..]).timestamp(base + 7),
        BaseRecord::with_opaque_to(topic, Box::new(2)).payload(&b"no key"[..]).timestamp(base + 3),
        BaseRecord::with_opaque_to(topic, Box::new(3)).key(&b""[..]).payload(&b""[..]).timestamp(base + 9),
    ];
    for record in all {
        send(&client, record);
    }
    client.flush(LIMIT).expect("flush");
    let reader = consumer(broker, &[]);
    assign(&reader, topic, 1, Offset::Beginning);
    let mut got = Vec::new();
    read_until(&reader, |m| {
        let headers: Vec<(String, Option<Vec<u8>>)> = m
            .headers()
            .map(|h| h.iter().map(|h| (h.key.to_owned(), h.value.map(<[u8]>::to_vec))).collect())
            .unwrap_or_default();
        got.push((Read::of(m), headers));
        got.len() == 4
    });
    let expect = |i: usize, key: Option<&[u8]>, value: Option<&[u8]>, timestamp: i64| {
        assert_eq!(got[i].0.key.as_deref(), key, "key of record {i}");
        assert_eq!(got[i].0.value.as_deref(), value, "value of record {i}");
        assert_eq!(got[i].0.timestamp, Some(timestamp), "timestamp of record {i}");
    };
    expect(0, Some(b"k"), Some(b"v"), base);
    expect(1, Some(b"tombstone"), None, base + 7);
    expect(2, None, Some(b"no key"), base + 3);
    expect(3, Some(b""), Some(b""), base + 9);
    let names: Vec<_> = got[0].1.iter().map(|(k, v)| (k.as_str(), v.as_deref())).collect();
    assert_eq!(names, [("a", Some(&b"1"[..])), ("null", None), ("a", Some(&b""[..]))]);
}

#[test]
fn log_append_time_replaces_the_timestamps_of_the_producer() {
    let broker = Broker::shared();
    let topic = unique("append-time");
    create_topic(broker, &topic, 1, &[("message.timestamp.type", "LogAppendTime")]);
    let client = producer(broker, &[]);
    let before = i64::try_from(std::time::UNIX_EPOCH.elapsed().expect("clock").as_millis()).expect("fits");
    send(&client, BaseRecord::with_opaque_to(&topic, Box::new(0)).key(&b"k"[..]).payload(&b"v"[..]).timestamp(1234));
    client.flush(LIMIT).expect("flush");
    let got = read_all(broker, &topic, 1, 1);
    let stamp = got[0].timestamp.expect("a timestamp");
    assert!((before - 1000..before + 60_000).contains(&stamp), "{stamp} is not the time of the append, {before}");
}

#[test]
fn message_beyond_the_limit_of_the_topic_is_refused_and_the_next_one_goes_on() {
    let broker = Broker::shared();
    let (small, large) = (unique("small"), unique("large"));
    create_topic(broker, &small, 1, &[]);
    create_topic(broker, &large, 1, &[("max.message.bytes", "9000000")]);
    let client = producer(broker, &[("message.max.bytes", "10000000"), ("linger.ms", "0")]);
    let body: Vec<u8> = (0..8_900_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let mut number = 0;
    let mut outcome = |topic: &str, len: usize| {
        send(&client, BaseRecord::with_opaque_to(topic, Box::new(number)).key(&b"k"[..]).payload(&body[..len]));
        client.flush(LIMIT).expect("flush");
        number += 1;
        client.context().take().remove(&(number - 1)).expect("a report").map(|(_, offset)| offset)
    };
    assert_eq!(outcome(&small, 1_000_000), Ok(0));
    assert_eq!(outcome(&small, 1_100_000), Err(RDKafkaErrorCode::MessageSizeTooLarge));
    assert_eq!(outcome(&small, 10), Ok(1));
    assert_eq!(outcome(&large, 8_900_000), Ok(0));
    assert_eq!(outcome(&large, 1), Ok(1));
    // the first batch is returned whole although it exceeds every limit of the fetch
    let reader = consumer(
        broker,
        &[("fetch.message.max.bytes", "1000"), ("fetch.max.bytes", "1000"), ("message.max.bytes", "1000")],
    );
    assign(&reader, &large, 1, Offset::Beginning);
    let mut lengths = Vec::new();
    read_until(&reader, |m| {
        let value = m.payload().expect("a value");
        assert_eq!(value, &body[..value.len()]);
        lengths.push(value.len());
        lengths.len() == 2
    });
    assert_eq!(lengths, [8_900_000, 1]);
}

#[test]
fn producing_to_a_missing_topic_creates_it() {
    let broker = Broker::shared();
    let topic = unique("auto");
    let client = producer(broker, &[]);
    let sent = records(200);
    produce_all(&client, &topic, sent.iter().map(|(k, v)| (k.as_slice(), v.as_slice())));
    wait_leaders(broker, &topic, 4); // num.partitions
    assert_eq!(read_all(broker, &topic, 4, 200).len(), 200);
}

#[test]
fn reading_a_missing_topic_does_not_create_it() {
    let broker = Broker::shared();
    let topic = unique("absent");
    let reader =
        consumer(broker, &[("allow.auto.create.topics", "false"), ("topic.metadata.propagation.max.ms", "1000")]);
    assign(&reader, &topic, 1, Offset::Beginning);
    let error = match reader.poll(LIMIT) {
        Some(Err(error)) => error,
        Some(Ok(_)) => panic!("a record of a topic that is not there"),
        None => panic!("neither a record nor an error in {LIMIT:?}"),
    };
    assert_eq!(error.rdkafka_error_code(), Some(RDKafkaErrorCode::UnknownTopicOrPartition));
    let names = reader.fetch_metadata(None, LIMIT).expect("metadata");
    assert!(names.topics().iter().all(|t| t.name() != topic));
}

#[test]
fn offsets_are_found_by_timestamp() {
    let broker = Broker::shared();
    let topic = unique("times");
    create_topic(broker, &topic, 2, &[]);
    let base = 1_700_000_000_000_i64;
    let client = producer(broker, &[("batch.num.messages", "10")]);
    for i in 0..1000_i64 {
        let record = BaseRecord::with_opaque_to(topic.as_str(), Box::new(i as u64)).key(&b"k"[..]).payload(&b"v"[..]);
        send(&client, record.partition(i32::from(i % 2 == 1)).timestamp(base + i * 10));
    }
    client.flush(LIMIT).expect("flush");
    let reader = consumer(broker, &[]);
    let ask = |partition: i32, at: i64| {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&topic, partition, Offset::Offset(at)).expect("a partition");
        let found = reader.offsets_for_times(list, LIMIT).expect("offsets for times");
        found.find_partition(&topic, partition).expect("the partition").offset()
    };
    assert_eq!(ask(0, base - 5000), Offset::Offset(0));
    assert_eq!(ask(0, base), Offset::Offset(0));
    assert_eq!(ask(0, base + 1), Offset::Offset(1)); // even numbers: 0, 20, 40, ..
    assert_eq!(ask(0, base + 20), Offset::Offset(1));
    assert_eq!(ask(0, base + 5000), Offset::Offset(250));
    assert_eq!(ask(1, base + 5001), Offset::Offset(250)); // odd ones: 10, 30, .. 5010
    assert_eq!(ask(1, base + 9990), Offset::Offset(499));
    assert_eq!(ask(0, base + 9990), Offset::End);
    assert_eq!(ask(0, base + 99_999_999), Offset::End);
}

#[test]
fn watermarks_follow_produce_and_delete_records() {
    let broker = Broker::shared();
    let topic = unique("watermarks");
    create_topic(broker, &topic, 1, &[]);
    let reader = consumer(broker, &[]);
    let marks = || reader.fetch_watermarks(&topic, 0, LIMIT).expect("watermarks");
    assert_eq!(marks(), (0, 0));
    let client = producer(broker, &[]);
    produce_all(&client, &topic, (0..10).map(|_| (&b"k"[..], &b"v"[..])));
    assert_eq!(marks(), (0, 10));
    let mut upto = TopicPartitionList::new();
    upto.add_partition_offset(&topic, 0, Offset::Offset(4)).expect("a partition");
    block_on(admin(broker).delete_records(&upto, &admin_options())).expect("DeleteRecords");
    assert_eq!(marks(), (4, 10));
    assign(&reader, &topic, 1, Offset::Beginning);
    let mut offsets = Vec::new();
    read_until(&reader, |m| {
        offsets.push(m.offset());
        offsets.len() == 6
    });
    assert_eq!(offsets, [4, 5, 6, 7, 8, 9]);
    // below the log start: the consumer's reset policy decides
    assign(&reader, &topic, 1, Offset::Offset(1));
    let error = reader.poll(LIMIT).expect("an answer").map(|m| m.offset()).expect_err("offset 1 is gone");
    assert_eq!(error.rdkafka_error_code(), Some(RDKafkaErrorCode::AutoOffsetReset));
    let forgiving = consumer(broker, &[("auto.offset.reset", "earliest")]);
    assign(&forgiving, &topic, 1, Offset::Offset(1));
    read_until(&forgiving, |m| {
        assert_eq!(m.offset(), 4);
        true
    });
}

#[test]
fn waiting_consumer_gets_a_record_as_soon_as_it_is_written() {
    let broker = Broker::shared();
    let topic = unique("long-poll");
    create_topic(broker, &topic, PARTITIONS, &[]);
    let reader = consumer(broker, &[("fetch.wait.max.ms", "20000"), ("fetch.error.backoff.ms", "10")]);
    let client = producer(broker, &[("linger.ms", "0")]);
    let put = |partition: i32| {
        let record = BaseRecord::with_opaque_to(topic.as_str(), Box::new(0)).key(&b"k"[..]).payload(&b"v"[..]);
        send(&client, record.partition(partition));
        client.flush(LIMIT).expect("flush");
        client.context().take();
    };
    // the client's first fetches name only some partitions: let it settle on all of them
    (0..PARTITIONS).for_each(put);
    assign(&reader, &topic, PARTITIONS, Offset::Offset(0));
    let mut settled = 0;
    read_until(&reader, |_| {
        settled += 1;
        settled == PARTITIONS
    });
    let mut slowest = Duration::ZERO;
    for i in 0..PARTITIONS {
        let sent = Instant::now();
        put(i);
        read_until(&reader, |m| {
            assert_eq!(m.partition(), i);
            true
        });
        slowest = slowest.max(sent.elapsed());
    }
    // Who is not woken gets it when the wait is over, which has just begun.
    assert!(slowest < Duration::from_secs(15), "a record took {slowest:?} to a consumer that waits up to 20 s");
}

#[test]
fn consumer_starts_at_the_end_when_asked() {
    let broker = Broker::shared();
    let topic = unique("tail");
    create_topic(broker, &topic, 1, &[]);
    let client = producer(broker, &[]);
    produce_all(&client, &topic, (0..100).map(|_| (&b"old"[..], &b"v"[..])));
    let reader = consumer(broker, &[]);
    assign(&reader, &topic, 1, Offset::OffsetTail(3));
    let mut offsets = Vec::new();
    read_until(&reader, |m| {
        offsets.push(m.offset());
        offsets.len() == 3
    });
    assert_eq!(offsets, [97, 98, 99]);
    reader.seek(&topic, 0, Offset::Offset(42), LIMIT).expect("seek");
    read_until(&reader, |m| {
        assert_eq!(m.offset(), 42);
        true
    });
}

#[test]
fn partition_that_does_not_exist_is_refused() {
    let broker = Broker::shared();
    let topic = unique("two");
    create_topic(broker, &topic, 2, &[]);
    let client = producer(broker, &[]);
    let record = BaseRecord::with_opaque_to(topic.as_str(), Box::new(0)).key(&b"k"[..]).payload(&b"v"[..]).partition(5);
    let refused = match client.send(record) {
        Ok(()) => {
            client.flush(LIMIT).expect("flush");
            client.context().take().remove(&0).expect("a report").expect_err("partition 5 of 2")
        }
        Err((KafkaError::MessageProduction(code), _)) => code,
        Err((error, _)) => panic!("{error}"),
    };
    assert_eq!(refused, RDKafkaErrorCode::UnknownPartition);
    let reader: BaseConsumer = corelane_tests::librdkafka::config(broker)
        .set("group.id", unique("g"))
        .set_log_level(RDKafkaLogLevel::Emerg)
        .create()
        .expect("a consumer");
    let error = reader.fetch_watermarks(&topic, 5, LIMIT).expect_err("partition 5 of 2");
    assert!(matches!(
        error.rdkafka_error_code(),
        Some(RDKafkaErrorCode::UnknownPartition | RDKafkaErrorCode::UnknownTopicOrPartition)
    ));
}
