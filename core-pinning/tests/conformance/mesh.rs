//! Several shards.

use core_pinning::{ShardId, ShardPool, ShardPoolOptions, current_shard, spawn_here, time};
use std::{
    rc::Rc,
    sync::{Arc, Mutex},
    time::Duration,
};

#[test]
fn messages_between_two_shards_keep_their_order() {
    const SHARDS: u16 = 3;
    const EACH: u64 = 500;
    let o = ShardPoolOptions { cores: vec![0; usize::from(SHARDS)], mesh_messages: 8, ..Default::default() };
    let got = Arc::new(Mutex::new(Vec::new()));
    let all = got.clone();
    let pool = ShardPool::<u64>::start(o, move |cx| {
        let all = all.clone();
        async move {
            assert_eq!((cx.id, cx.shards), (current_shard(), usize::from(SHARDS)));
            let mesh = Rc::new(cx.mesh);
            let m = mesh.clone();
            let sending = spawn_here("sends", async move {
                for n in 0..EACH {
                    for to in 0..SHARDS {
                        m.send(ShardId(to), n).await;
                    }
                }
            });
            let mut next = [0; SHARDS as usize];
            while next.iter().sum::<u64>() < EACH * u64::from(SHARDS) {
                let (from, n) = mesh.recv().await;
                assert_eq!(n, next[from.index()], "from {from}");
                next[from.index()] += 1;
                if n % 100 == 0 {
                    time::sleep(Duration::from_millis(1)).await;
                }
            }
            sending.await;
            all.lock().unwrap().push(next);
        }
    });
    pool.unwrap().join().unwrap();
    assert_eq!(*got.lock().unwrap(), [[EACH; SHARDS as usize]; SHARDS as usize]);
}

#[test]
fn a_panic_in_a_task_ends_all_shards_and_is_told() {
    let o = ShardPoolOptions { cores: vec![0, 0], ..Default::default() };
    let pool = ShardPool::<()>::start(o, |cx| async move {
        if cx.id == ShardId(1) {
            spawn_here("breaks", async { panic!("on purpose") });
        }
        std::future::pending::<()>().await
    });
    let panic = pool.unwrap().join().unwrap_err();
    assert_eq!((panic.shard, panic.task, &panic.message[..]), (ShardId(1), "breaks", "on purpose"));
}
