//! All groups of a shard: which have an instance, and which must give theirs up.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use core_pinning::memory;
use core_pinning::sync::Event;
use core_pinning::task::{self, Queue};
use core_pinning::time::{self, Instant};
use corelane_storage::model::PartitionKey;
use openraft::{Config, SnapshotPolicy, StepDownPolicy};

use crate::groups::GroupsOptions;
use crate::slot::Slot;
use crate::{PROPOSALS_MAX, runtime};

/// Places in an instance's queue beyond those for proposals: control commands, of which one at a time is under way.
const CONTROL_PLACES: usize = 16;

/// Instances dropped before their memory goes back to the system: a few MiB.
const GIVE_BACK_EVERY: usize = 32;

pub(crate) struct Registry {
    pub options: GroupsOptions,
    pub config: Arc<Config>,
    groups: RefCell<HashMap<PartitionKey, Rc<Slot>>>,
    /// Slots with an instance, in no order.
    hot: RefCell<Vec<Rc<Slot>>>,
    /// Instances, those being built or dropped included.
    places_taken: Cell<usize>,
    /// Builds that wait for a place.
    seekers: Cell<usize>,
    /// A place was left, or a slot became idle and may leave its place.
    room: Event,
    sweeping: Cell<bool>,
    pub stopping: Cell<bool>,
    builds: Cell<u64>,
    drops: Cell<u64>,
}

/// A look at the groups of a shard.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct GroupsStats {
    /// Groups open.
    pub groups: usize,
    /// Groups with an openraft instance, those being built or dropped included.
    pub hot: usize,
    /// Tasks that openraft runs on the shard.
    pub tasks: usize,
    /// Instances built and dropped so far.
    pub builds: u64,
    pub drops: u64,
    /// Groups that a storage error or a panic has stopped.
    pub fenced: usize,
}

impl Registry {
    pub fn new(options: GroupsOptions) -> Rc<Registry> {
        Rc::new(Registry {
            config: Arc::new(config()),
            options,
            groups: RefCell::default(),
            hot: RefCell::default(),
            places_taken: Cell::new(0),
            seekers: Cell::new(0),
            room: Event::new(),
            sweeping: Cell::new(false),
            stopping: Cell::new(false),
            builds: Cell::new(0),
            drops: Cell::new(0),
        })
    }

    /// Whether the group of partition `key` is open.
    pub fn has(&self, key: PartitionKey) -> bool {
        self.groups.borrow().contains_key(&key)
    }

    pub fn add(&self, slot: &Rc<Slot>) {
        self.groups.borrow_mut().insert(slot.replica.log.key(), slot.clone());
    }

    pub fn forget(&self, slot: &Slot) {
        self.groups.borrow_mut().remove(&slot.replica.log.key());
    }

    pub fn slots(&self) -> Vec<Rc<Slot>> {
        self.groups.borrow().values().cloned().collect()
    }

    pub fn stats(&self) -> GroupsStats {
        let groups = self.groups.borrow();
        GroupsStats {
            groups: groups.len(),
            hot: self.places_taken.get(),
            tasks: runtime::scope::live_tasks(),
            builds: self.builds.get(),
            drops: self.drops.get(),
            fenced: groups.values().filter(|slot| slot.is_fenced()).count(),
        }
    }

    /// Takes a place for an instance; if there is none, the one that has been quiet for longest goes first.
    pub async fn room(&self) {
        self.seekers.set(self.seekers.get() + 1);
        loop {
            let changed = self.room.listen();
            if self.places_taken.get() < self.options.hot_max {
                break;
            }
            match self.quietest() {
                Some(slot) => slot.drop_instance().await,
                None => changed.await,
            }
        }
        self.places_taken.set(self.places_taken.get() + 1);
        self.seekers.set(self.seekers.get() - 1);
    }

    fn quietest(&self) -> Option<Rc<Slot>> {
        self.hot.borrow().iter().filter(|slot| slot.droppable()).min_by_key(|slot| slot.used()).cloned()
    }

