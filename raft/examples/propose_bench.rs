//! Proposals per second and their latency: closed loop, batches of 1 KiB, over one and sixteen groups of one voter, with
//! the real journal. Then what a thousand idle groups cost, and their first proposals.
//!
//! ```text
//! cargo run --release -p corelane-raft --example propose_bench [-- <directory> [<seconds per row> [<groups>,<in flight>]]]
//! ```
//! The directory must be on the disk to be measured (a memory file system tells nothing); default `target/propose_bench`.

use std::cell::{Cell, RefCell};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use core_pinning::{ShardId, run_local, task, time};
use corelane_raft::{Group, Groups, GroupsOptions, Proposal, first_state};
use corelane_storage::model::{NodeId, Offset, PartitionKey, Term, TopicId};
use corelane_storage::record::{BatchBuilder, Codec, patch_base_offset_and_epoch};
use corelane_storage::{Log, LogConfig, PartitionSpec, Store, StoreOptions};
use futures::future::join_all;
use hdrhistogram::Histogram;

const NODE: NodeId = NodeId(1);

fn main() {
    let mut args = std::env::args().skip(1);
    let dir = args.next().map_or_else(|| PathBuf::from("target/propose_bench"), PathBuf::from);
    let seconds = args.next().and_then(|s| s.parse().ok()).unwrap_or(3.0);
    let only = args.next().and_then(|s| s.split_once(',').map(|(g, n)| (g.parse().ok(), n.parse().ok())));
    println!(
        "latencies in us from propose() on; cpu is of the shard's thread, per proposal; proposals a journal write"
    );
    println!(
        "{:>6} {:>9} {:>11} | {:>8} {:>8} | {:>8} {:>8} | {:>8} {:>8} | {:>6} {:>7}",
        "groups",
        "in flight",
        "proposals/s",
        "appended",
        "p99",
        "flushed",
        "p99",
        "applied",
        "p99",
        "cpu us",
        "a write"
    );
    for groups in [1, 16] {
        for in_flight in [1, 64, 1024] {
            if only.is_none_or(|only| only == (Some(groups), Some(in_flight))) {
                run_local(async || row(&dir, groups, in_flight, Duration::from_secs_f64(seconds)).await);
            }
        }
    }
    if only.is_none() {
        run_local(async || wakes(&dir).await);
    }
}

/// A thousand groups: cold, woken one after the other, and dropped.
async fn wakes(dir: &Path) {
    const COUNT: u32 = 1000;
    let store = open_store(dir).await;
    let all = Groups::new(GroupsOptions::new(NODE));
    let mut logs = vec![];
    for p in 0..COUNT {
        logs.push(create_log(&store, p).await);
    }
    let (template, bare) = (template(), resident());
    let groups: Vec<Group> = logs.iter().map(|log| all.open(log.clone()).expect("open")).collect();
    let cold = resident();
    let mut times: [Histogram<u64>; 3] = histograms();
    for group in &groups {
        let t0 = time::now();
        group.wake().await.expect("wake");
        times[0].saturating_record(t0.elapsed().as_nanos() as u64);
        let proposal = propose(group, &template);
        proposal.appended().await.expect("proposal");
        times[1].saturating_record(t0.elapsed().as_nanos() as u64);
        proposal.applied().await.expect("proposal");
        times[2].saturating_record(t0.elapsed().as_nanos() as u64);
    }
    let (hot, t0) = (resident(), time::now());
    all.shutdown().await;
    let us = |h: &Histogram<u64>, q| h.value_at_quantile(q) as f64 / 1e3;
    println!(
        "{COUNT} groups: cold {:.2} KB each, hot {:.0} KB; woken in {:.0} us (p99 {:.0}), first batch appended {:.0} ({:.0}), \
         applied {:.0} ({:.0}); dropped in {:.0} us each",
        (cold - bare) as f64 / 1e3 / f64::from(COUNT),
        (hot - cold) as f64 / 1e3 / f64::from(COUNT),
        us(&times[0], 0.5),
        us(&times[0], 0.99),
        us(&times[1], 0.5),
        us(&times[1], 0.99),
        us(&times[2], 0.5),
        us(&times[2], 0.99),
        t0.elapsed().as_nanos() as f64 / 1e3 / f64::from(COUNT),
    );
    store.close().await.expect("close");
}

/// Of nanoseconds, up to a minute.
fn histograms() -> [Histogram<u64>; 3] {
    std::array::from_fn(|_| Histogram::new_with_max(60_000_000_000, 3).expect("histogram"))
}

