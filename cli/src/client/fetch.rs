//! Fetching: one thread and connection a leader, whole batches handed over a bounded channel.

use super::connection::Connection;
use super::error::ClientError;
use super::routing::Cluster;
use super::wire::Wire;
use bytes::Bytes;
use corelane_protocol::messages::{FetchRequest, FetchRequestFetchPartition, FetchRequestFetchTopic};
use corelane_protocol::{ErrorCode, Records, Str, Uuid};
use corelane_storage::record::{BatchHeader, Batches, Record, RecordIter};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

/// A batch may grow to this much when it is decompressed.
const DECOMPRESSED_MAX: usize = 256 << 20;

#[derive(Clone, Debug)]
pub struct FetchOptions {
    pub max_wait_ms: i32,
    pub min_bytes: i32,
    pub max_bytes: i32,
    pub partition_bytes: i32,
    /// Only what is decided by its transaction.
    pub read_committed: bool,
}

impl Default for FetchOptions {
    fn default() -> FetchOptions {
        FetchOptions {
            max_wait_ms: 500,
            min_bytes: 1,
            max_bytes: 50 << 20,
            partition_bytes: 4 << 20,
            read_committed: false,
        }
    }
}

/// What a fetching thread reports.
pub enum Fetched {
    /// Whole batches, the first of which may begin before `from`.
    Records { topic: Arc<str>, partition: i32, from: i64, high_watermark: i64, bytes: Bytes },
    /// A thread has ended.
    Ended { error: ClientError },
}

/// Threads that fetch a set of partitions, until dropped.
pub struct Fetchers {
    pub events: Receiver<Fetched>,
    stop: Arc<AtomicBool>,
    /// To wake threads that wait for a broker.
    wires: Vec<Arc<Wire>>,
    threads: Vec<JoinHandle<()>>,
}

impl Fetchers {
    /// Starts one thread for each leader of the partitions in `positions` (by topic and partition: the next offset to read).
    pub fn start(
        cluster: &mut Cluster,
        positions: &BTreeMap<(String, i32), i64>,
        options: &FetchOptions,
    ) -> Result<Fetchers, ClientError> {
        let (sender, events) = sync_channel(16);
        let stop = Arc::new(AtomicBool::new(false));
        let mut by_leader: BTreeMap<i32, Vec<Position>> = BTreeMap::new();
        let mut names: Vec<&str> = positions.keys().map(|(t, _)| t.as_str()).collect();
        names.dedup();
        for name in names {
            let wanted: Vec<i32> = positions.keys().filter(|(t, _)| t == name).map(|(_, p)| *p).collect();
            let topic = cluster.topic(name)?;
            let shared: Arc<str> = Arc::from(name);
            for (leader, partitions) in cluster.by_leader(name, Some(&wanted))? {
                let all = by_leader.entry(leader).or_default();
                for partition in partitions {
                    let offset = positions.get(&(name.to_owned(), partition)).copied().unwrap_or_default();
                    all.push(Position { topic: shared.clone(), id: topic.id, partition, offset });
                }
            }
        }
        let (mut threads, mut wires) = (Vec::new(), Vec::new());
        for (leader, positions) in by_leader {
            let connection = cluster.dial(leader)?;
            wires.push(connection.wire().clone());
            let (options, stop, sender) = (options.clone(), stop.clone(), sender.clone());
            threads.push(std::thread::spawn(move || {
                if let Err(error) = run(connection, positions, &options, &stop, &sender) {
                    // Nobody listens any more: nothing to report.
                    let _ = sender.send(Fetched::Ended { error });
                }
            }));
        }
        Ok(Fetchers { events, stop, wires, threads })
    }
}

impl Drop for Fetchers {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.wires.iter().for_each(|wire| wire.shutdown());
        // A thread that waits in the channel goes on when its receiver is gone.
        let (_, empty) = sync_channel(0);
        self.events = empty;
        for t in self.threads.drain(..) {
            let _ = t.join();
        }
    }
}

