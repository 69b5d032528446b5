//! A walk over the batches of a segment that compares them with the index beside it: what `check` and `dump-log` have in common.
//! It reports, and never stops for anything but an error of reading and a place from which no next batch can be found.

use std::io;

use bytes::Bytes;

use crate::record::{BatchHeader, BatchKind, HEADER_BYTES, classify};
use crate::segment::index_file::IndexSummary;

/// Batches beyond this are taken for damage; Kafka's own limit is 2 GiB, ours far below.
const BATCH_MAX: u64 = 1 << 30;

/// Where a segment's bytes come from: `len` bytes from a position on, which lie in the segment.
pub trait SegmentBytes {
    fn read(&self, position: u64, len: usize) -> io::Result<Bytes>;
}

impl SegmentBytes for std::fs::File {
    fn read(&self, position: u64, len: usize) -> io::Result<Bytes> {
        let mut bytes = vec![0; len];
        std::os::unix::fs::FileExt::read_exact_at(self, &mut bytes, position)?;
        Ok(bytes.into())
    }
}

/// What a walk meets.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Met {
    /// `damage`: its CRC does not match.
    Batch { position: u64, header: BatchHeader, kind: BatchKind, bytes: Bytes, damage: Option<String> },
    /// Zeros up to the end, or to the first byte that is none.
    Zeros { position: u64, upto: u64 },
    /// A batch that the segment ends in.
    CutShort { position: u64, left: u64 },
    /// No batch; the rest of the segment is not looked at.
    Bad { position: u64, what: String },
    /// The index is of no use, and will be made again: it is not compared any more.
    IndexUseless { what: String },
    /// The index is wrong about this place of the segment.
    IndexWrong { position: u64, what: String },
}

/// A walk over the first `len` bytes of a segment.
pub struct SegmentWalk<'a> {
    source: &'a dyn SegmentBytes,
    len: u64,
    position: u64,
    /// While its entries are compared.
    index: Option<IndexSummary>,
    /// Which of them comes next.
    next_entry: usize,
    /// Entries of the Raft log before the batch that is looked at.
    ordinal: u32,
    /// Found already, and told before the walk goes on.
    met: Vec<Met>,
    ended: bool,
}

impl<'a> SegmentWalk<'a> {
    pub fn new(source: &'a dyn SegmentBytes, len: u64, index: Option<IndexSummary>) -> SegmentWalk<'a> {
        SegmentWalk { source, len, position: 0, index, next_entry: 0, ordinal: 0, met: Vec::new(), ended: false }
    }

    /// What comes next; `None` at the end.
    pub fn meet(&mut self) -> io::Result<Option<Met>> {
        if self.met.is_empty() && !self.ended {
            match self.position < self.len {
                true => self.step()?,
                false => self.ended = true,
            }
        }
        Ok((!self.met.is_empty()).then(|| self.met.remove(0)))
    }

    fn last(&mut self, met: Met) {
        self.ended = true;
        self.met.push(met);
    }

    fn step(&mut self) -> io::Result<()> {
        let (position, left) = (self.position, self.len - self.position);
        let head = self.source.read(position, left.min(HEADER_BYTES as u64) as usize)?;
        if head.iter().all(|b| *b == 0) {
            let upto = self.zeros()?;
            self.last(Met::Zeros { position, upto });
            return Ok(());
        }
        let header = match BatchHeader::parse(&head) {
            Ok(header) if header.size() as u64 > BATCH_MAX => {
                self.last(Met::Bad { position, what: format!("a batch of {} bytes", header.size()) });
                return Ok(());
            }
            Ok(header) if header.size() as u64 <= left => header,
            Err(error) if head.len() == HEADER_BYTES => {
                self.last(Met::Bad { position, what: error.to_string() });
                return Ok(());
            }
            _ => {
                self.last(Met::CutShort { position, left });
                return Ok(());
            }
        };
        let bytes = self.source.read(position, header.size())?;
        let kind = classify(&header, &bytes);
        self.compare(&header)?;
        let damage = header.verify_crc(&bytes).err().map(|error| error.to_string());
        // The batch with the header of the segment is no entry.
        self.ordinal += u32::from(kind != BatchKind::SegmentHeader);
        self.position += header.size() as u64;
        self.met.push(Met::Batch { position, header, kind, bytes, damage });
        Ok(())
    }

    /// Where the zeros from here on end.
    fn zeros(&self) -> io::Result<u64> {
        let mut at = self.position;
        while at < self.len {
            let part = self.source.read(at, (self.len - at).min(1 << 20) as usize)?;
            if let Some(other) = part.iter().position(|b| *b != 0) {
                return Ok(at + other as u64);
            }
            at += part.len() as u64;
        }
        Ok(self.len)
    }

    /// Whether the index is of another file than this: nothing that it says is then wrong of this one.
    fn is_useless(&self, index: &IndexSummary, first: &BatchHeader) -> io::Result<Option<String>> {
        if index.base_offset != first.base_offset {
            return Ok(Some("it belongs to another segment".to_owned()));
        }
        let (at, offset, crc) = index.last_batch;
        if index.covered > self.len || at >= index.covered {
            return Ok(Some(format!("it covers {} bytes of {}", index.covered, self.len)));
        }
        let last = self.source.read(at, (self.len - at).min(HEADER_BYTES as u64) as usize)?;
        let same = BatchHeader::parse(&last).is_ok_and(|last| (last.base_offset, last.crc) == (offset, crc));
        Ok((!same).then(|| "it is of another past of the log".to_owned()))
    }

    fn compare(&mut self, header: &BatchHeader) -> io::Result<()> {
        let position = self.position;
        let Some(index) = &self.index else { return Ok(()) };
        if position == 0
            && let Some(what) = self.is_useless(index, header)?
        {
            self.index = None;
            self.met.push(Met::IndexUseless { what });
            return Ok(());
        }
        let Some((at, offset, ordinal)) = index.entries.get(self.next_entry).copied().filter(|e| e.0 <= position)
        else {
            return Ok(());
        };
        self.next_entry += 1;
        if at < position {
            let what = "the index names this as the begin of a batch, but it is inside one".to_owned();
            self.met.push(Met::IndexWrong { position: at, what });
        } else if (offset, ordinal) != (header.base_offset, self.ordinal) {
            let what = format!(
                "the index says offset {} and entry {ordinal}, the log {} and {}",
                offset.0, header.base_offset.0, self.ordinal
            );
            self.met.push(Met::IndexWrong { position: at, what });
        }
        Ok(())
    }
}
