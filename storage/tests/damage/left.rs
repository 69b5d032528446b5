//! A data directory as a stop or a crash left it, for a test to damage, and what a start must make of it then.

use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use core_pinning::{ShardId, run_local};
use corelane_storage::model::{NodeId, Offset, ProducerEpoch, ProducerId, Sequence};
use corelane_storage::producer_state::AbortedTransaction;
use corelane_storage::record::{BatchBuilder, Codec, TransactionMarker};
use corelane_storage::{
    Finding, Log, LogConfig, NewDirectory, PartitionSpec, ReadError, ReadLimit, RecoveryReport, Severity, StorageError,
    Store, StoreOptions, check_data_dir, lock_data_dir, recover_journals,
};

use super::common::*;

const SEGMENT: u32 = 40_000;

pub fn small(partition: u32) -> PartitionSpec {
    spec_with(partition, LogConfig { segment_bytes: SEGMENT, ..LogConfig::default() })
}

/// A data directory of two partitions as a stop or a crash left it, and what was acknowledged in each.
pub struct Left {
    pub root: tempfile::TempDir,
    pub acknowledged: [Vec<Bytes>; 2],
    /// Transactions of partition 0 that were aborted.
    pub aborted: Vec<AbortedTransaction>,
}

pub enum End {
    Clean,
    Crash,
    /// A crash after everything had been written back and synced.
    WrittenBack,
}

pub fn left(end: End) -> Left {
    left_of(end, false)
}

/// With `aborts` some batches of partition 0 are of transactions that were aborted.
pub fn left_of(end: End, aborts: bool) -> Left {
    let root = tempfile::tempdir().unwrap();
    let mut acknowledged = [Vec::new(), Vec::new()];
    let mut aborted = Vec::new();
    run_local(async || {
        let live = root.path().join("live");
        drop(lock_data_dir(&live, NodeId(1), "abc", NewDirectory::Allowed).unwrap());
        let store = open(&live).await;
        for n in 0..2 {
            let w = Writer { log: store.create(small(n), first()).await.unwrap() };
            for i in 0..100 {
                if aborts && n == 0 && i % 20 == 10 {
                    aborted.push(abort(&w, &mut acknowledged[0]).await);
                }
                acknowledged[n as usize].push(w.append_durably(1, 1500, i).await);
            }
        }
        match end {
            End::Clean => store.close().await.unwrap(),
            End::Crash => {}
            End::WrittenBack => store.write_back().await.unwrap(),
        }
        copy_dir(&live, &root.path().join("data-dir"));
    });
    Left { root, acknowledged, aborted }
}

/// A transaction of one batch and its marker.
async fn abort(w: &Writer, acknowledged: &mut Vec<Bytes>) -> AbortedTransaction {
    let producer = ProducerId(77);
    let base = w.log.bounds().log_end;
    let mut records = BatchBuilder::new(Codec::None).producer(producer, ProducerEpoch(0), Sequence(0)).transactional();
    records.push(1000, None, Some(&[1; 300]));
    let mut marker = BatchBuilder::new(Codec::None).producer(producer, ProducerEpoch(0), Sequence::NONE);
    marker.push_marker(1000, TransactionMarker::Abort, 3);
    for (n, batch) in [records, marker].into_iter().enumerate() {
        let bytes = batch.build_at(base + n as i64, TERM).unwrap();
        w.push(w.entry(bytes.clone())).await.unwrap();
        acknowledged.push(bytes);
    }
    let (last_offset, end) = (base.next(), base.next().next());
    AbortedTransaction { producer, first_offset: base, last_offset, last_stable_offset: end }
}

impl Left {
    pub fn dir(&self) -> PathBuf {
        self.root.path().join("data-dir")
    }

    pub fn partition(&self, partition: u32) -> PathBuf {
        let key = small(partition).key;
        let name = format!("t-{partition}.{}", key.topic);
        self.dir().join("data").join(name)
    }