struct Position {
    topic: Arc<str>,
    id: Uuid,
    partition: i32,
    offset: i64,
}

fn run(
    mut connection: Connection,
    mut positions: Vec<Position>,
    options: &FetchOptions,
    stop: &AtomicBool,
    events: &SyncSender<Fetched>,
) -> Result<(), ClientError> {
    let version = connection.version::<FetchRequest>()?;
    let by_id = version >= 13;
    while !stop.load(Ordering::Relaxed) {
        let answer = connection.call_up_to(&request(&positions, options), version)?;
        ClientError::check(|| "fetch".to_owned(), answer.error_code, None)?;
        for topic in &answer.responses {
            for p in &topic.partitions {
                let same = |x: &&mut Position| {
                    x.partition == p.partition_index
                        && if by_id { x.id == topic.topic_id } else { topic.topic == *x.topic }
                };
                let Some(position) = positions.iter_mut().find(same) else { continue };
                let what =
                    || format!("fetch of {}-{} at offset {}", position.topic, p.partition_index, position.offset);
                ClientError::check(what, p.error_code, None)?;
                let Some(bytes) = p.records.clone().map(Records::into_bytes).filter(|b| !b.is_empty()) else {
                    continue;
                };
                let from = position.offset;
                if let Some(next) = end_of(&bytes) {
                    position.offset = next.max(from);
                }
                let records = Fetched::Records {
                    topic: position.topic.clone(),
                    partition: p.partition_index,
                    from,
                    high_watermark: p.high_watermark,
                    bytes,
                };
                if events.send(records).is_err() {
                    return Ok(());
                }
            }
        }
    }
    Ok(())
}

fn request(positions: &[Position], options: &FetchOptions) -> FetchRequest {
    let mut topics: Vec<FetchRequestFetchTopic> = Vec::new();
    for x in positions {
        let partition = FetchRequestFetchPartition {
            partition: x.partition,
            current_leader_epoch: -1,
            fetch_offset: x.offset,
            partition_max_bytes: options.partition_bytes,
            ..Default::default()
        };
        match topics.last_mut().filter(|t| t.topic == *x.topic) {
            Some(t) => t.partitions.push(partition),
            None => topics.push(FetchRequestFetchTopic {
                topic: Str::from(x.topic.to_string()),
                topic_id: x.id,
                partitions: vec![partition],
                ..Default::default()
            }),
        }
    }
    FetchRequest {
        max_wait_ms: options.max_wait_ms,
        min_bytes: options.min_bytes,
        max_bytes: options.max_bytes,
        isolation_level: i8::from(options.read_committed),
        session_epoch: -1,
        topics,
        ..Default::default()
    }
}

/// The offset after the last whole batch. The broker may cut the last one short.
pub fn end_of(bytes: &Bytes) -> Option<i64> {
    Batches::new(bytes.clone()).map_while(Result::ok).last().map(|(header, _)| header.next_offset().0)
}

/// The records of whole batches from offset `from` on; markers of transactions are left out.
pub fn for_each_record(
    bytes: &Bytes,
    from: i64,
    mut each: impl FnMut(&BatchHeader, Record) -> bool,
) -> Result<(), ClientError> {
    let broken = |e: &dyn std::fmt::Display| ClientError::Invalid(format!("a record batch that cannot be read: {e}"));
    // The broker may cut the last one short.
    for (header, batch) in Batches::new(bytes.clone()).map_while(Result::ok) {
        header.verify_crc(&batch).map_err(|e| broken(&e))?;
        if header.is_control() {
            continue;
        }
        for record in RecordIter::new(&batch, DECOMPRESSED_MAX).map_err(|e| broken(&e))? {
            let record = record.map_err(|e| broken(&e))?;
            if record.offset.0 >= from && !each(&header, record) {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// The reader's position is outside the log.
pub fn is_out_of_range(e: &ClientError) -> bool {
    e.code() == Some(ErrorCode::OffsetOutOfRange)
}
