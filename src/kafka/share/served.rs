//! One partition of one share group at work: loads what is stored, stores what changes, ends locks in time.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use core_pinning::sync::{Event, Signal, oneshot};
use core_pinning::task::{Queue, Task, spawn};
use core_pinning::time::{Instant, now, sleep, timeout_at, wall_ms};
use corelane_config::{AutoOffsetReset, ShareGroupProperties};
use corelane_coordinator::share::in_flight::{Acknowledgement, InFlightLimits, SharePartition, ToStore};
use corelane_coordinator::share::{Answer, Known, Operation, Refusal, SharePartitionKey};
use corelane_protocol::{ErrorCode, Str, Uuid};
use futures::future::{Either, select};

use crate::coordinator::share_states;
use crate::partition::{FetchWaiter, OffsetSpec, Partition};
use crate::shard::Shard;

/// Pauses before a coordinator that is not there is asked again.
const PAUSES: [Duration; 6] = [
    Duration::from_millis(20),
    Duration::from_millis(100),
    Duration::from_millis(400),
    Duration::from_millis(1_000),
    Duration::from_millis(2_000),
    Duration::from_millis(4_000),
];

type Stored = Result<(), ErrorCode>;

/// What waits to be stored.
struct Job {
    store: ToStore,
    /// Locks have ended: their records are free already.
    expiry: bool,
    told: Option<oneshot::Sender<Stored>>,
}

pub struct Served {
    pub group: Str,
    pub partition: Rc<Partition>,
    key: SharePartitionKey,
    leader_epoch: i32,
    state_epoch: Cell<i32>,
    /// `None` while it is loaded, and once it is served no longer.
    machine: RefCell<Option<SharePartition>>,
    /// Why it could not be loaded.
    failed: Cell<Option<ErrorCode>>,
    /// Rises whenever there may be something to fetch that was not there before.
    changes: Cell<u64>,
    /// Fetches that wait for that.
    waiters: RefCell<Vec<Rc<FetchWaiter>>>,
    /// A fetch reads the log to lend what it finds: others would find the same.
    reading: Cell<bool>,
    /// Somebody came while it did.
    refused: Cell<bool>,
    /// It is loaded, or cannot be.
    settled: Event,
    jobs: RefCell<VecDeque<Job>>,
    job: Signal,
    rescheduled: Signal,
    tasks: RefCell<Vec<Task<()>>>,
}

fn now_ms() -> i64 {
    (now().as_nanos() / 1_000_000) as i64
}

pub fn limits(properties: &ShareGroupProperties) -> InFlightLimits {
    InFlightLimits {
        max_records: properties.partition_max_record_locks,
        max_delivery_count: i16::try_from(properties.delivery_count_limit).unwrap_or(i16::MAX),
        lock_ms: i64::from(properties.record_lock_duration_ms),
        renew: properties.renew_acknowledge,
    }
}

impl Served {
    pub(super) fn start(shard: &Rc<Shard>, group: Str, partition: Rc<Partition>) -> Rc<Served> {
        let key = SharePartitionKey {
            group: group.clone(),
            topic: Uuid(partition.key.topic.0),
            partition: i32::try_from(partition.index).unwrap_or(i32::MAX),
        };
        let served = Rc::new(Served {
            group,
            key,
            leader_epoch: partition.leader_epoch().leader_epoch(),
            partition,
            state_epoch: Cell::new(0),
            machine: RefCell::new(None),
            failed: Cell::new(None),
            changes: Cell::new(0),
            waiters: RefCell::default(),
            reading: Cell::new(false),
            refused: Cell::new(false),
            settled: Event::default(),
            jobs: RefCell::default(),
            job: Signal::default(),
            rescheduled: Signal::default(),
            tasks: RefCell::default(),
        });
        let (storing, timing) = (served.clone(), served.clone());
        let (from, on) = (shard.clone(), shard.clone());
        let store = async move {
            storing.load(&from).await;
            storing.store_all(&from).await;
        };
        served.tasks.replace(vec![
            spawn(Queue::Serve, "share partition", store),
            spawn(Queue::Serve, "share partition locks", async move { timing.keep_time(&on).await }),
        ]);
        served
    }

