//! The run's clock, latency histograms, and what /proc says about the processes involved.

use hdrhistogram::Histogram;
use serde_json::{Value, json};
use std::fs;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// Ticks of /proc/PID/stat: Linux shows them to programs as hundredths of a second everywhere.
const TICKS: f64 = 100.0;

/// Nanoseconds since the first call in this process.
pub fn now() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    u64::try_from(START.get_or_init(Instant::now).elapsed().as_nanos()).unwrap_or(u64::MAX)
}

pub fn sleep_until(at: u64) {
    std::thread::sleep(Duration::from_nanos(at.saturating_sub(now())));
}

/// Microseconds to three digits, up to an hour; what is longer counts as an hour.
pub fn histogram() -> Histogram<u64> {
    const HOUR: u64 = 3_600_000_000;
    Histogram::new_with_max(HOUR, 3).unwrap_or_else(|_| unreachable!("valid bounds"))
}

/// Latencies of the work that was due inside the window, and the work that was finished inside it.
pub struct Tally {
    /// From and to, on the run's clock.
    pub window: (u64, u64),
    /// Microseconds.
    pub latency: Histogram<u64>,
    pub total: u64,
    pub in_window: u64,
    pub errors: u64,
    /// Kafka's code of the first error.
    pub first_error: i16,
}

impl Tally {
    pub fn new(window: (u64, u64)) -> Tally {
        Tally { window, latency: histogram(), total: 0, in_window: 0, errors: 0, first_error: 0 }
    }

    fn inside(&self, t: u64) -> bool {
        t >= self.window.0 && t < self.window.1
    }

    /// A unit of work that was due at `due` and is done at `done`.
    pub fn add(&mut self, due: u64, done: u64) {
        self.total += 1;
        self.in_window += u64::from(self.inside(done));
        if self.inside(due) {
            self.latency.saturating_record(done.saturating_sub(due) / 1000);
        }
    }

    pub fn fail(&mut self, n: u64, code: i16) {
        self.errors += n;
        if self.first_error == 0 {
            self.first_error = code;
        }
    }

    pub fn merge(&mut self, other: &Tally) {
        // Of the same shape, so one always fits into the other.
        let _ = self.latency.add(&other.latency);
        self.total += other.total;
        self.in_window += other.in_window;
        self.fail(other.errors, other.first_error);
    }
}

/// The percentiles that are reported.
pub const PERCENTILES: [(&str, f64); 5] =
    [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99_9", 0.999), ("p99_99", 0.9999)];

/// Microseconds.
pub fn percentiles(h: &Histogram<u64>) -> Value {
    let mut all = json!({ "n": h.len(), "mean": h.mean().round(), "max": h.max() });
    if let Value::Object(map) = &mut all {
        for (name, q) in PERCENTILES {
            map.insert(name.to_owned(), h.value_at_quantile(q).into());
        }
    }
    all
}

/// CPU seconds and bytes written so far.
fn usage(pid: &str) -> (f64, u64) {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or("").split(' ').collect();
    let ticks = |i: usize| fields.get(i).and_then(|s| s.parse::<u64>().ok()).unwrap_or(0);
    let io = fs::read_to_string(format!("/proc/{pid}/io")).unwrap_or_default();
    let written = io.lines().find_map(|l| l.strip_prefix("write_bytes: ")?.parse().ok()).unwrap_or(0);
    ((ticks(11) + ticks(12)) as f64 / TICKS, written)
}

fn resident_mib(pid: &str, row: &str) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let kib = status.lines().find_map(|l| l.strip_prefix(row)?.split_whitespace().next()?.parse::<f64>().ok());
    kib.unwrap_or(0.0) / 1024.0
}

/// What this process and the servers have used up to now.
pub struct Snapshot {
    at: u64,
    client: f64,
    servers: Vec<(f64, u64)>,
}

impl Snapshot {
    pub fn take(servers: &[u32]) -> Snapshot {
        let servers = servers.iter().map(|p| usage(&p.to_string())).collect();
        Snapshot { at: now(), client: usage("self").0, servers }
    }

    /// What was used from `self` to `end` for `messages` messages of `bytes` bytes in all.
    pub fn until(&self, end: &Snapshot, servers: &[u32], messages: u64, bytes: u64) -> Value {
        let seconds = end.at.saturating_sub(self.at) as f64 / 1e9;
        let mut all = json!({
            "window_s": round(seconds, 3),
            "msg_s": (messages as f64 / seconds).round(),
            "mb_s": round(bytes as f64 / 1e6 / seconds, 2),
            "client_cpu_s": round(end.client - self.client, 2),
        });
        if let (Value::Object(map), false) = (&mut all, servers.is_empty()) {
            let cpu: f64 = end.servers.iter().zip(&self.servers).map(|(e, s)| e.0 - s.0).sum();
            let written: u64 = end.servers.iter().zip(&self.servers).map(|(e, s)| e.1.saturating_sub(s.1)).sum();
            let sum = |row| servers.iter().map(|p| resident_mib(&p.to_string(), row)).sum::<f64>();
            let per = |work: f64| if work > 0.0 { round(cpu / work, 2) } else { 0.0 };
            map.insert("server_cpu_s".into(), round(cpu, 2).into());
            map.insert("server_cores".into(), round(cpu / seconds, 3).into());
            map.insert("server_cpu_s_per_gb".into(), per(bytes as f64 / 1e9).into());
            map.insert("server_cpu_s_per_mmsg".into(), per(messages as f64 / 1e6).into());
            map.insert("server_write_mb".into(), round(written as f64 / 1e6, 1).into());
            map.insert("server_rss_mib".into(), sum("VmRSS:").round().into());
            map.insert("server_rss_peak_mib".into(), sum("VmHWM:").round().into());
        }
        all
    }
}

fn round(n: f64, digits: i32) -> f64 {
    let scale = 10f64.powi(digits);
    (n * scale).round() / scale
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tally_counts_what_its_window_holds() {
        let mut t = Tally::new((1_000_000, 2_000_000));
        t.add(1_500_000, 1_600_000); // due and done inside
        t.add(1_900_000, 2_400_000); // due inside, done after it
        t.add(500_000, 1_200_000); // due before it, done inside
        assert_eq!((t.total, t.in_window, t.latency.len()), (3, 2, 2));
        assert_eq!(t.latency.max(), 500);
        t.add(1_000_000, 5_001_000_000);
        assert!(t.latency.max() >= 4_990_000, "{}", t.latency.max());
        let mut all = Tally::new(t.window);
        all.merge(&t);
        all.fail(2, 7);
        all.fail(1, 9);
        assert_eq!((all.total, all.errors, all.first_error), (4, 3, 7));
        assert_eq!(percentiles(&all.latency)["n"], 3);
    }

    #[test]
    fn a_process_is_measured() {
        let me = std::process::id();
        let before = Snapshot::take(&[me]);
        let used = before.until(&Snapshot::take(&[me]), &[me], 10, 1000);
        assert!(used["server_rss_mib"].as_f64().is_some_and(|n| n > 0.0), "{used}");
    }
}
