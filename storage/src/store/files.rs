//! Segment files held open, few at a time: an idle partition holds none.

use std::cell::RefCell;
use std::path::Path;

use core_pinning::time::{self, Instant};
use core_pinning::{File, OpenOptions};

use crate::error::{Doing, StorageError};
use crate::layout;
use crate::map::HashMap;
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
    /// Files that keep their segments while others take their names.
    pinned: HashMap<(PartitionKey, Offset), File>,
    /// Counts the ends of that: a file opened across one may be the wrong one.
    unpinned: u64,
    clock: u64,
}

struct OpenFile {
    file: File,
    used: u64,
    used_at: Instant,
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
        let (key, base, dsync) = id;
        let path = dir.join(layout::segment_name(base));
        let options = OpenOptions::read_write().create(create).direct(true).dsync(dsync);
        loop {
            if let Some(file) = self.state.borrow_mut().get(id) {
                return Ok(file);
            }
            let unpinned = self.state.borrow().unpinned;
            let file = File::open(&path, options).await;
            let state = &mut *self.state.borrow_mut();
            if state.unpinned == unpinned && !state.pinned.contains_key(&(key, base)) {
                let file = file.doing("open", &path)?;
                state.put(id, file.clone(), self.max);
                return Ok(file);
            }
        }
    }

    /// Has `open` give this file of a sealed segment, whatever has its name, until `unpin`.
    pub(crate) fn pin(&self, key: PartitionKey, base: Offset, file: File) {
        self.state.borrow_mut().pinned.insert((key, base), file);
    }

    /// Forgets the pins of these segments, and the files they had.
    pub(crate) fn unpin(&self, key: PartitionKey, bases: &[Offset]) {
        let state = &mut *self.state.borrow_mut();
        for base in bases {
            state.pinned.remove(&(key, *base));
            state.open.remove(&(key, *base, false));
            state.open.remove(&(key, *base, true));
        }
        state.unpinned += 1;
    }

    /// The file is going away.
    pub(crate) fn forget(&self, key: PartitionKey, base: Offset) {
        let open = &mut self.state.borrow_mut().open;
        open.remove(&(key, base, false));
        open.remove(&(key, base, true));
    }

    pub(crate) fn forget_partition(&self, key: PartitionKey) {
        let state = &mut *self.state.borrow_mut();
        state.open.retain(|(k, _, _), _| *k != key);
        state.pinned.retain(|(k, _), _| *k != key);
    }

    /// Closes the files that have not been used since.
    pub(crate) fn forget_unused(&self, since: Instant) {
        self.state.borrow_mut().open.retain(|_, f| f.used_at >= since);
    }

    pub(crate) fn clear(&self) {
        let state = &mut *self.state.borrow_mut();
        state.open.clear();
        state.pinned.clear();
    }

    pub(crate) fn len(&self) -> usize {
        self.state.borrow().open.len()
    }
}

impl State {
    fn get(&mut self, id: FileKey) -> Option<File> {
        if let Some(pinned) = self.pinned.get(&(id.0, id.1)) {
            return Some(pinned.clone());
        }
        self.clock += 1;
        let found = self.open.get_mut(&id)?;
        (found.used, found.used_at) = (self.clock, time::now());
        Some(found.file.clone())
    }

    fn put(&mut self, id: FileKey, file: File, max: usize) {
        self.clock += 1;
        self.open.insert(id, OpenFile { file, used: self.clock, used_at: time::now() });
        if self.open.len() > max {
            // A quarter at once, so that the search for the oldest is rare.
            let mut used: Vec<u64> = self.open.values().map(|f| f.used).collect();
            used.sort_unstable();
            let limit = used.get(used.len() / 4).copied().unwrap_or(0);
            self.open.retain(|_, f| f.used >= limit.max(1));
        }
    }
}
