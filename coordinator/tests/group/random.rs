//! Random clients, crashes, restarts and failing writes against what must always hold.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use corelane_coordinator::Now;
use corelane_coordinator::group::*;
use corelane_protocol::ErrorCode;
use corelane_protocol::messages::*;
use corelane_protocol::record_frame::CoordinatorKey;
use corelane_protocol::records::group::GroupMetadataKey;
use corelane_protocol::{Decoder, Message, Str, Uuid};
use proptest::prelude::*;

use crate::harness::{subscription, topic_id};

const GROUPS: [&str; 2] = ["g0", "g1"];
const CLIENTS: usize = 8;
const SESSION_MS: i32 = 10_000;
const REBALANCE_MS: i32 = 20_000;
/// No answer takes longer once writes end: the initial delay and its extensions, or a rebalance that is begun again once,
/// and the session of whoever holds it up. A write that never ends is not the machine's to bound.
const LONGEST_WAIT_MS: i64 = 100_000;

#[derive(Clone, Debug)]
enum Step {
    /// All clients of a group do what it takes to have a stable group, if nothing is in their way.
    Gather(usize),
    Pause,
    Join(usize),
    /// Joins as a process that was started anew: without its member id.
    Restarted(usize),
    Subscribe(usize, u8),
    Sync(usize),
    Heartbeat(usize),
    Leave(usize),
    Remove(usize),
    /// The client forgets everything and is not heard of again.
    Crash(usize),
    Commit(usize, u8),
    CommitAlone(usize, u8),
    Fetch(usize),
    DeleteOffset(usize, u8),
    DeleteGroup(usize),
    TopicDeleted(u8),
    Advance(u16),
    WritesEnd,
    WriteEnds,
    WritesFail(bool),
    Failover,
}

fn step() -> impl Strategy<Value = Step> {
    let who = 0..CLIENTS;
    prop_oneof![
        6 => (0..GROUPS.len()).prop_map(Step::Gather),
        2 => Just(Step::Pause),
        10 => who.clone().prop_map(Step::Join),
        5 => who.clone().prop_map(Step::Restarted),
        1 => (who.clone(), 0u8..3).prop_map(|(who, what)| Step::Subscribe(who, what)),
        10 => who.clone().prop_map(Step::Sync),
        6 => who.clone().prop_map(Step::Heartbeat),
        2 => who.clone().prop_map(Step::Leave),
        1 => who.clone().prop_map(Step::Remove),
        1 => who.clone().prop_map(Step::Crash),
        4 => (who.clone(), 0u8..4).prop_map(|(who, what)| Step::Commit(who, what)),
        1 => (who.clone(), 0u8..4).prop_map(|(who, what)| Step::CommitAlone(who, what)),
        3 => who.clone().prop_map(Step::Fetch),
        1 => (who.clone(), 0u8..4).prop_map(|(who, what)| Step::DeleteOffset(who, what)),
        1 => (0..GROUPS.len()).prop_map(Step::DeleteGroup),
        1 => (0u8..4).prop_map(Step::TopicDeleted),
        8 => (0u16..12_000).prop_map(Step::Advance),
        8 => Just(Step::WritesEnd),
        4 => Just(Step::WriteEnds),
        1 => any::<bool>().prop_map(Step::WritesFail),
        1 => Just(Step::Failover),
    ]
}

#[derive(Clone, Debug, Default)]
struct Peer {
    group: usize,
    instance_id: Option<Str>,
    member_id: Str,
    generation: i32,
    topic: u8,
    /// What it has to assign, as the leader of its generation.
    to_assign: Option<Vec<JoinGroupResponseMember>>,
}

#[derive(Debug)]
enum Asked {
    Join(usize),
    Sync(usize, i32),
    Other,
}

