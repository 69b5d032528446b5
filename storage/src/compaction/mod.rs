//! Compaction: of each key only the last record stays (`cleanup.policy=compact`; Kafka's `LogCleaner` and `Cleaner`).
//!
//! A pass of one log, by [`Cleaner::clean`], in the background queue:
//!
//! ```text
//! segments   | clean, from passes before | dirty              | left alone         | active |
//! offsets    log start          first dirty      end of pass   limit
//! ```
//! 1. `plan`: which segments. Only finished ones, behind which lie the applied and the durable point, in memory and on disk.
//! 2. `map`: the dirty records' keys and last offsets go into an `offset_map` of bounded size. Where it is full the pass ends;
//!    the rest is another pass's. So is all from the first transaction on that has not ended (`transactions`).
//! 3. `swap::give_up`: the entries of all segments before the end of the pass are purged for Raft, durably.
//! 4. `rewrite`: neighbouring segments, as many as make one of `segment.bytes`, are copied into one file, batch by batch
//!    through `filter`. `swap` puts that in their place.
//! 5. The end of the pass is the next one's first dirty offset; it is kept in the file `cleaner` (`standing`).
//!
//! Memory: the map, one piece read and one to be written, one batch (decompressed and compressed). It does not grow with keys.
//! Pieces take turns with others that nobody waits for, and with the journal's writes (`store::background`).
//!
//! # What others rely on
//!
//! | who                         | relies on                               | so compaction                                             |
//! |-----------------------------|-----------------------------------------|-----------------------------------------------------------|
//! | Raft, `log::entries`        | entries without holes, index = base index + ordinal | purges them first; a compacted segment says so in its header (`SEGMENT_FORMAT_COMPACTED`) |
//! | `unapplied`, `applied`, `flushed`, truncation | their places            | stays before the segments that these lie in               |
//! | journal replay              | a segment's bytes at their positions    | makes a state durable whose `synced` is behind the segments, before it touches them: extents before `synced` are dropped |
//! | state file, checkpoints     | places of points                        | same; the producers' snapshot point is forgotten if it lies in them |
//! | opening: walk               | batches that continue each other        | the walk takes only producers from compacted segments, and counts entries from the next header on |
//! | opening: list of segments   | no two for one offset                   | finishes a swap that was begun (`recover`)                |
//! | producer tables, `.snap`    | each producer's last batch              | keeps it, empty; the `.snap` of a segment that stays, stays |
//! | damage checks               | a segment ends where the next one begins | keeps the last batch of each segment, empty             |
//! | leader epochs               | terms of offsets                        | keeps the epoch cache; batches keep their leader epoch    |
//! | readers, `.idx`             | positions of one file                   | counts up `generation`: what was looked up is looked up again. Reads under way go on in the old file, which `Files` holds meanwhile |
//! | readers                     | the offset after a batch                | nothing: a read begins with the first batch that ends behind the offset, over gaps and segments |
//! | times                       | the largest time of a segment has a record | batches without records do not count                    |

mod filter;
mod map;
mod offset_map;
mod plan;
mod rewrite;
pub(crate) mod standing;
mod swap;
mod transactions;
mod unpack;

use std::rc::Rc;

use core_pinning::time::{self, Instant};

use crate::error::StorageError;
use crate::log::{Log, LogInner};
use crate::model::Offset;
use filter::Filter;
use plan::{Plan, Source};

pub use plan::Cleanable;
pub(crate) use standing::Standing;
pub(crate) use swap::recover;

/// How a shard compacts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CleanerOptions {
    /// Memory for keys at most (`log.cleaner.dedupe.buffer.size`, over the shards).
    pub dedupe_bytes: usize,
    /// The part of it that is filled (`log.cleaner.io.buffer.load.factor`).
    pub load_factor: f64,
    /// Read and written together (`log.cleaner.io.max.bytes.per.second`).
    pub bytes_per_second: f64,
}

impl Default for CleanerOptions {
    fn default() -> CleanerOptions {
        CleanerOptions { dedupe_bytes: 128 << 20, load_factor: 0.9, bytes_per_second: f64::MAX }
    }
}

