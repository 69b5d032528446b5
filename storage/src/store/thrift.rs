//! What a store keeps for speed or for comfort, and does without when the disk is nearly full: spare journal files, full ones
//! that only wait to be many, and the files of segments that are out of their logs (`file.delete.delay.ms`).

use std::cell::Cell;

use core_pinning::sync::Event;

use super::Store;
use crate::error::StorageError;

/// Spare journal files that are kept all the same: the next file is one of them.
const SPARES: usize = 1;

/// Whether the store does without.
#[derive(Default)]
pub(crate) struct Thrift {
    on: Cell<bool>,
    changed: Event,
}

impl Thrift {
    pub(crate) fn is_on(&self) -> bool {
        self.on.get()
    }

    /// Waits until the store does without.
    pub(crate) async fn begun(&self) {
        self.changed.wait_for(|| self.on.get()).await
    }
}

impl Store {
    /// Waits until the store has failed for good (`StorageError::JournalFailed`): the process should end.
    pub async fn failed(&self) -> StorageError {
        self.0.shared.journal.failed().await
    }

    /// Whether the store shall do without what takes space and is not needed. Turning it on gives back what there is of it, in
    /// the background.
    pub fn set_thrift(&self, on: bool) {
        let shared = &self.0.shared;
        if shared.thrift.on.replace(on) == on {
            return;
        }
        shared.journal.set_spares_max(if on { SPARES } else { shared.options.journal_files_max });
        shared.thrift.changed.notify_all();
        // Checkpoints look how many files are full.
        shared.journal.notify_progress();
    }
}