    /// Segments of a partition, oldest first.
    pub fn segments(&self, partition: u32) -> Vec<PathBuf> {
        let mut files: Vec<_> = fs::read_dir(self.partition(partition)).unwrap().map(|e| e.unwrap().path()).collect();
        files.retain(|p| p.extension().is_some_and(|e| e == "log"));
        files.sort();
        files
    }

    pub fn journals(&self) -> Vec<PathBuf> {
        let mut files: Vec<_> =
            fs::read_dir(self.dir().join("journal/0")).unwrap().map(|e| e.unwrap().path()).collect();
        files.retain(|p| p.extension().is_some_and(|e| e == "jnl"));
        files.sort();
        files
    }

    pub fn recover(&self) -> Result<RecoveryReport, StorageError> {
        run_local(async || recover_journals(&self.dir(), ShardId(0), 1).await)
    }

    /// Starts, and gives the store to look at.
    pub fn start(&self, look: impl AsyncFnOnce(Store)) {
        self.start_with(options(&self.dir()), look);
    }

    pub fn start_with(&self, options: StoreOptions, look: impl AsyncFnOnce(Store)) {
        self.recover().unwrap();
        run_local(async || look(Store::open(options).await.unwrap().0).await);
    }

    /// What an offline check finds, and the exit code that `corelane check` has then. It changes nothing.
    pub fn check(&self) -> (Vec<Finding>, u8) {
        let before = files_below(&self.dir());
        let mut found = Vec::new();
        let report = check_data_dir(&self.dir(), &mut |finding| found.push(finding));
        assert!(before == files_below(&self.dir()), "a check changes nothing");
        let exit = match report.map(|report| report.worst()) {
            Ok(None) => 0,
            Ok(Some(Severity::Damage)) => 7,
            Ok(Some(_)) => 8,
            // Nothing there to check.
            Err(_) => 4,
        };
        (found, exit)
    }

    /// What an offline check says is damaged.
    pub fn damage(&self) -> Vec<Finding> {
        let (mut found, _) = self.check();
        found.retain(|finding| finding.severity == Severity::Damage);
        found
    }

    /// Everything acknowledged is there, takes appends, and is there after a stop too.
    pub fn is_whole(&self) {
        assert_eq!(self.damage(), []);
        self.start(async |store| {
            for (n, expected) in self.acknowledged.iter().enumerate() {
                let w = Writer { log: store.load(small(n as u32)).await.unwrap() };
                assert_same(&read_all(&w.log, Offset(0), 50_000).await, expected);
                if n == 0 {
                    assert_eq!(w.log.aborted_transactions(Offset(0), Offset::MAX).await.unwrap(), self.aborted);
                }
                w.append_durably(1, 100, 7).await;
            }
            store.close().await.unwrap();
        });
        self.start(async |store| {
            for (n, expected) in self.acknowledged.iter().enumerate() {
                let log = store.load(small(n as u32)).await.unwrap();
                let found = read_all(&log, Offset(0), 50_000).await;
                assert_same(&found[..found.len() - 1], expected);
                if n == 0 {
                    assert_eq!(log.aborted_transactions(Offset(0), Offset::MAX).await.unwrap(), self.aborted);
                }
            }
            store.close().await.unwrap();
        });
    }

