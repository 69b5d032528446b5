//! How much of something there was lately, by Kafka's reckoning (`SampledStat`, `Rate`, `TokenBucket`, `QuotaUtils`).

use std::collections::VecDeque;
use std::time::Duration;

use core_pinning::time::Instant;

/// What a rate is taken over: `num` windows of `size` each, the one that runs included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Windows {
    pub num: u32,
    pub size: Duration,
}

impl Windows {
    /// From `quota.window.num` and `quota.window.size.seconds`, or those of the controller.
    pub fn new(num: i32, seconds: i32) -> Windows {
        Windows { num: num.max(1) as u32, size: Duration::from_secs(seconds.max(1) as u64) }
    }

    fn all(&self) -> Duration {
        self.size.saturating_mul(self.num)
    }

    /// The shortest time that an average is taken over. A window at least, where Kafka divides by the time since one began.
    pub fn least(&self) -> Duration {
        self.size.saturating_mul(self.num.saturating_sub(1))
    }
}

/// One window with what came in it.
#[derive(Clone, Copy, Debug)]
struct Sample {
    begun: Instant,
    last: Instant,
    sum: f64,
}

/// An average over the last windows.
#[derive(Debug, Default)]
pub struct Rate {
    samples: VecDeque<Sample>,
}

impl Rate {
    pub fn record(&mut self, amount: f64, now: Instant, windows: Windows) {
        self.forget_old(now, windows);
        match self.samples.back_mut() {
            Some(sample) if now - sample.begun < windows.size => {
                sample.sum += amount;
                sample.last = now;
            }
            _ => self.samples.push_back(Sample { begun: now, last: now, sum: amount }),
        }
    }

    /// How long nothing may come until the average is `limit` a second again.
    pub fn excess(&mut self, limit: f64, now: Instant, windows: Windows) -> Duration {
        self.forget_old(now, windows);
        let sum: f64 = self.samples.iter().map(|sample| sample.sum).sum();
        let over = self.over(now, windows).as_secs_f64();
        // O over T in a window of W is within the limit again after (O - T) / T * W, which is sum / T - W.
        let wait = (sum / limit - over).max(0.0);
        Duration::try_from_secs_f64((wait * 1e3).round() / 1e3).unwrap_or(Duration::MAX)
    }

    /// Nothing that came still counts.
    pub fn is_idle(&mut self, now: Instant, windows: Windows) -> bool {
        self.forget_old(now, windows);
        self.samples.is_empty()
    }

    pub fn last(&self) -> Option<Instant> {
        self.samples.back().map(|sample| sample.last)
    }

    /// The time that the samples stand for.
    fn over(&self, now: Instant, windows: Windows) -> Duration {
        let passed = self.samples.front().map_or(Duration::ZERO, |oldest| now - oldest.begun);
        let (size, least) = (windows.size.as_nanos(), windows.num.saturating_sub(1));
        let full = u32::try_from(passed.as_nanos() / size).unwrap_or(u32::MAX);
        let missing = least.saturating_sub(full);
        (passed + windows.size.saturating_mul(missing)).max(Duration::from_millis(1))
    }

    fn forget_old(&mut self, now: Instant, windows: Windows) {
        while self.samples.front().is_some_and(|sample| now - sample.last >= windows.all()) {
            self.samples.pop_front();
        }
    }
}

/// What may come at once, filled up at a steady pace; it may be overdrawn once (KIP-599).
#[derive(Debug)]
pub struct Bucket {
    tokens: f64,
    as_of: Option<Instant>,
}

impl Default for Bucket {
    /// Full.
    fn default() -> Bucket {
        Bucket { tokens: f64::INFINITY, as_of: None }
    }
}

impl Bucket {
    fn fill(&mut self, limit: f64, now: Instant, windows: Windows) {
        let passed = self.as_of.replace(now).map_or(Duration::ZERO, |then| now - then);
        let most = limit * windows.all().as_secs_f64();
        self.tokens = (self.tokens + limit * passed.as_secs_f64()).min(most);
    }

    /// When it was last looked at.
    pub fn as_of(&self) -> Option<Instant> {
        self.as_of
    }

    pub fn take(&mut self, amount: f64, limit: f64, now: Instant, windows: Windows) {
        self.fill(limit, now, windows);
        self.tokens -= amount;
    }

    /// How long it takes until nothing is owed; zero: something may be taken.
    pub fn owed(&mut self, limit: f64, now: Instant, windows: Windows) -> Duration {
        self.fill(limit, now, windows);
        let wait = (-self.tokens / limit).max(0.0);
        Duration::try_from_secs_f64((wait * 1e3).round() / 1e3).unwrap_or(Duration::MAX)
    }

    /// It is as full as one that nothing was taken from.
    pub fn is_idle(&mut self, limit: f64, now: Instant, windows: Windows) -> bool {
        self.fill(limit, now, windows);
        self.tokens >= limit * windows.all().as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOWS: Windows = Windows { num: 11, size: Duration::from_secs(1) };

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn what_is_saved_up_in_ten_windows_passes_and_what_is_above_it_waits() {
        let (mut rate, start) = (Rate::default(), Instant::now());
        rate.record(1000.0, start, WINDOWS);
        assert_eq!(rate.excess(100.0, start, WINDOWS), Duration::ZERO);
        rate.record(50.0, start, WINDOWS);
        assert_eq!(rate.excess(100.0, start, WINDOWS), ms(500));
        // The windows that count grow with the time, up to eleven.
        assert_eq!(rate.excess(100.0, start + ms(400), WINDOWS), ms(100));
        assert_eq!(rate.excess(100.0, start + ms(10_500), WINDOWS), Duration::ZERO);
        assert!(!rate.is_idle(start + ms(10_999), WINDOWS));
        assert!(rate.is_idle(start + ms(11_000), WINDOWS));
    }

    #[test]
    fn a_client_that_waits_as_it_is_told_has_its_rate_and_no_more() {
        let (mut rate, start) = (Rate::default(), Instant::now());
        let (mut now, mut sum) = (start, 0.0);
        while now - start < Duration::from_secs(300) {
            rate.record(70.0, now, WINDOWS);
            sum += 70.0;
            now += rate.excess(100.0, now, WINDOWS) + ms(1);
        }
        let average = sum / (now - start).as_secs_f64();
        assert!((95.0..=106.0).contains(&average), "{average}");
    }

    #[test]
    fn one_window_is_enough() {
        let windows = Windows::new(1, 1);
        let (mut rate, start) = (Rate::default(), Instant::now());
        rate.record(1.0, start, windows);
        assert_eq!(rate.excess(1.0, start, windows), ms(999));
        assert_eq!(rate.excess(1.0, start + ms(1000), windows), Duration::ZERO);
    }

    #[test]
    fn a_bucket_is_overdrawn_once() {
        let (mut bucket, start) = (Bucket::default(), Instant::now());
        assert_eq!(bucket.owed(2.0, start, WINDOWS), Duration::ZERO);
        bucket.take(30.0, 2.0, start, WINDOWS);
        assert_eq!(bucket.owed(2.0, start, WINDOWS), ms(4000), "22 were in it");
        assert_eq!(bucket.owed(2.0, start + ms(3000), WINDOWS), ms(1000));
        assert_eq!(bucket.owed(2.0, start + ms(4000), WINDOWS), Duration::ZERO);
        assert!(!bucket.is_idle(2.0, start + ms(14_000), WINDOWS));
        assert!(bucket.is_idle(2.0, start + ms(15_000), WINDOWS));
    }
}
