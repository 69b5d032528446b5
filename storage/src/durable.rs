//! Replacing a small file as a whole.

use std::path::Path;

use core_pinning::disk::fs;
use core_pinning::{File, OpenOptions};

use crate::error::{Doing, StorageError};
use crate::layout::UNFINISHED_SUFFIX;

/// Writes `bytes` beside `path` and renames them over it. With `synced` the contents are on disk before they have the name; the
/// name itself is when the directory has been synced.
pub(crate) async fn replace(path: &Path, bytes: Vec<u8>, synced: bool) -> Result<(), StorageError> {
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(UNFINISHED_SUFFIX);
    let unfinished = Path::new(&unfinished);
    let options = OpenOptions::read_write().create(true).truncate(true);
    let file = File::open(unfinished, options).await.doing("create", unfinished)?;
    file.write_at(0, bytes).await.doing("write", unfinished)?;
    if synced {
        file.sync_data().await.doing("sync", unfinished)?;
    }
    fs::rename(unfinished, path).await.doing("rename", path)
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