struct World {
    machine: GroupCoordinator,
    config: GroupConfig,
    now: Now,
    peers: Vec<Peer>,
    waiting: BTreeMap<WaitToken, Asked>,
    under_way: VecDeque<Write>,
    log: Vec<corelane_coordinator::CoordinatorRecord>,
    random: u128,
    /// Which group of a name it is, counted by its tombstones.
    lives: [u32; GROUPS.len()],
    /// Leader and protocol that were told of each generation.
    told: BTreeMap<(usize, u32, i32), (Str, Option<Str>)>,
    leaders: BTreeMap<(usize, u32, i32), BTreeSet<Str>>,
    /// Groups with a generation that could not be stored: it counts all the same, and the next one is stored again.
    ahead_of_log: BTreeMap<usize, WriteId>,
}

/// The group that a record describes, unless it is about an offset.
fn described(record: &corelane_coordinator::CoordinatorRecord) -> Option<usize> {
    let key = |group: &str| GroupMetadataKey { group: Str::from(group.to_owned()) }.to_key_bytes().unwrap();
    GROUPS.iter().position(|group| record.key == key(group))
}

fn name_of(member_id: &Str, instance_id: &Option<Str>) -> String {
    instance_id.clone().unwrap_or_else(|| member_id.clone()).to_string()
}

impl World {
    fn new() -> World {
        let config = GroupConfig {
            max_size: 5,
            offsets_retention_ms: 60_000,
            offsets_retention_check_interval_ms: 15_000,
            ..Default::default()
        };
        let now = Now { mono_ms: 0, wall_ms: 1_000_000 };
        let mut machine = GroupCoordinator::new(config.clone());
        machine.finish_loading(now);
        let peers = (0..CLIENTS).map(|index| Peer {
            group: index % GROUPS.len(),
            instance_id: (index % 4 == 3).then(|| Str::from(format!("instance-{index}"))),
            ..Default::default()
        });
        World {
            machine,
            config,
            now,
            peers: peers.collect(),
            waiting: BTreeMap::new(),
            under_way: VecDeque::new(),
            log: Vec::new(),
            random: 7,
            lives: [0; GROUPS.len()],
            told: BTreeMap::new(),
            leaders: BTreeMap::new(),
            ahead_of_log: BTreeMap::new(),
        }
    }

    fn context(&mut self, api_version: i16) -> RequestContext {
        self.random = self.random.wrapping_mul(0xd129_0b26_ecb1_6a5b_d129_0b26_ecb1_6a5b).wrapping_add(1);
        RequestContext {
            client_id: Str::from("app"),
            client_host: Str::from("/127.0.0.1"),
            api_version,
            random: self.random,
        }
    }

    fn absorb(&mut self, effects: Effects) {
        for write in effects.writes {
            for record in write.records.iter().filter(|record| record.value.is_none()) {
                if let Some(group) = described(record) {
                    self.lives[group] += 1;
                }
            }
            self.under_way.push_back(write);
        }
        for completed in effects.completed {
            let asked = self.waiting.remove(&completed.token).expect("an answer that nobody waits for");
            match (asked, completed.response) {
                (Asked::Join(who), Response::Join(response)) => self.joined(who, response),
                (Asked::Sync(who, generation), Response::Sync(response)) => self.synced(who, generation, response),
                (Asked::Other, _) => {}
                (asked, response) => panic!("{asked:?} was answered {response:?}"),
            }
        }
    }

    fn outcome<R>(&mut self, outcome: Outcome<R>, asked: Asked) -> Option<(R, Asked)> {
        match outcome.reply {
            Reply::Now(response) => {
                self.absorb(outcome.effects);
                Some((response, asked))
            }
            Reply::Later(token) => {
                assert!(self.waiting.insert(token, asked).is_none());
                self.absorb(outcome.effects);
                None
            }
        }
    }

