//! One sender: a connection to every leader, an open or a closed loop, and a thread a connection that reads the answers.

use super::load::{Lanes, Load};
use super::progress::Progress;
use super::stats::{Tally, now};
use crate::client::{self, Acks, ClientError, Connection, Wire};
use bytes::Bytes;
use corelane_protocol::Str;
use corelane_protocol::messages::{ProduceRequest, ProduceRequestPartitionProduceData, ProduceRequestTopicProduceData};
use corelane_storage::model::{ProducerEpoch, ProducerId, Sequence};
use corelane_storage::record::BatchBuilder;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle, Thread};
use std::time::Duration;

/// A request under way.
struct InFlight {
    correlation: i32,
    /// Partition and number of messages, in the order of `due`.
    parts: Vec<(i32, usize)>,
    due: Vec<u64>,
}

/// Between the sender and the thread that reads a lane's answers.
struct Shared {
    queue: Mutex<VecDeque<InFlight>>,
    inflight: AtomicUsize,
    /// The sender waits for a free slot.
    waiting: Arc<AtomicBool>,
    sender: Thread,
    /// The answers have ended: nothing more can be sent.
    broken: AtomicBool,
}

struct Lane {
    connection: Connection,
    version: i16,
    correlation: i32,
    shared: Arc<Shared>,
    reader: JoinHandle<Result<Tally, ClientError>>,
    partitions: Vec<i32>,
    cursor: usize,
    /// Partitions with an open batch.
    open: Vec<i32>,
    first_due: u64,
    bytes: usize,
    full: bool,
}

/// An open batch, and when each of its messages was due.
struct Open {
    batch: BatchBuilder,
    due: Vec<u64>,
}

pub struct Sender {
    load: Load,
    lanes: Lanes,
    /// Its number among the senders of the run.
    index: usize,
    open: Vec<Option<Open>>,
    sequence: Vec<i32>,
    payload: Arc<Vec<u8>>,
    at: usize,
    value: Vec<u8>,
    identity: Option<(i64, i16)>,
    progress: Arc<Progress>,
    /// Tallies what needs no answer (acks 0).
    unanswered: Tally,
}

impl Sender {
    pub fn new(
        index: usize,
        load: Load,
        lanes: Lanes,
        payload: Arc<Vec<u8>>,
        identity: Option<(i64, i16)>,
        progress: Arc<Progress>,
    ) -> Sender {
        let partitions = lanes.lane_of.len();
        Sender {
            open: (0..partitions).map(|_| None).collect(),
            sequence: vec![0; partitions],
            value: vec![0; load.size],
            unanswered: Tally::new(load.window),
            at: index * 4096,
            load,
            lanes,
            index,
            payload,
            identity,
            progress,
        }
    }

    /// Runs to the end; returns what was acknowledged, and how many messages that were due were never sent.
    pub fn run(mut self, connections: Vec<Connection>) -> Result<(Tally, u64), ClientError> {
        precise_sleep();
        let waiting = Arc::new(AtomicBool::new(false));
        let mut lanes = Vec::new();
        for (l, connection) in connections.into_iter().enumerate() {
            lanes.push(self.lane(connection, self.lanes.of(l), &waiting)?);
        }
        let unsent = match self.load.rate {
            Some(rate) => self.open_loop(rate, &mut lanes, &waiting)?,
            None => self.closed_loop(&mut lanes, &waiting)?,
        };
        let mut tally = self.unanswered;
        for lane in lanes {
            while lane.shared.inflight.load(SeqCst) > 0
                && !lane.shared.broken.load(SeqCst)
                && now() < self.load.deadline
            {
                thread::sleep(Duration::from_millis(1));
            }
            // The reader sees the end of its stream; if the broker was first, all the better.
            lane.connection.wire().shutdown();
            let read = lane.reader.join();
            let read = read.unwrap_or_else(|_| Err(ClientError::Invalid("a thread of the benchmark panicked".into())));
            tally.merge(&read?);
        }
        Ok((tally, unsent))
    }

