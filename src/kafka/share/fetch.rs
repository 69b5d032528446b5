//! Fetching for a member of a share group: reads the partitions of one shard and lends what it finds, or waits for more.

use std::future::Future;
use std::rc::Rc;

use bytes::Bytes;
use core_pinning::time::Instant;
use corelane_coordinator::share::in_flight::{AcquireMode, AcquiredRange, Fetched, SharePartition, Wanted};
use corelane_protocol::ErrorCode;
use corelane_storage::model::PartitionKey;
use corelane_storage::producer_state::AbortedTransaction;
use corelane_storage::record::{BatchHeader, Batches};

use super::served::{Served, limits};
use super::sessions::Who;
use crate::partition::{EpochCheck, FetchRead, FetchWaiter, FetchedRecords, Partition};
use crate::router::ShardCall;
use crate::shard::Shard;

/// What a member wants of one shard's partitions.
#[derive(Clone, Debug)]
pub struct Ask {
    pub who: Who,
    pub keys: Vec<PartitionKey>,
    pub mode: AcquireMode,
    pub max_records: i32,
    pub batch_size: i32,
    /// Of one partition; the first batch of all comes whatever its size.
    pub max_bytes: usize,
    /// Until when to wait for what is being loaded.
    pub until: Instant,
    /// Lend what there is; else only see how much there is.
    pub lend: bool,
}

/// One partition's part of an answer.
#[derive(Clone, Debug)]
pub struct Lent {
    pub error: ErrorCode,
    pub slices: Vec<Bytes>,
    pub bytes: usize,
    pub ranges: Vec<AcquiredRange>,
    /// It could be asked: it is loaded, nobody else reads it, and it has room.
    pub reached: bool,
    /// What was seen, for whoever waits for more.
    pub seen: Seen,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    pub changes: u64,
    pub end: i64,
}

impl Lent {
    fn nothing(error: ErrorCode, seen: Seen) -> Lent {
        Lent { error, slices: Vec::new(), bytes: 0, ranges: Vec::new(), reached: false, seen }
    }

    pub fn failed(error: ErrorCode) -> Lent {
        Lent::nothing(error, Seen::default())
    }

    pub fn records(&self) -> i64 {
        self.ranges.iter().map(|range| range.last - range.first + 1).sum()
    }
}

/// Begins to serve partitions. All are loaded at the same time, so that none waits for those before it.
fn begin(shard: &Rc<Shard>, who: &Who, keys: &[PartitionKey]) -> Vec<Result<Rc<Served>, ErrorCode>> {
    keys.iter().map(|key| shard.share_partitions.serve(shard, &who.group, *key)).collect()
}

/// Begins with the partitions of one shard while others are still being asked.
pub struct BeginCall {
    pub who: Who,
    pub keys: Vec<PartitionKey>,
}

impl ShardCall for BeginCall {
    type Reply = ();

    fn run(self, shard: &Rc<Shard>) -> impl Future<Output = ()> + 'static {
        // What is wrong with one is said when it is to lend.
        drop(begin(shard, &self.who, &self.keys));
        std::future::ready(())
    }
}

pub struct LendCall(pub Ask);

impl ShardCall for LendCall {
    type Reply = Vec<Lent>;

    fn run(self, shard: &Rc<Shard>) -> impl Future<Output = Self::Reply> + 'static {
        let (shard, LendCall(mut ask)) = (shard.clone(), self);
        async move {
            let mut answer = Vec::with_capacity(ask.keys.len());
            let mut any = false;
            let all = begin(&shard, &ask.who, &std::mem::take(&mut ask.keys));
            for served in all {
                let lent = match served {
                    Ok(served) => lend(&shard, &served, &ask, !any).await,
                    Err(error) => Lent::failed(error),
                };
                ask.max_records = ask.max_records.saturating_sub(i32::try_from(lent.records()).unwrap_or(i32::MAX));
                any |= lent.bytes > 0;
                answer.push(lent);
            }
            answer
        }
    }
}

