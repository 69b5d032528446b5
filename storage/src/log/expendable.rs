//! What a log could let go before its time, when the disk is nearly full.

use super::Log;
use crate::error::StorageError;
use crate::model::Offset;

/// A sealed segment, all of whose entries are applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expendable {
    /// Where the log would begin without it and those before it: for [`Log::trim`].
    pub end: Offset,
    pub bytes: u64,
    /// Of all records up to `end`; `i64::MIN` if there are none.
    pub max_timestamp: i64,
}

impl Log {
    /// The oldest segments that could be deleted, in the order of the log, until they make `bytes` together. It ends at the
    /// active segment, at the first one with an entry that is not applied, and at the first one with a record at or after
    /// `before_ms`. Whether the topic's retention may be cut short is for the caller to know.
    pub async fn expendable(&self, before_ms: i64, bytes: u64) -> Result<Vec<Expendable>, StorageError> {
        let (sealed, high_watermark): (Vec<(Offset, Offset, u64)>, Offset) = {
            let state = self.0.state.borrow();
            if state.fenced.is_some() {
                return Ok(Vec::new());
            }
            let pairs = state.segments.iter().zip(state.segments.iter().skip(1));
            let sealed = pairs.map(|(s, next)| (s.base_offset, next.base_offset, u64::from(s.size)));
            (sealed.collect(), state.applied.next_offset)
        };
        let mut found = Vec::new();
        let (mut total, mut max_timestamp) = (0, i64::MIN);
        for (base, end, size) in sealed {
            if total >= bytes || end > high_watermark {
                break;
            }
            if self.0.state.borrow().segment_at(base).is_some_and(|s| s.times.is_none()) {
                self.0.load_index(base).await?;
            }
            let times = self.0.state.borrow().segment_at(base).and_then(|s| s.times);
            // Gone meanwhile, or written a moment ago.
            let Some(times) = times.filter(|t| t.max_timestamp < before_ms) else { break };
            max_timestamp = max_timestamp.max(times.max_timestamp);
            total += size;
            found.push(Expendable { end, bytes: size, max_timestamp });
        }
        Ok(found)
    }
}
