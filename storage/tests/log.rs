//! A log as its users see it.

mod common;

use std::cell::Cell;
use std::path::PathBuf;
use std::rc::Rc;

use bytes::Bytes;
use common::*;
use core_pinning::{Queue, run_local, spawn};
use corelane_storage::model::{LogId, Offset, RaftIndex, Term};
use corelane_storage::record::{BatchBuilder, BatchHeader, Codec};
use corelane_storage::{Freed, Log, LogConfig, ReadError, ReadLimit, StorageError, Store, StoreOptions};

#[test]
fn what_is_appended_is_read_before_and_after_it_reaches_the_segment() {
    let dir = tempfile::tempdir().unwrap();
    run_local(async || {
        let store = open(dir.path()).await;
        let w = Writer { log: store.create(spec(0), first()).await.unwrap() };
        let mut expected = Vec::new();
        for n in 0..500 {
            expected.push(w.append(1 + (n % 3) as u32, 10 + (n as usize * 37) % 900, n));
        }
        assert_same(&read_all(&w.log, Offset(0), 10_000).await, &expected);
        flushed(&w.log).await;
        store.write_back().await.unwrap();
        assert_same(&read_all(&w.log, Offset(0), 3_000).await, &expected);
        w.apply();
        store.close().await.unwrap();

        let store = open(dir.path()).await;
        let w = Writer { log: store.load(spec(0)).await.unwrap() };
        assert_eq!(store.stats().scanned_bytes, 0, "a clean start reads no segment");
        assert!(!w.log.unclean_start());
        assert_same(&read_all(&w.log, Offset(0), 7_000).await, &expected);
        for n in 0..100 {
            expected.push(w.append(1, 300, n));
        }
        assert_same(&read_all(&w.log, Offset(0), 1 << 20).await, &expected);
        store.close().await.unwrap();
    });
}

#[test]
fn readers_see_exact_bytes_while_the_log_grows_and_is_written_back() {
    let dir = tempfile::tempdir().unwrap();
    run_local(async || {
        let o = StoreOptions { cache_budget: 100_000, ..options(dir.path()) };
        let store = open_with(o).await;
        let config = LogConfig { segment_bytes: 500_000, ..LogConfig::default() };
        let w = Rc::new(Writer { log: store.create(spec_with(0, config), first()).await.unwrap() });
        let expected: Shared<Vec<Bytes>> = Shared::default();
        let done = Rc::new(Cell::new(false));
        let mut readers = Vec::new();
        for max_bytes in [1, 3_000, 70_000] {
            let (log, expected, done) = (w.log.clone(), expected.clone(), done.clone());
            readers.push(spawn(Queue::Serve, "reader", async move {
                let (mut at, mut n) = (Offset(0), 0);
                while !done.get() || at < log.bounds().log_end {
                    let limit = ReadLimit { max_bytes, at_least_one: true, upto: Offset::MAX };
                    let read = log.read(at, limit).await.unwrap();
                    for slice in &read.slices {
                        let mut rest = slice.clone();
                        while !rest.is_empty() {
                            let size = BatchHeader::parse(&rest).unwrap().size();
                            assert!(rest.split_to(size) == expected.borrow()[n], "batch {n}");
                            n += 1;
                        }
                    }
                    at = read.next_offset;
                    if read.slices.is_empty() {
                        core_pinning::yield_now().await;
                    }
                }
                n
            }));
        }
        for n in 0..3000 {
            store.dirty().room().await;
            // Noted before it can be read.
            let next = batch(w.log.bounds().log_end, 1, (n as usize * 131) % 3000, n);
            expected.borrow_mut().push(next.clone());
            w.log.append([w.entry(next)], |r| r.unwrap()).unwrap();
            if n % 16 == 0 {
                core_pinning::yield_now().await;
            }
        }
        done.set(true);
        for reader in readers {
            assert_eq!(reader.await, 3000);
        }
        assert!(w.log.segments().len() > 5);
        store.close().await.unwrap();
    });
}

