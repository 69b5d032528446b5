//! `corelane bench`: throughput and latency of any Kafka broker.
//!
//! A rate-controlled run is an open loop: message j is due at start + j / rate, whatever happened before it, and its latency counts
//! from when it was due. Late messages wait in line and none is dropped, so a broker that stalls cannot hide it (no coordinated
//! omission). Produce latency ends with the acknowledgement, end-to-end latency with the fetch answer that carries the message,
//! on the same clock.

mod consumer;
mod load;
mod progress;
mod sender;
mod stats;

use crate::args::{Global, pair, seconds, size};
use crate::client::{Acks, ClientError, Cluster, Connection, TopicDescription, init_producer};
use crate::command::{connect, interrupted, produce::codec};
use crate::exit::{Exit, Failure};
use crate::output::{Output, Table, grouped};
use clap::{Args, Subcommand};
use consumer::Want;
use corelane_storage::record::{Codec, Compression};
use load::{Lanes, Load};
use progress::Progress;
use sender::Sender;
use serde_json::{Map, Value, json};
use stats::{PERCENTILES, Snapshot, Tally, now, percentiles};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

/// Measure a broker: throughput and latency, of Corelane or of any other Kafka broker.
#[derive(Debug, Args)]
#[command(arg_required_else_help = true)]
pub struct BenchArgs {
    #[command(subcommand)]
    mode: Mode,
}

#[derive(Debug, Subcommand)]
enum Mode {
    /// Producers: free-running, or at --rate
    Produce(ProduceMode),
    /// Consumers: read a topic from its start to its end, as fast as they can or at --rate
    Consume(ConsumeMode),
    /// Producers at a fixed rate and consumers that follow them: produce and end-to-end latency
    Latency(LatencyMode),
}

