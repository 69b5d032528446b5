//! Sockets: order, back-pressure, starvation, and no lost wake-up. STRESS_SECS lengthens the last one.

use bytes::Bytes;
use core_pinning::{
    AlignedBuf, File, OpenOptions, Queue, ShardId, ShardPool, ShardPoolOptions,
    net::{self, Conn, ListenOptions, Listener, NetOptions},
    reactor_stats, run_local, spawn, spawn_here, time, yield_now,
};
use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

/// How long something may take that happens at once on a machine that has nothing else to do.
const PATIENCE: Duration = Duration::from_secs(60);

fn local() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

/// Length-prefixed echo, as Kafka's frames are: the reply repeats the request, small ones copied, big ones not.
async fn echo(c: Conn) {
    let mut have = Vec::new();
    while let Ok(Some(b)) = c.recv().await {
        have.extend_from_slice(&b);
        drop(b);
        while have.len() >= 4 {
            let n = 4 + u32::from_be_bytes(have[..4].try_into().unwrap()) as usize;
            if have.len() < n {
                break;
            }
            let rest = have.split_off(n);
            let frame = std::mem::replace(&mut have, rest);
            if n < 1000 { c.send_copy(&frame) } else { c.send(Bytes::from(frame)) }
        }
        if c.flushed(1 << 20).await.is_err() {
            return;
        }
    }
}

/// A listener on a shard of its own, which does this `work`: its address, and what comes of that.
fn serve<T: Send + 'static>(
    options: NetOptions,
    work: impl AsyncFnOnce(Listener) -> T + Send + 'static,
) -> (SocketAddr, thread::JoinHandle<T>) {
    let (tx, rx) = mpsc::channel();
    let server = thread::spawn(move || {
        run_local(async || {
            net::configure(options).unwrap();
            let l = net::listen(local(), ListenOptions::default()).unwrap();
            tx.send(l.local_addr().unwrap()).unwrap();
            work(l).await
        })
    });
    (rx.recv().unwrap(), server)
}

async fn until(done: &AtomicBool) {
    while !done.load(Ordering::Acquire) {
        time::sleep(Duration::from_millis(10)).await;
    }
}

/// Runs `client` against an echo server; returns what `look` sees on the server at the end.
fn with_server<T: Send + 'static>(
    options: NetOptions,
    client: impl FnOnce(SocketAddr) + Send + 'static,
    look: impl FnOnce() -> T + Send + 'static,
) -> T {
    let done = Arc::new(AtomicBool::new(false));
    let d = done.clone();
    let (addr, server) = serve(options, async move |l| {
        spawn(Queue::Serve, "accept", async move {
            loop {
                spawn_here("echo", echo(l.accept().await.unwrap())).detach();
            }
        })
        .detach();
        until(&d).await;
        // The clients are gone, of which this shard hears in its own time.
        let by = time::now() + PATIENCE;
        while net::stats().connections > 0 && time::now() < by {
            time::sleep(Duration::from_millis(5)).await
        }
        look()
    });
    let r = thread::spawn(move || client(addr)).join();
    done.store(true, Ordering::Release);
    let t = server.join().unwrap();
    r.unwrap();
    t
}

fn frame(seed: u64, n: usize) -> Vec<u8> {
    let mut f = (n as u32).to_be_bytes().to_vec();
    f.extend((0..n).map(|i| (seed as usize + i * 7) as u8));
    f
}

fn client(a: SocketAddr) -> TcpStream {
    let s = TcpStream::connect(a).unwrap();
    s.set_nodelay(true).unwrap();
    s.set_read_timeout(Some(PATIENCE)).unwrap();
    s
}

#[test]
fn pipelined_replies_keep_their_order() {
    with_server(
        NetOptions::default(),
        |a| {
            let sizes = [0usize, 1, 60, 999, 1000, 70_000, 3, 1 << 20, 5, 300_000];
            let s = client(a);
            let mut w = s.try_clone().unwrap();
            let t = thread::spawn(move || {
                for k in 0..400u64 {
                    w.write_all(&frame(k, sizes[k as usize % 10])).unwrap()
                }
            });
            let mut r = s;
            for k in 0..400u64 {
                let want = frame(k, sizes[k as usize % 10]);
                let mut got = vec![0; want.len()];
                r.read_exact(&mut got).unwrap();
                assert!(got == want, "reply {k}");
            }
            t.join().unwrap();
        },
        || (),
    );
}

