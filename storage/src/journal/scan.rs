//! Reading a journal back. What is done with what is found: `recovery::decision::journal`.
//!
//! | found in the directory                                   | meaning                                                     |
//! |----------------------------------------------------------|-------------------------------------------------------------|
//! | a file that the ledger says is not needed                | retired; its rename was not yet on disk                     |
//! | a file that the ledger names: not there, or its header is damaged, or it has lost its end | missing                     |
//! | a gap in the numbers, without a ledger that names files  | what is below the gap was retired                           |
//! | a file whose header says another number, or none         | it was retired, or is not yet begun: as if it were not there |
//! | a file that the mark `replayed` names                    | all of it is in the segments; it was about to be removed    |
//! | a record that does not check out, or skips a sequence    | the end of the journal, unless a later record, or the ledger, says that it was durable |
//! | a record that checks out, of an unknown kind             | a newer release wrote it: refuse to start                   |

#![deny(clippy::unwrap_used, clippy::indexing_slicing)]

use std::path::{Path, PathBuf};

use core_pinning::disk::fs;
use core_pinning::{AlignedBuf, BLOCK, File, OpenOptions};

use super::file::parse_file_name;
use super::record::{self, Decoded, FileId, Found, RECORD_HEADER_BYTES, RECORDS_START};
use crate::error::{Doing, StorageError};
use crate::ledger::OpenJournal;

/// Number of the file that an opening begins with, with the record 0.
pub(crate) const FIRST_FILE: u64 = 1;

/// The journal's files.
#[derive(Debug, Default)]
pub(crate) struct Live {
    /// Those that may hold live records, oldest first.
    pub(crate) files: Vec<(FileId, PathBuf)>,
    /// The first one that the ledger names and that is not there.
    pub(crate) missing: Option<PathBuf>,
}

/// A file with the name of a journal file.
pub(crate) struct Candidate {
    pub(crate) number: u64,
    pub(crate) path: PathBuf,
    /// What its header says, if there is one.
    pub(crate) id: Option<FileId>,
    /// It is as long as its header says.
    pub(crate) whole: bool,
}

/// Which of the `candidates`, by number, make the journal. The ledger says `named`; what is in the files `replayed` is in the
/// segments.
pub(crate) fn choose(dir: &Path, candidates: Vec<Candidate>, named: Option<OpenJournal>, replayed: &[FileId]) -> Live {
    let oldest = named.map_or(0, |named| named.oldest);
    let (mut live, mut short): (Vec<(FileId, PathBuf)>, Vec<u64>) = Default::default();
    for Candidate { number, path, id, whole } in candidates.into_iter().filter(|c| c.number >= oldest) {
        let Some(id) = id.filter(|id| id.number == number && !replayed.contains(id)) else { continue };
        if !whole {
            short.push(number);
            continue;
        }
        if named.is_none() && live.last().is_some_and(|(last, _)| last.number + 1 != number) {
            live.clear();
        }
        live.push((id, path));
    }
    let newest = live.last().map_or(0, |(last, _)| last.number);
    let missing = named.and_then(|named| {
        let there = |number| live.binary_search_by_key(&number, |(id, _)| id.number).is_ok();
        let newest = short.last().copied().unwrap_or(0).max(named.newest).max(newest);
        (named.oldest..=newest).find(|number| !there(*number))
    });
    Live { files: live, missing: missing.map(|number| dir.join(super::file_name(number))) }
}

/// The files of the journal in `dir`, of which the ledger says `named`.
pub(crate) async fn live_files(dir: &Path, named: Option<OpenJournal>) -> Result<Live, StorageError> {
    let entries = fs::read_dir(dir).await.doing("list", dir)?;
    let mut numbers: Vec<u64> = entries.iter().filter_map(|e| parse_file_name(e.name.to_str()?)).collect();
    numbers.sort_unstable();
    let replayed = super::retire::replayed(dir).await?;
    let mut candidates = Vec::new();
    for number in numbers {
        let path = dir.join(super::file_name(number));
        let file = File::open(&path, OpenOptions::read_only().direct(true)).await.doing("open", &path)?;
        let block = file.read_at(0, BLOCK).await.doing("read", &path)?;
        let id = FileId::read_header(&block).map_err(|found| StorageError::Version {
            path: path.to_string_lossy().into(),
            found,
            known: 0,
        })?;
        let whole = file.len().await.doing("look at", &path)? >= FileId::stated_len(&block);
        candidates.push(Candidate { number, path, id, whole });
    }
    Ok(choose(dir, candidates, named, &replayed))
}

/// Reads whole journal files, one after the other, into the same memory: fresh memory takes longer than the disk.
#[derive(Default)]
pub(crate) struct FileReader(Option<(PathBuf, AlignedBuf)>);

impl FileReader {
    pub(crate) async fn read(&mut self, path: &Path) -> Result<&[u8], StorageError> {
        let buffer = match self.0.take() {
            Some((held, buffer)) if held == path => buffer,
            other => {
                let file = File::open(path, OpenOptions::read_only().direct(true)).await.doing("open", path)?;
                let len = file.len().await.doing("look at", path)?;
                // A file cut short by hand may end inside a block.
                let len = usize::try_from(len).unwrap_or(usize::MAX).next_multiple_of(BLOCK);
                let recycled = other.map(|(_, buffer)| buffer).filter(|buffer| buffer.capacity() >= len);
                let buffer = recycled.unwrap_or_else(|| AlignedBuf::new(len));
                file.read_into(0, buffer, len).await.doing("read", path)?
            }
        };
        let (_, buffer) = self.0.insert((path.to_owned(), buffer));
        Ok(buffer)
    }
}