/// Resident memory of the process, bytes.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).unwrap_or(0) * 4096
}

/// One line of the table.
async fn row(dir: &Path, groups: usize, in_flight: usize, length: Duration) {
    let store = open_store(dir).await;
    let all = Groups::new(GroupsOptions::new(NODE));
    let mut opened = vec![];
    for p in 0..groups {
        opened.push(all.open(create_log(&store, p as u32).await).expect("open"));
    }
    let template = template();
    let run =
        Rc::new(Run { measuring: Cell::new(false), stop: Cell::new(false), times: RefCell::new(Some(histograms())) });
    let workers: Vec<_> = (0..in_flight)
        .map(|w| task::spawn_here("producer", produce(opened[w % groups].clone(), template.clone(), run.clone())))
        .collect();
    time::sleep(length / 4).await; // warm up
    run.measuring.set(true);
    let (t0, cpu0, flushes0) = (time::now(), cpu_ns(), store.stats().journal_writes);
    time::sleep(length).await;
    run.measuring.set(false);
    let (wall, cpu, flushed) = (t0.elapsed(), cpu_ns() - cpu0, store.stats().journal_writes - flushes0);
    run.stop.set(true);
    join_all(workers).await;
    let times = run.times.take().expect("the workers are done");
    let n = times[2].len().max(1);
    let us = |step: usize, q| times[step].value_at_quantile(q) as f64 / 1e3;
    println!(
        "{groups:>6} {in_flight:>9} {:>11.0} | {:>8.1} {:>8.1} | {:>8.1} {:>8.1} | {:>8.1} {:>8.1} | {:>6.2} {:>7.1}",
        n as f64 / wall.as_secs_f64(),
        us(0, 0.5),
        us(0, 0.99),
        us(1, 0.5),
        us(1, 0.99),
        us(2, 0.5),
        us(2, 0.99),
        cpu as f64 / 1e3 / n as f64,
        n as f64 / flushed.max(1) as f64,
    );
    all.shutdown().await;
    store.close().await.expect("close");
}

struct Run {
    measuring: Cell<bool>,
    stop: Cell<bool>,
    /// Nanoseconds to appended, flushed and applied, of all workers.
    times: RefCell<Option<[Histogram<u64>; 3]>>,
}

/// One proposal after the other, until told to stop.
async fn produce(group: Group, template: Bytes, run: Rc<Run>) {
    while !run.stop.get() {
        let t0 = time::now();
        let proposal = propose(&group, &template);
        let measured = run.measuring.get();
        for (i, step) in [proposal.appended(), proposal.flushed(), proposal.applied()].into_iter().enumerate() {
            step.await.expect("proposal");
            if measured && run.measuring.get() {
                let ns = t0.elapsed().as_nanos() as u64;
                run.times.borrow_mut().iter_mut().for_each(|times| times[i].saturating_record(ns));
            }
        }
    }
}

/// A batch of the produce path: its own copy of the bytes, with the offset it gets.
fn propose(group: &Group, template: &Bytes) -> Proposal {
    let base = group.next_offset();
    let mut batch = BytesMut::from(&template[..]);
    patch_base_offset_and_epoch(&mut batch, base, group.leadership().term);
    group.propose(batch.freeze(), base, base).expect("propose")
}

/// A batch of one record, 1 KiB in all.
fn template() -> Bytes {
    let mut builder = BatchBuilder::new(Codec::None);
    builder.push(0, None, Some(&[b'x'; 1024 - 61 - 12]));
    builder.build_at(Offset(0), Term(1)).expect("batch")
}

/// CPU time of this thread.
fn cpu_ns() -> u64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    stat.split(' ').next().and_then(|s| s.parse().ok()).unwrap_or(0)
}

/// A new store in `dir`; what was there is removed.
async fn open_store(dir: &Path) -> Store {
    match std::fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => panic!("{}: {error}", dir.display()),
        _ => {}
    }
    std::fs::create_dir_all(dir).expect("directory");
    let options = StoreOptions::new(dir, ShardId(0), 256 << 20, 64 << 20);
    Store::open(options).await.expect("store").0
}

async fn create_log(store: &Store, partition: u32) -> Log {
    let key = PartitionKey { topic: TopicId([1; 16]), partition };
    let spec = PartitionSpec { topic: "bench".into(), key, config: LogConfig::default() };
    store.create(spec, first_state(NODE)).await.expect("log")
}
