//! Transactions in a log against a plain account of them, over clean stops and crashes (copies of the directory at some moment),
//! cuts, trims and new segments: the last stable offset, the aborted transactions that readers are told of, and Kafka's files.
//!
//! `CORELANE_SEED` repeats one run, `CORELANE_ROUNDS` says how many starts there are.

mod common;

use std::path::Path;

use bytes::Bytes;
use common::*;
use core_pinning::fault::{self, DiskOp, Effect, FaultPlan};
use core_pinning::run_local;
use corelane_storage::model::{LogId, Offset, ProducerEpoch, ProducerId, RaftIndex, Sequence};
use corelane_storage::producer_state::AbortedTransaction;
use corelane_storage::record::{BatchBuilder, BatchHeader, Codec, EndMarker, TransactionMarker};
use corelane_storage::{
    Cleaner, CleanerOptions, CleanupPolicy, EntryKind, Log, LogConfig, LogEntry, StorageError, Store, StoreOptions,
};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// Every entry that was ever appended and not cut off.
#[derive(Default)]
struct Account {
    entries: Vec<(LogId, Bytes)>,
    applied: usize,
    durable: std::rc::Rc<std::cell::Cell<usize>>,
}

struct Stand {
    open: Vec<(Offset, i64)>,
    aborted: Vec<AbortedTransaction>,
    /// First offsets of those that are open, or ended above the high watermark.
    undecided: Vec<Offset>,
    /// Where a batch of one of them stands.
    undecided_batches: Vec<Offset>,
    last_stable: Offset,
}

impl Account {
    /// Looks through the whole history.
    fn stand(&self, log: &Log) -> Stand {
        let (mut open, mut aborted): (Vec<(Offset, i64)>, Vec<AbortedTransaction>) = Default::default();
        let (mut undecided, mut undecided_batches, mut batches) = (Vec::new(), Vec::new(), Vec::new());
        let high_watermark = log.bounds().high_watermark;
        for (_, bytes) in self.entries.iter().filter(|(_, bytes)| !bytes.is_empty()) {
            let header = BatchHeader::parse(bytes).unwrap();
            let (producer, at) = (header.producer_id, header.base_offset);
            let place = open.iter().position(|(_, id)| *id == producer.0);
            match (EndMarker::of(&header, bytes), place) {
                (Some(end), Some(place)) => {
                    let (first_offset, id) = open.remove(place);
                    let ended: Vec<(i64, Offset)> = batches.extract_if(.., |(of, _)| *of == id).collect();
                    if at >= high_watermark {
                        undecided.push(first_offset);
                        undecided_batches.extend(ended.into_iter().map(|(_, at)| at));
                    }
                    if end.marker == TransactionMarker::Abort {
                        let last_stable_offset = open.iter().map(|(first, _)| *first).min().unwrap_or(at.next());
                        aborted.push(AbortedTransaction {
                            producer,
                            first_offset,
                            last_offset: at,
                            last_stable_offset,
                        });
                    }
                }
                (None, None) if header.is_transactional() => open.push((at, producer.0)),
                _ => {}
            }
            if header.is_transactional() && EndMarker::of(&header, bytes).is_none() {
                batches.push((producer.0, at));
            }
        }
        undecided.extend(open.iter().map(|(first, _)| *first));
        let first = undecided.iter().min().copied().unwrap_or(Offset::MAX);
        undecided_batches.extend(batches.into_iter().map(|(_, at)| at));
        let last_stable = first.max(log.bounds().log_start).min(high_watermark);
        Stand { open, aborted, undecided, undecided_batches, last_stable }
    }

