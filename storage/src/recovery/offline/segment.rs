//! One segment, with what a journal would put into it, and the index beside it.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::aborted::Aborted;
use super::heads::Heads;
use super::producers::{Kept, Seen};
use super::walk::{Met, SegmentBytes, SegmentWalk};
use super::{Findings, failed, read};
use crate::data_dir::DataDirError;
use crate::layout;
use crate::log::state::PartitionState;
use crate::model::{Offset, PartitionKey, RaftIndex};
use crate::record::internal::{self, BatchKind, SEGMENT_FORMAT};
use crate::record::{BatchHeader, classify};
use crate::recovery::plan::Extent;
use crate::segment::index_file::{Covers, IndexHead, IndexSummary};

/// Which segment, and how much of it there must be.
pub(super) struct Place<'a> {
    /// Of the partition.
    pub(super) dir: &'a Path,
    pub(super) path: PathBuf,
    pub(super) key: PartitionKey,
    pub(super) base: Offset,
    /// Of the file.
    pub(super) len: u64,
    /// Of what is durable.
    pub(super) end: u64,
    /// Of what only the file has: into one that is shorter a replay puts nothing.
    pub(super) least: u64,
    /// Where the next segment begins.
    pub(super) next: Option<Offset>,
    /// The log was closed. After a crash an index may be of more than is left, or of what a start is about to cut off.
    pub(super) is_closed: bool,
    /// What the file with the heads of all indexes says of it.
    pub(super) head: Option<(PathBuf, Covers)>,
    /// What is kept of the log's producers.
    pub(super) producers: &'a [Kept],
    /// Knows which terms wrote what is before its end.
    pub(super) state: &'a PartitionState,
}

/// What the segments before lead one to expect; not known where something of them could not be read.
#[derive(Default)]
pub(super) struct Walk {
    next_offset: Option<Offset>,
    next_index: Option<RaftIndex>,
    /// Compaction takes offsets and entries out.
    gaps: bool,
    /// Of the batch before.
    leader_epoch: Option<i32>,
    aborted: Aborted,
    producers: Seen,
    /// Where the segment before ended.
    end: Option<Offset>,
}

