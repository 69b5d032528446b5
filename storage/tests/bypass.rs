//! Large appends, which go straight into the segment file: durable when they say so, in order, written once.

mod common;

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use common::*;
use core_pinning::fault::{self, DiskOp, Effect, FaultPlan};
use core_pinning::run_local;
use corelane_storage::model::{NodeId, Offset};
use corelane_storage::{LogConfig, StorageError, StoreOptions, VoteRecord};

const LARGE: usize = 100_000;

fn bypassing(dir: &Path) -> StoreOptions {
    // A log at rest gives up the memory from which its next write begins, and a crash takes long to look at on a busy machine.
    StoreOptions { bypass_bytes: 64 << 10, idle: Duration::from_secs(3600), ..options(dir) }
}

/// What a crash at this moment leaves, opened.
async fn after_a_crash(dir: &Path, expected: &[Bytes]) {
    let image = tempfile::tempdir().unwrap();
    copy_dir(dir, image.path());
    let store = open_with(bypassing(image.path())).await;
    let log = store.load(spec(0)).await.unwrap();
    let found = read_all(&log, Offset(0), 300_000).await;
    // What was appended and not acknowledged may be there, too.
    assert!(found.len() >= expected.len(), "{} of {} batches", found.len(), expected.len());
    assert_same(&found[..expected.len()], expected);
    let w = Writer { log };
    w.apply();
    let more = [w.append_durably(1, 10, 1).await, w.append_durably(1, LARGE, 2).await];
    assert_same(&read_all(&w.log, Offset(found.len() as i64), 300_000).await, &more);
    store.close().await.unwrap();
}

#[test]
fn large_appends_are_written_once_and_outlive_crashes() {
    let dir = tempfile::tempdir().unwrap();
    run_local(async || {
        let store = open_with(bypassing(dir.path())).await;
        let config = LogConfig { segment_bytes: 1_500_000, ..LogConfig::default() };
        let w = Writer { log: store.create(spec_with(0, config), first()).await.unwrap() };
        let mut expected = Vec::new();
        for n in 0..40 {
            // Sizes that end anywhere in a block, one of them at its very end.
            expected.push(w.append_durably(1, LARGE + n as usize * 997, n).await);
            if n % 5 == 0 {
                expected.push(w.append_durably(1, 300, 1000 + n).await);
            }
            if n % 8 == 3 {
                after_a_crash(dir.path(), &expected).await;
            }
        }
        let stats = store.stats();
        assert!(stats.bypass_bytes as f64 > 0.9 * stats.appended_bytes as f64, "{stats:?}");
        store.write_back().await.unwrap();
        let stats = store.stats();
        let written = stats.bypass_bytes + stats.write_back_bytes + stats.journal_bytes;
        // 12 KiB of each 120 KB: the first block again, and a block of the journal or two.
        assert!((written as f64) < 1.2 * stats.appended_bytes as f64, "{stats:?}");
        assert_same(&read_all(&w.log, Offset(0), 300_000).await, &expected);
        store.close().await.unwrap();
        let store = open_with(bypassing(dir.path())).await;
        let log = store.load(spec(0)).await.unwrap();
        assert_same(&read_all(&log, Offset(0), 300_000).await, &expected);
        store.close().await.unwrap();
    });
}

#[test]
fn after_a_crash_not_all_that_was_loaded_in_bulk_is_looked_at() {
    let dir = tempfile::tempdir().unwrap();
    run_local(async || {
        let store = open_with(bypassing(dir.path())).await;
        let w = Writer { log: store.create(spec(0), first()).await.unwrap() };
        for n in 0..160 {
            w.append_durably(1, 1 << 20, n).await;
        }
        let image = tempfile::tempdir().unwrap();
        copy_dir(dir.path(), image.path());
        store.close().await.unwrap();
        let store = open_with(bypassing(image.path())).await;
        let log = store.load(spec(0)).await.unwrap();
        assert_eq!(log.bounds().log_end, Offset(160));
        let looked_at = store.stats().data_reads.bytes;
        assert!(looked_at < 70 << 20, "{looked_at} bytes of {}", log.size_bytes());
        store.close().await.unwrap();
    });
}