#[test]
fn times_find_exact_records() {
    let dir = tempfile::tempdir().unwrap();
    run_local(async || {
        let store = open(dir.path()).await;
        let config = LogConfig { segment_bytes: 4_000, index_interval_bytes: 300, ..LogConfig::default() };
        let w = Writer { log: store.create(spec_with(0, config), first()).await.unwrap() };
        // (offset, timestamp) of every record; times go up and down.
        let mut records: Vec<(i64, i64)> = Vec::new();
        for n in 0..200_i64 {
            let base = w.log.bounds().log_end;
            let codec = [Codec::None, Codec::Lz4, Codec::Gzip][n as usize % 3];
            let mut builder = BatchBuilder::new(codec);
            for r in 0..3 {
                let timestamp = 10_000 + n * 10 + (r * 7 + n * 13) % 50;
                builder.push(timestamp, None, Some(&[r as u8; 40]));
                records.push((base.0 + r, timestamp));
            }
            w.push(w.entry(builder.build_at(base, TERM).unwrap())).await.unwrap();
        }
        let check = async |log: &Log| {
            let end = log.bounds().log_end;
            for upto in [end, Offset(301), Offset(1)] {
                for timestamp in (9_990..12_200).step_by(7) {
                    let found = log.offset_for_timestamp(timestamp, upto).await.unwrap();
                    let expected = records.iter().find(|(o, t)| *t >= timestamp && *o < upto.0);
                    assert_eq!(found.map(|(o, t, _)| (o.0, t)), expected.copied(), "{timestamp} below {upto}");
                }
                // Whole batches only: a reader sees no part of one.
                let seen = records.iter().filter(|(o, _)| o - o % 3 + 3 <= upto.0);
                let best = seen.clone().map(|(_, t)| *t).max();
                let expected = seen.clone().find(|(_, t)| Some(*t) == best).copied();
                let found = log.max_timestamp(upto).await.unwrap();
                assert_eq!(
                    found.map(|(o, t, term)| (o.0, t, term)),
                    expected.map(|(o, t)| (o, t, TERM)),
                    "below {upto}"
                );
            }
        };
        check(&w.log).await;
        store.write_back().await.unwrap();
        check(&w.log).await;
        store.close().await.unwrap();
        let store = open(dir.path()).await;
        let log = store.load(spec(0)).await.unwrap();
        check(&log).await;
        store.close().await.unwrap();
        // Indexes are made again where they are gone or damaged.
        for (n, file) in files_ending(&store, ".idx").into_iter().enumerate() {
            match n % 2 {
                0 => std::fs::remove_file(file).unwrap(),
                _ => std::fs::write(file, b"something else").unwrap(),
            }
        }
        let store = open(dir.path()).await;
        check(&store.load(spec(0)).await.unwrap()).await;
        store.close().await.unwrap();
    });
}

fn files_ending(store: &Store, suffix: &str) -> Vec<PathBuf> {
    let dir = store.partition_dir("t", spec(0).key);
    let mut files: Vec<_> = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    files.retain(|p| p.to_string_lossy().ends_with(suffix));
    files.sort();
    files
}

