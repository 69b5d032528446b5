//! A shard's ledger: what must be on the disk besides it, `ledger/<shard>`.
//!
//! The journal files that hold records not yet in the segments, and the partitions that have been created. It is small, replaced
//! as a whole and durably: when a journal file is begun, before journal files are freed, when the store is opened and closed. Between
//! those the journal itself says what came and went. A start that does not find what the ledger names knows that it was lost,
//! and not that it never was.
#![deny(clippy::unwrap_used, clippy::indexing_slicing)]

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use core_pinning::disk::fs;
use core_pinning::sync::Semaphore;

use crate::error::{Doing, StorageError};
use crate::layout;
use crate::map::HashSet;
use crate::model::{PartitionKey, TopicId};
use crate::sealed::{self, SealError};

const MAGIC: [u8; 4] = *b"CLLG";
const VERSION: u16 = 0;

/// The journal of a run that has not closed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct OpenJournal {
    /// Numbers of the first and the last file that must be there.
    pub(crate) oldest: u64,
    pub(crate) newest: u64,
    /// All records before this sequence were durable.
    pub(crate) settled: u64,
}

#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(crate) struct LedgerState {
    /// `None`: all that the journal held is in the segments.
    pub(crate) journal: Option<OpenJournal>,
    pub(crate) partitions: HashSet<PartitionKey>,
}

impl LedgerState {
    fn encode(&self) -> Vec<u8> {
        let mut p = Vec::with_capacity(32 + self.partitions.len() * 20);
        p.push(u8::from(self.journal.is_some()));
        let journal = self.journal.unwrap_or(OpenJournal { oldest: 0, newest: 0, settled: 0 });
        for number in [journal.oldest, journal.newest, journal.settled] {
            p.extend_from_slice(&number.to_be_bytes());
        }
        p.extend_from_slice(&(self.partitions.len() as u32).to_be_bytes());
        for key in &self.partitions {
            p.extend_from_slice(&key.topic.0);
            p.extend_from_slice(&key.partition.to_be_bytes());
        }
        let mut out = Vec::with_capacity(p.len() + 16);
        sealed::seal(MAGIC, VERSION, &p, &mut out);
        out
    }

    pub(crate) fn decode(mut bytes: &[u8]) -> Result<LedgerState, SealError> {
        let (_, mut f) = sealed::open(MAGIC, VERSION, &mut bytes)?;
        let open = f.array::<1>()? == [1];
        let mut number = || Ok(u64::from_be_bytes(f.array()?));
        let journal = OpenJournal { oldest: number()?, newest: number()?, settled: number()? };
        let count = u32::from_be_bytes(f.array()?) as usize;
        let mut partitions = HashSet::with_capacity_and_hasher(count.min(f.room_for(20)), Default::default());
        for _ in 0..count {
            partitions.insert(PartitionKey { topic: TopicId(f.array()?), partition: u32::from_be_bytes(f.array()?) });
        }
        f.end()?;
        Ok(LedgerState { journal: open.then_some(journal), partitions })
    }

    /// Writes the shard's ledger, durably.
    pub(crate) async fn write(&self, data_dir: &Path, shard: u16) -> Result<(), StorageError> {
        let (dir, path) = (layout::ledger_root(data_dir), layout::ledger(data_dir, shard));
        fs::create_dir_all(&dir).await.doing("create", &dir)?;
        crate::durable::replace(&path, self.encode(), true).await?;
        fs::sync_dir(&dir).await.doing("sync", &dir)?;
        fs::sync_dir(data_dir).await.doing("sync", data_dir)
    }
}

/// A shard's ledger as it stands: `None` if there is none, an inner error if it is damaged.
pub(crate) async fn read(data_dir: &Path, shard: u16) -> Result<Option<Result<LedgerState, SealError>>, StorageError> {
    let path = layout::ledger(data_dir, shard);
    let Some(bytes) = crate::durable::read(&path).await? else { return Ok(None) };
    match LedgerState::decode(&bytes) {
        Err(SealError::Version { found, known }) => {
            Err(StorageError::Version { path: path.to_string_lossy().into(), found, known })
        }
        other => Ok(Some(other)),
    }
}

/// Numbers of the shards that have a ledger.
pub(crate) async fn shards(data_dir: &Path) -> Result<Vec<u16>, StorageError> {
    let root = layout::ledger_root(data_dir);
    match fs::read_dir(&root).await {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        other => {
            let entries = other.doing("list", &root)?;
            Ok(entries.iter().filter_map(|e| layout::parse_shard(&e.name)).collect())
        }
    }
}

