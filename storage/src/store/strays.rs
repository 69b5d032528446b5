//! Directories in `data/` that belong to no open partition.

use std::path::{Path, PathBuf};

use core_pinning::disk::fs;
use core_pinning::sync::oneshot;

use super::Store;
use super::partitions::remove_partition_dir;
use crate::error::{Doing, StorageError};
use crate::journal::record::{RecordKind, put_key};
use crate::layout;
use crate::model::PartitionKey;
use crate::recovery::decision::directory_name::{self as table, Decision, Metadata, Name};

impl Store {
    /// The directories of partitions that are not open, by whose they are.
    pub async fn unopened(&self) -> Result<Vec<(PartitionKey, PathBuf)>, StorageError> {
        let root = layout::partitions_root(&self.0.shared.options.data_dir);
        let entries = fs::read_dir(&root).await.doing("list", &root)?;
        let found = entries
            .iter()
            .filter(|e| e.is_dir)
            .filter_map(|e| Some((layout::parse_partition_dir(&e.name)?, root.join(&e.name))));
        let logs = self.0.logs.borrow();
        Ok(found.filter(|(key, _)| !logs.contains_key(key)).collect())
    }

    /// Bytes of the segments in the directory of a partition that is not open.
    pub async fn bytes_of_unopened(&self, dir: &Path) -> Result<u64, StorageError> {
        let entries = fs::read_dir(dir).await.doing("list", dir)?;
        Ok(entries.iter().filter(|e| layout::parse_offset(&e.name, ".log").is_some()).map(|e| e.len).sum())
    }

    /// Does away with the directory of a partition that the metadata does not name: it is removed if its topic `was_deleted`, else
    /// moved out of the way. Gives the place it has then.
    pub async fn put_away(
        &self,
        key: PartitionKey,
        dir: PathBuf,
        was_deleted: bool,
    ) -> Result<Option<PathBuf>, StorageError> {
        let metadata = if was_deleted { Metadata::Deleted } else { Metadata::NamesNot };
        match table::decide(Name::Partition, metadata).then {
            Decision::Remove => self.delete_left_over(key, Some(dir)).await.map(|()| None),
            _ => self.set_aside(key, dir).await.map(Some),
        }
    }

    /// Deletes a partition that does not open, whatever there is of it: a deletion that a crash cut short, or damage that an
    /// operator gives up. Returns when that is durable.
    pub async fn delete_left_over(&self, key: PartitionKey, dir: Option<PathBuf>) -> Result<(), StorageError> {
        let (sender, receiver) = oneshot::channel();
        let mut payload = Vec::new();
        put_key(&mut payload, key);
        let done = Box::new(move |result| {
            let _ = sender.send(result);
        });
        self.0.shared.journal.append_meta(None, RecordKind::Deleted, payload, Some(done));
        receiver.await.unwrap_or(Err(StorageError::Closed))?;
        self.0.shared.ledger.remove(key);
        self.0.named_elsewhere.borrow_mut().remove(&key);
        self.0.shared.root_unsynced.set(true);
        match dir {
            Some(dir) => remove_partition_dir(&dir).await,
            None => Ok(()),
        }
    }

    /// Moves the directory of a partition that the metadata does not name out of the way, as Kafka does: it is never removed.
    /// Returns where it is now; the place it has, if one of that name has been moved before.
    pub async fn set_aside(&self, key: PartitionKey, dir: PathBuf) -> Result<PathBuf, StorageError> {
        let mut aside = dir.clone().into_os_string();
        aside.push(layout::STRAY_DIR_SUFFIX);
        let aside = PathBuf::from(aside);
        if fs::exists(&aside).await.doing("look at", &aside)? {
            return Ok(dir);
        }
        fs::rename(&dir, &aside).await.doing("rename", &dir)?;
        self.0.shared.root_unsynced.set(true);
        self.0.shared.ledger.remove(key);
        Ok(aside)
    }

    /// The metadata is known: of the partitions that the ledgers name, this shard's are those that `ours` is true of. Durable
    /// when it returns.
    pub async fn take_over(&self, ours: impl Fn(PartitionKey) -> bool) -> Result<(), StorageError> {
        let named = self.0.named_elsewhere.take();
        self.0.shared.ledger.take_over(named, ours).await
    }

    /// Every shard [has taken over](Store::take_over) what is its own: this one's ledger names no others' any more.
    pub async fn let_go(&self) -> Result<(), StorageError> {
        self.0.shared.ledger.let_go().await
    }
}
