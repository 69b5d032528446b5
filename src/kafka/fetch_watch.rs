//! Waiting for partitions of one shard to grow, from any shard.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use core_pinning::ShardId;

use super::fetch_read::{Asked, ReadCall};
use crate::partition::{FetchWaiter, FetchedRecords, Partition};
use crate::router::{CallFuture, ShardCall};
use crate::shard::Shard;

/// What a watch waits for, and what it then does.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// Bytes that must come.
    pub missing: usize,
    /// Reads so many bytes when they have come; `None`: only tells.
    pub read: Option<usize>,
}

struct WatchCall {
    id: u64,
    asked: Arc<[Asked]>,
    /// The ends that the fetch has seen; growth since then counts at once.
    seen: Vec<i64>,
    terms: Terms,
}

impl ShardCall for WatchCall {
    type Reply = Option<Vec<FetchedRecords>>;

    fn run(self, shard: &Rc<Shard>) -> impl Future<Output = Self::Reply> + 'static {
        let waiter = FetchWaiter::new(self.terms.missing as i64);
        let mut partitions = Vec::with_capacity(self.asked.len());
        for (asked, seen) in self.asked.iter().zip(&self.seen) {
            match shard.partitions.get(asked.key) {
                Some(partition) => {
                    partition.watch(&waiter, *seen, asked.read.committed);
                    partitions.push((partition, asked.read.committed));
                }
                None => waiter.fire(),
            }
        }
        shard.fetch_waits.borrow_mut().insert(self.id, waiter.clone());
        let waiting = Waiting { shard: shard.clone(), id: self.id, partitions, waiter };
        async move {
            waiting.waiter.fired().await;
            let (shard, cancelled) = (waiting.shard.clone(), waiting.waiter.is_cancelled());
            drop(waiting);
            match self.terms.read {
                Some(max_bytes) if !cancelled => Some(ReadCall { asked: self.asked, max_bytes }.run(&shard).await),
                _ => None,
            }
        }
    }
}

/// A wait on the shard of the partitions, until it is over or dropped.
struct Waiting {
    shard: Rc<Shard>,
    id: u64,
    partitions: Vec<(Rc<Partition>, bool)>,
    waiter: Rc<FetchWaiter>,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.partitions.iter().for_each(|(partition, committed)| partition.forget(&self.waiter, *committed));
        self.shard.fetch_waits.borrow_mut().remove(&self.id);
    }
}

struct CancelWatch {
    id: u64,
}

impl ShardCall for CancelWatch {
    type Reply = ();

    fn run(self, shard: &Rc<Shard>) -> impl Future<Output = ()> + 'static {
        if let Some(waiter) = shard.fetch_waits.borrow().get(&self.id) {
            waiter.cancel();
        }
        std::future::ready(())
    }
}

/// Ends a wait on shard `to`. On this shard it has gone with its future.
pub fn cancel_watch(shard: &Rc<Shard>, to: ShardId, id: u64) {
    if to != shard.id {
        drop(shard.router.call(shard, to, CancelWatch { id }));
    }
}

/// A watch on shard `to`, from the shard of the connection. Ends with what was read, if it reads; dropping cancels it.
pub struct Watch {
    shard: Rc<Shard>,
    to: ShardId,
    id: u64,
    call: CallFuture<WatchCall>,
    over: bool,
}

impl Watch {
    /// Begins at once.
    pub fn begin(shard: &Rc<Shard>, to: ShardId, asked: Arc<[Asked]>, seen: Vec<i64>, terms: Terms) -> Watch {
        let id = shard.next_wait_id();
        let call = shard.router.call(shard, to, WatchCall { id, asked, seen, terms });
        Watch { shard: shard.clone(), to, id, call, over: false }
    }
}

impl Future for Watch {
    type Output = Option<Vec<FetchedRecords>>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let ended = Pin::new(&mut self.call).poll(context);
        self.over |= ended.is_ready();
        ended
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if !self.over {
            cancel_watch(&self.shard, self.to, self.id);
        }
    }
}
