//! What one shard can do on this machine: durable appends with and without busy sockets beside them, requests over
//! loopback, messages between cores, task switches.
//!
//! `cargo run --release -p core-pinning --example ring_bench -- [directory] [seconds per measurement]`
//! Two shards on the first two allowed cores: shard 0 plays the clients, shard 1 is measured.

use core_pinning::{
    AlignedBuf, BLOCK, File, OpenOptions, Queue, ShardContext, ShardId, ShardPool, ShardPoolOptions,
    disk::fs,
    metrics::{self, Histogram},
    net::{self, Conn},
    reactor_stats, spawn,
    sync::Event,
    time, topology, yield_now,
};
use std::{
    cell::Cell,
    net::SocketAddr,
    path::PathBuf,
    rc::Rc,
    time::{Duration, Instant},
};

const SERVER: ShardId = ShardId(1);
const CLIENTS: ShardId = ShardId(0);
const FILE_BLOCKS: u64 = 16384;

#[derive(Clone, Debug)]
enum Message {
    /// Run this many connections with this many requests in flight each, for so long.
    Load {
        to: SocketAddr,
        connections: usize,
        window: usize,
        bytes: usize,
        for_: Duration,
    },
    /// Requests answered, and p50 / p99 in microseconds.
    Loaded(u64, u64, u64),
    Ping(Instant),
    Pong(Instant),
    Stream(u64),
    End,
}

fn cpu_seconds() -> f64 {
    let s = std::fs::read_to_string("/proc/thread-self/stat").unwrap_or_default();
    let after = s.rsplit(')').next().unwrap_or_default();
    let ticks: u64 = after.split_whitespace().skip(11).take(2).filter_map(|t| t.parse::<u64>().ok()).sum();
    ticks as f64 / 100.0
}

fn line(what: &str, h: &Histogram, seconds: f64) {
    let v = h.value();
    println!(
        "{what:<58} {:>9.0}/s  p50 {:>6.1} us  p99 {:>7.1} us  p99.9 {:>7.1} us",
        v.count as f64 / seconds,
        v.quantile(0.5) as f64 / 1000.0,
        v.quantile(0.99) as f64 / 1000.0,
        v.quantile(0.999) as f64 / 1000.0
    );
}

/// Frames of a fixed size, answered by the same number of bytes.
async fn serve(c: Conn, bytes: usize) {
    let reply = vec![7u8; bytes];
    let big = bytes::Bytes::from(reply.clone());
    let mut have = 0;
    while let Ok(Some(b)) = c.recv().await {
        have += b.len();
        drop(b);
        while let Some(more) = c.try_recv() {
            have += more.len();
        }
        while have >= bytes {
            have -= bytes;
            if bytes < 4096 { c.send_copy(&reply) } else { c.send(big.clone()) }
        }
        if c.flushed(4 << 20).await.is_err() {
            return;
        }
    }
}

async fn load(to: SocketAddr, connections: usize, window: usize, bytes: usize, for_: Duration) -> Message {
    let h = Rc::new(metrics::histogram("load_ns", "", vec![]));
    let mut tasks = vec![];
    for _ in 0..connections {
        let c = net::connect(to).await.unwrap();
        let h = h.clone();
        tasks.push(spawn(Queue::Serve, "client", async move {
            let request = vec![1u8; bytes];
            let end = time::now() + for_;
            let (mut have, mut t0) = (0, time::now());
            (0..window).for_each(|_| c.send_copy(&request));
            while let Ok(Some(b)) = c.recv().await {
                have += b.len();
                drop(b);
                if have < bytes * window {
                    continue;
                }
                have = 0;
                let now = time::now();
                (0..window).for_each(|_| h.record((now - t0).as_nanos() as u64));
                if now > end {
                    return;
                }
                t0 = now;
                (0..window).for_each(|_| c.send_copy(&request));
            }
        }));
    }
    for t in tasks {
        t.await;
    }
    let v = h.value();
    Message::Loaded(v.count, v.quantile(0.5) / 1000, v.quantile(0.99) / 1000)
}

async fn clients(cx: ShardContext<Message>) {
    loop {
        match cx.mesh.recv().await.1 {
            Message::Load { to, connections, window, bytes, for_ } => {
                let r = load(to, connections, window, bytes, for_).await;
                cx.mesh.send(SERVER, r).await;
            }
            Message::Ping(t) => cx.mesh.send(SERVER, Message::Pong(t)).await,
            Message::Stream(n) => {
                for k in 0..n {
                    cx.mesh.send(SERVER, Message::Stream(k)).await;
                }
            }
            _ => return,
        }
    }
}

async fn appends(file: &File, in_flight: usize, for_: Duration, stop: Option<Rc<Event>>) -> (Histogram, f64) {
    let h = metrics::histogram("append_ns", "", vec![]);
    let (at, stopped) = (Rc::new(Cell::new(0u64)), Rc::new(Cell::new(false)));
    let t0 = time::now();
    let tasks: Vec<_> = (0..in_flight)
        .map(|_| {
            let (h, at, stopped, file) = (h.clone(), at.clone(), stopped.clone(), file.clone());
            spawn(Queue::Serve, "append", async move {
                let block = Rc::new(AlignedBuf::zeroed(BLOCK));
                while t0.elapsed() < for_ && !stopped.get() {
                    let pos = at.replace((at.get() + 1) % FILE_BLOCKS) * BLOCK as u64;
                    let t = time::now();
                    file.write_at(pos, block.clone()).await.unwrap();
                    h.record(t.elapsed().as_nanos() as u64);
                }
            })
        })
        .collect();
    if let Some(e) = stop {
        e.listen().await;
        stopped.set(true);
    }
    for t in tasks {
        t.await;
    }
    (h, t0.elapsed().as_secs_f64())
}

