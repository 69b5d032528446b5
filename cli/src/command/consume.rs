//! `corelane consume`: records out, one a line.

use super::{connect, interrupted};
use crate::args::Global;
use crate::client::fetch::{FetchOptions, Fetched, Fetchers, for_each_record, is_out_of_range};
use crate::client::group::{Membership, is_membership};
use crate::client::{ClientError, Cluster};
use crate::exit::Failure;
use crate::output::{Output, grouped, json_bytes};
use clap::{Args, ValueEnum};
use corelane_storage::record::Record;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

/// Read records of topics.
///
/// Without --group it reads the partitions it is told to, from where --from says, and commits nothing. With --group it is a member of
/// a consumer group: partitions are shared with the other members, it goes on where the group has got to, and --from only says
/// where to begin where the group has not committed anything.
#[derive(Debug, Args)]
pub struct ConsumeArgs {
    #[arg(required = true)]
    topics: Vec<String>,
    /// Where to begin: beginning, latest, an offset, -N for N before the end, or @MS for a time in ms since 1970
    #[arg(long, value_name = "WHERE", default_value = "latest", allow_hyphen_values = true)]
    from: From,
    /// End after this many records [default: go on]
    #[arg(long, short = 'n', value_name = "N")]
    count: Option<u64>,
    /// End when everything that is there now has been read
    #[arg(long, short = 'e')]
    exit_at_end: bool,
    /// Read only these partitions; repeatable [default: all]
    #[arg(long, short, value_name = "N", value_delimiter = ',', conflicts_with = "group")]
    partition: Vec<i32>,
    /// Read as a member of this consumer group, and commit what was read [default: no group]
    #[arg(long, short, value_name = "NAME")]
    group: Option<String>,
    /// How records are printed
    #[arg(long, short, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Print the key, then the separator, before the value (text)
    #[arg(long, short)]
    key: bool,
    /// Stands between key and value (text) [default: a tab]
    #[arg(long, value_name = "TEXT", default_value = "\t", hide_default_value = true)]
    key_separator: String,
    /// Print partition, offset and timestamp before the record (text)
    #[arg(long, short)]
    meta: bool,
    /// Only records of committed transactions
    #[arg(long)]
    read_committed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// The value, and a line end
    Text,
    /// One JSON object a line, with topic, partition, offset, timestamp, key, value and headers
    Json,
    /// The bytes of the value, nothing else
    Raw,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum From {
    Beginning,
    Latest,
    Offset(i64),
    BeforeEnd(i64),
    Time(i64),
}

impl FromStr for From {
    type Err = String;

    fn from_str(text: &str) -> Result<From, String> {
        let number = |t: &str| t.parse::<i64>().ok().filter(|n| *n >= 0);
        let parsed = match text {
            "beginning" | "earliest" => Some(From::Beginning),
            "latest" | "end" => Some(From::Latest),
            _ => match (text.strip_prefix('@'), text.strip_prefix('-')) {
                (Some(ms), _) => number(ms).map(From::Time),
                (None, Some(n)) => number(n).map(From::BeforeEnd),
                (None, None) => number(text).map(From::Offset),
            },
        };
        parsed.ok_or_else(|| "allowed: beginning, latest, an offset, -N (before the end), @MS (time)".to_owned())
    }
}

type Positions = BTreeMap<(String, i32), i64>;

pub fn run(args: &ConsumeArgs, options: &Global, out: &mut Output) -> Result<(), Failure> {
    let stop = interrupted()?;
    let format = if out.is_json() { Format::Json } else { args.format };
    let mut reader =
        Reader { args, format, out, stop: &stop, left: args.count.unwrap_or(u64::MAX), seen: 0, ends: None };
    if args.count == Some(0) {
        return Ok(());
    }
    let mut cluster = connect(options)?;
    match &args.group {
        Some(group) => reader.as_member(&mut cluster, group)?,
        None => reader.alone(&mut cluster)?,
    }
    let seen = reader.seen;
    if format == Format::Text && stop.load(Ordering::Relaxed) {
        eprintln!("{} records", grouped(seen));
    }
    Ok(())
}

/// Where to begin in every partition of a topic.
fn begin(cluster: &mut Cluster, topic: &str, partitions: Option<&[i32]>, from: From) -> Result<Positions, Failure> {
    let at = |c: &mut Cluster, timestamp: i64| c.offsets(topic, partitions, timestamp);
    let latest = at(cluster, -1)?;
    let found: BTreeMap<i32, i64> = match from {
        From::Latest => latest.iter().map(|(p, o)| (*p, o.0)).collect(),
        From::Beginning => at(cluster, -2)?.iter().map(|(p, o)| (*p, o.0)).collect(),
        From::Offset(n) => latest.keys().map(|p| (*p, n)).collect(),
        From::BeforeEnd(n) => {
            let earliest = at(cluster, -2)?;
            let start = |p: &i32| earliest.get(p).map_or(0, |o| o.0);
            latest.iter().map(|(p, o)| (*p, o.0.saturating_sub(n).max(start(p)))).collect()
        }
        From::Time(ms) => {
            let times = at(cluster, ms)?;
            // -1: nothing that late, so from the end on.
            latest.iter().map(|(p, o)| (*p, times.get(p).map(|t| t.0).filter(|n| *n >= 0).unwrap_or(o.0))).collect()
        }
    };
    Ok(found.into_iter().map(|(p, o)| ((topic.to_owned(), p), o)).collect())
}

struct Reader<'a> {
    args: &'a ConsumeArgs,
    format: Format,
    out: &'a mut Output,
    stop: &'a AtomicBool,
    left: u64,
    seen: u64,
    /// With `--exit-at-end`: where each partition ended at the beginning.
    ends: Option<Positions>,
}

