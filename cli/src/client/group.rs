//! Membership in a consumer group by the classic protocol: join, sync, heartbeats, leave; assignor `range`.

use super::admin::{commit, coordinator_key_type};
use super::connection::Connection;
use super::error::ClientError;
use super::routing::Cluster;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use corelane_protocol::messages::{
    HeartbeatRequest, JoinGroupRequest, JoinGroupRequestProtocol, LeaveGroupRequest, LeaveGroupRequestMemberIdentity,
    SyncGroupRequest, SyncGroupRequestAssignment,
};
use corelane_protocol::{ErrorCode, Str};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

const SESSION_MS: i32 = 45_000;
const REBALANCE_MS: i32 = 60_000;
const HEARTBEAT: Duration = Duration::from_secs(3);
const ASSIGNOR: &str = "range";
const PROTOCOL_TYPE: &str = "consumer";

/// A member of a group, and what it has been assigned.
pub struct Membership {
    connection: Connection,
    group: String,
    topics: Vec<String>,
    member: Str,
    generation: i32,
    pub assigned: BTreeMap<String, Vec<i32>>,
    next_heartbeat: Instant,
}

impl Membership {
    /// Joins and waits for the assignment.
    pub fn join(cluster: &mut Cluster, group: &str, topics: &[String]) -> Result<Membership, ClientError> {
        let node = cluster.coordinator(group, coordinator_key_type())?;
        let connection = cluster.dial(node)?;
        // An answer to JoinGroup may take as long as the slowest member.
        let patience = cluster.how.timeouts.answer + Duration::from_millis(REBALANCE_MS as u64);
        let lost = |error| ClientError::Lost { address: connection.address().to_owned(), error };
        connection.wire().set_read_timeout(Some(patience)).map_err(lost)?;
        let mut m = Membership {
            connection,
            group: group.to_owned(),
            topics: topics.to_vec(),
            member: Str::EMPTY,
            generation: -1,
            assigned: BTreeMap::new(),
            next_heartbeat: Instant::now(),
        };
        m.rejoin(cluster)?;
        Ok(m)
    }

    /// Joins (again) with the member id there is.
    pub fn rejoin(&mut self, cluster: &mut Cluster) -> Result<(), ClientError> {
        let until = Instant::now() + cluster.patience + Duration::from_millis(REBALANCE_MS as u64);
        loop {
            match self.join_once(cluster) {
                Ok(()) => {
                    self.next_heartbeat = Instant::now() + HEARTBEAT;
                    return Ok(());
                }
                Err(e) if Instant::now() < until => match e.code() {
                    // The id that the broker gave is in `self.member` now.
                    Some(ErrorCode::MemberIdRequired | ErrorCode::RebalanceInProgress) => {}
                    Some(ErrorCode::UnknownMemberId | ErrorCode::IllegalGeneration) => {
                        (self.member, self.generation) = (Str::EMPTY, -1);
                    }
                    Some(ErrorCode::CoordinatorLoadInProgress) => std::thread::sleep(Duration::from_millis(100)),
                    _ if e.is_retriable() => {
                        std::thread::sleep(Duration::from_millis(100));
                        self.reconnect(cluster)?;
                    }
                    _ => return Err(e),
                },
                Err(e) => return Err(e),
            }
        }
    }

    /// The coordinator has moved, or the connection to it broke.
    fn reconnect(&mut self, cluster: &mut Cluster) -> Result<(), ClientError> {
        let timeout = self.connection.wire().read_timeout();
        let group = self.group.clone();
        self.connection = cluster.retry(|c| {
            let node = c.coordinator(&group, coordinator_key_type())?;
            c.dial(node)
        })?;
        // A socket option of a fresh connection: if it fails, the default timeout stays.
        let _ = self.connection.wire().set_read_timeout(timeout);
        Ok(())
    }

