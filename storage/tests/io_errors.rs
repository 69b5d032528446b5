//! Each line of the rule for a disk that fails (`StorageError`).

mod common;

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use common::*;
use core_pinning::fault::{self, DiskOp, Effect, FaultPlan};
use core_pinning::{ShardId, run_local, time};
use corelane_storage::model::Offset;
use corelane_storage::{LogConfig, ReadError, ReadLimit, StorageError, Store, StoreOptions, recover_journals};

const EIO: i32 = 5;
const ENOSPC: i32 = 28;

/// Small segments, so that all kinds of files are written soon.
fn small_segments(partition: u32) -> corelane_storage::PartitionSpec {
    spec_with(partition, LogConfig { segment_bytes: 300_000, file_delete_delay_ms: 0, ..LogConfig::default() })
}

/// Appends until `done`, or until the log refuses; gives why.
async fn append_while(
    store: &Store,
    w: &Writer,
    all: &mut Vec<Bytes>,
    done: impl Fn() -> bool,
) -> Option<StorageError> {
    for n in 0..20_000 {
        if done() {
            return None;
        }
        let next = batch(w.log.bounds().log_end, 1, 5000, n);
        match w.log.append([w.entry(next.clone())], |_| {}) {
            Ok(()) => all.push(next),
            Err(error) => return Some(error),
        }
        while store.dirty().is_over() && store.refusal().is_none() && !done() {
            time::sleep(Duration::from_millis(1)).await;
        }
        core_pinning::yield_now().await;
    }
    panic!("neither done nor refused");
}

/// What a start after the end of the process finds: everything that was acknowledged.
fn next_start_has(dir: &Path, acknowledged: &[Bytes]) {
    run_local(async || {
        let store = open(dir).await;
        let found = read_all(&store.load(small_segments(0)).await.unwrap(), Offset(0), 100_000).await;
        assert!(found.len() >= acknowledged.len());
        assert_same(&found[..acknowledged.len()], acknowledged);
        store.close().await.unwrap();
    });
}

#[test]
fn what_ends_the_store_is_never_tried_again() {
    let rules = [
        (DiskOp::Write, ".jnl", EIO),
        (DiskOp::Write, ".jnl", ENOSPC),
        (DiskOp::Allocate, "spare-", EIO),
        (DiskOp::Rename, "spare-", EIO),
        (DiskOp::Sync, "spare-", EIO),
        (DiskOp::Sync, ".log", EIO),
        (DiskOp::Sync, ".log", ENOSPC),
    ];
    for (op, path, errno) in rules {
        let dir = tempfile::tempdir().unwrap();
        let mut acknowledged = Vec::new();
        run_local(async || {
            let store = open(dir.path()).await;
            let w = Writer { log: store.create(small_segments(0), first()).await.unwrap() };
            acknowledged.push(w.append_durably(1, 5000, 0).await);
            fault::set(FaultPlan::new().every(op, path, Effect::Error(errno)));
            let refused = append_while(&store, &w, &mut acknowledged, || false).await;
            assert!(matches!(refused, Some(StorageError::JournalFailed { .. })), "{op:?} {path} {errno}: {refused:?}");
            assert!(matches!(store.failed().await, StorageError::JournalFailed { .. }));
            let hits = fault::hits();
            assert!(matches!(store.create(spec(9), first()).await, Err(StorageError::JournalFailed { .. })));
            assert!(store.close().await.is_err());
            assert_eq!(fault::hits(), hits, "{op:?} {path}: not tried again");
            fault::clear();
            acknowledged.truncate(w.log.bounds().flushed.0 as usize);
        });
        next_start_has(dir.path(), &acknowledged);
    }
}

#[test]
fn a_state_that_has_no_room_waits_and_one_that_fails_ends() {
    for (errno, ends) in [(ENOSPC, false), (EIO, true)] {
        let dir = tempfile::tempdir().unwrap();
        let mut acknowledged = Vec::new();
        run_local(async || {
            let store = open(dir.path()).await;
            let w = Writer { log: store.create(small_segments(0), first()).await.unwrap() };
            let idle = Writer { log: store.create(small_segments(1), first()).await.unwrap() };
            idle.append_durably(1, 100, 1).await;
            // The idle log's state goes to its file when the journal's first file does.
            fault::set(FaultPlan::new().every(DiskOp::Write, "/state", Effect::Error(errno)));
            let hit = || fault::hits() > 0;
            let refused = append_while(&store, &w, &mut acknowledged, hit).await;
            assert!(refused.is_none(), "{refused:?}");
            if ends {
                assert!(matches!(store.failed().await, StorageError::JournalFailed { .. }));
                acknowledged.truncate(w.log.bounds().flushed.0 as usize);
                return fault::clear();
            }
            let freed = store.stats().checkpoints;
            until("it is tried again", || fault::hits() > 2).await;
            assert_eq!(store.stats().checkpoints, freed);
            fault::clear();
            until("the checkpoint", || store.stats().checkpoints > freed).await;
            assert!(store.refusal().is_none());
            store.close().await.unwrap();
        });
        fault::clear();
        next_start_has(dir.path(), &acknowledged);
    }
}

