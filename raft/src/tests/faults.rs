use core_pinning::fault::{self, DiskOp, Effect, FaultPlan};

use super::*;

const EIO: i32 = 5;
const ENOSPC: i32 = 28;

/// Every write to the journal fails.
fn break_journal() {
    fault::set(FaultPlan::new().every(DiskOp::Write, "journal", Effect::Error(EIO)));
}

#[test]
fn a_failed_flush_fails_everything_and_fences_the_group() {
    let dir = TempDir::new().unwrap();
    let acknowledged = run_local(async || {
        let shard = Shard::start_at(dir.path(), options()).await;
        let group = shard.open(0).await;
        let producer = Producer::new(&group);
        let acknowledged = producer.write().await.unwrap();
        break_journal();
        let all: Vec<_> = (0..10).map(|_| producer.propose().unwrap()).collect();
        for p in &all {
            assert!(p.appended().await.is_ok());
            assert!(matches!(p.flushed().await, Err(ProposeError::Storage(_))));
            assert!(matches!(p.applied().await, Err(ProposeError::Storage(_))));
            assert!(p.is_failed());
        }
        assert!(matches!(group.fenced(), Some(ProposeError::Storage(_))));
        assert!(matches!(producer.propose(), Err(ProposeError::Storage(_))));
        assert_eq!((group.leadership().leader, group.leadership().is_self), (None, false));
        assert_eq!(group.high_watermark(), Offset(1));
        shard.stop().await;
        acknowledged
    });
    fault::clear();
    run_local(async || {
        // What was acknowledged is there; what was not may be.
        let shard = Shard::start_at(dir.path(), options()).await;
        let group = shard.open(0).await;
        assert_eq!(group.leadership().term, Term(2));
        assert!(group.log().last_log_id().unwrap() >= acknowledged);
        Producer::new(&group).write().await.unwrap();
        shard.close().await;
    });
}

#[test]
fn a_failed_vote_fails_what_waits_for_the_instance() {
    let dir = TempDir::new().unwrap();
    run_local(async || {
        let shard = Shard::start_at(dir.path(), options()).await;
        Producer::new(&shard.open(0).await).write().await.unwrap();
        shard.stop().await;
    });
    run_local(async || {
        let shard = Shard::start_at(dir.path(), options()).await;
        let group = shard.open(0).await;
        break_journal();
        let proposal = Producer::new(&group).propose().unwrap();
        assert!(matches!(proposal.appended().await, Err(ProposeError::Storage(_))));
        assert!(matches!(group.wake().await, Err(ProposeError::Storage(_))));
        shard.stop().await;
        fault::clear();
    });
}

#[test]
fn a_panic_in_openraft_fences_the_group_only() {
    run_local(async || {
        let shard = Shard::start().await;
        let group = shard.open(0).await;
        let other = shard.open(1).await;
        group.wake().await.unwrap();
        group.on_applied(|_| panic!("injected"));
        let producer = Producer::new(&group);
        let all: Vec<_> = (0..3).map(|_| producer.propose().unwrap()).collect();
        for p in &all {
            let error = p.applied().await.unwrap_err();
            assert!(matches!(error, ProposeError::Panicked(_)), "{error}");
        }
        assert!(matches!(group.fenced(), Some(ProposeError::Panicked(m)) if &*m == "injected"));
        assert_eq!(Producer::new(&other).write().await.unwrap().index, RaftIndex(1));
        shard.close().await;
    });
}

#[test]
fn a_full_disk_is_refused_and_forgotten() {
    for hot in [false, true] {
        run_local(async || full_disk(hot).await);
    }
}

async fn full_disk(hot: bool) {
    let shard = Shard::start().await;
    let group = shard.open(0).await;
    let producer = Producer::new(&group);
    if hot {
        group.wake().await.unwrap();
    }
    let before = producer.write().await.unwrap();
    // Write-back finds no room; the store takes nothing more until it does.
    fault::set(FaultPlan::new().every(DiskOp::Write, ".log", Effect::Error(ENOSPC)));
    let _ = shard.store.write_back().await;
    let full = |e: ProposeError| matches!(e, ProposeError::Storage(StorageError::DiskFull { .. }));
    if hot {
        // These meet the end of the instance, and the full disk after it.
        let dropped = group.0.drop_instance();
        let all: Vec<_> = (0..3).map(|_| producer.propose().unwrap()).collect();
        dropped.await;
        for p in &all {
            assert!(full(p.appended().await.unwrap_err()));
            assert!(full(p.applied().await.unwrap_err()));
        }
        group.wake().await.unwrap();
    }
    for _ in 0..3 {
        match producer.propose() {
            Ok(p) => {
                assert!(full(p.appended().await.unwrap_err()));
                assert!(full(p.applied().await.unwrap_err()));
            }
            Err(error) => assert!(full(error)),
        }
    }
    assert!(group.leadership().is_self && group.fenced().is_none());
    fault::clear();
    while shard.store.refusal().is_some() || shard.groups.stats().hot > 0 {
        time::sleep(Duration::from_millis(10)).await;
    }
    // The refused proposals left nothing: the next one has the next index and offset, in the same term.
    let after = producer.write().await.unwrap();
    assert_eq!(after, LogId::new(before.term, before.index.next()));
    assert_eq!((group.high_watermark(), group.in_flight()), (Offset(2), 0));
    shard.close().await;
}
