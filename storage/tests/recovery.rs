//! What crashes leave, one after another.

mod common;

use std::path::{Path, PathBuf};

use bytes::Bytes;
use common::*;
use core_pinning::fault::{self, DiskOp, Effect, FaultPlan};
use core_pinning::{ShardId, run_local};
use corelane_storage::model::{NodeId, Offset, ProducerEpoch, ProducerId, RaftIndex, Sequence, Term};
use corelane_storage::producer_state::Checked;
use corelane_storage::record::{BatchBuilder, BatchHeader, Codec};
use corelane_storage::{
    EntryKind, LogConfig, LogEntry, StorageError, Store, StoreOptions, VoteRecord, recover_journals,
};

/// Opens, does something, and ends without closing.
fn crash(dir: &Path, run: impl AsyncFnOnce(Writer)) {
    run_local(async || {
        let store = open(dir).await;
        let log = match store.load(spec(0)).await {
            Ok(log) => log,
            Err(_) => store.create(spec(0), first()).await.unwrap(),
        };
        run(Writer { log }).await;
        std::mem::forget(store);
    });
}

#[test]
fn records_outlive_a_crash_after_which_there_was_only_a_vote() {
    let dir = tempfile::tempdir().unwrap();
    let mut expected = Vec::new();
    crash(dir.path(), async |w| {
        for n in 0..20 {
            expected.push(w.append_durably(1, 100, n).await);
        }
    });
    for term in 2..5 {
        crash(dir.path(), async |w| {
            assert_same(&read_all(&w.log, Offset(0), 1 << 20).await, &expected);
            let vote = VoteRecord { term: Term(term), node: NodeId(1), committed: true };
            w.log.save_vote(vote, |r| r.unwrap());
            flushed(&w.log).await;
        });
    }
    run_local(async || {
        let store = open(dir.path()).await;
        let log = store.load(spec(0)).await.unwrap();
        assert_same(&read_all(&log, Offset(0), 1 << 20).await, &expected);
        store.close().await.unwrap();
    });
}

/// Journal files that may hold records, by name.
fn journal_files(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = std::fs::read_dir(dir.join("journal/0")).unwrap().map(|e| e.unwrap().path()).collect();
    files.retain(|p| p.extension().is_some_and(|e| e == "jnl"));
    files.sort();
    files
}

/// A directory as a crash leaves it after some appends to two partitions, and what was acknowledged.
fn crashed(dir: &Path, options: impl Fn(&Path) -> StoreOptions, count: u64, size: usize) -> Vec<Vec<Bytes>> {
    let mut expected = vec![Vec::new(), Vec::new()];
    run_local(async || {
        let store = open_with(options(&dir.join("live"))).await;
        let config = LogConfig { segment_bytes: 200_000, ..LogConfig::default() };
        let mut writers = Vec::new();
        for n in 0..2 {
            writers.push(Writer { log: store.create(spec_with(n, config.clone()), first()).await.unwrap() });
        }
        for n in 0..count {
            store.dirty().room().await;
            let which = (n % 3 == 0) as usize;
            expected[which].push(writers[which].append(1, size + (n as usize * 97) % 500, n));
            if n % 10 == 0 {
                flushed(&writers[which].log).await;
                writers[which].apply();
            }
        }
        flushed(&writers[0].log).await;
        copy_dir(&dir.join("live"), &dir.join("crashed"));
    });
    expected
}

async fn check(store: &Store, expected: &[Vec<Bytes>]) {
    for (n, expected) in expected.iter().enumerate() {
        let log = store.load(spec(n as u32)).await.unwrap();
        assert_same(&read_all(&log, Offset(0), 50_000).await, expected);
    }
}