/// 16 connections push 8 MiB each through 72 KiB of receive memory.
#[test]
fn small_receive_memory_is_shared_and_comes_back() {
    for incremental in [false, true] {
        let options = NetOptions {
            receive_buffers: 8,
            receive_buffer_bytes: 8192,
            bulk_buffers: 1,
            bulk_buffer_bytes: 8192,
            incremental,
            rx_limit: 16 << 10,
            ..Default::default()
        };
        let stats = with_server(
            options,
            |a| {
                let ts: Vec<_> = (0..16)
                    .map(|k| {
                        thread::spawn(move || {
                            let s = client(a);
                            let mut w = s.try_clone().unwrap();
                            let t = thread::spawn(move || {
                                for i in 0..80 {
                                    w.write_all(&frame(k + i, 100_000)).unwrap()
                                }
                            });
                            let mut r = s;
                            for i in 0..80 {
                                let want = frame(k + i, 100_000);
                                let mut got = vec![0; want.len()];
                                r.read_exact(&mut got).unwrap();
                                assert!(got == want);
                            }
                            t.join().unwrap();
                        })
                    })
                    .collect();
                ts.into_iter().for_each(|t| t.join().unwrap());
            },
            net::stats,
        );
        assert_eq!(stats.receive_buffers_free, stats.receive_buffers, "a buffer was lost");
    }
}

/// Connections whose tasks do not read fill what they may, and then neither they nor others take more.
#[test]
fn tasks_that_do_not_read_stop_their_peers_only() {
    let (tx, rx) = mpsc::channel();
    const SLOW: usize = 20;
    let quick_done = Arc::new(AtomicBool::new(false));
    let quick_is_done = quick_done.clone();
    let options =
        NetOptions { receive_buffers: 4, receive_buffer_bytes: 64 << 10, rx_limit: 64 << 10, ..Default::default() };
    let (a, server) = serve(options, async move |l| {
        let mut slow = vec![];
        for _ in 0..SLOW {
            slow.push(l.accept().await.unwrap());
        }
        let quick = l.accept().await.unwrap();
        time::sleep(Duration::from_millis(300)).await; // the slow ones have filled what they may
        spawn_here("echo", echo(quick)).detach();
        tx.send(()).unwrap();
        until(&quick_is_done).await;
        let mut total = 0;
        for c in slow {
            let mut n = 0;
            while let Some(b) = c.recv().await.unwrap() {
                assert!(b.iter().all(|&x| x == 1));
                n += b.len();
            }
            total += n;
        }
        let s = net::stats();
        assert_eq!(s.receive_buffers, s.receive_buffers_free);
        total
    });
    let slow: Vec<_> = (0..SLOW)
        .map(|_| {
            let mut s = client(a);
            thread::spawn(move || s.write_all(&vec![1; 4 << 20]).unwrap())
        })
        .collect();
    thread::park_timeout(Duration::from_millis(100));
    let mut q = client(a);
    rx.recv().unwrap();
    for k in 0..100 {
        q.write_all(&frame(k, 10_000)).unwrap();
        let mut got = vec![0; 10_004];
        q.read_exact(&mut got).unwrap(); // served although the slow ones hold all they may
        assert!(got == frame(k, 10_000));
    }
    quick_done.store(true, Ordering::Release);
    slow.into_iter().for_each(|t| t.join().unwrap());
    assert_eq!(server.join().unwrap(), SLOW * (4 << 20));
}

fn little_memory() -> NetOptions {
    NetOptions {
        receive_buffers: 4,
        receive_buffer_bytes: 16 << 10,
        bulk_buffers: 4,
        bulk_buffer_bytes: 16 << 10,
        rx_limit: 64 << 10,
        ..Default::default()
    }
}