    /// Nobody is lent anything any more, and whoever waits is told to look elsewhere.
    pub(super) fn end(&self) {
        self.machine.take();
        self.failed.set(self.failed.get().or(Some(ErrorCode::NotLeaderOrFollower)));
        self.jobs.borrow_mut().clear();
        self.settled.notify_all();
        self.wake();
        // Its tasks hold it: dropping them cancels them.
        for task in self.tasks.take() {
            spawn(Queue::Background, "end of a share partition", async move {
                task.cancel().await;
            })
            .detach();
        }
    }

    /// Waits until it is loaded, or cannot be, until then.
    pub(super) async fn settled(&self, until: Instant) {
        let settled = self.settled.listen();
        if self.machine.borrow().is_none() && self.failed.get().is_none() {
            let _ = timeout_at(until, settled).await;
        }
    }

    pub(super) fn failed(&self) -> Option<ErrorCode> {
        self.failed.get()
    }

    pub(super) fn changes(&self) -> u64 {
        self.changes.get()
    }

    /// Fires `waiter` at the next change, or at once if there was one since `seen`.
    pub(super) fn watch(&self, waiter: &Rc<FetchWaiter>, seen: u64) {
        self.waiters.borrow_mut().push(waiter.clone());
        if self.changes.get() != seen {
            waiter.fire();
        }
    }

    pub(super) fn forget(&self, waiter: &Rc<FetchWaiter>) {
        self.waiters.borrow_mut().retain(|known| !Rc::ptr_eq(known, waiter));
    }

    fn wake(&self) {
        self.changes.set(self.changes.get() + 1);
        self.waiters.borrow().iter().for_each(|waiter| waiter.fire());
    }

    pub(super) fn change<R>(&self, change: impl FnOnce(&mut SharePartition, i64) -> R) -> Option<R> {
        let changed = self.machine.borrow_mut().as_mut().map(|machine| change(machine, now_ms()));
        self.rescheduled.notify();
        changed
    }

    /// True if nobody else does; then `done_reading` must follow.
    pub(super) fn begin_reading(&self) -> bool {
        let free = !self.reading.replace(true);
        self.refused.set(!free);
        free
    }

    pub(super) fn done_reading(&self) {
        self.reading.set(false);
        if self.refused.take() {
            self.wake();
        }
    }

    /// Takes what a member says; ready when it is stored, if there is anything to store.
    pub(super) fn acknowledge(
        &self,
        shard: &Rc<Shard>,
        member: &Str,
        acknowledgements: &[Acknowledgement],
    ) -> Result<Option<oneshot::Receiver<Stored>>, ErrorCode> {
        let limits = limits(&shard.group_properties(&self.group).share);
        let taken = self.change(|machine, now| machine.acknowledge(now, member, acknowledgements, &limits));
        // Nothing is lent before it is loaded.
        let store = taken.unwrap_or(Err(ErrorCode::InvalidRecordState));
        self.wake();
        Ok(store?.map(|store| self.enqueue(store, false)))
    }

    /// A member has gone; ready when that is stored.
    pub(super) async fn release(&self, shard: &Rc<Shard>, member: &Str) {
        let limits = limits(&shard.group_properties(&self.group).share);
        let store = self.change(|machine, _| machine.release(member, &limits)).flatten();
        self.wake();
        if let Some(store) = store {
            let _ = self.enqueue(store, false).await;
        }
    }

    fn enqueue(&self, store: ToStore, expiry: bool) -> oneshot::Receiver<Stored> {
        let (sender, receiver) = oneshot::channel();
        self.jobs.borrow_mut().push_back(Job { store, expiry, told: Some(sender) });
        self.job.notify();
        receiver
    }

    async fn load(self: &Rc<Self>, shard: &Rc<Shard>) {
        match self.read(shard).await {
            Ok(machine) => {
                self.machine.replace(Some(machine));
                self.settled.notify_all();
                self.wake();
            }
            Err(error) => {
                self.failed.set(Some(error));
                tracing::debug!(key = %self.key, ?error, "a share partition could not be loaded");
                shard.share_partitions.drop_served(self);
            }
        }
    }

    async fn read(&self, shard: &Rc<Shard>) -> Result<SharePartition, ErrorCode> {
        let known = match self.ask(shard, Operation::Read { leader_epoch: self.leader_epoch }).await? {
            Answer::Known(known) => known,
            Answer::Done | Answer::Summary(_) => return Err(ErrorCode::UnknownServerError),
        };
        self.state_epoch.set(known.state_epoch);
        let begin = if known.start_offset == -1 { self.beginning(shard).await? } else { 0 };
        SharePartition::load(&Known { ..known }, begin).map_err(|refusal| refusal.code)
    }

