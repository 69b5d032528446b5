//! Replacing a small file as a whole.

use std::path::{Path, PathBuf};

use core_pinning::disk::fs;
use core_pinning::{File, OpenOptions};
use futures::StreamExt;

use crate::error::{Doing, StorageError};
use crate::layout::UNFINISHED_SUFFIX;

/// From so many partitions on, one sync of the file system takes the place of a sync of each file: those cost about a third of
/// a millisecond each, whereas it may have to write what others on the file system have left to be written.
pub(crate) const TOGETHER: usize = 64;

/// Partitions that are worked on at a time, each with a file open.
pub(crate) const IN_FLIGHT: usize = 32;

/// Writes `bytes` beside `path` and renames them over it. With `synced` the contents are on disk before they have the name; the
/// name itself is when the directory has been synced.
pub(crate) async fn replace(path: &Path, bytes: Vec<u8>, synced: bool) -> Result<(), StorageError> {
    let file = write_unfinished(path, bytes).await?;
    if synced {
        file.sync_data().await.doing("sync", file.path())?;
    }
    name(path).await
}

/// The first half of a replacement: the contents, not synced, beside `path`.
pub(crate) async fn write_unfinished(path: &Path, bytes: Vec<u8>) -> Result<File, StorageError> {
    let unfinished = unfinished(path);
    let options = OpenOptions::read_write().create(true).truncate(true);
    let file = File::open(&unfinished, options).await.doing("create", &unfinished)?;
    file.write_at(0, bytes).await.doing("write", &unfinished)?;
    Ok(file)
}

/// The second half: the contents get the name.
pub(crate) async fn name(path: &Path) -> Result<(), StorageError> {
    fs::rename(&unfinished(path), path).await.doing("rename", path)
}

fn unfinished(path: &Path) -> PathBuf {
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(UNFINISHED_SUFFIX);
    unfinished.into()
}

/// Does `step` for each of `items`, several at a time. All of them end; then the first error is told.
pub(crate) async fn each<'a, T>(
    items: &'a [T],
    step: impl AsyncFn(&'a T) -> Result<(), StorageError>,
) -> Result<(), StorageError> {
    let step = &step;
    let steps = futures::stream::iter(items).map(|item| async move {
        let done = step(item).await;
        core_pinning::yield_if_needed().await;
        done
    });
    let results: Vec<Result<(), StorageError>> = steps.buffer_unordered(IN_FLIGHT).collect().await;
    results.into_iter().collect()
}

/// Removes a file, which may be gone already. The caller syncs the directory.
pub(crate) async fn remove(path: &Path) -> Result<(), StorageError> {
    match fs::remove_file(path).await {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other.doing("remove", path),
    }
}

/// The contents of a small file; `None` if there is none.
pub(crate) async fn read(path: &Path) -> Result<Option<bytes::Bytes>, StorageError> {
    let file = match File::open(path, OpenOptions::read_only()).await {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(StorageError::io("open", path, &error)),
    };
    let len = file.len().await.doing("look at", path)?;
    Ok(Some(file.read_at(0, len as usize).await.doing("read", path)?.freeze()))
}
