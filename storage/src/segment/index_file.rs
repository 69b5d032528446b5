//! The `.idx` file: a segment's sparse index in pages, and what else is asked of a sealed segment.
//!
//! ```text
//! block 0    head, a sealed frame (magic CLIX): what the file covers, times, the last batch, and
//!            the first entry of each page; of an index of up to 200 entries, these entries themselves
//! block 1..  pages of up to 204 entries:
//!               4 bytes  CRC-32C of what follows
//!               4 bytes  CRC-32C of the head: the page is of this file and no other
//!               2 bytes  number of the page, from 0
//!               2 bytes  number of entries
//!                        entries of 20 bytes
//! ```
//! Blocks are of 4 KiB; the last one ends where its contents do. A look-up reads one of them: the heads of a partition's sealed
//! segments stand together in one file beside them ([`index_heads`](super::index_heads)).
//!
//! It is a shortcut only: never synced, and where it is missing, damaged or of another past it is made again from the log.
//! Written when a segment is sealed, when an active one is closed, goes idle, or has grown by some tens of MiB; it then covers
//! the segment up to `covered`. A truncation into the segment removes it, and so does a replay of the journal if the batch at its
//! end is another one than it says, so that what is there is true of the log.
#![deny(clippy::unwrap_used, clippy::indexing_slicing)]

use std::path::Path;
use std::rc::Rc;

use core_pinning::{File, OpenOptions};

use super::Times;
use super::index::{IndexEntry, IndexPage, SparseIndex};
use crate::error::{Doing, StorageError};
use crate::model::{Offset, PartitionKey, TopicId};
use crate::record::BatchHeader;
use crate::sealed::{self, Fields, SealError};

const MAGIC: [u8; 4] = *b"CLIX";
const VERSION: u16 = 1;

/// Bytes of the head and of a page.
pub(crate) const PAGE_BYTES: usize = 4096;
const PAGE_HEADER_BYTES: usize = 12;
pub(crate) const ENTRY_BYTES: usize = 20;
const PAGE_ENTRIES: usize = (PAGE_BYTES - PAGE_HEADER_BYTES) / ENTRY_BYTES;
/// Entries that a head has room for, be they of the index or the first ones of pages.
const HEAD_ENTRIES: usize = 200;
const _: () = assert!(super::index::ENTRIES_MAX < HEAD_ENTRIES * PAGE_ENTRIES);

/// Contents of an `.idx` file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct IndexFile {
    pub(crate) covers: Covers,
    pub(crate) index: SparseIndex,
}

/// What an `.idx` file is of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Covers {
    pub(crate) key: PartitionKey,
    pub(crate) base_offset: Offset,
    /// Bytes of the segment that the file speaks of.
    pub(crate) covered: u32,
    /// Entries of the Raft log in those bytes.
    pub(crate) ordinals: u32,
    pub(crate) next_offset: Offset,
    pub(crate) times: Times,
    pub(crate) last_batch: Fingerprint,
}

/// The first block of an `.idx` file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct IndexHead {
    pub(crate) covers: Covers,
    /// CRC-32C of the head: the pages name it.
    pub(crate) id: u32,
    /// The first entry of each page; empty if the head is the only block.
    pub(crate) pages: IndexPage,
}

/// Where a look-up goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum PageOf {
    /// Before the first entry: at the begin of the segment. The position of the first entry.
    Begin(u32),
    /// The page with this number, at this position in the file, and where the next page's batches begin.
    Page { number: u16, at: u64, next: Option<u32> },
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
        let IndexFile { covers, index } = IndexFile::decode(bytes)?;
        let base = covers.base_offset;
        let entry = |e: &IndexEntry| (u64::from(e.position), base + i64::from(e.offset_delta), e.ordinal);
        Ok(IndexSummary {
            base_offset: base,
            covered: covers.covered.into(),
            last_batch: (covers.last_batch.position.into(), covers.last_batch.base_offset, covers.last_batch.crc),
            entries: index.entries().iter().map(entry).collect(),
        })
    }
}

