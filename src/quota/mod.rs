//! Quotas of users and client ids: how fast they may produce, fetch, have work done, and make and delete partitions
//! (KIP-13, KIP-55, KIP-124, KIP-219, KIP-599).
//!
//! A quota is a broker's, however many cores its clients are connected to. Invariant: whoever counts as one ([`Payer`]) has one
//! home among the shards of its broker, and only there is it counted what he took; no answer of his is given before its home has
//! counted it and said how long he waits. So his rate is exact, as if there were one counter, and no two shards share memory. A
//! client without a quota asks nobody; without any quota at all a request costs one look at a flag. Making and deleting
//! partitions is the controller's, so that is counted where the controller is.
//!
//! Where each core advertises itself as a broker of its own, it is the home of all its clients.

mod rate;
mod table;

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::hash::Hash;
use std::rc::Rc;
use std::time::Duration;

use core_pinning::ShardId;
use core_pinning::time::{Instant, now};
use corelane_protocol::ErrorCode;
use hashbrown::HashMap;

pub use self::rate::{Bucket, Rate, Windows};
use self::table::Table;
pub use self::table::{IpLimits, Kind, Payer, Share};
use crate::controller::Refused;
use crate::controller::image::ClusterImage;
use crate::router::ShardCall;
use crate::shard::Shard;

/// Payers that one shard keeps count of, so that clients with ever new names take no memory without bound.
const PAYERS_MAX: usize = 10_000;

/// The quotas as a shard knows them, and what those have used who are at home on it.
pub struct Quotas {
    table: RefCell<Table>,
    version: Cell<u64>,
    any: Cell<bool>,
    windows: Windows,
    used: RefCell<Counts<(Kind, Payer), Rate>>,
}

impl Quotas {
    pub fn new(windows: Windows) -> Quotas {
        Quotas {
            table: RefCell::default(),
            version: Cell::new(0),
            any: Cell::new(false),
            windows,
            used: RefCell::default(),
        }
    }

    /// True if the limits of addresses may be others than before.
    pub fn take_image(&self, image: &ClusterImage) -> bool {
        if self.version.replace(image.quota_version()) == image.quota_version() {
            return false;
        }
        let table = Table::new(image);
        self.any.set(Kind::ALL.iter().any(|kind| !table.is_free(*kind)));
        self.table.replace(table);
        true
    }

    /// Some user or client id has a quota.
    pub fn any(&self) -> bool {
        self.any.get()
    }

    pub fn is_free(&self, kind: Kind) -> bool {
        self.table.borrow().is_free(kind)
    }

    pub fn share(&self, kind: Kind, user: &str, client_id: &str) -> Option<Share> {
        self.table.borrow().share(kind, user, client_id)
    }

    pub fn ips(&self) -> IpLimits {
        self.table.borrow().ips.clone()
    }

    /// Most that comes without a wait after nothing has come for a while.
    pub fn at_once(&self, share: Share) -> f64 {
        share.limit * self.windows.least().as_secs_f64()
    }

    fn take(&self, charge: Charge, now: Instant) -> Duration {
        let Charge { kind, share, amount, keep } = charge;
        let mut used = self.used.borrow_mut();
        let windows = self.windows;
        let rate = used.of((kind, share.payer), |rate| rate.last(), |rate| rate.is_idle(now, windows));
        rate.record(amount, now, windows);
        let wait = rate.excess(share.limit, now, windows);
        if keep == Keep::Never || (keep == Keep::Within && !wait.is_zero()) {
            rate.record(-amount, now, windows);
        }
        // Kafka holds nobody up for longer than a window for the work he makes.
        if kind == Kind::Request { wait.min(windows.size) } else { wait }
    }
}

/// What becomes of the count of what was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    Always,
    /// Only what the quota allows is given, and counted.
    Within,
    /// It is not given anyway.
    Never,
}

/// Counts something at the payer's home; how long he waits.
pub struct Charge {
    pub kind: Kind,
    pub share: Share,
    pub amount: f64,
    pub keep: Keep,
}

impl ShardCall for Charge {
    type Reply = Duration;

    fn run(self, shard: &Rc<Shard>) -> impl Future<Output = Duration> + 'static {
        std::future::ready(shard.quotas.take(self, now()))
    }
}

/// The shard of this broker that counts for him.
fn home(shard: &Shard, payer: Payer) -> ShardId {
    let count = shard.of_this_broker().count();
    shard.of_this_broker().nth(payer.place(count)).unwrap_or(shard.id)
}

/// Has it counted; how long the payer waits.
pub async fn charge(shard: &Rc<Shard>, charge: Charge) -> Duration {
    match home(shard, charge.share.payer) {
        here if here == shard.id => shard.quotas.take(charge, now()),
        home => shard.router.call(shard, home, charge).await,
    }
}

/// What there is of each, bounded: where it is full, those go that count for nothing, then those that came the longest ago.
struct Counts<K, V> {
    counts: HashMap<K, V>,
}

impl<K, V> Default for Counts<K, V> {
    fn default() -> Self {
        Counts { counts: HashMap::new() }
    }
}

