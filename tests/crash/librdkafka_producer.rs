//! librdkafka's idempotent producer goes on through the kills by itself.

use super::{LIMIT, Moments, broker, kill_and_restart, kills, read_partition};
use corelane_tests::librdkafka::{ReportingProducer, create_topic, producer, unique};
use corelane_tests::wait;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseRecord, Producer};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

const PARTITIONS: i32 = 6;

/// Sends numbers to the partitions in turn until told to stop; returns how many went to each.
fn feed(producer: &ReportingProducer, topic: &str, stop: &AtomicBool) -> Vec<u64> {
    let mut sent = vec![0_u64; PARTITIONS as usize];
    for number in 0_u64.. {
        let partition = number % PARTITIONS as u64;
        let value = sent[partition as usize].to_be_bytes();
        loop {
            if stop.load(SeqCst) {
                return sent;
            }
            let record = BaseRecord::with_opaque_to(topic, Box::new(number)).key(&b"k"[..]).payload(&value[..]);
            match producer.send(record.partition(partition as i32)) {
                Ok(()) => break,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {
                    producer.poll(Duration::from_millis(5));
                }
                Err((error, _)) => panic!("record {number}: {error}"),
            }
        }
        sent[partition as usize] += 1;
        if number % 64 == 0 {
            producer.poll(Duration::ZERO);
        }
    }
    sent
}

#[test]
fn idempotent_librdkafka_producer_loses_and_repeats_nothing() {
    let mut broker = broker();
    let topic = unique("killed");
    create_topic(&broker, &topic, PARTITIONS, &[("segment.bytes", "1048576")]);
    let client = producer(
        &broker,
        &[
            ("enable.idempotence", "true"),
            ("message.timeout.ms", "0"),
            ("linger.ms", "1"),
            ("batch.num.messages", "50"),
            ("queue.buffering.max.messages", "5000"),
            ("reconnect.backoff.ms", "10"),
            ("reconnect.backoff.max.ms", "100"),
            ("retry.backoff.ms", "20"),
            ("retry.backoff.max.ms", "100"),
        ],
    );
    let (stop, mut moments) = (AtomicBool::new(false), Moments::new());
    let (sent, slowest) = thread::scope(|scope| {
        let feeder = scope.spawn(|| feed(&client, &topic, &stop));
        let mut slowest = Duration::ZERO;
        for kill in 0..kills() {
            let target = client.context().len() + moments.next(20_000);
            let met = wait::within(LIMIT, || (client.context().len() >= target).then_some(()));
            if met.is_none() {
                stop.store(true, SeqCst);
                panic!("no progress after kill {kill}: {} acknowledged\n{}", client.context().len(), broker.log_tail());
            }
            slowest = slowest.max(kill_and_restart(&mut broker));
        }
        stop.store(true, SeqCst);
        (feeder.join().expect("the feeder"), slowest)
    });
    client.flush(LIMIT).expect("the last records are acknowledged");
    let reports = client.context().take();
    let total: u64 = sent.iter().sum();
    assert_eq!(reports.len() as u64, total);
    for (number, report) in &reports {
        report.unwrap_or_else(|e| panic!("record {number}: {e}"));
    }
    for p in 0..PARTITIONS {
        let values = read_partition(&broker, &topic, p);
        let stored: Vec<u64> =
            values.iter().map(|v| u64::from_be_bytes(v.as_slice().try_into().expect("eight bytes"))).collect();
        let expected: Vec<u64> = (0..sent[p as usize]).collect();
        if stored != expected {
            let at = stored.iter().zip(&expected).position(|(a, b)| a != b).unwrap_or(stored.len().min(expected.len()));
            let report = reports.get(&(at as u64 * PARTITIONS as u64 + p as u64));
            let around = &stored[at.saturating_sub(3)..stored.len().min(at + 60)];
            panic!(
                "partition {p}: {} records sent, {} stored; at offset {at}: {around:?}; report of the missing one: {report:?}",
                expected.len(),
                stored.len()
            );
        }
    }
    // every report names the offset where its record is
    for (number, report) in reports {
        let expected = (number % PARTITIONS as u64, number / PARTITIONS as u64);
        assert_eq!(report, Ok((expected.0 as i32, expected.1 as i64)), "report of record {number}");
    }
    println!("{} kills, {total} records, slowest restart {slowest:?}", kills());
}
