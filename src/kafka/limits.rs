//! How many connections a broker may have, over all its shards, and how fast they come (`max.connections`,
//! `max.connections.per.ip` with its overrides, `max.connection.creation.rate`, and the quotas of addresses: KIP-612).
//!
//! The one thing that shards count together: at most once for each connection, never for a request.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use core_pinning::time::{Instant, now};
use corelane_config::BrokerConfig;

use crate::quota::{IpLimits, Rate, Windows};

/// Addresses whose connections are counted, so that many of them take no memory without bound.
const ADDRESSES_MAX: usize = 10_000;

pub struct ConnectionLimits {
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    max: usize,
    max_per_ip: usize,
    overrides: HashMap<IpAddr, usize>,
    rate: CreationRate,
    ips: IpLimits,
    /// What came of addresses that have a quota.
    rates: HashMap<IpAddr, Rate>,
    windows: Option<Windows>,
    all: usize,
    by_ip: HashMap<IpAddr, usize>,
}

/// Connections that may come at once; more come with the time.
#[derive(Debug, Default)]
struct CreationRate {
    per_second: f64,
    /// Over so long Kafka takes the average.
    over: Duration,
    /// What Kafka delays one connection at most.
    longest: Duration,
    credit: f64,
    as_of: Option<Instant>,
}

impl CreationRate {
    fn most(&self) -> f64 {
        self.per_second * self.over.as_secs_f64()
    }

    fn set(&mut self, per_second: i32, windows: Windows) {
        let per_second = f64::from(per_second.max(0));
        (self.over, self.longest) = (windows.least(), windows.size);
        if per_second != self.per_second {
            self.per_second = per_second;
            self.credit = self.most();
        }
    }

    /// Takes one connection in; how long it waits. What is owed is never more than the longest delay makes good.
    fn take(&mut self, now: Instant) -> Duration {
        let passed = self.as_of.replace(now).map_or(Duration::ZERO, |then| now.saturating_duration_since(then));
        self.credit = (self.credit + passed.as_secs_f64() * self.per_second).min(self.most()) - 1.0;
        if self.credit >= 0.0 {
            return Duration::ZERO;
        }
        let delay = -self.credit / self.per_second;
        self.credit = self.credit.max(-self.per_second * self.longest.as_secs_f64());
        Duration::try_from_secs_f64(delay).unwrap_or(self.longest).min(self.longest)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Kafka lets new connections wait until an old one ends.
    Full,
    /// Kafka closes it.
    TooManyOfIp,
    /// Kafka closes it after this time.
    TooFastOfIp(Duration),
}

impl Open {
    /// Counts a connection of this address against its quota; how much too fast it came.
    fn excess_of(&mut self, ip: IpAddr, now: Instant) -> Duration {
        let (limit, windows) = (self.ips.by_ip.get(&ip).copied().or(self.ips.default), self.windows);
        let (Some(limit), Some(windows)) = (limit, windows) else { return Duration::ZERO };
        if self.rates.len() >= ADDRESSES_MAX && !self.rates.contains_key(&ip) {
            self.rates.retain(|_, rate| !rate.is_idle(now, windows));
            if self.rates.len() >= ADDRESSES_MAX {
                self.rates.clear();
            }
        }
        let rate = self.rates.entry(ip).or_default();
        rate.record(1.0, now, windows);
        let wait = rate.excess(limit, now, windows).min(windows.size);
        if !wait.is_zero() {
            rate.record(-1.0, now, windows);
        }
        wait
    }
}

/// One counted connection.
pub struct Counted {
    limits: Arc<ConnectionLimits>,
    ip: IpAddr,
}

impl ConnectionLimits {
    pub fn new(config: &BrokerConfig) -> Arc<ConnectionLimits> {
        let limits = Arc::new(ConnectionLimits { open: Mutex::default() });
        limits.follow(config);
        limits
    }

    /// Takes other limits from now on. Connections above them stay.
    pub fn follow(&self, config: &BrokerConfig) {
        let mut open = self.lock();
        open.max = config.connections_max.max(0) as usize;
        open.max_per_ip = config.connections_max_per_ip.max(0) as usize;
        let overrides = config.connections_max_per_ip_overrides.iter();
        open.overrides = overrides.map(|(ip, max)| (*ip, (*max).max(0) as usize)).collect();
        let windows = Windows::new(config.quotas.windows, config.quotas.window_seconds);
        open.windows = Some(windows);
        open.rate.set(config.connections_creation_rate, windows);
    }