    async fn check(&self, rng: &mut StdRng, log: &Log) {
        let stand = self.stand(log);
        let bounds = log.bounds();
        // Of a transaction whose beginning was trimmed off a crash may leave only what is still there.
        let whole = |first: &Offset| *first >= bounds.log_start;
        if stand.undecided.iter().all(whole) {
            assert_eq!(log.last_stable_offset(), stand.last_stable);
        }
        let left = stand.undecided_batches.iter().filter(|at| whole(at)).min();
        assert!(left.is_none_or(|at| log.last_stable_offset() <= *at));
        assert!(log.last_stable_offset() >= stand.last_stable);
        {
            let producers = log.producers().borrow();
            for (first, id) in stand.open.iter().filter(|(first, _)| whole(first)) {
                assert_eq!(producers.get(ProducerId(*id)).unwrap().txn_first_offset, Some(*first));
            }
            let open = producers.iter().filter(|info| info.txn_first_offset.is_some_and(|first| whole(&first))).count();
            assert!(open >= stand.open.iter().filter(|(first, _)| whole(first)).count() && open <= stand.open.len());
        }
        for _ in 0..3 {
            let from = Offset(rng.random_range(bounds.log_start.0..=bounds.log_end.0));
            let upto = Offset(rng.random_range(from.0..=bounds.log_end.0));
            let mut expected = stand.aborted.clone();
            expected.retain(|aborted| aborted.last_offset >= from && aborted.first_offset < upto);
            let found = log.aborted_transactions(from, upto).await.unwrap();
            assert!(
                same_aborted(&found, &expected, bounds.log_start),
                "from {from} to {upto}: {found:?}, {expected:?}"
            );
        }
    }

    /// The files of a log that was closed, or just opened, are Kafka's: 34 bytes of each transaction, beside the segment with its
    /// marker. Kafka takes no notice of a rest that is shorter.
    fn check_files(&self, dir: &Path, bases: &[Offset], aborted: &[AbortedTransaction], log_start: Offset) {
        for (n, base) in bases.iter().enumerate() {
            let end = bases.get(n + 1).copied().unwrap_or(Offset::MAX);
            let mut expected = aborted.to_vec();
            expected.retain(|a| a.last_offset >= *base && a.last_offset < end);
            let bytes = std::fs::read(dir.join(format!("{:020}.txnindex", base.0))).unwrap_or_default();
            let bytes = &bytes[..bytes.len() / 34 * 34];
            let entry = |bytes: &[u8]| {
                let field = |n: usize| i64::from_be_bytes(bytes[2 + n * 8..10 + n * 8].try_into().unwrap());
                assert_eq!(bytes[..2], [0, 0], "version");
                AbortedTransaction {
                    producer: ProducerId(field(0)),
                    first_offset: Offset(field(1)),
                    last_offset: Offset(field(2)),
                    last_stable_offset: Offset(field(3)),
                }
            };
            let found: Vec<AbortedTransaction> = bytes.chunks(34).map(entry).collect();
            assert!(same_aborted(&found, &expected, log_start), "segment {base}: {found:?}, {expected:?}");
        }
    }

    fn append(&mut self, log: &Log, builder: BatchBuilder) {
        let bytes = builder.build_at(log.bounds().log_end, TERM).unwrap();
        let id = LogId::new(TERM, log.next_index());
        self.entries.push((id, bytes.clone()));
        let (durable, len) = (self.durable.clone(), self.entries.len());
        log.append([LogEntry { id, kind: EntryKind::Data, bytes }], move |r| {
            r.unwrap();
            durable.set(len);
        })
        .unwrap();
    }

    fn write(&mut self, rng: &mut StdRng, log: &Log) {
        let id = rng.random_range(0..6);
        let mut builder = BatchBuilder::new(Codec::None).producer(ProducerId(id), ProducerEpoch(0), Sequence(0));
        let open = self.stand(log).open.iter().any(|(_, open)| *open == id);
        if id > 0 || open {
            builder = builder.transactional();
        }
        let value = vec![7; rng.random_range(0..3000)];
        (0..rng.random_range(1..4)).for_each(|n| builder.push(1000 + n, None, Some(&value)));
        self.append(log, builder);
    }

    fn end(&mut self, rng: &mut StdRng, log: &Log) {
        let mut builder = BatchBuilder::new(Codec::None).producer(
            ProducerId(rng.random_range(0..6)),
            ProducerEpoch(0),
            Sequence::NONE,
        );
        let marker = if rng.random_ratio(3, 4) { TransactionMarker::Abort } else { TransactionMarker::Commit };
        builder.push_marker(2000, marker, 3);
        self.append(log, builder);
    }
}