impl IndexFile {
    /// The file, and its head as decoding it gives it.
    pub(crate) fn encode(&self) -> (IndexHead, Vec<u8>) {
        let entries = self.index.entries();
        let in_head = entries.len() <= HEAD_ENTRIES;
        let pages: Vec<&[IndexEntry]> = if in_head { Vec::new() } else { entries.chunks(PAGE_ENTRIES).collect() };
        debug_assert!(pages.len() <= HEAD_ENTRIES, "{} entries", entries.len());
        let firsts: IndexPage = pages.iter().filter_map(|page| page.first().copied()).collect();
        let mut payload = Vec::with_capacity(PAGE_BYTES);
        self.covers.put(&mut payload);
        payload.push(u8::from(in_head));
        let listed = if in_head { entries } else { &firsts };
        payload.extend_from_slice(&(listed.len() as u32).to_be_bytes());
        listed.iter().for_each(|e| put_entry(&mut payload, e));
        if !in_head {
            payload.resize(PAGE_BYTES - sealed::FRAME_BYTES, 0);
        }
        let mut file = Vec::with_capacity((pages.len() + 1) * PAGE_BYTES);
        sealed::seal(MAGIC, VERSION, &payload, &mut file);
        let id = sealed::sum(VERSION, &payload);
        for (number, entries) in pages.iter().enumerate() {
            let mut page = Vec::with_capacity(PAGE_BYTES);
            page.extend_from_slice(&id.to_be_bytes());
            page.extend_from_slice(&(number as u16).to_be_bytes());
            page.extend_from_slice(&(entries.len() as u16).to_be_bytes());
            entries.iter().for_each(|e| put_entry(&mut page, e));
            if number + 1 < pages.len() {
                page.resize(PAGE_BYTES - 4, 0);
            }
            file.extend_from_slice(&crc32c::crc32c(&page).to_be_bytes());
            file.append(&mut page);
        }
        (IndexHead { covers: self.covers, id, pages: firsts }, file)
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<IndexFile, SealError> {
        let (head, in_head) = IndexHead::decode(bytes)?;
        let mut entries = match in_head {
            Some(entries) => entries.to_vec(),
            None => Vec::new(),
        };
        if !head.pages.is_empty() {
            let pages = bytes.get(PAGE_BYTES..).unwrap_or_default().chunks(PAGE_BYTES);
            if pages.len() != head.pages.len() {
                return Err(SealError::Truncated);
            }
            for (number, page) in pages.enumerate() {
                entries.extend_from_slice(&head.decode_page(number as u16, page)?);
            }
            if !rise(&entries, head.covers.covered) {
                return Err(SealError::Contents);
            }
        }
        Ok(IndexFile { covers: head.covers, index: SparseIndex::from_entries(entries) })
    }
}

impl IndexHead {
    /// The head, and the entries of an index that is all in it.
    pub(crate) fn decode(bytes: &[u8]) -> Result<(IndexHead, Option<IndexPage>), SealError> {
        let mut rest = bytes;
        let (version, mut f) = sealed::open(MAGIC, VERSION, &mut rest)?;
        let one_block = rest.is_empty();
        if version != VERSION {
            return Err(SealError::Version { found: version, known: VERSION });
        }
        let frame = bytes.get(..bytes.len() - rest.len()).unwrap_or_default();
        let id = sealed::sum(version, frame.get(sealed::FRAME_BYTES..).unwrap_or_default());
        let f = &mut f;
        let covers = Covers::get(f)?;
        let in_head = match f.array()? {
            [0] => false,
            [1] => true,
            _ => return Err(SealError::Contents),
        };
        let listed = get_entries(f, covers.covered)?;
        let padding = f.bytes(f.room_for(1))?;
        if padding.iter().any(|b| *b != 0) || (in_head && (!padding.is_empty() || !one_block)) {
            return Err(SealError::Contents);
        }
        Ok(match in_head {
            true => (IndexHead { covers, id, pages: Rc::default() }, Some(listed)),
            false if listed.is_empty() || frame.len() != PAGE_BYTES => return Err(SealError::Contents),
            false => (IndexHead { covers, id, pages: listed }, None),
        })
    }

    /// The page that holds the last entry that `holds` is true of; it is true of leading entries only.
    pub(crate) fn find(&self, holds: impl Fn(&IndexEntry) -> bool) -> PageOf {
        let Some(first) = self.pages.first() else { return PageOf::Page { number: 0, at: 0, next: None } };
        let number = self.pages.partition_point(holds);
        let next = self.pages.get(number).map(|e| e.position);
        match number.checked_sub(1) {
            Some(number) => PageOf::Page { number: number as u16, at: ((number + 1) * PAGE_BYTES) as u64, next },
            None => PageOf::Begin(first.position),
        }
    }

