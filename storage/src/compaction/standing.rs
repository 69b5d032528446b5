//! How far compaction of a log has come.
#![deny(clippy::unwrap_used, clippy::indexing_slicing)]

use std::cell::{Cell, RefCell};

use core_pinning::sync::{Permit, Semaphore};

use super::plan::Plan;
use super::swap::Swap;
use crate::error::StorageError;
use crate::layout;
use crate::log::LogInner;
use crate::model::Offset;
use crate::sealed::{self, SealError};

const MAGIC: [u8; 4] = *b"CLCC";
const VERSION: u16 = 0;

/// Where a log stands with compaction.
pub(crate) struct Standing {
    /// Retention, trimming and swaps change the list of sealed segments: one at a time.
    alone: Semaphore,
    /// The `indexes` file is replaced by one at a time.
    indexes: Semaphore,
    running: Cell<bool>,
    /// `None`: the file has not been looked at.
    first_dirty: Cell<Option<Offset>>,
    /// First dirty offset and end of a pass that got nowhere: its first transaction had not ended.
    stuck: Cell<Option<(Offset, Offset)>>,
    /// A swap that was begun and could not be finished.
    pub(super) swap: RefCell<Option<Swap>>,
}

impl Default for Standing {
    fn default() -> Standing {
        Standing {
            alone: Semaphore::new(1),
            indexes: Semaphore::new(1),
            running: Cell::default(),
            first_dirty: Cell::default(),
            stuck: Cell::default(),
            swap: RefCell::default(),
        }
    }
}

pub(super) struct Running<'a>(&'a Cell<bool>);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.set(false);
    }
}

impl Standing {
    /// Waits for the turn to change the list of sealed segments.
    pub(crate) async fn alone(&self) -> Permit<'_> {
        self.alone.acquire(1).await
    }

    /// Waits for the turn to change the `indexes` file.
    pub(crate) async fn alone_with_indexes(&self) -> Permit<'_> {
        self.indexes.acquire(1).await
    }

    pub(super) fn note_stuck(&self, plan: &Plan) {
        self.stuck.set(plan.range());
    }

    /// True if a pass over the same segments got nowhere.
    pub(super) fn is_stuck(&self, plan: &Plan) -> bool {
        self.stuck.get().is_some() && self.stuck.get() == plan.range()
    }

    /// `None` if a pass runs already.
    pub(super) fn begin(&self) -> Option<Running<'_>> {
        (!self.running.replace(true)).then(|| Running(&self.running))
    }
}

impl LogInner {
    /// The offset from which on records have not been compacted. Zero if the file is missing or damaged: then everything is
    /// looked at again.
    pub(super) async fn first_dirty(&self) -> Result<Offset, StorageError> {
        let known = match self.compaction.first_dirty.get() {
            Some(known) => known,
            None => {
                let bytes = crate::durable::read(&self.dir.join(layout::CLEANER_FILE)).await?;
                bytes.and_then(|bytes| decode(&bytes).ok()).unwrap_or(Offset::ZERO)
            }
        };
        self.compaction.first_dirty.set(Some(known));
        let bounds = self.state.borrow().bounds();
        // As Kafka: a checkpoint outside the log is not believed.
        Ok(if known < bounds.log_start || known > bounds.log_end { bounds.log_start } else { known })
    }

    pub(super) async fn set_first_dirty(&self, offset: Offset) {
        self.compaction.first_dirty.set(Some(offset));
        let mut file = Vec::new();
        sealed::seal(MAGIC, VERSION, &offset.0.to_be_bytes(), &mut file);
        self.write_shortcut(&self.dir.join(layout::CLEANER_FILE), file).await;
    }
}

/// What the file says.
pub(crate) fn decode(mut bytes: &[u8]) -> Result<Offset, SealError> {
    let (_, mut fields) = sealed::open(MAGIC, VERSION, &mut bytes)?;
    let offset = Offset(i64::from_be_bytes(fields.array()?)).known().ok_or(SealError::Contents)?;
    fields.end()?;
    Ok(offset)
}