async fn step(rng: &mut StdRng, store: &Store, log: &Log, account: &mut Account) {
    match rng.random_range(0..100) {
        0..30 => account.write(rng, log),
        30..50 => account.end(rng, log),
        50..65 => {
            if account.entries.len() > account.applied {
                account.applied = rng.random_range(account.applied + 1..=account.entries.len());
                log.set_applied(RaftIndex(account.applied as u64 - 1));
            }
        }
        65..85 => account.check(rng, log).await,
        85..88 => flushed(log).await,
        88..91 => store.write_back().await.unwrap(),
        91..95 => {
            let keep = rng.random_range(account.applied..=account.entries.len()).max(1);
            log.truncate_after(Some(account.entries[keep - 1].0)).await.unwrap();
            account.entries.truncate(keep);
            account.durable.set(account.durable.get().min(keep));
            account.check(rng, log).await;
        }
        95..96 => {
            let bounds = log.bounds();
            log.trim(Offset(rng.random_range(bounds.log_start.0..=bounds.high_watermark.0))).await.unwrap();
        }
        _ => core_pinning::yield_now().await,
    }
}

fn run(seed: u64, rounds: usize) {
    let root = tempfile::tempdir().unwrap();
    let mut dir = root.path().join("0");
    let mut rng = StdRng::seed_from_u64(seed);
    let config = LogConfig {
        segment_bytes: rng.random_range(5_000..200_000),
        index_interval_bytes: rng.random_range(100..5000),
        file_delete_delay_ms: 0,
        ..LogConfig::default()
    };
    let mut account = Account::default();
    for round in 0..rounds {
        let (rng, account) = (&mut rng, &mut account);
        let next = root.path().join((round + 1).to_string());
        run_local(async || {
            let options = StoreOptions {
                journal_file_bytes: 256 << 10,
                journal_files_max: rng.random_range(2..4),
                idle: std::time::Duration::from_millis(rng.random_range(1..100)),
                ..options(&dir)
            };
            let store = open_with(options).await;
            let spec = spec_with(0, config.clone());
            let log = if store.exists(&spec) {
                let log = store.load(spec.clone()).await.unwrap();
                let found = log.next_index().0 as usize;
                assert!(found >= account.durable.get() && found <= account.entries.len());
                account.entries.truncate(found);
                account.durable.set(found);
                account.applied = log.applied().map_or(0, |id| id.index.0 as usize + 1);
                account.check(rng, &log).await;
                // Whether it was closed or not, Kafka's tools find all that the log has.
                let bases: Vec<Offset> = log.segments().iter().map(|s| s.base_offset).collect();
                let partition = store.partition_dir(&spec.topic, spec.key);
                account.check_files(&partition, &bases, &account.stand(&log).aborted, log.bounds().log_start);
                log
            } else {
                assert_eq!(account.durable.get(), 0, "the partition is gone");
                *account =
                    Account { entries: vec![(LogId::new(TERM, RaftIndex(0)), Bytes::new())], ..Account::default() };
                store.create(spec.clone(), first()).await.unwrap()
            };
            for _ in 0..rng.random_range(0..500) {
                step(rng, &store, &log, account).await;
            }
            if rng.random_ratio(1, 3) {
                let bases: Vec<Offset> = log.segments().iter().map(|s| s.base_offset).collect();
                let aborted = account.stand(&log).aborted;
                let log_start = log.bounds().log_start;
                let partition = store.partition_dir(&spec.topic, spec.key);
                store.close().await.unwrap();
                account.check_files(&partition, &bases, &aborted, log_start);
            }
            copy_dir(&dir, &next);
        });
        std::fs::remove_dir_all(&dir).unwrap();
        dir = next;
        println!("seed {seed} round {round}");
    }
}