#[test]
fn a_segment_that_cannot_be_written_ends_the_store_when_the_journal_needs_its_files() {
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged = Vec::new();
    run_local(async || {
        recover_journals(dir.path(), ShardId(0), 1).await.unwrap();
        let options = StoreOptions { write_back_patience: Duration::from_millis(300), ..options(dir.path()) };
        let (store, _) = Store::open(options).await.unwrap();
        let w = Writer { log: store.create(small_segments(0), first()).await.unwrap() };
        let other = Writer { log: store.create(small_segments(1), first()).await.unwrap() };
        fault::set(FaultPlan::new().every(DiskOp::Write, "t-0", Effect::Error(EIO)));
        let refused = append_while(&store, &w, &mut acknowledged, || false).await;
        assert!(matches!(refused, Some(StorageError::Io { .. })), "its partition only: {refused:?}");
        flushed(&w.log).await;
        let mut others = Vec::new();
        let refused = append_while(&store, &other, &mut others, || false).await;
        assert!(matches!(refused, Some(StorageError::JournalFailed { .. })), "{refused:?}");
        fault::clear();
    });
    next_start_has(dir.path(), &acknowledged);
}

#[test]
fn appends_wait_for_a_checkpoint_that_is_behind_and_not_for_one_that_has_failed() {
    for fails in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        run_local(async || {
            let options = StoreOptions { write_back_patience: Duration::from_secs(1000), ..options(dir.path()) };
            let (files_max, room) = (options.journal_files_max, options.journal_files_max * options.journal_file_bytes);
            let store = open_with(options).await;
            let stuck = Writer { log: store.create(small_segments(0), first()).await.unwrap() };
            let w = Writer { log: store.create(small_segments(1), first()).await.unwrap() };
            fault::set(FaultPlan::new().every(DiskOp::Write, "t-0", Effect::Error(EIO)));
            stuck.append_durably(1, 100, 0).await;
            // The checkpoint that begins when half of the files are full waits for the first partition.
            let mut all = Vec::new();
            while !store.dirty().is_over() {
                assert!(all.len() * 5000 < 2 * room, "the journal grows beyond its size");
                all.push(w.append_durably(1, 5000, all.len() as u64).await);
            }
            assert_eq!(store.stats().journal_files, files_max + 1, "one more is begun when it becomes too many");
            assert!(store.dirty().used() < store.dirty().limit(), "it is the journal that is waited for");
            if fails {
                fault::set(FaultPlan::new().every(DiskOp::Write, "", Effect::Error(EIO)));
                let next = batch(w.log.bounds().log_end, 1, 5000, 7);
                assert!(matches!(w.push(w.entry(next)).await, Err(StorageError::JournalFailed { .. })));
            } else {
                fault::clear();
            }
            store.dirty().room().await;
            fault::clear();
            if !fails {
                assert!(store.stats().journal_files <= files_max);
                all.push(w.append_durably(1, 5000, 7).await);
                assert_same(&read_all(&w.log, Offset(0), 50_000).await, &all);
                store.close().await.unwrap();
            }
        });
    }
}