    /// Partition 0 does not open, says why, and its files stay; partition 1 goes on.
    pub fn is_fenced(&self, says: &[&str]) {
        assert!(!self.damage().is_empty());
        let before = files_below(&self.partition(0));
        self.start(async |store| {
            let error = match store.load_or_create(small(0), first()).await {
                Ok(log) => fenced_by_reading(&log).await,
                Err(error) => error,
            };
            tells(&error, says);
            // Not the first time only.
            assert!(matches!(
                store.load_or_create(small(0), first()).await.err(),
                None | Some(StorageError::Corrupt { .. })
            ));
            let w = Writer { log: store.load_or_create(small(1), first()).await.unwrap() };
            assert_same(&read_all(&w.log, Offset(0), 50_000).await, &self.acknowledged[1]);
            w.append_durably(1, 100, 7).await;
            store.close().await.unwrap();
        });
        let after = files_below(&self.partition(0));
        // In the place of which a compacted one was to come.
        let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().split('.').next().unwrap().to_owned();
        let swap = before.iter().find(|(path, _)| path.extension().is_some_and(|e| e == "swap"));
        let end = |path: &Path| path.file_stem().unwrap().to_str().unwrap().split('.').nth(1).unwrap().to_owned();
        let replaced = swap.map(|(path, _)| name(path)..end(path));
        let is_replaced = |path: &Path| replaced.as_ref().is_some_and(|range| range.contains(&name(path)));
        let is_kept = |path: &Path| path.extension().is_some_and(|e| e == "log") && !is_replaced(path);
        for (path, bytes) in before.iter().filter(|(path, _)| is_kept(path)) {
            let kept = after.iter().find(|(p, _)| p == path).map(|(_, bytes)| bytes);
            assert!(kept == Some(bytes), "{} was changed", path.display());
        }
        // And not the first start only.
        self.start(async |store| {
            let error = match store.load_or_create(small(0), first()).await {
                Ok(log) => fenced_by_reading(&log).await,
                Err(error) => error,
            };
            tells(&error, says);
            store.close().await.unwrap();
        });
    }

    /// The start is refused, says why, and changes nothing.
    pub fn is_refused(&self, says: &[&str]) {
        if self.dir().join("meta.properties").exists() {
            assert!(!self.damage().is_empty());
        }
        let before = files_below(&self.dir());
        for _ in 0..2 {
            match self.recover() {
                Err(error @ StorageError::JournalLost { shard: 0, .. }) => tells(&error, says),
                other => panic!("{other:?}"),
            }
        }
        let after = files_below(&self.dir());
        assert!(before == after, "files were changed");
    }
}

pub fn tells(error: &StorageError, says: &[&str]) {
    let text = error.to_string();
    assert!(says.iter().all(|part| text.contains(part)), "{text}: should say {says:?}");
}

/// Reads until the damage is met: then neither reads nor appends are taken any more.
pub async fn fenced_by_reading(log: &Log) -> StorageError {
    let mut at = log.bounds().log_start;
    let limit = ReadLimit { max_bytes: 10_000, at_least_one: true, upto: Offset::MAX };
    let error = loop {
        match log.read(at, limit).await {
            Ok(read) if read.slices.is_empty() => panic!("no damage up to {at:?}"),
            Ok(read) => at = read.next_offset,
            Err(ReadError::Storage(error)) => break error,
            Err(error) => panic!("{error}"),
        }
    };
    assert!(matches!(error, StorageError::Corrupt { .. }), "{error}");
    let again = log.read(log.bounds().log_start, limit).await;
    assert!(matches!(again, Err(ReadError::Storage(StorageError::Corrupt { .. }))), "reads below the damage too");
    let w = Writer { log: log.clone() };
    let bytes = batch(log.bounds().log_end, 1, 100, 1);
    assert!(matches!(w.push(w.entry(bytes)).await, Err(StorageError::Corrupt { .. })));
    error
}

pub fn files_below(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let (mut files, mut dirs) = (Vec::new(), vec![dir.to_owned()]);
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).into_iter().flatten() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => dirs.push(path),
                false => files.push((path.clone(), fs::read(&path).unwrap())),
            }
        }
    }
    files.sort();
    files
}

pub fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 1;
    fs::write(path, bytes).unwrap();
}

pub fn find(bytes: &[u8], what: &[u8]) -> usize {
    bytes.windows(what.len()).rposition(|w| w == what).unwrap()
}

/// The first of the batches that the file holds, and where.
pub fn first_in(path: &Path, batches: &[Bytes]) -> (usize, Bytes) {
    let bytes = fs::read(path).unwrap();
    let hit = batches.iter().find(|b| bytes.windows(b.len()).any(|w| w == &b[..])).expect("a batch of the file");
    (find(&bytes, hit), hit.clone())
}