    fn lane(
        &self,
        mut connection: Connection,
        partitions: Vec<i32>,
        waiting: &Arc<AtomicBool>,
    ) -> Result<Lane, ClientError> {
        let version = connection.version::<ProduceRequest>()?;
        let lost = |error| ClientError::Lost { address: connection.address().to_owned(), error };
        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            inflight: AtomicUsize::new(0),
            waiting: waiting.clone(),
            sender: thread::current(),
            broken: AtomicBool::new(false),
        });
        let wire = connection.wire().clone();
        wire.set_read_timeout(None).map_err(lost)?;
        let (logins, answers) = sync_channel(1);
        connection.read_by(answers);
        let answers = Answers {
            logins,
            wire,
            version,
            shared: shared.clone(),
            size: self.load.size as u64,
            progress: self.progress.clone(),
        };
        let window = self.load.window;
        let reader = thread::spawn(move || answers.read(window));
        Ok(Lane {
            connection,
            version,
            correlation: 0,
            shared,
            reader,
            partitions,
            cursor: 0,
            open: Vec::new(),
            first_due: u64::MAX,
            bytes: 0,
            full: false,
        })
    }

    /// Adds a message to a partition's open batch; `false` if the batch or the request is full.
    fn append(&mut self, lane: &mut Lane, partition: usize, due: u64) -> bool {
        let size = self.load.size;
        if !lane.open.is_empty() && lane.bytes + size > self.load.request {
            return false;
        }
        let Some(slot) = self.open.get_mut(partition) else { return false };
        if slot.as_ref().is_some_and(|o| o.batch.size() + size + 16 > self.load.batch) {
            return false;
        }
        if slot.is_none() {
            lane.open.push(partition as i32);
        }
        let (compression, identity) = (self.load.compression, self.identity);
        let base = self.sequence.get(partition).copied().unwrap_or(0);
        let open = slot.get_or_insert_with(|| {
            let batch = BatchBuilder::new(compression);
            let batch = match identity {
                Some((id, epoch)) => batch.producer(ProducerId(id), ProducerEpoch(epoch), Sequence(base)),
                None => batch,
            };
            Open { batch, due: Vec::with_capacity(64) }
        });
        if self.at + size > self.payload.len() {
            self.at = 0;
        }
        let from = self.payload.get(self.at..self.at + size).unwrap_or_default();
        self.value.copy_from_slice(from);
        if let Some(head) = self.value.first_chunk_mut() {
            *head = due.to_le_bytes();
        }
        self.at += size / 2 + 61;
        let before = open.batch.size();
        open.batch.push(crate::command::produce::unix_ms(), None, Some(&self.value));
        open.due.push(due);
        lane.bytes += open.batch.size() - before;
        lane.first_due = lane.first_due.min(due);
        true
    }

    /// Sends everything open on the lane as one request.
    fn flush(&mut self, lane: &mut Lane) -> Result<(), ClientError> {
        let (mut parts, mut due, mut data) = (Vec::new(), Vec::new(), Vec::new());
        for p in std::mem::take(&mut lane.open) {
            let Some(open) = self.open.get_mut(p as usize).and_then(Option::take) else { continue };
            let records: Bytes =
                open.batch.build().map_err(|e| ClientError::Invalid(format!("cannot build a batch: {e}")))?;
            if let Some(sequence) = self.sequence.get_mut(p as usize) {
                *sequence = ((i64::from(*sequence) + open.due.len() as i64) & 0x7fff_ffff) as i32;
            }
            parts.push((p, open.due.len()));
            due.extend(open.due);
            data.push(ProduceRequestPartitionProduceData { index: p, records: Some(records), ..Default::default() });
        }
        (lane.bytes, lane.first_due, lane.full) = (0, u64::MAX, false);
        lane.correlation = lane.correlation.wrapping_add(1);
        let request = ProduceRequest {
            acks: self.load.acks.code(),
            timeout_ms: 30_000,
            topic_data: vec![ProduceRequestTopicProduceData {
                name: Str::from(self.load.topic.clone()),
                topic_id: self.lanes.topic_id,
                partition_data: data,
                ..Default::default()
            }],
            ..Default::default()
        };
        let slices = client::frame(&request, lane.version, lane.correlation).map_err(ClientError::Invalid)?;
        lane.stay_known(self.load.deadline)?;
        let answered = self.load.acks != Acks::None;
        let messages = due.len() as u64;
        if answered {
            let mut queue = lane.shared.queue.lock().unwrap_or_else(PoisonError::into_inner);
            queue.push_back(InFlight { correlation: lane.correlation, parts, due: due.clone() });
            lane.shared.inflight.fetch_add(1, SeqCst);
        }
        let address = lane.connection.address().to_owned();
        lane.connection.wire().write_all(&slices).map_err(|error| ClientError::Lost { address, error })?;
        if !answered {
            let done = now();
            due.iter().for_each(|d| self.unanswered.add(*d, done));
            self.progress.acked.fetch_add(messages, SeqCst);
            self.progress.acked_bytes.fetch_add(messages * self.load.size as u64, SeqCst);
        }
        Ok(())
    }

    /// Message j is due at a fixed time, whatever happened to those before it.
    fn open_loop(&mut self, rate: f64, lanes: &mut [Lane], waiting: &AtomicBool) -> Result<u64, ClientError> {
        let (senders, index) = (self.load.senders as u64, self.index as u64);
        let (start, end) = (self.load.start, self.load.window.1);
        let due = |j: u64| start + ((j * senders + index) as f64 * 1e9 / rate) as u64;
        let partitions = self.open.len() as u64;
        let (mut j, mut sticky) = (0u64, index % partitions.max(1));
        loop {
            let t = now();
            if t > self.load.deadline || lanes.iter().any(|l| l.shared.broken.load(SeqCst)) {
                let all = ((end - start) as f64 / 1e9 * rate / senders as f64) as u64;
                return Ok(all.saturating_sub(j));
            }
            while due(j) <= t && due(j) < end {
                let p = if self.load.keyed { (j * senders + index) % partitions } else { sticky } as usize;
                let l = self.lanes.lane_of.get(p).copied().unwrap_or(0);
                let Some(lane) = lanes.get_mut(l) else { return Ok(0) };
                if self.append(lane, p, due(j)) {
                    j += 1;
                    continue;
                }
                let next = (sticky + 1) % partitions;
                let over = lane.bytes + self.load.size > self.load.request;
                let taken = self.open.get(next as usize).is_some_and(Option::is_some);
                if self.load.keyed || over || taken {
                    lane.full = true;
                    if !lane.has_slot(self.load.inflight) {
                        break;
                    }
                    self.flush(lane)?;
                }
                sticky = next;
            }
            let finished = due(j) >= end;
            let (mut blocked, mut wake, mut pending) = (false, u64::MAX, false);
            for lane in lanes.iter_mut().filter(|l| !l.open.is_empty()) {
                let at = lane.first_due + self.load.linger;
                if at > t && !lane.full && !finished {
                    (wake, pending) = (wake.min(at), true);
                } else if lane.has_slot(self.load.inflight) {
                    self.flush(lane)?;
                    sticky = (sticky + 1) % partitions;
                } else {
                    (blocked, pending) = (true, true);
                }
            }
            if finished && !pending {
                return Ok(0);
            }
            if !finished && due(j) > t {
                wake = wake.min(due(j) + self.load.linger);
            } else if !finished && !blocked {
                // What is due could not be taken because its lane was full, which has been sent by now.
                continue;
            }
            if blocked {
                waiting.store(true, SeqCst);
                if lanes.iter().any(|l| !l.open.is_empty() && l.has_slot(self.load.inflight)) {
                    continue;
                }
                wake = wake.min(t + 5_000_000);
            }
            thread::park_timeout(Duration::from_nanos(wake.saturating_sub(now())));
        }
    }

    /// Every lane always has its limit of full requests under way.
    fn closed_loop(&mut self, lanes: &mut [Lane], waiting: &AtomicBool) -> Result<u64, ClientError> {
        let end = self.load.window.1;
        while now() < end {
            let mut sent = false;
            for lane in lanes.iter_mut() {
                if lane.shared.broken.load(SeqCst) {
                    return Ok(0);
                }
                if lane.partitions.is_empty() || !lane.has_slot(self.load.inflight) {
                    continue;
                }
                let t = now();
                for _ in 0..lane.partitions.len() {
                    let p = lane.partitions.get(lane.cursor).copied().unwrap_or(0) as usize;
                    while self.append(lane, p, t) {}
                    if lane.bytes + self.load.batch.min(self.load.request / 2) > self.load.request {
                        break;
                    }
                    lane.cursor = (lane.cursor + 1) % lane.partitions.len();
                }
                lane.cursor = (lane.cursor + 1) % lane.partitions.len();
                self.flush(lane)?;
                sent = true;
            }
            if !sent {
                waiting.store(true, SeqCst);
                if !lanes.iter().any(|l| l.has_slot(self.load.inflight)) {
                    thread::park_timeout(Duration::from_millis(5));
                }
            }
        }
        Ok(0)
    }
}

