//! Each codec of librdkafka and of the Java client by each `compression.type` of a topic, with what is small and what is as large as
//! may be: an empty value, one record, a batch just below `max.message.bytes`.

use corelane_tests::broker::Broker;
use corelane_tests::java::Java;
use corelane_tests::librdkafka::{create_topic, produce_all, producer, read_all, unique};

const TARGETS: [&str; 6] = ["producer", "uncompressed", "gzip", "snappy", "lz4", "zstd"];
const SOURCES: [&str; 5] = ["none", "gzip", "snappy", "lz4", "zstd"];
/// Of a large batch: 1,043,000 bytes of values, where the topic takes 1,048,588 of all.
const LARGE: (usize, usize) = (149, 7000);

/// Log lines, and every other kilobyte noise.
fn large_values() -> Vec<Vec<u8>> {
    let mut x = 0x9E37_79B9_7F4A_7C15_u64;
    let mut value = |n: usize| {
        let mut value = Vec::with_capacity(LARGE.1);
        while value.len() < LARGE.1 {
            x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            match value.len() >> 10 & 1 {
                0 => value.extend_from_slice(format!("{n} GET /items/{} 200\n", x >> 50).as_bytes()),
                _ => value.extend_from_slice(&x.to_be_bytes()),
            }
        }
        value.truncate(LARGE.1);
        value
    };
    (0..LARGE.0).map(&mut value).collect()
}

#[test]
fn librdkafka_small_and_large_batches_of_every_codec_to_every_compression_type() {
    let broker = Broker::shared();
    let batches = [vec![Vec::new()], vec![b"one".to_vec()], large_values()];
    std::thread::scope(|scope| {
        for target in TARGETS {
            let batches = &batches;
            scope.spawn(move || {
                let topic = unique("codecs");
                create_topic(broker, &topic, 1, &[("compression.type", target)]);
                let mut expected: Vec<&[u8]> = Vec::new();
                for source in SOURCES {
                    let settings = [
                        ("compression.codec", source),
                        ("linger.ms", "200"),
                        ("batch.size", "1048500"),
                        ("message.max.bytes", "1048588"),
                    ];
                    let client = producer(broker, &settings);
                    for batch in batches {
                        let records = batch.iter().map(|value| (&b""[..], value.as_slice()));
                        produce_all(&client, &topic, records);
                        expected.extend(batch.iter().map(Vec::as_slice));
                    }
                }
                let found = read_all(broker, &topic, 1, expected.len());
                for (n, (found, expected)) in found.iter().zip(expected).enumerate() {
                    assert!(found.value.as_deref() == Some(expected), "record {n} of the topic of type {target}");
                }
            });
        }
    });
}

#[test]
fn java_small_and_large_batches_of_every_codec_to_every_compression_type() {
    let name = "small_and_large_batches_of_every_codec";
    let out = Java::shared().run("ClientChecks", &[Broker::shared().bootstrap(), name]).ok();
    assert!(out.contains(&format!("ok {name}")), "{out}");
}
