//! What goes into a log and comes out of it.

use std::sync::Arc;

use bytes::Bytes;

use crate::model::{LogId, NodeId, Offset, PartitionKey, Term};
use crate::options::LogConfig;

/// What an entry of a Raft log is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum EntryKind {
    /// One batch of records.
    Data,
    /// What a new leader appends first: takes no offset.
    Blank,
    /// The group's members: takes no offset.
    Membership,
}

/// One Raft entry.
#[derive(Clone, Debug)]
pub struct LogEntry {
    pub id: LogId,
    pub kind: EntryKind,
    /// `Data`: the whole batch. Its base offset is the log end at its turn, or 0, as producers send it; the log writes the
    /// offset and the term into its own copy.
    /// `Membership`: the payload that [`Log::membership`](crate::Log::membership) gives back. `Blank`: empty.
    pub bytes: Bytes,
}

/// An entry without its bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EntryHeader {
    pub id: LogId,
    pub kind: EntryKind,
    pub base_offset: Offset,
    /// One less than `base_offset` where the entry takes no offset.
    pub last_offset: Offset,
    /// Base offset of the segment that holds it.
    pub segment: Offset,
    /// Of its batch in the segment.
    pub position: u32,
    /// Bytes of its batch.
    pub size: u32,
    pub max_timestamp: i64,
}

impl EntryHeader {
    pub fn next_offset(&self) -> Offset {
        self.last_offset.next()
    }
}

/// A Raft vote.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct VoteRecord {
    pub term: Term,
    pub node: NodeId,
    /// A quorum granted it: the node leads in this term.
    pub committed: bool,
}

/// What a new partition starts with: the vote as persisted, and the membership as the entry at index 0, in the vote's term.
#[derive(Clone, Debug)]
pub struct FirstState {
    pub vote: VoteRecord,
    pub membership: Bytes,
}

/// Names a partition and says how its log behaves.
#[derive(Clone, Debug)]
pub struct PartitionSpec {
    pub topic: Arc<str>,
    pub key: PartitionKey,
    pub config: LogConfig,
}

/// The ends of a log:
///
/// ```text
/// log_start <= high_watermark <= log_end     what consumers may read: [log_start, high_watermark)
/// log_start <= flushed        <= log_end     what is on this disk
/// ```
/// The high watermark may be ahead of `flushed` where other replicas were faster.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bounds {
    pub log_start: Offset,
    /// The offset after the last applied entry.
    pub high_watermark: Offset,
    pub flushed: Offset,
    /// The offset that the next record gets.
    pub log_end: Offset,
}

impl Bounds {
    pub(crate) fn hold(&self) -> bool {
        self.log_start <= self.high_watermark
            && self.high_watermark <= self.log_end
            && self.flushed <= self.log_end
            && self.log_start >= Offset::ZERO
    }
}

/// How much to read.
#[derive(Clone, Copy, Debug)]
pub struct ReadLimit {
    pub max_bytes: usize,
    /// The first batch is returned even if it is larger than `max_bytes`.
    pub at_least_one: bool,
    /// Batches that reach this offset are left out: the high watermark, for consumers.
    pub upto: Offset,
}

/// Whole record batches, in order; none is split between slices. Without gaps, but for those that compaction has left.
#[derive(Clone, Debug, Default)]
pub struct ReadSlices {
    pub slices: Vec<Bytes>,
    /// Base offset of the first batch: may be before the offset asked for, which is then inside the batch, or behind it, if
    /// compaction has taken what was there.
    pub first_offset: Offset,
    /// The offset after the last batch; where to read on.
    pub next_offset: Offset,
    pub bytes: usize,
}

/// One segment file, for tools and DescribeLogDirs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SegmentInfo {
    pub base_offset: Offset,
    pub bytes: u64,
    pub active: bool,
}