#[derive(Debug, Args)]
struct ProduceMode {
    /// Messages a second of all connections together [default: as fast as they can]
    #[arg(long, value_name = "N", value_parser = positive)]
    rate: Option<f64>,
    #[command(flatten)]
    load: LoadArgs,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
struct LatencyMode {
    /// Messages a second of all connections together
    #[arg(long, value_name = "N", value_parser = positive, default_value = "10000")]
    rate: f64,
    #[command(flatten)]
    load: LoadArgs,
    #[command(flatten)]
    fetch: FetchArgs,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
struct ConsumeMode {
    /// Records a second of one connection at most [default: as fast as it can]
    #[arg(long, value_name = "N", value_parser = positive)]
    rate: Option<f64>,
    #[command(flatten)]
    fetch: FetchArgs,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
struct Common {
    /// Topic to use; producers create it if it is missing
    #[arg(long, value_name = "NAME", default_value = "corelane-bench")]
    topic: String,
    /// Delete the topic at the end
    #[arg(long)]
    delete: bool,
    /// Process of the broker on this machine: reports its CPU, memory and disk writes; repeatable [default: none]
    #[arg(long, value_name = "PID")]
    server_pid: Vec<u32>,
    /// No live progress on standard error
    #[arg(long, short)]
    quiet: bool,
    /// Copied to the JSON result [default: the mode]
    #[arg(long, value_name = "TEXT")]
    label: Option<String>,
}

#[derive(Debug, Args)]
struct LoadArgs {
    /// Partitions of a topic that has to be created
    #[arg(long, value_name = "N", default_value_t = 16)]
    partitions: i32,
    /// Replicas of a topic that has to be created [default: the broker's]
    #[arg(long, value_name = "N", default_value_t = -1, hide_default_value = true)]
    replication: i16,
    /// Property of a topic that has to be created; repeatable [default: none]
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    config: Vec<(String, String)>,
    /// Bytes of a message
    #[arg(long, value_name = "SIZE", default_value = "1KiB", value_parser = size)]
    size: usize,
    /// Length of the measurement
    #[arg(long, value_name = "SECONDS", default_value = "20", value_parser = seconds)]
    seconds: Duration,
    /// Time before the measurement begins
    #[arg(long, value_name = "SECONDS", default_value = "5")]
    warmup: f64,
    /// Producers, each with a connection to every leader
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    connections: u16,
    /// Requests under way on one connection
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    inflight: u16,
    /// Most bytes of a batch
    #[arg(long, value_name = "SIZE", default_value = "128KiB", value_parser = size)]
    batch: usize,
    /// Most bytes of a request
    #[arg(long, value_name = "SIZE", default_value = "1MiB", value_parser = size)]
    request: usize,
    /// How long an open batch waits for more messages, microseconds (at a fixed rate)
    #[arg(long, value_name = "US", default_value_t = 1000)]
    linger_us: u64,
    /// Who must have a message: 0 nobody, 1 the leader, all in-sync replicas
    #[arg(long, value_name = "0|1|all", default_value = "all")]
    acks: String,
    /// Codec of the batches: none, gzip, snappy, lz4 or zstd
    #[arg(long, short = 'z', value_name = "CODEC", default_value = "none", value_parser = codec)]
    compression: Codec,
    /// What messages are made of: noise, or log lines that compress about four to one
    #[arg(long, value_name = "random|text", default_value = "random", value_parser = ["random", "text"])]
    payload: String,
    /// sticky: a whole flush goes to one partition (no keys); key: every message to the next one
    #[arg(long, value_name = "sticky|key", default_value = "sticky", value_parser = ["sticky", "key"])]
    spread: String,
    /// Produce with an idempotent producer
    #[arg(long)]
    idempotent: bool,
    /// How long after the end to go on with what is late
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = seconds)]
    grace: Duration,
}

#[derive(Debug, Args)]
struct FetchArgs {
    /// Consumers, each with a connection to every leader and a share of the partitions
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    consumers: u16,
    /// Most bytes of a fetch answer
    #[arg(long, value_name = "SIZE", default_value = "50MiB", value_parser = size)]
    fetch_bytes: usize,
    /// Most bytes of one partition in a fetch answer
    #[arg(long, value_name = "SIZE", default_value = "1MiB", value_parser = size)]
    partition_bytes: usize,
    /// How long the broker may hold back an answer without data
    #[arg(long, value_name = "MS", default_value_t = 500)]
    max_wait_ms: i32,
}

fn positive(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|n: &f64| n.is_finite() && *n > 0.0).ok_or_else(|| format!("{text:?} is not above 0"))
}

pub fn run(args: &BenchArgs, options: &Global, out: &mut Output) -> Result<(), Failure> {
    now();
    let common = match &args.mode {
        Mode::Produce(m) => &m.common,
        Mode::Consume(m) => &m.common,
        Mode::Latency(m) => &m.common,
    };
    let stop = interrupted()?;
    let mut bench = Bench { cluster: connect(options)?, common, out, stop };
    match &args.mode {
        Mode::Produce(m) => bench.produce(&m.load, m.rate, None)?,
        Mode::Latency(m) => bench.produce(&m.load, Some(m.rate), Some(&m.fetch))?,
        Mode::Consume(m) => bench.consume(m)?,
    }
    if common.delete {
        bench.cluster.delete_topic(&common.topic)?;
    }
    Ok(())
}

struct Bench<'a> {
    cluster: Cluster,
    common: &'a Common,
    out: &'a mut Output,
    stop: Arc<AtomicBool>,
}

