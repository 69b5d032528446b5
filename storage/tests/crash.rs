//! A process is killed again and again while it appends; everything that it had acknowledged must be there afterwards.
//!
//! `CORELANE_KILLS` says how often.

mod common;

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::*;
use core_pinning::{Queue, run_local, spawn, time};
use corelane_storage::model::{LogId, Offset, RaftIndex};
use corelane_storage::{EntryKind, LogConfig, LogEntry, StoreOptions};
use rand::RngExt;

const PARTITIONS: u32 = 8;
const DIR: &str = "CORELANE_CRASH_DIR";

fn config() -> LogConfig {
    LogConfig { segment_bytes: 300_000, file_delete_delay_ms: 0, ..LogConfig::default() }
}

fn crash_options(dir: &Path) -> StoreOptions {
    StoreOptions {
        bypass_bytes: 16 << 10,
        journal_files_max: 3,
        dirty_budget: 1 << 20,
        idle: Duration::from_millis(20),
        ..options(dir)
    }
}

/// The batch at an offset of a partition; every batch has one record.
fn expected(partition: u32, offset: i64) -> Bytes {
    let seed = (u64::from(partition) << 40) + offset as u64;
    let size = match seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56 {
        0..4 => 150_000,
        // Past the journal, as those above, among others that go through it.
        n @ 4..12 => 10_000 + n as usize * 1000,
        n @ 12..40 => 1000 + n as usize * 100,
        n => n as usize * 3,
    };
    batch(Offset(offset), 1, size, seed)
}

/// Not a test of its own: what the killed process runs.
#[test]
fn child() {
    let Ok(dir) = std::env::var(DIR) else { return };
    // Ends the line that the test harness has begun.
    println!();
    run_local(async || {
        let store = open_with(crash_options(Path::new(&dir))).await;
        let mut writers = Vec::new();
        for partition in 0..PARTITIONS {
            let spec = spec_with(partition, config());
            let log = match store.exists(&spec) {
                true => store.load(spec).await.unwrap(),
                false => store.create(spec, first()).await.unwrap(),
            };
            let dirty = store.dirty();
            writers.push(spawn(Queue::Serve, "writer", async move {
                let mut n = 0;
                loop {
                    dirty.room().await;
                    let offset = log.bounds().log_end;
                    let id = LogId::new(TERM, log.next_index());
                    let entry = LogEntry { id, kind: EntryKind::Data, bytes: expected(partition, offset.0) };
                    let acknowledge = move |result: Result<(), _>| {
                        result.unwrap();
                        let mut out = std::io::stdout().lock();
                        writeln!(out, "ack {partition} {}", offset.0).unwrap();
                    };
                    log.append([entry], acknowledge).unwrap();
                    n += 1;
                    if n % (1 + partition) == 0 {
                        flushed(&log).await;
                        log.set_applied(id.index);
                    }
                    if n % 400 == 0 {
                        let to = log.bounds().high_watermark.0 - 300;
                        if to > 0 {
                            log.trim(Offset(to)).await.unwrap();
                        }
                    }
                    if partition == 7 {
                        time::sleep(Duration::from_millis(30)).await;
                    }
                }
            }));
        }
        for writer in writers {
            writer.await
        }
    });
}

/// Runs a child for some time and kills it; notes the last offset that it acknowledged of each partition.
fn run_and_kill(dir: &Path, acknowledged: &mut [Option<i64>]) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture", "--test-threads=1"])
        .env(DIR, dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let run_for = Duration::from_millis(rand::random_range(30..400));
    let mut killed = false;
    let mut begun: Option<Instant> = None;
    while let Some(Ok(line)) = lines.next() {
        let mut words = line.split(' ');
        if words.next() == Some("ack") {
            begun.get_or_insert_with(Instant::now);
            let numbers: Option<Vec<i64>> = words.map(|w| w.parse().ok()).collect();
            // The last line may be cut short.
            if let Some(&[partition, offset]) = numbers.as_deref() {
                let last = &mut acknowledged[partition as usize];
                if last.is_none_or(|last| offset == last + 1) {
                    *last = Some(offset);
                } else {
                    assert!(killed, "{offset} acknowledged after {last:?} of partition {partition}");
                }
            }
        }
        if !killed && begun.is_some_and(|t| t.elapsed() > run_for) {
            child.kill().unwrap();
            killed = true;
        }
    }
    let status = child.wait().unwrap();
    assert!(killed, "the child ended by itself: {status}");
}

#[test]
fn what_was_acknowledged_survives_kill_9() {
    let kills = std::env::var("CORELANE_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(20);
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged = vec![None; PARTITIONS as usize];
    let mut total = 0;
    for kill in 0..kills {
        let before: Vec<Option<i64>> = acknowledged.clone();
        run_and_kill(dir.path(), &mut acknowledged);
        total += acknowledged.iter().zip(&before).map(|(a, b)| a.unwrap_or(-1) - b.unwrap_or(-1)).sum::<i64>();
        let acknowledged = Rc::new(std::cell::RefCell::new(&mut acknowledged));
        run_local(async || {
            let store = open_with(crash_options(dir.path())).await;
            for partition in 0..PARTITIONS {
                let spec = spec_with(partition, config());
                if !store.exists(&spec) {
                    assert_eq!(acknowledged.borrow()[partition as usize], None);
                    continue;
                }
                let log = store.load(spec).await.unwrap();
                assert!(log.unclean_start());
                let bounds = log.bounds();
                let last = acknowledged.borrow()[partition as usize];
                assert!(
                    last.is_none_or(|last| last < bounds.log_end.0),
                    "kill {kill}: {last:?} of partition {partition} was acknowledged, the log ends at {}",
                    bounds.log_end
                );
                let mut at = bounds.log_start.0;
                for found in read_all(&log, bounds.log_start, 100_000).await {
                    assert!(
                        found == expected(partition, at),
                        "kill {kill}: offset {at} of partition {partition} differs"
                    );
                    at += 1;
                }
                assert_eq!(at, bounds.log_end.0);
                log.set_applied(RaftIndex(u64::MAX));
                acknowledged.borrow_mut()[partition as usize] = (at > 0).then_some(at - 1);
            }
            // Every other time the next child starts after a clean stop.
            if rand::rng().random() {
                store.close().await.unwrap();
            }
        });
    }
    println!("{kills} kills, {total} acknowledged");
}
