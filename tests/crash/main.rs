//! kill -9 under load, again and again: everything acknowledged is there, in order, once.
//!
//! `CORELANE_TEST_KILLS` sets the number of kills of each test (default 20, transactions have half as many; the long form has
//! 200), `CORELANE_TEST_SEED` the seed of the moments. Everything is decided by counted acknowledgements, nothing by time.

mod groups;
mod history;
mod librdkafka_producer;
mod many_partitions;
mod raw_producer;
mod transaction_client;
mod transaction_steps;
mod transactions;

use corelane_tests::broker::{Broker, BrokerOptions};
use corelane_tests::connection::to_leader;
use corelane_tests::{batch, wait};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);

fn kills() -> usize {
    std::env::var("CORELANE_TEST_KILLS").map_or(20, |n| n.parse().expect("CORELANE_TEST_KILLS"))
}

/// Moments: so many acknowledgements after the last start the next kill comes.
struct Moments(StdRng);

impl Moments {
    fn new() -> Moments {
        let seed = std::env::var("CORELANE_TEST_SEED").ok().map(|s| s.parse().expect("CORELANE_TEST_SEED"));
        let seed = seed.unwrap_or_else(|| rand::rng().random());
        println!("CORELANE_TEST_SEED={seed}");
        Moments(StdRng::seed_from_u64(seed))
    }

    /// Moments of another thread.
    fn fork(&mut self) -> Moments {
        Moments(StdRng::seed_from_u64(self.0.random()))
    }

    /// One of so many.
    fn below(&mut self, count: usize) -> usize {
        self.0.random_range(0..count)
    }

    /// Often very soon, sometimes late.
    fn next(&mut self, most: usize) -> usize {
        let top = most >> self.0.random_range(0..8_u32);
        self.0.random_range(1..=top.max(1))
    }
}

/// A broker of small segments, so that kills fall into rolls, write-back and checkpoints too.
fn broker() -> Broker {
    Broker::start(BrokerOptions::default().set("auto.create.topics.enable", "false"))
}

/// Kills the broker and starts it again; returns how long it took to be ready.
fn kill_and_restart(broker: &mut Broker) -> Duration {
    broker.kill();
    broker.resume()
}

/// All values of a partition, in order; checks that offsets have no holes from 0 to the high watermark.
fn read_partition(broker: &Broker, topic: &str, partition: i32) -> Vec<Vec<u8>> {
    let mut connection = to_leader(broker.bootstrap(), topic, partition).expect("the leader");
    let end = wait::until("the high watermark", LIMIT, || match connection.list_offset(topic, partition, -1) {
        Ok((offset, 0)) => Some(offset),
        _ => None,
    });
    let mut out = Vec::new();
    while (out.len() as i64) < end {
        let next = out.len() as i64;
        let data = connection.fetch(topic, partition, next).expect("fetch");
        assert_eq!(data.error_code, 0, "fetch of {topic}-{partition} at {next}");
        let records = batch::read(&data.records.expect("records").into_bytes());
        assert!(!records.is_empty(), "{topic}-{partition}: nothing at {next}, although the high watermark is {end}");
        for record in records.into_iter().filter(|r| r.offset >= next) {
            assert_eq!(record.offset, out.len() as i64, "{topic}-{partition}: a hole in the offsets");
            out.push(record.value.expect("a value").to_vec());
        }
    }
    assert_eq!(out.len() as i64, end, "{topic}-{partition}: records beyond the high watermark");
    out
}
