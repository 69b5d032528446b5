//! What a look-up reads of a disk: one page of one index, and the batch. By counting the reads.

mod common;

use std::time::Duration;

use bytes::Bytes;
use common::*;
use core_pinning::run_local;
use corelane_storage::model::Offset;
use corelane_storage::record::BatchHeader;
use corelane_storage::{Log, LogConfig, ReadLimit, Store, StoreOptions, StoreStats};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

const INTERVAL: usize = 4096;
const BLOCK: usize = 4096;

fn config() -> LogConfig {
    LogConfig { segment_bytes: 2 << 20, index_interval_bytes: INTERVAL as u32, ..LogConfig::default() }
}

/// Batches of two records, most of about 1 KiB and some larger than an index interval; times go up, and down a little.
struct Written {
    batches: Vec<Bytes>,
    /// Offset and timestamp.
    records: Vec<(i64, i64)>,
}

async fn write(store: &Store, bytes: usize, seed: u64) -> Written {
    write_with(store, config(), bytes, seed).await
}

async fn write_with(store: &Store, config: LogConfig, bytes: usize, seed: u64) -> Written {
    let mut rng = StdRng::seed_from_u64(seed);
    let w = Writer { log: store.create(spec_with(0, config), first()).await.unwrap() };
    let mut written = Written { batches: Vec::new(), records: Vec::new() };
    let mut total = 0;
    while total < bytes {
        let base = w.log.bounds().log_end;
        let time = base.0 * 10 + rng.random_range(0..200);
        let size = if rng.random_ratio(1, 50) { 20_000 } else { rng.random_range(300..600) };
        let batch = batch_at(base, 2, size, base.0 as u64, time);
        total += batch.len();
        w.log.append([w.entry(batch.clone())], |r| r.unwrap()).unwrap();
        written.records.extend([(base.0, time), (base.0 + 1, time + 1)]);
        written.batches.push(batch);
        if rng.random_ratio(1, 1500) {
            core_pinning::time::sleep(Duration::from_millis(20)).await;
        }
        while store.dirty().is_over() {
            store.dirty().room().await;
        }
    }
    w.apply();
    written
}

fn small(dir: &std::path::Path) -> StoreOptions {
    // Logs come to rest again and again while they are written.
    StoreOptions { cache_budget: 0, idle: Duration::from_millis(2), ..options(dir) }
}

/// What was read since `before`, of pages, of the files of heads, of segments.
fn since(store: &Store, before: StoreStats) -> [(usize, usize); 3] {
    let now = store.stats();
    [
        (before.index_page_reads, now.index_page_reads),
        (before.index_reads, now.index_reads),
        (before.data_reads, now.data_reads),
    ]
    .map(|(before, now)| (now.reads - before.reads, now.bytes - before.bytes))
}

/// Looks up one offset and one time, and checks what it gave and what it read.
async fn look_up(store: &Store, log: &Log, written: &Written, rng: &mut StdRng) {
    let end = log.bounds().log_end;
    let at = Offset(rng.random_range(0..end.0));
    let batch = &written.batches[at.0 as usize / 2];
    // Small batches of two intervals, or a large one; blocks at both ends.
    let window = |batch: &Bytes| batch.len().max(2 * INTERVAL) + 2 * BLOCK;
    let before = store.stats();
    let room = [1, 100_000][rng.random_range(0..2)];
    let limit = ReadLimit { max_bytes: room, at_least_one: true, upto: Offset::MAX };
    let read = log.read(at, limit).await.unwrap();
    assert_eq!(&read.slices[0][..batch.len()], &batch[..], "at {at}");
    let [(pages, page_bytes), (_, _), (reads, bytes)] = since(store, before);
    assert!(pages <= 1 && page_bytes <= BLOCK, "{pages} pages for {at}");
    assert_eq!(reads, 1, "for {at}");
    assert!(bytes <= window(batch) + room, "{bytes} bytes for {at}");

    let timestamp = rng.random_range(0..end.0 * 10 + 300);
    let before = store.stats();
    let found = log.offset_for_timestamp(timestamp, end).await.unwrap();
    let expected = written.records.iter().find(|(_, t)| *t >= timestamp);
    assert_eq!(found.map(|(o, t, _)| (o.0, t)), expected.copied(), "at time {timestamp}");
    let [(pages, page_bytes), (_, _), (reads, bytes)] = since(store, before);
    assert!(pages <= 1 && page_bytes <= BLOCK, "{pages} pages for time {timestamp}");
    assert_eq!(reads, usize::from(expected.is_some()), "for time {timestamp}");
    let batch = expected.map_or(&written.batches[0], |(o, _)| &written.batches[*o as usize / 2]);
    assert!(bytes <= window(batch), "{bytes} bytes for time {timestamp}");
}

