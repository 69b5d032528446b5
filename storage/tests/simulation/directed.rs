//! One thing at a time, with a crash at each of its disk operations.

use std::cell::Cell;
use std::path::Path;
use std::rc::Rc;

use core_pinning::ShardId;
use core_pinning::sim::Sim;
use corelane_storage::StoreOptions;
use corelane_storage::model::Offset;

use super::common::{self, Writer};

const LARGE: usize = 100_000;
const BLOCK: usize = core_pinning::BLOCK;

fn options() -> StoreOptions {
    StoreOptions {
        journal_file_bytes: 256 << 10,
        journal_write_bytes: 16 << 10,
        bypass_bytes: 32 << 10,
        ..StoreOptions::new(Path::new("/"), ShardId(0), 4 << 20, 1 << 20)
    }
}

/// A partition that was closed in order; after a clean start one large append to it, which the crash at the `event`th disk
/// operation of that process cuts short. False if it ended before.
fn cut_short(seed: u64, event: u64, power: bool) -> bool {
    let sim = Sim::new(seed);
    let before = sim.run(async || {
        let store = common::open_with(options()).await;
        let w = Writer { log: store.create(common::spec(0), common::first()).await.unwrap() };
        let first = w.append_durably(1, 500, 1).await;
        // It ends where a block does: otherwise the next append would need the journal, and that would know of the log.
        let missing = BLOCK - w.log.size_bytes() as usize % BLOCK;
        let len = |size: &usize| common::batch(Offset(1), 1, *size, 2).len();
        let size = (0..2 * BLOCK).find(|size| [missing, missing + BLOCK].contains(&len(size)));
        let second = w.append_durably(1, size.expect("batches of all sizes"), 2).await;
        assert_eq!(w.log.size_bytes() as usize % BLOCK, 0);
        store.close().await.unwrap();
        [first, second]
    });
    let mut expected = before.unwrap().to_vec();
    let acknowledged = Rc::new(Cell::new(false));
    sim.lose_after(event);
    let large = common::batch(Offset(2), 1, LARGE, 3);
    let ended = sim.run(async || {
        let store = common::open_with(options()).await;
        let w = Writer { log: store.load(common::spec(0)).await.unwrap() };
        // The journal is busy: what it is told of the large append comes late.
        let busy = Writer { log: store.create(common::spec(1), common::first()).await.unwrap() };
        (0..20).for_each(|n| drop(busy.append(1, 8_000, n)));
        w.push(w.entry(large.clone())).await.unwrap();
        acknowledged.set(true);
    });
    if power {
        sim.cut_power();
    }
    expected.push(large);
    sim.run(async || {
        let store = common::open_with(options()).await;
        let loaded = store.load(common::spec(0)).await;
        let w = Writer { log: loaded.unwrap_or_else(|error| panic!("crash at {event}, power cut {power}: {error}")) };
        assert_eq!(w.log.fenced().map(|e| e.to_string()), None, "crash at {event}, power cut {power}");
        let found = common::read_all(&w.log, Offset(0), 50_000).await;
        assert!(found.len() == 3 || !acknowledged.get(), "crash at {event}: what was acknowledged is gone");
        common::assert_same(&found, &expected[..found.len()]);
        w.append_durably(1, 500, 4).await;
        store.close().await.unwrap();
    })
    .expect("nothing goes wrong any more");
    sim.empty_disk();
    ended.is_none()
}

#[test]
fn a_large_append_of_a_log_that_the_journal_does_not_know_may_end_anywhere() {
    for seed in 0..4 {
        for power in [false, true] {
            let crashes = (1..).take_while(|event| cut_short(seed, *event, power)).count();
            assert!(crashes > 20, "only {crashes} crashes: the append is not cut at each of its operations");
        }
    }
}
