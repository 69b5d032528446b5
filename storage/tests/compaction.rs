//! Compaction of a log, against a plain account of what was written.

mod common;

use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;

use bytes::Bytes;
use common::*;
use core_pinning::fault::{self, DiskOp, Effect, FaultPlan};
use core_pinning::{Queue, run_local, spawn, time};
use corelane_storage::model::{Offset, ProducerEpoch, ProducerId, RaftIndex, Sequence};
use corelane_storage::producer_state::Checked;
use corelane_storage::record::{BatchBuilder, BatchHeader, Batches, Codec, RecordIter};
use corelane_storage::{
    Cleaned, Cleaner, CleanerOptions, CleanupPolicy, EntryKind, Log, LogConfig, PartitionSpec, ReadLimit, Store,
};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// A record: offset, timestamp, key, value.
type Item = (i64, i64, Vec<u8>, Option<Vec<u8>>);

fn config() -> LogConfig {
    LogConfig {
        segment_bytes: 4096,
        cleanup: CleanupPolicy { delete: false, compact: true },
        min_cleanable_ratio_ppm: 0,
        index_interval_bytes: 300,
        delete_retention_ms: 1000,
        ..LogConfig::default()
    }
}

fn compacted() -> PartitionSpec {
    spec_with(0, config())
}

/// A log and all that was ever written to it.
struct Account {
    writer: Writer,
    records: Vec<Item>,
    sequences: BTreeMap<i64, i32>,
    now_ms: i64,
    upto: Offset,
}

impl Account {
    async fn new(store: &Store) -> Account {
        Account::of(store.create(compacted(), first()).await.unwrap())
    }

    fn of(log: Log) -> Account {
        let (records, sequences) = (Vec::new(), BTreeMap::new());
        Account { writer: Writer { log }, records, sequences, now_ms: 1_000_000, upto: Offset(0) }
    }

    fn log(&self) -> &Log {
        &self.writer.log
    }

    /// Appends a batch of these keys and values; durable and applied when it returns.
    async fn write(&mut self, codec: Codec, producer: Option<i64>, items: &[(Vec<u8>, Option<Vec<u8>>)]) -> Bytes {
        let base = self.log().bounds().log_end;
        let mut builder = BatchBuilder::new(codec);
        if let Some(id) = producer {
            let next = self.sequences.entry(id).or_insert(0);
            builder = builder.producer(ProducerId(id), ProducerEpoch(0), Sequence(*next));
            *next += items.len() as i32;
        }
        for (n, (key, value)) in items.iter().enumerate() {
            self.now_ms += 1;
            builder.push(self.now_ms, Some(key), value.as_deref());
            self.records.push((base.0 + n as i64, self.now_ms, key.clone(), value.clone()));
        }
        let bytes = builder.build_at(base, TERM).unwrap();
        self.writer.push(self.writer.entry(bytes.clone())).await.unwrap();
        bytes
    }

    async fn write_random(&mut self, rng: &mut StdRng, keys: u32) {
        let items: Vec<_> = (0..rng.random_range(1..8))
            .map(|_| {
                let key = rng.random_range(0..keys).to_be_bytes().to_vec();
                let value = (!rng.random_ratio(1, 6)).then(|| vec![rng.random(); rng.random_range(0..150)]);
                (key, value)
            })
            .collect();
        let codec = Codec::ALL[rng.random_range(0..Codec::ALL.len())];
        let producer = rng.random_ratio(1, 2).then(|| rng.random_range(0..200));
        self.write(codec, producer, &items).await;
        if rng.random_ratio(1, 30) {
            let id = corelane_storage::model::LogId::new(TERM, self.log().next_index());
            let blank = corelane_storage::LogEntry { id, kind: EntryKind::Blank, bytes: Bytes::new() };
            self.writer.push(blank).await.unwrap();
        }
    }

    /// Has everything that can be compacted be in the files.
    async fn clean(&mut self, store: &Store, options: CleanerOptions) -> Option<Cleaned> {
        store.write_back().await.unwrap();
        let cleaned = Cleaner::new(options).clean(self.log(), self.now_ms).await.unwrap();
        if let Some(cleaned) = cleaned {
            assert!(cleaned.map_bytes <= options.dedupe_bytes);
            self.upto = self.upto.max(cleaned.upto);
        }
        cleaned
    }

    async fn check(&self) {
        self.check_log(self.log()).await;
    }