#[test]
fn a_look_up_reads_one_page_and_the_batch() {
    let dir = tempfile::tempdir().unwrap();
    run_local(async || {
        let store = Store::open(small(dir.path())).await.unwrap().0;
        let written = write(&store, 12 << 20, 1).await;
        store.close().await.unwrap();
        let mut rng = StdRng::seed_from_u64(2);
        let mut pages = 0;
        for _ in 0..30 {
            let store = open_with(small(dir.path())).await;
            let log = store.load(spec_with(0, config())).await.unwrap();
            assert!(log.segments().len() >= 6);
            let stats = store.stats();
            let opened = [stats.index_page_reads, stats.index_reads, stats.data_reads].map(|c| c.reads);
            assert_eq!(opened, [0, 1, 0], "opening reads the file of heads, once, and no segment");
            for _ in 0..20 {
                let before = store.stats();
                look_up(&store, &log, &written, &mut rng).await;
                let [_, (heads, _), _] = since(&store, before);
                assert_eq!(heads, 0);
            }
            pages += store.stats().index_page_reads.reads;
            // The largest time needs no page, only the batch: its first block, then the rest.
            let before = store.stats();
            let best = written.records.iter().max_by_key(|(o, t)| (*t, -*o)).unwrap();
            let found = log.max_timestamp(log.bounds().log_end).await.unwrap().unwrap();
            assert_eq!((found.0.0, found.1), *best);
            let [(pages, _), _, (reads, bytes)] = since(&store, before);
            assert!(pages <= 1 && reads <= 2, "{pages} pages, {reads} reads");
            assert!(bytes <= written.batches[best.0 as usize / 2].len() + 4 * BLOCK);
            store.close().await.unwrap();
        }
        assert!(pages > 100, "{pages} pages: the look-ups were cold");
    });
}

#[test]
fn after_a_crash_little_is_read_for_the_index_of_a_large_active_segment() {
    let (dir, crashed) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    const SEGMENT: usize = 48 << 20;
    let config = || LogConfig { segment_bytes: 256 << 20, ..config() };
    run_local(async || {
        let busy = |dir: &std::path::Path| StoreOptions { cache_budget: 0, ..options(dir) };
        let store = Store::open(busy(dir.path())).await.unwrap().0;
        let written = write_with(&store, config(), SEGMENT, 9).await;
        let partition = store.partition_dir("t", spec(0).key);
        until("an index of what is written", || partition.join(format!("{:020}.idx", 0)).exists()).await;
        copy_dir(dir.path(), crashed.path());
        store.close().await.unwrap();

        let store = open_with(busy(crashed.path())).await;
        let log = store.load(spec_with(0, config())).await.unwrap();
        log.set_applied(log.next_index());
        assert_eq!(log.segments().len(), 1);
        let limit = ReadLimit { max_bytes: 1, at_least_one: true, upto: Offset::MAX };
        let before = store.stats();
        let read = log.read(Offset(20_001), limit).await.unwrap();
        assert_eq!(read.slices[0], written.batches[10_000]);
        let [_, _, (_, bytes)] = since(&store, before);
        assert!(bytes < SEGMENT / 2, "{bytes} bytes were read for the first look-up");
        let mut rng = StdRng::seed_from_u64(10);
        for _ in 0..50 {
            look_up(&store, &log, &written, &mut rng).await;
        }
        store.close().await.unwrap();
    });
}

