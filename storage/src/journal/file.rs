//! The files of a journal: pre-written, used once, renamed and used again.
//!
//! A direct write into a file whose blocks have been written before changes no metadata, so that `O_DSYNC` costs one device
//! flush; into a new or merely allocated file it costs two to three times that. So zeros are written ahead of need.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use core_pinning::disk::fs;
use core_pinning::{AlignedBuf, BLOCK, File, OpenOptions};

use super::record::{FileId, RECORDS_START};
use crate::error::{Doing, StorageError};
use crate::layout::{UNCLEAN_MARK, UNFINISHED_SUFFIX};

/// Size of the writes that fill a new file: the first of a store is waited for, later ones are made while records are written.
const FIRST_ZEROS: usize = 1 << 20;
const LATER_ZEROS: usize = 128 << 10;

/// A file ready for its first record.
pub(crate) struct ReadyFile {
    pub(crate) id: FileId,
    pub(crate) file: File,
}

pub(crate) struct JournalFiles {
    dir: PathBuf,
    shard: u16,
    file_bytes: usize,
    spares_max: Cell<usize>,
    spares: RefCell<VecDeque<PathBuf>>,
    next_spare: Cell<u64>,
}

pub(crate) fn file_name(number: u64) -> String {
    format!("{number:020}.jnl")
}

pub(crate) fn parse_file_name(name: &str) -> Option<u64> {
    name.strip_suffix(".jnl").filter(|digits| digits.len() == 20)?.parse().ok()
}

pub(crate) fn parse_spare(name: &str) -> Option<u64> {
    name.strip_prefix("spare-")?.parse().ok()
}

impl JournalFiles {
    /// Takes over the spare files in `dir`; removes those of another size and those that are half written. Any journal files
    /// have been replayed: they become spares.
    pub(crate) async fn open(
        dir: PathBuf,
        shard: u16,
        file_bytes: usize,
        spares_max: usize,
    ) -> Result<JournalFiles, StorageError> {
        fs::create_dir_all(&dir).await.doing("create", &dir)?;
        let files = JournalFiles {
            shard,
            file_bytes,
            spares_max: Cell::new(spares_max),
            spares: RefCell::default(),
            next_spare: Cell::new(0),
            dir: dir.clone(),
        };
        let entries = fs::read_dir(&dir).await.doing("list", &dir)?;
        let names = || entries.iter().filter_map(|e| Some((e.name.to_str()?, e.len)));
        for number in names().filter_map(|(name, _)| parse_spare(name)) {
            files.next_spare.set(files.next_spare.get().max(number + 1));
        }
        let mut rest = Vec::new();
        for (name, len) in names() {
            let path = dir.join(name);
            let whole = len == file_bytes as u64 && files.spares.borrow().len() < spares_max;
            if parse_spare(name).is_some() && whole {
                files.spares.borrow_mut().push_back(path);
            } else if parse_file_name(name).is_some() && whole {
                files.recycle(&path).await?;
            } else if name != UNCLEAN_MARK {
                rest.push((parse_file_name(name).is_none(), path));
            }
        }
        // What says that journal files are not to be replayed goes when none of them can come back, not even those that a
        // process before this one has renamed.
        rest.sort();
        let marks = rest.split_off(rest.partition_point(|(mark, _)| !mark));
        for (_, path) in &rest {
            fs::remove_file(path).await.doing("remove", path)?;
        }
        fs::sync_dir(&dir).await.doing("sync", &dir)?;
        for (_, path) in &marks {
            fs::remove_file(path).await.doing("remove", path)?;
        }
        fs::sync_dir(&dir).await.doing("sync", &dir)?;
        Ok(files)
    }

