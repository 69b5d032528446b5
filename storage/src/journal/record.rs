//! A record of the journal, and the header of a journal file.
//!
//! ```text
//! file header (first block of the file)        record
//!  8  b"CLNJRNL0"                               4  CRC-32C of the rest, begun with the file's seed
//!  2  format version                            4  length of the payload
//!  2  shard                                     8  sequence: consecutive over all files of an opening
//!  4  its length in blocks; 0: not told          1  kind
//!  8  number of the file                        3  see below
//!  8  epoch: random, new at every use of a file    payload
//!  4  CRC-32C of the 32 bytes before
//! ```
//! The three bytes after the kind say how many records before this one, itself counted, were not durable when it was written;
//! 0: not told. So a record proves that those before it had been acknowledged, and that what is now missing is a loss.
//!
//! Little-endian. The seed is the CRC-32C of the file's number and epoch: what an earlier use left in a recycled file never
//! checks out, wherever the new records end.
#![deny(clippy::unwrap_used, clippy::indexing_slicing)]

use core_pinning::BLOCK;

use crate::model::{Offset, PartitionKey, TopicId};

pub(crate) const RECORD_HEADER_BYTES: usize = 20;
/// Position of the kind in a record.
const KIND_AT: usize = 16;
/// Where the first record of a file begins.
pub(crate) const RECORDS_START: usize = BLOCK;
/// Bytes of a `Data` payload before the segment's bytes.
pub(crate) const DATA_HEADER_BYTES: usize = KEY_BYTES + 8 + 4;
pub(crate) const KEY_BYTES: usize = 20;

const FILE_MAGIC: &[u8; 8] = b"CLNJRNL0";
const FILE_FORMAT: u16 = 0;
const FILE_HEADER_BYTES: usize = 36;
const LEN_AT: usize = 12;

/// What a record says. Every payload begins with the partition's key, but that of `Opened`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum RecordKind {
    /// First record of an opening.
    Opened = 1,
    /// Bytes and their place in a segment file.
    Data = 2,
    /// A partition's whole state: at its beginning, at a checkpoint, when its log is cut or trimmed. What is before its `synced`
    /// place is in the segment files; what was behind its end is gone.
    State = 3,
    Vote = 4,
    /// The partition is gone.
    Deleted = 5,
    /// As `Data`, but more of its last entry follows in the next one: without that it counts for nothing.
    DataPart = 6,
    /// A large append: the segment's file has it up to the last whole block, durably, and the bytes behind that are here.
    Placed = 7,
}

impl RecordKind {
    fn from_byte(byte: u8) -> Option<RecordKind> {
        use RecordKind::*;
        [Opened, Data, State, Vote, Deleted, DataPart, Placed].into_iter().find(|kind| *kind as u8 == byte)
    }
}

/// Which use of which file: binds records to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct FileId {
    pub(crate) number: u64,
    pub(crate) epoch: u64,
}

impl FileId {
    pub(crate) fn seed(self) -> u32 {
        crc32c::crc32c_append(crc32c::crc32c(&self.number.to_le_bytes()), &self.epoch.to_le_bytes())
    }

    /// Writes the header of a file of `len` bytes to the front of `block`.
    pub(crate) fn write_header(self, shard: u16, len: u64, block: &mut [u8]) {
        let mut header = Vec::with_capacity(FILE_HEADER_BYTES);
        header.extend_from_slice(FILE_MAGIC);
        header.extend_from_slice(&FILE_FORMAT.to_le_bytes());
        header.extend_from_slice(&shard.to_le_bytes());
        header.extend_from_slice(&u32::try_from(len / BLOCK as u64).unwrap_or(0).to_le_bytes());
        header.extend_from_slice(&self.number.to_le_bytes());
        header.extend_from_slice(&self.epoch.to_le_bytes());
        header.extend_from_slice(&crc32c::crc32c(&header).to_le_bytes());
        if let Some(place) = block.get_mut(..header.len()) {
            place.copy_from_slice(&header);
        }
    }

    /// How long the file with this header was made: one that is shorter has lost its end.
    pub(crate) fn stated_len(block: &[u8]) -> u64 {
        u64::from(u32::from_le_bytes(array(block, LEN_AT))) * BLOCK as u64
    }

    /// The id in a file's header; `None` where there is none, `Err` with the version where a newer release wrote it.
    pub(crate) fn read_header(block: &[u8]) -> Result<Option<FileId>, u16> {
        let Some((header, crc)) = block.get(..FILE_HEADER_BYTES).and_then(|h| h.split_last_chunk::<4>()) else {
            return Ok(None);
        };
        if !header.starts_with(FILE_MAGIC) || crc32c::crc32c(header) != u32::from_le_bytes(*crc) {
            return Ok(None);
        }
        match u16::from_le_bytes(array(header, 8)) {
            FILE_FORMAT => {
                let (number, epoch) = (u64::from_le_bytes(array(header, 16)), u64::from_le_bytes(array(header, 24)));
                Ok(Some(FileId { number, epoch }))
            }
            newer => Err(newer),
        }
    }
}