    fn joined(&mut self, who: usize, response: JoinGroupResponse) {
        let peer = &mut self.peers[who];
        match ErrorCode::from(response.error_code) {
            ErrorCode::None => {}
            ErrorCode::MemberIdRequired => {
                peer.member_id = response.member_id;
                return;
            }
            ErrorCode::UnknownMemberId | ErrorCode::FencedInstanceId => {
                peer.member_id = Str::EMPTY;
                return;
            }
            _ => return,
        }
        peer.member_id = response.member_id.clone();
        peer.generation = response.generation_id;
        let leads = response.leader == response.member_id;
        peer.to_assign = (leads && !response.skip_assignment).then(|| response.members.clone());
        assert!(leads || response.members.is_empty(), "a follower learned of the members");
        if leads {
            assert!(response.members.iter().any(|member| member.member_id == response.member_id));
            assert!(response.members.len() <= self.config.max_size);
            let topic_of = |member: &JoinGroupResponseMember| !member.metadata.is_empty();
            assert!(response.members.iter().all(topic_of));
        }
        let key = (peer.group, self.lives[peer.group], response.generation_id);
        let instance = peer.instance_id.clone();
        let (leader, protocol) =
            self.told.entry(key).or_insert_with(|| (response.leader.clone(), response.protocol_name.clone()));
        assert_eq!(*protocol, response.protocol_name, "two protocols in one generation");
        if *leader != response.leader {
            // Only a static leader that came back changes its id within a generation.
            assert!(response.leader.starts_with("instance-") && leader.starts_with("instance-"), "two leaders");
            assert_eq!(&response.leader[.."instance-0".len()], &leader[.."instance-0".len()]);
            *leader = response.leader.clone();
        }
        if leads {
            let leaders = self.leaders.entry(key).or_default();
            leaders.insert(Str::from(name_of(&response.member_id, &instance)));
            assert_eq!(leaders.len(), 1, "two leaders in one generation");
        }
    }

    fn synced(&mut self, who: usize, generation: i32, response: SyncGroupResponse) {
        if response.error_code != 0 {
            return;
        }
        let peer = &self.peers[who];
        let expected = format!("{generation}:{}", name_of(&peer.member_id, &peer.instance_id));
        let assignment = std::str::from_utf8(&response.assignment).unwrap();
        assert!(assignment == expected || assignment.is_empty(), "{assignment} instead of {expected}");
    }

    fn join(&mut self, who: usize) {
        // A client asks one thing at a time.
        if self
            .waiting
            .values()
            .any(|asked| matches!(asked, Asked::Join(other) | Asked::Sync(other, _) if *other == who))
        {
            return;
        }
        let peer = self.peers[who].clone();
        let metadata = subscription(&[["orders", "payments", "users"][usize::from(peer.topic)]]);
        let mut names = ["range", "sticky"];
        names.rotate_left(who % 2);
        let request = JoinGroupRequest {
            group_id: Str::from(GROUPS[peer.group]),
            session_timeout_ms: SESSION_MS,
            rebalance_timeout_ms: REBALANCE_MS,
            member_id: peer.member_id,
            group_instance_id: peer.instance_id,
            protocol_type: Str::from("consumer"),
            protocols: names
                .iter()
                .map(|name| JoinGroupRequestProtocol {
                    name: Str::from(*name),
                    metadata: metadata.clone(),
                    ..Default::default()
                })
                .collect(),
            ..Default::default()
        };
        let context = self.context([9, 9, 4, 8][who % 4]);
        let outcome = self.machine.join_group(self.now, &context, &request);
        if let Some((response, _)) = self.outcome(outcome, Asked::Join(who)) {
            let again = ErrorCode::from(response.error_code) == ErrorCode::MemberIdRequired;
            self.joined(who, response);
            if again && who.is_multiple_of(2) {
                self.join(who);
            }
        }
    }

    fn sync(&mut self, who: usize) {
        let peer = self.peers[who].clone();
        let busy = |asked: &Asked| matches!(asked, Asked::Join(other) | Asked::Sync(other, _) if *other == who);
        if self.waiting.values().any(busy) {
            return;
        }
        let assign = |member: &JoinGroupResponseMember| SyncGroupRequestAssignment {
            member_id: member.member_id.clone(),
            assignment: Bytes::from(format!(
                "{}:{}",
                peer.generation,
                name_of(&member.member_id, &member.group_instance_id)
            )),
            ..Default::default()
        };
        let request = SyncGroupRequest {
            group_id: Str::from(GROUPS[peer.group]),
            generation_id: peer.generation,
            member_id: peer.member_id.clone(),
            group_instance_id: peer.instance_id.clone(),
            assignments: peer.to_assign.iter().flatten().map(assign).collect(),
            ..Default::default()
        };
        let context = self.context(4);
        let outcome = self.machine.sync_group(self.now, &context, &request);
        if let Some((response, _)) = self.outcome(outcome, Asked::Sync(who, peer.generation)) {
            self.synced(who, peer.generation, response);
        }
    }

