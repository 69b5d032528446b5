//! Doing away with a whole journal whose records are all in the segments.
//!
//! Files that vanish one by one would leave a journal that ends too early, and replaying that would take back what is newer.
//! So a mark is made durable first that names them all; whoever finds it ignores those files.
#![deny(clippy::unwrap_used, clippy::indexing_slicing)]

use std::path::Path;

use core_pinning::disk::fs;
use core_pinning::{BLOCK, File, OpenOptions};

use super::file::{parse_file_name, parse_spare};
use super::record::FileId;
use crate::error::{Doing, StorageError};
use crate::layout::REPLAYED_MARK;
use crate::sealed::{self, Fields, SealError};

const MAGIC: [u8; 4] = *b"CLRP";
const VERSION: u16 = 0;

/// Makes spares of all journal files in the directory, durably. `files` are those that have records.
pub(crate) async fn retire(dir: &Path, files: &[FileId]) -> Result<(), StorageError> {
    if files.is_empty() {
        return Ok(());
    }
    let mut all = files.to_vec();
    // A file that became a spare while the store was open, and is not named here, must not come back as the only one.
    fs::sync_dir(dir).await.doing("sync", dir)?;
    // Those that look as if they had not been retired: nothing else says so any more.
    for entry in fs::read_dir(dir).await.doing("list", dir)? {
        let Some(number) = entry.name.to_str().and_then(parse_file_name) else { continue };
        let path = dir.join(&entry.name);
        let file = File::open(&path, OpenOptions::read_only().direct(true)).await.doing("open", &path)?;
        let block = file.read_at(0, BLOCK).await.doing("read", &path)?;
        let id = FileId::read_header(&block).ok().flatten().filter(|id| id.number == number);
        all.extend(id.filter(|id| !files.contains(id)));
    }
    let mut payload = Vec::new();
    for id in &all {
        payload.extend_from_slice(&id.number.to_be_bytes());
        payload.extend_from_slice(&id.epoch.to_be_bytes());
    }
    let mut mark = Vec::new();
    sealed::seal(MAGIC, VERSION, &payload, &mut mark);
    let path = dir.join(REPLAYED_MARK);
    crate::durable::replace(&path, mark, true).await?;
    fs::sync_dir(dir).await.doing("sync", dir)?;
    let entries = fs::read_dir(dir).await.doing("list", dir)?;
    let spares = entries.iter().filter_map(|e| parse_spare(e.name.to_str()?));
    let first = spares.max().map_or(0, |last| last + 1);
    // All that look like journal files: those that are not named had been retired before.
    let files = entries.iter().filter(|e| e.name.to_str().and_then(parse_file_name).is_some());
    for (spare, entry) in (first..).zip(files) {
        let file = dir.join(&entry.name);
        fs::rename(&file, &dir.join(format!("spare-{spare}"))).await.doing("rename", &file)?;
    }
    fs::sync_dir(dir).await.doing("sync", dir)?;
    fs::remove_file(&path).await.doing("remove", &path)
}

/// The files that the directory's mark names.
pub(crate) async fn replayed(dir: &Path) -> Result<Vec<FileId>, StorageError> {
    let Some(bytes) = crate::durable::read(&dir.join(REPLAYED_MARK)).await? else { return Ok(Vec::new()) };
    // It was replaced as a whole: a damaged one is none.
    Ok(decode(&bytes).unwrap_or_default())
}

/// The files that a mark names.
pub(crate) fn decode(mut bytes: &[u8]) -> Result<Vec<FileId>, SealError> {
    let (_, mut fields) = sealed::open(MAGIC, VERSION, &mut bytes)?;
    let number = |fields: &mut Fields<'_>| Ok(u64::from_be_bytes(fields.array()?));
    let mut files = Vec::new();
    while fields.end().is_err() {
        files.push(FileId { number: number(&mut fields)?, epoch: number(&mut fields)? });
    }
    Ok(files)
}