#[test]
fn acknowledgements_of_a_log_come_in_the_order_of_its_appends() {
    let dir = tempfile::tempdir().unwrap();
    run_local(async || {
        let store = open_with(bypassing(dir.path())).await;
        let log = store.create(spec(0), first()).await.unwrap();
        let other = Writer { log: store.create(spec(1), first()).await.unwrap() };
        let w = Writer { log };
        let done = Rc::new(RefCell::new(Vec::new()));
        let note = |n: u64| {
            let done = done.clone();
            move |r: Result<(), StorageError>| {
                r.unwrap();
                done.borrow_mut().push(n);
            }
        };
        let mut expected = Vec::new();
        for n in 0..120u64 {
            let size = [100, LARGE, 100, 30_000, 30_000, 30_000][n as usize % 6];
            let bytes = batch(w.log.bounds().log_end, 1, size, n);
            expected.push(bytes.clone());
            w.log.append([w.entry(bytes)], note(2 * n)).unwrap();
            match n % 7 {
                0 => {
                    let vote = VoteRecord { term: TERM, node: NodeId(n), committed: true };
                    w.log.save_vote(vote, note(2 * n + 1));
                }
                1 => w.log.append([], note(2 * n + 1)).unwrap(),
                // Of another log: waits for this one's all the same.
                2 => other.log.after_flush(note(2 * n + 1)),
                _ => {}
            }
            if n % 30 == 29 {
                core_pinning::time::sleep(Duration::from_millis(1)).await;
            }
        }
        flushed(&other.log).await;
        let mut own = done.borrow().clone();
        // An empty append and a flush come when all before them are durable, before or after what is appended later.
        own.retain(|n| n % 2 == 0 || (n / 2) % 7 == 0);
        assert!(own.is_sorted(), "{own:?}");
        assert_eq!(own.len(), 120 + 18);
        let at = |n: u64| done.borrow().iter().position(|m| *m == n).unwrap();
        for n in (0..120).filter(|n| (1..3).contains(&(n % 7))) {
            assert!((0..=n).all(|m| at(2 * m) < at(2 * n + 1)), "told of {n} before it was durable");
        }
        after_a_crash(dir.path(), &expected).await;
        store.close().await.unwrap();
    });
}

#[test]
fn a_large_append_that_its_file_does_not_take_goes_through_the_journal() {
    for effect in [Effect::Error(5), Effect::Torn(20_000, 5), Effect::Error(28)] {
        let dir = tempfile::tempdir().unwrap();
        run_local(async || {
            let store = open_with(bypassing(dir.path())).await;
            let w = Writer { log: store.create(spec(0), first()).await.unwrap() };
            let mut expected = vec![w.append_durably(1, LARGE, 1).await, w.append_durably(1, 100, 2).await];
            fault::set(FaultPlan::new().once(DiskOp::Write, ".log", effect));
            for n in 10..20 {
                expected.push(w.append(1, [LARGE, 5000][n as usize % 2], n));
            }
            flushed(&w.log).await;
            fault::clear();
            w.apply();
            after_a_crash(dir.path(), &expected).await;
            // Write-back has brought it to the file in the end.
            store.write_back().await.unwrap();
            expected.push(w.append_durably(1, LARGE, 30).await);
            store.close().await.unwrap();
            let store = open_with(bypassing(dir.path())).await;
            let log = store.load(spec(0)).await.unwrap();
            assert_same(&read_all(&log, Offset(0), 300_000).await, &expected);
            store.close().await.unwrap();
        });
    }
}

#[test]
fn bytes_that_a_note_speaks_of_and_that_are_gone_are_reported() {
    let dir = tempfile::tempdir().unwrap();
    run_local(async || {
        let store = open_with(bypassing(dir.path())).await;
        let w = Writer { log: store.create(spec(0), first()).await.unwrap() };
        for n in 0..3 {
            w.append_durably(1, LARGE, n).await;
        }
        for (damage, what) in [(0, "shorter"), (1, "changed"), (2, "missing")] {
            let image = tempfile::tempdir().unwrap();
            copy_dir(dir.path(), image.path());
            let files = segment_files(&store, &spec(0));
            let file = image.path().join(files[0].strip_prefix(dir.path()).unwrap());
            let mut bytes = std::fs::read(&file).unwrap();
            match damage {
                0 => std::fs::write(&file, &bytes[..150_000]).unwrap(),
                1 => {
                    bytes[150_000] ^= 1;
                    std::fs::write(&file, &bytes).unwrap();
                }
                _ => std::fs::remove_file(&file).unwrap(),
            }
            let store = open_with(bypassing(image.path())).await;
            let error = store.load(spec(0)).await.err();
            assert!(matches!(error, Some(StorageError::Corrupt { .. })), "{what}: {error:?}");
        }
        store.close().await.unwrap();
    });
}

#[test]
fn a_log_is_cut_only_after_what_is_on_its_way() {
    let dir = tempfile::tempdir().unwrap();
    run_local(async || {
        let store = open_with(bypassing(dir.path())).await;
        let w = Writer { log: store.create(spec(0), first()).await.unwrap() };
        let mut expected = vec![w.append_durably(1, LARGE, 1).await];
        let kept = w.log.last_log_id();
        for round in 0..10 {
            for n in 0..6 {
                w.append(1, [LARGE, 700][n as usize % 2], 10 * round + n);
            }
            w.log.truncate_after(kept).await.unwrap();
            after_a_crash(dir.path(), &expected).await;
        }
        for n in 0..6 {
            expected.push(w.append_durably(1, [LARGE, 700][n as usize % 2], 1000 + n).await);
        }
        after_a_crash(dir.path(), &expected).await;
        store.close().await.unwrap();
    });
}
