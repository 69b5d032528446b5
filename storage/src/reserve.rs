//! A file that holds space back. It is given back when the disk is full, so that what was acknowledged still reaches its
//! segments, journal files come free, and deletions, metadata and committed offsets go on; and made again when there is room.

use std::cell::Cell;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use core_pinning::disk::fs;
use core_pinning::{File, OpenOptions};

use crate::error::{Doing, StorageError};
use crate::layout;

/// The reserve of a data directory. One shard looks after it.
pub struct Reserve {
    path: PathBuf,
    bytes: u64,
    held: Cell<u64>,
}

impl Reserve {
    /// Looks what there is of a reserve of `bytes`, which may be 0.
    pub async fn open(data_dir: &Path, bytes: u64) -> Result<Reserve, StorageError> {
        let path = layout::reserve(data_dir);
        let held = match fs::metadata(&path).await {
            Ok(found) => found.len.min(found.allocated),
            Err(error) if error.kind() == ErrorKind::NotFound => 0,
            Err(error) => return Err(StorageError::io("look at", &path, &error)),
        };
        Ok(Reserve { path, bytes, held: Cell::new(held) })
    }

    /// Bytes held back now.
    pub fn held(&self) -> u64 {
        self.held.get()
    }

    /// Bytes that are missing.
    pub fn missing(&self) -> u64 {
        self.bytes.saturating_sub(self.held.get())
    }

    /// Takes the space, or gives back what is too much. On an error nothing is held.
    pub async fn make(&self) -> Result<(), StorageError> {
        if self.held.get() == self.bytes {
            return Ok(());
        }
        self.give_back().await?;
        if self.bytes == 0 {
            return Ok(());
        }
        let path = &self.path;
        let file = File::open(path, OpenOptions::read_write().create(true)).await.doing("create", path)?;
        // Reserved, not written: the space is ours all the same.
        let allocated = file.allocate(0, self.bytes, false).await.doing("allocate", path);
        match allocated {
            Ok(()) => self.held.set(self.bytes),
            // What was allocated until it failed.
            Err(_) => file.set_len(0).await.doing("cut", path)?,
        }
        allocated
    }

    /// Gives the space back. The empty file stays.
    pub async fn give_back(&self) -> Result<(), StorageError> {
        if self.held.get() > 0 {
            Self::empty(&self.path).await?;
            self.held.set(0);
        }
        Ok(())
    }

    /// The same for a data directory whose reserve nobody looks after yet: at the start. True if it held anything.
    pub async fn give_back_in(data_dir: &Path) -> Result<bool, StorageError> {
        let path = layout::reserve(data_dir);
        match fs::metadata(&path).await {
            Ok(found) if found.len > 0 => Self::empty(&path).await.map(|()| true),
            Ok(_) => Ok(false),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(StorageError::io("look at", &path, &error)),
        }
    }

    async fn empty(path: &Path) -> Result<(), StorageError> {
        let file = match File::open(path, OpenOptions::read_write()).await {
            // Somebody needed the space and removed it.
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            other => other.doing("open", path)?,
        };
        file.set_len(0).await.doing("cut", path)
    }
}