    /// Compares what is in the log with what may and must be.
    async fn check_log(&self, log: &Log) {
        let found = records_of(log, Offset(0)).await;
        let mut written = self.records.iter();
        let mut last_of: BTreeMap<&[u8], &Item> = BTreeMap::new();
        for record in &self.records {
            last_of.insert(&record.2, record);
        }
        let mut left: BTreeMap<&[u8], i64> = BTreeMap::new();
        for record in &found {
            assert!(written.any(|w| w == record), "records in their order, as they were: {record:?}");
            left.insert(&record.2, record.0);
        }
        for (key, last) in &last_of {
            match (left.get(key), &last.3) {
                (Some(offset), _) => assert_eq!(*offset, last.0, "the last record of {key:?}, or none before it"),
                (None, value) => assert!(value.is_none() && last.0 < self.upto.0, "{last:?} is lost"),
            }
        }
        let behind = |items: &[Item]| items.iter().filter(|r| r.0 >= self.upto.0).cloned().collect::<Vec<_>>();
        assert_eq!(behind(&found), behind(&self.records), "what was not compacted is all there");
        for pair in found.iter().filter(|r| r.0 < self.upto.0) {
            let later = self.records.iter().any(|r| r.2 == pair.2 && r.0 > pair.0 && r.0 < self.upto.0);
            assert!(!later, "{pair:?} should be gone");
        }
        for at in (0..self.log().bounds().log_end.0).step_by(17) {
            let expected: Vec<_> = found.iter().filter(|r| r.0 >= at).cloned().collect();
            let some = records_of(log, Offset(at)).await;
            assert_eq!(some.into_iter().filter(|r| r.0 >= at).collect::<Vec<_>>(), expected, "from offset {at}");
        }
        for record in found.iter().step_by(13) {
            let end = log.bounds().log_end;
            let first = log.offset_for_timestamp(record.1, end).await.unwrap().unwrap();
            assert_eq!((first.0.0, first.1), (record.0, record.1), "times rise with the offsets here");
        }
        let latest = log.max_timestamp(log.bounds().log_end).await.unwrap();
        assert_eq!(latest.map(|l| l.0.0), found.last().map(|r| r.0));
    }
}

/// Every record at or behind `from` (and those before it in its batch), read as a consumer does.
async fn records_of(log: &Log, from: Offset) -> Vec<Item> {
    let (mut at, mut found) = (from, Vec::new());
    loop {
        let limit = ReadLimit { max_bytes: 3000, at_least_one: true, upto: Offset::MAX };
        let read = log.read(at, limit).await.unwrap();
        if read.slices.is_empty() {
            return found;
        }
        assert!(read.next_offset > at && read.next_offset > read.first_offset);
        at = read.next_offset;
        for batch in read.slices.into_iter().flat_map(Batches::new) {
            let (header, batch) = batch.unwrap();
            header.verify_crc(&batch).unwrap();
            assert!(!header.is_internal() && header.next_offset() <= at);
            for record in RecordIter::new(&batch, 1 << 20).unwrap() {
                let r = record.unwrap();
                found.push((r.offset.0, r.timestamp, r.key.unwrap().to_vec(), r.value.map(|v| v.to_vec())));
            }
        }
    }
}

/// A copy of the data directory as it is this moment, as after a crash; opens it.
async fn after_crash(dir: &Path, look: impl AsyncFnOnce(&Store, Log)) {
    let copy = tempfile::tempdir().unwrap();
    copy_dir(dir, copy.path());
    let store = open(copy.path()).await;
    let log = store.load(compacted()).await.unwrap();
    look(&store, log).await;
    store.close().await.unwrap();
}