    fn join_once(&mut self, cluster: &mut Cluster) -> Result<(), ClientError> {
        let what = format!("group {}", self.group);
        let group_id = Str::from(self.group.clone());
        let request = JoinGroupRequest {
            group_id: group_id.clone(),
            session_timeout_ms: SESSION_MS,
            rebalance_timeout_ms: REBALANCE_MS,
            member_id: self.member.clone(),
            protocol_type: Str::from_static(PROTOCOL_TYPE),
            protocols: vec![JoinGroupRequestProtocol {
                name: Str::from_static(ASSIGNOR),
                metadata: subscription(&self.topics),
                ..Default::default()
            }],
            ..Default::default()
        };
        let joined = self.connection.call(&request)?;
        if !joined.member_id.is_empty() {
            self.member = joined.member_id.detach();
        }
        ClientError::check(|| what.clone(), joined.error_code, None)?;
        self.generation = joined.generation_id;
        let mut assignments = Vec::new();
        if joined.leader == *self.member && !joined.skip_assignment {
            let members: BTreeMap<String, Vec<String>> =
                joined.members.iter().map(|m| (m.member_id.to_string(), subscribed(&m.metadata))).collect();
            for (member, assigned) in assign_ranges(&members, |topic| partition_count(cluster, topic))? {
                assignments.push(SyncGroupRequestAssignment {
                    member_id: Str::from(member),
                    assignment: encode_assignment(&assigned),
                    ..Default::default()
                });
            }
        }
        let request = SyncGroupRequest {
            group_id,
            generation_id: self.generation,
            member_id: self.member.clone(),
            protocol_type: Some(Str::from_static(PROTOCOL_TYPE)),
            protocol_name: Some(Str::from_static(ASSIGNOR)),
            assignments,
            ..Default::default()
        };
        let synced = self.connection.call(&request)?;
        ClientError::check(|| what.clone(), synced.error_code, None)?;
        self.assigned = decode_assignment(&synced.assignment)
            .ok_or_else(|| ClientError::Invalid(format!("{what}: an assignment that cannot be read")))?;
        Ok(())
    }

    /// Sends a heartbeat when it is time; `false`: the group rebalances, [`Membership::rejoin`].
    pub fn heartbeat(&mut self) -> Result<bool, ClientError> {
        if Instant::now() < self.next_heartbeat {
            return Ok(true);
        }
        self.next_heartbeat = Instant::now() + HEARTBEAT;
        let request = HeartbeatRequest {
            group_id: Str::from(self.group.clone()),
            generation_id: self.generation,
            member_id: self.member.clone(),
            ..Default::default()
        };
        let answer = match self.connection.call(&request) {
            Err(e) if e.is_retriable() => return Ok(false),
            other => other?,
        };
        match ClientError::check(|| format!("group {}", self.group), answer.error_code, None) {
            Err(e) if is_membership(&e) => Ok(false),
            other => other.map(|()| true),
        }
    }

    /// Commits the next offsets to read.
    pub fn commit(&mut self, offsets: &BTreeMap<(String, i32), i64>) -> Result<(), ClientError> {
        if offsets.is_empty() {
            return Ok(());
        }
        commit(&mut self.connection, &self.group, (self.generation, &self.member), offsets)
    }

    pub fn leave(mut self) -> Result<(), ClientError> {
        let batched = self.connection.version::<LeaveGroupRequest>()? >= 3;
        let identity = LeaveGroupRequestMemberIdentity { member_id: self.member.clone(), ..Default::default() };
        let request = LeaveGroupRequest {
            group_id: Str::from(self.group.clone()),
            member_id: if batched { Str::EMPTY } else { self.member.clone() },
            members: if batched { vec![identity] } else { Vec::new() },
            ..Default::default()
        };
        let answer = self.connection.call(&request)?;
        ClientError::check(|| format!("group {}", self.group), answer.error_code, None)
    }
}

/// The coordinator or the generation is another one now: joining again helps.
pub fn is_membership(e: &ClientError) -> bool {
    use ErrorCode as E;
    e.is_retriable()
        || matches!(
            e.code(),
            Some(E::RebalanceInProgress | E::IllegalGeneration | E::UnknownMemberId | E::NotCoordinator)
        )
}

fn partition_count(cluster: &mut Cluster, topic: &str) -> Result<usize, ClientError> {
    match cluster.topic(topic) {
        Ok(t) => Ok(t.partitions.len()),
        Err(ClientError::NoSuchTopic(_)) => Ok(0),
        Err(e) => Err(e),
    }
}