#[test]
fn the_journal_ends_at_its_first_torn_record() {
    let root = tempfile::tempdir().unwrap();
    let mut expected: Vec<Bytes> = Vec::new();
    run_local(async || {
        let store = open(&root.path().join("live")).await;
        let w = Writer { log: store.create(spec(0), first()).await.unwrap() };
        for n in 0..5 {
            expected.push(w.append_durably(1, 700, n).await);
        }
        copy_dir(&root.path().join("live"), &root.path().join("crashed"));
    });
    let name = journal_files(&root.path().join("crashed"))[0].file_name().unwrap().to_owned();
    let journal = std::fs::read(root.path().join("crashed/journal/0").join(&name)).unwrap();
    let last = expected.last().unwrap();
    let tail = &last[100..];
    let start = journal.windows(tail.len()).rposition(|w| w == tail).unwrap() - 100;
    let end = start + last.len();
    // Where the last record begins: its header and the place of its bytes come before them.
    for cut in (start - 52..=end).step_by(13).chain([start - 52, end - 1, end]) {
        let dir = root.path().join("torn");
        copy_dir(&root.path().join("crashed"), &dir);
        let mut torn = journal.clone();
        torn[cut..].fill(0);
        std::fs::write(dir.join("journal/0").join(&name), torn).unwrap();
        run_local(async || {
            let store = open(&dir).await;
            let found = read_all(&store.load(spec(0)).await.unwrap(), Offset(0), 50_000).await;
            // A batch may end with zeros.
            let whole = journal[cut..end].iter().all(|b| *b == 0);
            assert_same(&found, &expected[..if whole { 5 } else { 4 }]);
        });
        std::fs::remove_dir_all(dir).unwrap();
    }
}

#[test]
fn replaying_twice_is_replaying_once() {
    let root = tempfile::tempdir().unwrap();
    let expected = crashed(root.path(), options, 300, 2000);
    let once = root.path().join("once");
    copy_dir(&root.path().join("crashed"), &once);
    run_local(async || {
        recover_journals(&once, ShardId(0), 1).await.unwrap();
    });
    let found = contents(&once);
    // A recovery that fails at some step, and one that follows it.
    for (n, op) in [DiskOp::Write, DiskOp::Sync, DiskOp::Rename, DiskOp::SetLen, DiskOp::Remove].into_iter().enumerate()
    {
        for skip in [0, 1, 2, 3, 5, 8] {
            let twice = root.path().join(format!("twice-{n}-{skip}"));
            copy_dir(&root.path().join("crashed"), &twice);
            let failed = run_local(async || {
                fault::set(FaultPlan::new().nth(op, "", skip, u64::MAX, Effect::Error(5)));
                let failed = recover_journals(&twice, ShardId(0), 1).await.is_err();
                fault::clear();
                failed
            });
            run_local(async || {
                recover_journals(&twice, ShardId(0), 1).await.unwrap();
            });
            let again = contents(&twice);
            assert_eq!(found.len(), again.len(), "{op:?} {skip} {failed}");
            for ((a, x), (b, y)) in found.iter().zip(&again) {
                assert_eq!(a.strip_prefix(&once).unwrap(), b.strip_prefix(&twice).unwrap());
                assert!(x == y, "{} differs after {op:?} {skip}", a.display());
            }
            std::fs::remove_dir_all(twice).unwrap();
        }
    }
    run_local(async || {
        let store = open(&once).await;
        check(&store, &expected).await;
        store.close().await.unwrap();
    });
}

#[test]
fn records_of_an_earlier_use_of_a_journal_file_stay_dead() {
    let dir = tempfile::tempdir().unwrap();
    let mut expected = Vec::new();
    run_local(async || {
        let store = open(dir.path()).await;
        let w = Writer { log: store.create(spec(0), first()).await.unwrap() };
        for n in 0..200 {
            expected.push(w.append_durably(1, 1000, n).await);
        }
        store.close().await.unwrap();
    });
    assert!(journal_files(dir.path()).is_empty(), "a closed store leaves no journal");
    run_local(async || {
        let store = open(dir.path()).await;
        let w = Writer { log: store.load(spec(0)).await.unwrap() };
        expected.push(w.append_durably(1, 100, 7).await);
        std::mem::forget(store);
    });
    // Behind the new records lie those of the run before, in the same file and whole.
    let old = std::fs::read(&journal_files(dir.path())[0]).unwrap();
    assert!(old.windows(500).any(|w| w == &expected[100][200..700]));
    run_local(async || {
        let report = recover_journals(dir.path(), ShardId(0), 1).await.unwrap();
        // The opening and the new record.
        assert_eq!(report.records, 2);
        let store = Store::open(options(dir.path())).await.unwrap().0;
        assert_same(&read_all(&store.load(spec(0)).await.unwrap(), Offset(0), 50_000).await, &expected);
    });
}

