//! Messages between shards: order, bounds, and none lost between shards that sleep. STRESS_SECS lengthens the last.

use core_pinning::{Queue, ShardId, ShardPool, ShardPoolOptions, reactor_stats, spawn, spawn_here, time, yield_now};
use std::{
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::channel,
    },
    time::{Duration, Instant},
};

fn two(mesh_messages: usize) -> ShardPoolOptions {
    ShardPoolOptions { cores: vec![0, 1], mesh_messages, ..Default::default() }
}

const A: ShardId = ShardId(0);
const B: ShardId = ShardId(1);

#[test]
fn messages_keep_their_order_through_a_full_ring() {
    const N: u64 = 200_000;
    let pool = ShardPool::<u64>::start(two(64), |cx| async move {
        if cx.id == A {
            for k in 0..N {
                cx.mesh.send(B, k).await;
            }
        } else {
            for k in 0..N {
                assert_eq!(cx.mesh.recv().await, (A, k));
                if k % 1000 == 0 {
                    yield_now().await;
                }
            }
        }
    })
    .unwrap();
    pool.join().unwrap();
}

#[test]
fn a_full_ring_refuses_and_waiting_senders_go_first() {
    let (refused_tx, refused) = channel();
    let pool = ShardPool::<u64>::start(two(4), move |cx| {
        let refused = refused_tx.clone();
        async move {
            if cx.id == B {
                cx.inbox.recv().await; // holds the ring full until told
                let mut got = vec![];
                while got.len() < 8 {
                    got.push(cx.mesh.recv().await.1);
                }
                assert_eq!(got, [0, 1, 2, 3, 10, 11, 12, 13]);
                return;
            }
            let mesh = Rc::new(cx.mesh);
            for k in 0..4 {
                mesh.try_send(B, k).unwrap();
            }
            assert_eq!(mesh.try_send(B, 9), Err(9));
            let senders: Vec<_> = (10..14)
                .map(|k| {
                    let mesh = mesh.clone();
                    spawn_here("sender", async move { mesh.send(B, k).await })
                })
                .collect();
            // one that gives up leaves no trace
            let gives_up = spawn_here("gives up", {
                let mesh = mesh.clone();
                async move { mesh.send(B, 99).await }
            });
            // all of them have tried once it is this task's turn again
            yield_now().await;
            assert!(gives_up.cancel().await.is_none());
            assert_eq!(mesh.try_send(B, 9), Err(9));
            assert!(senders.iter().all(|s| !s.is_finished()));
            refused.send(()).unwrap();
            for s in senders {
                s.await;
            }
        }
    })
    .unwrap();
    refused.recv_timeout(Duration::from_secs(60)).expect("the ring is full");
    pool.inbox(B).post(0);
    pool.join().unwrap();
}

#[test]
fn a_shard_may_send_to_itself() {
    let pool = ShardPool::<u64>::start(two(8), |cx| async move {
        let mesh = Rc::new(cx.mesh);
        let m = mesh.clone();
        let sum = spawn_here("sum", async move {
            let mut sum = 0;
            for _ in 0..1000 {
                sum += m.recv().await.1;
            }
            sum
        });
        for k in 0..1000 {
            mesh.send(cx.id, k).await;
        }
        assert_eq!(sum.await, 499_500);
    })
    .unwrap();
    pool.join().unwrap();
}

/// Messages go round between two shards that have nothing else to do, with pauses that let either fall asleep.
#[test]
fn no_message_is_lost_between_sleeping_shards() {
    let secs = std::env::var("STRESS_SECS").ok().and_then(|s| s.parse().ok()).unwrap_or(2);
    let asking = Arc::new(AtomicU64::new(2));
    let pool = ShardPool::<u64>::start(two(16), move |cx| {
        let asking = asking.clone();
        async move {
            let mesh = Rc::new(cx.mesh);
            let other = ShardId(1 - cx.id.0);
            let (end, mut x) = (Instant::now() + Duration::from_secs(secs), u64::from(cx.id.0) + 1);
            let m = mesh.clone();
            // echoes what comes in, marked as an answer
            let (answers_tx, mut answers) = core_pinning::sync::mpsc::channel(1024);
            spawn(Queue::Replicate, "echo", async move {
                loop {
                    let (from, v) = m.recv().await;
                    if v & 1 == 1 {
                        answers_tx.send(v).await.unwrap();
                    } else {
                        // never wait for room in the loop that makes room for the others
                        let m = m.clone();
                        spawn_here("answer", async move { m.send(from, v | 1).await }).detach();
                    }
                }
            })
            .detach();
            let mut rounds = 0u64;
            // a loaded machine hardly lets them sleep: as long as it takes until they have
            while Instant::now() < end || reactor_stats().sleeps < 100 {
                x = x.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                let r = x >> 33;
                let burst = 1 + r % 40;
                for k in 0..burst {
                    mesh.send(other, (rounds + k) << 1).await;
                }
                for k in 0..burst {
                    let v = time::timeout(Duration::from_secs(60), answers.recv()).await.expect("a message was lost");
                    assert_eq!(v, Some((rounds + k) << 1 | 1));
                }
                rounds += burst;
                match r % 16 {
                    0 => time::sleep(Duration::from_micros(r % 3000)).await,
                    1..4 => (0..r % 3000).for_each(|_| std::hint::spin_loop()),
                    _ => {}
                }
            }
            println!("shard {}: {rounds} messages there and back, {} sleeps", cx.id, reactor_stats().sleeps);
            asking.fetch_sub(1, Ordering::Relaxed);
            while asking.load(Ordering::Relaxed) > 0 {
                time::sleep(Duration::from_millis(1)).await;
            }
        }
    })
    .unwrap();
    pool.join().unwrap();
}

/// A busy shard sees messages without its executor ever running out of tasks.
#[test]
fn a_busy_shard_sees_messages_soon() {
    // How long a message waits is told by what the shard does meanwhile, in turns of 50 us: a loaded machine takes its core away.
    static TURNS: AtomicU64 = AtomicU64::new(0);
    let pool = ShardPool::<u64>::start(two(16), |cx| async move {
        if cx.id == A {
            for _ in 0..50 {
                time::sleep(Duration::from_millis(2)).await;
                cx.mesh.send(B, TURNS.load(Ordering::Relaxed)).await;
            }
            return;
        }
        let busy: Vec<_> = (0..3)
            .map(|_| {
                spawn(Queue::Background, "busy", async {
                    loop {
                        let t = Instant::now();
                        while t.elapsed() < Duration::from_micros(50) {}
                        TURNS.fetch_add(1, Ordering::Relaxed);
                        yield_now().await;
                    }
                })
            })
            .collect();
        let mut delays = vec![];
        for _ in 0..50 {
            let sent = cx.mesh.recv().await.1;
            delays.push(TURNS.load(Ordering::Relaxed) - sent);
        }
        for b in busy {
            let b: Option<()> = b.cancel().await;
            assert!(b.is_none());
        }
        delays.sort();
        println!("a message waited p50 {} turns, longest {}", delays[25], delays[49]);
        // the executor by itself would look after 1000 in the middle
        assert!(delays[25] < 800, "{delays:?}");
    })
    .unwrap();
    pool.join().unwrap();
}
