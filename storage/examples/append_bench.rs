//! Durable appends through one shard's store:
//! `append_bench DIR [PARTITIONS [CLIENTS-PER-PARTITION [SECONDS [BYTES [BYPASS-BYTES]]]]]`.
//!
//! Each client appends a batch of one record, always the same bytes, as fio does (the log gives it its offset), and waits until it
//! is on disk. Prints appends a second, latency, CPU, and how much was written for each byte appended, write-back included. A fifth
//! of the time goes by before anything is counted.

use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use core_pinning::{Queue, ShardPool, ShardPoolOptions, spawn, time};
use corelane_storage::model::{LogId, NodeId, PartitionKey, Term, TopicId};
use corelane_storage::record::{BatchBuilder, Codec};
use corelane_storage::{
    EntryKind, FirstState, Log, LogConfig, LogEntry, PartitionSpec, Store, StoreOptions, VoteRecord, recover_journals,
};
use hdrhistogram::Histogram;

#[derive(Clone)]
struct Arguments {
    dir: PathBuf,
    partitions: u32,
    clients: u32,
    seconds: f64,
    bytes: usize,
    bypass_bytes: Option<usize>,
}

fn main() {
    let mut words = std::env::args().skip(1);
    let Some(dir) = words.next() else {
        return eprintln!("append_bench DIR [PARTITIONS [CLIENTS [SECONDS [BYTES [BYPASS-BYTES]]]]]");
    };
    let mut number = |default: f64| words.next().and_then(|w| w.parse().ok()).unwrap_or(default);
    let arguments = Arguments {
        dir: dir.into(),
        partitions: number(16.0) as u32,
        clients: number(1.0) as u32,
        seconds: number(5.0),
        bytes: number(1024.0) as usize,
        bypass_bytes: Some(number(0.0) as usize).filter(|bytes| *bytes > 0),
    };
    let options = ShardPoolOptions { cores: vec![1], pin: true, name: "bench".into(), mesh_messages: 2 };
    let pool = ShardPool::<()>::start(options, move |context| {
        let arguments = arguments.clone();
        async move { run(context.id, arguments).await }
    });
    pool.expect("the shard starts").join().expect("the shard ends");
}

struct Counts {
    counting: Cell<bool>,
    stop: Cell<bool>,
    appends: Cell<u64>,
    latency_us: RefCell<Histogram<u64>>,
}

async fn run(shard: core_pinning::ShardId, a: Arguments) {
    recover_journals(&a.dir, shard, 1).await.expect("recovered");
    let mut options = StoreOptions::new(&a.dir, shard, 128 << 20, 64 << 20);
    options.bypass_bytes = a.bypass_bytes.unwrap_or(options.bypass_bytes);
    let (store, _) = Store::open(options).await.expect("opened");
    let vote = VoteRecord { term: Term(1), node: NodeId(1), committed: true };
    let counts = Rc::new(Counts {
        counting: Cell::new(false),
        stop: Cell::new(false),
        appends: Cell::new(0),
        latency_us: RefCell::new(Histogram::new(3).expect("a histogram")),
    });
    let mut builder = BatchBuilder::new(Codec::None);
    builder.push(1, None, Some(&vec![7; a.bytes - 70]));
    let template = builder.build().expect("a batch");
    let mut clients = Vec::new();
    let topic = TopicId(u128::from(time::now().as_nanos()).to_be_bytes());
    for partition in 0..a.partitions {
        let key = PartitionKey { topic, partition };
        let spec = PartitionSpec { topic: "bench".into(), key, config: LogConfig::default() };
        let log = store.create(spec, FirstState { vote, membership: Bytes::new() }).await.expect("created");
        for _ in 0..a.clients {
            let client = append(log.clone(), store.clone(), template.clone(), counts.clone());
            clients.push(spawn(Queue::Serve, "client", client));
        }
    }
    time::sleep(Duration::from_secs_f64(a.seconds / 5.0)).await;
    counts.counting.set(true);
    let (t0, cpu0, stats0) = (time::now(), cpu_ms(), store.stats());
    time::sleep(Duration::from_secs_f64(a.seconds * 0.8)).await;
    let (appends, elapsed, cpu) = (counts.appends.get(), t0.elapsed().as_secs_f64(), cpu_ms() - cpu0);
    counts.stop.set(true);
    for client in clients {
        client.await;
    }
    let end = store.stats();
    store.write_back().await.expect("written back");
    let stats = store.stats();
    let percentile = |quantile: f64| counts.latency_us.borrow().value_at_quantile(quantile);
    let bytes = appends as f64 * a.bytes as f64;
    println!(
        "{} partitions x {} clients, {} B: {:.0} appends/s, {:.0} MB/s, p50 {} us p99 {} us p99.9 {} us, \
         CPU {:.2} us an append, {:.3} s/GB",
        a.partitions,
        a.clients,
        a.bytes,
        appends as f64 / elapsed,
        bytes / elapsed / 1e6,
        percentile(0.5),
        percentile(0.99),
        percentile(0.999),
        cpu * 1000.0 / appends as f64,
        cpu * 1e6 / bytes,
    );
    let whole = stats.appended_bytes as f64;
    println!(
        "  written {:.3} bytes a byte: journal {:.3}, past it {:.3}, written back {:.3}; {:.0} journal writes/s; \
         {} checkpoints, {} journal files, {} MB of chunks",
        (stats.journal_bytes + stats.bypass_bytes + stats.write_back_bytes) as f64 / whole,
        stats.journal_bytes as f64 / whole,
        stats.bypass_bytes as f64 / whole,
        stats.write_back_bytes as f64 / whole,
        (end.journal_writes - stats0.journal_writes) as f64 / elapsed,
        stats.checkpoints,
        stats.journal_files,
        stats.chunk_bytes >> 20,
    );
    store.close().await.expect("closed");
}

async fn append(log: Log, store: Store, template: Bytes, counts: Rc<Counts>) {
    let dirty = store.dirty();
    while !counts.stop.get() {
        if dirty.is_over() {
            dirty.room().await;
        }
        let id = LogId::new(Term(1), log.next_index());
        let (sender, receiver) = core_pinning::sync::oneshot::channel();
        let begun = time::now();
        let entry = LogEntry { id, kind: EntryKind::Data, bytes: template.clone() };
        log.append([entry], move |result| drop(sender.send(result))).expect("appended");
        receiver.await.expect("answered").expect("durable");
        log.set_applied(id.index);
        if counts.counting.get() && !counts.stop.get() {
            counts.appends.set(counts.appends.get() + 1);
            let _ = counts.latency_us.borrow_mut().record(begun.elapsed().as_micros() as u64);
        }
    }
}

/// CPU time of the process, user and system, in ms.
fn cpu_ms() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let ticks: Vec<f64> = stat.rsplit(')').next().unwrap_or("").split(' ').filter_map(|w| w.parse().ok()).collect();
    // utime and stime are the 14th and 15th fields; the state, which is no number, is the third.
    ticks.get(10).zip(ticks.get(11)).map_or(0.0, |(user, system)| (user + system) * 10.0)
}