    /// Takes other quotas of addresses from now on.
    pub fn follow_ips(&self, ips: IpLimits) {
        let mut open = self.lock();
        if ips.default.is_none() {
            open.rates.retain(|ip, _| ips.by_ip.contains_key(ip));
        }
        open.ips = ips;
    }

    /// How long a connection that has come waits before it is served.
    pub fn delay(&self, now: Instant) -> Duration {
        self.lock().rate.take(now)
    }

    pub fn count(self: &Arc<Self>, ip: IpAddr) -> Result<Counted, Refused> {
        let ip = ip.to_canonical();
        let mut open = self.lock();
        if open.all >= open.max {
            return Err(Refused::Full);
        }
        let wait = open.excess_of(ip, now());
        if !wait.is_zero() {
            return Err(Refused::TooFastOfIp(wait));
        }
        let max_per_ip = open.overrides.get(&ip).copied().unwrap_or(open.max_per_ip);
        let of_ip = open.by_ip.entry(ip).or_default();
        if *of_ip >= max_per_ip {
            return Err(Refused::TooManyOfIp);
        }
        *of_ip += 1;
        open.all += 1;
        Ok(Counted { limits: self.clone(), ip })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut open = self.limits.lock();
        open.all -= 1;
        if let Some(of_ip) = open.by_ip.get_mut(&self.ip) {
            *of_ip -= 1;
            if *of_ip == 0 {
                open.by_ip.remove(&self.ip);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_count_until_they_end() {
        let (a, b, c): (IpAddr, IpAddr, IpAddr) = ([10, 0, 0, 1].into(), [10, 0, 0, 2].into(), [10, 0, 0, 3].into());
        let overrides = [(c, 0)].into();
        let open = Open { max: 3, max_per_ip: 2, overrides, ..Open::default() };
        let limits = Arc::new(ConnectionLimits { open: Mutex::new(open) });
        assert_eq!(limits.count(c).err(), Some(Refused::TooManyOfIp), "it has a limit of its own");
        let first = limits.count(a).unwrap();
        let _second = limits.count(a).unwrap();
        assert_eq!(limits.count(a).err(), Some(Refused::TooManyOfIp));
        let _third = limits.count(b).unwrap();
        assert_eq!(limits.count(b).err(), Some(Refused::Full));
        drop(first);
        assert!(limits.count(a).is_ok());
    }

    #[test]
    fn an_address_makes_connections_as_fast_as_its_quota_says() {
        let (a, b): (IpAddr, IpAddr) = ([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
        let ips = IpLimits { by_ip: [(a, 1.0)].into(), default: None };
        let mut open = Open { ips, windows: Some(Windows::new(11, 1)), ..Open::default() };
        let start = Instant::now();
        assert!((0..10).all(|_| open.excess_of(a, start) == Duration::ZERO));
        assert_eq!(open.excess_of(a, start), Duration::from_secs(1));
        assert!((0..100).all(|_| open.excess_of(b, start) == Duration::ZERO), "it has none");
        assert_eq!(open.excess_of(a, start + Duration::from_secs(30)), Duration::ZERO);
        open.ips.default = Some(1.0);
        assert_eq!((0..20).filter(|_| open.excess_of(b, start).is_zero()).count(), 10);
    }

    #[test]
    fn connections_wait_when_they_come_faster_than_they_may() {
        let (mut rate, start) = (CreationRate::default(), Instant::now());
        let windows = Windows::new(11, 1);
        rate.set(2, windows);
        assert!((0..20).all(|_| rate.take(start) == Duration::ZERO), "ten seconds' worth at once");
        assert_eq!(rate.take(start), Duration::from_millis(500));
        assert!((0..10).all(|_| rate.take(start) <= windows.size));
        assert_eq!(rate.take(start + Duration::from_secs(60)), Duration::ZERO);
        rate.set(0, windows);
        assert_eq!(rate.take(start + Duration::from_secs(60)), windows.size);
    }
}
