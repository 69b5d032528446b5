//! What crashes leave, one after another.

mod common;

use common::*;
use core_pinning::run_local;
use corelane_storage::VoteRecord;
use corelane_storage::model::{NodeId, Offset, Term};
use std::path::Path;

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
