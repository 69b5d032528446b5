//! A segment: one file of a log, and what is in memory of it.
//!
//! ```text
//! file    |== written ========================|- padding -|. allocated .|
//! chunks              |== clean (cache) ==|==== dirty =======|
//!         0        memory start        written             size
//! ```
//! memory start <= written <= size. What is before the memory start is in the file for certain. Only the last segment of a log
//! is active; the others are sealed, and *finished* once the file has exactly `size` bytes and its `.idx` is beside it.

pub(crate) mod index;
pub(crate) mod index_file;
pub(crate) mod index_heads;
pub(crate) mod scan;
pub(crate) mod txn_index;

use std::collections::VecDeque;
use std::rc::Rc;

use crate::chunk::Chunk;
use crate::model::{LogId, Offset, RaftIndex};
use crate::record::internal::SegmentHeader;
use index::SparseIndex;
use index_file::{Fingerprint, IndexHead};

/// What a segment's header batch says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct SegmentStart {
    /// Of the first entry.
    pub(crate) base_index: RaftIndex,
    pub(crate) previous: Option<LogId>,
    pub(crate) created_ms: i64,
}

impl From<&SegmentHeader> for SegmentStart {
    fn from(h: &SegmentHeader) -> SegmentStart {
        SegmentStart { base_index: h.base_index, previous: h.previous, created_ms: h.created_ms }
    }
}

/// The largest timestamp of a segment and the position of the first batch that has it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Times {
    pub(crate) max_timestamp: i64,
    pub(crate) position: u32,
}

impl Times {
    pub(crate) const NONE: Times = Times { max_timestamp: i64::MIN, position: 0 };

    pub(crate) fn see(&mut self, timestamp: i64, position: u32) {
        if timestamp > self.max_timestamp {
            *self = Times { max_timestamp: timestamp, position };
        }
    }
}

pub(crate) struct Segment {
    pub(crate) base_offset: Offset,
    /// Bytes of batches: the position of the next one.
    pub(crate) size: u32,
    /// `None` of a sealed segment whose header has not been looked at.
    pub(crate) start: Option<SegmentStart>,
    /// `None` of a sealed segment whose index has not been looked at.
    pub(crate) times: Option<Times>,
    pub(crate) index: Option<Rc<SparseIndex>>,
    /// Of the `.idx` file: it knows what is before its `covered`.
    pub(crate) head: Option<Rc<IndexHead>>,
    /// The last batch, if it is known.
    pub(crate) last_batch: Option<Fingerprint>,
    /// The largest timestamp of the first batch with records: what the segment's age counts from. `None` of a segment without
    /// records, and of one whose beginning has not been looked at.
    pub(crate) first_timestamp: Option<i64>,
    pub(crate) tail: Option<Box<Tail>>,
    /// Bytes of the file that have disk blocks.
    pub(crate) allocated: u32,
    pub(crate) has_file: bool,
    /// The file's name is durable.
    pub(crate) named: bool,
    pub(crate) finished: bool,
    /// Compaction has taken offsets out; looked at when they are missed.
    pub(crate) has_gaps: bool,
}

/// What is in memory of a segment's end.
pub(crate) struct Tail {
    /// In order, without gaps up to the segment's size.
    pub(crate) chunks: VecDeque<Chunk>,
    /// Bytes in the file.
    pub(crate) written: u32,
    /// Blocks handed to the disk past the journal end here, those that the journal has been told of at `noted`, and the file's
    /// size for them at `sized`; 0: none (see `log::bypass`).
    pub(crate) issued: u32,
    pub(crate) noted: u32,
    pub(crate) sized: u32,
    /// Where batches that take no offset stand, and their sizes: readers plan around them.
    pub(crate) internal: VecDeque<(u32, u32)>,
    /// Producers as of the segment's base offset: to be written beside it.
    pub(crate) snapshot: Option<Vec<u8>>,
}

impl Segment {
    /// A segment with nothing in it.
    pub(crate) fn begin(base_offset: Offset, start: SegmentStart) -> Segment {
        Segment {
            base_offset,
            size: 0,
            start: Some(start),
            times: Some(Times::NONE),
            index: Some(Rc::new(SparseIndex::new(0))),
            head: None,
            last_batch: None,
            first_timestamp: None,
            tail: None,
            allocated: 0,
            has_file: false,
            named: false,
            finished: false,
            has_gaps: false,
        }
    }

    /// A segment found on the disk.
    pub(crate) fn on_disk(base_offset: Offset, size: u32) -> Segment {
        Segment {
            base_offset,
            size,
            start: None,
            times: None,
            index: None,
            head: None,
            last_batch: None,
            first_timestamp: None,
            tail: None,
            allocated: size,
            has_file: true,
            named: true,
            finished: true,
            has_gaps: false,
        }
    }

    /// Bytes in the file.
    pub(crate) fn written(&self) -> u32 {
        self.tail.as_ref().map_or(self.size, |t| t.written)
    }

    /// What is not in the file yet.
    pub(crate) fn dirty(&self) -> u32 {
        self.size - self.written()
    }

    /// What is before it is read from the file.
    pub(crate) fn memory_start(&self) -> u32 {
        self.tail.as_ref().and_then(|t| t.chunks.front()).map_or(self.size, Chunk::start)
    }

    pub(crate) fn tail_mut(&mut self) -> &mut Tail {
        let size = self.size;
        self.tail.get_or_insert_with(|| {
            Box::new(Tail {
                chunks: VecDeque::new(),
                written: size,
                issued: 0,
                noted: 0,
                sized: 0,
                internal: VecDeque::new(),
                snapshot: None,
            })
        })
    }

    pub(crate) fn index_mut(&mut self) -> &mut SparseIndex {
        // In the first block no entry is missed.
        let from = if self.size <= core_pinning::BLOCK as u32 { 0 } else { self.size };
        Rc::make_mut(self.index.get_or_insert_with(|| Rc::new(SparseIndex::new(from))))
    }

    pub(crate) fn offset_delta(&self, offset: Offset) -> u32 {
        u32::try_from(offset - self.base_offset).unwrap_or(if offset < self.base_offset { 0 } else { u32::MAX })
    }
}
