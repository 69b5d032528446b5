//! Consumers of a run: one thread for each consumer and leader, long polls over an incremental fetch session.

use super::load::Lanes;
use super::progress::Progress;
use super::sender::precise_sleep;
use super::stats::{Tally, now, sleep_until};
use crate::client::{ClientError, Cluster, Connection};
use bytes::Bytes;
use corelane_protocol::messages::{FetchRequest, FetchRequestFetchPartition, FetchRequestFetchTopic};
use corelane_protocol::{ErrorCode, Records, Str};
use corelane_storage::record::{Batches, RecordIter};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::thread::{self, JoinHandle};

#[derive(Clone, Debug)]
pub struct Want {
    pub topic: String,
    pub consumers: usize,
    pub max_bytes: i32,
    pub partition_bytes: i32,
    pub max_wait_ms: i32,
    /// Read what is there from the start and end at its end, counting records by their batches; otherwise follow the producers.
    pub to_end: bool,
    /// Records a second of one thread at most.
    pub rate: Option<f64>,
    pub window: (u64, u64),
}

type Thread = JoinHandle<Result<Tally, ClientError>>;

/// Starts the consumers. All of them know where they begin when this returns.
pub fn start(
    want: &Want,
    cluster: &mut Cluster,
    lanes: &Lanes,
    progress: &Arc<Progress>,
) -> Result<Vec<Thread>, ClientError> {
    let ends = cluster.offsets(&want.topic, None, -1)?;
    let begins = if want.to_end { cluster.offsets(&want.topic, None, -2)? } else { ends.clone() };
    let mut threads = Vec::new();
    for lane in 0..lanes.leaders.len() {
        for c in 0..want.consumers {
            let mine: Vec<i32> = lanes.of(lane).into_iter().skip(c).step_by(want.consumers).collect();
            if mine.is_empty() {
                continue;
            }
            let of = |all: &BTreeMap<i32, (i64, i64)>, p: &i32| all.get(p).map_or(0, |o| o.0);
            let consumer = Consumer {
                connection: lanes.dial(cluster, lane)?,
                want: want.clone(),
                topic_id: lanes.topic_id,
                at: mine.iter().map(|p| (*p, of(&begins, p))).collect(),
                end: mine.iter().map(|p| (*p, of(&ends, p))).collect(),
                progress: progress.clone(),
            };
            threads.push(thread::spawn(move || consumer.run()));
        }
    }
    Ok(threads)
}

struct Consumer {
    connection: Connection,
    want: Want,
    topic_id: corelane_protocol::Uuid,
    at: BTreeMap<i32, i64>,
    end: BTreeMap<i32, i64>,
    progress: Arc<Progress>,
}

impl Consumer {
    fn run(mut self) -> Result<Tally, ClientError> {
        precise_sleep();
        let mut tally = Tally::new(self.want.window);
        let version = self.connection.version::<FetchRequest>()?;
        let (mut session, mut epoch) = (0, 0);
        let mut changed: Vec<i32> = self.at.keys().copied().collect();
        let (started, mut read) = (now(), 0u64);
        while !(self.progress.stop.load(SeqCst) || self.want.to_end && self.at_end()) {
            if session == 0 {
                changed = self.at.keys().copied().collect();
            }
            let request = self.request(session, epoch, &std::mem::take(&mut changed));
            let answer = self.connection.call_up_to(&request, version)?;
            let got = now();
            let lost = [ErrorCode::FetchSessionIdNotFound.code(), ErrorCode::InvalidFetchSessionEpoch.code()];
            if lost.contains(&answer.error_code) {
                (session, epoch) = (0, 0);
                continue;
            }
            ClientError::check(|| "fetch".to_owned(), answer.error_code, None)?;
            session = answer.session_id;
            epoch = if session == 0 { 0 } else { epoch + 1 };
            self.progress.fetches.fetch_add(1, SeqCst);
            for p in answer.responses.iter().flat_map(|t| &t.partitions) {
                if p.error_code != 0 {
                    tally.fail(1, p.error_code);
                    self.progress.errors.fetch_add(1, SeqCst);
                    changed.push(p.partition_index);
                    continue;
                }
                let Some(bytes) = p.records.clone().map(Records::into_bytes).filter(|b| !b.is_empty()) else {
                    continue;
                };
                let (next, records) = self.read(&bytes, got, &mut tally)?;
                read += records;
                self.progress.consumed.fetch_add(records, SeqCst);
                self.progress.consumed_bytes.fetch_add(bytes.len() as u64, SeqCst);
                if let (Some(next), Some(offset)) = (next, self.at.get_mut(&p.partition_index)) {
                    *offset = next;
                    changed.push(p.partition_index);
                }
            }
            if let Some(rate) = self.want.rate {
                sleep_until(started + (read as f64 / rate * 1e9) as u64);
            }
        }
        Ok(tally)
    }

    fn at_end(&self) -> bool {
        self.at.iter().all(|(p, o)| self.end.get(p).is_none_or(|end| o >= end))
    }

    /// The offset after the last whole batch, and the number of records.
    fn read(&self, bytes: &Bytes, got: u64, tally: &mut Tally) -> Result<(Option<i64>, u64), ClientError> {
        let broken = |what: String| ClientError::Invalid(format!("a record batch that cannot be read: {what}"));
        let (mut next, mut records, mut latencies) = (None, 0, Vec::new());
        // The last batch may be cut short.
        for (header, batch) in Batches::new(bytes.clone()).map_while(Result::ok) {
            next = Some(header.next_offset().0);
            if header.is_control() {
                continue;
            }
            records += header.count.max(0) as u64;
            if self.want.to_end {
                continue;
            }
            header.verify_crc(&batch).map_err(|e| broken(e.to_string()))?;
            for record in RecordIter::new(&batch, 1 << 30).map_err(|e| broken(e.to_string()))? {
                let record = record.map_err(|e| broken(e.to_string()))?;
                if let Some(due) = record.value.as_ref().and_then(|v| v.first_chunk::<8>()) {
                    let due = u64::from_le_bytes(*due);
                    tally.add(due, got);
                    latencies.push(got.saturating_sub(due));
                }
            }
        }
        if !latencies.is_empty() {
            self.progress.latencies(latencies.into_iter());
        }
        Ok((next, records))
    }

    fn request(&self, session: i32, epoch: i32, changed: &[i32]) -> FetchRequest {
        let partitions: Vec<FetchRequestFetchPartition> = changed
            .iter()
            .filter_map(|p| {
                Some(FetchRequestFetchPartition {
                    partition: *p,
                    current_leader_epoch: -1,
                    fetch_offset: *self.at.get(p)?,
                    partition_max_bytes: self.want.partition_bytes,
                    ..Default::default()
                })
            })
            .collect();
        let topic = FetchRequestFetchTopic {
            topic: Str::from(self.want.topic.clone()),
            topic_id: self.topic_id,
            partitions,
            ..Default::default()
        };
        FetchRequest {
            max_wait_ms: self.want.max_wait_ms,
            min_bytes: 1,
            max_bytes: self.want.max_bytes,
            session_id: session,
            session_epoch: epoch,
            topics: if topic.partitions.is_empty() { Vec::new() } else { vec![topic] },
            ..Default::default()
        }
    }
}
