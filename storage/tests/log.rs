//! A log as its users see it.

mod common;

use common::*;
use core_pinning::run_local;
use corelane_storage::model::Offset;

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