    /// Where a group begins that has never read here (`share.auto.offset.reset`).
    async fn beginning(&self, shard: &Rc<Shard>) -> Result<i64, ErrorCode> {
        let spec = match shard.group_properties(&self.group).share.auto_offset_reset {
            AutoOffsetReset::Latest => OffsetSpec::Latest,
            AutoOffsetReset::Earliest => OffsetSpec::Earliest,
            AutoOffsetReset::Back(back) => {
                OffsetSpec::Timestamp(wall_ms().saturating_sub(i64::try_from(back.as_millis()).unwrap_or(i64::MAX)))
            }
        };
        let found = self.partition.list_offset(spec, -1, false).await?;
        if found.offset < 0 { Err(ErrorCode::OffsetNotAvailable) } else { Ok(found.offset) }
    }

    /// Asks the coordinator, patiently. Errors as Kafka's persister gives them.
    async fn ask(&self, shard: &Rc<Shard>, operation: Operation) -> Result<Answer, ErrorCode> {
        let mut pauses = PAUSES.iter();
        loop {
            let asked = vec![(self.key.clone(), operation.clone())];
            let answer = share_states(shard, asked).await.pop();
            let error = match answer.unwrap_or(Err(Refusal::from(ErrorCode::UnknownServerError))) {
                Ok(answer) => return Ok(answer),
                Err(refusal) => refusal.code,
            };
            match error {
                ErrorCode::NotCoordinator
                | ErrorCode::CoordinatorNotAvailable
                | ErrorCode::CoordinatorLoadInProgress => match pauses.next() {
                    Some(pause) => sleep(*pause).await,
                    None => return Err(ErrorCode::CoordinatorNotAvailable),
                },
                ErrorCode::FencedLeaderEpoch | ErrorCode::FencedStateEpoch => {
                    return Err(ErrorCode::NotLeaderOrFollower);
                }
                ErrorCode::GroupIdNotFound | ErrorCode::UnknownTopicOrPartition => return Err(error),
                _ => return Err(ErrorCode::UnknownServerError),
            }
        }
    }

    /// Stores what there is to store, all that has come meanwhile at once, in its order.
    async fn store_all(self: &Rc<Self>, shard: &Rc<Shard>) {
        loop {
            let jobs: Vec<Job> = self.jobs.borrow_mut().drain(..).collect();
            let Some(newest) = jobs.last() else {
                self.job.wait().await;
                continue;
            };
            let write = Operation::Write {
                state_epoch: self.state_epoch.get(),
                leader_epoch: self.leader_epoch,
                start_offset: newest.store.start_offset,
                delivery_complete_count: newest.store.delivery_complete_count,
                batches: jobs.iter().flat_map(|job| job.store.batches.iter().copied()).collect(),
            };
            let stored = self.ask(shard, write).await.map(drop);
            let limits = limits(&shard.group_properties(&self.group).share);
            for job in &jobs {
                let id = job.store.id;
                self.change(|machine, now| match job.expiry {
                    true => machine.expiry_stored(),
                    false => machine.stored(id, stored.is_ok(), now, &limits),
                });
            }
            self.wake();
            for told in jobs.into_iter().filter_map(|job| job.told) {
                // Whoever asked may have gone away with its connection.
                let _ = told.send(stored);
            }
            if matches!(
                stored,
                Err(ErrorCode::NotLeaderOrFollower | ErrorCode::GroupIdNotFound | ErrorCode::UnknownTopicOrPartition)
            ) {
                shard.share_partitions.drop_served(self);
            }
        }
    }

    async fn keep_time(&self, shard: &Rc<Shard>) {
        loop {
            let deadline = self.machine.borrow().as_ref().and_then(SharePartition::next_deadline);
            let Some(deadline) = deadline else {
                self.rescheduled.wait().await;
                continue;
            };
            let left = Duration::from_millis(u64::try_from(deadline.saturating_sub(now_ms())).unwrap_or(0));
            if !left.is_zero() {
                let rescheduled = pin!(self.rescheduled.wait());
                if let Either::Left(_) = select(rescheduled, pin!(sleep(left))).await {
                    continue;
                }
            }
            let limits = limits(&shard.group_properties(&self.group).share);
            if let Some(store) = self.change(|machine, now| machine.expire(now, &limits)).flatten() {
                drop(self.enqueue(store, true));
                self.wake();
            }
        }
    }
}
