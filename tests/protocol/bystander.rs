//! A well-behaved client beside the hostile ones: it must not notice them.

use corelane_tests::batch::{ProducerIdentity, build, now_ms, read};
use corelane_tests::broker::Broker;
use corelane_tests::connection::to_leader;
use corelane_tests::librdkafka::{create_topic, unique};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

/// No round trip of the bystander may take longer.
const PATIENCE: Duration = Duration::from_secs(10);
/// What the resident memory of the binary may grow by while it is maltreated.
const GROWTH: u64 = 128 << 20;

/// Stops the bystander also when a hostile client fails the test.
struct StopAtEnd<'a>(&'a AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
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
    let (pid, before) = (broker.pid(), broker.rss_bytes());
    let stop = AtomicBool::new(false);
    let trips = thread::scope(|scope| {
        let bystander = scope.spawn(|| {
            let mut connection = to_leader(broker.bootstrap(), &topic, 0).expect("the leader");
            let (mut offset, mut slowest) = (0, Duration::ZERO);
            while !stop.load(SeqCst) || offset == 0 {
                let value = offset.to_string();
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
    if let (true, Some(before), Some(after)) = (corelane_tests::broker::is_corelane(), before, broker.rss_bytes()) {
        let grown = after.saturating_sub(before);
        println!("resident memory: {} MiB, then {} MiB", before >> 20, after >> 20);
        assert!(grown < GROWTH, "resident memory grew by {} MiB", grown >> 20);
    }
    println!("bystander: {} round trips, slowest {:?}", trips.0, trips.1);
}