async fn measured(cx: ShardContext<Message>, directory: PathBuf, for_: Duration) {
    // an initialised file: every block written once
    let path = directory.join(format!("ring-bench-{}", std::process::id()));
    let o = OpenOptions::read_write().create(true).direct(true).dsync(true);
    let file = File::open(&path, o).await.unwrap();
    for k in 0..(FILE_BLOCKS * BLOCK as u64) >> 20 {
        file.write_at(k << 20, AlignedBuf::zeroed(1 << 20)).await.unwrap();
    }
    for n in [1, 16] {
        let (h, s) = appends(&file, n, for_, None).await;
        line(&format!("4 KiB O_DSYNC appends, {n} in flight, sockets idle"), &h, s);
    }
    for (connections, window, bytes) in [(1, 1, 64), (64, 1, 64), (64, 16, 64), (64, 1, 65536), (4, 4, 1 << 20)] {
        for beside in [0, 1] {
            let l =
                net::listen("127.0.0.1:0".parse().unwrap(), net::ListenOptions { backlog: 1024, ..Default::default() })
                    .unwrap();
            let to = l.local_addr().unwrap();
            let server = spawn(Queue::Serve, "accept", async move {
                loop {
                    let c = l.accept().await.unwrap();
                    spawn(Queue::Serve, "serve", serve(c, bytes)).detach();
                }
            });
            let (cpu, stats) = (cpu_seconds(), reactor_stats());
            cx.mesh.send(CLIENTS, Message::Load { to, connections, window, bytes, for_ }).await;
            let done = Rc::new(Event::new());
            let appender = (beside > 0).then(|| {
                let (done, file) = (done.clone(), file.clone());
                spawn(Queue::Serve, "appends", async move {
                    appends(&file, beside, Duration::from_secs(600), Some(done)).await
                })
            });
            let Message::Loaded(n, p50, p99) = cx.mesh.recv().await.1 else {
                panic!("clients tell what they measured")
            };
            let (cpu, now) = (cpu_seconds() - cpu, reactor_stats());
            done.notify_all();
            let what = format!("{connections} connections x {window}, {bytes} B each way");
            println!(
                "{what:<58} {:>9.0}/s  p50 {p50:>6} us  p99 {p99:>7} us  {:.2} CPU s per million, {} enters, {} sleeps",
                n as f64 / for_.as_secs_f64(),
                cpu / n as f64 * 1e6,
                now.enters - stats.enters,
                now.sleeps - stats.sleeps,
            );
            if let Some(a) = appender {
                let (h, s) = a.await;
                line("    4 KiB O_DSYNC appends beside it, 1 in flight", &h, s);
            }
            server.cancel().await;
        }
    }
    drop(file);
    fs::remove_file(&path).await.unwrap();

    let h = metrics::histogram("hop_ns", "", vec![]);
    let t0 = time::now();
    while t0.elapsed() < for_ {
        cx.mesh.send(CLIENTS, Message::Ping(Instant::now())).await;
        let Message::Pong(t) = cx.mesh.recv().await.1 else { panic!("a ping is answered with a pong") };
        h.record(t.elapsed().as_nanos() as u64 / 2);
    }
    line("one hop, both shards asleep in between", &h, t0.elapsed().as_secs_f64());
    let n = 5_000_000;
    let t0 = time::now();
    cx.mesh.send(CLIENTS, Message::Stream(n)).await;
    for _ in 0..n {
        cx.mesh.recv().await;
    }
    println!("{:<58} {:>9.1} M/s", "messages in a stream", n as f64 / t0.elapsed().as_secs_f64() / 1e6);
    let t0 = time::now();
    for _ in 0..1_000_000 {
        yield_now().await;
    }
    println!("{:<58} {:>9.0} ns", "yield", t0.elapsed().as_nanos() as f64 / 1e6);
    let t0 = time::now();
    for _ in 0..1_000_000 {
        spawn(Queue::Serve, "nothing", async {}).await;
    }
    println!("{:<58} {:>9.0} ns", "spawn and join", t0.elapsed().as_nanos() as f64 / 1e6);
    let t0 = time::now();
    for _ in 0..1_000_000 {
        let mut s = std::pin::pin!(time::sleep(Duration::from_secs(30)));
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(s.as_mut().poll(&mut cx).is_pending());
    }
    println!("{:<58} {:>9.0} ns", "a long timer, set and dropped", t0.elapsed().as_nanos() as f64 / 1e6);
    cx.mesh.send(CLIENTS, Message::End).await;
}

fn main() {
    let mut args = std::env::args().skip(1);
    let directory = args.next().map_or_else(std::env::temp_dir, PathBuf::from);
    let for_ = Duration::from_secs_f64(args.next().and_then(|s| s.parse().ok()).unwrap_or(2.0));
    let cores = topology::allowed_cores().unwrap();
    let pin = cores.len() >= 2;
    let o = ShardPoolOptions {
        cores: vec![cores[0], cores[1 % cores.len()]],
        pin,
        name: "bench".into(),
        ..Default::default()
    };
    let pool = ShardPool::start(o, move |cx: ShardContext<Message>| {
        let directory = directory.clone();
        async move { if cx.id == SERVER { measured(cx, directory, for_).await } else { clients(cx).await } }
    });
    if let Err(e) = pool.unwrap().join() {
        eprintln!("{e}");
        std::process::exit(1);
    }
}