    fn leave(&mut self, group: usize, member_id: Str, instance_id: Option<Str>) {
        let identity =
            LeaveGroupRequestMemberIdentity { member_id, group_instance_id: instance_id, ..Default::default() };
        let request =
            LeaveGroupRequest { group_id: Str::from(GROUPS[group]), members: vec![identity], ..Default::default() };
        let context = self.context(5);
        let outcome = self.machine.leave_group(self.now, &context, &request);
        self.outcome(outcome, Asked::Other);
    }

    fn commit(&mut self, group: usize, generation: i32, member_id: Str, topic: u8) {
        let request = OffsetCommitRequest {
            group_id: Str::from(GROUPS[group]),
            generation_id_or_member_epoch: generation,
            member_id,
            topics: vec![OffsetCommitRequestTopic {
                name: topic_name(topic),
                topic_id: topic_id(&topic_name(topic)),
                partitions: (0..2)
                    .map(|partition_index| OffsetCommitRequestPartition {
                        partition_index,
                        committed_offset: self.now.mono_ms,
                        ..Default::default()
                    })
                    .collect(),
                ..Default::default()
            }],
            ..Default::default()
        };
        let context = self.context(9);
        let outcome = self.machine.offset_commit(self.now, &context, &request);
        self.outcome(outcome, Asked::Other);
    }

    fn end_writes(&mut self, how_many: usize) {
        for _ in 0..how_many {
            let Some(write) = self.under_way.pop_front() else { return };
            for group in write.records.iter().filter_map(described) {
                if self.ahead_of_log.get(&group).is_some_and(|failed| *failed < write.id) {
                    self.ahead_of_log.remove(&group);
                }
            }
            self.log.extend(write.records);
            let effects = self.machine.write_completed(self.now, write.id);
            self.absorb(effects);
        }
    }

    fn advance(&mut self, ms: i64) {
        let end = self.now.mono_ms + ms;
        loop {
            let next = self.machine.next_deadline().map_or(end, |at| at.clamp(self.now.mono_ms, end));
            self.now.wall_ms += next - self.now.mono_ms;
            self.now.mono_ms = next;
            let effects = self.machine.tick(self.now);
            self.absorb(effects);
            if next == end {
                return;
            }
        }
    }