impl Bench<'_> {
    fn produce(&mut self, args: &LoadArgs, rate: Option<f64>, fetch: Option<&FetchArgs>) -> Result<(), Failure> {
        let mut load = self.load(args, rate)?;
        let lanes = self.topic(args)?;
        let progress = Arc::new(Progress::new());
        let payload = Arc::new(load::payload(args.payload == "text", load.size));
        let mut senders = Vec::new();
        for index in 0..load.senders {
            let identity = if load.idempotent { Some(init_producer(&mut self.cluster)?) } else { None };
            let connections = self.dial_all(&lanes)?;
            senders.push((index, identity, connections));
        }
        // The clock of the run begins when everything is connected.
        let begin = now() + 100_000_000;
        load.start += begin;
        load.window = (load.window.0 + begin, load.window.1 + begin);
        load.deadline += begin;
        let consumers = match fetch {
            Some(f) => consumer::start(&self.want(f, false, None, load.window), &mut self.cluster, &lanes, &progress)?,
            None => Vec::new(),
        };
        let senders: Vec<_> = senders
            .into_iter()
            .map(|(index, identity, connections)| {
                let s = Sender::new(index, load.clone(), lanes.clone(), payload.clone(), identity, progress.clone());
                thread::spawn(move || s.run(connections))
            })
            .collect();
        let live = self.live(&progress, load.window);
        let whole = self.sleep_until(load.window.0);
        let before = Snapshot::take(&self.common.server_pid);
        let whole = self.sleep_until(load.window.1) && whole;
        let after = Snapshot::take(&self.common.server_pid);
        if !whole {
            return Err(Failure::failed("interrupted"));
        }
        let (mut acks, mut unsent) = (Tally::new(load.window), 0);
        for s in senders {
            let (tally, late) = joined(s.join())?;
            acks.merge(&tally);
            unsent += late;
        }
        while !consumers.is_empty() && progress.consumed.load(SeqCst) < acks.total && now() < load.deadline {
            thread::sleep(Duration::from_millis(2));
        }
        progress.stop.store(true, SeqCst);
        let mut end_to_end = Tally::new(load.window);
        for c in consumers {
            end_to_end.merge(&joined(c.join())?);
        }
        live.end();
        let bytes = acks.in_window * load.size as u64;
        let used = before.until(&after, &self.common.server_pid, acks.in_window, bytes);
        let mode = if fetch.is_some() { "latency" } else { "produce" };
        let mut result = self.result(mode, &used);
        for (name, value) in described(&load, &lanes) {
            result.insert(name.to_owned(), value);
        }
        result.insert("acked".into(), acks.total.into());
        result.insert("unsent".into(), unsent.into());
        result.insert("errors".into(), (acks.errors + end_to_end.errors).into());
        let first_error = first_error(&[&acks, &end_to_end]);
        result.insert("first_error".into(), first_error.clone());
        result.insert("produce_us".into(), percentiles(&acks.latency));
        if fetch.is_some() {
            result.insert("consumed".into(), progress.consumed.load(SeqCst).into());
            result.insert("fetches".into(), progress.fetches.load(SeqCst).into());
            result.insert("e2e_us".into(), percentiles(&end_to_end.latency));
        }
        self.print(&result)?;
        if acks.total == 0 {
            let why = first_error.as_str().map(|error| format!(": {error}")).unwrap_or_default();
            return Err(Failure::failed(format!("no message was acknowledged{why}")));
        }
        Ok(())
    }

    fn consume(&mut self, args: &ConsumeMode) -> Result<(), Failure> {
        let lanes = Lanes::find(&mut self.cluster, &self.common.topic)?;
        let progress = Arc::new(Progress::new());
        let before = Snapshot::take(&self.common.server_pid);
        let window = (now(), u64::MAX);
        let want = self.want(&args.fetch, true, args.rate, window);
        let threads = consumer::start(&want, &mut self.cluster, &lanes, &progress)?;
        let live = self.live(&progress, window);
        let mut tally = Tally::new(window);
        let watch = self.stop.clone();
        for t in threads {
            while !t.is_finished() && !watch.load(SeqCst) {
                thread::sleep(Duration::from_millis(1));
            }
            if watch.load(SeqCst) {
                progress.stop.store(true, SeqCst);
            }
            tally.merge(&joined(t.join())?);
        }
        live.end();
        let (records, bytes) = (progress.consumed.load(SeqCst), progress.consumed_bytes.load(SeqCst));
        let after = Snapshot::take(&self.common.server_pid);
        let used = before.until(&after, &self.common.server_pid, records, bytes);
        let mut result = self.result("consume", &used);
        result.insert("partitions".into(), lanes.lane_of.len().into());
        result.insert("consumers".into(), args.fetch.consumers.into());
        result.insert("records".into(), records.into());
        result.insert("bytes".into(), bytes.into());
        result.insert("fetches".into(), progress.fetches.load(SeqCst).into());
        result.insert("errors".into(), tally.errors.into());
        result.insert("first_error".into(), first_error(&[&tally]));
        self.print(&result)
    }

    /// Times are relative to the start of the run until it begins.
    fn load(&self, args: &LoadArgs, rate: Option<f64>) -> Result<Load, Failure> {
        let ns = |d: Duration| u64::try_from(d.as_nanos()).unwrap_or(u64::MAX / 4);
        if !(0.0..1e6).contains(&args.warmup) {
            return Err(Failure::usage(format!("--warmup {}: not a number of seconds", args.warmup)));
        }
        let begin = (args.warmup * 1e9) as u64;
        let window = (begin, begin + ns(args.seconds));
        Ok(Load {
            topic: self.common.topic.clone(),
            size: args.size.max(16),
            rate,
            batch: args.batch,
            request: args.request.max(args.batch),
            linger: args.linger_us.saturating_mul(1000),
            inflight: args.inflight.into(),
            acks: match args.acks.as_str() {
                "0" => Acks::None,
                "1" => Acks::Leader,
                "all" | "-1" => Acks::All,
                other => return Err(Failure::usage(format!("--acks {other}: allowed are 0, 1, all"))),
            },
            compression: Compression::from(args.compression),
            keyed: args.spread == "key",
            idempotent: args.idempotent,
            senders: args.connections.into(),
            start: 0,
            window,
            deadline: window.1 + ns(args.grace),
        })
    }

    /// The topic's lanes; the topic is created if it is missing.
    fn topic(&mut self, args: &LoadArgs) -> Result<Lanes, Failure> {
        let topic = TopicDescription {
            name: self.common.topic.clone(),
            partitions: args.partitions,
            replication: args.replication,
            configs: args.config.clone(),
        };
        match self.cluster.create_topic(&topic, false).map_err(Failure::from) {
            Err(e) if e.exit == Exit::Exists => {}
            other => {
                other?;
            }
        }
        // A leader that is named may still be taking over: an answer from each says that they serve.
        let until = now() + 10_000_000_000;
        loop {
            match self.cluster.offsets(&self.common.topic, None, -1) {
                Err(ClientError::NoSuchTopic(_)) if now() < until => thread::sleep(Duration::from_millis(20)),
                other => {
                    other?;
                    return Ok(Lanes::find(&mut self.cluster, &self.common.topic)?);
                }
            }
        }
    }

    fn dial_all(&self, lanes: &Lanes) -> Result<Vec<Connection>, ClientError> {
        (0..lanes.leaders.len()).map(|l| lanes.dial(&self.cluster, l)).collect()
    }

    fn want(&self, args: &FetchArgs, to_end: bool, rate: Option<f64>, window: (u64, u64)) -> Want {
        let int = |n: usize| i32::try_from(n).unwrap_or(i32::MAX);
        Want {
            topic: self.common.topic.clone(),
            consumers: args.consumers.into(),
            max_bytes: int(args.fetch_bytes),
            partition_bytes: int(args.partition_bytes),
            max_wait_ms: args.max_wait_ms,
            to_end,
            rate,
            window,
        }
    }

    /// `false`: interrupted.
    fn sleep_until(&self, at: u64) -> bool {
        while now() < at && !self.stop.load(SeqCst) {
            thread::sleep(Duration::from_nanos((at - now().min(at)).min(50_000_000)));
        }
        !self.stop.load(SeqCst)
    }

    fn live(&self, progress: &Arc<Progress>, window: (u64, u64)) -> Live {
        let ended = Arc::new(AtomicBool::new(false));
        if self.common.quiet {
            return Live { ended, thread: None };
        }
        let (progress, flag) = (progress.clone(), ended.clone());
        Live { ended, thread: Some(thread::spawn(move || progress.show(window, &flag))) }
    }

    fn result(&self, mode: &str, used: &Value) -> Map<String, Value> {
        let mut all = Map::new();
        let label = self.common.label.as_deref().unwrap_or(mode);
        all.insert("label".into(), label.into());
        all.insert("mode".into(), mode.into());
        all.insert("topic".into(), self.common.topic.as_str().into());
        if let Value::Object(used) = used {
            all.extend(used.clone());
        }
        all
    }

    fn print(&mut self, result: &Map<String, Value>) -> Result<(), Failure> {
        if self.out.is_json() {
            return self.out.json(&Value::Object(result.clone()));
        }
        let number = |name: &str| result.get(name).and_then(Value::as_f64).unwrap_or(0.0);
        let whole = |name: &str| grouped(number(name) as u64);
        self.out.line(format!(
            "{} messages a second, {:.1} MB/s over {:.1} s",
            whole("msg_s"),
            number("mb_s"),
            number("window_s")
        ))?;
        for name in ["acked", "unsent", "consumed", "records", "fetches", "errors"] {
            if result.contains_key(name) && (number(name) > 0.0 || name == "errors") {
                self.out.line(format!("{name:<10} {}", whole(name)))?;
            }
        }
        if let Some(first) = result.get("first_error").and_then(Value::as_str) {
            self.out.line(format!("first error {first}"))?;
        }
        if result.contains_key("server_cpu_s") {
            self.out.line(format!(
                "server     {:.2} cores, {:.2} CPU s per GB, {:.2} per million messages, {:.0} MiB resident",
                number("server_cores"),
                number("server_cpu_s_per_gb"),
                number("server_cpu_s_per_mmsg"),
                number("server_rss_mib")
            ))?;
        }
        let headings: Vec<String> = PERCENTILES.iter().map(|(n, _)| format!(">{}", n.replace('_', "."))).collect();
        let mut columns = vec!["latency (ms)"];
        columns.extend(headings.iter().map(String::as_str));
        columns.push(">max");
        let mut table = Table::new(&columns);
        for (title, name) in [("produce", "produce_us"), ("end to end", "e2e_us")] {
            let Some(h) = result.get(name) else { continue };
            let ms = |p: &str| format!("{:.2}", h.get(p).and_then(Value::as_f64).unwrap_or(0.0) / 1e3);
            let cells = PERCENTILES.iter().map(|(p, _)| ms(p)).chain([ms("max")]);
            table.row(std::iter::once(title.to_owned()).chain(cells).collect());
        }
        if table.is_empty() { Ok(()) } else { self.out.table(&table) }
    }
}