#[test]
fn indexes_in_memory_stay_within_their_budget() {
    let dir = tempfile::tempdir().unwrap();
    run_local(async || {
        let store = Store::open(small(dir.path())).await.unwrap().0;
        let written = write(&store, 12 << 20, 3).await;
        store.close().await.unwrap();
        const BUDGET: usize = 24 << 10;
        let store = open_with(StoreOptions { index_budget: BUDGET, ..small(dir.path()) }).await;
        let log = store.load(spec_with(0, config())).await.unwrap();
        let mut rng = StdRng::seed_from_u64(4);
        for _ in 0..300 {
            look_up(&store, &log, &written, &mut rng).await;
            assert!(store.stats().index_bytes <= BUDGET, "{} bytes", store.stats().index_bytes);
        }
        store.close().await.unwrap();
    });
}

#[test]
fn damaged_and_missing_indexes_are_made_again() {
    let dir = tempfile::tempdir().unwrap();
    run_local(async || {
        let store = Store::open(small(dir.path())).await.unwrap().0;
        let written = write(&store, 8 << 20, 5).await;
        store.close().await.unwrap();
        let partition = store.partition_dir("t", spec(0).key);
        let files = || {
            let files = std::fs::read_dir(&partition).unwrap().map(|e| e.unwrap().path());
            let mut files: Vec<_> =
                files.filter(|p| p.extension().is_some_and(|e| e == "idx") || p.ends_with("indexes")).collect();
            files.sort();
            files
        };
        let intact: Vec<Vec<u8>> = files().iter().map(|f| std::fs::read(f).unwrap()).collect();
        let mut rng = StdRng::seed_from_u64(6);
        for round in 0..12 {
            for (n, file) in files().iter().enumerate() {
                let mut bytes = std::fs::read(file).unwrap();
                match rng.random_range(0..5) {
                    0 => std::fs::remove_file(file).unwrap(),
                    1 => std::fs::write(file, &bytes[..rng.random_range(0..bytes.len())]).unwrap(),
                    2 => std::fs::write(file, &intact[(n + 1) % intact.len()]).unwrap(),
                    _ => {
                        let at = rng.random_range(0..bytes.len());
                        bytes[at] ^= 1 << rng.random_range(0..8);
                        std::fs::write(file, bytes).unwrap();
                    }
                }
            }
            let store = open_with(small(dir.path())).await;
            let log = store.load(spec_with(0, config())).await.unwrap();
            let end = log.bounds().log_end;
            for _ in 0..30 {
                let at = rng.random_range(0..end.0);
                let limit = ReadLimit { max_bytes: 1, at_least_one: true, upto: Offset::MAX };
                let read = log.read(Offset(at), limit).await.unwrap();
                assert_eq!(read.slices[0], written.batches[at as usize / 2], "round {round}, at {at}");
                let timestamp = rng.random_range(0..end.0 * 10 + 300);
                let found = log.offset_for_timestamp(timestamp, end).await.unwrap();
                let expected = written.records.iter().find(|(_, t)| *t >= timestamp);
                assert_eq!(found.map(|(o, t, _)| (o.0, t)), expected.copied(), "round {round}, time {timestamp}");
            }
            store.close().await.unwrap();
        }
    });
}

