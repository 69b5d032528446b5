//! One line a second on standard error while a benchmark runs.

use super::stats::{histogram, now};
use crate::output::grouped;
use hdrhistogram::Histogram;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// What the threads of a run have done so far.
pub struct Progress {
    pub acked: AtomicU64,
    pub acked_bytes: AtomicU64,
    pub consumed: AtomicU64,
    pub consumed_bytes: AtomicU64,
    pub fetches: AtomicU64,
    pub errors: AtomicU64,
    /// Tells consumers to end.
    pub stop: AtomicBool,
    /// Latencies since the last line, microseconds.
    recent: Mutex<Histogram<u64>>,
}

impl Progress {
    pub fn new() -> Progress {
        Progress {
            acked: AtomicU64::new(0),
            acked_bytes: AtomicU64::new(0),
            consumed: AtomicU64::new(0),
            consumed_bytes: AtomicU64::new(0),
            fetches: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            stop: AtomicBool::new(false),
            recent: Mutex::new(histogram()),
        }
    }

    /// Latencies of one answer, in nanoseconds.
    pub fn latencies(&self, all: impl Iterator<Item = u64>) {
        let mut recent = self.recent.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        for ns in all {
            recent.saturating_record(ns / 1000);
        }
    }

    /// Prints a line a second until `ended`. `start` and `window` are on the run's clock.
    pub fn show(&self, window: (u64, u64), ended: &AtomicBool) {
        let mut before = (0, 0, 0, 0);
        let mut at = now();
        while !ended.load(Relaxed) {
            std::thread::park_timeout(Duration::from_secs(1));
            let t = now();
            let seconds = t.saturating_sub(at) as f64 / 1e9;
            if seconds < 0.5 {
                continue;
            }
            at = t;
            let total = (
                self.acked.load(Relaxed),
                self.acked_bytes.load(Relaxed),
                self.consumed.load(Relaxed),
                self.consumed_bytes.load(Relaxed),
            );
            let rate = |now: u64, before: u64| grouped((now.saturating_sub(before) as f64 / seconds) as u64);
            let mb = |now: u64, before: u64| now.saturating_sub(before) as f64 / 1e6 / seconds;
            let phase = match t {
                t if t < window.0 => "warm-up".to_owned(),
                t if t < window.1 => format!("{:>5.0} s", (t - window.0) as f64 / 1e9),
                _ => "ending".to_owned(),
            };
            let mut line = format!("{phase:>7}");
            if total.0 > 0 {
                line += &format!("  out {:>11} msg/s {:>7.1} MB/s", rate(total.0, before.0), mb(total.1, before.1));
            }
            if total.2 > 0 {
                line += &format!("  in {:>11} msg/s {:>7.1} MB/s", rate(total.2, before.2), mb(total.3, before.3));
            }
            let recent = {
                let mut recent = self.recent.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                std::mem::replace(&mut *recent, histogram())
            };
            if !recent.is_empty() {
                let ms = |q| recent.value_at_quantile(q) as f64 / 1e3;
                line += &format!("  p50 {:.2} ms  p99 {:.2} ms  max {:.2} ms", ms(0.5), ms(0.99), ms(1.0));
            }
            let errors = self.errors.load(Relaxed);
            if errors > 0 {
                line += &format!("  {errors} errors");
            }
            before = total;
            eprintln!("{line}");
        }
    }
}
