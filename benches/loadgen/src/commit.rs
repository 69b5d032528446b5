//! Offset commits of many groups at a rate, over a few connections.

use crate::produce::Load;
use crate::stats::{Tally, now, sleep_until};
use crate::wire::{Conn, frame, name, parse, pick, read_frame};

use anyhow::{Result, bail};
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::{GroupId, OffsetCommitRequest};
use kafka_protocol::protocol::StrBytes;
use std::io::Write;
use std::thread;

/// The newest version that names topics instead of their ids.
const VERSION: i16 = 9;
/// Commits that are due are sent so often.
const TICK_NS: u64 = 500_000;

/// Each of `groups` in turn commits an offset of one of the topic's `partitions`. Latencies count from when a commit was due.
pub fn run(bootstrap: &str, load: &Load, groups: u64, partitions: u64, connections: usize) -> Result<Tally> {
    let rate = load.rate.unwrap_or(1000.0);
    let (start, end) = (load.start, load.window.1);
    let due = move |n: u64| start + (n as f64 * 1e9 / rate) as u64;
    let total = ((end - start) as f64 * rate / 1e9) as u64;
    let open: Vec<Conn> = (0..connections).map(|_| Conn::open_any(bootstrap)).collect::<Result<_>>()?;
    let version = open.first().map_or(VERSION, |conn| pick::<OffsetCommitRequest>(&conn.versions, VERSION));
    let readers: Vec<_> = (0..)
        .zip(&open)
        .map(|(k, conn)| {
            let (stream, mut tally) = (conn.stream.clone(), Tally::new(load.window));
            thread::spawn(move || {
                for n in (k..total).step_by(connections) {
                    let (id, answer) = parse::<OffsetCommitRequest>(read_frame(&stream)?, version)?;
                    if id as u64 != n {
                        bail!("correlation {id}, expected {n}");
                    }
                    match answer.topics.iter().flat_map(|t| &t.partitions).find(|p| p.error_code != 0) {
                        Some(p) => tally.fail(1, p.error_code),
                        None => tally.add(due(n), now()),
                    }
                }
                Ok(tally)
            })
        })
        .collect();
    let (mut n, mut waiting) = (0, vec![Vec::new(); connections]);
    while n < total {
        while n < total && due(n) <= now() {
            let partition = OffsetCommitRequestPartition::default()
                .with_partition_index((n % partitions) as i32)
                .with_committed_offset(n as i64);
            let topic =
                OffsetCommitRequestTopic::default().with_name(name(&load.topic)).with_partitions(vec![partition]);
            let group = StrBytes::from_string(format!("group-{}", n % groups));
            let request = OffsetCommitRequest::default().with_group_id(GroupId(group)).with_topics(vec![topic]);
            waiting[n as usize % connections].extend_from_slice(&frame(&request, version, n as i32)?);
            n += 1;
        }
        for (conn, bytes) in open.iter().zip(&mut waiting).filter(|(_, bytes)| !bytes.is_empty()) {
            (&conn.stream).write_all(bytes)?;
            bytes.clear();
        }
        sleep_until(now() + TICK_NS);
    }
    let mut all = Tally::new(load.window);
    for reader in readers {
        all.merge(&reader.join().expect("reader")?);
    }
    Ok(all)
}