    fn run(&mut self, step: Step) {
        match step {
            Step::Gather(group) => {
                let members: Vec<usize> = (0..CLIENTS).filter(|who| self.peers[*who].group == group).collect();
                for _ in 0..2 {
                    members.iter().for_each(|who| self.join(*who));
                }
                self.advance(6_000);
                members.iter().for_each(|who| self.sync(*who));
                self.end_writes(usize::MAX);
            }
            Step::Pause => {
                for _ in 0..10 {
                    self.advance(i64::from(SESSION_MS) / 2);
                    (0..CLIENTS).for_each(|who| self.run(Step::Heartbeat(who)));
                }
            }
            Step::Join(who) => self.join(who),
            Step::Restarted(who) => {
                self.run(Step::Crash(who));
                self.join(who);
            }
            Step::Subscribe(who, topic) => {
                self.peers[who].topic = topic;
                self.join(who);
            }
            Step::Sync(who) => self.sync(who),
            Step::Heartbeat(who) => {
                let peer = self.peers[who].clone();
                let request = HeartbeatRequest {
                    group_id: Str::from(GROUPS[peer.group]),
                    generation_id: peer.generation,
                    member_id: peer.member_id,
                    group_instance_id: peer.instance_id,
                    ..Default::default()
                };
                self.machine.heartbeat(self.now, &request);
            }
            Step::Leave(who) => {
                let peer = self.peers[who].clone();
                self.leave(peer.group, peer.member_id, peer.instance_id);
            }
            Step::Remove(who) => {
                let peer = self.peers[who].clone();
                self.leave(peer.group, Str::EMPTY, peer.instance_id);
            }
            Step::Crash(who) => {
                let asked_by = |asked: &Asked| matches!(asked, Asked::Join(by) | Asked::Sync(by, _) if *by == who);
                for asked in self.waiting.values_mut().filter(|asked| asked_by(asked)) {
                    *asked = Asked::Other;
                }
                let peer = &mut self.peers[who];
                *peer = Peer { group: peer.group, instance_id: peer.instance_id.clone(), ..Default::default() };
            }
            Step::Commit(who, topic) => {
                let peer = self.peers[who].clone();
                self.commit(peer.group, peer.generation, peer.member_id, topic);
            }
            Step::CommitAlone(who, topic) => self.commit(who % GROUPS.len(), -1, Str::EMPTY, topic),
            Step::Fetch(who) => {
                let group = Str::from(GROUPS[who % GROUPS.len()]);
                let request = OffsetFetchRequestGroup { group_id: group, topics: None, ..Default::default() };
                let outcome = self.machine.offset_fetch(&request, false);
                self.outcome(outcome, Asked::Other);
            }
            Step::DeleteOffset(who, topic) => {
                let request = OffsetDeleteRequest {
                    group_id: Str::from(GROUPS[who % GROUPS.len()]),
                    topics: vec![OffsetDeleteRequestTopic {
                        name: topic_name(topic),
                        partitions: vec![OffsetDeleteRequestPartition { partition_index: 0 }],
                    }],
                };
                let outcome = self.machine.offset_delete(self.now, &request);
                self.outcome(outcome, Asked::Other);
            }
            Step::DeleteGroup(group) => {
                let outcome = self.machine.delete_groups(self.now, &[Str::from(GROUPS[group])]);
                self.outcome(outcome, Asked::Other);
            }
            Step::TopicDeleted(topic) => {
                let topics = [(topic_name(topic), topic_id(&topic_name(topic)))];
                let effects = self.machine.topics_deleted(self.now, &topics);
                self.absorb(effects);
            }
            Step::Advance(ms) => self.advance(i64::from(ms)),
            Step::WritesEnd => self.end_writes(usize::MAX),
            Step::WriteEnds => self.end_writes(1),
            Step::WritesFail(all) => {
                let from = if all { 0 } else { self.under_way.len() / 2 };
                if let Some(id) = self.under_way.get(from).map(|write| write.id) {
                    let lost = self.under_way.drain(from..).flat_map(|write| write.records);
                    self.ahead_of_log.extend(lost.filter_map(|record| Some((described(&record)?, id))));
                    let effects = self.machine.write_failed(self.now, id, ErrorCode::NotEnoughReplicas);
                    self.absorb(effects);
                    // A group that could not be created may be created anew, and begins at the first generation again.
                    self.lives.iter_mut().for_each(|life| *life += 1);
                }
            }
            Step::Failover => self.fail_over(),
        }
    }

    fn fail_over(&mut self) {
        let old = std::mem::replace(&mut self.machine, GroupCoordinator::new(self.config.clone()));
        let completed = old.unload(self.now, ErrorCode::NotCoordinator);
        self.absorb(Effects { completed, ..Default::default() });
        assert!(self.waiting.is_empty(), "unloading left someone waiting: {:?}", self.waiting);
        self.under_way.clear();
        self.ahead_of_log.clear();
        self.machine = self.replayed();
        let effects = self.machine.finish_loading(self.now);
        self.absorb(effects);
        // What was told since the last write that counts may be told again, otherwise.
        self.lives.iter_mut().for_each(|life| *life += 1);
    }

    fn replayed(&self) -> GroupCoordinator {
        let mut machine = GroupCoordinator::new(self.config.clone());
        for record in &self.log {
            machine.replay(self.now, record.key.clone(), record.value.clone(), None).unwrap();
        }
        machine
    }

