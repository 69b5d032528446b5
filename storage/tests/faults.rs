//! Disks that fail or are full.

mod common;

use std::cell::Cell;
use std::rc::Rc;

use common::*;
use core_pinning::fault::{self, DiskOp, Effect, FaultPlan};
use core_pinning::run_local;
use corelane_storage::model::Offset;
use corelane_storage::{ReadError, ReadLimit, StorageError};

const EIO: i32 = 5;
const ENOSPC: i32 = 28;

#[test]
fn a_failed_journal_write_fails_its_waiters_and_ends_the_store() {
    let dir = tempfile::tempdir().unwrap();
    for effect in [Effect::Error(EIO), Effect::Torn(100, EIO)] {
        run_local(async || {
            let store = open(dir.path()).await;
            let log = match store.exists(&spec(0)) {
                true => store.load(spec(0)).await.unwrap(),
                false => store.create(spec(0), first()).await.unwrap(),
            };
            let w = Writer { log };
            let kept = w.append_durably(1, 100, 1).await;
            let (kept_at, failed) = (w.log.bounds().log_end + -1, Rc::new(Cell::new(0)));
            fault::set(FaultPlan::new().once(DiskOp::Write, ".jnl", effect));
            for n in 0..3 {
                let f = failed.clone();
                let next = batch(w.log.bounds().log_end, 1, 100, n);
                let count = move |r: Result<(), _>| {
                    assert!(matches!(r, Err(StorageError::JournalFailed { .. })));
                    f.set(f.get() + 1);
                };
                w.log.append([w.entry(next)], count).unwrap();
            }
            until("all waiters are told", || failed.get() == 3).await;
            let next = w.entry(batch(w.log.bounds().log_end, 1, 100, 9));
            assert!(matches!(w.log.append([next], |_| {}), Err(StorageError::JournalFailed { .. })));
            assert!(matches!(store.refusal(), Some(StorageError::JournalFailed { .. })));
            // What was durable is still served.
            let limit = ReadLimit { max_bytes: 1 << 20, at_least_one: true, upto: kept_at + 1 };
            assert_eq!(w.log.read(kept_at, limit).await.unwrap().slices, [kept]);
            assert!(store.close().await.is_err());
            fault::clear();
        });
    }
    run_local(async || {
        let store = open(dir.path()).await;
        let log = store.load(spec(0)).await.unwrap();
        assert!(log.bounds().log_end >= Offset(2), "the acknowledged records of both runs");
        read_all(&log, Offset(0), 10_000).await;
        store.close().await.unwrap();
    });
}

#[test]
fn a_full_disk_refuses_appends_and_loses_nothing() {
    // Segments cannot grow; no further journal file can be made.
    for (op, path) in
        [(DiskOp::Allocate, ".log"), (DiskOp::Write, ".log"), (DiskOp::Allocate, "spare-"), (DiskOp::Write, "spare-")]
    {
        let dir = tempfile::tempdir().unwrap();
        run_local(async || {
            let store = open(dir.path()).await;
            let w = Writer { log: store.create(spec(0), first()).await.unwrap() };
            let mut expected = vec![w.append_durably(1, 100, 1).await];
            fault::set(FaultPlan::new().every(op, path, Effect::Error(ENOSPC)));
            let error = append_until_refused(&store, &w, &mut expected).await;
            assert!(matches!(error, StorageError::DiskFull { .. }), "{op:?} {path}: {error}");
            assert_same(&read_all(&w.log, Offset(0), 100_000).await, &expected);
            fault::clear();
            until("space is back", || store.refusal().is_none()).await;
            flushed(&w.log).await;
            expected.push(w.append_durably(1, 100, 7).await);
            assert_same(&read_all(&w.log, Offset(0), 100_000).await, &expected);
            store.close().await.unwrap();
            let store = open(dir.path()).await;
            assert_same(&read_all(&store.load(spec(0)).await.unwrap(), Offset(0), 100_000).await, &expected);
            store.close().await.unwrap();
        });
    }
}

