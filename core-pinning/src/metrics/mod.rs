//! Numbers of a shard, registered by name and read from any thread.
//!
//! A cell has one writer, the shard that registered it: an update is a relaxed load and store, no read-modify-write.
//! [`snapshot`] reads all cells of all shards. A cell disappears from it when its last handle is dropped.

mod histogram;
mod registry;

pub use histogram::{Histogram, HistogramValue};
pub use registry::{Kind, Labels, Sample, Value, snapshot};

use registry::{Cell, register};
use std::{
    marker::PhantomData,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

/// Keeps a handle on the thread that writes its cell.
type OneThread = PhantomData<*const ()>;

/// Only grows.
#[derive(Clone)]
pub struct Counter(Arc<AtomicU64>, OneThread);

/// Goes up and down.
#[derive(Clone)]
pub struct Gauge(Arc<AtomicU64>, OneThread);

/// A counter of the calling shard (or of no shard, on an ordinary thread). `name` and `help` as Prometheus wants them;
/// the same name and labels on one shard give a second cell, which a reader adds up.
pub fn counter(name: &'static str, help: &'static str, labels: Labels) -> Counter {
    let cell = Arc::new(AtomicU64::new(0));
    register(name, help, labels, Cell::Counter(Arc::downgrade(&cell)));
    Counter(cell, PhantomData)
}

/// A gauge of the calling shard; see [`counter`].
pub fn gauge(name: &'static str, help: &'static str, labels: Labels) -> Gauge {
    let cell = Arc::new(AtomicU64::new(0));
    register(name, help, labels, Cell::Gauge(Arc::downgrade(&cell)));
    Gauge(cell, PhantomData)
}

/// A histogram of the calling shard; see [`counter`]. The unit is the caller's, and belongs into the name.
pub fn histogram(name: &'static str, help: &'static str, labels: Labels) -> Histogram {
    let h = Histogram::new();
    register(name, help, labels, Cell::Histogram(h.weak()));
    h
}

impl Counter {
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    #[inline]
    pub fn inc(&self) {
        self.add(1);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Gauge {
    #[inline]
    pub fn set(&self, v: i64) {
        self.0.store(v as u64, Ordering::Relaxed);
    }

    #[inline]
    pub fn add(&self, n: i64) {
        self.set(self.get().wrapping_add(n));
    }

    #[inline]
    pub fn sub(&self, n: i64) {
        self.set(self.get().wrapping_sub(n));
    }

    pub fn get(&self) -> i64 {
        self.0.load(Ordering::Relaxed) as i64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ShardId, ShardPool, ShardPoolOptions};

    #[test]
    fn cells_of_all_shards_are_seen_from_another_thread() {
        let o = ShardPoolOptions { cores: vec![0, 1], ..Default::default() };
        let (tx, rx) = std::sync::mpsc::channel();
        let pool = ShardPool::<()>::start(o, move |cx| {
            let tx = tx.clone();
            async move {
                let n = counter("test_requests_total", "Requests", vec![("api", "produce".into())]);
                let (g, h) = (gauge("test_open", "Open", vec![]), histogram("test_us", "Time", vec![]));
                n.add(5 + u64::from(cx.id.0));
                g.set(-3);
                h.record(1000);
                tx.send(()).unwrap();
                cx.inbox.recv().await;
            }
        })
        .unwrap();
        rx.recv().unwrap();
        rx.recv().unwrap();
        let mut all = snapshot();
        all.retain(|s| s.name.starts_with("test_"));
        assert_eq!(all.len(), 6);
        let find = |name, shard| all.iter().find(|s| s.name == name && s.shard == Some(ShardId(shard))).unwrap();
        assert_eq!(find("test_requests_total", 1).value, Value::Counter(6));
        assert_eq!(find("test_requests_total", 0).labels, [("api", "produce".to_string())]);
        assert_eq!(find("test_open", 0).value, Value::Gauge(-3));
        let Value::Histogram(h) = &find("test_us", 1).value else { panic!("not a histogram") };
        assert_eq!((h.count, h.sum), (1, 1000));
        (0..2).for_each(|i| pool.inbox(ShardId(i)).post(()));
        pool.join().unwrap();
        assert!(snapshot().iter().all(|s| !s.name.starts_with("test_")));
    }
}
