//! What a connection's fetches leave behind for the next one.
//!
//! A consumer that keeps up asks again and again from the end of every partition, and only a few of them have grown
//! since. So after an answer the connection remembers, shard by shard, where the partitions ended; a request that begins
//! right there need not be read for, only waited for; and a watch that nothing has ended goes on over many requests.
//!
//! Invariant: a tail is kept only while each of its partitions was asked for from its high watermark (from its last stable
//! offset by who reads what is committed), as told by its own shard less than [`FRESH`] ago; and what lies beyond that ends the
//! tail's watch, which was begun with that offset.

use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use core_pinning::ShardId;
use core_pinning::time::{Instant, now};
use corelane_protocol::ErrorCode;
use corelane_storage::model::PartitionKey;
use hashbrown::HashMap;

use super::fetch_read::Asked;
use super::fetch_watch::{Terms, Watch};
use crate::partition::FetchedRecords;
use crate::shard::Shard;

/// What a shard said is believed for so long; and a client that does not come again for so long leaves nothing behind.
const FRESH: Duration = Duration::from_secs(1);

/// The partitions of one shard in a request: what is asked, and the places in the request.
#[derive(Default)]
pub struct Part {
    pub asked: Vec<Asked>,
    pub places: Vec<usize>,
}

/// The partitions of one shard: what was asked last, and what came.
pub struct Tail {
    asked: Arc<[Asked]>,
    places: Vec<usize>,
    told: Vec<FetchedRecords>,
    told_at: Instant,
    watch: Option<Watch>,
}

impl Tail {
    pub fn new(part: Part) -> Tail {
        let told = vec![FetchedRecords::failed(ErrorCode::None); part.asked.len()];
        Tail { asked: part.asked.into(), places: part.places, told, told_at: now(), watch: None }
    }

    pub fn asked(&self) -> &Arc<[Asked]> {
        &self.asked
    }

    /// The same tail for the next request, or that request where it must be read for.
    fn continued(mut self, part: Part) -> Result<Tail, Part> {
        if now() - self.told_at > FRESH {
            return Err(part);
        }
        let Some(order) = self.order(&part.asked) else { return Err(part) };
        let next: Vec<Asked> = order.iter().filter_map(|i| part.asked.get(*i).copied()).collect();
        let at_end = |((old, new), told): ((&Asked, &Asked), &FetchedRecords)| {
            told.error == ErrorCode::None
                && told.diverging.is_none()
                && new.read.offset == told.readable_end(new.read.committed)
                && new.read.epochs.current_leader_epoch == old.read.epochs.current_leader_epoch
        };
        if !self.asked.iter().zip(&next).zip(&self.told).all(at_end) {
            return Err(part);
        }
        if *self.asked != *next {
            self.watch = None;
            self.asked = next.into();
        }
        self.places = order.iter().filter_map(|i| part.places.get(*i).copied()).collect();
        Ok(self)
    }

    /// Where in `asked` the partitions of this tail are; `None` if they are others.
    fn order(&self, asked: &[Asked]) -> Option<Vec<usize>> {
        if asked.len() != self.asked.len() {
            return None;
        }
        if self.asked.iter().zip(asked).all(|(a, b)| a.key == b.key) {
            return Some((0..asked.len()).collect());
        }
        let places: HashMap<PartitionKey, usize> = asked.iter().enumerate().map(|(i, a)| (a.key, i)).collect();
        self.asked.iter().map(|a| places.get(&a.key).copied()).collect()
    }

    pub fn tell(&mut self, told: Vec<FetchedRecords>) {
        self.told = told;
        self.told_at = now();
        self.watch = None;
    }

    fn watch(&mut self, shard: &Rc<Shard>, to: ShardId, terms: Terms) {
        if self.watch.is_none() {
            let ends = self.told.iter().zip(self.asked.iter());
            let seen = ends.map(|(told, asked)| told.readable_end(asked.read.committed)).collect();
            self.watch = Some(Watch::begin(shard, to, self.asked.clone(), seen, terms));
        }
    }