    /// A slot has nothing to do now; somebody may want its place.
    pub fn slot_idle(&self) {
        if self.seekers.get() > 0 {
            self.room.notify_all();
        }
    }

    /// `slot` has an instance.
    pub fn built(self: &Rc<Self>, slot: &Rc<Slot>) {
        self.builds.set(self.builds.get() + 1);
        self.hot.borrow_mut().push(slot.clone());
        if !self.sweeping.replace(true) {
            task::spawn(Queue::Background, "raft-hibernate", self.clone().sweep()).detach();
        }
    }

    /// `slot` has no instance any more, or got none.
    pub fn vacate(&self, slot: &Rc<Slot>) {
        if remove(&mut self.hot.borrow_mut(), slot) {
            self.drops.set(self.drops.get() + 1);
        }
        self.places_taken.set(self.places_taken.get() - 1);
        self.room.notify_all();
    }

    /// Drops the instances that have been quiet for long enough; ends when none is left.
    async fn sweep(self: Rc<Self>) {
        let quiet = self.options.quiet_after;
        loop {
            let now = time::now();
            let (due, next) = self.due(now, quiet);
            for (n, slot) in due.iter().enumerate() {
                if slot.droppable() && slot.used() + quiet <= time::now() {
                    slot.drop_instance().await;
                }
                // What they took is given back soon, and a little at a time.
                if n % GIVE_BACK_EVERY == GIVE_BACK_EVERY - 1 || n + 1 == due.len() {
                    memory::give_back();
                }
            }
            match next {
                Some(next) => time::sleep_until(next.max(now + quiet / 8)).await,
                None if self.hot.borrow().is_empty() => break,
                None => time::sleep((quiet / 8).max(Duration::from_millis(1))).await,
            }
        }
        self.sweeping.set(false);
    }

    /// The slots quiet since `quiet` before `now`, and when the next may be.
    fn due(&self, now: Instant, quiet: Duration) -> (Vec<Rc<Slot>>, Option<Instant>) {
        let hot = self.hot.borrow();
        let (due, later): (Vec<_>, Vec<_>) = hot.iter().partition(|slot| slot.used() + quiet <= now);
        (due.into_iter().cloned().collect(), later.iter().map(|slot| slot.used() + quiet).min())
    }
}

fn remove(slots: &mut Vec<Rc<Slot>>, slot: &Rc<Slot>) -> bool {
    match slots.iter().position(|s| Rc::ptr_eq(s, slot)) {
        Some(i) => {
            slots.swap_remove(i);
            true
        }
        None => false,
    }
}

/// openraft's configuration of every group.
///
/// Nothing ticks: a group with one voter needs neither heartbeats nor elections, and an instance exists only while it has
/// work. The intervals matter once there are peers; a lease is as long as the longest election timeout.
fn config() -> Config {
    let config = Config {
        enable_tick: false,
        heartbeat_interval: 500,
        election_timeout_min: 1500,
        election_timeout_max: 2000,
        enable_pre_vote: Some(true),
        // The instance is the leader at once, in the term of the vote on disk, which a replica claims before it builds.
        enable_leader_restore: Some(true),
        // Snapshots are taken when retention asks for one, and cover what may be deleted; it is then purged at once.
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: 0,
        purge_batch_size: 1,
        replication_lag_threshold: u64::MAX,
        removed_leader_step_down: StepDownPolicy::Never,
        // Memory: openraft reserves a ring per stage of this many entries.
        log_stage_capacity: Some(1),
        api_channel_size: Some((PROPOSALS_MAX + CONTROL_PLACES) as u64),
        // openraft's core sends some of its notifications to itself: there must always be room, or it waits for itself.
        // Others come from applying, at most one for every proposal in flight.
        notification_channel_size: Some(2 * PROPOSALS_MAX as u64),
        ..Config::default()
    };
    config.validate().expect("constant configuration")
}