pub(crate) fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes.get(at..).and_then(|b| b.first_chunk::<N>()).copied().unwrap_or([0; N])
}

pub(crate) fn put_key(out: &mut Vec<u8>, key: PartitionKey) {
    out.extend_from_slice(&key.topic.0);
    out.extend_from_slice(&key.partition.to_le_bytes());
}

/// Writes a record with the payload `parts` to the front of `out`; returns its size. `out` has room: the caller has counted.
/// All records before `settled` are durable.
pub(crate) fn encode(
    out: &mut [u8],
    seed: u32,
    sequence: u64,
    settled: u64,
    kind: RecordKind,
    parts: [&[u8]; 2],
) -> usize {
    let len = parts.iter().map(|part| part.len()).sum::<usize>();
    let size = RECORD_HEADER_BYTES + len;
    let Some((head, payload)) = out.get_mut(..size).and_then(|r| r.split_first_chunk_mut::<RECORD_HEADER_BYTES>())
    else {
        unreachable!("a record of {size} bytes was given less room")
    };
    let (first, second) = payload.split_at_mut(parts[0].len());
    first.copy_from_slice(parts[0]);
    second.copy_from_slice(parts[1]);
    let mut header = [0; RECORD_HEADER_BYTES - 4];
    header[..4].copy_from_slice(&(len as u32).to_le_bytes());
    header[4..12].copy_from_slice(&sequence.to_le_bytes());
    header[12] = kind as u8;
    let waiting = u32::try_from(sequence - settled + 1).ok().filter(|n| *n < 1 << 24).unwrap_or(0);
    header[13..].copy_from_slice(&waiting.to_le_bytes()[..3]);
    let crc = crc32c::crc32c_append(crc32c::crc32c_append(seed, &header), payload);
    head[..4].copy_from_slice(&crc.to_le_bytes());
    head[4..].copy_from_slice(&header);
    size
}

/// A record as found in a file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found<'a> {
    pub(crate) sequence: u64,
    /// All records before this one were durable when it was written; 0 if it does not tell.
    pub(crate) settled: u64,
    pub(crate) kind: RecordKind,
    pub(crate) payload: &'a [u8],
}

/// Position of the first record of this use of the file, at or after `from`, that says that the record `sequence` was durable.
pub(crate) fn find_proof(bytes: &[u8], from: usize, seed: u32, sequence: u64) -> Option<usize> {
    let tells = |found, tail| found > sequence && is_near(found, sequence) && settled(found, tail) > sequence;
    find(bytes, from, seed, tells).map(|(at, _)| at)
}

/// Sequence of the first record of this use of the file at or after `from`. It is not far from that of `other`.
pub(crate) fn find_first(bytes: &[u8], from: usize, seed: u32, other: u64) -> Option<u64> {
    find(bytes, from, seed, |found, _| is_near(found, other)).map(|(_, found)| found.sequence)
}

fn is_near(sequence: u64, other: u64) -> bool {
    sequence.abs_diff(other) < 1 << 32
}

/// `may_be`, of a sequence and the last bytes of a header, is asked before the checksum, which may be that of megabytes.
fn find(bytes: &[u8], from: usize, seed: u32, may_be: impl Fn(u64, [u8; 4]) -> bool) -> Option<(usize, Found<'_>)> {
    const ZEROS: &[u8] = &[0; BLOCK];
    let blocks = bytes
        .chunks(BLOCK)
        .enumerate()
        .skip(from / BLOCK)
        .filter(|(_, block)| Some(*block) != ZEROS.get(..block.len()));
    let places =
        blocks.flat_map(|(number, block)| block.iter().enumerate().map(move |(at, byte)| (number * BLOCK + at, *byte)));
    // Most places fall at the byte that would be the kind.
    let kinds = places.filter(|(_, byte)| RecordKind::from_byte(*byte).is_some());
    kinds.filter_map(|(at, _)| at.checked_sub(KIND_AT).filter(|at| *at >= from)).find_map(|at| {
        let rest = bytes.get(at..).unwrap_or_default();
        if !may_be(u64::from_le_bytes(array(rest, 8)), array(rest, KIND_AT)) {
            return None;
        }
        match decode(rest, seed) {
            Decoded::Record(found) => Some((at, found)),
            Decoded::UnknownKind(_) | Decoded::Nothing => None,
        }
    })
}

/// What stands at the front of `bytes`.
#[derive(Debug)]
pub(crate) enum Decoded<'a> {
    Record(Found<'a>),
    /// Intact, of a kind that this release does not know.
    UnknownKind(u8),
    /// No whole, intact record of this use of the file.
    Nothing,
}

