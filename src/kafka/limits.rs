//! How many connections a broker may have, over all its shards (`max.connections`, `max.connections.per.ip`).
//!
//! The one thing that shards count together: at most once for each connection, never for a request.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use corelane_config::BrokerConfig;

pub struct ConnectionLimits {
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    max: usize,
    max_per_ip: usize,
    all: usize,
    by_ip: HashMap<IpAddr, usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Kafka lets new connections wait until an old one ends.
    Full,
    /// Kafka closes it.
    TooManyOfIp,
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
    }

    pub fn is_full(&self) -> bool {
        let open = self.lock();
        open.all >= open.max
    }

    pub fn count(self: &Arc<Self>, ip: IpAddr) -> Result<Counted, Refused> {
        let mut open = self.lock();
        if open.all >= open.max {
            return Err(Refused::Full);
        }
        let max_per_ip = open.max_per_ip;
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
        let limits = Arc::new(ConnectionLimits { open: Mutex::new(Open { max: 3, max_per_ip: 2, ..Open::default() }) });
        let (a, b): (IpAddr, IpAddr) = ([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
        let first = limits.count(a).unwrap();
        let _second = limits.count(a).unwrap();
        assert_eq!(limits.count(a).err(), Some(Refused::TooManyOfIp));
        let _third = limits.count(b).unwrap();
        assert!(limits.is_full());
        assert_eq!(limits.count(b).err(), Some(Refused::Full));
        drop(first);
        assert!(limits.count(a).is_ok());
    }
}
