//! Reading a journal back.
//!
//! | found in the directory                                   | meaning                                                     |
//! |----------------------------------------------------------|-------------------------------------------------------------|
//! | no `.jnl` file                                           | closed cleanly, or never opened: nothing to replay          |
//! | a gap in the numbers                                     | what is below the gap was retired; its rename was not yet on disk |
//! | a file whose header says another number, or none         | it was retired, or is not yet begun: as if it were not there |
//! | a file that the mark `replayed` names                    | all of it is in the segments; it was about to be removed    |
//! | a record that does not check out, or skips a sequence    | the end of the journal: it and all later ones were never acknowledged |
//! | a record that checks out, of an unknown kind             | a newer release wrote it: refuse to start                   |

#![deny(clippy::unwrap_used, clippy::indexing_slicing)]

use std::path::{Path, PathBuf};

use core_pinning::disk::fs;
use core_pinning::{AlignedBuf, BLOCK, File, OpenOptions};

use super::file::parse_file_name;
use super::record::{self, Decoded, FileId, Found, RECORD_HEADER_BYTES, RECORDS_START};
use crate::error::{Doing, StorageError};

/// The files that may hold live records, oldest first.
pub(crate) async fn live_files(dir: &Path) -> Result<Vec<(FileId, PathBuf)>, StorageError> {
    let entries = fs::read_dir(dir).await.doing("list", dir)?;
    let mut numbers: Vec<u64> = entries.iter().filter_map(|e| parse_file_name(e.name.to_str()?)).collect();
    numbers.sort_unstable();
    let replayed = super::retire::replayed(dir).await?;
    let mut live: Vec<(FileId, PathBuf)> = Vec::new();
    for number in numbers {
        let path = dir.join(super::file_name(number));
        let file = File::open(&path, OpenOptions::read_only().direct(true)).await.doing("open", &path)?;
        let block = file.read_at(0, BLOCK).await.doing("read", &path)?;
        let id = FileId::read_header(&block).map_err(|found| StorageError::Version {
            path: path.to_string_lossy().into(),
            found,
            known: 0,
        })?;
        if let Some(id) = id.filter(|id| id.number == number && !replayed.contains(id)) {
            if live.last().is_some_and(|(last, _)| last.number + 1 != number) {
                live.clear();
            }
            live.push((id, path));
        }
    }
    Ok(live)
}

/// Reads a whole journal file.
pub(crate) async fn read_file(path: &Path) -> Result<AlignedBuf, StorageError> {
    let file = File::open(path, OpenOptions::read_only().direct(true)).await.doing("open", path)?;
    let len = file.len().await.doing("look at", path)?;
    // A file cut short by hand may end inside a block.
    let len = usize::try_from(len).unwrap_or(usize::MAX).next_multiple_of(BLOCK);
    file.read_at(0, len).await.doing("read", path)
}

/// Follows the sequence of records through the files.
#[derive(Default)]
pub(crate) struct Scanner {
    next: Option<u64>,
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
        let mut position = RECORDS_START;
        loop {
            // A record follows its predecessor directly, or begins the next block where the writer could not share one.
            let mut found = None;
            for start in [position, position.next_multiple_of(BLOCK)] {
                match record::decode(bytes.get(start..).unwrap_or_default(), seed) {
                    Decoded::Record(r) if self.next.is_none_or(|next| next == r.sequence) => {
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
                    Decoded::Record(_) | Decoded::Nothing => {}
                }
            }
            let Some((start, r)) = found else { return Ok(()) };
            let payload_at = start + RECORD_HEADER_BYTES;
            position = payload_at + r.payload.len();
            self.next = Some(r.sequence + 1);
            record(r, payload_at)?;
        }
    }
}