/// A server whose tasks take a piece of what comes and never read on, for all connections but the last, which is served. Each puts
/// back all of its piece but a byte. Answers with the statistics while they wait.
fn beside_tasks_that_wait(options: NetOptions, keepers: usize, bytes: usize) -> net::NetStats {
    let done = Arc::new(AtomicBool::new(false));
    let is_done = done.clone();
    let (a, server) = serve(options, async move |l| {
        for _ in 0..keepers {
            let c = l.accept().await.unwrap();
            spawn_here("keeper", async move {
                // one that has sent too much may have been let go before
                let Ok(Some(mut piece)) = c.recv().await else { return };
                piece.skip(1);
                c.put_back(piece);
                std::future::pending::<()>().await;
            })
            .detach();
        }
        spawn_here("echo", echo(l.accept().await.unwrap())).detach();
        until(&is_done).await;
        net::stats()
    });
    let kept: Vec<TcpStream> = (0..keepers)
        .map(|_| {
            let mut s = client(a);
            s.set_write_timeout(Some(Duration::from_millis(100))).unwrap();
            // taken in until the server takes no more, or lets the connection go
            let _ = (0..bytes.div_ceil(4096)).try_for_each(|_| s.write_all(&[1; 4096]));
            s
        })
        .collect();
    let mut served = client(a);
    for k in 0..50 {
        served.write_all(&frame(k, 20_000)).unwrap();
        let mut got = vec![0; 20_004];
        served.read_exact(&mut got).unwrap();
        assert!(got == frame(k, 20_000));
    }
    done.store(true, Ordering::Release);
    let stats = server.join().unwrap();
    drop(kept);
    stats
}

#[test]
fn tasks_that_wait_keep_no_receive_buffer() {
    let stats = beside_tasks_that_wait(little_memory(), 20, 8 << 10);
    assert!(stats.receive_buffers_free > 0 && stats.aside_bytes > 0, "{stats:?}");
}

#[test]
fn what_lies_outside_the_receive_memory_is_bounded() {
    const ASIDE: usize = 256 << 10;
    let options = NetOptions { aside_bytes: ASIDE, ..little_memory() };
    let stats = beside_tasks_that_wait(options, 20, 4 << 20);
    assert!(stats.aside_bytes > 0 && stats.aside_bytes <= ASIDE, "{stats:?}");
}

#[test]
fn who_has_queued_little_stays_where_others_have_queued_all_there_is_room_for() {
    const LITTLE: usize = 12 << 10;
    let options = NetOptions { aside_bytes: 256 << 10, ..little_memory() };
    let go_on = Arc::new(AtomicBool::new(false));
    let reads = go_on.clone();
    let (a, server) = serve(options, async move |l| {
        let modest = l.accept().await.unwrap();
        spawn_here("greedy", async move {
            loop {
                let c = l.accept().await.unwrap();
                spawn_here("keeper", async move {
                    std::future::pending::<()>().await;
                    drop(c);
                })
                .detach();
            }
        })
        .detach();
        until(&reads).await;
        let mut come = 0;
        while come < 2 * LITTLE {
            come += modest.recv().await.expect("it stays").expect("all of it comes").len();
        }
        assert!(net::stats().aside_bytes > 64 << 10, "{:?}", net::stats());
    });
    let mut modest = client(a);
    let greedy = |count| -> Vec<TcpStream> {
        let mut all: Vec<TcpStream> = (0..count).map(|_| client(a)).collect();
        for s in &mut all {
            s.set_write_timeout(Some(Duration::from_millis(100))).unwrap();
            let _ = (0..1024).try_for_each(|_| s.write_all(&[1; 4096]));
        }
        all
    };
    modest.write_all(&[2; LITTLE]).unwrap();
    let before = greedy(20);
    modest.write_all(&[3; LITTLE]).unwrap();
    let after = greedy(20);
    go_on.store(true, Ordering::Release);
    server.join().unwrap();
    drop((before, after));
}

