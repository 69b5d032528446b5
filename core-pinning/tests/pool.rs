//! The life of a pool: set-up, inboxes, panics, what is left running.

use core_pinning::{
    Queue, ShardId, ShardPool, ShardPoolOptions, current_shard, run_local, shard, spawn, spawn_here, sync::Event, time,
    topology,
};
use std::{
    rc::Rc,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

fn shards(n: usize) -> ShardPoolOptions {
    ShardPoolOptions { cores: vec![0; n], ..Default::default() }
}

#[test]
fn every_shard_runs_main_and_gets_its_mail() {
    let seen = Arc::new(Mutex::new(vec![]));
    let s = seen.clone();
    let pool = ShardPool::<String>::start(shards(3), move |cx| {
        let seen = s.clone();
        async move {
            assert_eq!((current_shard(), cx.shards, cx.mesh.shards(), cx.mesh.id()), (cx.id, 3, 3, cx.id));
            let m = cx.inbox.recv().await;
            seen.lock().unwrap().push((cx.id, m));
        }
    })
    .unwrap();
    for i in 0..3 {
        pool.inbox(ShardId(i)).post(format!("to {i}"));
    }
    pool.join().unwrap();
    let mut seen = seen.lock().unwrap().clone();
    seen.sort();
    assert_eq!(seen, (0..3).map(|i| (ShardId(i), format!("to {i}"))).collect::<Vec<_>>());
}

#[test]
fn pinned_shards_run_on_their_cores() {
    let cores = topology::allowed_cores().unwrap();
    let o = ShardPoolOptions { cores: cores.clone(), pin: true, name: "pinned".into(), ..Default::default() };
    let pool = ShardPool::<()>::start(o, move |cx| {
        let core = cores[cx.id.index()];
        async move {
            assert_eq!(std::thread::current().name(), Some(&format!("pinned-{}", cx.id)[..]));
            let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
            let line = status.lines().find(|l| l.starts_with("Cpus_allowed_list:")).unwrap();
            assert_eq!(line.split_whitespace().nth(1), Some(&core.to_string()[..]));
        }
    })
    .unwrap();
    pool.join().unwrap();
}

#[test]
fn a_core_that_is_not_there_fails_the_start() {
    let o = ShardPoolOptions { cores: vec![0, 1000], pin: true, ..Default::default() };
    let e = ShardPool::<()>::start(o, |_| async { unreachable!("a shard ran") }).err().unwrap();
    assert!(e.to_string().contains("1000"), "{e}");
}

#[test]
fn a_panic_in_a_task_ends_the_pool_and_is_reported() {
    static HOOKED: AtomicUsize = AtomicUsize::new(0);
    shard::on_panic(|_| _ = HOOKED.fetch_add(1, Ordering::Relaxed));
    let pool = ShardPool::<()>::start(shards(2), |cx| async move {
        if cx.id == ShardId(1) {
            spawn(Queue::Background, "compaction", async {
                time::sleep(Duration::from_millis(5)).await;
                panic!("invariant {} broken", 7);
            })
            .detach();
        }
        std::future::pending().await // the other shard ends although it waits for nothing of this
    })
    .unwrap();
    let p = pool.join().unwrap_err();
    assert_eq!((p.shard, p.task, &p.message[..]), (ShardId(1), "compaction", "invariant 7 broken"));
    assert!(p.location.as_ref().is_some_and(|l| l.contains("pool.rs")), "{p}");
    assert!(HOOKED.load(Ordering::Relaxed) >= 1);
}

#[test]
fn a_panic_in_main_is_reported_too() {
    let pool = ShardPool::<()>::start(shards(1), |_| async { panic!("main") }).unwrap();
    assert_eq!(pool.join().unwrap_err().task, "main");
    let caught = std::panic::catch_unwind(|| {
        run_local(async || {
            spawn_here("t", async { panic!("inner") }).await;
        })
    });
    assert!(caught.unwrap_err().downcast_ref::<String>().unwrap().contains("inner"));
    assert_eq!(run_local(async || 5), 5, "the thread can run another shard");
}

#[test]
fn what_main_leaves_running_is_dropped_on_the_shard() {
    struct Leaves(Arc<AtomicUsize>);
    impl Drop for Leaves {
        fn drop(&mut self) {
            assert_eq!(current_shard(), ShardId(0));
            self.0.fetch_add(1, Ordering::Relaxed);
            // a drop may start something new: it is cancelled as well
            let n = self.0.clone();
            spawn_here("afterwards", async move {
                n.fetch_add(100, Ordering::Relaxed);
                std::future::pending::<()>().await
            })
            .detach();
        }
    }
    let n = Arc::new(AtomicUsize::new(0));
    let never = Rc::new(Event::new());
    run_local(async || {
        for q in Queue::ALL {
            let (l, never) = (Leaves(n.clone()), never.clone());
            spawn(q, "left", async move {
                let _l = l;
                never.listen().await
            })
            .detach();
        }
        time::sleep(Duration::from_millis(1)).await;
    });
    assert_eq!(n.load(Ordering::Relaxed) % 100, 4);
    assert_eq!(Rc::strong_count(&never), 1);
}

#[test]
fn local_shards_release_everything() {
    let open = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    run_local(async || ());
    let before = open();
    for _ in 0..50 {
        run_local(async || time::sleep(Duration::from_millis(1)).await);
    }
    // glommio 0.9 keeps one descriptor of every executor; other tests of this file may have some open meanwhile
    let by = Instant::now() + Duration::from_secs(60);
    while open() >= before + 50 + 30 {
        assert!(Instant::now() < by, "descriptors leak: {before} before, {} after", open());
        std::thread::yield_now();
    }
}