fn names(store: &Store) -> Vec<String> {
    let dir = store.partition_dir("t", compacted().key);
    let mut names: Vec<_> =
        std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn any_history_keeps_the_last_record_of_each_key() {
    for seed in 0..6 {
        let mut rng = StdRng::seed_from_u64(seed);
        let dir = tempfile::tempdir().unwrap();
        let keys = [3, 20, 2000][seed as usize % 3];
        run_local(async || {
            let mut store = open(dir.path()).await;
            let mut account = Account::new(&store).await;
            for _ in 0..400 {
                match rng.random_range(0..30) {
                    0..27 => account.write_random(&mut rng, keys).await,
                    27 => {
                        // From a map that holds next to nothing to one that holds all.
                        let dedupe_bytes = 24 * [64, 200, 5000][rng.random_range(0..3)];
                        account.clean(&store, CleanerOptions { dedupe_bytes, ..CleanerOptions::default() }).await;
                        account.check().await;
                    }
                    28 => account.now_ms += rng.random_range(0..2000),
                    _ => {
                        after_crash(dir.path(), async |_, log| account.check_log(&log).await).await;
                        store.close().await.unwrap();
                        store = open(dir.path()).await;
                        account.writer.log = store.load(compacted()).await.unwrap();
                    }
                }
            }
            while account.clean(&store, CleanerOptions::default()).await.is_some() {}
            account.check().await;
            after_crash(dir.path(), async |_, log| account.check_log(&log).await).await;
            let left = names(&store);
            assert!(!left.iter().any(|n| n.ends_with(".cleaned") || n.ends_with(".swap")), "{left:?}");
            store.close().await.unwrap();
        });
    }
}

#[test]
fn a_failure_at_any_step_loses_nothing_and_the_next_pass_goes_on() {
    const EIO: i32 = 5;
    let steps = [
        (DiskOp::Open, ".cleaned"),
        (DiskOp::Write, ".cleaned"),
        (DiskOp::SetLen, ".cleaned"),
        (DiskOp::Sync, ".cleaned"),
        (DiskOp::Rename, ".cleaned"),
        (DiskOp::Rename, ".swap"),
        (DiskOp::Remove, ".log"),
        (DiskOp::Remove, ".idx"),
        (DiskOp::Remove, ".snap"),
        (DiskOp::Sync, "t-0"),
        (DiskOp::Rename, "cleaner"),
        (DiskOp::Rename, ".idx"),
        (DiskOp::Read, ".log"),
    ];
    for (op, path) in steps {
        let mut hit = 0;
        for skip in 0..5 {
            let dir = tempfile::tempdir().unwrap();
            run_local(async || {
                let mut rng = StdRng::seed_from_u64(skip);
                let store = open(dir.path()).await;
                let mut account = Account::new(&store).await;
                account.log().set_config(LogConfig { segment_bytes: 1200, ..config() });
                for _ in 0..60 {
                    account.write_random(&mut rng, 10).await;
                }
                account.log().set_config(config());
                store.write_back().await.unwrap();
                fault::set(FaultPlan::new().nth(op, path, skip, 1, Effect::Error(EIO)));
                let mut cleaner = Cleaner::new(CleanerOptions::default());
                let result = cleaner.clean(account.log(), account.now_ms).await;
                hit += fault::hits();
                fault::clear();
                if let Ok(Some(cleaned)) = result {
                    account.upto = cleaned.upto;
                }
                let unfinished = Account { upto: Offset(0), ..Account::of(account.log().clone()) };
                let subset = async |log: &Log| {
                    // As far as the pass came, some records are gone and some are not.
                    let found = records_of(log, Offset(0)).await;
                    assert!(found.iter().all(|r| account.records.contains(r)));
                    for (n, record) in account.records.iter().enumerate() {
                        let later = account.records[n + 1..].iter().any(|r| r.2 == record.2);
                        assert!(later || found.contains(record), "{op:?} {path} {skip}: {record:?} is lost");
                    }
                    assert!(log.fenced().is_none());
                };
                subset(&unfinished.writer.log).await;
                after_crash(dir.path(), async |store, log| {
                    subset(&log).await;
                    assert!(!names(store).iter().any(|n| n.ends_with(".cleaned") || n.ends_with(".swap")));
                })
                .await;
                account.write_random(&mut rng, 10).await;
                while account.clean(&store, CleanerOptions::default()).await.is_some() {}
                account.check().await;
                assert!(!names(&store).iter().any(|n| n.ends_with(".cleaned") || n.ends_with(".swap")));
                store.close().await.unwrap();
                let store = open(dir.path()).await;
                account.writer.log = store.load(compacted()).await.unwrap();
                account.check().await;
                store.close().await.unwrap();
            });
        }
        assert!(hit > 0, "{op:?} {path} was never met");
    }
}

#[test]
fn small_segments_become_few() {
    let dir = tempfile::tempdir().unwrap();
    run_local(async || {
        let store = open(dir.path()).await;
        let mut account = Account::new(&store).await;
        for n in 0..600u32 {
            let key = (n % 10).to_be_bytes().to_vec();
            account.write(Codec::None, None, &[(key, Some(vec![n as u8; 100]))]).await;
        }
        let before = account.log().segments().len();
        let purged = account.log().purged();
        let cleaned = account.clean(&store, CleanerOptions::default()).await.unwrap();
        assert!(before > 20 && cleaned.segments_before == before - 1, "{before} {cleaned:?}");
        // Each pass joins as many as fit by their size before it.
        while account.log().segments().len() > 2 {
            let before = account.log().segments().len();
            account.write(Codec::None, None, &vec![(b"roll".to_vec(), Some(vec![1; 2500])); 2]).await;
            account.clean(&store, CleanerOptions::default()).await;
            assert!(account.log().segments().len() <= before + 1);
            if before <= 3 {
                break;
            }
        }
        assert!(account.log().segments().len() <= 4, "{:?}", account.log().segments());
        assert!(account.log().segments().iter().all(|s| s.bytes <= 4096 + 100 || s.active));
        assert!(account.log().size_bytes() < 20_000);
        assert!(account.log().purged() > purged, "its entries are given up for Raft");
        assert_eq!(segment_files(&store, &compacted()).len(), account.log().segments().len());
        account.check().await;
        // Entries behind the purge point are all there.
        let (first, next) = (account.log().first_index(), account.log().next_index());
        let entries = account.log().read_entries(first..next, usize::MAX).await.unwrap();
        assert_eq!(entries.len() as u64, next - first);
        assert_eq!(entries.first().map(|e| e.id.index), Some(first));
        assert!(account.log().read_entries(RaftIndex(0)..first, usize::MAX).await.unwrap().is_empty());
        store.close().await.unwrap();
    });
}

#[test]
fn readers_go_on_while_segments_are_replaced() {
    let dir = tempfile::tempdir().unwrap();
    run_local(async || {
        let store = open_with(corelane_storage::StoreOptions { cache_budget: 0, ..options(dir.path()) }).await;
        let mut account = Account::new(&store).await;
        let mut rng = StdRng::seed_from_u64(5);
        for _ in 0..300 {
            account.write_random(&mut rng, 12).await;
        }
        store.write_back().await.unwrap();
        let last: BTreeMap<Vec<u8>, Item> = account.records.iter().map(|r| (r.2.clone(), r.clone())).collect();
        let stop = Rc::new(std::cell::Cell::new(false));
        let readers: Vec<_> = (0..4)
            .map(|_| {
                let (log, last, stop) = (account.log().clone(), last.clone(), stop.clone());
                spawn(Queue::Serve, "reader", async move {
                    let mut rounds = 0;
                    while !stop.get() {
                        let found = records_of(&log, Offset(0)).await;
                        for record in last.values().filter(|r| r.3.is_some()) {
                            assert!(found.contains(record), "{record:?} is not seen");
                        }
                        let at = found[found.len() / 2].1;
                        assert!(log.offset_for_timestamp(at, Offset(i64::MAX)).await.unwrap().is_some());
                        rounds += 1;
                    }
                    rounds
                })
            })
            .collect();
        for _ in 0..20 {
            let dedupe_bytes = 24 * 64;
            account.now_ms += 10;
            account.clean(&store, CleanerOptions { dedupe_bytes, ..CleanerOptions::default() }).await;
            // A pass over what is clean already, too.
            let name = store.partition_dir("t", compacted().key).join("cleaner");
            let _ = std::fs::remove_file(name);
            core_pinning::yield_now().await;
        }
        stop.set(true);
        for reader in readers {
            assert!(reader.await > 0);
        }
        account.check().await;
        store.close().await.unwrap();
    });
}

#[test]
fn producers_are_known_from_what_is_left_of_their_batches() {
    let dir = tempfile::tempdir().unwrap();
    run_local(async || {
        let store = open(dir.path()).await;
        let mut account = Account::new(&store).await;
        let mut last = BTreeMap::new();
        for n in 0..300 {
            let bytes = account.write(Codec::Lz4, Some(n % 150), &[(b"k".to_vec(), Some(vec![1; 50]))]).await;
            last.insert(n % 150, bytes);
        }
        for _ in 0..50 {
            account.write(Codec::None, None, &[(b"k".to_vec(), Some(vec![1; 300]))]).await;
        }
        assert!(account.clean(&store, CleanerOptions::default()).await.is_some());
        account.check().await;
        after_crash(dir.path(), async |store, log| {
            drop(log);
            store.close().await.unwrap();
        })
        .await;
        // Without any snapshot the table is made again from the segments.
        let copy = tempfile::tempdir().unwrap();
        copy_dir(dir.path(), copy.path());
        for (path, _) in contents(copy.path()).iter().filter(|(p, _)| p.extension().is_some_and(|e| e == "snap")) {
            std::fs::remove_file(path).unwrap();
        }
        let again = open(copy.path()).await;
        let log = again.load(compacted()).await.unwrap();
        for (id, batch) in &last {
            let header = BatchHeader::parse(batch).unwrap();
            let checked = log.producers().borrow().check(&header).unwrap();
            assert!(matches!(checked, Checked::Duplicate { base, .. } if base == header.base_offset), "producer {id}");
        }
        again.close().await.unwrap();
        store.close().await.unwrap();
    });
}

#[test]
fn memory_for_keys_is_bounded_and_more_keys_take_more_passes() {
    let dir = tempfile::tempdir().unwrap();
    run_local(async || {
        let store = open(dir.path()).await;
        let mut account = Account::new(&store).await;
        for round in 0..2u8 {
            for n in 0..150u32 {
                let items: Vec<_> =
                    (0..10).map(|i| ((n * 10 + i).to_be_bytes().to_vec(), Some(vec![round; 20]))).collect();
                account.write(Codec::None, None, &items).await;
            }
        }
        account.write(Codec::None, None, &[(vec![0; 4], Some(vec![2; 5000]))]).await;
        let options = CleanerOptions { dedupe_bytes: 24 * 400, ..CleanerOptions::default() };
        let mut passes = 0;
        while account.clean(&store, options).await.is_some() {
            passes += 1;
            account.check().await;
        }
        assert!(passes >= 4, "{passes} passes for 1500 keys of 360 at a time");
        store.close().await.unwrap();
    });
}

#[test]
fn tombstones_are_seen_for_as_long_as_they_shall() {
    let dir = tempfile::tempdir().unwrap();
    run_local(async || {
        let store = open(dir.path()).await;
        let mut account = Account::new(&store).await;
        let fill = |n: u8| (b"other".to_vec(), Some(vec![n; 3000]));
        account.write(Codec::None, None, &[(b"k".to_vec(), Some(vec![1])), fill(0)]).await;
        account.write(Codec::None, None, &[(b"k".to_vec(), None), fill(1)]).await;
        let has = async |account: &Account| records_of(account.log(), Offset(0)).await.iter().any(|r| r.2 == b"k");
        for n in 2..5 {
            account.write(Codec::None, None, &[fill(n)]).await;
            account.clean(&store, CleanerOptions::default()).await.unwrap();
            assert!(has(&account).await, "the tombstone is seen before its horizon");
            account.check().await;
        }
        account.now_ms += 1000;
        account.write(Codec::None, None, &[fill(5)]).await;
        account.clean(&store, CleanerOptions::default()).await.unwrap();
        assert!(!has(&account).await, "and goes in a pass after it");
        account.check().await;
        store.close().await.unwrap();
    });
}

#[test]
fn lags_and_ratio_say_when() {
    let dir = tempfile::tempdir().unwrap();
    run_local(async || {
        let store = open(dir.path()).await;
        let mut account = Account::new(&store).await;
        let write = async |account: &mut Account| {
            for n in 0..20u8 {
                account.write(Codec::None, None, &[(vec![n % 5], Some(vec![n; 500]))]).await;
            }
        };
        write(&mut account).await;
        store.write_back().await.unwrap();
        let log = account.log().clone();
        let look = async |config: LogConfig, now_ms: i64| {
            log.set_config(config);
            log.cleanable(now_ms).await.unwrap()
        };
        assert!(look(config(), account.now_ms).await.unwrap().is_due());
        let lag = LogConfig { min_compaction_lag_ms: 10, ..config() };
        let some = look(lag.clone(), account.now_ms).await.unwrap();
        assert!(some.dirty_bytes > 0 && some.dirty_bytes < log.size_bytes(), "the old ones");
        assert_eq!(look(lag.clone(), 0).await.unwrap().dirty_bytes, 0);
        assert!(Cleaner::new(CleanerOptions::default()).clean(&log, 0).await.unwrap().is_none());
        let none = LogConfig { cleanup: CleanupPolicy { delete: true, compact: false }, ..config() };
        assert_eq!(look(none, account.now_ms).await, None);
        log.set_config(config());
        account.clean(&store, CleanerOptions::default()).await.unwrap();
        write(&mut account).await;
        store.write_back().await.unwrap();
        let half = LogConfig { min_cleanable_ratio_ppm: 990_000, ..config() };
        let some = look(half.clone(), account.now_ms).await.unwrap();
        assert!(some.dirty_bytes > 0 && some.clean_bytes > 0 && !some.is_due(), "{some:?}");
        let late = LogConfig { max_compaction_lag_ms: 50, ..half };
        assert!(!look(late.clone(), account.now_ms).await.unwrap().is_due());
        let active = log.segments().last().unwrap().base_offset;
        let some = look(late, account.now_ms + 1000).await.unwrap();
        assert!(some.is_due() && some.overdue);
        assert!(log.segments().last().unwrap().base_offset > active, "the active segment is closed for it");
        account.now_ms += 1000;
        account.clean(&store, CleanerOptions::default()).await.unwrap();
        assert_eq!(account.upto, log.bounds().log_end, "so that all of it is compacted");
        account.check().await;
        store.close().await.unwrap();
        let store = open(dir.path()).await;
        let log = store.load(compacted()).await.unwrap();
        let some = log.cleanable(account.now_ms).await.unwrap().unwrap();
        assert_eq!(some.dirty_bytes, 0, "how far it came is remembered");
        account.check_log(&log).await;
        store.close().await.unwrap();
    });
}

#[test]
fn retention_and_trims_meet_compaction() {
    let dir = tempfile::tempdir().unwrap();
    run_local(async || {
        let store = open(dir.path()).await;
        let mut account = Account::new(&store).await;
        let mut rng = StdRng::seed_from_u64(8);
        for round in 0..8 {
            for _ in 0..60 {
                account.write_random(&mut rng, 500).await;
            }
            store.write_back().await.unwrap();
            let both = CleanupPolicy { delete: true, compact: true };
            let retention_bytes = 16 << 10;
            let log = account.log().clone();
            log.set_config(LogConfig { cleanup: both, retention_bytes, retention_ms: -1, ..config() });
            let mut cleaner = Cleaner::new(CleanerOptions::default());
            let to = Offset(log.bounds().log_start.0 + 20);
            let (cleaned, freed, trimmed) =
                futures::join!(cleaner.clean(&log, account.now_ms), log.apply_retention(account.now_ms), async {
                    if round % 2 == 0 { log.trim(to).await } else { Ok(()) }
                });
            cleaned.unwrap();
            freed.unwrap();
            trimmed.unwrap();
            assert!(log.fenced().is_none() && log.size_bytes() < 40 << 10);
            let start = log.bounds().log_start;
            let found = records_of(&log, start).await;
            for record in account.records.iter().filter(|r| r.0 >= start.0 && r.3.is_some()) {
                let later = account.records.iter().any(|r| r.2 == record.2 && r.0 > record.0);
                assert!(later || found.contains(record), "{record:?} is lost");
            }
            after_crash(dir.path(), async |_, log| {
                assert_eq!(records_of(&log, log.bounds().log_start).await.last(), found.last());
            })
            .await;
        }
        store.close().await.unwrap();
    });
}

#[test]
fn a_segment_is_as_old_as_its_records() {
    let dir = tempfile::tempdir().unwrap();
    run_local(async || {
        let aged = || spec_with(1, LogConfig { segment_ms: 1000, ..LogConfig::default() });
        let mut store = open(dir.path()).await;
        let mut w = Writer { log: store.create(aged(), first()).await.unwrap() };
        let append = async |w: &Writer, timestamp: i64| {
            let next = batch_at(w.log.bounds().log_end, 1, 10, 1, timestamp);
            w.push(w.entry(next)).await.unwrap();
            w.log.segments().len()
        };
        for (timestamp, segments) in [(5000, 1), (6000, 1), (4000, 1), (6001, 2), (6500, 2), (9000, 3)] {
            assert_eq!(append(&w, timestamp).await, segments, "at {timestamp}");
        }
        store.close().await.unwrap();
        store = open(dir.path()).await;
        w.log = store.load(aged()).await.unwrap();
        // What the segment's age counts from has to be read first.
        append(&w, 9001).await;
        let begun = time::now();
        while append(&w, 10_001).await < 4 {
            assert!(begun.elapsed() < std::time::Duration::from_secs(60), "not closed");
            core_pinning::yield_now().await;
        }
        let limit = ReadLimit { max_bytes: 1 << 20, at_least_one: true, upto: Offset::MAX };
        w.log.read(Offset(0), limit).await.unwrap();
        store.close().await.unwrap();
    });
}
