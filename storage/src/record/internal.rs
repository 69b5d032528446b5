//! Batches of our own that stand between the records and take no offset: Raft's blank and membership entries, and the
//! header of a segment file.
//!
//! Each is a Kafka batch with zero records, the control bit, and a last offset delta of -1, so that its "last offset" is one
//! below its base offset and the next record still gets the base offset. Kafka's tools read over them. A client cannot
//! send one (control batches from clients are refused), and the empty batches that Kafka's compaction leaves keep
//! a last offset delta of 0 or more.
//!
//! ```text
//! 61 bytes  batch header: control bit, no codec, count 0, last_offset_delta -1, no producer
//!  4 bytes  b"CLNi"
//!  1 byte   kind: 0 blank, 1 membership, 2 segment header
//!  1 byte   format version of that kind (0)
//!           payload
//! ```
//! The batch's CRC-32C covers all of it but base offset, length and leader epoch (as in every batch).

use bytes::{BufMut, Bytes, BytesMut};

use super::header::{BatchHeader, HEADER_BYTES, MAGIC, seal};
use crate::model::{
    LogId, Offset, PartitionKey, ProducerEpoch, ProducerId, RaftIndex, Sequence, Term, TimestampType, TopicId,
};

const MARK: &[u8; 4] = b"CLNi";
const PREFIX_BYTES: usize = 6;
const FORMAT: u8 = 0;

const BLANK: u8 = 0;
const MEMBERSHIP: u8 = 1;
const SEGMENT_HEADER: u8 = 2;

/// Bytes of every segment header batch: the position of the first entry of a segment file.
pub const SEGMENT_HEADER_BYTES: usize = HEADER_BYTES + PREFIX_BYTES + 2 + 16 + 4 + 8 + 8 + 1 + 8 + 8 + 8;

/// What a batch of a log is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum BatchKind {
    /// Records, or what compaction left of them.
    Data,
    /// A transaction marker: takes an offset, clients skip it.
    Control,
    InternalBlank,
    InternalMembership,
    SegmentHeader,
    /// Internal, of a kind or version this build does not know: a newer one wrote the log.
    InternalUnknown,
}

impl BatchKind {
    /// True for what readers never see and no offset counts.
    pub fn is_internal(self) -> bool {
        !matches!(self, BatchKind::Data | BatchKind::Control)
    }
}

/// Tells what the whole batch `batch` with header `header` is.
pub fn classify(header: &BatchHeader, batch: &[u8]) -> BatchKind {
    if !header.is_internal() {
        return if header.is_control() { BatchKind::Control } else { BatchKind::Data };
    }
    match payload(header, batch) {
        Some((BLANK, FORMAT, _)) => BatchKind::InternalBlank,
        Some((MEMBERSHIP, FORMAT, _)) => BatchKind::InternalMembership,
        Some((SEGMENT_HEADER, FORMAT, _)) => BatchKind::SegmentHeader,
        _ => BatchKind::InternalUnknown,
    }
}

fn payload<'a>(header: &BatchHeader, batch: &'a [u8]) -> Option<(u8, u8, &'a [u8])> {
    let (mark, rest) = batch.get(HEADER_BYTES..header.size())?.split_first_chunk::<4>()?;
    let ([kind, format], payload) = rest.split_first_chunk::<2>()?;
    (mark == MARK).then_some((*kind, *format, payload))
}

/// The entry a new leader appends first.
pub fn blank(term: Term, base_offset: Offset) -> Bytes {
    build(term, base_offset, 0, BLANK, &[])
}

/// A membership entry; the payload is the Raft crate's own.
pub fn membership(term: Term, base_offset: Offset, payload: &[u8]) -> Bytes {
    build(term, base_offset, 0, MEMBERSHIP, payload)
}

/// The payload of a membership batch; `None` of any other batch.
pub fn membership_payload(batch: &[u8]) -> Option<&[u8]> {
    let header = BatchHeader::parse(batch).ok()?;
    match payload(&header, batch) {
        Some((MEMBERSHIP, FORMAT, payload)) if header.is_internal() => Some(payload),
        _ => None,
    }
}

/// The first batch of every segment file. It is no Raft entry: the entry after it has `base_index`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SegmentHeader {
    /// Version of the segment's own format, beyond that of this header.
    pub format: u16,
    pub key: PartitionKey,
    /// The offset of the first record that can be in the segment: its file name.
    pub base_offset: Offset,
    /// The Raft index of the first entry after this header.
    pub base_index: RaftIndex,
    /// The entry before `base_index`; `None` in a log's first segment.
    pub previous: Option<LogId>,
    /// The term in which the segment was begun.
    pub term: Term,
    /// When it was begun, wall clock, ms.
    pub created_ms: i64,
}

/// Batches follow each other without gaps, and the index of each is the segment's base index + its ordinal.
pub const SEGMENT_FORMAT: u16 = 0;
/// Made by compaction: offsets have gaps, and the entries have no index any more.
pub const SEGMENT_FORMAT_COMPACTED: u16 = 1;
/// The newest segment format this build writes and reads.
pub const SEGMENT_FORMAT_MAX: u16 = SEGMENT_FORMAT_COMPACTED;

