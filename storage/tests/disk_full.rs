//! A full disk, and one that is nearly full: what goes on, what is given back, what may go before its time.

mod common;

use std::path::Path;

use common::*;
use core_pinning::fault::{self, DiskOp, Effect, FaultPlan};
use core_pinning::run_local;
use corelane_storage::model::{LogId, NodeId, Offset, RaftIndex, Term};
use corelane_storage::{
    EntryKind, LogConfig, LogEntry, Reserve, StorageError, Store, StoreOptions, VoteRecord, recover_journals,
};

const ENOSPC: i32 = 28;

fn essential(partition: u32) -> corelane_storage::PartitionSpec {
    spec_with(partition, LogConfig { essential: true, ..LogConfig::default() })
}

fn no_room() -> FaultPlan {
    let full = Effect::Error(ENOSPC);
    FaultPlan::new().every(DiskOp::Allocate, "", full).every(DiskOp::Write, ".log", full)
}

fn count(dir: &Path, part: &str) -> usize {
    let names = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    names.filter(|n| n.contains(part)).count()
}

#[test]
fn a_store_opens_on_a_full_disk_and_its_groups_can_lead_and_serve() {
    let dir = tempfile::tempdir().unwrap();
    let mut expected = Vec::new();
    run_local(async || {
        let store = open(dir.path()).await;
        let w = Writer { log: store.create(spec(0), first()).await.unwrap() };
        expected.push(w.append_durably(1, 100, 1).await);
        fault::set(no_room());
        append_until_refused(&store, &w, &mut expected).await;
        flushed(&w.log).await;
        fault::clear();
        // Killed.
    });
    run_local(async || {
        // What is in the journal takes its room (the reserve's); then there is none again.
        recover_journals(dir.path(), core_pinning::ShardId(0), 1).await.unwrap();
        fault::set(FaultPlan::new().every(DiskOp::Allocate, "", Effect::Error(ENOSPC)));
        let one_file = StoreOptions { journal_files_max: 1, ..options(dir.path()) };
        let (store, report) = Store::open(one_file).await.unwrap();
        until("no further journal file can be made", || store.refusal().is_some()).await;
        assert!(report.unclean);
        let log = store.load(spec(0)).await.unwrap();
        let w = Writer { log };
        // A leader's first deeds: a vote, and an entry of its term, which brings the high watermark up.
        let term = Term(TERM.0 + 1);
        let (sender, receiver) = core_pinning::sync::oneshot::channel();
        w.log.save_vote(VoteRecord { term, node: NodeId(1), committed: true }, |r| drop(sender.send(r)));
        receiver.await.unwrap().unwrap();
        let blank =
            LogEntry { id: LogId::new(term, w.log.next_index()), kind: EntryKind::Blank, bytes: Vec::new().into() };
        w.push(blank).await.unwrap();
        assert_eq!(w.log.bounds().high_watermark, w.log.bounds().log_end);
        assert_same(&read_all(&w.log, Offset(0), 100_000).await, &expected);
        fault::clear();
        store.close().await.unwrap();
    });
}

#[test]
fn essential_logs_votes_and_deletions_go_on_while_data_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    run_local(async || {
        let store = open(dir.path()).await;
        let w = Writer { log: store.create(spec(0), first()).await.unwrap() };
        let mut expected = Vec::new();
        fault::set(no_room());
        let error = append_until_refused(&store, &w, &mut expected).await;
        assert!(matches!(error, StorageError::DiskFull { .. }), "{error}");
        assert!(matches!(store.create(spec(1), first()).await, Err(StorageError::DiskFull { .. })));
        let offsets = Writer { log: store.create(essential(2), first()).await.unwrap() };
        let committed = offsets.append_durably(1, 100, 3).await;
        w.log.set_applied(RaftIndex(u64::MAX));
        w.log.trim(Offset(1)).await.unwrap();
        assert_eq!(w.log.bounds().log_start, Offset(1));
        store.delete(spec(0).key).await.unwrap();
        fault::clear();
        until("space is back", || store.refusal().is_none()).await;
        assert_same(&read_all(&offsets.log, Offset(0), 1000).await, &[committed]);
        store.create(spec(1), first()).await.unwrap();
        store.close().await.unwrap();
    });
}