/// The thread that prints progress.
struct Live {
    ended: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Live {
    fn end(self) {
        self.ended.store(true, SeqCst);
        if let Some(t) = self.thread {
            t.thread().unpark();
            // It only prints: a panic there is no reason to lose the result.
            let _ = t.join();
        }
    }
}

fn joined<T>(result: thread::Result<Result<T, ClientError>>) -> Result<T, Failure> {
    let result = result.unwrap_or_else(|_| Err(ClientError::Invalid("a thread of the benchmark panicked".to_owned())));
    Ok(result?)
}

fn first_error(tallies: &[&Tally]) -> Value {
    let code = tallies.iter().map(|t| t.first_error).find(|c| *c != 0);
    code.map_or(Value::Null, |c| corelane_protocol::ErrorCode::from(c).name().into())
}

fn described(load: &Load, lanes: &Lanes) -> Vec<(&'static str, Value)> {
    vec![
        ("partitions", lanes.lane_of.len().into()),
        ("leaders", lanes.leaders.len().into()),
        ("size", load.size.into()),
        ("rate", json!(load.rate)),
        ("batch", load.batch.into()),
        ("linger_us", (load.linger / 1000).into()),
        ("inflight", load.inflight.into()),
        ("acks", load.acks.code().into()),
        ("compression", load.compression.codec.name().into()),
        ("spread", if load.keyed { "key" } else { "sticky" }.into()),
        ("idempotent", load.idempotent.into()),
        ("connections", load.senders.into()),
    ]
}