pub(crate) fn decode(bytes: &[u8], seed: u32) -> Decoded<'_> {
    let Some((head, rest)) = bytes.split_first_chunk::<RECORD_HEADER_BYTES>() else { return Decoded::Nothing };
    let len = u32::from_le_bytes(array(head, 4)) as usize;
    let Some(payload) = rest.get(..len) else { return Decoded::Nothing };
    let crc = crc32c::crc32c_append(crc32c::crc32c_append(seed, head.get(4..).unwrap_or_default()), payload);
    if crc != u32::from_le_bytes(array(head, 0)) {
        return Decoded::Nothing;
    }
    let tail @ [byte, ..] = array::<4>(head, KIND_AT);
    match RecordKind::from_byte(byte) {
        Some(kind) => {
            let sequence = u64::from_le_bytes(array(head, 8));
            Decoded::Record(Found { sequence, settled: settled(sequence, tail), kind, payload })
        }
        None => Decoded::UnknownKind(byte),
    }
}

/// Up to where a record says that all was durable, from its sequence and the four bytes that begin with its kind.
fn settled(sequence: u64, [_, waiting @ ..]: [u8; 4]) -> u64 {
    let waiting = waiting.iter().rev().fold(0, |n, byte| n << 8 | u64::from(*byte));
    if waiting == 0 { 0 } else { sequence.saturating_add(1).saturating_sub(waiting) }
}

/// The key at the front of a payload, and the rest.
pub(crate) fn split_key(payload: &[u8]) -> Option<(PartitionKey, &[u8])> {
    let (topic, rest) = payload.split_first_chunk::<16>()?;
    let (partition, rest) = rest.split_first_chunk::<4>()?;
    Some((PartitionKey { topic: TopicId(*topic), partition: u32::from_le_bytes(*partition) }, rest))
}

/// The front of a `Data` payload.
pub(crate) fn data_header(key: PartitionKey, segment: Offset, position: u32) -> [u8; DATA_HEADER_BYTES] {
    let mut header = [0; DATA_HEADER_BYTES];
    header[..16].copy_from_slice(&key.topic.0);
    header[16..20].copy_from_slice(&key.partition.to_le_bytes());
    header[20..28].copy_from_slice(&segment.0.to_le_bytes());
    header[28..].copy_from_slice(&position.to_le_bytes());
    header
}

/// Segment, position and bytes: what follows the key in a `Data` payload.
pub(crate) fn split_data(rest: &[u8]) -> Option<(Offset, u32, &[u8])> {
    let (segment, rest) = rest.split_first_chunk::<8>()?;
    let (position, bytes) = rest.split_first_chunk::<4>()?;
    Some((Offset(i64::from_le_bytes(*segment)), u32::from_le_bytes(*position), bytes))
}

/// Payload of a `Placed` record: `[from, block)` is in the file; what follows from `block` on is added by the caller.
pub(crate) fn placed_header(key: PartitionKey, segment: Offset, from: u32, block: u32) -> Vec<u8> {
    let mut payload = data_header(key, segment, from).to_vec();
    payload.extend_from_slice(&block.to_le_bytes());
    payload
}

/// Segment, the bounds of what is in its file, and the bytes behind: what follows the key in a `Placed` payload.
pub(crate) fn split_placed(rest: &[u8]) -> Option<(Offset, u32, u32, &[u8])> {
    let (segment, from, rest) = split_data(rest)?;
    let (block, bytes) = rest.split_first_chunk::<4>()?;
    let block = u32::from_le_bytes(*block);
    (from < block).then_some((segment, from, block, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_read_back_only_in_their_own_use_of_the_file() {
        let id = FileId { number: 3, epoch: 99 };
        let mut out = vec![0; 100];
        let size = encode(&mut out, id.seed(), 7, 5, RecordKind::Vote, [b"two ", b"parts"]);
        let Decoded::Record(found) = decode(&out, id.seed()) else { panic!("lost") };
        assert_eq!((found.sequence, found.kind, found.payload, size), (7, RecordKind::Vote, &b"two parts"[..], 29));
        assert_eq!(found.settled, 5);
        for other in [FileId { number: 4, ..id }, FileId { epoch: 98, ..id }] {
            assert!(matches!(decode(&out, other.seed()), Decoded::Nothing));
        }
        for at in 0..size {
            out[at] ^= 1;
            assert!(matches!(decode(&out[..size], id.seed()), Decoded::Nothing), "a flipped bit at {at}");
            out[at] ^= 1;
            assert!(matches!(decode(&out[..at], id.seed()), Decoded::Nothing), "cut at {at}");
        }
    }

    #[test]
    fn zeros_are_no_record() {
        assert!(matches!(decode(&[0; 64], FileId { number: 1, epoch: 2 }.seed()), Decoded::Nothing));
    }

    #[test]
    fn file_headers_read_back() {
        let (id, mut block) = (FileId { number: 12, epoch: 34 }, vec![0; 64]);
        assert_eq!(FileId::read_header(&block), Ok(None));
        id.write_header(5, 3 * BLOCK as u64, &mut block);
        assert_eq!(FileId::stated_len(&block), 3 * BLOCK as u64);
        assert_eq!(FileId::read_header(&block), Ok(Some(id)));
        block[17] ^= 1;
        assert_eq!(FileId::read_header(&block), Ok(None));
    }
}
