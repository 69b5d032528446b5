//! What is said of a segment beside it, against its batches: by the head of its `.idx` file, and by the file that has the heads of all.

use std::path::PathBuf;

use super::Findings;
use crate::model::Offset;
use crate::record::BatchHeader;
use crate::segment::Times;
use crate::segment::index_file::Covers;

/// Follows the batches of a segment.
pub(super) struct Heads {
    said: Vec<(PathBuf, Covers)>,
    times: Times,
}

impl Heads {
    pub(super) fn new(said: Vec<(PathBuf, Covers)>) -> Heads {
        Heads { said, times: Times::NONE }
    }

    /// A batch that is damaged: what is said of all up to some place cannot be compared any more.
    pub(super) fn lose(&mut self) {
        self.said.clear();
    }

    /// Takes in a batch, in the segment's order. `base`: of the segment.
    pub(super) fn see(&mut self, base: Offset, position: u64, header: &BatchHeader, findings: &mut Findings<'_>) {
        let position = u32::try_from(position).unwrap_or(u32::MAX);
        if !header.is_internal() && header.count > 0 {
            self.times.see(header.max_timestamp, position);
        }
        for (path, covers) in &self.said {
            // It is of another past where the last batch is not this one: then nobody believes it.
            if covers.base_offset != base || covers.last_batch.position != position || !covers.is_end_of(header) {
                continue;
            }
            if covers.times != self.times {
                let what = format!(
                    "it says that the latest timestamp is {} at {}, the log {} at {}",
                    covers.times.max_timestamp, covers.times.position, self.times.max_timestamp, self.times.position
                );
                findings.damage(path, None, what);
            }
        }
    }
}