#[test]
fn a_crash_after_checkpoints_replays_no_more_than_the_journal_holds() {
    let root = tempfile::tempdir().unwrap();
    let small = |dir: &Path| StoreOptions { journal_files_max: 3, ..options(dir) };
    let expected = crashed(root.path(), small, 6000, 2000);
    let dir = root.path().join("crashed");
    // Of some 15 files that were written; how many there are at a moment depends on how long a checkpoint takes.
    assert!(journal_files(&dir).len() <= 9, "{:?}", journal_files(&dir));
    run_local(async || {
        let report = recover_journals(&dir, ShardId(0), 1).await.unwrap();
        assert!(report.unclean && report.bytes < 9 << 20, "{report:?}");
        let store = Store::open(small(&dir)).await.unwrap().0;
        for n in 0..2 {
            store.load(spec(n)).await.unwrap();
        }
        // Opening has looked at what came after the last checkpoint only.
        assert!(store.stats().scanned_bytes < 9 << 20, "{}", store.stats().scanned_bytes);
        check(&store, &expected).await;
        store.close().await.unwrap();
        let store = open_with(small(&dir)).await;
        check(&store, &expected).await;
        store.close().await.unwrap();
    });
}

#[test]
fn partitions_follow_when_the_number_of_shards_changes() {
    let root = tempfile::tempdir().unwrap();
    let expected = crashed(root.path(), options, 300, 500);
    let dir = root.path().join("crashed");
    let shard = |n: u16| StoreOptions { shard: ShardId(n), ..options(&dir) };
    // One shard's journal, two shards now, one partition on each.
    run_local(async || {
        for n in 0..2 {
            recover_journals(&dir, ShardId(n), 2).await.unwrap();
        }
        let mut stores = Vec::new();
        for n in 0..2 {
            let (store, report) = Store::open(shard(n)).await.unwrap();
            assert!(report.unclean, "all shards are told");
            let w = Writer { log: store.load(spec(n.into())).await.unwrap() };
            assert!(w.log.unclean_start());
            assert_same(&read_all(&w.log, Offset(0), 50_000).await, &expected[n as usize]);
            w.append_durably(1, 50, 1).await;
            stores.push(store);
        }
        // Only one of them gets to close.
        stores[0].close().await.unwrap();
    });
    // And back to one.
    run_local(async || {
        let report = recover_journals(&dir, ShardId(0), 1).await.unwrap();
        assert!(report.unclean);
        assert!(!dir.join("journal/1").exists());
        let (store, report) = Store::open(shard(0)).await.unwrap();
        assert!(report.unclean);
        for (n, expected) in expected.iter().enumerate() {
            let log = store.load(spec(n as u32)).await.unwrap();
            assert_eq!(log.bounds().log_end, Offset(expected.len() as i64 + 1));
        }
        store.close().await.unwrap();
        recover_journals(&dir, ShardId(0), 1).await.unwrap();
        let (store, report) = Store::open(shard(0)).await.unwrap();
        assert!(!report.unclean);
        store.close().await.unwrap();
    });
}

#[test]
fn a_deletion_is_finished_by_the_next_start() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("crashed");
    run_local(async || {
        let live = root.path().join("live");
        let store = open(&live).await;
        for n in 0..2 {
            let w = Writer { log: store.create(spec(n), first()).await.unwrap() };
            w.append_durably(1, 100, 1).await;
        }
        store.write_back().await.unwrap();
        fault::set(FaultPlan::new().every(DiskOp::Rename, "-0.", Effect::Error(5)));
        assert!(store.delete(spec(0).key).await.is_err());
        fault::clear();
        copy_dir(&live, &dir);
    });
    assert!(dir.join("data").read_dir().unwrap().count() == 2);
    std::fs::create_dir_all(dir.join("data/u-0.AAAAAAAAAAAAAAAAAAAAAA-delete")).unwrap();
    run_local(async || {
        let store = open(&dir).await;
        assert!(!store.exists(&spec(0)));
        assert!(matches!(store.load(spec(0)).await, Err(StorageError::NotFound(_))));
        assert_eq!(dir.join("data").read_dir().unwrap().count(), 1);
        store.load(spec(1)).await.unwrap();
        store.close().await.unwrap();
    });
}

