//! A simulated machine: what happens on it follows from one number.
//!
//! Built with `--cfg sim`, every shard runs on one: [`crate::run_local`] and [`crate::ShardPool`] on the machine of the calling
//! thread, [`Sim::run`] on one that the caller has made. The product's code is the same; what is different lies under it:
//!
//! - `rt/sim` chooses which task queue goes next, `turns` which shard;
//! - `world` has the clock, which moves with polls and to the next deadline when nothing is ready;
//! - `disk` and `files` are the disk: operations end in any order, and a loss of power keeps any part of what was not durable;
//! - `net` is the network of the machine: connections to itself, with latency, split reads and resets;
//! - [`crate::rng`] and [`crate::time::wall_ms`] are the machine's.
//!
//! Not simulated: what ordinary threads do (inboxes, and wakers called by other threads), and several machines.

pub(crate) mod blocking;
pub(crate) mod disk;
mod files;
pub mod net;
mod random;
pub(crate) mod reactor;
mod turns;
pub(crate) mod world;

pub use disk::{FaultCounts, Faults};
pub use random::Rng;

use crate::shard;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use world::World;

/// The environment variable that names the seed to repeat.
pub const SEED_VARIABLE: &str = "CORELANE_SIM_SEED";

/// The seed that the environment asks for, else `seed`.
pub fn seed_or(seed: u64) -> u64 {
    std::env::var(SEED_VARIABLE).ok().and_then(|s| s.parse().ok()).unwrap_or(seed)
}

/// A machine with a disk. Clones are the same machine.
#[derive(Clone)]
pub struct Sim(Arc<World>);

/// The calling thread runs shard `seat` of a pool on `world`.
pub(crate) fn sit_down(world: Arc<World>, seat: usize) {
    world::install(Some(world));
    turns::sit_down(seat);
}

impl Sim {
    /// A machine with an empty disk, without faults.
    pub fn new(seed: u64) -> Sim {
        Sim(Arc::new(World::new(seed, false)))
    }

    /// Runs `f` on a shard of the machine, on the calling thread, as a process of its own. `None`: the process was lost
    /// before ([`lose_after`](Sim::lose_after)); what it had not yet written is gone with it, what it had written and not
    /// synced is kept unless [`cut_power`](Sim::cut_power) follows. Panics if a task does.
    pub fn run<T>(&self, f: impl AsyncFnOnce() -> T) -> Option<T> {
        let before = world::install(Some(self.0.clone()));
        let _restore = Restore(before, self);
        shard::run_alone(f).expect("a simulated shard needs nothing of this machine")
    }

    /// The process is lost at the `events`th disk operation from now on that begins or ends.
    pub fn lose_after(&self, events: u64) {
        self.0.lose_at(self.0.events() + events.max(1));
    }

    /// The process is lost at its next turn. For tasks of the machine.
    pub fn lose_now(&self) {
        self.0.lose_now();
    }

    /// Between two runs: of what is not durable on the disk any part is lost.
    pub fn cut_power(&self) {
        self.0.disk().cut_power();
    }

    /// Has every disk operation printed.
    pub fn tell(&self) {
        self.0.disk().tells = true;
    }

    /// Disk operations begun and ended so far.
    pub fn events(&self) -> u64 {
        self.0.events()
    }

    /// What goes wrong from now on.
    pub fn set_faults(&self, faults: Faults) {
        self.0.disk().faults = faults;
    }

    /// Connections that are reset, in parts of a million pieces received.
    pub fn set_resets(&self, resets: u32) {
        self.0.net().resets = resets;
    }

    /// Bytes that the disk holds at most.
    pub fn set_capacity(&self, bytes: u64) {
        self.0.disk().files.capacity = bytes;
    }

    /// Bytes that files take now.
    pub fn used(&self) -> u64 {
        self.0.disk().files.used()
    }

    pub fn counts(&self) -> FaultCounts {
        self.0.disk().counts
    }

    /// Between two runs: all that was written becomes durable, as it does in time.
    pub fn settle_disk(&self) {
        self.0.disk().files.settle();
    }

    /// Every file, as it is seen.
    pub fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        self.0.disk().files.contents()
    }

    /// Changes what a file holds behind everybody's back, on the disk and as it is seen; false if there is no such file.
    pub fn alter(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) -> bool {
        self.0.disk().files.alter(path, change)
    }

    /// Between two runs, when all is durable: a file is not there any more; false if it was not.
    pub fn lose_file(&self, path: &Path) -> bool {
        self.0.disk().files.lose(path)
    }

    /// A number that is the same for two runs only if all that happened in them was.
    pub fn trace(&self) -> u64 {
        self.0.trace()
    }

    /// Gives back the memory of the disk, for those who run many machines: what a lost process leaves behind keeps its machine.
    pub fn empty_disk(&self) {
        self.0.disk().empty();
    }

    /// Moves the clock while nothing runs.
    pub fn pass_time(&self, d: Duration) {
        self.0.advance(u64::try_from(d.as_nanos()).unwrap_or(u64::MAX / 2));
    }
}

/// After a run: the process is gone.
struct Restore<'a>(Option<Arc<World>>, &'a Sim);

impl Drop for Restore<'_> {
    fn drop(&mut self) {
        let world = &self.1.0;
        world.disk().end_process();
        world.net().clear();
        world.restart();
        world::install(self.0.take());
    }
}