/// Tasks that hold on to what they have received of connections that send much, so that no buffer is left for such connections.
#[test]
fn those_that_send_much_take_no_receive_memory_from_those_that_send_little() {
    const GREEDY: usize = 20;
    let holding = Arc::new(AtomicU64::new(0));
    let (held, done) = (holding.clone(), Arc::new(AtomicBool::new(false)));
    let is_done = done.clone();
    let (a, server) = serve(little_memory(), async move |l| {
        for _ in 0..GREEDY {
            let (c, held) = (l.accept().await.unwrap(), held.clone());
            spawn_here("greedy", async move {
                // What it shows first is small.
                drop(c.recv().await.unwrap());
                let piece = c.recv().await.unwrap();
                held.fetch_add(1, Ordering::Release);
                std::future::pending::<()>().await;
                drop(piece);
            })
            .detach();
        }
        spawn_here("echo", echo(l.accept().await.unwrap())).detach();
        until(&is_done).await;
        net::stats().receive_buffers_free
    });
    let greedy: Vec<TcpStream> = (0..GREEDY)
        .map(|_| {
            let mut s = client(a);
            s.set_write_timeout(Some(Duration::from_millis(100))).unwrap();
            let _ = s.write_all(&[1; 1 << 20]);
            s
        })
        .collect();
    let by = Instant::now() + PATIENCE;
    while holding.load(Ordering::Acquire) < 4 {
        assert!(Instant::now() < by, "the tasks hold no buffer");
        thread::park_timeout(Duration::from_millis(5));
    }
    let mut modest = client(a);
    for k in 0..50 {
        modest.write_all(&frame(k, 1000)).unwrap();
        let mut got = vec![0; 1004];
        modest.read_exact(&mut got).unwrap();
        assert!(got == frame(k, 1000));
    }
    done.store(true, Ordering::Release);
    assert!(server.join().unwrap() <= 4, "all that there is for those that send much is taken");
    drop(greedy);
}

#[test]
fn connections_come_and_go() {
    let left = with_server(
        NetOptions::default(),
        |a| {
            for k in 0..500u64 {
                let mut s = client(a);
                s.write_all(&frame(k, 50)).unwrap();
                if k % 3 == 0 {
                    continue; // goes away without reading: reset
                }
                let mut got = vec![0; 54];
                s.read_exact(&mut got).unwrap();
                assert_eq!(got, frame(k, 50));
            }
        },
        net::stats,
    );
    assert_eq!(left.connections, 0, "a connection's slot was lost");
}

#[test]
fn both_ends_on_one_shard() {
    run_local(async || {
        let l = net::listen(local(), ListenOptions::default()).unwrap();
        let a = l.local_addr().unwrap();
        spawn_here("accept", async move { echo(l.accept().await.unwrap()).await }).detach();
        let c = net::connect(a).await.unwrap();
        assert_eq!((c.peer_addr().unwrap(), c.local_addr().unwrap().ip()), (a, a.ip()));
        let sent = frame(3, 200_000);
        c.send(sent.clone().into());
        c.flushed(0).await.unwrap();
        assert_eq!(c.unsent(), 0);
        let mut got = vec![];
        while got.len() < sent.len() {
            got.extend_from_slice(&c.recv().await.unwrap().unwrap());
        }
        assert!(got == sent && c.try_recv().is_none());
        c.shutdown();
        assert!(c.recv().await.unwrap().is_none());
        c.send_copy(b"x");
        assert!(c.flushed(0).await.is_err());
        drop(c);
        let refused = net::connect(a).await.unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    });
}

#[test]
fn a_connect_that_is_given_up_is_cancelled() {
    let t0 = Instant::now();
    run_local(async || {
        // a listener whose queue is full does not answer
        let l = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let a = l.local_addr().unwrap();
        let mut waiting = vec![];
        loop {
            match time::timeout(Duration::from_millis(100), net::connect(a)).await {
                Ok(c) => waiting.push(c.unwrap()),
                Err(_) => break,
            }
            assert!(waiting.len() < 10_000);
        }
    });
    // By itself it would end after two minutes.
    assert!(t0.elapsed() < PATIENCE, "the shard's end waited for the connect: {:?}", t0.elapsed());
}