#[test]
fn a_creation_that_did_not_reach_the_journal_left_nothing() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("crashed");
    run_local(async || {
        let live = root.path().join("live");
        let store = open(&live).await;
        store.create(spec(0), first()).await.unwrap();
        // At once: its records are still waiting.
        copy_dir(&live, &dir);
    });
    run_local(async || {
        let store = open(&dir).await;
        assert!(!store.exists(&spec(0)));
        let w = Writer { log: store.create(spec(0), first()).await.unwrap() };
        w.append_durably(1, 100, 1).await;
        store.close().await.unwrap();
    });
}

#[test]
fn damage_before_the_durable_end_is_reported_not_cut_off() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("crashed");
    crashed(root.path(), options, 100, 1000);
    run_local(async || {
        recover_journals(&dir, ShardId(0), 1).await.unwrap();
    });
    let segment = contents(&dir).into_iter().find(|(p, _)| p.extension().is_some_and(|e| e == "log")).unwrap();
    let mut bytes = segment.1.clone();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    for damaged in [bytes, segment.1[..middle].to_vec()] {
        std::fs::write(&segment.0, &damaged).unwrap();
        run_local(async || {
            let store = open(&dir).await;
            let results = [store.load(spec(0)).await.err(), store.load(spec(1)).await.err()];
            let corrupt = |e: &&StorageError| matches!(e, StorageError::Corrupt { .. });
            assert_eq!(results.iter().flatten().filter(corrupt).count(), 1, "{results:?}");
            std::mem::forget(store);
        });
        assert_eq!(std::fs::read(&segment.0).unwrap(), damaged, "left as it is");
    }
}

/// One record of a producer.
fn produced(base: Offset, producer: i64, sequence: i32) -> Bytes {
    let mut builder =
        BatchBuilder::new(Codec::None).producer(ProducerId(producer), ProducerEpoch(0), Sequence(sequence));
    builder.push(1, None, Some(b"value"));
    builder.build_at(base, TERM).unwrap()
}

#[test]
fn producers_are_known_after_crashes_and_stops_and_none_that_were_lost() {
    for producers in [3, 200] {
        let root = tempfile::tempdir().unwrap();
        let small = |dir: &Path| StoreOptions {
            journal_file_bytes: 256 << 10,
            journal_write_bytes: 32 << 10,
            journal_files_max: 2,
            ..options(dir)
        };
        let dir = |n: u32| root.path().join(n.to_string());
        let mut next = vec![0; producers];
        for round in 0..6 {
            run_local(async || {
                let store = open_with(small(&dir(round))).await;
                let config = LogConfig { segment_bytes: 40_000, ..LogConfig::default() };
                let log = match store.exists(&spec(0)) {
                    true => store.load(spec_with(0, config)).await.unwrap(),
                    false => store.create(spec_with(0, config), first()).await.unwrap(),
                };
                let w = Writer { log };
                for (producer, next) in next.iter().enumerate().filter(|(_, next)| **next > 0) {
                    let header =
                        |sequence: i32| BatchHeader::parse(&produced(Offset(0), producer as i64, sequence)).unwrap();
                    let table = w.log.producers().borrow();
                    let last = table.check(&header(next - 1));
                    assert!(matches!(last, Ok(Checked::Duplicate { .. })), "round {round} {producer}: {last:?}");
                    assert_eq!(table.check(&header(*next)), Ok(Checked::Fresh), "round {round} {producer}");
                    assert!(table.check(&header(next + 1)).is_err(), "round {round} {producer}");
                }
                for n in 0..2000 {
                    store.dirty().room().await;
                    let producer = (n * 7 + round as usize) % producers;
                    let base = w.log.bounds().log_end;
                    let batch = produced(base, producer as i64, next[producer]);
                    // As the broker does: noted before it is appended.
                    let header = BatchHeader::parse(&batch).unwrap();
                    w.log.producers().borrow_mut().update(&header, base);
                    w.log.append([w.entry(batch)], |r| r.unwrap()).unwrap();
                    next[producer] += 1;
                    if n % 100 == 0 {
                        flushed(&w.log).await;
                    }
                }
                flushed(&w.log).await;
                // Checked, and never appended.
                let lost = produced(w.log.bounds().log_end, 0, next[0]);
                w.log.producers().borrow_mut().update(&BatchHeader::parse(&lost).unwrap(), w.log.bounds().log_end);
                if round % 2 == 1 {
                    w.apply();
                    store.close().await.unwrap();
                } else {
                    // Several states come after the one that was lost.
                    w.log.trim(Offset(0)).await.unwrap();
                    w.apply();
                    w.log.trim(Offset(10 + i64::from(round))).await.unwrap();
                }
                copy_dir(&dir(round), &dir(round + 1));
            });
        }
    }
}

