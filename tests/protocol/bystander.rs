//! A well-behaved client beside the hostile ones: it must not notice them.

use corelane_protocol::messages::MetadataRequest;
use corelane_tests::batch::{ProducerIdentity, build, now_ms, read};
use corelane_tests::broker::Broker;
use corelane_tests::connection::{Connection, to_leader};
use corelane_tests::librdkafka::{create_topic, unique};
use corelane_tests::wait::within;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

/// No round trip of the bystander may take longer.
const PATIENCE: Duration = Duration::from_secs(10);
/// What the resident memory of the binary may grow by while it is maltreated.
const GROWTH: u64 = 128 << 20;
/// And by each partition that somebody has created meanwhile, as strangers may.
const PARTITION: u64 = 64 << 10;

/// Bytes of what it writes: small, and more than the smallest that anything sets memory aside for.
const VALUE: usize = 8 << 10;

/// So long memory may take to come back.
const SETTLED: Duration = Duration::from_secs(60);

/// Stops what runs beside a test also when that fails.
pub struct StopAtEnd<'a>(pub &'a AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

fn partitions(broker: &Broker) -> u64 {
    let mut connection = Connection::open(broker.bootstrap()).expect("a connection");
    let all = connection.call(12, &MetadataRequest { topics: None, ..Default::default() });
    all.topics.iter().map(|topic| topic.partitions.len() as u64).sum()
}

/// Runs `hostile` while a bystander on a connection of its own writes and reads. Fails if the bystander is kept
/// waiting or disturbed, if the process is gone, or if it has grown (measured on the binary only: a JVM grows as it likes).
pub fn undisturbed_by(hostile: impl FnOnce(&Broker)) {
    undisturbed(Broker::shared(), hostile);
}

/// The same on a broker of the test's own.
pub fn undisturbed(broker: &Broker, hostile: impl FnOnce(&Broker)) {
    let topic = unique("bystander");
    create_topic(broker, &topic, 1, &[]);
    let (pid, before, partitions_before) = (broker.pid(), broker.rss_bytes(), partitions(broker));
    let stop = AtomicBool::new(false);
    let trips = thread::scope(|scope| {
        let bystander = scope.spawn(|| {
            let mut connection = to_leader(broker.bootstrap(), &topic, 0).expect("the leader");
            let (mut offset, mut slowest) = (0, Duration::ZERO);
            while !stop.load(SeqCst) || offset == 0 {
                let value = format!("{offset:>VALUE$}");
                let started = Instant::now();
                let batch = build(ProducerIdentity::NONE, now_ms(), [(None, Some(value.as_bytes()))]);
                let answer = connection.produce(&topic, 0, batch).expect("the bystander writes");
                assert_eq!((answer.error_code, answer.base_offset), (0, offset));
                let data = connection.fetch(&topic, 0, offset).expect("the bystander reads");
                let records = read(&data.records.expect("records").into_bytes());
                assert_eq!(records.last().and_then(|r| r.value.as_deref()), Some(value.as_bytes()));
                slowest = slowest.max(started.elapsed());
                offset += 1;
                thread::park_timeout(Duration::from_millis(2));
            }
            (offset, slowest)
        });
        let stopping = StopAtEnd(&stop);
        hostile(broker);
        drop(stopping);
        bystander.join().expect("the bystander")
    });
    assert!(trips.1 < PATIENCE, "the bystander waited {:?}", trips.1);
    assert!(broker.is_alive(), "the process has ended\n{}", broker.log_tail());
    assert_eq!(broker.pid(), pid, "still the same process");
    if let (true, Some(before)) = (corelane_tests::broker::is_corelane(), before) {
        let created = partitions(broker).saturating_sub(partitions_before);
        let bound = before + GROWTH + created * PARTITION;
        // What a moment takes (a backtrace of a task that held its core) is given back.
        let settled = within(SETTLED, || broker.rss_bytes().filter(|after| *after < bound));
        let after = settled.or_else(|| broker.rss_bytes()).unwrap_or_default();
        println!("resident memory: {} MiB, then {} MiB with {created} more partitions", before >> 20, after >> 20);
        assert!(settled.is_some(), "resident memory grew by {} MiB", after.saturating_sub(before) >> 20);
    }
    println!("bystander: {} round trips, slowest {:?}", trips.0, trips.1);
}