#[test]
fn thrift_gives_back_journal_files_and_what_waits_for_its_delay() {
    let dir = tempfile::tempdir().unwrap();
    run_local(async || {
        let store = open(dir.path()).await;
        let config = LogConfig { segment_bytes: 200_000, ..LogConfig::default() };
        let w = Writer { log: store.create(spec_with(0, config), first()).await.unwrap() };
        let mut expected = Vec::new();
        while store.stats().checkpoints < 3 {
            for n in 0..20 {
                expected.push(w.append(1, 5000, n));
            }
            flushed(&w.log).await;
        }
        w.apply();
        let start = w.log.segments().get(2).unwrap().base_offset;
        w.log.trim(start).await.unwrap();
        let journal = dir.path().join("journal/0");
        let partition = w.log.dir().to_owned();
        assert!(count(&partition, ".deleted") > 0, "file.delete.delay.ms holds them");
        store.set_thrift(true);
        until("the delay is over", || count(&partition, ".deleted") == 0).await;
        until("one spare is left, and one file", || count(&journal, "spare-") <= 1 && store.stats().journal_files == 1)
            .await;
        // What leaves the log now leaves the disk.
        let start = w.log.segments().get(2).unwrap().base_offset;
        w.log.trim(start).await.unwrap();
        assert_eq!(count(&partition, ".deleted"), 0);
        store.set_thrift(false);
        for n in 0..400 {
            expected.push(w.append(1, 5000, n));
            if n % 50 == 0 {
                flushed(&w.log).await;
            }
        }
        flushed(&w.log).await;
        assert_same(&read_all(&w.log, start, 100_000).await, &expected[start.0 as usize..]);
        store.close().await.unwrap();
    });
}

#[test]
fn only_old_sealed_applied_segments_are_expendable_oldest_first() {
    let dir = tempfile::tempdir().unwrap();
    run_local(async || {
        let store = open(dir.path()).await;
        let config = LogConfig { segment_bytes: 50_000, ..LogConfig::default() };
        let w = Writer { log: store.create(spec_with(0, config), first()).await.unwrap() };
        // The timestamp of a record is 1000 + its offset.
        for n in 0..40 {
            w.append_durably(1, 5000, n).await;
        }
        for n in 0..20 {
            w.append(1, 5000, n);
        }
        flushed(&w.log).await;
        let segments = w.log.segments();
        let all = w.log.expendable(i64::MAX, u64::MAX).await.unwrap();
        let upto = segments.iter().skip(1).take_while(|s| s.base_offset <= Offset(40)).count();
        assert_eq!(all.len(), upto, "those whose entries are all applied");
        for (found, pair) in all.iter().zip(segments.windows(2)) {
            assert_eq!((found.end, found.bytes), (pair[1].base_offset, pair[0].bytes));
            assert_eq!(found.max_timestamp, 999 + pair[1].base_offset.0);
        }
        w.apply();
        let all = w.log.expendable(i64::MAX, u64::MAX).await.unwrap();
        assert_eq!(all.len(), segments.len() - 1, "the active segment stays");
        assert_eq!(w.log.expendable(i64::MAX, all[0].bytes + 1).await.unwrap(), all[..2]);
        assert_eq!(w.log.expendable(all[2].max_timestamp + 1, u64::MAX).await.unwrap(), all[..3]);
        assert_eq!(w.log.expendable(all[2].max_timestamp, u64::MAX).await.unwrap(), all[..2]);
        w.log.trim(all[1].end).await.unwrap();
        assert_eq!(w.log.segments()[0].base_offset, all[1].end);
        assert_eq!(w.log.expendable(i64::MAX, u64::MAX).await.unwrap().len(), all.len() - 2);
        store.close().await.unwrap();
    });
}

#[test]
fn the_reserve_is_taken_whole_or_not_at_all_and_given_back() {
    let dir = tempfile::tempdir().unwrap();
    run_local(async || {
        let allocated = || async {
            core_pinning::disk::fs::metadata(&dir.path().join("reserve")).await.map_or(0, |found| found.allocated)
        };
        let reserve = Reserve::open(dir.path(), 8 << 20).await.unwrap();
        assert_eq!((reserve.held(), reserve.missing()), (0, 8 << 20));
        fault::set(FaultPlan::new().once(DiskOp::Allocate, "reserve", Effect::Error(ENOSPC)));
        assert!(matches!(reserve.make().await, Err(StorageError::DiskFull { .. })));
        assert_eq!((reserve.held(), allocated().await), (0, 0));
        fault::clear();
        reserve.make().await.unwrap();
        assert_eq!((reserve.missing(), allocated().await), (0, 8 << 20));
        // The next start finds it, with another size too.
        let reserve = Reserve::open(dir.path(), 4 << 20).await.unwrap();
        assert_eq!(reserve.held(), 8 << 20);
        reserve.make().await.unwrap();
        assert_eq!((reserve.held(), allocated().await), (4 << 20, 4 << 20));
        reserve.give_back().await.unwrap();
        assert_eq!((reserve.held(), allocated().await), (0, 0));
        reserve.make().await.unwrap();
        assert!(Reserve::give_back_in(dir.path()).await.unwrap());
        assert!(!Reserve::give_back_in(dir.path()).await.unwrap());
        assert_eq!(allocated().await, 0);
    });
}
