//! Distributions, exact to an eighth.

use super::OneThread;
use std::{
    marker::PhantomData,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
};

/// Each power of two is divided into this many buckets.
const PARTS: usize = 8;
const PART_BITS: u32 = PARTS.ilog2();
/// Values from 2^40 on fall into the last bucket.
const BUCKETS: usize = (40 - PART_BITS as usize + 1) * PARTS;

pub(super) struct Counts {
    buckets: [AtomicU64; BUCKETS],
    sum: AtomicU64,
    max: AtomicU64,
}

/// Buckets an eighth wide; about 2.5 KB.
#[derive(Clone)]
pub struct Histogram(Arc<Counts>, OneThread);

fn bucket(v: u64) -> usize {
    if v < PARTS as u64 {
        return v as usize;
    }
    let shift = v.ilog2() - PART_BITS;
    let i = (shift as usize + 1) * PARTS + ((v >> shift) as usize - PARTS);
    i.min(BUCKETS - 1)
}

/// The largest value that falls into bucket `i`.
fn upper_bound(i: usize) -> u64 {
    if i < PARTS {
        return i as u64;
    }
    let shift = i / PARTS - 1;
    (((i % PARTS + PARTS + 1) as u64) << shift) - 1
}

impl Histogram {
    pub(super) fn new() -> Histogram {
        let counts =
            Counts { buckets: [const { AtomicU64::new(0) }; BUCKETS], sum: AtomicU64::new(0), max: AtomicU64::new(0) };
        Histogram(Arc::new(counts), PhantomData)
    }

    pub(super) fn weak(&self) -> Weak<Counts> {
        Arc::downgrade(&self.0)
    }

    #[inline]
    pub fn record(&self, v: u64) {
        let c = &*self.0;
        let bump = |a: &AtomicU64, n: u64| a.store(a.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
        if let Some(b) = c.buckets.get(bucket(v)) {
            bump(b, 1);
        }
        bump(&c.sum, v);
        if v > c.max.load(Ordering::Relaxed) {
            c.max.store(v, Ordering::Relaxed);
        }
    }

    /// What has been recorded so far.
    pub fn value(&self) -> HistogramValue {
        self.0.read()
    }
}

impl Counts {
    pub fn read(&self) -> HistogramValue {
        let load = |a: &AtomicU64| a.load(Ordering::Relaxed);
        let buckets: Vec<_> =
            self.buckets.iter().enumerate().map(|(i, b)| (upper_bound(i), load(b))).filter(|b| b.1 > 0).collect();
        let count = buckets.iter().map(|b| b.1).sum();
        HistogramValue { buckets, count, sum: load(&self.sum), max: load(&self.max) }
    }
}

/// A histogram at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HistogramValue {
    /// Largest value of the bucket, and how many fell into it (not cumulative); ascending, without empty ones.
    pub buckets: Vec<(u64, u64)>,
    pub count: u64,
    pub sum: u64,
    pub max: u64,
}

impl HistogramValue {
    /// The value below which a share `q` (0..=1) of the records lies, to an eighth; 0 without records.
    pub fn quantile(&self, q: f64) -> u64 {
        let rank = ((self.count as f64 * q).ceil() as u64).max(1);
        let mut below = 0;
        for &(upper, n) in &self.buckets {
            below += n;
            if below >= rank {
                return upper.min(self.max);
            }
        }
        self.max
    }

    /// Adds another one, such as another shard's.
    pub fn merge(&mut self, other: &HistogramValue) {
        for &(upper, n) in &other.buckets {
            match self.buckets.binary_search_by_key(&upper, |b| b.0) {
                Ok(i) => self.buckets[i].1 += n,
                Err(i) => self.buckets.insert(i, (upper, n)),
            }
        }
        self.count += other.count;
        self.sum = self.sum.wrapping_add(other.sum);
        self.max = self.max.max(other.max);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_lies_in_its_bucket() {
        let mut last = None;
        for v in (0..2000).chain((10..40).flat_map(|e| [(1 << e) - 1, 1 << e, (1 << e) + (1 << (e - 1))])) {
            let i = bucket(v);
            assert!(v <= upper_bound(i) && (i == 0 || v > upper_bound(i - 1)), "{v} in bucket {i}");
            last = Some(i);
        }
        assert!(last.unwrap() < BUCKETS);
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn quantiles_are_right_to_an_eighth() {
        let h = Histogram::new();
        (1..=10_000).for_each(|v| h.record(v));
        let mut v = h.value();
        for (q, want) in [(0.5, 5000.0), (0.99, 9900.0), (1.0, 10_000.0)] {
            let got = v.quantile(q) as f64;
            assert!((want..=want * 1.13).contains(&got), "{q}: {got}");
        }
        v.merge(&h.value());
        assert_eq!((v.count, v.sum, v.max), (20_000, 100_010_000, 10_000));
        assert_eq!(HistogramValue::default().quantile(0.5), 0);
    }
}