#[test]
fn a_failed_read_fails_its_call_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let mut all = Vec::new();
    run_local(async || {
        let store = open(dir.path()).await;
        let w = Writer { log: store.create(small_segments(0), first()).await.unwrap() };
        for n in 0..200 {
            all.push(w.append_durably(1, 5000, n).await);
        }
        store.close().await.unwrap();
    });
    for (op, path) in [(DiskOp::Read, ".log"), (DiskOp::Open, ".log"), (DiskOp::Read, ".idx")] {
        run_local(async || {
            let store = open(dir.path()).await;
            let log = store.load(small_segments(0)).await.unwrap();
            fault::set(FaultPlan::new().every(op, path, Effect::Error(EIO)));
            let limit = ReadLimit { max_bytes: 1000, at_least_one: true, upto: Offset::MAX };
            let read = log.read(Offset(3), limit).await;
            assert!(matches!(read, Err(ReadError::Storage(StorageError::Io { .. }))), "{op:?} {path}: {read:?}");
            assert!(log.offset_for_timestamp(1003, Offset(200)).await.is_err());
            fault::clear();
            assert!(log.fenced().is_none());
            assert_same(&read_all(&log, Offset(0), 50_000).await, &all);
            store.close().await.unwrap();
        });
    }
    run_local(async || {
        let store = open(dir.path()).await;
        fault::set(FaultPlan::new().every(DiskOp::Read, "/state", Effect::Error(EIO)));
        assert!(matches!(store.load(small_segments(0)).await, Err(StorageError::Io { .. })));
        fault::clear();
        assert_same(&read_all(&store.load(small_segments(0)).await.unwrap(), Offset(0), 50_000).await, &all);
        store.close().await.unwrap();
    });
}

#[test]
fn shortcuts_that_cannot_be_written_are_done_without() {
    let dir = tempfile::tempdir().unwrap();
    let mut all = Vec::new();
    run_local(async || {
        let store = open(dir.path()).await;
        let w = Writer { log: store.create(small_segments(0), first()).await.unwrap() };
        fault::set(FaultPlan::new().every(DiskOp::Write, ".idx", Effect::Error(EIO)).every(
            DiskOp::Write,
            ".snap",
            Effect::Error(EIO),
        ));
        for n in 0..200 {
            all.push(w.append_durably(1, 5000, n).await);
        }
        store.close().await.unwrap();
        assert!(fault::hits() > 0);
        fault::clear();
        let store = open(dir.path()).await;
        assert_same(&read_all(&store.load(small_segments(0)).await.unwrap(), Offset(0), 50_000).await, &all);
        store.close().await.unwrap();
    });
}

#[test]
fn what_cannot_be_removed_is_out_of_the_log_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    run_local(async || {
        let store = open(dir.path()).await;
        let w = Writer { log: store.create(small_segments(0), first()).await.unwrap() };
        let doomed = Writer { log: store.create(small_segments(1), first()).await.unwrap() };
        doomed.append_durably(1, 100, 1).await;
        for n in 0..200 {
            w.append_durably(1, 5000, n).await;
        }
        store.write_back().await.unwrap();
        fault::set(FaultPlan::new().every(DiskOp::Remove, "", Effect::Error(EIO)));
        let start = w.log.segments()[2].base_offset;
        assert!(w.log.trim(start).await.is_err());
        assert_eq!(w.log.bounds().log_start, start);
        assert!(store.delete(spec(1).key).await.is_err());
        assert!(
            doomed.log.read(Offset(0), ReadLimit { max_bytes: 1, at_least_one: true, upto: Offset(1) }).await.is_err()
        );
        fault::clear();
        w.append_durably(1, 100, 1).await;
        assert_eq!(segment_files(&store, &spec(0)).len(), w.log.segments().len() + 2);
        // Killed.
    });
    run_local(async || {
        let store = open(dir.path()).await;
        let log = store.load(small_segments(0)).await.unwrap();
        assert!(log.bounds().log_start > Offset(0));
        assert_eq!(segment_files(&store, &spec(0)).len(), log.segments().len(), "removed by the next start");
        assert!(!store.exists(&spec(1)));
        assert_eq!(std::fs::read_dir(dir.path().join("data")).unwrap().count(), 1);
        store.close().await.unwrap();
    });
}

#[test]
fn a_start_that_fails_leaves_everything_for_the_next_one() {
    for (op, path) in
        [(DiskOp::Read, ".jnl"), (DiskOp::Write, ".log"), (DiskOp::Sync, ".log"), (DiskOp::Write, "state")]
    {
        let dir = tempfile::tempdir().unwrap();
        let mut all = Vec::new();
        run_local(async || {
            let store = open(dir.path()).await;
            let w = Writer { log: store.create(small_segments(0), first()).await.unwrap() };
            for n in 0..50 {
                all.push(w.append_durably(1, 5000, n).await);
            }
            // Killed.
        });
        for errno in [EIO, ENOSPC] {
            run_local(async || {
                fault::set(FaultPlan::new().every(op, path, Effect::Error(errno)));
                assert!(recover_journals(dir.path(), ShardId(0), 1).await.is_err(), "{op:?} {path} {errno}");
                assert!(fault::hits() > 0);
                fault::clear();
            });
        }
        next_start_has(dir.path(), &all);
    }
}