#[test]
fn retention_takes_whole_segments_oldest_first() {
    let dir = tempfile::tempdir().unwrap();
    run_local(async || {
        let store = open(dir.path()).await;
        let config = LogConfig {
            segment_bytes: 10_000,
            retention_ms: 1000,
            retention_bytes: -1,
            file_delete_delay_ms: 0,
            ..LogConfig::default()
        };
        let w = Writer { log: store.create(spec_with(0, config.clone()), first()).await.unwrap() };
        for n in 0..100 {
            let bytes = batch_at(w.log.bounds().log_end, 1, 900, n, n as i64 * 10);
            w.push(w.entry(bytes)).await.unwrap();
        }
        let before = w.log.segments();
        assert!(before.len() >= 10);
        assert_eq!(w.log.apply_retention(900).await.unwrap(), Freed::default(), "nothing is older than a second");
        // Older than a second are times below 500, which are the first fifty records.
        let freed = w.log.apply_retention(1500).await.unwrap();
        assert!(freed.segments > 0 && freed.bytes > 0);
        let start = w.log.bounds().log_start;
        assert_eq!(start, w.log.segments()[0].base_offset);
        assert!(start <= Offset(50) && before.iter().all(|s| s.base_offset <= start || s.base_offset.0 > 39));
        assert_eq!(w.log.purged().unwrap().index.next(), w.log.first_index());
        assert!(matches!(w.log.read(Offset(0), all()).await, Err(ReadError::OutOfRange)));
        // By size: what is beyond goes, but for the part of a segment.
        w.log.set_config(LogConfig { retention_bytes: 25_000, retention_ms: -1, ..config.clone() });
        w.log.apply_retention(0).await.unwrap();
        assert!((25_000..40_000).contains(&w.log.size_bytes()), "{}", w.log.size_bytes());
        // All of it too old: the active segment is closed, so that it can go.
        w.log.set_config(config);
        w.log.apply_retention(1_000_000).await.unwrap();
        let bounds = w.log.bounds();
        assert_eq!((bounds.log_start, bounds.log_end), (Offset(100), Offset(100)));
        assert_eq!(w.log.segments().len(), 1);
        let kept = w.append_durably(1, 10, 5).await;
        assert_same(&read_all(&w.log, Offset(100), 1000).await, std::slice::from_ref(&kept));
        assert!(files_ending(&store, ".log").len() <= 1);
        store.close().await.unwrap();
        let store = open(dir.path()).await;
        let log = store.load(spec(0)).await.unwrap();
        assert_same(&read_all(&log, Offset(100), 1000).await, &[kept]);
        assert_eq!(log.next_index(), RaftIndex(102));
        store.close().await.unwrap();
    });
}

fn all() -> ReadLimit {
    ReadLimit { max_bytes: 1 << 20, at_least_one: true, upto: Offset::MAX }
}

#[test]
fn a_flipped_bit_in_durable_data_fences_the_partition() {
    let dir = tempfile::tempdir().unwrap();
    run_local(async || {
        let store = open(dir.path()).await;
        let config = LogConfig { segment_bytes: 20_000, ..LogConfig::default() };
        let w = Writer { log: store.create(spec_with(0, config.clone()), first()).await.unwrap() };
        for n in 0..60 {
            w.append_durably(1, 1000, n).await;
        }
        store.close().await.unwrap();
        let path = &files_ending(&store, ".log")[1];
        let mut bytes = std::fs::read(path).unwrap();
        bytes[9_000] ^= 4;
        std::fs::write(path, bytes).unwrap();

        let store = open(dir.path()).await;
        let other = store.create(spec(1), first()).await.unwrap();
        let w = Writer { log: store.load(spec_with(0, config)).await.unwrap() };
        let bounds = w.log.bounds();
        let mut at = Offset(0);
        let error = loop {
            match w.log.read(at, ReadLimit { max_bytes: 2000, ..all() }).await {
                Ok(read) => at = read.next_offset,
                Err(error) => break error,
            }
        };
        assert!(matches!(error, ReadError::Storage(StorageError::Corrupt { .. })), "{error}");
        assert!(at > Offset(19) && at < Offset(40), "what is before the damage can be read, up to {at}");
        let again = w.log.read(Offset(0), all()).await;
        assert!(matches!(again, Err(ReadError::Storage(StorageError::Corrupt { .. }))), "fenced");
        let refused = w.log.append([w.entry(batch(bounds.log_end, 1, 10, 1))], |_| {});
        assert!(matches!(refused, Err(StorageError::Corrupt { .. })));
        assert_eq!(w.log.bounds(), bounds, "nothing was cut off");
        Writer { log: other }.append_durably(1, 10, 1).await;
        store.close().await.unwrap();
    });
}

