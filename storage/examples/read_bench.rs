//! Reads of one log by one consumer: `read_bench DIR [MEGABYTES [BATCH-BYTES [FETCH-BYTES]]]`.
//!
//! Writes the log; reads it to the end from the disk (opened cold, nothing cached); then, with appends going on, reads what was
//! just appended. Prints speed, CPU, and how often and how much the disk was read.

use std::path::PathBuf;
use std::rc::Rc;

use bytes::Bytes;
use core_pinning::{ShardId, ShardPool, ShardPoolOptions, time};
use corelane_storage::model::{LogId, NodeId, Offset, PartitionKey, Term, TopicId};
use corelane_storage::record::{BatchBuilder, Codec, patch_base_offset_and_epoch};
use corelane_storage::{
    EntryKind, FirstState, Log, LogConfig, LogEntry, PartitionSpec, ReadLimit, Store, StoreOptions, VoteRecord,
    recover_journals,
};

#[derive(Clone)]
struct Arguments {
    dir: PathBuf,
    megabytes: usize,
    batch: usize,
    fetch: usize,
}

fn main() {
    let mut words = std::env::args().skip(1);
    let Some(dir) = words.next() else { return eprintln!("read_bench DIR [MEGABYTES [BATCH-BYTES [FETCH-BYTES]]]") };
    let mut number = |default: usize| words.next().and_then(|w| w.parse().ok()).unwrap_or(default);
    let arguments =
        Arguments { dir: dir.into(), megabytes: number(1024), batch: number(64 << 10), fetch: number(1 << 20) };
    let options = ShardPoolOptions { cores: vec![1], pin: true, name: "bench".into(), mesh_messages: 2 };
    let pool = ShardPool::<()>::start(options, move |context| {
        let arguments = arguments.clone();
        async move { run(context.id, arguments).await }
    });
    pool.expect("the shard starts").join().expect("the shard ends");
}

async fn run(shard: ShardId, a: Arguments) {
    let topic = TopicId(u128::from(time::now().as_nanos()).to_be_bytes());
    let key = PartitionKey { topic, partition: 0 };
    let spec = PartitionSpec { topic: "bench".into(), key, config: LogConfig::default() };
    let store = open(&a, shard).await;
    let vote = VoteRecord { term: Term(1), node: NodeId(1), committed: true };
    let log = store.create(spec.clone(), FirstState { vote, membership: Bytes::new() }).await.expect("created");
    let mut builder = BatchBuilder::new(Codec::None);
    builder.push(1, None, Some(&vec![7; a.batch - 70]));
    let template = builder.build().expect("a batch");
    for _ in 0..(a.megabytes << 20) / a.batch {
        store.dirty().room().await;
        append(&log, &template).await;
    }
    store.close().await.expect("closed");

    let store = open(&a, shard).await;
    let log = store.load(spec).await.expect("loaded");
    let (t0, cpu0, stats0) = (time::now(), cpu_ms(), store.stats());
    let bytes = read(&log, Offset(0), a.fetch).await as f64;
    let (elapsed, cpu, stats) = (t0.elapsed().as_secs_f64(), cpu_ms() - cpu0, store.stats());
    println!(
        "cold: {:.0} MB/s, CPU {:.3} s/GB; {} disk reads for {:.0} MB",
        bytes / elapsed / 1e6,
        cpu * 1e6 / bytes,
        stats.disk_reads - stats0.disk_reads,
        bytes / 1e6
    );
    let (t0, cpu0, stats0, device0) = (time::now(), cpu_ms(), store.stats(), read_from_disk());
    let (mut bytes, mut reading) = (0.0, 0.0);
    for _ in 0..(a.megabytes << 20) / a.batch / 16 {
        let from = log.bounds().log_end;
        for _ in 0..16 {
            store.dirty().room().await;
            append(&log, &template).await;
        }
        let begun = time::now();
        bytes += read(&log, from, a.fetch).await as f64;
        reading += begun.elapsed().as_secs_f64();
    }
    let (elapsed, cpu, stats) = (t0.elapsed().as_secs_f64(), cpu_ms() - cpu0, store.stats());
    println!(
        "tail: {:.0} MB/s while reading, CPU of appends and reads {:.3} s/GB; {} disk reads, {} bytes read from the disk \
         for {:.0} MB in {elapsed:.1} s",
        bytes / reading / 1e6,
        cpu * 1e6 / bytes,
        stats.disk_reads - stats0.disk_reads,
        read_from_disk() - device0,
        bytes / 1e6
    );
    store.close().await.expect("closed");
}

async fn open(a: &Arguments, shard: ShardId) -> Store {
    recover_journals(&a.dir, shard, 1).await.expect("recovered");
    Store::open(StoreOptions::new(&a.dir, shard, 128 << 20, 64 << 20)).await.expect("opened").0
}

async fn append(log: &Log, template: &Bytes) {
    let mut batch = template.to_vec();
    let id = LogId::new(Term(1), log.next_index());
    patch_base_offset_and_epoch(&mut batch, log.bounds().log_end, id.term);
    let entry = LogEntry { id, kind: EntryKind::Data, bytes: batch.into() };
    let applied = Rc::new(log.clone());
    log.append([entry], move |result| {
        result.expect("durable");
        applied.set_applied(id.index);
    })
    .expect("appended");
    core_pinning::yield_if_needed().await;
}

/// Reads from `from` to the end; gives the bytes.
async fn read(log: &Log, from: Offset, fetch: usize) -> usize {
    let (mut at, mut bytes) = (from, 0);
    loop {
        let limit = ReadLimit { max_bytes: fetch, at_least_one: true, upto: Offset::MAX };
        let read = log.read(at, limit).await.expect("read");
        if read.slices.is_empty() {
            return bytes;
        }
        bytes += read.bytes;
        at = read.next_offset;
    }
}

/// Bytes that the process has had the disk read.
fn read_from_disk() -> u64 {
    let io = std::fs::read_to_string("/proc/self/io").unwrap_or_default();
    io.lines().find_map(|l| l.strip_prefix("read_bytes: ")?.parse().ok()).unwrap_or(0)
}

/// CPU time of the process, user and system, in ms.
fn cpu_ms() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let ticks: Vec<f64> = stat.rsplit(')').next().unwrap_or("").split(' ').filter_map(|w| w.parse().ok()).collect();
    // utime and stime are the 14th and 15th fields; the state, which is no number, is the third.
    ticks.get(10).zip(ticks.get(11)).map_or(0.0, |(user, system)| (user + system) * 10.0)
}
