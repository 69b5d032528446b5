//! Compaction of a log with transactions, made by hand: batches of transactional producers and the markers that end them.

mod common;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use common::*;
use core_pinning::run_local;
use corelane_storage::model::{Offset, ProducerEpoch, ProducerId, Sequence};
use corelane_storage::producer_state::{AbortedTransaction, Checked};
use corelane_storage::record::{BatchBuilder, BatchHeader, Batches, Codec, RecordIter, TransactionMarker};
use corelane_storage::{
    Cleaned, Cleaner, CleanerOptions, CleanupPolicy, Log, LogConfig, PartitionSpec, ReadLimit, Store,
};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

const RETENTION_MS: i64 = 1000;

fn compacted() -> PartitionSpec {
    let config = LogConfig {
        segment_bytes: 4096,
        cleanup: CleanupPolicy { delete: false, compact: true },
        min_cleanable_ratio_ppm: 0,
        index_interval_bytes: 300,
        delete_retention_ms: RETENTION_MS,
        ..LogConfig::default()
    };
    spec_with(0, config)
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Outcome {
    Open,
    Committed,
    Aborted,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Written {
    offset: i64,
    key: Vec<u8>,
    value: Option<Vec<u8>>,
    /// Of which transaction; plain ones have none.
    transaction: Option<usize>,
}

/// All that was ever written.
struct Account {
    writer: Writer,
    written: Vec<Written>,
    outcomes: Vec<Outcome>,
    open: BTreeMap<i64, usize>,
    sequences: BTreeMap<i64, i32>,
    last_batch: BTreeMap<i64, Bytes>,
    now_ms: i64,
    upto: Offset,
}

impl Account {
    async fn new(store: &Store) -> Account {
        Account {
            writer: Writer { log: store.create(compacted(), first()).await.unwrap() },
            written: Vec::new(),
            outcomes: Vec::new(),
            open: BTreeMap::new(),
            sequences: BTreeMap::new(),
            last_batch: BTreeMap::new(),
            now_ms: 1_000_000,
            upto: Offset(0),
        }
    }

    fn log(&self) -> &Log {
        &self.writer.log
    }

    async fn append(&self, builder: BatchBuilder) -> Bytes {
        let bytes = builder.build_at(self.log().bounds().log_end, TERM).unwrap();
        self.writer.push(self.writer.entry(bytes.clone())).await.unwrap();
        bytes
    }

    /// A batch of the producer's transaction, or of none.
    async fn write(&mut self, codec: Codec, producer: Option<i64>, items: &[(&[u8], Option<&[u8]>)]) {
        let mut builder = BatchBuilder::new(codec);
        let mut transaction = None;
        if let Some(id) = producer {
            let next = self.sequences.entry(id).or_insert(0);
            builder = builder.producer(ProducerId(id), ProducerEpoch(0), Sequence(*next)).transactional();
            *next += items.len() as i32;
            let outcomes = &mut self.outcomes;
            transaction = Some(*self.open.entry(id).or_insert_with(|| {
                outcomes.push(Outcome::Open);
                outcomes.len() - 1
            }));
        }
        let base = self.log().bounds().log_end.0;
        for (n, (key, value)) in items.iter().enumerate() {
            self.now_ms += 1;
            builder.push(self.now_ms, Some(key), *value);
            let (key, value) = (key.to_vec(), value.map(<[u8]>::to_vec));
            self.written.push(Written { offset: base + n as i64, key, value, transaction });
        }
        let bytes = self.append(builder).await;
        if let Some(id) = producer {
            self.last_batch.insert(id, bytes);
        }
    }

    async fn end(&mut self, producer: i64, marker: TransactionMarker) {
        let mut builder =
            BatchBuilder::new(Codec::None).producer(ProducerId(producer), ProducerEpoch(0), Sequence::NONE);
        builder.push_marker(self.now_ms, marker, 0);
        self.append(builder).await;
        if let Some(transaction) = self.open.remove(&producer) {
            let outcome = if marker == TransactionMarker::Abort { Outcome::Aborted } else { Outcome::Committed };
            self.outcomes[transaction] = outcome;
        }
    }

    /// Closes the segment, so that what was written can be compacted.
    async fn fill(&mut self, n: u8) {
        self.write(Codec::None, None, &[(b"fill", Some(&vec![n; 4000]))]).await;
    }

    async fn clean(&mut self, store: &Store, options: CleanerOptions) -> Option<Cleaned> {
        store.write_back().await.unwrap();
        let cleaned = Cleaner::new(options).clean(self.log(), self.now_ms).await.unwrap();
        self.upto = self.upto.max(cleaned.map_or(Offset(0), |c| c.upto));
        cleaned
    }

    fn outcome(&self, record: &Written) -> Option<Outcome> {
        record.transaction.map(|transaction| self.outcomes[transaction])
    }

    /// Compares what is in the log with what may and must be.
    async fn check(&self, log: &Log) {
        let found: BTreeMap<i64, (Vec<u8>, Option<Vec<u8>>)> = contents_of(log).await.records;
        let written: BTreeMap<i64, &Written> = self.written.iter().map(|w| (w.offset, w)).collect();
        for (offset, (key, value)) in &found {
            let was = written[offset];
            assert!(was.key == *key && was.value == *value, "offset {offset} is as it was");
        }
        for record in &self.written {
            let there = found.contains_key(&record.offset);
            let outcome = self.outcome(record);
            if record.offset >= self.upto.0 {
                assert!(there, "{record:?} was not compacted");
                continue;
            }
            assert_ne!(outcome, Some(Outcome::Open), "a pass ends before {record:?}");
            let counts = |w: &&Written| w.offset < self.upto.0 && self.outcome(w) != Some(Outcome::Aborted);
            let replaced = self.written.iter().filter(counts).any(|w| w.key == record.key && w.offset > record.offset);
            match outcome {
                Some(Outcome::Aborted) => assert!(!there, "{record:?} was aborted"),
                _ if replaced => assert!(!there, "{record:?} has a later one"),
                _ => assert!(there || record.value.is_none(), "{record:?} is lost"),
            }
        }
        let last_stable = log.last_stable_offset().0;
        let is_committed =
            |offset: &i64| *offset < last_stable && self.outcome(written[offset]) != Some(Outcome::Aborted);
        let expected: Vec<i64> = found.keys().copied().filter(is_committed).collect();
        assert_eq!(committed(log).await, expected, "what a reader of what is committed gets");
    }
}

/// Offsets of the records that a consumer delivers of what is committed (`CompletedFetch` of Kafka's clients).
async fn committed(log: &Log) -> Vec<i64> {
    let (mut at, mut delivered) = (log.bounds().log_start, Vec::new());
    loop {
        let limit = ReadLimit { max_bytes: 3000, at_least_one: true, upto: log.last_stable_offset() };
        let read = log.read(at, limit).await.unwrap();
        if read.slices.is_empty() {
            return delivered;
        }
        let mut aborted = log.aborted_transactions(at, read.next_offset).await.unwrap();
        let mut producers = BTreeSet::new();
        at = read.next_offset;
        for batch in read.slices.into_iter().flat_map(Batches::new) {
            let (header, batch) = batch.unwrap();
            let begun = |a: &mut AbortedTransaction| a.first_offset <= header.last_offset();
            producers.extend(aborted.extract_if(.., begun).map(|a| a.producer));
            let left_out = header.is_transactional() && producers.contains(&header.producer_id);
            if TransactionMarker::of(&header, &batch) == Some(TransactionMarker::Abort) {
                producers.remove(&header.producer_id);
            } else if !header.is_control() && !left_out {
                let records = RecordIter::new(&batch, 1 << 20).unwrap();
                delivered.extend(records.map(|record| record.unwrap().offset.0));
            }
        }
    }
}

/// What a log holds: records by offset, and markers with their horizons.
struct Contents {
    records: BTreeMap<i64, (Vec<u8>, Option<Vec<u8>>)>,
    markers: BTreeMap<i64, Option<i64>>,
}

async fn contents_of(log: &Log) -> Contents {
    let (mut at, mut found) = (Offset(0), Contents { records: BTreeMap::new(), markers: BTreeMap::new() });
    loop {
        let limit = ReadLimit { max_bytes: 3000, at_least_one: true, upto: Offset::MAX };
        let read = log.read(at, limit).await.unwrap();
        if read.slices.is_empty() {
            return found;
        }
        at = read.next_offset;
        for batch in read.slices.into_iter().flat_map(Batches::new) {
            let (header, batch) = batch.unwrap();
            header.verify_crc(&batch).unwrap();
            if header.is_control() {
                if header.count > 0 {
                    found.markers.insert(header.base_offset.0, header.delete_horizon());
                }
                continue;
            }
            for record in RecordIter::new(&batch, 1 << 20).unwrap() {
                let r = record.unwrap();
                found.records.insert(r.offset.0, (r.key.unwrap().to_vec(), r.value.map(|v| v.to_vec())));
            }
        }
    }
}

#[test]
fn what_was_aborted_goes_and_replaces_nothing() {
    for seed in 0..4 {
        let mut rng = StdRng::seed_from_u64(seed);
        let dir = tempfile::tempdir().unwrap();
        let keys = [4u8, 30, 200][seed as usize % 3];
        run_local(async || {
            let mut store = open(dir.path()).await;
            let mut account = Account::new(&store).await;
            account.write(Codec::None, None, &[(&[0], Some(b"first"))]).await;
            for _ in 0..350 {
                let producer = rng.random_range(0..4i64);
                match rng.random_range(0..40) {
                    0..28 => {
                        let items: Vec<_> = (0..rng.random_range(1..5))
                            .map(|_| {
                                let value =
                                    (!rng.random_ratio(1, 8)).then(|| vec![rng.random(); rng.random_range(0..200)]);
                                (vec![rng.random_range(0..keys)], value)
                            })
                            .collect();
                        let items: Vec<_> = items.iter().map(|(k, v)| (&k[..], v.as_deref())).collect();
                        let codec = Codec::ALL[rng.random_range(0..Codec::ALL.len())];
                        let producer = rng.random_ratio(2, 3).then_some(producer);
                        account.write(codec, producer, &items).await;
                    }
                    28..36 => {
                        let abort = rng.random_ratio(1, 2);
                        let marker = if abort { TransactionMarker::Abort } else { TransactionMarker::Commit };
                        account.end(producer, marker).await;
                    }
                    36 | 37 => {
                        account.now_ms += rng.random_range(0..1500);
                        let dedupe_bytes = 24 * [64, 5000][rng.random_range(0..2)];
                        account.clean(&store, CleanerOptions { dedupe_bytes, ..CleanerOptions::default() }).await;
                        account.check(account.log()).await;
                    }
                    38 => {
                        // Kept only to be faster: without it everything is looked at again.
                        let _ = std::fs::remove_file(account.log().dir().join("cleaner"));
                        store.close().await.unwrap();
                        store = open(dir.path()).await;
                        account.writer.log = store.load(compacted()).await.unwrap();
                    }
                    _ => {
                        let copy = tempfile::tempdir().unwrap();
                        copy_dir(dir.path(), copy.path());
                        let crashed = open(copy.path()).await;
                        account.check(&crashed.load(compacted()).await.unwrap()).await;
                        crashed.close().await.unwrap();
                    }
                }
            }
            for producer in account.open.keys().copied().collect::<Vec<_>>() {
                account.end(producer, TransactionMarker::Commit).await;
            }
            let end = account.log().bounds().log_end;
            account.fill(1).await;
            account.fill(2).await;
            while account.clean(&store, CleanerOptions::default()).await.is_some() {}
            assert!(account.upto >= end, "every transaction has ended");
            account.check(account.log()).await;
            for (id, batch) in &account.last_batch {
                let header = BatchHeader::parse(batch).unwrap();
                let checked = account.log().producers().borrow().check(&header).unwrap();
                assert!(matches!(checked, Checked::Duplicate { base, .. } if base == header.base_offset), "{id}");
            }
            store.close().await.unwrap();
        });
    }
}

#[test]
fn a_pass_ends_before_a_transaction_that_has_not_ended() {
    let dir = tempfile::tempdir().unwrap();
    run_local(async || {
        let store = open(dir.path()).await;
        let mut account = Account::new(&store).await;
        account.write(Codec::None, None, &[(b"a", Some(b"1"))]).await;
        account.fill(0).await;
        let first = account.log().bounds().log_end;
        account.write(Codec::None, Some(1), &[(b"a", Some(b"2"))]).await;
        account.write(Codec::None, None, &[(b"a", Some(b"3"))]).await;
        account.fill(1).await;
        account.fill(2).await;
        assert_eq!(account.clean(&store, CleanerOptions::default()).await.unwrap().upto, first);
        account.check(account.log()).await;
        account.fill(3).await;
        assert_eq!(account.clean(&store, CleanerOptions::default()).await, None, "nothing more can be done");
        assert_eq!(account.clean(&store, CleanerOptions::default()).await, None);
        account.end(1, TransactionMarker::Abort).await;
        account.fill(4).await;
        account.fill(5).await;
        assert!(account.clean(&store, CleanerOptions::default()).await.unwrap().upto > first);
        account.check(account.log()).await;
        store.close().await.unwrap();
    });
}

#[test]
fn markers_go_in_a_pass_after_the_horizon_of_a_pass_after_their_records() {
    use TransactionMarker::{Abort, Commit};
    for marker in [Abort, Commit] {
        let dir = tempfile::tempdir().unwrap();
        run_local(async || {
            let store = open(dir.path()).await;
            let mut account = Account::new(&store).await;
            account.write(Codec::Lz4, Some(1), &[(b"a", Some(b"1"))]).await;
            let at = account.log().bounds().log_end.0;
            account.end(1, marker).await;
            // Replaces what was committed, and is the last batch of its producer.
            account.write(Codec::None, Some(1), &[(b"a", Some(b"2"))]).await;
            account.end(1, Commit).await;
            account.fill(0).await;
            let next = async |account: &mut Account, n: u8| {
                account.fill(n).await;
                account.clean(&store, CleanerOptions::default()).await.unwrap();
                account.check(account.log()).await;
                contents_of(account.log()).await
            };
            let found = next(&mut account, 1).await;
            assert!(!found.records.contains_key(&(at - 1)) && found.markers.get(&at) == Some(&None), "{marker:?}");
            let found = next(&mut account, 2).await;
            let horizon = account.now_ms + RETENTION_MS;
            assert_eq!(found.markers.get(&at), Some(&Some(horizon)), "{marker:?}: its transaction is gone");
            assert_eq!(next(&mut account, 3).await.markers.get(&at), Some(&Some(horizon)), "it is seen till then");
            account.now_ms += RETENTION_MS;
            let found = next(&mut account, 4).await;
            assert!(!found.markers.contains_key(&at), "{marker:?}: and goes");
            assert_eq!(found.markers.get(&(at + 2)), Some(&None), "that of a transaction with a record stays");
            store.close().await.unwrap();
        });
    }
}