    /// The entries of the block that [`find`](IndexHead::find) told to read.
    pub(crate) fn decode_block(&self, number: u16, block: &[u8]) -> Result<IndexPage, SealError> {
        if !self.pages.is_empty() {
            return self.decode_page(number, block);
        }
        match IndexHead::decode(block)? {
            (head, Some(entries)) if head.id == self.id => Ok(entries),
            _ => Err(SealError::Contents),
        }
    }

    fn decode_page(&self, number: u16, block: &[u8]) -> Result<IndexPage, SealError> {
        let mut f = Fields::new(block);
        let crc = u32_(&mut f)?;
        let mut f = Fields::new(f.bytes(f.room_for(1))?);
        if crc32c::crc32c(f.rest()) != crc {
            return Err(SealError::Crc);
        }
        let id = u32_(&mut f)?;
        let (found, count) = (u16::from_be_bytes(f.array()?), u16::from_be_bytes(f.array()?));
        let entries = get_counted(&mut f, count.into(), self.covers.covered)?;
        if (id, found) != (self.id, number) || entries.first() != self.pages.get(usize::from(number)) {
            return Err(SealError::Contents);
        }
        Ok(entries)
    }

    /// The head of the `.idx` file, if there is a sound one.
    pub(crate) async fn read(path: &Path) -> Result<Option<IndexHead>, StorageError> {
        let file = match File::open(path, OpenOptions::read_only()).await {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            other => other.doing("open", path)?,
        };
        let block = file.read_at(0, PAGE_BYTES).await.doing("read", path)?;
        Ok(IndexHead::decode(&block).ok().map(|(head, _)| head))
    }

    pub(crate) fn memory(&self) -> usize {
        size_of::<IndexHead>() + self.pages.len() * size_of::<IndexEntry>()
    }

    /// As the file of all heads has it.
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        self.covers.put(out);
        out.extend_from_slice(&self.id.to_be_bytes());
        out.extend_from_slice(&(self.pages.len() as u32).to_be_bytes());
        self.pages.iter().for_each(|e| put_entry(out, e));
    }

    pub(super) fn get(f: &mut Fields<'_>) -> Result<IndexHead, SealError> {
        let covers = Covers::get(f)?;
        let id = u32_(f)?;
        Ok(IndexHead { covers, id, pages: get_entries(f, covers.covered)? })
    }
}

impl Covers {
    /// True if the segment has the last batch where this says; then all before it is the log's, too: a batch of one term at one
    /// place has always the same ones before it.
    pub(crate) fn is_end_of(&self, header: &BatchHeader) -> bool {
        let last = &self.last_batch;
        header.base_offset == last.base_offset
            && header.leader_epoch == last.leader_epoch
            && header.crc == last.crc
            && u64::from(last.position) + header.size() as u64 == u64::from(self.covered)
    }

    fn put(&self, out: &mut Vec<u8>) {
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
    }

    fn get(f: &mut Fields<'_>) -> Result<Covers, SealError> {
        Ok(Covers {
            key: PartitionKey { topic: TopicId(f.array()?), partition: u32_(f)? },
            base_offset: Offset(i64_(f)?),
            covered: u32_(f)?,
            ordinals: u32_(f)?,
            next_offset: Offset(i64_(f)?),
            times: Times { max_timestamp: i64_(f)?, position: u32_(f)? },
            last_batch: Fingerprint {
                position: u32_(f)?,
                base_offset: Offset(i64_(f)?),
                leader_epoch: u32_(f)? as i32,
                crc: u32_(f)?,
            },
        })
    }
}

fn put_entry(out: &mut Vec<u8>, e: &IndexEntry) {
    out.extend_from_slice(&e.offset_delta.to_be_bytes());
    out.extend_from_slice(&e.position.to_be_bytes());
    out.extend_from_slice(&e.ordinal.to_be_bytes());
    out.extend_from_slice(&e.max_timestamp.to_be_bytes());
}

fn get_entries(f: &mut Fields<'_>, covered: u32) -> Result<IndexPage, SealError> {
    let count = u32_(f)? as usize;
    get_counted(f, count, covered)
}