impl<K: Hash + Eq + Copy, V: Default> Counts<K, V> {
    fn of(&mut self, key: K, last: impl Fn(&V) -> Option<Instant>, mut is_idle: impl FnMut(&mut V) -> bool) -> &mut V {
        if self.counts.len() >= PAYERS_MAX && !self.counts.contains_key(&key) {
            self.counts.retain(|_, count| !is_idle(count));
            if self.counts.len() > PAYERS_MAX / 2 {
                let mut lasts: Vec<_> = self.counts.values().map(&last).collect();
                let middle = lasts.len() / 2;
                let (_, median, _) = lasts.select_nth_unstable(middle);
                let median = *median;
                self.counts.retain(|_, count| last(count) > median);
            }
        }
        self.counts.entry(key).or_default()
    }
}

/// Whose partitions are made or deleted, and whether the request is refused where he has used up his quota; else he only waits.
#[derive(Clone, Copy, Debug)]
pub struct Mutator {
    pub share: Share,
    pub strict: bool,
}

/// What the controller has counted of partitions made and deleted.
pub struct Mutations {
    windows: Windows,
    buckets: RefCell<Counts<Payer, Bucket>>,
}

impl Mutations {
    pub fn new(windows: Windows) -> Mutations {
        Mutations { windows, buckets: RefCell::default() }
    }

    fn with<T>(&self, share: Share, now: Instant, act: impl FnOnce(&mut Bucket) -> T) -> T {
        let (windows, limit) = (self.windows, share.limit);
        let mut buckets = self.buckets.borrow_mut();
        act(buckets.of(share.payer, Bucket::as_of, |bucket| bucket.is_idle(limit, now, windows)))
    }

    /// Error: THROTTLING_QUOTA_EXCEEDED.
    pub fn charge(&self, mutator: Option<Mutator>, partitions: usize) -> Result<(), Refused> {
        let Some(Mutator { share, strict }) = mutator else { return Ok(()) };
        let now = now();
        self.with(share, now, |bucket| {
            if strict && !bucket.owed(share.limit, now, self.windows).is_zero() {
                let error = ErrorCode::ThrottlingQuotaExceeded;
                return Err(Refused::new(error, error.message()));
            }
            bucket.take(partitions as f64, share.limit, now, self.windows);
            Ok(())
        })
    }

    fn owed(&self, share: Share) -> Duration {
        let now = now();
        self.with(share, now, |bucket| bucket.owed(share.limit, now, self.windows))
    }
}

/// How long a mutator waits now.
pub struct Owed(pub Share);

impl ShardCall for Owed {
    type Reply = Duration;

    fn run(self, shard: &Rc<Shard>) -> impl Future<Output = Duration> + 'static {
        std::future::ready(shard.controller().mutations().owed(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ever_new_names_take_no_more_than_so_much_memory() {
        let windows = Windows::new(11, 1);
        let quotas = Quotas::new(windows);
        let start = now();
        let share = |name: usize| {
            let limits = [(None, Some("*"), 10.0)];
            table::tests::table(&limits).share(Kind::Produce, "u", &name.to_string()).unwrap()
        };
        let take = |name: usize, at| {
            quotas.take(Charge { kind: Kind::Produce, share: share(name), amount: 1000.0, keep: Keep::Always }, at)
        };
        for name in 0..2 * PAYERS_MAX {
            assert!(!take(name, start + Duration::from_micros(name as u64)).is_zero());
            assert!(quotas.used.borrow().counts.len() <= PAYERS_MAX);
        }
        let late = start + Duration::from_millis(500);
        let twice = take(2 * PAYERS_MAX - 1, late);
        assert!(twice > Duration::from_secs(180), "who came last is not forgotten: {twice:?}");
    }

    #[test]
    fn what_is_not_given_is_not_counted() {
        let quotas = Quotas::new(Windows::new(11, 1));
        let (start, share) = (now(), table::tests::table(&[(Some("*"), None, 100.0)]).share(Kind::Produce, "u", "c"));
        let take = |amount, keep| quotas.take(Charge { kind: Kind::Fetch, share: share.unwrap(), amount, keep }, start);
        assert_eq!(take(900.0, Keep::Always), Duration::ZERO);
        assert_eq!(take(200.0, Keep::Within), Duration::from_secs(1));
        assert_eq!(take(100.0, Keep::Never), Duration::ZERO);
        assert_eq!(take(100.0, Keep::Within), Duration::ZERO);
        assert_eq!(take(100.0, Keep::Within), Duration::from_secs(1));
    }

    #[test]
    fn strict_mutators_are_refused_and_others_wait() {
        let mutations = Mutations::new(Windows::new(1, 1));
        let share = table::tests::table(&[(Some("*"), None, 0.001)]).share(Kind::Produce, "u", "c").unwrap();
        let mutator = |strict| Some(Mutator { share, strict });
        assert_eq!(mutations.charge(None, 1000), Ok(()));
        assert_eq!(mutations.charge(mutator(true), 10), Ok(()), "it may be overdrawn once");
        let refused = mutations.charge(mutator(true), 1).unwrap_err();
        assert_eq!(refused.code, ErrorCode::ThrottlingQuotaExceeded);
        let owed = mutations.owed(share);
        assert_eq!(mutations.charge(mutator(false), 10), Ok(()));
        assert!(mutations.owed(share) > owed);
    }
}
