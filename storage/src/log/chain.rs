//! Whether a log's closed segments are all there, when it is opened: each must end where the next one begins.
//!
//! Where a segment ends its index says: the file with the heads of all indexes, which is read once, or the segment's own. What no index
//! speaks of is looked at when it is first read ([`check_end`](LogInner::check_end) then): nothing is scanned for this.

use std::rc::Rc;

use super::LogInner;
use crate::error::StorageError;
use crate::model::Offset;
use crate::recovery::decision::index::{End, Index};
use crate::segment::index_file::Covers;

impl LogInner {
    /// An error, and the log is fenced, if a segment is missing between two others.
    pub(super) async fn check_chain(self: &Rc<Self>) -> Result<(), StorageError> {
        if self.state.borrow().segments.len() < 2 {
            return Ok(());
        }
        self.load_heads().await?;
        let sealed: Vec<(Offset, u32, Option<Covers>)> = {
            let state = self.state.borrow();
            let last = state.active().base_offset;
            let sealed = state.segments.iter().filter(|s| s.base_offset < last);
            sealed.map(|s| (s.base_offset, s.size, s.head.as_ref().map(|head| head.covers))).collect()
        };
        for (base, size, known) in sealed {
            let covers = match known {
                Some(covers) => Some(covers),
                None => self.read_head(base).await?.map(|(head, _)| head.covers),
            };
            let Some(covers) = covers.filter(|c| self.is_of(c, base, size) && c.covered == size) else { continue };
            if self.state.borrow().end_of(base, covers.next_offset) == End::Meets {
                continue;
            }
            // Not on the word of a file that is never synced.
            let file = self.open_segment(base, false).await?;
            if self.matches(&file, &covers).await? {
                self.check_end(base, Index::Usable, covers.next_offset).await?;
            }
            core_pinning::yield_if_needed().await;
        }
        Ok(())
    }
}
