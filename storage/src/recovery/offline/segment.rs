//! One segment, with what a journal would put into it, and the index beside it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use super::{Findings, failed, read};
use crate::data_dir::DataDirError;
use crate::model::{Offset, PartitionKey, RaftIndex};
use crate::record::internal::{self, BatchKind, SEGMENT_FORMAT};
use crate::record::{BatchHeader, HEADER_BYTES, classify};
use crate::recovery::plan::Extent;
use crate::segment::index_file::IndexSummary;

/// Which segment, and how much of it there must be.
pub(super) struct Place {
    pub(super) path: PathBuf,
    pub(super) key: PartitionKey,
    pub(super) base: Offset,
    /// Of the file.
    pub(super) len: u64,
    /// Of what is durable.
    pub(super) end: u64,
    /// Where the next segment begins.
    pub(super) next: Option<Offset>,
}

/// What the segments before lead one to expect; not known where something of them could not be read.
#[derive(Default)]
pub(super) struct Walk {
    next_offset: Option<Offset>,
    next_index: Option<RaftIndex>,
    /// Compaction takes offsets and entries out.
    gaps: bool,
}

/// The segment's bytes as they are after a replay.
struct Contents {
    file: Option<File>,
    len: u64,
    /// What the journal has, from this position on.
    from: u64,
    tail: Vec<u8>,
}

impl Contents {
    fn open(place: &Place, extents: &[Extent], journals: &[&PathBuf]) -> Result<Contents, DataDirError> {
        let file = match File::open(&place.path) {
            Ok(file) => Some(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(failed(&place.path)(error)),
        };
        let from = extents.iter().map(|e| u64::from(e.position)).min().unwrap_or(place.end);
        let mut contents = Contents { file, len: place.len, from: place.end, tail: Vec::new() };
        let mut tail = contents.read(from, place.end.saturating_sub(from)).map_err(failed(&place.path))?;
        let mut open: Option<(usize, File)> = None;
        for extent in extents {
            let Some(path) = journals.get(extent.file) else { continue };
            let journal = match &open {
                Some((number, journal)) if *number == extent.file => journal,
                _ => &open.insert((extent.file, File::open(path).map_err(failed(path))?)).1,
            };
            let at = (u64::from(extent.position) - from) as usize;
            if let Some(part) = tail.get_mut(at..at + extent.len as usize) {
                journal.read_exact_at(part, extent.at as u64).map_err(failed(path))?;
            }
        }
        (contents.from, contents.tail) = (from, tail);
        Ok(contents)
    }

    /// Zeros where there is nothing.
    fn read(&self, position: u64, len: u64) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; len as usize];
        let in_file = self.len.min(position + len).saturating_sub(position) as usize;
        if let (Some(file), Some(part)) = (&self.file, bytes.get_mut(..in_file)) {
            file.read_exact_at(part, position)?;
        }
        let overlap = self.from.max(position);
        let (at, skip) = ((overlap - position) as usize, (overlap - self.from) as usize);
        if let (Some(part), Some(kept)) = (bytes.get_mut(at..), self.tail.get(skip..)) {
            let shared = part.len().min(kept.len());
            if let (Some(part), Some(kept)) = (part.get_mut(..shared), kept.get(..shared)) {
                part.copy_from_slice(kept);
            }
        }
        Ok(bytes)
    }
}

/// The index beside a segment, while its entries are compared.
struct Beside {
    path: PathBuf,
    index: Option<IndexSummary>,
    next: usize,
    ordinal: u32,
}

impl Beside {
    fn open(place: &Place, findings: &mut Findings<'_>) -> Result<Beside, DataDirError> {
        let path = place.path.with_extension("idx");
        let index = match read(&path)?.map(|bytes| IndexSummary::read(&bytes)) {
            Some(Ok(index)) if index.base_offset == place.base && index.covered <= place.end => Some(index),
            Some(Ok(_)) => {
                findings.note(&path, "not of this segment as it is: it is made again");
                None
            }
            Some(Err(error)) => {
                findings.note(&path, format!("{error}: it is made again"));
                None
            }
            None => None,
        };
        Ok(Beside { path, index, next: 0, ordinal: 0 })
    }

