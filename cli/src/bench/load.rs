//! What a producing run sends, and to whom.

use crate::client::{Acks, ClientError, Cluster, Connection, Topic};
use corelane_protocol::Uuid;
use corelane_storage::record::Compression;

/// The whole description of a producing run; times are nanoseconds on the run's clock.
#[derive(Clone, Debug)]
pub struct Load {
    pub topic: String,
    /// Bytes of a value.
    pub size: usize,
    /// Messages a second of all senders together; `None`: as fast as they can.
    pub rate: Option<f64>,
    /// Bytes of a batch before it is closed.
    pub batch: usize,
    /// Bytes of a request before it is sent.
    pub request: usize,
    pub linger: u64,
    /// Requests under way on one connection.
    pub inflight: usize,
    pub acks: Acks,
    pub compression: Compression,
    /// Each message to the next partition; otherwise a whole flush goes to one.
    pub keyed: bool,
    pub idempotent: bool,
    pub senders: usize,
    pub start: u64,
    /// What is measured.
    pub window: (u64, u64),
    /// When to give up on what is still unsent.
    pub deadline: u64,
}

/// Where a topic's partitions live: one lane for each leader.
#[derive(Clone, Debug)]
pub struct Lanes {
    pub topic_id: Uuid,
    /// Broker ids.
    pub leaders: Vec<i32>,
    /// By partition: which lane.
    pub lane_of: Vec<usize>,
}

impl Lanes {
    pub fn find(cluster: &mut Cluster, topic: &str) -> Result<Lanes, ClientError> {
        let found: Topic = cluster.retry(|c| {
            c.by_leader(topic, None)?;
            c.topic(topic)
        })?;
        let mut leaders: Vec<i32> = found.partitions.iter().filter_map(|p| p.leader).collect();
        leaders.sort_unstable();
        leaders.dedup();
        let lane = |leader: Option<i32>| leader.and_then(|l| leaders.binary_search(&l).ok()).unwrap_or(0);
        let lane_of = found.partitions.iter().map(|p| lane(p.leader)).collect();
        Ok(Lanes { topic_id: found.id, leaders, lane_of })
    }

    /// The partitions of a lane.
    pub fn of(&self, lane: usize) -> Vec<i32> {
        self.lane_of.iter().enumerate().filter(|(_, l)| **l == lane).map(|(p, _)| p as i32).collect()
    }

    pub fn dial(&self, cluster: &Cluster, lane: usize) -> Result<Connection, ClientError> {
        let leader = self.leaders.get(lane).copied().unwrap_or(-1);
        cluster.dial(leader)
    }
}

/// What values are cut from: noise, or log lines that compress about four to one.
pub fn payload(text: bool, size: usize) -> Vec<u8> {
    let mut x = 0x9E37_79B9_7F4A_7C15u64;
    let mut next = move || {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        x
    };
    let length = size * 2 + (1 << 20);
    let mut out = Vec::with_capacity(length + 256);
    while out.len() < length {
        if text {
            let line = format!(
                r#"{{"ts":17952{:08},"level":"INFO","host":"web-{:02}","path":"/api/v1/items/{}","status":200,"us":{}}}"#,
                next() % 100_000_000,
                next() % 40,
                next() % 100_000,
                next() % 10_000
            );
            out.extend_from_slice(line.as_bytes());
        } else {
            out.extend_from_slice(&next().to_le_bytes());
        }
    }
    out
}