    /// With no write under way, what the log says is what the machine says, as far as it is stored at all.
    fn compare_with_replay(&mut self) {
        if !self.under_way.is_empty() {
            return;
        }
        let mut replayed = self.replayed();
        let groups = |machine: &GroupCoordinator| {
            let mut groups = machine.list_groups(&ListGroupsRequest::default());
            groups.sort_by(|a, b| a.group_id.cmp(&b.group_id));
            groups
        };
        let (live, stored) = (groups(&self.machine), groups(&replayed));
        let ids = |groups: &[ListGroupsResponseListedGroup]| -> Vec<Str> {
            groups.iter().map(|group| group.group_id.clone()).collect()
        };
        assert_eq!(ids(&live), ids(&stored));
        let context = self.context(6);
        for (live, stored) in live.iter().zip(&stored) {
            let id = std::slice::from_ref(&live.group_id);
            let is_ahead = GROUPS.iter().position(|group| live.group_id == *group);
            let is_ahead = is_ahead.is_some_and(|group| self.ahead_of_log.contains_key(&group));
            if !is_ahead && matches!(live.group_state.as_str(), "Stable" | "Empty") {
                assert_eq!(live, stored);
                let (a, b) = (self.machine.describe_groups(&context, id), replayed.describe_groups(&context, id));
                assert_eq!(a, b);
            }
            let all = OffsetFetchRequestGroup { group_id: live.group_id.clone(), topics: None, ..Default::default() };
            assert_eq!(self.machine.offset_fetch(&all, false), replayed.offset_fetch(&all, false));
        }
    }

    /// Everyone is quiet and writes end: every answer comes, within bounds.
    fn settle(&mut self) {
        for _ in 0..LONGEST_WAIT_MS / 500 {
            self.end_writes(usize::MAX);
            self.advance(500);
        }
        self.end_writes(usize::MAX);
        let left: Vec<_> = self.waiting.values().collect();
        assert!(left.is_empty(), "still waiting: {left:?}");
        let counts = self.machine.counts();
        assert_eq!((counts.members, counts.writes_under_way), (0, 0), "nobody was heard of for long");
    }
}

fn topic_name(topic: u8) -> Str {
    Str::from(["orders", "payments", "users", "clicks"][usize::from(topic)])
}

/// Cases to run: `PROPTEST_CASES`, or a number that takes no time.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(150)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), max_shrink_iters: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn groups_stay_sound_whatever_happens(steps in prop::collection::vec(step(), 1..250)) {
        let mut world = World::new();
        for step in steps {
            world.run(step);
            world.compare_with_replay();
        }
        world.settle();
        world.compare_with_replay();
    }

    #[test]
    fn no_record_makes_replay_panic(key in prop::collection::vec(any::<u8>(), 0..60), value in prop::collection::vec(any::<u8>(), 0..120), kind in 0u8..4, version in 0u8..6) {
        let now = Now { mono_ms: 0, wall_ms: 0 };
        let mut machine = GroupCoordinator::new(GroupConfig::default());
        let key: Vec<u8> = [0, kind].into_iter().chain(key).collect();
        let value: Vec<u8> = [0, version].into_iter().chain(value).collect();
        let _ = machine.replay(now, Bytes::from(key), Some(Bytes::from(value.clone())), None);
        let key = GroupMetadataKey { group: Str::from("g") }.to_key_bytes().unwrap();
        let _ = machine.replay(now, key, Some(Bytes::from(value)), None);
        machine.finish_loading(now);
        machine.tick(Now { mono_ms: 10_000_000, wall_ms: 0 });
    }
}

#[test]
fn keys_of_the_log_are_what_they_seem() {
    let mut key = Decoder::new(GroupMetadataKey { group: Str::from("g") }.to_key_bytes().unwrap());
    assert_eq!(key.i16().unwrap(), 2);
    assert_eq!(GroupMetadataKey::decode(&mut key, 0).unwrap().group, "g");
    assert_eq!(Uuid::ZERO, Uuid::default());
}
