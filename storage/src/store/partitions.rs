//! Partitions come and go.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use core_pinning::disk::fs;

use super::Store;
use crate::durable;
use crate::entry::{FirstState, PartitionSpec};
use crate::error::{Doing, StorageError, is_disk_full};
use crate::journal::record::{RecordKind, put_key};
use crate::layout;
use crate::log::{Log, LogInner};
use crate::model::{Offset, PartitionKey};
use crate::recovery::decision::partition::{self as table, Decision, Directory, Ledger};

impl Store {
    /// The directory of a partition.
    pub fn partition_dir(&self, topic: &str, key: PartitionKey) -> PathBuf {
        layout::partitions_root(&self.0.shared.options.data_dir).join(layout::partition_dir_name(topic, key))
    }

    /// True if the partition can be loaded, or is. Looks at the directory: a few microseconds.
    pub fn exists(&self, spec: &PartitionSpec) -> bool {
        let loaded = self.0.logs.borrow().contains_key(&spec.key);
        loaded || fs::is_there(&self.partition_dir(&spec.topic, spec.key).join(layout::STATE_FILE))
    }

    /// Opens a partition, or makes it with its first state where it has never been.
    pub async fn load_or_create(&self, spec: PartitionSpec, first: FirstState) -> Result<Log, StorageError> {
        match self.log(spec.key) {
            Some(log) => Ok(log),
            None => match self.look(&spec).await? {
                Decision::Load => self.load_found(spec).await,
                _ => self.create_absent(spec, first).await,
            },
        }
    }

    /// Makes a partition with its first state. Returns before it is durable: it is so before whatever is appended to it, and a
    /// crash until then leaves no trace of it.
    pub async fn create(&self, spec: PartitionSpec, first: FirstState) -> Result<Log, StorageError> {
        if self.log(spec.key).is_some() || self.look(&spec).await? == Decision::Load {
            return Err(StorageError::Exists(spec.key));
        }
        self.create_absent(spec, first).await
    }

    /// Opens a partition that is on the disk; gives the one that is open already. A full disk does not matter.
    pub async fn load(&self, spec: PartitionSpec) -> Result<Log, StorageError> {
        match self.log(spec.key) {
            Some(log) => Ok(log),
            None if self.look(&spec).await? != Decision::Load => Err(StorageError::NotFound(spec.key)),
            None => self.load_found(spec).await,
        }
    }

    /// Whether the partition is to be loaded or created; an error if something of it is lost.
    async fn look(&self, spec: &PartitionSpec) -> Result<Decision, StorageError> {
        let dir = self.partition_dir(&spec.topic, spec.key);
        let named = self.0.shared.ledger.names(spec.key) || self.0.named_elsewhere.borrow().contains(&spec.key);
        let ledger = if named { Ledger::Named } else { Ledger::Unnamed };
        let row = table::decide(find(&dir).await?, ledger);
        if row.then == Decision::Fence {
            // Known from now on by this shard's own ledger, whoever had created it.
            self.0.shared.ledger.add(spec.key);
            let reason = format!("{}: {}", dir.display(), row.why).into();
            return Err(StorageError::Corrupt { partition: spec.key, segment: Offset::ZERO, position: 0, reason });
        }
        Ok(row.then)
    }