impl Reader<'_> {
    fn fetch_options(&self) -> FetchOptions {
        FetchOptions { read_committed: self.args.read_committed, ..Default::default() }
    }

    fn stopped(&self, positions: &Positions) -> bool {
        let at_end = |ends: &Positions| ends.iter().all(|(k, end)| positions.get(k).is_none_or(|p| p >= end));
        self.left == 0 || self.stop.load(Ordering::Relaxed) || self.ends.as_ref().is_some_and(at_end)
    }

    /// Notes the ends of partitions that are not known yet.
    fn note_ends(&mut self, cluster: &mut Cluster, positions: &Positions) -> Result<(), Failure> {
        if !self.args.exit_at_end {
            return Ok(());
        }
        let mut ends = self.ends.take().unwrap_or_default();
        for topic in &self.args.topics {
            let wanted: Vec<i32> = positions.keys().filter(|(t, _)| t == topic).map(|(_, p)| *p).collect();
            for (p, (end, _)) in cluster.offsets(topic, Some(&wanted), -1)? {
                ends.entry((topic.clone(), p)).or_insert(end);
            }
        }
        self.ends = Some(ends);
        Ok(())
    }

    fn alone(&mut self, cluster: &mut Cluster) -> Result<(), Failure> {
        let only = (!self.args.partition.is_empty()).then_some(self.args.partition.as_slice());
        let mut positions = Positions::new();
        for topic in &self.args.topics {
            positions.extend(begin(cluster, topic, only, self.args.from)?);
        }
        self.note_ends(cluster, &positions)?;
        while !self.stopped(&positions) {
            let options = self.fetch_options();
            let fetchers = cluster.retry(|c| Fetchers::start(c, &positions, &options))?;
            self.drain(&fetchers, &mut positions, |_| Ok(true))?;
            drop(fetchers);
            cluster.forget();
        }
        Ok(())
    }

    /// Prints what comes until it is time to stop, `each_turn` says to, or a fetcher ends.
    fn drain(
        &mut self,
        fetchers: &Fetchers,
        positions: &mut Positions,
        mut each_turn: impl FnMut(&Positions) -> Result<bool, Failure>,
    ) -> Result<(), Failure> {
        while !self.stopped(positions) {
            if !each_turn(positions)? {
                return Ok(());
            }
            let next = match fetchers.events.try_recv() {
                Ok(event) => Ok(event),
                Err(_) => {
                    // Nothing waits: whoever reads our output should see what there is.
                    self.out.flush()?;
                    fetchers.events.recv_timeout(Duration::from_millis(100))
                }
            };
            match next {
                Ok(Fetched::Records { topic, partition, from, bytes, .. }) => {
                    let end = self.print(&topic, partition, from, &bytes)?;
                    if let Some(p) = positions.get_mut(&(topic.to_string(), partition)) {
                        *p = end.max(*p);
                    }
                }
                Ok(Fetched::Ended { error }) if is_transient(&error) => {
                    std::thread::sleep(Duration::from_millis(50));
                    return Ok(());
                }
                Ok(Fetched::Ended { error }) => {
                    let hint =
                        if is_out_of_range(&error) { "; --from beginning starts at the first offset" } else { "" };
                    let failure = Failure::from(error);
                    return Err(Failure::new(failure.exit, failure.message + hint));
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
        }
        Ok(())
    }

    /// Prints the records of `bytes` from offset `from` on; returns the offset after the last one that counts as read.
    fn print(&mut self, topic: &str, partition: i32, from: i64, bytes: &bytes::Bytes) -> Result<i64, Failure> {
        let mut next = from;
        let mut failed = None;
        for_each_record(bytes, from, |_, record| {
            if self.left == 0 {
                return false;
            }
            next = record.offset.0 + 1;
            self.left -= 1;
            self.seen += 1;
            if let Err(e) = self.one(topic, partition, &record) {
                failed = Some(e);
                return false;
            }
            true
        })?;
        // Markers and aborted or compacted records move the position too.
        if self.left > 0 {
            next = crate::client::fetch::end_of(bytes).unwrap_or(next).max(next);
        }
        match failed {
            Some(e) => Err(e),
            None => Ok(next),
        }
    }

    fn one(&mut self, topic: &str, partition: i32, r: &Record) -> Result<(), Failure> {
        match self.format {
            Format::Raw => self.out.bytes(r.value.as_deref().unwrap_or_default()),
            Format::Json => {
                let mut headers: Vec<Value> = Vec::new();
                for (name, value) in r.headers.iter() {
                    headers.push(json!([String::from_utf8_lossy(&name), json_bytes(value.as_deref())]));
                }
                let mut object = Map::new();
                object.insert("topic".into(), topic.into());
                object.insert("partition".into(), partition.into());
                object.insert("offset".into(), r.offset.0.into());
                object.insert("timestamp".into(), r.timestamp.into());
                object.insert("key".into(), json_bytes(r.key.as_deref()));
                object.insert("value".into(), json_bytes(r.value.as_deref()));
                object.insert("headers".into(), headers.into());
                self.out.json(&Value::Object(object))
            }
            Format::Text => {
                if self.args.meta {
                    let meta = format!("{topic}-{partition}\t{}\t{}\t", r.offset.0, r.timestamp);
                    self.out.bytes(meta.as_bytes())?;
                }
                if self.args.key {
                    self.out.bytes(r.key.as_deref().unwrap_or(b"null"))?;
                    self.out.bytes(self.args.key_separator.as_bytes())?;
                }
                self.out.bytes(r.value.as_deref().unwrap_or(b"null"))?;
                self.out.bytes(b"\n")
            }
        }
    }

    fn as_member(&mut self, cluster: &mut Cluster, group: &str) -> Result<(), Failure> {
        for topic in &self.args.topics {
            cluster.retry(|c| c.topic(topic))?;
        }
        let mut member = Membership::join(cluster, group, &self.args.topics)?;
        let mut all = Positions::new();
        while !self.stopped(&all) {
            all = self.assigned(cluster, group, &member.assigned)?;
            self.note_ends(cluster, &all)?;
            let mut committed = all.clone();
            let options = self.fetch_options();
            let fetchers = cluster.retry(|c| Fetchers::start(c, &all, &options))?;
            let mut next_commit = Instant::now() + Duration::from_secs(5);
            let mut rebalance = false;
            self.drain(&fetchers, &mut all, |positions| {
                if Instant::now() >= next_commit {
                    next_commit = Instant::now() + Duration::from_secs(5);
                    match member.commit(&changed(positions, &committed)) {
                        Ok(()) => committed.clone_from(positions),
                        Err(e) if is_membership(&e) => rebalance = true,
                        Err(e) => return Err(e.into()),
                    }
                }
                rebalance = rebalance || !member.heartbeat()?;
                Ok(!rebalance)
            })?;
            drop(fetchers);
            // Where the group has moved on, what cannot be committed is read again by whoever gets the partition.
            match member.commit(&changed(&all, &committed)) {
                Err(e) if is_membership(&e) => rebalance = true,
                other => other?,
            }
            cluster.forget();
            if rebalance {
                member.rejoin(cluster)?;
            }
        }
        self.out.flush()?;
        Ok(member.leave()?)
    }

    /// Where to go on in the assigned partitions.
    fn assigned(
        &self,
        cluster: &mut Cluster,
        group: &str,
        assigned: &BTreeMap<String, Vec<i32>>,
    ) -> Result<Positions, Failure> {
        let committed = cluster.committed(group)?;
        let mut all = Positions::new();
        for (topic, partitions) in assigned {
            let fresh: Vec<i32> =
                partitions.iter().copied().filter(|p| !committed.contains_key(&(topic.clone(), *p))).collect();
            if !fresh.is_empty() {
                all.extend(begin(cluster, topic, Some(&fresh), self.args.from)?);
            }
            for p in partitions {
                if let Some((offset, _)) = committed.get(&(topic.clone(), *p)) {
                    all.insert((topic.clone(), *p), *offset);
                }
            }
        }
        Ok(all)
    }
}

/// What has moved since the last commit.
fn changed(now: &Positions, committed: &Positions) -> Positions {
    now.iter().filter(|(k, v)| committed.get(*k) != Some(*v)).map(|(k, v)| (k.clone(), *v)).collect()
}

/// A leader that has moved, or a connection that broke: look for the leaders again.
fn is_transient(e: &ClientError) -> bool {
    e.is_retriable() && !is_out_of_range(e)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_to_begin() {
        for (text, from) in [
            ("beginning", From::Beginning),
            ("latest", From::Latest),
            ("0", From::Offset(0)),
            ("-5", From::BeforeEnd(5)),
            ("@1700000000000", From::Time(1_700_000_000_000)),
        ] {
            assert_eq!(text.parse(), Ok(from));
        }
        for text in ["", "x", "@", "--5", "@-1"] {
            assert!(text.parse::<From>().is_err(), "{text}");
        }
    }
}
