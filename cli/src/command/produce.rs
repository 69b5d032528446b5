//! `corelane produce`: lines in, records out.

use super::connect;
use crate::args::{Global, pair, size};
use crate::client::{Acks, Appended, Outgoing, Producer, ProducerOptions, partition_of};
use crate::exit::{Exit, Failure};
use crate::output::{Output, Table, grouped};
use clap::Args;
use corelane_config::units::format_size;
use corelane_storage::record::{Codec, Compression};
use serde_json::json;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Write lines of a file or of standard input to a topic.
///
/// Every line is a record; its value is the line without its end. With --key-separator the key stands before the separator. A key
/// decides the partition as the Java client does it; lines without a key go to one partition after the other, a batch at a time.
#[derive(Debug, Args)]
pub struct ProduceArgs {
    topic: String,
    /// Read this file [default: standard input]
    #[arg(long, short, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Split each line at the first of these: the key stands before it [default: lines have no key]
    #[arg(long, short, value_name = "TEXT")]
    key_separator: Option<String>,
    /// An empty value after the key becomes null (a tombstone)
    #[arg(long, requires = "key_separator")]
    null_values: bool,
    /// Give every record a header; repeatable [default: none]
    #[arg(long, short = 'H', value_name = "NAME=VALUE", value_parser = pair)]
    header: Vec<(String, String)>,
    /// Send every record to this partition [default: as the key, or turn by turn]
    #[arg(long, short, value_name = "N", value_parser = clap::value_parser!(i32).range(0..))]
    partition: Option<i32>,
    /// Who must have a record before it counts: 0 nobody, 1 the leader, all in-sync replicas
    #[arg(long, value_name = "0|1|all", default_value = "all", value_parser = acks)]
    acks: Acks,
    /// Codec of the batches: none, gzip, snappy, lz4 or zstd
    #[arg(long, short = 'z', value_name = "CODEC", default_value = "none", value_parser = codec)]
    compression: Codec,
    /// Level of the codec [default: as the codec has it]
    #[arg(long, value_name = "N")]
    compression_level: Option<i32>,
    /// Produce without an idempotent producer: a retry may then write a record twice
    #[arg(long)]
    no_idempotence: bool,
    /// Records of one partition are sent together up to this many bytes
    #[arg(long, value_name = "SIZE", default_value = "512KiB", value_parser = size)]
    batch: usize,
    /// Send what has come when no line comes for this long (standard input that is no file)
    #[arg(long, value_name = "MS", default_value_t = 5)]
    linger: u64,
}

fn acks(text: &str) -> Result<Acks, String> {
    match text {
        "0" => Ok(Acks::None),
        "1" => Ok(Acks::Leader),
        "all" | "-1" => Ok(Acks::All),
        _ => Err("allowed: 0, 1, all".to_owned()),
    }
}

pub fn codec(text: &str) -> Result<Codec, String> {
    Codec::ALL.into_iter().find(|c| c.name() == text).ok_or_else(|| "allowed: none, gzip, snappy, lz4, zstd".to_owned())
}

/// What has been acknowledged in one partition.
#[derive(Default)]
struct Written {
    records: u64,
    first: Option<i64>,
    last: i64,
}

#[derive(Default)]
struct Summary {
    bytes: u64,
    partitions: BTreeMap<i32, Written>,
}

impl Summary {
    fn add(&mut self, done: &[Appended]) {
        for a in done {
            let w = self.partitions.entry(a.partition).or_default();
            w.records += a.records as u64;
            if a.base_offset >= 0 {
                w.first.get_or_insert(a.base_offset);
                w.last = a.base_offset + a.records as i64 - 1;
            }
        }
    }

    fn records(&self) -> u64 {
        self.partitions.values().map(|w| w.records).sum()
    }
}

pub fn run(args: &ProduceArgs, options: &Global, out: &mut Output) -> Result<(), Failure> {
    let lines = lines(args)?;
    let compression = match args.compression_level {
        Some(level) => Compression { codec: args.compression, level },
        None => Compression::from(args.compression),
    };
    let producer = ProducerOptions {
        topic: args.topic.clone(),
        acks: args.acks,
        compression,
        // A sequence is only of use when the broker answers.
        idempotent: !args.no_idempotence && args.acks == Acks::All,
    };
    let mut producer = Producer::new(connect(options)?, producer)?;
    let mut run = Run { args, sticky: first_partition(producer.partitions()), summary: Summary::default() };
    let started = Instant::now();
    let done = run.all(&mut producer, &lines);
    // What was acknowledged before a failure is worth knowing.
    run.report(started.elapsed(), out)?;
    done
}

/// Where lines without a key begin: not always at 0, or short runs would fill one partition.
fn first_partition(count: usize) -> usize {
    rand::random_range(0..count.max(1))
}

struct Run<'a> {
    args: &'a ProduceArgs,
    sticky: usize,
    summary: Summary,
}