    /// True if the watch has ended; what it read is told.
    fn poll(&mut self, context: &mut Context<'_>) -> bool {
        let Some(watch) = &mut self.watch else { return false };
        let Poll::Ready(read) = Pin::new(watch).poll(context) else { return false };
        self.watch = None;
        if let Some(read) = read {
            self.tell(read);
        }
        true
    }
}

/// The tails of one connection.
#[derive(Default)]
pub struct Tails {
    of_shard: BTreeMap<ShardId, Tail>,
    left_at: Option<Instant>,
}

impl Tails {
    /// Begins a request: its tails, and the shards that must be read, which are all of them unless `patient`.
    pub fn begin(&mut self, parts: BTreeMap<ShardId, Part>, patient: bool) -> Vec<ShardId> {
        let mut left = std::mem::take(&mut self.of_shard);
        let mut unread = Vec::new();
        for (shard, part) in parts {
            let continued = match left.remove(&shard).filter(|_| patient) {
                Some(tail) => tail.continued(part),
                None => Err(part),
            };
            let tail = continued.unwrap_or_else(|part| {
                unread.push(shard);
                Tail::new(part)
            });
            self.of_shard.insert(shard, tail);
        }
        self.left_at = None;
        unread
    }

    pub fn is_empty(&self) -> bool {
        self.of_shard.is_empty()
    }

    pub fn shards(&self) -> usize {
        self.of_shard.len()
    }

    pub fn get_mut(&mut self, shard: ShardId) -> Option<&mut Tail> {
        self.of_shard.get_mut(&shard)
    }

    pub fn get(&self, shard: ShardId) -> Option<&Tail> {
        self.of_shard.get(&shard)
    }

    pub fn ids(&self) -> Vec<ShardId> {
        self.of_shard.keys().copied().collect()
    }

    /// Watches every shard (of `shards`) that is not watched yet.
    pub fn watch(&mut self, shard: &Rc<Shard>, terms: Terms, wanted: impl Fn(ShardId) -> bool) {
        let unwatched = self.of_shard.iter_mut().filter(|(to, _)| wanted(**to));
        unwatched.for_each(|(to, tail)| tail.watch(shard, *to, terms));
    }

    /// Takes what watches have read so far.
    pub fn look(&mut self) {
        let mut context = Context::from_waker(Waker::noop());
        for tail in self.of_shard.values_mut() {
            let _ = tail.poll(&mut context);
        }
    }

    /// Waits until a watch has ended.
    pub async fn changed(&mut self) {
        poll_fn(|context| {
            let ended = self.of_shard.values_mut().map(|tail| tail.poll(context)).fold(false, |a, b| a | b);
            if ended { Poll::Ready(()) } else { Poll::Pending }
        })
        .await
    }

    pub fn bytes(&self) -> usize {
        self.told().map(|told| told.bytes).sum()
    }

    /// Something was told that the client must hear of at once.
    pub fn is_settled(&self) -> bool {
        self.told().any(|told| told.error != ErrorCode::None || told.diverging.is_some())
    }

    fn told(&self) -> impl Iterator<Item = &FetchedRecords> {
        self.of_shard.values().flat_map(|tail| &tail.told)
    }

    /// Moves what was told to its places in the request.
    pub fn end(&mut self, fetched: &mut [FetchedRecords]) {
        for tail in self.of_shard.values_mut() {
            for (told, place) in tail.told.iter_mut().zip(&tail.places) {
                if let Some(slot) = fetched.get_mut(*place) {
                    let kept = told.without_records();
                    *slot = std::mem::replace(told, kept);
                }
            }
        }
        self.left_at = Some(now());
    }

    /// When what is left is to be forgotten.
    pub fn lapse_at(&self) -> Option<Instant> {
        self.left_at.filter(|_| !self.of_shard.is_empty()).map(|at| at + FRESH)
    }
}
