//! Finds tasks that hold their core for too long.
//!
//! Every poll of a task publishes which one it is and since when, in one relaxed store; [`Detector`] looks from an
//! ordinary thread, asks the shard's thread for a backtrace by a signal, and has it told. While all shards sleep it is parked.

mod capture;
mod detector;
mod symbols;
mod teller;

#[cfg(not(sim))]
pub(crate) use detector::shard_awake;
pub use detector::{Detector, StallOptions, StallReport};

use crate::{clock, reactor::Remote, shard::ShardId};
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
};

const NAME_SHIFT: u32 = 48;
/// The published clock drops this many low bits of the cycle counter: about 100 ns.
const TICK_SHIFT: u32 = 8;
const SINCE_MASK: u64 = (1 << NAME_SHIFT) - 1;

/// What a shard's thread is doing: 0, or the number of a task's name above the cycle counter when it was polled.
pub(crate) struct Published {
    word: AtomicU64,
    shard: ShardId,
    name: String,
    thread: libc::pid_t,
    remote: Arc<Remote>,
}

impl Published {
    #[inline]
    pub fn enter(&self, name: u16, ticks: u64) {
        let since = (ticks >> TICK_SHIFT) & SINCE_MASK;
        self.word.store(u64::from(name) << NAME_SHIFT | since, Ordering::Relaxed);
    }

    fn word(&self) -> u64 {
        self.word.load(Ordering::Relaxed)
    }

    #[inline]
    pub fn leave(&self) {
        self.word.store(0, Ordering::Relaxed);
    }
}

/// How long the poll that `word` describes has lasted, in microseconds.
fn running_us(word: u64) -> u64 {
    let now = (clock::ticks() >> TICK_SHIFT) & SINCE_MASK;
    let units = now.wrapping_sub(word & SINCE_MASK) & SINCE_MASK;
    (units << TICK_SHIFT) / clock::ticks_per_us()
}

static SHARDS: Mutex<Vec<Weak<Published>>> = Mutex::new(Vec::new());

/// The calling thread is a shard from now on.
pub(crate) fn register(shard: ShardId, name: &str, remote: Arc<Remote>) -> Arc<Published> {
    // SAFETY: gettid has no preconditions.
    #[allow(unsafe_code)]
    let thread = unsafe { libc::gettid() };
    let p = Arc::new(Published { word: AtomicU64::new(0), shard, name: name.to_owned(), thread, remote });
    SHARDS.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(&p));
    p
}

pub(crate) fn deregister(p: &Arc<Published>) {
    let mut shards = SHARDS.lock().unwrap_or_else(PoisonError::into_inner);
    shards.retain(|s| !std::ptr::eq(s.as_ptr(), Arc::as_ptr(p)));
}

/// The shards that run now.
fn shards() -> Vec<Arc<Published>> {
    SHARDS.lock().unwrap_or_else(PoisonError::into_inner).iter().filter_map(Weak::upgrade).collect()
}

#[derive(Default)]
struct Names {
    numbers: HashMap<&'static str, u16>,
    names: Vec<&'static str>,
}

static NAMES: Mutex<Option<Names>> = Mutex::new(None);

/// The number of a task's name, from 1; names beyond 65534 share the last one.
pub(crate) fn name_number(name: &'static str) -> u16 {
    let mut names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
    let names = names.get_or_insert_default();
    if let Some(&n) = names.numbers.get(name) {
        return n;
    }
    if names.names.len() >= usize::from(u16::MAX) - 1 {
        return u16::MAX - 1;
    }
    names.names.push(name);
    let n = names.names.len() as u16;
    names.numbers.insert(name, n);
    n
}

pub(crate) fn name(number: u16) -> &'static str {
    let names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
    let found = names.as_ref().and_then(|n| n.names.get(usize::from(number).wrapping_sub(1)).copied());
    found.unwrap_or("?")
}