    fn compare(&mut self, header: &BatchHeader, position: u64, findings: &mut Findings<'_>) {
        let Some(index) = &self.index else { return };
        let (at, offset, crc) = index.last_batch;
        if at == position && (offset, crc) != (header.base_offset, header.crc) {
            findings.note(&self.path, "of another past of the log: it is made again");
            self.index = None;
            return;
        }
        let Some((at, offset, ordinal)) = index.entries.get(self.next).copied().filter(|e| e.0 <= position) else {
            return;
        };
        self.next += 1;
        if at < position {
            let what = "the index names this as the begin of a batch of its segment, but it is inside one";
            findings.damage(&self.path, Some(at), what);
        } else if (offset, ordinal) != (header.base_offset, self.ordinal) {
            let what = format!(
                "the index has offset {} and entry {ordinal} at position {at} of its segment, which has {} and {}",
                offset.0, header.base_offset.0, self.ordinal
            );
            findings.damage(&self.path, None, what);
        }
    }
}

pub(super) fn check_segment(
    place: &Place,
    extents: &[Extent],
    journals: &[&PathBuf],
    walk: &mut Walk,
    findings: &mut Findings<'_>,
) -> Result<(), DataDirError> {
    findings.report.segments += 1;
    findings.report.bytes += place.end;
    let contents = Contents::open(place, extents, journals)?;
    if place.len < place.end && contents.from > place.len {
        findings.damage(&place.path, Some(place.len), format!("the file ends at {} of {} bytes", place.len, place.end));
        *walk = Walk::default();
        return Ok(());
    }
    let mut beside = Beside::open(place, findings)?;
    let mut position = 0;
    while position < place.end {
        let left = place.end - position;
        let head = contents.read(position, left.min(HEADER_BYTES as u64)).map_err(failed(&place.path))?;
        let header = match BatchHeader::parse(&head) {
            Ok(header) if header.size() as u64 <= left => header,
            other => {
                let what = match other {
                    Ok(header) => format!("a batch of {} bytes where {left} are left", header.size()),
                    Err(error) => error.to_string(),
                };
                findings.damage(&place.path, Some(position), format!("{what}; the rest is not looked at"));
                *walk = Walk::default();
                return Ok(());
            }
        };
        let batch = contents.read(position, header.size() as u64).map_err(failed(&place.path))?;
        if let Err(error) = header.verify_crc(&batch) {
            findings.damage(&place.path, Some(position), error.to_string());
        }
        findings.report.batches += 1;
        beside.compare(&header, position, findings);
        match position {
            0 => begin(place, &batch, walk, findings),
            _ => follow(place, &header, &batch, position, walk, findings),
        }
        beside.ordinal += u32::from(position > 0);
        position += header.size() as u64;
    }
    if let (Some(next), Some(found)) = (place.next, walk.next_offset)
        && (found > next || found < next && !walk.gaps)
    {
        let what = format!("the segment ends before offset {}, the next begins at {}", found.0, next.0);
        findings.damage(&place.path, Some(position), what);
        walk.next_index = None;
    }
    walk.next_offset = None;
    Ok(())
}

/// The header of the segment.
fn begin(place: &Place, batch: &[u8], walk: &mut Walk, findings: &mut Findings<'_>) {
    let Some(header) = internal::parse_segment_header(batch) else {
        findings.damage(&place.path, Some(0), "no segment header");
        *walk = Walk::default();
        return;
    };
    if header.key != place.key || header.base_offset != place.base {
        let what = format!("the header of {} from offset {}", header.key, header.base_offset.0);
        findings.damage(&place.path, Some(0), what);
    }
    let gaps = header.format != SEGMENT_FORMAT;
    if let Some(index) = walk.next_index.filter(|index| !gaps && !walk.gaps && *index != header.base_index) {
        let what = format!("it begins with entry {}, and the one before ends with {}", header.base_index.0, index.0);
        findings.damage(&place.path, Some(0), what);
    }
    *walk = Walk { next_offset: Some(place.base), next_index: Some(header.base_index), gaps };
}

fn follow(
    place: &Place,
    header: &BatchHeader,
    batch: &[u8],
    position: u64,
    walk: &mut Walk,
    findings: &mut Findings<'_>,
) {
    if classify(header, batch) == BatchKind::SegmentHeader {
        findings.damage(&place.path, Some(position), "a segment header inside a segment");
    }
    if let Some(next) = walk.next_offset
        && (header.base_offset < next || header.base_offset != next && !walk.gaps)
    {
        let what = format!("offset {} where {} follows", header.base_offset.0, next.0);
        findings.damage(&place.path, Some(position), what);
    }
    walk.next_offset = Some(header.next_offset());
    walk.next_index = walk.next_index.map(|index| index.next());
}