#[test]
fn a_cut_log_knows_the_producers_that_are_left() {
    let root = tempfile::tempdir().unwrap();
    let (live, dir) = (root.path().join("live"), root.path().join("crashed"));
    let header = |sequence| BatchHeader::parse(&produced(Offset(0), 5, sequence)).unwrap();
    run_local(async || {
        let store = open(&live).await;
        let config = LogConfig { segment_bytes: 5_000, ..LogConfig::default() };
        let w = Writer { log: store.create(spec_with(0, config.clone()), first()).await.unwrap() };
        for n in 0..200 {
            let base = w.log.bounds().log_end;
            let batch = produced(base, 5, n);
            w.log.producers().borrow_mut().update(&BatchHeader::parse(&batch).unwrap(), base);
            w.log.append([w.entry(batch)], |r| r.unwrap()).unwrap();
        }
        store.write_back().await.unwrap();
        let segments = w.log.segments().len();
        assert!(segments > 3);
        let kept = w.log.read_entries(RaftIndex(100)..RaftIndex(101), 1).await.unwrap()[0].id;
        w.log.truncate_after(Some(kept)).await.unwrap();
        assert!(w.log.segments().len() < segments);
        assert_eq!(w.log.bounds().log_end, Offset(100));
        for n in 100..110 {
            let batch = batch(w.log.bounds().log_end, 1, 20, n);
            let entry = LogEntry { kind: EntryKind::Data, ..w.entry(batch) };
            w.log.append([entry], |r| r.unwrap()).unwrap();
        }
        assert!(matches!(w.log.producers().borrow().check(&header(99)), Ok(Checked::Duplicate { .. })));
        assert_eq!(w.log.producers().borrow().check(&header(100)), Ok(Checked::Fresh));
        flushed(&w.log).await;
        copy_dir(&live, &dir);
    });
    run_local(async || {
        let store = open(&dir).await;
        let log = store.load(spec(0)).await.unwrap();
        assert_eq!(log.bounds().log_end, Offset(110));
        assert!(matches!(log.producers().borrow().check(&header(99)), Ok(Checked::Duplicate { .. })));
        assert_eq!(log.producers().borrow().check(&header(100)), Ok(Checked::Fresh));
        assert_eq!(read_all(&log, Offset(0), 10_000).await.len(), 110);
        store.close().await.unwrap();
    });
}

#[test]
fn kafkas_dump_tool_reads_closed_segments() {
    // The folder of Kafka's jars; without it there is nothing to compare with.
    let Ok(libs) = std::env::var("CORELANE_KAFKA_LIBS") else { return };
    let dir = tempfile::tempdir().unwrap();
    let mut files = Vec::new();
    run_local(async || {
        let store = open(dir.path()).await;
        let config = LogConfig { segment_bytes: 50_000, ..LogConfig::default() };
        let w = Writer { log: store.create(spec_with(0, config), first()).await.unwrap() };
        for n in 0..150 {
            w.append_durably(1 + (n % 4) as u32, 500, n).await;
        }
        store.close().await.unwrap();
        files = segment_files(&store, &spec(0));
    });
    assert!(files.len() > 3);
    let mut next = 0;
    for file in files {
        let dump = std::process::Command::new("java")
            .args([
                "-cp",
                &format!("{libs}/*"),
                "org.apache.kafka.tools.DumpLogSegments",
                "--deep-iteration",
                "--files",
            ])
            .arg(&file)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&dump.stdout);
        assert!(dump.status.success(), "{text} {}", String::from_utf8_lossy(&dump.stderr));
        for line in text.lines().filter(|l| l.starts_with("|")) {
            let offset: i64 = line.split("offset: ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
            assert_eq!(offset, next);
            next += 1;
        }
        for line in text.lines().filter(|l| l.starts_with("baseOffset")) {
            assert!(line.contains("isvalid: true"), "{line}");
        }
        assert!(!text.contains("invalid"), "{text}");
    }
    assert_eq!(next, (0..150).map(|n| 1 + n % 4).sum::<i64>());
}
