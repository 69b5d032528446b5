//! So many logs that closing and recovering make them durable together.

mod common;

use std::path::Path;

use bytes::Bytes;
use common::*;
use core_pinning::fault::{self, DiskOp, Effect, FaultPlan};
use core_pinning::{ShardId, run_local};
use corelane_storage::model::{Offset, RaftIndex};
use corelane_storage::{Store, recover_journals};

const LOGS: u32 = 150;
const EIO: i32 = 5;

/// Appends a batch to each log; `expected` has what each one holds.
async fn append_to_each(store: &Store, expected: &mut [Vec<Bytes>], seed: u64) {
    for (partition, expected) in expected.iter_mut().enumerate() {
        let spec = spec(partition as u32);
        let log = match store.log(spec.key) {
            Some(log) => log,
            None if store.exists(&spec) => store.load(spec).await.unwrap(),
            None => store.create(spec, first()).await.unwrap(),
        };
        let writer = Writer { log };
        expected.push(writer.append(1, 100 + partition, seed + partition as u64));
        writer.apply();
    }
    let last = spec(LOGS - 1).key;
    flushed(&store.log(last).unwrap()).await;
}

/// All logs hold what they should; gives the number of bytes that were looked through to find out.
async fn check(dir: &Path, expected: &[Vec<Bytes>]) -> usize {
    let store = open(dir).await;
    for (partition, expected) in expected.iter().enumerate() {
        let log = store.load(spec(partition as u32)).await.unwrap();
        log.set_applied(RaftIndex(u64::MAX));
        assert_eq!(log.bounds().log_end, Offset(expected.len() as i64), "end of log {partition}");
    }
    let scanned = store.stats().scanned_bytes;
    until("logs at rest hold no file", || store.stats().open_files == 0).await;
    for (partition, expected) in expected.iter().enumerate() {
        let log = store.log(spec(partition as u32).key).unwrap();
        assert_same(&read_all(&log, Offset(0), 10_000).await, expected);
    }
    store.close().await.unwrap();
    scanned
}

fn logs() -> Vec<Vec<Bytes>> {
    vec![Vec::new(); LOGS as usize]
}

#[test]
fn many_logs_are_closed_and_recovered_together() {
    let root = tempfile::tempdir().unwrap();
    let (dir, crashed) = (root.path().join("a"), root.path().join("b"));
    let mut expected = logs();
    run_local(async || {
        let store = open(&dir).await;
        append_to_each(&store, &mut expected, 1).await;
        store.close().await.unwrap();
        assert_eq!(check(&dir, &expected).await, 0, "nothing is looked through after a clean stop");
        let store = open(&dir).await;
        append_to_each(&store, &mut expected, 1000).await;
        copy_dir(&dir, &crashed);
        store.close().await.unwrap();
        check(&dir, &expected).await;
        check(&crashed, &expected).await;
        // Closed by the check: there is nothing left to recover.
        assert_eq!(check(&crashed, &expected).await, 0);
    });
}

#[test]
fn what_a_failed_close_leaves_is_recovered() {
    // The sync before the state files get their names, and the one after.
    for skip in [0, 1] {
        let root = tempfile::tempdir().unwrap();
        let mut expected = logs();
        run_local(async || {
            let store = open(root.path()).await;
            append_to_each(&store, &mut expected, 1).await;
            fault::set(FaultPlan::new().nth(DiskOp::Sync, "/data", skip, u64::MAX, Effect::Error(EIO)));
            assert!(store.close().await.is_err());
            fault::clear();
        });
        run_local(async || {
            let report = recover_journals(root.path(), ShardId(0), 1).await.unwrap();
            assert!(report.unclean);
            check(root.path(), &expected).await;
        });
    }
}

#[test]
fn what_a_failed_recovery_leaves_is_recovered() {
    for skip in [0, 1] {
        let root = tempfile::tempdir().unwrap();
        let (dir, crashed) = (root.path().join("a"), root.path().join("b"));
        let mut expected = logs();
        run_local(async || {
            let store = open(&dir).await;
            append_to_each(&store, &mut expected, 1).await;
            copy_dir(&dir, &crashed);
            store.close().await.unwrap();
            fault::set(FaultPlan::new().nth(DiskOp::Sync, "/data", skip, u64::MAX, Effect::Error(EIO)));
            assert!(recover_journals(&crashed, ShardId(0), 1).await.is_err());
            fault::clear();
            check(&crashed, &expected).await;
        });
    }
}
