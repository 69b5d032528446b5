//! The task that looks at the disk and does what the rule says.

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use core_pinning::disk::fs::free_space;
use core_pinning::metrics::{Counter, Gauge, counter, gauge};
use core_pinning::time::{Instant, now, timeout};
use corelane_storage::{Reserve, StorageError};

use super::rule::{Level, Marks, Seen};
use super::{ReportCall, SetCall, forward};
use crate::shard::Shard;

/// How often the disk is looked at, at least.
const INTERVAL: Duration = Duration::from_secs(1);
/// The same while retention is brought forward: time for what was deleted to show in the free space.
const FORWARD_INTERVAL: Duration = Duration::from_millis(250);
/// A shard takes this much at least before it asks for a look.
const ALLOTMENT_MIN: u64 = 1 << 20;

/// Runs on one shard.
pub struct Keeper {
    shard: Rc<Shard>,
    marks: Marks,
    /// `None`: the file system cannot hold space back.
    reserve: Option<Reserve>,
    level: Cell<Level>,
    forwarded_at: Cell<Option<Instant>>,
    /// Nothing was left that may go.
    exhausted: Cell<bool>,
    metrics: Metrics,
}

struct Metrics {
    free: Gauge,
    level: Gauge,
    reserve: Gauge,
    segments: Counter,
    bytes: Counter,
}

impl Keeper {
    /// Has looked once, so that the first client is served by the rule.
    pub async fn open(shard: &Rc<Shard>) -> io::Result<Keeper> {
        let space = free_space(shard.data_dir()).await?;
        let marks = Marks::new(&shard.config.broker().space, space.total, shard.shards);
        let reserve = Reserve::open(shard.data_dir(), marks.reserve).await;
        let keeper = Keeper {
            shard: shard.clone(),
            marks,
            reserve: reserve.inspect_err(|error| tracing::warn!(%error, "no reserve of disk space")).ok(),
            level: Cell::default(),
            forwarded_at: Cell::new(None),
            exhausted: Cell::new(false),
            metrics: Metrics {
                free: gauge("corelane_disk_free_bytes", "Free bytes of the data directory's disk", vec![]),
                level: gauge("corelane_disk_level", "0 enough space, 1 nearly full, 2 full", vec![]),
                reserve: gauge("corelane_disk_reserve_bytes", "Bytes held back for a full disk", vec![]),
                segments: counter(
                    "corelane_retention_forwarded_segments_total",
                    "Segments deleted before their time because the disk was nearly full",
                    vec![],
                ),
                bytes: counter(
                    "corelane_retention_forwarded_bytes_total",
                    "Bytes deleted before their time because the disk was nearly full",
                    vec![],
                ),
            },
        };
        keeper.look().await;
        Ok(keeper)
    }

    /// Until it is cancelled.
    pub async fn run(self) {
        let mut interval = INTERVAL;
        loop {
            let _ = timeout(interval, self.shard.space.look.wait()).await;
            let Some(seen) = self.look().await else { continue };
            let excess = if self.level.get() > Level::Enough { self.marks.excess(&seen) } else { 0 };
            let since = self.forwarded_at.get().map(|at| now().saturating_duration_since(at));
            if excess == 0 {
                self.forwarded_at.set(None);
            } else if since.is_none_or(|since| since >= FORWARD_INTERVAL) {
                self.bring_forward(excess).await;
            }
            interval = if excess == 0 || self.exhausted.get() { INTERVAL } else { FORWARD_INTERVAL };
        }
    }

    /// `None`: the disk did not say how much is free.
    async fn look(&self) -> Option<Seen> {
        let shard = &self.shard;
        let mut seen = Seen::default();
        for report in shard.router.call_each(shard, shard.all_shards(), ReportCall).await {
            seen.unwritten += report.unwritten;
            seen.refused |= report.refused;
        }
        match free_space(shard.data_dir()).await {
            Ok(space) => seen.available = space.available,
            Err(error) => {
                tracing::warn!(%error, "free space of the disk is not known");
                return None;
            }
        }
        self.keep_reserve(&mut seen).await;
        let level = self.marks.level(&seen, self.level.get());
        self.metrics.free.set(seen.available as i64);
        self.metrics.level.set(level as i64);
        self.metrics.reserve.set(self.reserve.as_ref().map_or(0, Reserve::held) as i64);
        self.tell(level, &seen).await;
        Some(seen)
    }

    /// Gives the reserve back, or makes it again.
    async fn keep_reserve(&self, seen: &mut Seen) {
        let Some(reserve) = &self.reserve else { return };
        seen.missing = reserve.missing();
        let held = reserve.held();
        if seen.refused {
            match reserve.give_back().await {
                Ok(()) if held > 0 => tracing::warn!(bytes = held, "the disk is full: the reserve is given back"),
                Ok(()) => {}
                Err(error) => tracing::error!(%error, "the reserve could not be given back"),
            }
        } else if self.marks.reserve != held && seen.free() >= self.marks.min_free {
            match reserve.make().await {
                Ok(()) => {
                    tracing::info!(bytes = self.marks.reserve, "disk space is held back for a full disk");
                    seen.available = seen.available.saturating_sub(seen.missing);
                }
                // Somebody else was faster: tried again at the next look.
                Err(StorageError::DiskFull { .. }) => {}
                Err(error) => tracing::warn!(%error, "no reserve of disk space"),
            }
        }
        seen.missing = reserve.missing();
    }

    async fn tell(&self, level: Level, seen: &Seen) {
        let shard = &self.shard;
        let (free, marks) = (seen.free(), &self.marks);
        let reason = match seen.refused {
            true => format!("the disk is full: {} bytes are free", seen.available),
            false => format!("the disk is full: {free} bytes are free, storage.min.free.bytes is {}", marks.min_free),
        };
        if self.level.replace(level) != level {
            let (mark, reserve) = (marks.min_free, self.reserve.as_ref().map_or(0, Reserve::held));
            self.exhausted.set(false);
            match level {
                Level::Enough => tracing::info!(free, "enough disk space"),
                Level::NearFull => tracing::warn!(free, mark = marks.near_full, "the disk is nearly full"),
                Level::Full => tracing::error!(free, mark, reserve, refused = seen.refused, "the disk is full"),
            }
        }
        let allotment = (marks.room(seen, level) / (2 * shard.shards as u64)).max(ALLOTMENT_MIN);
        let set = SetCall { level, reason, allotment };
        shard.router.call_each(shard, shard.all_shards(), set).await;
    }

    async fn bring_forward(&self, bytes: u64) {
        // The first turn goes to what costs nobody anything: delayed deletions, the journal's spare files, retention itself.
        if self.forwarded_at.replace(Some(now())).is_none() {
            return;
        }
        let freed = forward::free(&self.shard, bytes).await;
        self.metrics.segments.add(freed.segments as u64);
        self.metrics.bytes.add(freed.bytes);
        let exhausted = freed.bytes < bytes;
        if !self.exhausted.replace(exhausted) && exhausted {
            tracing::warn!(missing = bytes - freed.bytes, "no more segments may go before their time");
        }
    }
}