impl Run<'_> {
    fn all(&mut self, producer: &mut Producer, lines: &Receiver<io::Result<Vec<u8>>>) -> Result<(), Failure> {
        let request_bytes = self.args.batch.saturating_mul(8).min(8 << 20).max(self.args.batch);
        let linger = Duration::from_millis(self.args.linger);
        loop {
            let line = if producer.pending() == 0 {
                lines.recv().map_err(|_| RecvTimeoutError::Disconnected)
            } else {
                lines.recv_timeout(linger)
            };
            match line {
                Ok(line) => {
                    let line = line.map_err(|e| Failure::failed(format!("cannot read the input: {e}")))?;
                    let size = self.push(producer, &line)?;
                    if size >= self.args.batch {
                        self.sticky = (self.sticky + 1) % producer.partitions().max(1);
                    }
                    if size >= self.args.batch || producer.pending() >= request_bytes {
                        self.flush(producer)?;
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    self.sticky = (self.sticky + 1) % producer.partitions().max(1);
                    self.flush(producer)?;
                }
                Err(RecvTimeoutError::Disconnected) => return self.flush(producer),
            }
        }
    }

    fn flush(&mut self, producer: &mut Producer) -> Result<(), Failure> {
        if producer.pending() > 0 {
            self.summary.add(&producer.flush()?);
        }
        Ok(())
    }

    /// Adds one line; returns the size of the batch it went to.
    fn push(&mut self, producer: &mut Producer, line: &[u8]) -> Result<usize, Failure> {
        let (key, value) = match &self.args.key_separator {
            None => (None, Some(line)),
            Some(separator) => {
                let at = find(line, separator.as_bytes());
                let missing = || Failure::failed(format!("a line without the key separator {separator:?}"));
                let (key, rest) = line.split_at(at.ok_or_else(missing)?);
                let value = rest.get(separator.len()..).unwrap_or_default();
                (Some(key), (!(value.is_empty() && self.args.null_values)).then_some(value))
            }
        };
        let partition = match (self.args.partition, key) {
            (Some(p), _) if usize::try_from(p).is_ok_and(|p| p < producer.partitions()) => p,
            (Some(p), _) => {
                return Err(Failure::new(Exit::NotFound, format!("topic {} has no partition {p}", self.args.topic)));
            }
            (None, Some(key)) => partition_of(key, producer.partitions()) as i32,
            (None, None) => self.sticky as i32,
        };
        let headers: Vec<(&str, Option<&[u8]>)> =
            self.args.header.iter().map(|(n, v)| (n.as_str(), Some(v.as_bytes()))).collect();
        self.summary.bytes += line.len() as u64;
        Ok(producer.push(partition, &Outgoing { timestamp: unix_ms(), key, value, headers: &headers }))
    }

    fn report(&self, took: Duration, out: &mut Output) -> Result<(), Failure> {
        let (s, topic) = (&self.summary, &self.args.topic);
        let seconds = took.as_secs_f64();
        if out.is_json() {
            let partitions: Vec<_> = s
                .partitions
                .iter()
                .map(|(p, w)| {
                    json!({
                        "partition": p,
                        "records": w.records,
                        "first_offset": w.first,
                        "last_offset": w.first.map(|_| w.last),
                    })
                })
                .collect();
            return out.json(&json!({
                "topic": topic,
                "records": s.records(),
                "bytes": s.bytes,
                "seconds": seconds,
                "partitions": partitions,
            }));
        }
        let records = grouped(s.records());
        let rate = grouped((s.records() as f64 / seconds.max(1e-9)) as u64);
        out.line(format!(
            "{records} records ({}) to {topic} in {seconds:.2} s, {rate} a second",
            format_size(s.bytes)
        ))?;
        let mut table = Table::new(&[">partition", ">records", ">first offset", ">last offset"]);
        for (p, w) in &s.partitions {
            let first = w.first.map_or_else(|| "-".to_owned(), |o| o.to_string());
            let last = w.first.map_or_else(|| "-".to_owned(), |_| w.last.to_string());
            table.row(vec![p.to_string(), w.records.to_string(), first, last]);
        }
        if table.is_empty() { Ok(()) } else { out.table(&table) }
    }
}

/// Lines of the input, read ahead by a thread of its own so that an idle input does not hold back what has come.
fn lines(args: &ProduceArgs) -> Result<Receiver<io::Result<Vec<u8>>>, Failure> {
    let input: Box<dyn BufRead + Send> = match &args.file {
        Some(path) => {
            let file = File::open(path).map_err(|e| {
                let exit = if e.kind() == io::ErrorKind::NotFound { Exit::NotFound } else { Exit::Failed };
                Failure::new(exit, format!("cannot open {}: {e}", path.display()))
            })?;
            Box::new(BufReader::with_capacity(1 << 20, file))
        }
        None => {
            if io::stdin().is_terminal() {
                eprintln!("Every line becomes a record; end with Ctrl-D.");
            }
            Box::new(BufReader::with_capacity(1 << 16, io::stdin()))
        }
    };
    let (sender, lines) = sync_channel(4096);
    std::thread::spawn(move || {
        let mut input = input;
        loop {
            let mut line = Vec::new();
            let sent = match input.read_until(b'\n', &mut line) {
                Ok(0) => return,
                Ok(_) => {
                    if line.last() == Some(&b'\n') {
                        line.pop();
                    }
                    sender.send(Ok(line))
                }
                Err(e) => {
                    // The receiver stops at the first error.
                    let _ = sender.send(Err(e));
                    return;
                }
            };
            if sent.is_err() {
                return;
            }
        }
    });
    Ok(lines)
}

fn find(line: &[u8], separator: &[u8]) -> Option<usize> {
    if separator.is_empty() { None } else { line.windows(separator.len()).position(|w| w == separator) }
}

/// Milliseconds since 1970.
pub fn unix_ms() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_millis()).unwrap_or(i64::MAX)
}