    async fn create_absent(&self, spec: PartitionSpec, first: FirstState) -> Result<Log, StorageError> {
        let shared = &self.0.shared;
        let refusal = if spec.config.essential { shared.refusal_of_essential() } else { shared.refusal() };
        if let Some(error) = refusal {
            return Err(error);
        }
        let dir = self.partition_dir(&spec.topic, spec.key);
        if self.0.deleted.borrow_mut().remove(&spec.key) {
            let root = layout::partitions_root(&shared.options.data_dir);
            fs::sync_dir(&root).await.doing("sync", &root)?;
        }
        match fs::create_dir(&dir).await {
            // A creation that a crash cut short.
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                clear(&dir).await?;
                fs::sync_dir(&dir).await.doing("sync", &dir)?;
            }
            other => other.doing("create", &dir)?,
        }
        self.0.shared.root_unsynced.set(true);
        let key = spec.key;
        let log = LogInner::create(self.0.shared.clone(), spec, &dir, first)?;
        self.0.logs.borrow_mut().insert(key, log.clone());
        Ok(Log(log))
    }

    async fn load_found(&self, spec: PartitionSpec) -> Result<Log, StorageError> {
        if let Some(error) = self.0.shared.ended() {
            return Err(error);
        }
        let (key, dir) = (spec.key, self.partition_dir(&spec.topic, spec.key));
        let log = LogInner::load(self.0.shared.clone(), spec, &dir, self.0.unclean).await?;
        self.0.shared.ledger.add(key);
        // Somebody else may have been as fast.
        Ok(Log(self.0.logs.borrow_mut().entry(key).or_insert(log).clone()))
    }

    /// Deletes a partition with all that it holds; returns when its deletion is durable and its files are gone. Its logs refuse
    /// everything from the call on.
    pub async fn delete(&self, key: PartitionKey) -> Result<(), StorageError> {
        let Some(log) = self.0.logs.borrow().get(&key).cloned() else { return Err(StorageError::NotFound(key)) };
        self.delete_log(&log).await
    }

    async fn delete_log(&self, log: &Rc<LogInner>) -> Result<(), StorageError> {
        let (key, shared) = (log.key, &self.0.shared);
        let dirty = {
            let mut state = log.state.borrow_mut();
            if matches!(state.fenced, Some(StorageError::Deleted(_))) {
                return Err(StorageError::Deleted(key));
            }
            state.fenced = Some(StorageError::Deleted(key));
            state.dirty()
        };
        shared.dirty.sub(dirty);
        self.0.logs.borrow_mut().remove(&key);
        let (sender, receiver) = core_pinning::sync::oneshot::channel();
        let mut payload = Vec::new();
        put_key(&mut payload, key);
        let done = Box::new(move |result| {
            let _ = sender.send(result);
        });
        log.record(&mut log.state.borrow_mut(), RecordKind::Deleted, payload, Some(done));
        receiver.await.unwrap_or(Err(StorageError::Closed))?;
        shared.ledger.remove(key);
        // So that it can be created again.
        self.0.named_elsewhere.borrow_mut().remove(&key);
        shared.write_back.finished(log).await;
        // Whoever changes its segments goes on until it looks at the log again.
        let _alone = log.compaction.alone().await;
        shared.files.forget_partition(key);
        log.drop_memory();
        shared.warm_logs.borrow_mut().retain(|other| !Rc::ptr_eq(other, log));
        shared.root_unsynced.set(true);
        let removed = remove_partition_dir(&log.dir).await;
        // The journal remembers the deletion until then.
        log.marks.removed.set(true);
        self.0.deleted.borrow_mut().insert(key);
        removed
    }
}

/// What there is of a partition.
async fn find(dir: &Path) -> Result<Directory, StorageError> {
    let state = dir.join(layout::STATE_FILE);
    if fs::exists(&state).await.doing("look at", &state)? {
        return Ok(Directory::State);
    }
    match fs::read_dir(dir).await {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Directory::Absent),
        other => {
            let entries = other.doing("list", dir)?;
            let bytes = entries.iter().any(|e| e.len > 0 && layout::parse_offset(&e.name, ".log").is_some());
            Ok(if bytes { Directory::Stateless } else { Directory::Empty })
        }
    }
}

/// Renames a partition's directory out of the way and removes it.
pub(crate) async fn remove_partition_dir(dir: &Path) -> Result<(), StorageError> {
    let mut gone = dir.as_os_str().to_owned();
    gone.push(layout::DELETE_DIR_SUFFIX);
    let gone = PathBuf::from(gone);
    if fs::exists(&gone).await.doing("look at", &gone)? {
        remove_dir_all(&gone).await?;
    }
    match fs::rename(dir, &gone).await {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        // A new name may need a block that a full disk does not have. The journal knows that the partition is deleted.
        Err(error) if is_disk_full(&error) => remove_dir_all(dir).await,
        other => {
            other.doing("rename", dir)?;
            remove_dir_all(&gone).await
        }
    }
}

/// Removes a directory of files. When journals are replayed another shard may be at the same.
pub(crate) async fn remove_dir_all(dir: &Path) -> Result<(), StorageError> {
    let is_gone = |error: &std::io::Error| error.kind() == std::io::ErrorKind::NotFound;
    let entries = match fs::read_dir(dir).await {
        Err(error) if is_gone(&error) => return Ok(()),
        other => other.doing("list", dir)?,
    };
    for entry in entries {
        durable::remove(&dir.join(&entry.name)).await?;
    }
    match fs::remove_dir(dir).await {
        Err(error) if is_gone(&error) => Ok(()),
        other => other.doing("remove", dir),
    }
}

/// Removes our files from a directory that was left without a state.
async fn clear(dir: &Path) -> Result<(), StorageError> {
    for entry in fs::read_dir(dir).await.doing("list", dir)? {
        let name = entry.name.to_string_lossy();
        let ours = [
            ".log",
            ".idx",
            ".snap",
            layout::TXN_INDEX_SUFFIX,
            layout::INDEXES_FILE,
            layout::DELETED_SUFFIX,
            layout::UNFINISHED_SUFFIX,
            layout::CLEANED_SUFFIX,
            layout::SWAP_SUFFIX,
            layout::CLEANER_FILE,
        ];
        if ours.iter().any(|suffix| name.ends_with(suffix)) {
            let path = dir.join(&entry.name);
            fs::remove_file(&path).await.doing("remove", &path)?;
        }
    }
    Ok(())
}