#[test]
fn a_segment_file_that_cannot_be_written_stops_its_partition_only() {
    let dir = tempfile::tempdir().unwrap();
    run_local(async || {
        let store = open(dir.path()).await;
        let w = Writer { log: store.create(spec(0), first()).await.unwrap() };
        let other = Writer { log: store.create(spec(1), first()).await.unwrap() };
        let mut expected = vec![w.append_durably(1, 100, 1).await];
        fault::set(FaultPlan::new().every(DiskOp::Write, "t-0", Effect::Error(EIO)));
        let error = append_until_refused(&store, &w, &mut expected).await;
        assert!(matches!(error, StorageError::Io { .. }), "{error}");
        other.append_durably(1, 100, 1).await;
        flushed(&w.log).await;
        fault::clear();
        let retried = || w.log.append([], |_| {}).is_ok();
        until("write-back has worked", retried).await;
        expected.push(w.append_durably(1, 100, 7).await);
        store.close().await.unwrap();
        let store = open(dir.path()).await;
        assert_same(&read_all(&store.load(spec(0)).await.unwrap(), Offset(0), 100_000).await, &expected);
        store.close().await.unwrap();
    });
}

#[test]
fn a_failed_sync_ends_the_store_and_the_journal_still_has_everything() {
    let dir = tempfile::tempdir().unwrap();
    let mut expected = Vec::new();
    run_local(async || {
        let store = open(dir.path()).await;
        let w = Writer { log: store.create(spec(0), first()).await.unwrap() };
        fault::set(FaultPlan::new().once(DiskOp::Sync, ".log", Effect::Error(EIO)));
        let error = append_until_refused(&store, &w, &mut expected).await;
        assert!(matches!(error, StorageError::JournalFailed { .. }), "{error}");
        fault::clear();
        let durable = w.log.bounds().flushed;
        expected.truncate(durable.0 as usize);
    });
    run_local(async || {
        let store = open(dir.path()).await;
        let found = read_all(&store.load(spec(0)).await.unwrap(), Offset(0), 100_000).await;
        assert!(found.len() >= expected.len());
        assert_same(&found[..expected.len()], &expected);
        store.close().await.unwrap();
    });
}

#[test]
fn a_failed_read_is_no_damage() {
    let dir = tempfile::tempdir().unwrap();
    run_local(async || {
        let store = open(dir.path()).await;
        let w = Writer { log: store.create(spec(0), first()).await.unwrap() };
        let expected = vec![w.append_durably(1, 100, 1).await];
        store.close().await.unwrap();
        let store = open(dir.path()).await;
        let log = store.load(spec(0)).await.unwrap();
        fault::set(FaultPlan::new().once(DiskOp::Read, ".log", Effect::Error(EIO)));
        let limit = ReadLimit { max_bytes: 1000, at_least_one: true, upto: Offset::MAX };
        assert!(matches!(log.read(Offset(0), limit).await, Err(ReadError::Storage(StorageError::Io { .. }))));
        fault::clear();
        assert!(log.fenced().is_none());
        assert_same(&read_all(&log, Offset(0), 1000).await, &expected);
        store.close().await.unwrap();
    });
}

#[test]
fn short_writes_are_completed() {
    let dir = tempfile::tempdir().unwrap();
    run_local(async || {
        let store = open(dir.path()).await;
        let w = Writer { log: store.create(spec(0), first()).await.unwrap() };
        fault::set(FaultPlan::new().every(DiskOp::Write, "", Effect::Short(4096)));
        let mut expected = Vec::new();
        for n in 0..300 {
            expected.push(w.append(1, 3000, n));
        }
        flushed(&w.log).await;
        store.write_back().await.unwrap();
        fault::clear();
        store.close().await.unwrap();
        let store = open(dir.path()).await;
        assert_same(&read_all(&store.load(spec(0)).await.unwrap(), Offset(0), 100_000).await, &expected);
        store.close().await.unwrap();
    });
}