impl Walk {
    /// The end of what was walked.
    pub(super) fn end(&self) -> Option<Offset> {
        self.end
    }
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
    fn open(place: &Place<'_>, extents: &[Extent], journals: &[PathBuf]) -> Result<Contents, DataDirError> {
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

impl SegmentBytes for Contents {
    fn read(&self, position: u64, len: usize) -> io::Result<Bytes> {
        Contents::read(self, position, len as u64).map(Bytes::from)
    }
}

pub(super) fn check_segment(
    place: &Place<'_>,
    extents: &[Extent],
    journals: &[PathBuf],
    walk: &mut Walk,
    findings: &mut Findings<'_>,
) -> Result<(), DataDirError> {
    findings.report.segments += 1;
    findings.report.bytes += place.end;
    let contents = Contents::open(place, extents, journals)?;
    let least = if contents.from > place.len { place.end.max(place.least) } else { place.least };
    let is_short = place.len < least;
    if is_short {
        findings.damage(&place.path, Some(place.len), format!("the file ends at {} of {least} bytes", place.len));
    }
    let beside = place.path.with_extension("idx");
    // One that cannot be read has been told of.
    let index = read(&beside)?;
    let covers = index.as_deref().and_then(|bytes| Some(IndexHead::decode(bytes).ok()?.0.covers));
    let index = index.and_then(|bytes| IndexSummary::read(&bytes).ok());
    let own = covers.filter(|_| index.is_some()).map(|covers| (beside.clone(), covers));
    let mut heads = Heads::new(own.into_iter().chain(place.head.clone()).collect());
    let mut batches = SegmentWalk::new(&contents, if is_short { place.len } else { place.end }, index);
    while let Some(met) = batches.meet().map_err(failed(&place.path))? {
        let (at, what) = match met {
            Met::Batch { position, header, bytes, damage, .. } => {
                findings.report.batches += 1;
                let is_sound = damage.is_none();
                match damage {
                    Some(what) => {
                        findings.damage(&place.path, Some(position), what);
                        heads.lose();
                    }
                    None => {
                        walk.aborted.see(&header, &bytes);
                        heads.see(place.base, position, &header, findings);
                    }
                }
                match position {
                    0 => begin(place, &header, &bytes, walk, findings),
                    _ => follow(place, &header, &bytes, position, walk, findings),
                }
                reach(place, position, header.size() as u64, findings);
                if is_sound {
                    let reached = if position == 0 { place.base } else { header.base_offset };
                    walk.producers.reach(reached, place.producers, findings)?;
                    walk.producers.see(&header, &bytes);
                } else {
                    walk.producers.lose();
                }
                continue;
            }
            Met::IndexUseless { what } => {
                match place.is_closed {
                    true => findings.rebuilt(&beside, None, what),
                    false => findings.note(&beside, format!("{what}: the next start makes it again")),
                }
                continue;
            }
            Met::IndexWrong { position, what } => {
                findings.damage(&beside, None, format!("position {position} of its segment: {what}"));
                continue;
            }
            Met::Zeros { position, upto } => (position, format!("zeros up to position {upto}")),
            Met::CutShort { position, left } => (position, format!("a batch cut short after {left} bytes")),
            Met::Bad { position, what } => (position, what),
        };
        findings.damage(&place.path, Some(at), format!("{what}; the rest is not looked at"));
        *walk = Walk::default();
        return Ok(());
    }
    if is_short {
        *walk = Walk::default();
        return Ok(());
    }
    let aborted = read(&place.dir.join(layout::txn_index_name(place.base)))?;
    walk.aborted.compare(place, aborted.as_deref(), walk.gaps, findings);
    if let (Some(next), Some(found)) = (place.next, walk.next_offset)
        && (found > next || found < next && !walk.gaps)
    {
        let what = format!("the segment ends before offset {}, the next begins at {}", found.0, next.0);
        findings.damage(&place.path, Some(place.end), what);
        walk.next_index = None;
        walk.producers.lose();
    }
    walk.end = walk.next_offset.take();
    if let (None, Some(end)) = (place.next, walk.end) {
        walk.producers.reach(end, place.producers, findings)?;
    }
    Ok(())
}

/// A batch of so many bytes that reaches over a place between batches, where a start may begin to read, is not the one that was
/// written.
fn reach(place: &Place<'_>, position: u64, size: u64, findings: &mut Findings<'_>) {
    let of_segment = place.state.read_from().filter(|(base, _)| *base == place.base);
    let over: BTreeSet<u64> = of_segment.map(|(_, at)| at.into()).collect();
    for at in over.into_iter().filter(|at| (position + 1..position + size).contains(at)) {
        let what = format!("the state has a batch end here, and the one at {position} goes on");
        findings.damage(&place.path, Some(at), what);
    }
}

/// The header of the segment.
fn begin(place: &Place<'_>, head: &BatchHeader, batch: &[u8], walk: &mut Walk, findings: &mut Findings<'_>) {
    if head.base_offset != place.base {
        findings.damage(&place.path, Some(0), format!("base offset {} of the segment's header", head.base_offset.0));
    }
    let Some(header) = internal::parse_segment_header(batch) else {
        findings.damage(&place.path, Some(0), "no segment header");
        *walk = Walk::default();
        return;
    };
    let is_own = header.key == place.key && header.base_offset == place.base;
    if !is_own {
        let what = format!("the header of {} from offset {}", header.key, header.base_offset.0);
        findings.damage(&place.path, Some(0), what);
    }
    let gaps = header.format != SEGMENT_FORMAT;
    if let Some(index) = walk.next_index.filter(|index| !gaps && !walk.gaps && *index != header.base_index) {
        let what = format!("it begins with entry {}, and the one before ends with {}", header.base_index.0, index.0);
        findings.damage(&place.path, Some(0), what);
    }
    let (next_offset, next_index) = (Some(place.base), Some(header.base_index));
    (walk.next_offset, walk.next_index, walk.gaps) = (next_offset, next_index, gaps);
    walk.producers.begin(place.base, is_own && !gaps);
}

fn follow(
    place: &Place<'_>,
    header: &BatchHeader,
    batch: &[u8],
    position: u64,
    walk: &mut Walk,
    findings: &mut Findings<'_>,
) {
    if classify(header, batch) == BatchKind::SegmentHeader {
        findings.damage(&place.path, Some(position), "a segment header inside a segment");
    }
    let (state, end) = (place.state, place.state.end);
    // The CRC does not cover the leader epoch.
    let index = walk.next_index.filter(|_| !walk.gaps);
    let by_index = index.filter(|index| *index < end.next_index).and_then(|index| state.terms.term_of(index));
    let is_known = !header.is_internal() && header.base_offset < end.next_offset;
    let by_offset = is_known.then(|| state.epochs.epoch_for(header.base_offset)).flatten();
    if let Some(term) = [by_index, by_offset].into_iter().flatten().find(|t| t.leader_epoch() != header.leader_epoch) {
        let what = format!("leader epoch {} where {} wrote", header.leader_epoch, term.leader_epoch());
        findings.damage(&place.path, Some(position), what);
    }
    let before = walk.leader_epoch.or(state.last.map(|last| last.term.leader_epoch()));
    if let Some(before) = before.filter(|e| *e > header.leader_epoch && index.is_some_and(|i| i >= end.next_index)) {
        let what = format!("leader epoch {} after {before}", header.leader_epoch);
        findings.damage(&place.path, Some(position), what);
    }
    walk.leader_epoch = Some(header.leader_epoch);
    if let Some(next) = walk.next_offset
        && (header.base_offset < next || header.base_offset != next && !walk.gaps)
    {
        let what = format!("offset {} where {} follows", header.base_offset.0, next.0);
        findings.damage(&place.path, Some(position), what);
        walk.producers.lose();
    }
    walk.next_offset = Some(header.next_offset());
    walk.next_index = walk.next_index.map(|index| index.next());
}