#[test]
fn shards_share_a_port() {
    let (tx, rx) = mpsc::channel();
    let taken = Arc::new([AtomicU64::new(0), AtomicU64::new(0)]);
    let t = taken.clone();
    let o = ShardPoolOptions { cores: vec![0, 1], ..Default::default() };
    let pool: ShardPool<SocketAddr> = ShardPool::start(o, move |cx| {
        let (tx, taken) = (tx.clone(), t.clone());
        async move {
            let a = if cx.id == ShardId(0) { local() } else { cx.inbox.recv().await };
            let l = net::listen(a, ListenOptions { reuse_port: true, ..Default::default() }).unwrap();
            tx.send(l.local_addr().unwrap()).unwrap();
            let id = cx.id;
            spawn(Queue::Serve, "accept", async move {
                loop {
                    let c = l.accept().await.unwrap();
                    taken[id.index()].fetch_add(1, Ordering::Relaxed);
                    spawn_here("echo", echo(c)).detach();
                }
            })
            .detach();
            cx.inbox.recv().await;
        }
    })
    .unwrap();
    let a = rx.recv().unwrap();
    pool.inbox(ShardId(1)).post(a);
    rx.recv().unwrap();
    for k in 0..100 {
        let mut s = client(a);
        s.write_all(&frame(k, 9)).unwrap();
        let mut got = vec![0; 13];
        s.read_exact(&mut got).unwrap();
    }
    (0..2).for_each(|i| pool.inbox(ShardId(i)).post(a));
    pool.join().unwrap();
    assert!(taken.iter().all(|n| n.load(Ordering::Relaxed) > 10), "{taken:?}");
}

fn secs() -> u64 {
    std::env::var("STRESS_SECS").ok().and_then(|s| s.parse().ok()).unwrap_or(3)
}

