//! A producer made by hand: it knows exactly which batch was acknowledged and repeats the one that was not.

use super::{LIMIT, Moments, broker, kill_and_restart, kills, read_partition};
use corelane_tests::batch::{ProducerIdentity, build, now_ms};
use corelane_tests::connection::{Connection, to_leader};
use corelane_tests::librdkafka::{create_topic, unique};
use corelane_tests::wait;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread;

const PARTITIONS: i32 = 4;
const ERROR_DUPLICATE_SEQUENCE: i16 = 46;

/// One acknowledged batch: numbers `first..first + count` at `offset`.
struct Acknowledged {
    first: u64,
    count: u64,
    offset: i64,
}

/// Writes batches to one partition, one at a time, until told to stop. A batch without an answer is sent again as it was.
fn feed(
    bootstrap: &str,
    topic: &str,
    partition: i32,
    idempotent: bool,
    stop: &AtomicBool,
    progress: &AtomicUsize,
) -> (Vec<Acknowledged>, u64) {
    let mut connection: Option<Connection> = None;
    let connect = || to_leader(bootstrap, topic, partition).ok();
    let (id, epoch) = match idempotent {
        true => wait::until("a producer id", LIMIT, || Connection::open(bootstrap).ok()?.init_producer_id().ok()),
        false => (-1, -1),
    };
    let (mut out, mut first, mut resent) = (Vec::new(), 0_u64, 0);
    while !stop.load(SeqCst) {
        let count = 1 + first * 7 % 23;
        let sequence = if idempotent { i32::try_from(first).expect("a sequence") } else { -1 };
        let numbers: Vec<[u8; 8]> = (first..first + count).map(u64::to_be_bytes).collect();
        let who = ProducerIdentity { id, epoch, sequence };
        let batch = build(who, now_ms(), numbers.iter().map(|n| (Some(&b"k"[..]), Some(&n[..]))));
        let offset = wait::until("an acknowledgement", LIMIT, || {
            if connection.is_none() {
                connection = connect();
            }
            match connection.as_mut()?.produce(topic, partition, batch.clone()) {
                Ok(answer) if answer.error_code == 0 => Some(answer.base_offset),
                // only a retriable error may come, while the broker starts
                Ok(answer) => {
                    assert_ne!(answer.error_code, ERROR_DUPLICATE_SEQUENCE);
                    let known = corelane_protocol::ErrorCode::from_code(answer.error_code);
                    assert!(known.is_some_and(|e| e.retriable()), "batch {first}: error {known:?}");
                    None
                }
                Err(_) => {
                    resent += 1;
                    connection = None;
                    None
                }
            }
        });
        out.push(Acknowledged { first, count, offset });
        progress.fetch_add(1, SeqCst);
        first += count;
    }
    (out, resent)
}

fn run(idempotent: bool, configs: &[(&str, &str)]) {
    let mut broker = broker();
    let topic = unique("exact");
    create_topic(&broker, &topic, PARTITIONS, configs);
    let bootstrap = broker.bootstrap().to_owned();
    let (stop, progress, mut moments) = (AtomicBool::new(false), AtomicUsize::new(0), Moments::new());
    let all = thread::scope(|scope| {
        let feeders: Vec<_> = (0..PARTITIONS)
            .map(|p| {
                let (bootstrap, topic, stop, progress) = (&bootstrap, &topic, &stop, &progress);
                scope.spawn(move || feed(bootstrap, topic, p, idempotent, stop, progress))
            })
            .collect();
        for kill in 0..kills() {
            let target = progress.load(SeqCst) + moments.next(4000);
            if wait::within(LIMIT, || (progress.load(SeqCst) >= target).then_some(())).is_none() {
                stop.store(true, SeqCst);
                panic!("no progress after kill {kill}\n{}", broker.log_tail());
            }
            kill_and_restart(&mut broker);
        }
        stop.store(true, SeqCst);
        feeders.into_iter().map(|f| f.join().expect("a feeder")).collect::<Vec<_>>()
    });
    let (mut batches, mut repeated) = (0, 0);
    for (p, (acknowledged, resent)) in (0..PARTITIONS).zip(all) {
        let values = read_partition(&broker, &topic, p);
        let numbers: Vec<u64> =
            values.iter().map(|v| u64::from_be_bytes(v.as_slice().try_into().expect("eight bytes"))).collect();
        let mut end = 0;
        for a in &acknowledged {
            let at = usize::try_from(a.offset).expect("an offset");
            let expected: Vec<u64> = (a.first..a.first + a.count).collect();
            assert_eq!(
                numbers.get(at..at + expected.len()),
                Some(expected.as_slice()),
                "partition {p}: the batch acknowledged at {at}"
            );
            assert!(at >= end, "partition {p}: batches acknowledged in another order than they are stored");
            end = at + expected.len();
            if idempotent {
                assert_eq!(a.offset as u64, a.first, "partition {p}: nothing is repeated, nothing is left out");
            }
        }
        let known: u64 = acknowledged.iter().map(|a| a.count).sum();
        let stored = numbers.len() as u64;
        if idempotent {
            // a feeder waits for its last acknowledgement before it stops
            assert_eq!(stored, known, "partition {p}: records stored");
        } else {
            assert!(stored >= known, "partition {p}: {stored} stored, {known} acknowledged");
        }
        batches += acknowledged.len();
        repeated += resent;
    }
    println!("{} kills, {batches} batches acknowledged, {repeated} sent again", kills());
}

#[test]
fn acknowledged_batches_of_an_idempotent_producer_are_there_once_and_in_order() {
    run(true, &[("segment.bytes", "1048576")]);
}

#[test]
fn acknowledged_batches_of_a_plain_producer_are_there() {
    run(false, &[]);
}

#[test]
fn clean_restarts_lose_nothing_and_are_fast() {
    let mut broker = broker();
    let topic = unique("clean");
    create_topic(&broker, &topic, 2, &[]);
    let mut expected: Vec<Vec<u8>> = Vec::new();
    for round in 0..5_u64 {
        let mut connection = wait::until("the leader", LIMIT, || to_leader(broker.bootstrap(), &topic, 0).ok());
        for i in 0..200_u64 {
            let value = (round * 1000 + i).to_be_bytes();
            let batch = build(ProducerIdentity::NONE, now_ms(), [(None, Some(&value[..]))]);
            let offset = wait::until("an acknowledgement", LIMIT, || {
                let answer = connection.produce(&topic, 0, batch.clone()).expect("produce");
                (answer.error_code == 0).then_some(answer.base_offset)
            });
            assert_eq!(offset, expected.len() as i64);
            expected.push(value.to_vec());
        }
        let status = broker.stop();
        assert!(status.is_none_or(|s| s.success()), "SIGTERM ends with {status:?}\n{}", broker.log_tail());
        broker.resume();
        assert_eq!(read_partition(&broker, &topic, 0), expected);
        assert_eq!(read_partition(&broker, &topic, 1), Vec::<Vec<u8>>::new());
    }
}