fn get_counted(f: &mut Fields<'_>, count: usize, covered: u32) -> Result<IndexPage, SealError> {
    if count > f.room_for(ENTRY_BYTES) {
        return Err(SealError::Contents);
    }
    let mut entries: Vec<IndexEntry> = Vec::with_capacity(count);
    for _ in 0..count {
        let (offset_delta, position, ordinal) = (u32_(f)?, u32_(f)?, u32_(f)?);
        entries.push(IndexEntry { offset_delta, position, ordinal, max_timestamp: i64_(f)? });
    }
    if rise(&entries, covered) { Ok(entries.into()) } else { Err(SealError::Contents) }
}

/// True if the entries can be searched.
fn rise(entries: &[IndexEntry], covered: u32) -> bool {
    entries.is_sorted_by(|a, b| {
        a.position < b.position
            && a.offset_delta <= b.offset_delta
            && a.ordinal <= b.ordinal
            && a.max_timestamp <= b.max_timestamp
    }) && entries.last().is_none_or(|e| e.position < covered)
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

    fn file(entries: u32) -> IndexFile {
        let mut index = SparseIndex::new(0);
        (1..=entries).for_each(|n| {
            index
                .add(10, IndexEntry { offset_delta: n, position: n * 10, ordinal: n, max_timestamp: i64::from(n / 2) });
        });
        let covers = Covers {
            key: PartitionKey { topic: TopicId([3; 16]), partition: 4 },
            base_offset: Offset(100),
            covered: entries * 10 + 10,
            ordinals: entries + 1,
            next_offset: Offset(112),
            times: Times { max_timestamp: 9, position: 95 },
            last_batch: Fingerprint { position: 95, base_offset: Offset(111), leader_epoch: 3, crc: 77 },
        };
        IndexFile { covers, index }
    }

    #[test]
    fn reads_back_and_notices_damage() {
        for entries in [0, 9, 200, 201, 700] {
            let file = file(entries);
            let (_, bytes) = file.encode();
            let decoded = IndexFile::decode(&bytes).unwrap();
            assert_eq!((decoded.covers, decoded.index.entries()), (file.covers, file.index.entries()));
            for at in 0..bytes.len() {
                let mut bad = bytes.clone();
                bad[at] ^= 0x10;
                assert!(IndexFile::decode(&bad).is_err(), "a flipped bit at {at}");
            }
            for at in (0..bytes.len()).step_by(7) {
                assert!(IndexFile::decode(&bytes[..at]).is_err(), "cut at {at}");
            }
            let longer = [&bytes[..], &[0]].concat();
            assert!(IndexFile::decode(&longer).is_err(), "too long");
        }
    }

    #[test]
    fn one_block_answers_a_look_up() {
        for entries in [0, 1, 200, 201, 204, 205, 5000] {
            let file = file(entries);
            let (head, bytes) = file.encode();
            let block = |at: u64| &bytes[at as usize..bytes.len().min(at as usize + PAGE_BYTES)];
            let (decoded, _) = IndexHead::decode(block(0)).unwrap();
            assert_eq!(decoded, head);
            for offset in 0..entries + 2 {
                let holds = |e: &IndexEntry| e.offset_delta <= offset;
                let expected = file.index.entries().iter().rev().find(|e| holds(e));
                let following = file.index.entries().iter().find(|e| !holds(e)).map(|e| e.position);
                match head.find(holds) {
                    PageOf::Begin(first) => assert_eq!((expected, following), (None, Some(first))),
                    PageOf::Page { number, at, next } => {
                        let entries = head.decode_block(number, block(at)).unwrap();
                        let found = entries.partition_point(holds);
                        assert_eq!(found.checked_sub(1).map(|n| &entries[n]), expected);
                        assert_eq!(entries.get(found).map(|e| e.position).or(next), following);
                    }
                }
            }
        }
    }

    #[test]
    fn a_page_of_another_file_is_not_believed() {
        let (head, _) = file(500).encode();
        let mut other = file(500);
        other.covers.times.max_timestamp += 1;
        let (_, bytes) = other.encode();
        assert!(head.decode_block(1, &bytes[2 * PAGE_BYTES..3 * PAGE_BYTES]).is_err());
    }
}
