//! What can go wrong with a log, and what the caller may do about it.
//!
//! The rule for a disk that fails. "Ends" is [`StorageError::JournalFailed`]: the store takes nothing any more and the process
//! ends with the reason `journal`; the next start finds everything that was acknowledged. "Full" is ENOSPC or EDQUOT.
//!
//! | file                     | operation                     | error | what follows                                           |
//! |--------------------------|-------------------------------|-------|--------------------------------------------------------|
//! | journal                  | write                         | any   | ends: what reached the disk is unknown                 |
//! | next journal file        | make, rename, sync            | full  | the shard takes no data, what is essential goes on as  |
//! |                          |                               |       | long as the current file does; tried again             |
//! |                          |                               | other | ends                                                   |
//! | segment                  | written back                  | full  | the shard takes no data; tried again                   |
//! |                          |                               | other | the partition takes no data; tried again; ends when    |
//! |                          |                               |       | the journal needs the files that hold its records, and |
//! |                          |                               |       | `write_back_patience` is over                          |
//! | segment                  | a large append                | any   | its bytes go to the journal, and are written back      |
//! | segment, directory       | sync at a checkpoint          | any   | ends: a sync that failed is never tried again          |
//! | state of a partition     | written at a checkpoint       | full  | the journal keeps its files; tried again               |
//! |                          |                               | other | ends                                                   |
//! | segment, index           | read for a fetch or a look-up | any   | that call fails; the partition stays                   |
//! | segment                  | read, and found damaged       |       | the partition is fenced (`Corrupt`)                    |
//! | index, producer snapshot | written as a shortcut         | any   | noted: it is made from the log                         |
//! | state of a partition     | read when it is opened        | any   | the partition does not open; the next attempt may      |
//! | segment out of the log   | removed                       | any   | the log start has moved, durably; the next start       |
//! |                          |                               |       | removes the file                                       |
//! | deleted partition        | removed                       | any   | it is deleted, durably; the next start removes what is |
//! |                          |                               |       | left                                                   |
//! | journal, segments        | read or written at the start  | any   | the start fails and leaves all for the next one        |
//!
//! The broker answers a fenced partition, one that did not open, and a call that failed with KAFKA_STORAGE_ERROR.

use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::model::{LogId, Offset, PartitionKey};

/// Why the engine refused or could not do something. Cheap to clone: one failed write may answer many waiters.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StorageError {
    /// A journal write or a checkpoint's sync failed: what reached the disk is unknown, so the store takes nothing any more.
    /// End the process; the next start recovers everything that was acknowledged.
    #[error("the journal failed: {reason}")]
    JournalFailed { reason: Arc<str> },
    /// There is no room for more. Nothing was appended, nothing acknowledged is lost; try again later.
    #[error("disk full: {reason}")]
    DiskFull { reason: Arc<str> },
    /// Bytes that were durable are not what they were. The partition is fenced: it neither reads past the damage nor takes
    /// appends, until an operator restores or deletes it.
    #[error("{partition} is damaged at {:020}.log, position {position}: {reason}", segment.0)]
    Corrupt { partition: PartitionKey, segment: Offset, position: u64, reason: Arc<str> },
    /// What a shard's journal held is lost, or what it must hold is not known: any of the shard's partitions may have lost
    /// acknowledged records. The start is refused and, if no shard goes on, nothing was changed.
    #[error(
        "{path}: {reason}. Acknowledged records may be lost, so nothing is opened. Bring the file back; to go on without what \
         was in it, move journal/{shard} and ledger/{shard} out of the data directory"
    )]
    JournalLost { shard: u16, path: Arc<str>, reason: Arc<str> },
    /// The disk refused an operation on this partition. Retry.
    #[error("{operation} {path}: {reason}")]
    Io { operation: &'static str, path: Arc<str>, kind: io::ErrorKind, reason: Arc<str> },
    /// A file was written by a newer release.
    #[error("{path} has format version {found}, this release knows up to {known}")]
    Version { path: Arc<str>, found: u16, known: u16 },
    #[error("no such partition: {0}")]
    NotFound(PartitionKey),
    #[error("{0} exists already")]
    Exists(PartitionKey),
    /// The partition was deleted meanwhile.
    #[error("{0} is deleted")]
    Deleted(PartitionKey),
    /// `Store::close` was called.
    #[error("the store is closed")]
    Closed,
    /// An entry that does not continue the log, a trim beyond the high watermark: the caller's mistake. Nothing was done.
    #[error("{0}")]
    Refused(Arc<str>),
    /// The entry is not in the log: purged, or not yet written.
    #[error("there is no entry {0}")]
    NoEntry(LogId),
}

impl StorageError {
    pub(crate) fn io(operation: &'static str, path: &Path, error: &io::Error) -> StorageError {
        let reason: Arc<str> = error.to_string().into();
        if is_disk_full(error) {
            return StorageError::DiskFull { reason: format!("{operation} {}: {reason}", path.display()).into() };
        }
        StorageError::Io { operation, path: path.to_string_lossy().into(), kind: error.kind(), reason }
    }

    pub(crate) fn refused(reason: impl Into<Arc<str>>) -> StorageError {
        StorageError::Refused(reason.into())
    }
}

/// ENOSPC or EDQUOT.
pub(crate) fn is_disk_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Adds what was being done to an `io::Result`.
pub(crate) trait Doing<T> {
    fn doing(self, operation: &'static str, path: &Path) -> Result<T, StorageError>;
}

impl<T> Doing<T> for io::Result<T> {
    fn doing(self, operation: &'static str, path: &Path) -> Result<T, StorageError> {
        self.map_err(|error| StorageError::io(operation, path, &error))
    }
}

/// Why a read gave nothing.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ReadError {
    /// Before the log start or after the log end (Kafka's OFFSET_OUT_OF_RANGE).
    #[error("offset out of range")]
    OutOfRange,
    #[error(transparent)]
    Storage(#[from] StorageError),
}