#[test]
fn a_cut_takes_the_index_of_what_was_there_with_it() {
    let (dir, crashed) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    run_local(async || {
        let store = Store::open(small(dir.path())).await.unwrap().0;
        let config = LogConfig { segment_bytes: 100_000, ..config() };
        let w = Writer { log: store.create(spec_with(0, config), first()).await.unwrap() };
        let mut batches: Vec<Bytes> = (0..1000).map(|n| w.append(1, [300, 500][n % 2], n as u64)).collect();
        store.write_back().await.unwrap();
        let idx = |segment: Offset| w.log.dir().join(format!("{:020}.idx", segment.0));
        let header = w.log.entry_headers(w.log.first_index()..w.log.next_index()).await.unwrap()[601];
        assert!(idx(header.segment).exists() && header.segment.0 > 0);
        let of_another_past = std::fs::read(idx(header.segment)).unwrap();
        w.log.truncate_after(Some(header.id)).await.unwrap();
        assert!(!idx(header.segment).exists());
        batches.truncate(header.last_offset.0 as usize + 1);
        batches.extend((0..500).map(|n| w.append(1, [500, 300][n % 2], n as u64)));
        w.apply();
        store.write_back().await.unwrap();
        assert!(idx(header.segment).exists());
        let check = async |log: &Log| {
            for (n, batch) in batches.iter().enumerate().step_by(7) {
                let limit = ReadLimit { max_bytes: 1, at_least_one: true, upto: Offset::MAX };
                assert_eq!(&log.read(Offset(n as i64), limit).await.unwrap().slices[0], batch, "batch {n}");
                let time = 1000 + n as i64;
                let found = log.offset_for_timestamp(time, log.bounds().high_watermark).await.unwrap();
                assert_eq!(found.map(|(o, t, _)| (o.0, t)), Some((n as i64, time)));
            }
        };
        check(&w.log).await;
        // The process dies here, and the index that was removed comes back: recovery puts in place what the journal has, and keeps
        // the indexes that are true of it.
        copy_dir(dir.path(), crashed.path());
        let brought_back = crashed.path().join(idx(header.segment).strip_prefix(dir.path()).unwrap());
        std::fs::write(&brought_back, of_another_past).unwrap();
        store.close().await.unwrap();
        let store = open_with(small(dir.path())).await;
        check(&store.load(spec(0)).await.unwrap()).await;
        store.close().await.unwrap();
        let store = open_with(small(crashed.path())).await;
        let log = store.load(spec(0)).await.unwrap();
        assert!(!log.dir().join(idx(header.segment).file_name().unwrap()).exists());
        log.set_applied(log.next_index());
        check(&log).await;
        store.close().await.unwrap();
    });
}

#[test]
fn an_index_of_another_past_is_not_followed() {
    let sizes = [[300, 500], [500, 300]];
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    run_local(async || {
        let mut batches = Vec::new();
        for (dir, sizes) in dirs.iter().zip(sizes) {
            let store = Store::open(small(dir.path())).await.unwrap().0;
            let config = LogConfig { segment_bytes: 100_000, ..config() };
            let w = Writer { log: store.create(spec_with(0, config), first()).await.unwrap() };
            batches = (0..1000).map(|n| w.append(1, sizes[n % 2], n as u64)).collect();
            w.apply();
            store.close().await.unwrap();
        }
        let partition = |dir: &tempfile::TempDir| {
            std::fs::read_dir(dir.path().join("data")).unwrap().next().unwrap().unwrap().path()
        };
        let mut wrong = 0;
        for file in std::fs::read_dir(partition(&dirs[0])).unwrap().map(|e| e.unwrap()) {
            let name = file.file_name();
            if name.to_string_lossy().ends_with(".idx") || name == "indexes" {
                let to = partition(&dirs[1]).join(&name);
                wrong += usize::from(std::fs::read(&to).unwrap() != std::fs::read(file.path()).unwrap());
                std::fs::copy(file.path(), to).unwrap();
            }
        }
        assert!(wrong > 3, "the indexes differ");
        let store = open_with(small(dirs[1].path())).await;
        let log = store.load(spec(0)).await.unwrap();
        for (n, batch) in batches.iter().enumerate().step_by(13) {
            let base = BatchHeader::parse(batch).unwrap().base_offset;
            let limit = ReadLimit { max_bytes: 1, at_least_one: true, upto: Offset::MAX };
            assert_eq!(&log.read(base, limit).await.unwrap().slices[0], batch, "batch {n}");
            let entries = log.read_entries(log.first_index()..log.next_index(), 1).await.unwrap();
            assert_eq!(entries.len(), 1);
        }
        assert!(log.fenced().is_none());
        store.close().await.unwrap();
    });
}