/// Follows the sequence of records through the files.
#[derive(Default)]
pub(crate) struct Scanner {
    /// Of the record that comes next.
    next: Option<u64>,
    /// Where it should have been: number of the file among those scanned, position.
    end: (usize, usize),
    scanned: usize,
    /// All records before this one were durable, say the records that are there.
    settled: u64,
}

impl Scanner {
    /// Calls `record` with each record of the file `id` that continues the journal, and where its payload begins.
    pub(crate) fn scan(
        &mut self,
        id: FileId,
        bytes: &[u8],
        mut record: impl FnMut(Found<'_>, usize) -> Result<(), StorageError>,
    ) -> Result<(), StorageError> {
        let seed = id.seed();
        let number = self.scanned;
        self.scanned += 1;
        if number == 0 && id.number == FIRST_FILE {
            self.next = Some(0);
        }
        let mut position = RECORDS_START;
        loop {
            // A record follows its predecessor directly, or begins the next block where the writer could not share one.
            let mut found = None;
            for start in [position, position.next_multiple_of(BLOCK)] {
                match record::decode(bytes.get(start..).unwrap_or_default(), seed) {
                    Decoded::Record(r) if self.next.map_or(number == 0, |next| next == r.sequence) => {
                        found = Some((start, r));
                        break;
                    }
                    Decoded::UnknownKind(kind) => {
                        return Err(StorageError::Version {
                            path: format!("journal record of kind {kind} in {}", super::file_name(id.number)).into(),
                            found: 1,
                            known: 0,
                        });
                    }
                    // Behind a gap.
                    Decoded::Record(r) => self.settled = self.settled.max(r.settled),
                    Decoded::Nothing => {}
                }
            }
            let Some((start, r)) = found else { return Ok(()) };
            let payload_at = start + RECORD_HEADER_BYTES;
            position = payload_at + r.payload.len();
            (self.next, self.end) = (Some(r.sequence + 1), (number, position));
            self.settled = self.settled.max(r.settled);
            record(r, payload_at)?;
        }
    }

    /// After the last file: the place of a record that is lost although it was durable. `settled`: so say others of all records
    /// before that one.
    pub(crate) async fn lost(
        &self,
        files: &[(FileId, PathBuf)],
        settled: u64,
        reader: &mut FileReader,
    ) -> Result<Option<(PathBuf, usize)>, StorageError> {
        for (number, (id, path)) in files.iter().enumerate().skip(self.end.0) {
            let bytes = reader.read(path).await?;
            if let Some(position) = self.lost_in(number, *id, bytes, settled) {
                return Ok(Some((path.clone(), position)));
            }
        }
        Ok(None)
    }

    /// Number of the file, among those scanned, in which the records end.
    pub(crate) fn last_file(&self) -> usize {
        self.end.0
    }

    /// As `lost`, by what is in the file `number` of those scanned: that in which the records end, or one after it.
    pub(crate) fn lost_in(&self, number: usize, id: FileId, bytes: &[u8], settled: u64) -> Option<usize> {
        let (known, position) = match number == self.end.0 {
            true => (settled.max(self.settled), self.end.1.max(RECORDS_START)),
            // Its first record is gone, or is none.
            false => (0, RECORDS_START),
        };
        let first = || record::find_first(bytes, position, id.seed(), settled);
        let (next, known) = match (self.next, self.next.is_none().then(first).flatten()) {
            // Not one was read, so one is missing that came before the first that is there.
            (None, Some(first)) => (first.saturating_sub(1), known.max(settled)),
            (next, _) => (next.unwrap_or(settled), known),
        };
        let lost = next < known || record::find_proof(bytes, position, id.seed(), next).is_some();
        lost.then_some(position)
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::RecordKind;
    use super::*;

    const FIRST: u64 = 20;

    /// Where the record is missing that came before others, of which each says that so many were durable.
    fn lost(others: &[u64], settled: u64) -> bool {
        let id = FileId { number: 5, epoch: 7 };
        let mut bytes = vec![0; 4 * BLOCK];
        let mut at = RECORDS_START;
        for (sequence, durable) in (FIRST..).zip([FIRST].iter().chain(others)) {
            let payload: [&[u8]; 2] = [b"key", b"of a partition"];
            at += record::encode(&mut bytes[at..], id.seed(), sequence, *durable, RecordKind::Deleted, payload);
        }
        bytes[RECORDS_START + RECORD_HEADER_BYTES] ^= 1;
        let mut scanner = Scanner::default();
        scanner.scan(id, &bytes, |found, _| panic!("record {}", found.sequence)).unwrap();
        scanner.lost_in(0, id, &bytes, settled).is_some()
    }

    #[test]
    fn the_first_record_is_missed_where_it_was_durable() {
        // Nobody says so: it may never have been whole.
        assert!(!lost(&[], FIRST));
        assert!(!lost(&[FIRST, FIRST], FIRST));
        // A later one says so, or the ledger.
        assert!(lost(&[FIRST + 1], 0));
        assert!(lost(&[FIRST, FIRST + 2], 0));
        assert!(lost(&[FIRST, FIRST], FIRST + 1));
        assert!(lost(&[FIRST, FIRST], FIRST + 9));
    }
}