#[test]
fn transactions_agree_with_their_account() {
    let env = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let rounds = env("CORELANE_ROUNDS").unwrap_or(8) as usize;
    match env("CORELANE_SEED") {
        Some(seed) => run(seed, rounds),
        None => {
            let first: u64 = rand::random_range(0..1 << 40);
            (first..first + 8).for_each(|seed| run(seed, rounds));
        }
    }
}

impl Account {
    fn plain(&mut self, log: &Log) {
        let mut builder = BatchBuilder::new(Codec::None);
        builder.push(1000, Some(b"key"), Some(&[7; 1000]));
        self.append(log, builder);
    }

    /// A transaction that is aborted, in two small batches.
    fn abort(&mut self, log: &Log, id: i64) {
        let mut records =
            BatchBuilder::new(Codec::None).producer(ProducerId(id), ProducerEpoch(0), Sequence(0)).transactional();
        records.push(1000, Some(b"key"), Some(b"value"));
        self.append(log, records);
        let mut end = BatchBuilder::new(Codec::None).producer(ProducerId(id), ProducerEpoch(0), Sequence::NONE);
        end.push_marker(2000, TransactionMarker::Abort, 3);
        self.append(log, end);
    }

    /// The first batch of a new segment.
    fn roll(&mut self, log: &Log) {
        let before = log.segments().len();
        while log.segments().len() == before {
            self.plain(log);
        }
    }
}

#[test]
fn of_two_files_one_was_written_and_what_it_says_does_not_come_back_once_it_is_cut_off() {
    let dir = tempfile::tempdir().unwrap();
    let config = LogConfig {
        segment_bytes: 4096,
        cleanup: CleanupPolicy { delete: false, compact: true },
        min_cleanable_ratio_ppm: 0,
        ..LogConfig::default()
    };
    let spec = spec_with(0, config);
    let mut account = Account { entries: vec![(LogId::new(TERM, RaftIndex(0)), Bytes::new())], ..Account::default() };
    run_local(async || {
        let store = open(dir.path()).await;
        let log = store.create(spec.clone(), first()).await.unwrap();
        let partition = store.partition_dir(&spec.topic, spec.key);
        let files = || std::fs::read_dir(&partition).unwrap().flatten().map(|file| file.path());
        let indexes = || files().filter(|path| path.extension().is_some_and(|of| of == "txnindex")).count();
        // What a pass of the compaction is for: it hands over first what was aborted, wherever that is.
        (0..2).for_each(|_| account.roll(&log));
        log.set_applied(RaftIndex(account.entries.len() as u64 - 1));
        account.roll(&log);
        let kept = account.entries.len();
        account.abort(&log, 1);
        account.roll(&log);
        account.abort(&log, 2);
        flushed(&log).await;
        store.write_back().await.unwrap();
        fault::set(FaultPlan::new().nth(DiskOp::Write, ".txnindex", 1, 1, Effect::Error(5)));
        let passed = Cleaner::new(CleanerOptions::default()).clean(&log, 10_000).await;
        assert!(matches!(passed, Err(StorageError::Io { .. })), "{passed:?}");
        fault::clear();
        assert_eq!(indexes(), 1);
        let (from, upto) = (Offset(0), Offset::MAX);
        assert_eq!(log.aborted_transactions(from, upto).await.unwrap(), account.stand(&log).aborted);

        log.truncate_after(Some(account.entries[kept - 1].0)).await.unwrap();
        account.entries.truncate(kept);
        account.roll(&log);
        account.abort(&log, 3);
        flushed(&log).await;
        let aborted = account.stand(&log).aborted;
        assert_eq!(aborted.len(), 1);
        assert_eq!(log.aborted_transactions(from, upto).await.unwrap(), aborted);
        let bases: Vec<Offset> = log.segments().iter().map(|s| s.base_offset).collect();
        store.close().await.unwrap();
        account.check_files(&partition, &bases, &aborted, Offset(0));
        assert_eq!(indexes(), 1);

        let store = open(dir.path()).await;
        let log = store.load(spec.clone()).await.unwrap();
        assert_eq!(log.aborted_transactions(from, upto).await.unwrap(), aborted);
        store.close().await.unwrap();
    });
}
