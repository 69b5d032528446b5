//! Fetch of one partition: what a consumer at an offset gets now, and how it waits for more.

use std::rc::Rc;

use bytes::Bytes;
use corelane_protocol::ErrorCode;
use corelane_storage::model::Offset;
use corelane_storage::producer_state::AbortedTransaction;
use corelane_storage::record::{Batches, Codec};
use corelane_storage::{ReadError, ReadLimit};

use super::{FetchWaiter, Partition, storage_error};

/// The epochs a client sends along; negative where it knows none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochCheck {
    pub current_leader_epoch: i32,
    /// Fetch v12+: epoch of the last record that the client has.
    pub last_fetched_epoch: i32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FetchRead {
    pub offset: i64,
    pub max_bytes: usize,
    /// Answer with the first batch even if it is larger than `max_bytes`.
    pub at_least_one: bool,
    pub epochs: EpochCheck,
    /// The client can read zstd (KIP-110: Fetch v10+).
    pub zstd: bool,
    /// Read only what is decided (`read_committed`).
    pub committed: bool,
    /// Who asks says that it is a replica.
    pub replica: bool,
}

#[derive(Clone, Debug)]
pub struct FetchedRecords {
    pub error: ErrorCode,
    pub high_watermark: i64,
    pub last_stable_offset: i64,
    pub log_start: i64,
    /// `(epoch, end offset)`: the client's log left ours there.
    pub diverging: Option<(i32, i64)>,
    pub slices: Vec<Bytes>,
    pub bytes: usize,
    /// Where `committed` was asked for: transactions of which the slices may hold records that are to be left out.
    pub aborted: Vec<AbortedTransaction>,
}

impl FetchedRecords {
    pub fn failed(error: ErrorCode) -> FetchedRecords {
        FetchedRecords {
            error,
            high_watermark: -1,
            last_stable_offset: -1,
            log_start: -1,
            diverging: None,
            slices: Vec::new(),
            bytes: 0,
            aborted: Vec::new(),
        }
    }

    pub fn without_records(&self) -> FetchedRecords {
        let FetchedRecords { error, high_watermark, last_stable_offset, log_start, diverging, .. } = *self;
        FetchedRecords { high_watermark, last_stable_offset, log_start, diverging, ..FetchedRecords::failed(error) }
    }

    /// How far a reader may read.
    pub fn readable_end(&self, committed: bool) -> i64 {
        if committed { self.last_stable_offset } else { self.high_watermark }
    }
}

fn has_zstd(slices: &[Bytes]) -> bool {
    slices.iter().any(|slice| {
        let mut batches = Batches::new(slice.clone()).flatten();
        batches.any(|(header, _)| header.compression() == Ok(Codec::Zstd))
    })
}

impl Partition {
    /// Whether a fetch from `offset` on need not wait for the disk.
    pub fn has_in_memory(&self, offset: i64) -> bool {
        self.log.has_in_memory(Offset(offset))
    }

    pub async fn fetch(&self, read: FetchRead) -> FetchedRecords {
        if self.is_deleted() {
            return FetchedRecords::failed(ErrorCode::UnknownTopicOrPartition);
        }
        if let Err(error) = self.check_epoch(read.epochs.current_leader_epoch) {
            return FetchedRecords::failed(error);
        }
        // Replicas do not fetch here, so it is none that is known (Kafka: `Partition.followerReplicaOrThrow`).
        if read.replica {
            return FetchedRecords::failed(match read.epochs.current_leader_epoch {
                -1 => ErrorCode::NotLeaderOrFollower,
                _ => ErrorCode::UnknownLeaderEpoch,
            });
        }
        let bounds = self.bounds();
        let diverging = match self.divergence(read.offset, read.epochs.last_fetched_epoch) {
            Ok(diverging) => diverging,
            Err(error) => return FetchedRecords::failed(error),
        };
        if diverging.is_none() && (read.offset < bounds.log_start.0 || read.offset > bounds.log_end.0) {
            return FetchedRecords::failed(ErrorCode::OffsetOutOfRange);
        }
        let mut fetched = FetchedRecords {
            high_watermark: bounds.high_watermark.0,
            last_stable_offset: self.log.last_stable_offset().0,
            log_start: bounds.log_start.0,
            diverging,
            ..FetchedRecords::failed(ErrorCode::None)
        };
        if fetched.diverging.is_some() {
            return fetched;
        }
        let upto = Offset(fetched.readable_end(read.committed));
        let limit = ReadLimit { max_bytes: read.max_bytes, at_least_one: read.at_least_one, upto };
        if read.offset >= upto.0 || (read.max_bytes == 0 && !read.at_least_one) {
            return fetched;
        }
        let slices = match self.log.read(Offset(read.offset), limit).await {
            Ok(slices) if read.committed && slices.bytes > 0 => {
                let aborted = self.log.aborted_transactions(Offset(read.offset), slices.next_offset).await;
                aborted.map(|aborted| {
                    fetched.aborted = aborted;
                    slices
                })
            }
            other => other,
        };
        match slices {
            Ok(slices) if !read.zstd && has_zstd(&slices.slices) => {
                FetchedRecords::failed(ErrorCode::UnsupportedCompressionType)
            }
            Ok(slices) => {
                fetched.bytes = slices.bytes;
                fetched.slices = slices.slices;
                fetched
            }
            // The log start moved while the disk was read.
            Err(ReadError::OutOfRange) => FetchedRecords::failed(ErrorCode::OffsetOutOfRange),
            Err(ReadError::Storage(error)) => {
                tracing::error!(topic = %self.topic, partition = self.index, offset = read.offset, %error, "fetch failed");
                FetchedRecords::failed(storage_error(&error))
            }
        }
    }

    /// KIP-595: where the client's epoch ended here, if that is before what it has. An error where nothing is known of it.
    fn divergence(&self, offset: i64, last_fetched_epoch: i32) -> Result<Option<(i32, i64)>, ErrorCode> {
        if last_fetched_epoch < 0 {
            return Ok(None);
        }
        let (epoch, end) = self.end_offset_for_epoch(last_fetched_epoch);
        if epoch < 0 || end < 0 || offset < self.bounds().log_start.0 {
            return Err(ErrorCode::OffsetOutOfRange);
        }
        Ok((epoch < last_fetched_epoch || end < offset).then_some((epoch, end)))
    }

    /// Counts what arrives here against `waiter` until [`Partition::forget`]. `seen`: the high watermark (or, of what is
    /// `committed`, the last stable offset) that the fetch has already looked at; growth since then counts at once.
    pub fn watch(&self, waiter: &Rc<FetchWaiter>, seen: i64, committed: bool) {
        self.waiters.add(waiter, committed);
        let end = if committed { self.log.last_stable_offset() } else { self.bounds().high_watermark };
        if self.is_deleted() || end.0 > seen {
            waiter.fire();
        }
    }

    pub fn forget(&self, waiter: &Rc<FetchWaiter>, committed: bool) {
        self.waiters.remove(waiter, committed);
    }

    /// Waits until anything is applied, or the partition is deleted.
    pub(super) async fn grown(&self) {
        struct Waiting<'a>(&'a Partition, Rc<FetchWaiter>);
        impl Drop for Waiting<'_> {
            fn drop(&mut self) {
                self.0.forget(&self.1, false);
            }
        }
        let waiting = Waiting(self, FetchWaiter::new(1));
        self.waiters.add(&waiting.1, false);
        waiting.1.fired().await;
    }
}