impl Lane {
    fn has_slot(&self, limit: usize) -> bool {
        self.shared.inflight.load(SeqCst) < limit
    }

    /// Shows the broker again who this is, if it is time and before `deadline`: once nothing is on its way.
    fn stay_known(&mut self, deadline: u64) -> Result<(), ClientError> {
        if !self.connection.has_to_login() {
            return Ok(());
        }
        while self.shared.inflight.load(SeqCst) > 0 {
            if self.shared.broken.load(SeqCst) || now() > deadline {
                return Ok(());
            }
            thread::sleep(Duration::from_micros(100));
        }
        self.connection.stay_known()
    }
}

/// The reading half of a lane.
struct Answers {
    wire: Arc<Wire>,
    /// To the connection, which asks for something itself when nothing of the run is on its way.
    logins: SyncSender<Bytes>,
    version: i16,
    shared: Arc<Shared>,
    size: u64,
    progress: Arc<Progress>,
}

impl Answers {
    fn read(self, window: (u64, u64)) -> Result<Tally, ClientError> {
        let mut tally = Tally::new(window);
        let done = self.all(&mut tally);
        self.shared.broken.store(true, SeqCst);
        self.shared.sender.unpark();
        done.map(|()| tally)
    }

    fn all(&self, tally: &mut Tally) -> Result<(), ClientError> {
        let broken = |what: String| ClientError::Broken { address: "the broker".to_owned(), what };
        loop {
            // The end of the stream is how a run ends; what is lost with it is in "unsent" and the error count.
            let Ok(body) = client::read_frame(&*self.wire) else {
                let mut queue = self.shared.queue.lock().unwrap_or_else(PoisonError::into_inner);
                let lost: u64 = queue.drain(..).map(|r| r.due.len() as u64).sum();
                if lost > 0 {
                    tally.fail(lost, corelane_protocol::ErrorCode::NetworkException.code());
                    self.progress.errors.fetch_add(lost, SeqCst);
                }
                return Ok(());
            };
            let done = now();
            let sent = self.shared.queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            let Some(sent) = sent else {
                self.logins.try_send(body).map_err(|_| broken("an answer to nothing".to_owned()))?;
                continue;
            };
            let (id, answer) = client::parse::<ProduceRequest>(body, self.version).map_err(broken)?;
            if id != sent.correlation {
                return Err(broken(format!("answer {id} out of order")));
            }
            self.shared.inflight.fetch_sub(1, SeqCst);
            if self.shared.waiting.swap(false, SeqCst) {
                self.shared.sender.unpark();
            }
            let failed: Vec<(i32, i16)> = answer
                .responses
                .iter()
                .flat_map(|t| &t.partition_responses)
                .filter(|p| p.error_code != 0)
                .map(|p| (p.index, p.error_code))
                .collect();
            let mut due = sent.due.as_slice();
            let mut acked = 0;
            for (partition, n) in sent.parts {
                let (mine, rest) = due.split_at(n.min(due.len()));
                due = rest;
                match failed.iter().find(|(p, _)| *p == partition) {
                    None => {
                        mine.iter().for_each(|d| tally.add(*d, done));
                        acked += n as u64;
                    }
                    Some((_, code)) => {
                        tally.fail(n as u64, *code);
                        self.progress.errors.fetch_add(n as u64, SeqCst);
                    }
                }
            }
            self.progress.acked.fetch_add(acked, SeqCst);
            self.progress.acked_bytes.fetch_add(acked * self.size, SeqCst);
            self.progress.latencies(sent.due.iter().map(|d| done.saturating_sub(*d)));
        }
    }
}

/// Asks the kernel to wake this thread on time instead of 50 microseconds late. Where it refuses, the run is less precise.
pub fn precise_sleep() {
    if let Ok(link) = std::fs::read_link("/proc/thread-self")
        && let Some(thread) = link.file_name().and_then(|n| n.to_str())
    {
        let _ = std::fs::write(format!("/proc/{thread}/timerslack_ns"), "1");
    }
}
