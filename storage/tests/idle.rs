//! What partitions cost that are not used. Alone in its process: it looks at the resident memory.

mod common;

use std::time::Duration;

use common::*;
use core_pinning::{run_local, time};
use corelane_storage::model::Offset;

#[test]
fn idle_partitions_hold_neither_memory_nor_files() {
    const PARTITIONS: u32 = 1000;
    let dir = tempfile::tempdir().unwrap();
    run_local(async || {
        let store = open(dir.path()).await;
        core_pinning::buf::trim();
        let before = resident_bytes();
        let mut logs = Vec::new();
        for n in 0..PARTITIONS {
            let w = Writer { log: store.create(spec(n), first()).await.unwrap() };
            w.append(1, 200, n.into());
            w.apply();
            logs.push(w.log);
        }
        flushed(&logs[0]).await;
        while store.stats().chunk_bytes > 0 {
            time::sleep(Duration::from_millis(20)).await;
        }
        let stats = store.stats();
        assert_eq!(stats.dirty_bytes, 0);
        assert!(stats.open_files <= 256);
        core_pinning::buf::trim();
        let each = resident_bytes().saturating_sub(before) / PARTITIONS as usize;
        // On the heap it is 1.4 KB; the rest is what the allocator does not give back.
        println!("{each} bytes resident a partition at rest");
        assert!(each < 16 << 10, "{each} bytes a partition");
        // And come back to life.
        for (n, log) in logs.iter().enumerate().step_by(97) {
            let w = Writer { log: log.clone() };
            let second = w.append(1, 300, 5);
            w.apply();
            let first = batch(Offset(0), 1, 200, n as u64);
            assert_same(&read_all(&w.log, Offset(0), 100_000).await, &[first, second]);
        }
        store.close().await.unwrap();
        let store = open(dir.path()).await;
        let begun = time::now();
        for n in 0..PARTITIONS {
            store.load(spec(n)).await.unwrap();
        }
        println!(
            "{PARTITIONS} partitions loaded in {:?}, {} bytes scanned",
            begun.elapsed(),
            store.stats().scanned_bytes
        );
        assert_eq!(store.stats().scanned_bytes, 0);
        store.close().await.unwrap();
    });
}

/// RSS of this process.
fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}