/// Builds the header batch of a segment: always `SEGMENT_HEADER_BYTES` bytes.
pub fn segment_header(header: &SegmentHeader) -> Bytes {
    let mut payload = BytesMut::with_capacity(SEGMENT_HEADER_BYTES);
    payload.put_u16(header.format);
    payload.put_slice(&header.key.topic.0);
    payload.put_u32(header.key.partition);
    payload.put_i64(header.base_offset.0);
    payload.put_u64(header.base_index.0);
    let previous = header.previous.unwrap_or_default();
    payload.put_u8(u8::from(header.previous.is_some()));
    payload.put_u64(previous.term.0);
    payload.put_u64(previous.index.0);
    payload.put_u64(header.term.0);
    build(header.term, header.base_offset, header.created_ms, SEGMENT_HEADER, &payload)
}

/// Reads what `segment_header` wrote; `None` if the batch is not one. The caller has checked the CRC, and looks at `format`.
pub fn parse_segment_header(batch: &[u8]) -> Option<SegmentHeader> {
    let head = BatchHeader::parse(batch).ok()?;
    let (SEGMENT_HEADER, FORMAT, mut rest) = payload(&head, batch)? else { return None };
    if !head.is_internal() {
        return None;
    }
    let mut header = SegmentHeader {
        format: u16::from_be_bytes(take(&mut rest)?),
        key: PartitionKey { topic: TopicId(take(&mut rest)?), partition: u32::from_be_bytes(take(&mut rest)?) },
        base_offset: Offset(i64::from_be_bytes(take(&mut rest)?)),
        base_index: RaftIndex(u64::from_be_bytes(take(&mut rest)?)),
        previous: None,
        term: Term(0),
        created_ms: head.base_timestamp,
    };
    let [has_previous] = take::<1>(&mut rest)?;
    let previous = LogId {
        term: Term(u64::from_be_bytes(take(&mut rest)?)),
        index: RaftIndex(u64::from_be_bytes(take(&mut rest)?)),
    };
    header.previous = (has_previous != 0).then_some(previous);
    header.term = Term(u64::from_be_bytes(take(&mut rest)?));
    Some(header)
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = rest.split_first_chunk::<N>()?;
    *rest = tail;
    Some(*head)
}

fn build(term: Term, base_offset: Offset, timestamp: i64, kind: u8, payload: &[u8]) -> Bytes {
    let mut batch = BytesMut::with_capacity(HEADER_BYTES + PREFIX_BYTES + payload.len());
    let header = BatchHeader {
        base_offset,
        length: 0,
        leader_epoch: term.leader_epoch(),
        magic: MAGIC,
        crc: 0,
        attributes: BatchHeader::attributes_for(Default::default(), TimestampType::CreateTime, false, true, false),
        last_offset_delta: -1,
        base_timestamp: timestamp,
        max_timestamp: timestamp,
        producer_id: ProducerId::NONE,
        producer_epoch: ProducerEpoch::NONE,
        base_sequence: Sequence::NONE,
        count: 0,
    };
    let mut head = [0; HEADER_BYTES];
    header.write(&mut head);
    batch.put_slice(&head);
    batch.put_slice(MARK);
    batch.put_u8(kind);
    batch.put_u8(FORMAT);
    batch.put_slice(payload);
    seal(&mut batch);
    batch.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(batch: &[u8]) -> BatchKind {
        let header = BatchHeader::parse(batch).unwrap();
        header.verify_crc(batch).unwrap();
        assert_eq!(header.size(), batch.len());
        assert!(header.is_internal());
        classify(&header, batch)
    }

    #[test]
    fn internal_batches_take_no_offset() {
        let batch = blank(Term(3), Offset(40));
        assert_eq!(kind(&batch), BatchKind::InternalBlank);
        let header = BatchHeader::parse(&batch).unwrap();
        assert_eq!((header.last_offset(), header.next_offset(), header.leader_epoch), (Offset(39), Offset(40), 3));

        let batch = membership(Term(3), Offset(0), b"voters");
        assert_eq!(kind(&batch), BatchKind::InternalMembership);
        assert_eq!(membership_payload(&batch), Some(&b"voters"[..]));
        assert_eq!(membership_payload(&blank(Term(3), Offset(0))), None);
    }

    #[test]
    fn segment_headers_read_back() {
        for previous in [None, Some(LogId::new(Term(6), RaftIndex(99)))] {
            let header = SegmentHeader {
                format: SEGMENT_FORMAT,
                key: PartitionKey { topic: TopicId([7; 16]), partition: 3 },
                base_offset: Offset(1000),
                base_index: RaftIndex(100),
                previous,
                term: Term(7),
                created_ms: 1_700_000_000_000,
            };
            let batch = segment_header(&header);
            assert_eq!(batch.len(), SEGMENT_HEADER_BYTES);
            assert_eq!(kind(&batch), BatchKind::SegmentHeader);
            assert_eq!(parse_segment_header(&batch), Some(header));
            for end in 0..batch.len() {
                assert_eq!(parse_segment_header(&batch[..end]), None);
            }
        }
        assert_eq!(parse_segment_header(&blank(Term(3), Offset(0))), None);
    }

    #[test]
    fn a_newer_kind_is_told_apart() {
        assert_eq!(kind(&build(Term(0), Offset(0), 0, 9, b"")), BatchKind::InternalUnknown);
    }
}
