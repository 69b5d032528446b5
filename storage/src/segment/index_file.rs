//! The `.idx` file: a segment's sparse index and what else is asked of a sealed segment.
//!
//! It is a shortcut only: never synced, and where it is missing, damaged or of another past it is made again from the log.
//! Written when a segment is sealed, when an active one is closed or goes idle; it then covers the segment up to `covered`.
//! The last batch it knows is compared with the log before it is believed: after a truncation the log may have gone on
//! differently.
#![deny(clippy::unwrap_used, clippy::indexing_slicing)]

use super::Times;
use super::index::{IndexEntry, SparseIndex};
use crate::model::{Offset, PartitionKey, TopicId};
use crate::sealed::{self, Fields, SealError};

const MAGIC: [u8; 4] = *b"CLIX";
const VERSION: u16 = 0;

/// Contents of an `.idx` file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct IndexFile {
    pub(crate) key: PartitionKey,
    pub(crate) base_offset: Offset,
    /// Bytes of the segment that the file speaks of.
    pub(crate) covered: u32,
    /// Entries of the Raft log in those bytes.
    pub(crate) ordinals: u32,
    pub(crate) next_offset: Offset,
    pub(crate) times: Times,
    pub(crate) last_batch: Fingerprint,
    pub(crate) index: SparseIndex,
}

/// Tells a batch from any other that could stand in its place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Fingerprint {
    pub(crate) position: u32,
    pub(crate) base_offset: Offset,
    pub(crate) leader_epoch: i32,
    pub(crate) crc: u32,
}

/// An `.idx` file as offline tools see it; positions are bytes in the segment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IndexSummary {
    pub base_offset: Offset,
    /// Bytes of the segment that the index speaks of.
    pub covered: u64,
    /// The last batch of those: position, base offset, CRC. With another one in its place the index is of another past.
    pub last_batch: (u64, Offset, u32),
    /// Position, base offset, and entries of the Raft log before it in the segment; positions ascend.
    pub entries: Vec<(u64, Offset, u32)>,
}

impl IndexSummary {
    pub fn read(bytes: &[u8]) -> Result<IndexSummary, SealError> {
        let file = IndexFile::decode(bytes)?;
        let base = file.base_offset;
        let entry = |e: &IndexEntry| (u64::from(e.position), base + i64::from(e.offset_delta), e.ordinal);
        Ok(IndexSummary {
            base_offset: base,
            covered: file.covered.into(),
            last_batch: (file.last_batch.position.into(), file.last_batch.base_offset, file.last_batch.crc),
            entries: file.index.entries().iter().map(entry).collect(),
        })
    }
}

impl IndexFile {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let entries = self.index.entries();
        let mut out = Vec::with_capacity(100 + entries.len() * 20);
        out.extend_from_slice(&self.key.topic.0);
        out.extend_from_slice(&self.key.partition.to_be_bytes());
        out.extend_from_slice(&self.base_offset.0.to_be_bytes());
        out.extend_from_slice(&self.covered.to_be_bytes());
        out.extend_from_slice(&self.ordinals.to_be_bytes());
        out.extend_from_slice(&self.next_offset.0.to_be_bytes());
        out.extend_from_slice(&self.times.max_timestamp.to_be_bytes());
        out.extend_from_slice(&self.times.position.to_be_bytes());
        out.extend_from_slice(&self.last_batch.position.to_be_bytes());
        out.extend_from_slice(&self.last_batch.base_offset.0.to_be_bytes());
        out.extend_from_slice(&self.last_batch.leader_epoch.to_be_bytes());
        out.extend_from_slice(&self.last_batch.crc.to_be_bytes());
        out.extend_from_slice(&(entries.len() as u32).to_be_bytes());
        for e in entries {
            out.extend_from_slice(&e.offset_delta.to_be_bytes());
            out.extend_from_slice(&e.position.to_be_bytes());
            out.extend_from_slice(&e.ordinal.to_be_bytes());
            out.extend_from_slice(&e.max_timestamp.to_be_bytes());
        }
        let mut file = Vec::with_capacity(out.len() + 16);
        sealed::seal(MAGIC, VERSION, &out, &mut file);
        file
    }

    pub(crate) fn decode(mut bytes: &[u8]) -> Result<IndexFile, SealError> {
        let (_, mut f) = sealed::open(MAGIC, VERSION, &mut bytes)?;
        let f = &mut f;
        let key = PartitionKey { topic: TopicId(f.array()?), partition: u32_(f)? };
        let base_offset = Offset(i64_(f)?);
        let (covered, ordinals, next_offset) = (u32_(f)?, u32_(f)?, Offset(i64_(f)?));
        let times = Times { max_timestamp: i64_(f)?, position: u32_(f)? };
        let last_batch = Fingerprint {
            position: u32_(f)?,
            base_offset: Offset(i64_(f)?),
            leader_epoch: u32_(f)? as i32,
            crc: u32_(f)?,
        };
        let count = u32_(f)? as usize;
        if count > f.room_for(20) {
            return Err(SealError::Contents);
        }
        let mut entries: Vec<IndexEntry> = Vec::with_capacity(count);
        for _ in 0..count {
            let e =
                IndexEntry { offset_delta: u32_(f)?, position: u32_(f)?, ordinal: u32_(f)?, max_timestamp: i64_(f)? };
            let rises = entries.last().is_none_or(|last| {
                last.position < e.position
                    && last.offset_delta <= e.offset_delta
                    && last.ordinal <= e.ordinal
                    && last.max_timestamp <= e.max_timestamp
            });
            if !rises || e.position >= covered {
                return Err(SealError::Contents);
            }
            entries.push(e);
        }
        f.end()?;
        let index = SparseIndex::from_entries(entries);
        Ok(IndexFile { key, base_offset, covered, ordinals, next_offset, times, last_batch, index })
    }
}

fn u32_(f: &mut Fields<'_>) -> Result<u32, SealError> {
    Ok(u32::from_be_bytes(f.array()?))
}

fn i64_(f: &mut Fields<'_>) -> Result<i64, SealError> {
    Ok(i64::from_be_bytes(f.array()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_back_and_notices_damage() {
        let mut index = SparseIndex::new(0);
        (1..=9).for_each(|n| {
            index.add(10, IndexEntry { offset_delta: n, position: n * 10, ordinal: n, max_timestamp: 7 });
        });
        let file = IndexFile {
            key: PartitionKey { topic: TopicId([3; 16]), partition: 4 },
            base_offset: Offset(100),
            covered: 1000,
            ordinals: 12,
            next_offset: Offset(112),
            times: Times { max_timestamp: 9, position: 95 },
            last_batch: Fingerprint { position: 95, base_offset: Offset(111), leader_epoch: 3, crc: 77 },
            index,
        };
        let bytes = file.encode();
        assert_eq!(IndexFile::decode(&bytes), Ok(file));
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 0x10;
            assert!(IndexFile::decode(&bad).is_err(), "a flipped bit at {at}");
            assert!(IndexFile::decode(&bytes[..at]).is_err(), "cut at {at}");
        }
    }
}