#[test]
fn a_deleted_partition_is_gone_and_its_name_is_free() {
    let dir = tempfile::tempdir().unwrap();
    run_local(async || {
        let store = open(dir.path()).await;
        let w = Writer { log: store.create(spec(0), first()).await.unwrap() };
        for n in 0..50 {
            w.append(1, 1000, n);
        }
        assert!(matches!(store.create(spec(0), first()).await, Err(StorageError::Exists(_))));
        store.delete(spec(0).key).await.unwrap();
        assert!(!store.exists(&spec(0)));
        assert_eq!((store.stats().dirty_bytes, store.stats().chunk_bytes), (0, 0));
        assert!(matches!(w.log.read(Offset(0), all()).await, Err(ReadError::Storage(StorageError::Deleted(_)))));
        assert!(matches!(w.log.append([w.entry(batch(Offset(50), 1, 10, 1))], |_| {}), Err(StorageError::Deleted(_))));
        assert!(matches!(store.delete(spec(0).key).await, Err(StorageError::NotFound(_))));
        assert_eq!(std::fs::read_dir(dir.path().join("data")).unwrap().count(), 0);
        let w = Writer { log: store.create(spec(0), first()).await.unwrap() };
        let kept = w.append_durably(1, 10, 9).await;
        store.close().await.unwrap();
        let store = open(dir.path()).await;
        assert_same(&read_all(&store.load(spec(0)).await.unwrap(), Offset(0), 1000).await, &[kept]);
        store.close().await.unwrap();
    });
}

#[test]
fn write_caching_acknowledges_at_once() {
    let dir = tempfile::tempdir().unwrap();
    run_local(async || {
        let store = open(dir.path()).await;
        let config = LogConfig { write_caching: true, ..LogConfig::default() };
        let w = Writer { log: store.create(spec_with(0, config), first()).await.unwrap() };
        let acknowledged = Rc::new(Cell::new(false));
        let a = acknowledged.clone();
        w.log.append([w.entry(batch(Offset(0), 1, 10, 1))], move |r| a.set(r.is_ok())).unwrap();
        assert!(acknowledged.get());
        assert!(w.log.bounds().flushed < w.log.bounds().log_end);
        flushed(&w.log).await;
        assert_eq!(w.log.bounds().flushed, w.log.bounds().log_end);
        store.close().await.unwrap();
    });
}

#[test]
fn entries_that_do_not_continue_the_log_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    run_local(async || {
        let store = open(dir.path()).await;
        let w = Writer { log: store.create(spec(0), first()).await.unwrap() };
        let good = w.entry(batch(Offset(0), 1, 10, 1));
        let mut bad = vec![good.clone(), good.clone(), good.clone(), good.clone()];
        bad[0].id.index = RaftIndex(7);
        bad[1].id.term = Term(0);
        bad[2].bytes = batch(Offset(3), 1, 10, 1);
        bad[3].bytes = good.bytes.slice(..good.bytes.len() - 1);
        for entry in bad {
            assert!(matches!(w.log.append([entry], |_| {}), Err(StorageError::Refused(_))));
        }
        assert_eq!(w.log.next_index(), RaftIndex(1));
        w.push(good).await.unwrap();
        // Nothing that is applied is cut off, nor trimmed what is not.
        let cut = w.log.truncate_after(Some(LogId::new(TERM, RaftIndex(0)))).await;
        assert!(matches!(cut, Err(StorageError::Refused(_))));
        w.append(1, 10, 2);
        assert!(matches!(w.log.trim(Offset(2)).await, Err(StorageError::Refused(_))));
        w.log.trim(Offset(1)).await.unwrap();
        store.close().await.unwrap();
    });
}
