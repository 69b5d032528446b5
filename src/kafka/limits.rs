//! How many connections a broker may have, over all its shards, and how fast they come: `max.connections` and
//! `max.connection.creation.rate`, of the broker and of each listener, `max.connections.per.ip` with its overrides, and the quotas of
//! addresses (KIP-402, KIP-612; Kafka's `ConnectionQuotas`). The listener of brokers is protected where there are others: what
//! bounds the broker does not bound it, and connections of the others end for those that come by it.
//!
//! The one thing that shards count together: at most once for each connection, never for a request.

use std::cell::Cell;
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
    listeners: Vec<OfListener>,
    /// The listener of brokers, where there are others.
    protected: Option<String>,
    ips: IpLimits,
    /// What came of addresses that have a quota.
    rates: HashMap<IpAddr, Rate>,
    windows: Option<Windows>,
    all: usize,
    /// Those of `all` that were told to end because they are too many.
    giving_way: usize,
    by_ip: HashMap<IpAddr, usize>,
}

/// What comes by one listener.
struct OfListener {
    name: String,
    max: usize,
    rate: CreationRate,
    open: usize,
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

    /// One that was taken in may not stay: it counts for nothing.
    fn give_back(&mut self) {
        self.credit = (self.credit + 1.0).min(self.most());
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

impl OfListener {
    fn named(name: &str) -> OfListener {
        OfListener { name: name.to_owned(), max: 0, rate: CreationRate::default(), open: 0 }
    }
}

impl Open {
    fn of(&mut self, listener: &str) -> Option<&mut OfListener> {
        self.listeners.iter_mut().find(|of| of.name == listener)
    }

    fn is_protected(&self, listener: &str) -> bool {
        self.protected.as_deref() == Some(listener)
    }

    /// What a connection by this listener counts against, where it comes.
    fn rates(&mut self, listener: &str) -> impl Iterator<Item = &mut CreationRate> {
        let of_broker = (!self.is_protected(listener)).then_some(&mut self.rate);
        let of_listener = self.listeners.iter_mut().find(|of| of.name == listener).map(|of| &mut of.rate);
        of_broker.into_iter().chain(of_listener)
    }

    fn has_place(&mut self, listener: &str) -> bool {
        let is_full = self.of(listener).is_some_and(|of| of.open >= of.max);
        !is_full && (self.is_protected(listener) || self.all < self.max)
    }

    /// How many are to end and have not been told; none of the listener of brokers.
    fn excess(&mut self) -> usize {
        let protected = self.protected.clone().and_then(|name| self.of(&name).map(|of| of.open)).unwrap_or(0);
        let open = self.all - self.giving_way;
        open.saturating_sub(self.max).min(open.saturating_sub(protected))
    }

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
    listener: String,
    gives_way: Cell<bool>,
}

impl Counted {
    /// It was told to end.
    pub fn gives_way(&self) -> bool {
        self.gives_way.get()
    }

    /// Whether it has to end now because there are too many; who asks ends it then.
    pub fn give_way(&self) -> bool {
        let mut open = self.limits.lock();
        if self.gives_way.get() || open.excess() == 0 || open.is_protected(&self.listener) {
            return false;
        }
        open.giving_way += 1;
        self.gives_way.set(true);
        true
    }
}

impl ConnectionLimits {
    pub fn new(config: &BrokerConfig) -> Arc<ConnectionLimits> {
        let limits = Arc::new(ConnectionLimits { open: Mutex::default() });
        limits.follow(config);
        limits
    }

    /// Takes other limits from now on. Connections above those of an address or a listener stay.
    pub fn follow(&self, config: &BrokerConfig) {
        let mut open = self.lock();
        open.max = config.connections_max.max(0) as usize;
        open.max_per_ip = config.connections_max_per_ip.max(0) as usize;
        let overrides = config.connections_max_per_ip_overrides.iter();
        open.overrides = overrides.map(|(ip, max)| (*ip, (*max).max(0) as usize)).collect();
        let windows = Windows::new(config.quotas.windows, config.quotas.window_seconds);
        open.windows = Some(windows);
        open.rate.set(config.connections_creation_rate, windows);
        open.protected = (config.listeners.len() > 1).then(|| config.inter_broker_listener.clone());
        // Connections of one that has gone may be left.
        open.listeners.retain(|of| of.open > 0 || config.listeners.iter().any(|l| l.name == of.name));
        for listener in &config.listeners {
            if open.of(&listener.name).is_none() {
                open.listeners.push(OfListener::named(&listener.name));
            }
            if let Some(of) = open.of(&listener.name) {
                of.max = listener.connections_max.max(0) as usize;
                of.rate.set(listener.connections_creation_rate, windows);
            }
        }
    }

    /// How many connections are to end because the broker may have fewer.
    pub fn excess(&self) -> usize {
        self.lock().excess()
    }

    /// The listener of which none ends for that, where there are others.
    pub fn protected(&self) -> Option<String> {
        self.lock().protected.clone()
    }

    /// Takes other quotas of addresses from now on.
    pub fn follow_ips(&self, ips: IpLimits) {
        let mut open = self.lock();
        if ips.default.is_none() {
            open.rates.retain(|ip, _| ips.by_ip.contains_key(ip));
        }
        open.ips = ips;
    }

    /// How long a connection that has come by a listener waits before it is served.
    pub fn delay(&self, listener: &str, now: Instant) -> Duration {
        self.lock().rates(listener).map(|rate| rate.take(now)).max().unwrap_or_default()
    }

    pub fn count(self: &Arc<Self>, listener: &str, ip: IpAddr) -> Result<Counted, Refused> {
        let ip = ip.to_canonical();
        let mut open = self.lock();
        if !open.has_place(listener) {
            return Err(Refused::Full);
        }
        let wait = open.excess_of(ip, now());
        if !wait.is_zero() {
            open.rates(listener).for_each(CreationRate::give_back);
            return Err(Refused::TooFastOfIp(wait));
        }
        let max_per_ip = open.overrides.get(&ip).copied().unwrap_or(open.max_per_ip);
        let of_ip = open.by_ip.entry(ip).or_default();
        if *of_ip >= max_per_ip {
            return Err(Refused::TooManyOfIp);
        }
        *of_ip += 1;
        open.all += 1;
        if let Some(of) = open.of(listener) {
            of.open += 1;
        }
        Ok(Counted { limits: self.clone(), ip, listener: listener.to_owned(), gives_way: Cell::new(false) })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut open = self.limits.lock();
        open.all -= 1;
        open.giving_way -= usize::from(self.gives_way.get());
        if let Some(of) = open.of(&self.listener) {
            of.open -= 1;
        }
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
        let count = |ip| limits.count("A", ip);
        assert_eq!(count(c).err(), Some(Refused::TooManyOfIp), "it has a limit of its own");
        let first = count(a).unwrap();
        let _second = count(a).unwrap();
        assert_eq!(count(a).err(), Some(Refused::TooManyOfIp));
        let _third = count(b).unwrap();
        assert_eq!(count(b).err(), Some(Refused::Full));
        drop(first);
        assert!(count(a).is_ok());
    }

    /// A broker of at most `max` connections whose listener A is for brokers and takes 3, and whose B and C take 2 each.
    fn of_listeners(max: usize) -> Arc<ConnectionLimits> {
        let listener = |name: &str, max| OfListener { max, ..OfListener::named(name) };
        let listeners = vec![listener("A", 3), listener("B", 2), listener("C", 2)];
        let open = Open { max, max_per_ip: 100, listeners, protected: Some("A".to_owned()), ..Open::default() };
        Arc::new(ConnectionLimits { open: Mutex::new(open) })
    }

    #[test]
    fn a_listener_has_a_limit_within_the_brokers() {
        let limits = of_listeners(3);
        let count = |listener| limits.count(listener, [10, 0, 0, 1].into());
        let first = count("B").unwrap();
        let _second = count("B").unwrap();
        assert_eq!(count("B").err(), Some(Refused::Full), "of its own");
        let third = count("C").unwrap();
        assert_eq!(count("C").err(), Some(Refused::Full), "of the broker");
        drop(first);
        let _fourth = count("C").unwrap();
        assert_eq!(count("B").err(), Some(Refused::Full), "of the broker");
        drop(third);
        assert!(count("B").is_ok());
    }

    #[test]
    fn connections_end_for_those_of_the_listener_of_brokers() {
        let limits = of_listeners(2);
        let count = |listener| limits.count(listener, [10, 0, 0, 1].into());
        let (first, second) = (count("B").unwrap(), count("C").unwrap());
        assert!(limits.excess() == 0 && !first.give_way());
        let own = count("A").unwrap();
        assert_eq!(limits.excess(), 1);
        assert!(!own.give_way(), "it is of brokers");
        assert!(first.give_way());
        assert!(limits.excess() == 0 && !first.give_way() && !second.give_way(), "one is enough");
        drop(first);
        assert_eq!(count("B").err(), Some(Refused::Full));
        let more = [count("A").unwrap(), count("A").unwrap()];
        assert_eq!(count("A").err(), Some(Refused::Full), "its own limit counts");
        assert!(limits.excess() == 1 && second.give_way(), "nobody else could");
        drop(second);
        assert_eq!(limits.excess(), 0, "nobody is left to give way");
        assert!(more.iter().all(|of_brokers| !of_brokers.give_way()));
        drop((own, more));
        assert!(count("B").is_ok() && limits.excess() == 0);
    }

    #[test]
    fn connections_wait_for_the_slower_of_two_rates() {
        let (limits, start) = (of_listeners(100), Instant::now());
        let windows = Windows::new(11, 1);
        let rate = |per_second| {
            let mut rate = CreationRate::default();
            rate.set(per_second, windows);
            rate
        };
        let mut open = limits.lock();
        open.rate = rate(1);
        for (of, per_second) in open.listeners.iter_mut().zip([2, 100, 100]) {
            of.rate = rate(per_second);
        }
        drop(open);
        let wait = |listener| limits.delay(listener, start);
        assert!((0..10).all(|_| wait("B").is_zero()), "ten seconds' worth at once");
        assert_eq!(wait("C"), Duration::from_secs(1), "of the broker");
        assert!((0..20).all(|_| wait("A").is_zero()), "of brokers only its own counts");
        assert_eq!(wait("A"), Duration::from_millis(500));
        // Who comes too fast for its address is not counted.
        let ip: IpAddr = [10, 0, 0, 1].into();
        limits.follow_ips(IpLimits { by_ip: [(ip, 0.0)].into(), default: None });
        limits.lock().windows = Some(windows);
        assert!(matches!(limits.count("A", ip).err(), Some(Refused::TooFastOfIp(_))));
        assert_eq!(wait("A"), Duration::from_millis(500));
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
