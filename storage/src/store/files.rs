//! Segment files held open, few at a time: an idle partition holds none.

use std::cell::RefCell;
use std::path::Path;

use core_pinning::{File, OpenOptions};
use hashbrown::HashMap;

use crate::error::{Doing, StorageError};
use crate::layout;
use crate::model::{Offset, PartitionKey};

pub(crate) struct Files {
    max: usize,
    state: RefCell<State>,
}

/// A segment, and whether writes to it are durable when they return.
type FileKey = (PartitionKey, Offset, bool);

#[derive(Default)]
struct State {
    open: HashMap<FileKey, OpenFile>,
    clock: u64,
}

struct OpenFile {
    file: File,
    used: u64,
}

impl Files {
    pub(crate) fn new(max: usize) -> Files {
        Files { max: max.max(1), state: RefCell::default() }
    }

    /// The segment's file, for direct reads and writes.
    pub(crate) async fn open(
        &self,
        key: PartitionKey,
        base: Offset,
        dir: &Path,
        create: bool,
    ) -> Result<File, StorageError> {
        self.open_with((key, base, false), dir, create).await
    }

    /// The same for direct writes that are durable when they return.
    pub(crate) async fn open_dsync(
        &self,
        key: PartitionKey,
        base: Offset,
        dir: &Path,
        create: bool,
    ) -> Result<File, StorageError> {
        self.open_with((key, base, true), dir, create).await
    }

    async fn open_with(&self, id: FileKey, dir: &Path, create: bool) -> Result<File, StorageError> {
        if let Some(file) = self.state.borrow_mut().get(id) {
            return Ok(file);
        }
        let (_, base, dsync) = id;
        let path = dir.join(layout::segment_name(base));
        let options = OpenOptions::read_write().create(create).direct(true).dsync(dsync);
        let file = File::open(&path, options).await.doing("open", &path)?;
        self.state.borrow_mut().put(id, file.clone(), self.max);
        Ok(file)
    }

    /// The file is going away.
    pub(crate) fn forget(&self, key: PartitionKey, base: Offset) {
        let open = &mut self.state.borrow_mut().open;
        open.remove(&(key, base, false));
        open.remove(&(key, base, true));
    }

    pub(crate) fn forget_partition(&self, key: PartitionKey) {
        self.state.borrow_mut().open.retain(|(k, _, _), _| *k != key);
    }

    pub(crate) fn clear(&self) {
        self.state.borrow_mut().open.clear();
    }

    pub(crate) fn len(&self) -> usize {
        self.state.borrow().open.len()
    }
}

impl State {
    fn get(&mut self, id: FileKey) -> Option<File> {
        self.clock += 1;
        let found = self.open.get_mut(&id)?;
        found.used = self.clock;
        Some(found.file.clone())
    }

    fn put(&mut self, id: FileKey, file: File, max: usize) {
        self.clock += 1;
        self.open.insert(id, OpenFile { file, used: self.clock });
        if self.open.len() > max {
            // A quarter at once, so that the search for the oldest is rare.
            let mut used: Vec<u64> = self.open.values().map(|f| f.used).collect();
            used.sort_unstable();
            let limit = used.get(used.len() / 4).copied().unwrap_or(0);
            self.open.retain(|_, f| f.used >= limit.max(1));
        }
    }
}
