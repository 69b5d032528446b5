//! What the shards of a simulated machine share: one seed, one clock, one disk, one network, one trace.

use super::{disk::Disk, net::Network, random::Rng, turns::Turns};
use std::{
    cell::RefCell,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

/// The wall clock when the machine's own begins: 2024-01-01.
const WALL_EPOCH_MS: i64 = 1_704_067_200_000;
/// A look at the clock takes this long, so that a loop that waits for a time ends.
const LOOK_NS: u64 = 100;

pub(crate) struct World {
    now: AtomicU64,
    trace: AtomicU64,
    /// Disk operations begun and completed.
    events: AtomicU64,
    /// The event at which the machine is lost.
    lost_at: AtomicU64,
    lost: AtomicBool,
    /// A new machine is made wherever one is wanted: nobody has asked for this one.
    pub implied: bool,
    schedule: Mutex<Rng>,
    product: Mutex<Rng>,
    disk: Mutex<Disk>,
    net: Mutex<Network>,
    pub turns: Turns,
}

thread_local! {
    static WORLD: RefCell<Option<Arc<World>>> = const { RefCell::new(None) };
}

/// Runs `f` with the machine of this thread; `None` on a thread without one.
#[inline]
pub(crate) fn with<T>(f: impl FnOnce(&Arc<World>) -> T) -> Option<T> {
    WORLD.try_with(|w| w.borrow().as_ref().map(f)).ok().flatten()
}

/// The machine of this thread; makes one if there is none.
pub(crate) fn current_or_new() -> Arc<World> {
    WORLD.with(|w| w.borrow_mut().get_or_insert_with(|| Arc::new(World::new(super::seed_or(0), true))).clone())
}

/// Makes `world` the machine of this thread; gives back the one before.
pub(crate) fn install(world: Option<Arc<World>>) -> Option<Arc<World>> {
    WORLD.with(|w| w.replace(world))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl World {
    pub fn new(seed: u64, implied: bool) -> World {
        let mut rng = Rng::new(seed);
        World {
            now: AtomicU64::new(1_000_000_000),
            trace: AtomicU64::new(0xcbf2_9ce4_8422_2325),
            events: AtomicU64::new(0),
            lost_at: AtomicU64::new(u64::MAX),
            lost: AtomicBool::new(false),
            implied,
            schedule: Mutex::new(rng.fork()),
            product: Mutex::new(rng.fork()),
            disk: Mutex::new(Disk::new(rng.fork(), implied)),
            net: Mutex::new(Network::new(rng.fork())),
            turns: Turns::default(),
        }
    }

    pub fn now(&self) -> u64 {
        self.now.load(Ordering::Relaxed)
    }

    pub fn look_at_clock(&self) -> u64 {
        self.now.fetch_add(LOOK_NS, Ordering::Relaxed) + LOOK_NS
    }

    pub fn wall_ms(&self) -> i64 {
        WALL_EPOCH_MS + (self.now() / 1_000_000) as i64
    }

    pub fn advance_to(&self, at: u64) {
        self.now.fetch_max(at, Ordering::Relaxed);
    }

    pub fn advance(&self, ns: u64) {
        self.now.fetch_add(ns, Ordering::Relaxed);
    }

    /// Random bytes for the product.
    pub fn product_random(&self, bytes: &mut [u8]) {
        lock(&self.product).fill(bytes);
    }

    /// What decides who runs next and how long that takes.
    pub fn schedule(&self) -> MutexGuard<'_, Rng> {
        lock(&self.schedule)
    }

    pub fn disk(&self) -> MutexGuard<'_, Disk> {
        lock(&self.disk)
    }

    pub fn net(&self) -> MutexGuard<'_, Network> {
        lock(&self.net)
    }

    /// Takes note of what happened: runs that differ anywhere have different traces.
    pub fn note(&self, what: u64) {
        let before = self.trace.load(Ordering::Relaxed);
        let mixed = (before ^ what ^ self.now().rotate_left(32)).wrapping_mul(0x0000_0100_0000_01b3);
        self.trace.store(mixed ^ (mixed >> 29), Ordering::Relaxed);
    }

    pub fn trace(&self) -> u64 {
        self.trace.load(Ordering::Relaxed)
    }

    /// A disk operation begins or completes. False if the machine is lost at it, or was before.
    pub fn disk_event(&self) -> bool {
        let event = self.events.fetch_add(1, Ordering::Relaxed) + 1;
        if event >= self.lost_at.load(Ordering::Relaxed) {
            self.lost.store(true, Ordering::Relaxed);
        }
        !self.is_lost()
    }

    pub fn events(&self) -> u64 {
        self.events.load(Ordering::Relaxed)
    }

    pub fn lose_at(&self, event: u64) {
        self.lost_at.store(event, Ordering::Relaxed);
    }

    pub fn lose_now(&self) {
        self.lost.store(true, Ordering::Relaxed);
    }

    pub fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Relaxed)
    }

    /// The machine, or the process, is started again.
    pub fn restart(&self) {
        self.lost.store(false, Ordering::Relaxed);
        self.lost_at.store(u64::MAX, Ordering::Relaxed);
        self.advance(1_000_000_000);
    }
}