/// What a pass did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cleaned {
    /// All before it is compacted.
    pub upto: Offset,
    pub segments_before: usize,
    pub segments_after: usize,
    pub bytes_before: u64,
    pub bytes_after: u64,
    /// Memory that the keys took.
    pub map_bytes: usize,
}

/// Compacts the logs of one shard, one at a time.
pub struct Cleaner {
    options: CleanerOptions,
    begun: Instant,
    bytes: u64,
}

impl Cleaner {
    pub fn new(options: CleanerOptions) -> Cleaner {
        Cleaner { options, begun: time::now(), bytes: 0 }
    }

    /// Makes one pass over the log; `None` if there is nothing to compact. On an error nothing is lost, and a later pass may
    /// be made. Retention, reads and appends go on meanwhile.
    pub async fn clean(&mut self, log: &Log, now_ms: i64) -> Result<Option<Cleaned>, StorageError> {
        let log = &log.0;
        let Some(_running) = log.compaction.begin() else { return Ok(None) };
        self.finish_earlier(log).await?;
        let Some(plan) = plan::plan(log, now_ms).await? else { return Ok(None) };
        if plan.dirty_bytes() == 0 || log.compaction.is_stuck(&plan) {
            return Ok(None);
        }
        (self.begun, self.bytes) = (time::now(), 0);
        match self.pass(log, &plan, now_ms).await {
            // Retention was there before.
            Err(_) if !plan.is_in(log) => Ok(None),
            other => other,
        }
    }

    async fn pass(&mut self, log: &Rc<LogInner>, plan: &Plan, now_ms: i64) -> Result<Option<Cleaned>, StorageError> {
        let (map, outcomes) = map::build(self, log, plan).await?;
        let end = map.next();
        let sources: Vec<Source> = plan.sources.iter().copied().filter(|s| s.base < end).collect();
        let Some(boundary) = sources.last().map(|s| s.end) else { return Ok(None) };
        if end <= plan.first_dirty {
            log.compaction.note_stuck(plan);
            return Ok(None);
        }
        // What is given up is no longer looked at for the transactions that were aborted.
        if !log.index_aborted(1).await? {
            return Ok(None);
        }
        swap::give_up(log, boundary).await?;
        let config = log.state.borrow().config.clone();
        let mut filter = Filter::new(&map, &outcomes, now_ms, config.delete_retention_ms);
        let mut cleaned = Cleaned { upto: end, map_bytes: map.bytes(), ..Cleaned::default() };
        for group in plan::groups(&sources, &config) {
            filter.segment_end = group.last().map_or(end, |s| s.end);
            let new = rewrite::rewrite(self, log, &group, &mut filter).await?;
            cleaned.segments_before += group.len();
            cleaned.segments_after += 1;
            cleaned.bytes_before += group.iter().map(|s| u64::from(s.size)).sum::<u64>();
            cleaned.bytes_after += u64::from(new.size);
            if !swap::swap(log, &group, new).await? {
                return Ok(None);
            }
        }
        log.set_first_dirty(end).await;
        log.write_heads().await;
        Ok(Some(cleaned))
    }

    async fn finish_earlier(&self, log: &Rc<LogInner>) -> Result<(), StorageError> {
        let _alone = log.compaction.alone().await;
        log.finish_swap().await
    }

    /// Counts bytes read or written, and waits if that goes too fast. An error if nobody needs the work any more.
    async fn account(&mut self, log: &LogInner, bytes: usize) -> Result<(), StorageError> {
        self.bytes += bytes as u64;
        let due = self.bytes as f64 / self.options.bytes_per_second.max(1.0);
        let early = due - self.begun.elapsed().as_secs_f64();
        if early > 0.02 {
            time::sleep(std::time::Duration::from_secs_f64(early.min(1.0))).await;
        }
        if let Some(ended) = log.shared.ended() {
            return Err(ended);
        }
        log.state.borrow().fenced.clone().map_or(Ok(()), Err)
    }
}