async fn lend(shard: &Rc<Shard>, served: &Rc<Served>, ask: &Ask, at_least_one: bool) -> Lent {
    let properties = shard.group_properties(&ask.who.group);
    let (limits, committed) = (limits(&properties.share), properties.share.read_committed);
    let partition = &served.partition;
    served.settled(ask.until).await;
    let seen = Seen { changes: served.changes(), end: end_of(partition, committed) };
    if let Some(error) = served.failed() {
        return Lent::nothing(error, seen);
    }
    let log_start = partition.bounds().log_start.0;
    let ready = served.change(|machine, _| {
        if machine.next_fetch_offset() < log_start {
            machine.log_start_moved(log_start);
        }
        machine.can_acquire(&limits).then(|| machine.next_fetch_offset())
    });
    let Some(Some(offset)) = ready else {
        return Lent::nothing(ErrorCode::None, seen);
    };
    if !served.begin_reading() {
        return Lent::nothing(ErrorCode::None, seen);
    }
    let reading = Reading(served);
    let mut lent = Lent { reached: true, ..Lent::nothing(ErrorCode::None, seen) };
    if ask.lend && ask.max_records <= 0 {
        return lent;
    }
    let read = FetchRead {
        offset,
        max_bytes: ask.max_bytes,
        at_least_one,
        epochs: EpochCheck { current_leader_epoch: -1, last_fetched_epoch: -1 },
        zstd: true,
        committed,
        replica: false,
    };
    let fetched = read_enough(served, read, ask).await;
    drop(reading);
    match fetched.error {
        ErrorCode::None => {}
        // The log start moved meanwhile: the next look begins there.
        ErrorCode::OffsetOutOfRange => return lent,
        error => return Lent::nothing(error, seen),
    }
    let batches: Vec<(BatchHeader, Bytes)> =
        fetched.slices.into_iter().flat_map(|slice| Batches::new(slice).flatten()).collect();
    if !ask.lend {
        lent.bytes = fetched.bytes;
        return lent;
    }
    let found_ends: Vec<(i64, i64)> = batches.iter().map(|(header, _)| ends(header)).collect();
    let aborted = batches.iter().filter(|(header, _)| is_aborted(header, &fetched.aborted));
    let aborted: Vec<(i64, i64)> = aborted.map(|(header, _)| ends(header)).collect();
    let wanted =
        Wanted { member: &ask.who.member, mode: ask.mode, max_records: ask.max_records, batch_size: ask.batch_size };
    let found = Fetched { offset, batches: &found_ends, aborted: &aborted };
    let Some(acquired) = served.change(|machine, now| machine.acquire(now, wanted, found, &limits)) else {
        return Lent::nothing(ErrorCode::NotLeaderOrFollower, seen);
    };
    lent.ranges = acquired.ranges;
    if let (Some(first), Some(last)) = (lent.ranges.first(), lent.ranges.last()) {
        // As they lie in the log, from the first batch that is lent to the last.
        let needed = batches.into_iter().filter(|(header, _)| {
            let (begin, end) = ends(header);
            end >= first.first && begin <= last.last
        });
        lent.slices = needed.map(|(_, batch)| batch).collect();
        lent.bytes = lent.slices.iter().map(Bytes::len).sum();
    }
    lent
}

/// One read ends where the log's part on the disk does. Less than was asked for, and less of a batch than was lent before, is given out
/// only where there is no more.
async fn read_enough(served: &Served, read: FetchRead, ask: &Ask) -> FetchedRecords {
    let mut all = served.partition.fetch(read).await;
    loop {
        let next = all.slices.last().and_then(|slice| Batches::new(slice.clone()).flatten().last());
        let Some(next) = next.map(|(header, _)| header.next_offset().0) else { return all };
        let left = read.max_bytes.saturating_sub(all.bytes);
        let lends = |machine: &mut SharePartition, _| machine.suffices(read.offset, next, ask.max_records);
        let enough = ask.lend && served.change(lends).unwrap_or(true);
        if enough || left == 0 || next >= all.readable_end(read.committed) {
            return all;
        }
        let more = FetchRead { offset: next, max_bytes: left, at_least_one: false, ..read };
        let more = served.partition.fetch(more).await;
        if more.error != ErrorCode::None || more.bytes == 0 {
            return all;
        }
        all.bytes += more.bytes;
        all.slices.extend(more.slices);
        all.aborted.extend(more.aborted);
    }
}

/// Ends a reading, however it ends.
struct Reading<'a>(&'a Served);

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        self.0.done_reading();
    }
}

fn ends(header: &BatchHeader) -> (i64, i64) {
    (header.base_offset.0, header.last_offset().0)
}

fn is_aborted(header: &BatchHeader, aborted: &[AbortedTransaction]) -> bool {
    header.is_transactional()
        && !header.is_control()
        && aborted.iter().any(|transaction| {
            transaction.producer == header.producer_id
                && transaction.first_offset <= header.base_offset
                && header.base_offset <= transaction.last_offset
        })
}

fn end_of(partition: &Partition, committed: bool) -> i64 {
    if committed { partition.log().last_stable_offset().0 } else { partition.bounds().high_watermark.0 }
}

/// Waits on one shard until one of these partitions has more to give than was seen.
pub struct WaitCall {
    pub id: u64,
    pub who: Who,
    pub seen: Vec<(PartitionKey, Seen)>,
}

impl ShardCall for WaitCall {
    type Reply = ();

    fn run(self, shard: &Rc<Shard>) -> impl Future<Output = ()> + 'static {
        let committed = shard.group_properties(&self.who.group).share.read_committed;
        let waiter = FetchWaiter::new(1);
        let mut watched = Vec::with_capacity(self.seen.len());
        for (key, seen) in self.seen {
            match shard.share_partitions.get(&self.who.group, key) {
                Some(served) => {
                    served.watch(&waiter, seen.changes);
                    served.partition.watch(&waiter, seen.end, committed);
                    watched.push(served);
                }
                None => waiter.fire(),
            }
        }
        shard.fetch_waits.borrow_mut().insert(self.id, waiter.clone());
        let waiting = Waiting { shard: shard.clone(), id: self.id, watched, committed, waiter };
        async move {
            waiting.waiter.fired().await;
            drop(waiting);
        }
    }
}

/// A wait on the shard of the partitions, until it is over or dropped.
struct Waiting {
    shard: Rc<Shard>,
    id: u64,
    watched: Vec<Rc<Served>>,
    committed: bool,
    waiter: Rc<FetchWaiter>,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        for served in &self.watched {
            served.forget(&self.waiter);
            served.partition.forget(&self.waiter, self.committed);
        }
        self.shard.fetch_waits.borrow_mut().remove(&self.id);
    }
}