/// Kafka's range assignor: of each topic every subscriber, in the order of member ids, gets a run of partitions.
fn assign_ranges(
    members: &BTreeMap<String, Vec<String>>,
    mut partitions: impl FnMut(&str) -> Result<usize, ClientError>,
) -> Result<BTreeMap<String, BTreeMap<String, Vec<i32>>>, ClientError> {
    let mut all: BTreeMap<String, BTreeMap<String, Vec<i32>>> =
        members.keys().map(|m| (m.clone(), BTreeMap::new())).collect();
    let mut topics: Vec<&String> = members.values().flatten().collect();
    topics.sort();
    topics.dedup();
    for topic in topics {
        let count = partitions(topic)?;
        let subscribers: Vec<&String> = members.iter().filter(|(_, t)| t.contains(topic)).map(|(m, _)| m).collect();
        let (each, more) = (count / subscribers.len(), count % subscribers.len());
        let mut next = 0;
        for (i, member) in subscribers.into_iter().enumerate() {
            let take = each + usize::from(i < more);
            let run: Vec<i32> = (next..next + take).map(|p| p as i32).collect();
            next += take;
            if let Some(assigned) = all.get_mut(member).filter(|_| !run.is_empty()) {
                assigned.insert(topic.clone(), run);
            }
        }
    }
    Ok(all)
}

fn put_text(out: &mut BytesMut, text: &str) {
    out.put_i16(text.len() as i16);
    out.put_slice(text.as_bytes());
}

/// `ConsumerProtocolSubscription` version 0.
fn subscription(topics: &[String]) -> Bytes {
    let mut out = BytesMut::new();
    out.put_i16(0);
    out.put_i32(topics.len() as i32);
    for t in topics {
        put_text(&mut out, t);
    }
    out.put_i32(-1);
    out.freeze()
}

fn take_text(from: &mut Bytes) -> Option<String> {
    let length = usize::try_from(from.try_get_i16().ok()?).ok()?;
    (from.len() >= length).then(|| String::from_utf8_lossy(&from.split_to(length)).into_owned())
}

/// The topics of a member's subscription; none where it cannot be read.
fn subscribed(metadata: &Bytes) -> Vec<String> {
    let mut from = metadata.clone();
    let mut read = || {
        let _version = from.try_get_i16().ok()?;
        let count = from.try_get_i32().ok()?;
        (0..count).map(|_| take_text(&mut from)).collect::<Option<Vec<_>>>()
    };
    read().unwrap_or_default()
}

/// `ConsumerProtocolAssignment` version 0.
fn encode_assignment(assigned: &BTreeMap<String, Vec<i32>>) -> Bytes {
    let mut out = BytesMut::new();
    out.put_i16(0);
    out.put_i32(assigned.len() as i32);
    for (topic, partitions) in assigned {
        put_text(&mut out, topic);
        out.put_i32(partitions.len() as i32);
        for p in partitions {
            out.put_i32(*p);
        }
    }
    out.put_i32(-1);
    out.freeze()
}

/// The partitions by topic of an assignment of any version; empty bytes are an empty assignment.
pub fn decode_assignment(bytes: &Bytes) -> Option<BTreeMap<String, Vec<i32>>> {
    let mut from = bytes.clone();
    if from.is_empty() {
        return Some(BTreeMap::new());
    }
    let _version = from.try_get_i16().ok()?;
    let topics = from.try_get_i32().ok()?;
    let mut all = BTreeMap::new();
    for _ in 0..topics {
        let topic = take_text(&mut from)?;
        let count = from.try_get_i32().ok()?;
        let partitions = (0..count).map(|_| from.try_get_i32().ok()).collect::<Option<Vec<_>>>()?;
        all.insert(topic, partitions);
    }
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_those_of_kafka() {
        let members: BTreeMap<String, Vec<String>> =
            [("a".to_owned(), vec!["t".to_owned(), "u".to_owned()]), ("b".to_owned(), vec!["t".to_owned()])].into();
        let all = assign_ranges(&members, |t| Ok(if t == "t" { 3 } else { 1 })).unwrap();
        assert_eq!(all["a"]["t"], [0, 1]);
        assert_eq!(all["b"]["t"], [2]);
        assert_eq!(all["a"]["u"], [0]);
        assert!(!all["b"].contains_key("u"));
    }

    #[test]
    fn assignments_and_subscriptions_go_both_ways() {
        let assigned: BTreeMap<String, Vec<i32>> = [("t".to_owned(), vec![0, 2]), ("u".to_owned(), vec![])].into();
        let bytes = encode_assignment(&assigned);
        assert_eq!(decode_assignment(&bytes), Some(assigned));
        for cut in 1..bytes.len() - 4 {
            assert_eq!(decode_assignment(&bytes.slice(..cut)), None, "{cut}");
        }
        assert_eq!(decode_assignment(&Bytes::new()), Some(BTreeMap::new()));
        assert_eq!(subscribed(&subscription(&["x".to_owned(), "yy".to_owned()])), ["x", "yy"]);
        assert!(subscribed(&Bytes::from_static(&[0, 0, 0, 0, 0, 9])).is_empty());
    }
}