/// The partitions that any ledger names.
pub(crate) async fn all_partitions(data_dir: &Path) -> Result<HashSet<PartitionKey>, StorageError> {
    let mut all = HashSet::default();
    for shard in shards(data_dir).await? {
        if let Some(Ok(ledger)) = read(data_dir, shard).await? {
            all.extend(ledger.partitions);
        }
    }
    Ok(all)
}

/// The ledger of a shard that runs.
pub(crate) struct Ledger {
    data_dir: PathBuf,
    shard: u16,
    state: RefCell<LedgerState>,
    /// Of the partitions that it names, those that are not its shard's.
    others: RefCell<HashSet<PartitionKey>>,
    /// One write at a time.
    turn: Semaphore,
}

impl Ledger {
    /// Takes over what recovery has left.
    pub(crate) async fn open(data_dir: &Path, shard: u16) -> Result<Ledger, StorageError> {
        let partitions = match read(data_dir, shard).await? {
            Some(Ok(left)) => left.partitions,
            _ => HashSet::default(),
        };
        let state = RefCell::new(LedgerState { journal: None, partitions });
        Ok(Ledger { data_dir: data_dir.to_owned(), shard, state, others: RefCell::default(), turn: Semaphore::new(1) })
    }

    pub(crate) fn names(&self, key: PartitionKey) -> bool {
        self.state.borrow().partitions.contains(&key)
    }

    /// The partition's creation is durable in the journal.
    pub(crate) fn add(&self, key: PartitionKey) {
        self.state.borrow_mut().partitions.insert(key);
    }

    /// Its deletion is.
    pub(crate) fn remove(&self, key: PartitionKey) {
        self.state.borrow_mut().partitions.remove(&key);
    }

    /// Of the partitions that any ledger `named`, it names those that `ours` is true of; durable when it returns. Those that are
    /// not it goes on naming until it [lets go](Ledger::let_go) of them: where another takes one over, some ledger names it at
    /// every moment.
    pub(crate) async fn take_over(
        &self,
        named: HashSet<PartitionKey>,
        ours: impl Fn(PartitionKey) -> bool,
    ) -> Result<(), StorageError> {
        let (ours, others): (Vec<_>, Vec<_>) = named.into_iter().partition(|key| ours(*key));
        let changed = {
            let partitions = &mut self.state.borrow_mut().partitions;
            self.others.replace(others.into_iter().filter(|key| partitions.contains(key)).collect());
            let before = partitions.len();
            partitions.extend(ours);
            partitions.len() > before
        };
        if changed { self.write().await } else { Ok(()) }
    }

    /// All ledgers have taken over what is theirs.
    pub(crate) async fn let_go(&self) -> Result<(), StorageError> {
        let others = self.others.take();
        if others.is_empty() {
            return Ok(());
        }
        self.state.borrow_mut().partitions.retain(|key| !others.contains(key));
        self.write().await
    }

    /// Journal file `number` is there; durable when it returns. No record in it is acknowledged before.
    pub(crate) async fn begun(&self, number: u64) -> Result<(), StorageError> {
        {
            let journal = &mut self.state.borrow_mut().journal;
            journal.get_or_insert(OpenJournal { oldest: number, newest: number, settled: 0 }).newest = number;
        }
        self.write().await
    }

    /// Files before `oldest` are not needed any more; durable when it returns. They go after that.
    pub(crate) async fn released(&self, oldest: u64, settled: u64) -> Result<(), StorageError> {
        if let Some(journal) = &mut self.state.borrow_mut().journal {
            (journal.oldest, journal.settled) = (oldest, settled);
        }
        self.write().await
    }

    /// The journal is not needed any more.
    pub(crate) async fn closed(&self) -> Result<(), StorageError> {
        self.state.borrow_mut().journal = None;
        self.write().await
    }

    async fn write(&self) -> Result<(), StorageError> {
        let _turn = self.turn.acquire(1).await;
        let state = self.state.borrow().clone();
        state.write(&self.data_dir, self.shard).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_back_and_notices_damage() {
        let key = |partition| PartitionKey { topic: TopicId([9; 16]), partition };
        let journal = Some(OpenJournal { oldest: 3, newest: 5, settled: 77 });
        let ledger = LedgerState { journal, partitions: [key(1), key(4)].into_iter().collect() };
        let bytes = ledger.encode();
        assert_eq!(LedgerState::decode(&bytes), Ok(ledger));
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 4;
            assert!(LedgerState::decode(&bad).is_err(), "a flipped bit at {at}");
        }
        assert_eq!(LedgerState::decode(&LedgerState::default().encode()), Ok(LedgerState::default()));
    }
}
