//! Which segments a pass may take, and which of them become one (Kafka's `LogCleanerManager.cleanableOffsets`,
//! `Cleaner.groupSegmentsBySize`).
#![deny(clippy::unwrap_used, clippy::indexing_slicing)]

use std::rc::Rc;

use crate::error::StorageError;
use crate::log::{Log, LogInner};
use crate::model::Offset;
use crate::options::LogConfig;

/// Segments that become one, at most: their files are held open for a moment.
const GROUP_MAX: usize = 64;

/// What compacting a log would gain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cleanable {
    pub clean_bytes: u64,
    /// Not compacted yet, and old enough for it.
    pub dirty_bytes: u64,
    /// `max.compaction.lag.ms` is over for some of them.
    pub overdue: bool,
    /// `min.cleanable.dirty.ratio` is reached.
    pub dirty_enough: bool,
}

impl Cleanable {
    /// The dirty part of what can be compacted, 0 to 1.
    pub fn dirty_ratio(&self) -> f64 {
        self.dirty_bytes as f64 / (self.dirty_bytes + self.clean_bytes).max(1) as f64
    }

    /// True if a pass should be made.
    pub fn is_due(&self) -> bool {
        self.dirty_bytes > 0 && (self.overdue || self.dirty_enough)
    }
}

/// A segment to compact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Source {
    pub(super) base: Offset,
    /// Where the next one begins.
    pub(super) end: Offset,
    pub(super) size: u32,
}

pub(super) struct Plan {
    /// From the log's first segment on.
    pub(super) sources: Vec<Source>,
    pub(super) first_dirty: Offset,
}

impl Plan {
    pub(super) fn dirty(&self) -> impl Iterator<Item = &Source> {
        self.sources.iter().filter(|s| s.end > self.first_dirty)
    }

    /// Where a pass begins and where it could end.
    pub(super) fn range(&self) -> Option<(Offset, Offset)> {
        self.sources.last().map(|last| (self.first_dirty, last.end))
    }

    /// True if all its segments are still in the log.
    pub(super) fn is_in(&self, log: &LogInner) -> bool {
        let state = log.state.borrow();
        self.sources.first().is_none_or(|first| state.segment_at(first.base).is_some()) && state.fenced.is_none()
    }

    pub(super) fn dirty_bytes(&self) -> u64 {
        self.dirty().map(|s| u64::from(s.size)).sum()
    }
}

impl Log {
    /// What a pass over the log would find; `None` if it is not to be compacted. Closes the active segment if it has records
    /// for which `max.compaction.lag.ms` is over.
    pub async fn cleanable(&self, now_ms: i64) -> Result<Option<Cleanable>, StorageError> {
        let config = self.config();
        if !config.cleanup.compact {
            return Ok(None);
        }
        let limit_ms = now_ms.saturating_sub(config.max_compaction_lag_ms);
        let limited = config.max_compaction_lag_ms < i64::MAX;
        if limited {
            self.0.roll_older_than(limit_ms).await?;
        }
        let Some(plan) = plan(&self.0, now_ms).await? else { return Ok(None) };
        let dirty_bytes = plan.dirty_bytes();
        let clean_bytes = plan.sources.iter().map(|s| u64::from(s.size)).sum::<u64>() - dirty_bytes;
        let mut overdue = false;
        if let Some(first) = plan.dirty().next().filter(|_| limited) {
            overdue = self.0.first_timestamp(first.base).await?.is_some_and(|t| t < limit_ms);
        }
        let enough = (dirty_bytes + clean_bytes) as f64 * f64::from(config.min_cleanable_ratio_ppm) / 1e6;
        let dirty_enough = dirty_bytes as f64 > enough;
        Ok(Some(Cleanable { clean_bytes, dirty_bytes, overdue, dirty_enough }))
    }
}

/// What can be compacted now.
pub(super) async fn plan(log: &Rc<LogInner>, now_ms: i64) -> Result<Option<Plan>, StorageError> {
    let first_dirty = log.first_dirty().await?;
    let (mut sources, min_lag_ms) = {
        let state = &mut *log.state.borrow_mut();
        if state.fenced.is_some() || !state.config.cleanup.compact {
            return Ok(None);
        }
        state.settle_applied();
        // What is not applied or not durable may yet be cut off, and where the points lie places must not move.
        let limit = state.active().base_offset.min(state.applied.segment).min(state.flushed.segment);
        let pairs = state.segments.iter().zip(state.segments.iter().skip(1));
        let sealed = pairs.take_while(|(s, _)| s.finished && s.base_offset < limit);
        let sources = sealed.map(|(s, next)| Source { base: s.base_offset, end: next.base_offset, size: s.size });
        (sources.collect::<Vec<_>>(), state.config.min_compaction_lag_ms)
    };
    if min_lag_ms > 0 {
        let young = now_ms.saturating_sub(min_lag_ms);
        let mut old = 0;
        for source in &sources {
            if source.end > first_dirty {
                log.load_times(source.base).await?;
                let times = log.state.borrow().segment_at(source.base).and_then(|s| s.times);
                if times.is_none_or(|t| t.max_timestamp > young) {
                    break;
                }
            }
            old += 1;
        }
        sources.truncate(old);
    }
    Ok(Some(Plan { sources, first_dirty }))
}

/// Neighbours that fit into one segment by the topic's limits.
pub(super) fn groups(sources: &[Source], config: &LogConfig) -> Vec<Vec<Source>> {
    let mut groups: Vec<Vec<Source>> = Vec::new();
    // What Kafka's index entries (8 bytes) would take.
    let index_limit = u64::from(config.segment_index_bytes) / 8 * u64::from(config.index_interval_bytes.max(1));
    let limit = u64::from(config.segment_bytes).min(index_limit);
    let mut size = 0;
    for source in sources {
        size += u64::from(source.size);
        match groups.last_mut() {
            Some(group)
                if size <= limit
                    && group.len() < GROUP_MAX
                    && group.first().is_some_and(|f| source.end - f.base <= i64::from(i32::MAX)) =>
            {
                group.push(*source);
            }
            _ => {
                size = source.size.into();
                groups.push(vec![*source]);
            }
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_joined_up_to_the_limits() {
        let source = |n: i64, size| Source { base: Offset(n * 10), end: Offset(n * 10 + 10), size };
        let config = LogConfig { segment_bytes: 100, ..LogConfig::default() };
        let sizes = |groups: Vec<Vec<Source>>| -> Vec<Vec<u32>> {
            groups.iter().map(|g| g.iter().map(|s| s.size).collect()).collect()
        };
        let sources = [source(0, 60), source(1, 40), source(2, 1), source(3, 200), source(4, 30), source(5, 30)];
        assert_eq!(sizes(groups(&sources, &config)), [vec![60, 40], vec![1], vec![200], vec![30, 30]]);
        let far = [source(0, 1), Source { base: Offset(10), end: Offset(1 << 40), size: 1 }];
        assert_eq!(sizes(groups(&far, &config)), [vec![1], vec![1]], "offsets in a segment fit 31 bits");
        let small = LogConfig { segment_index_bytes: 8, index_interval_bytes: 50, ..config };
        assert_eq!(sizes(groups(&sources[..2], &small)), [vec![60], vec![40]], "so does its index in its own bound");
    }
}