/// Two shards. Every request is answered although both fall asleep and wake at random moments, write to the disk, and
/// pass every other request through the other shard.
#[test]
fn no_wake_up_is_lost() {
    struct Ask {
        from: ShardId,
        conn: usize,
        frame: Vec<u8>,
    }
    let (tx, rx) = mpsc::channel();
    let o = ShardPoolOptions { cores: vec![0, 1], ..Default::default() };
    let dir = tempfile::tempdir_in(PathBuf::from(env!("CARGO_TARGET_TMPDIR"))).unwrap();
    let path = dir.path().to_owned();
    let sleeps = Arc::new(AtomicU64::new(0));
    let slept = sleeps.clone();
    let pool = ShardPool::<Option<Ask>>::start(o, move |cx| {
        let (tx, path, slept) = (tx.clone(), path.clone(), slept.clone());
        async move {
            use std::{cell::RefCell, collections::HashMap, rc::Rc};
            let l = net::listen(local(), ListenOptions::default()).unwrap();
            tx.send(l.local_addr().unwrap()).unwrap();
            let o = OpenOptions::read_write().create(true).direct(true).dsync(true);
            let file = File::open(&path.join(cx.id.to_string()), o).await.unwrap();
            let other = ShardId(1 - cx.id.0);
            let mesh = Rc::new(cx.mesh);
            let conns: Rc<RefCell<HashMap<usize, Rc<Conn>>>> = Rc::default();
            {
                // answers of the other shard go to their connection; its questions go back after a disk write now and then
                let (mesh, conns, file, id) = (mesh.clone(), conns.clone(), file.clone(), cx.id);
                spawn(Queue::Replicate, "mesh", async move {
                    let mut n = 0u64;
                    loop {
                        let (_, ask) = mesh.recv().await;
                        let ask = ask.unwrap();
                        if ask.from == id {
                            if let Some(c) = conns.borrow().get(&ask.conn) {
                                c.send_copy(&ask.frame);
                            }
                            continue;
                        }
                        n += 1;
                        if n.is_multiple_of(7) {
                            file.write_at(n % 100 * 4096, AlignedBuf::zeroed(4096)).await.unwrap();
                        }
                        mesh.send(other, Some(ask)).await;
                    }
                })
                .detach();
            }
            let id = cx.id;
            spawn(Queue::Serve, "accept", async move {
                for n in 0.. {
                    let c = Rc::new(l.accept().await.unwrap());
                    conns.borrow_mut().insert(n, c.clone());
                    let (mesh, conns, file) = (mesh.clone(), conns.clone(), file.clone());
                    spawn_here("serve", async move {
                        let (mut have, mut turn) = (Vec::new(), 0u64);
                        while let Ok(Some(b)) = c.recv().await {
                            have.extend_from_slice(&b);
                            drop(b);
                            while have.len() >= 4 {
                                let n_bytes = 4 + u32::from_be_bytes(have[..4].try_into().unwrap()) as usize;
                                if have.len() < n_bytes {
                                    break;
                                }
                                let rest = have.split_off(n_bytes);
                                let frame = std::mem::replace(&mut have, rest);
                                turn += 1;
                                match turn % 4 {
                                    0 => {
                                        file.write_at(turn % 100 * 4096, AlignedBuf::zeroed(4096)).await.unwrap();
                                        c.send_copy(&frame);
                                    }
                                    1 => mesh.send(other, Some(Ask { from: id, conn: n, frame })).await,
                                    2 => {
                                        time::sleep(Duration::from_micros(turn % 500)).await;
                                        c.send_copy(&frame);
                                    }
                                    _ => c.send_copy(&frame),
                                }
                            }
                        }
                        conns.borrow_mut().remove(&n);
                    })
                    .detach();
                }
            })
            .detach();
            while cx.inbox.recv().await.is_some() {}
            slept.fetch_add(reactor_stats().sleeps, Ordering::Relaxed);
        }
    })
    .unwrap();
    let addrs = [rx.recv().unwrap(), rx.recv().unwrap()];
    let end = Instant::now() + Duration::from_secs(secs());
    let served = Arc::new(AtomicU64::new(0));
    let ts: Vec<_> = (0..6u64)
        .map(|k| {
            let served = served.clone();
            thread::spawn(move || {
                let mut s = client(addrs[k as usize % 2]);
                let mut x = k * 7919 + 1;
                while Instant::now() < end {
                    x = x.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                    let r = x >> 33;
                    let want = frame(x, (r % 200) as usize);
                    s.write_all(&want).unwrap();
                    let mut got = vec![0; want.len()];
                    s.read_exact(&mut got).expect("an answer");
                    assert!(got == want);
                    served.fetch_add(1, Ordering::Relaxed);
                    match r % 64 {
                        0 => thread::park_timeout(Duration::from_millis(r % 30)),
                        1..8 => thread::park_timeout(Duration::from_micros(r % 300)),
                        8..40 => (0..r % 4000).for_each(|_| std::hint::spin_loop()),
                        _ => {}
                    }
                }
            })
        })
        .collect();
    ts.into_iter().for_each(|t| t.join().unwrap());
    (0..2).for_each(|i| pool.inbox(ShardId(i)).post(None));
    pool.join().unwrap();
    println!("{} requests, {} sleeps", served.load(Ordering::Relaxed), sleeps.load(Ordering::Relaxed));
    assert!(sleeps.load(Ordering::Relaxed) > 100, "the server hardly slept, so nothing was tested");
}

#[test]
fn an_idle_shard_sleeps() {
    run_local(async || {
        let l = net::listen(local(), ListenOptions::default()).unwrap();
        let a = l.local_addr().unwrap();
        let clients: Vec<_> = thread::spawn(move || (0..50).map(|_| client(a)).collect()).join().unwrap();
        let mut conns = vec![];
        for _ in 0..50 {
            conns.push(l.accept().await.unwrap());
        }
        yield_now().await;
        let (before, begun) = (reactor_stats(), Instant::now());
        time::sleep(Duration::from_millis(300)).await;
        let (turns, passed) = (reactor_stats().turns - before.turns, begun.elapsed());
        assert!(u128::from(turns) < 20 + passed.as_millis() / 15, "{turns} turns in {passed:?}");
        drop::<Vec<TcpStream>>(clients);
    });
}
