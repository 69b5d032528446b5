//! How many connections there may be, over all shards (`max.connections`, `max.connections.per.ip`).
//!
//! The one thing that shards count together: at most once for each connection, never for a request.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use corelane_config::BrokerConfig;

pub struct ConnectionLimits {
    max: usize,
    max_per_ip: usize,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
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
        let limit = |n: i32| n.max(0) as usize;
        Arc::new(ConnectionLimits {
            max: limit(config.connections_max),
            max_per_ip: limit(config.connections_max_per_ip),
            open: Mutex::default(),
        })
    }

    pub fn is_full(&self) -> bool {
        self.lock().all >= self.max
    }

    pub fn count(self: &Arc<Self>, ip: IpAddr) -> Result<Counted, Refused> {
        let mut open = self.lock();
        if open.all >= self.max {
            return Err(Refused::Full);
        }
        let of_ip = open.by_ip.entry(ip).or_default();
        if *of_ip >= self.max_per_ip {
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
        let limits = Arc::new(ConnectionLimits { max: 3, max_per_ip: 2, open: Mutex::default() });
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