    /// Where the files are.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    fn spare_path(&self) -> PathBuf {
        let number = self.next_spare.replace(self.next_spare.get() + 1);
        self.dir.join(format!("spare-{number}"))
    }

    /// Makes a written file the journal file `number`: its header is durable, and so is its name.
    pub(crate) async fn take(&self, number: u64, in_a_hurry: bool) -> Result<ReadyFile, StorageError> {
        let ready = self.spares.borrow_mut().pop_front();
        let spare = match ready {
            Some(spare) => spare,
            None => self.write_zeroed(if in_a_hurry { FIRST_ZEROS } else { LATER_ZEROS }).await?,
        };
        let id = FileId { number, epoch: core_pinning::rng::u64() };
        let mut header = AlignedBuf::zeroed(BLOCK);
        id.write_header(self.shard, self.file_bytes as u64, header.as_mut_slice());
        debug_assert_eq!(header.len(), RECORDS_START);
        let begun = async {
            let file = File::open(&spare, file_options()).await.doing("open", &spare)?;
            file.write_at(0, header).await.doing("write", &spare)
        };
        if let Err(error) = begun.await {
            self.spares.borrow_mut().push_back(spare);
            return Err(error);
        }
        let path = self.dir.join(file_name(number));
        fs::rename(&spare, &path).await.doing("rename", &path)?;
        fs::sync_dir(&self.dir).await.doing("sync", &self.dir)?;
        // Opened again, so that errors name the file by what it is now.
        let file = File::open(&path, file_options()).await.doing("open", &path)?;
        Ok(ReadyFile { id, file })
    }

    /// Retires the journal file `number`. Its records stay in it: they do not check out in its next use.
    pub(crate) async fn retire(&self, number: u64) -> Result<(), StorageError> {
        let path = self.dir.join(file_name(number));
        if self.spares.borrow().len() >= self.spares_max.get() {
            return fs::remove_file(&path).await.doing("remove", &path);
        }
        self.recycle(&path).await
    }

    /// Keeps up to so many spare files from now on.
    pub(crate) fn set_spares_max(&self, max: usize) {
        self.spares_max.set(max);
    }

    /// Removes the spare files that are too many.
    pub(crate) async fn trim_spares(&self) {
        while self.spares.borrow().len() > self.spares_max.get() {
            let Some(spare) = self.spares.borrow_mut().pop_back() else { return };
            if let Err(error) = fs::remove_file(&spare).await {
                tracing::warn!(path = %spare.display(), %error, "a spare journal file could not be removed");
            }
        }
    }

    async fn recycle(&self, path: &Path) -> Result<(), StorageError> {
        let spare = self.spare_path();
        fs::rename(path, &spare).await.doing("rename", path)?;
        self.spares.borrow_mut().push_back(spare);
        Ok(())
    }

    async fn write_zeroed(&self, write_bytes: usize) -> Result<PathBuf, StorageError> {
        let spare = self.spare_path();
        let unfinished = spare.with_extension(UNFINISHED_SUFFIX.trim_start_matches('.'));
        let result = self.fill(&unfinished, write_bytes).await;
        if let Err(error) = result {
            // What was written so far is given back: where the disk is full somebody else may need it.
            let _ = fs::remove_file(&unfinished).await;
            return Err(error);
        }
        fs::rename(&unfinished, &spare).await.doing("rename", &unfinished)?;
        Ok(spare)
    }

    async fn fill(&self, path: &Path, write_bytes: usize) -> Result<(), StorageError> {
        let options = OpenOptions::read_write().create(true).truncate(true).direct(true);
        let file = File::open(path, options).await.doing("create", path)?;
        file.allocate(0, self.file_bytes as u64, false).await.doing("allocate", path)?;
        let mut position = 0;
        while position < self.file_bytes {
            let zeros = AlignedBuf::zeroed(write_bytes.min(self.file_bytes - position));
            let len = zeros.len();
            file.write_at(position as u64, zeros).await.doing("write", path)?;
            position += len;
        }
        file.sync_all().await.doing("sync", path)
    }
}

fn file_options() -> OpenOptions {
    OpenOptions::read_write().direct(true).dsync(true)
}
