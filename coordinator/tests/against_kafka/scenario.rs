//! A round: random requests of a few clients of one group.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

use bytes::Bytes;
use corelane_protocol::messages::*;
use corelane_protocol::{ErrorCode, Str};

use crate::kafka::Kafka;
use crate::machine::{Machine, versions};
use crate::{Asked, Side, TOPICS, Ticket, text};

const CLIENTS: usize = 5;
const STEPS: usize = 100;

/// Numbers from a seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) % sides as u64) as usize
    }

    fn version<R: Asked>(&mut self) -> i16 {
        let versions = versions::<R>();
        // The oldest versions of offset requests are no longer spoken.
        let oldest = match R::API_KEY {
            corelane_protocol::ApiKey::OffsetCommit => 2,
            corelane_protocol::ApiKey::OffsetFetch => 1,
            _ => *versions.start(),
        };
        oldest + self.roll((versions.end() - oldest + 1) as usize) as i16
    }
}

/// What one client knows on one side.
#[derive(Clone, Debug, Default)]
struct Known {
    member_id: Str,
    generation: i32,
    protocol: Option<Str>,
    leads: bool,
    members: Vec<JoinGroupResponseMember>,
}

/// What member ids are called on both sides: who was given them, and as how manieth.
#[derive(Default)]
struct Names {
    names: BTreeMap<Str, String>,
    given: BTreeMap<usize, usize>,
}

impl Names {
    fn give(&mut self, client: usize, member_id: &Str) {
        if !member_id.is_empty() && !self.names.contains_key(member_id) {
            let count = self.given.entry(client).or_default();
            *count += 1;
            self.names.insert(member_id.clone(), format!("client {client}, id {count}"));
        }
    }

    fn call(&self, member_id: &Str) -> Str {
        self.names.get(member_id).map_or_else(|| member_id.clone(), |name| text(name))
    }
}

enum Waiting {
    Join(usize, Ticket, Ticket),
    Sync(usize, Ticket, Ticket),
}

struct Round<'a> {
    kafka: &'a mut Kafka,
    machine: &'a mut Machine,
    dice: Dice,
    group: Str,
    known: [[Known; CLIENTS]; 2],
    names: [Names; 2],
    waiting: Vec<Waiting>,
    topic: [usize; CLIENTS],
    story: Vec<String>,
}

/// The sides chose differently where they may.
struct Parted;

pub fn run(kafka: &mut Kafka, machine: &mut Machine, seed: u64) {
    let mut round = Round {
        kafka,
        machine,
        dice: Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)),
        group: text(&format!("round-{seed}-{}", std::process::id())),
        known: Default::default(),
        names: Default::default(),
        waiting: Vec::new(),
        topic: [0; CLIENTS],
        story: Vec::new(),
    };
    let mut steps = 0;
    while steps < STEPS && round.step().is_ok() && round.collect().is_ok() {
        steps += 1;
    }
    if steps == STEPS {
        let _ = round.gather();
    }
    let told = |what: &str| round.story.iter().filter(|line| line.contains(what)).count();
    println!(
        "seed {seed}: {steps} steps, {} answers with a generation, {} assignments, {} static members back",
        told("joined: JoinGroupResponse { throttle_time_ms: 0, error_code: 0,"),
        told("synced: SyncGroupResponse { throttle_time_ms: 0, error_code: 0,"),
        told("skip_assignment: true"),
    );
    kafka.hang_up();
}

fn instance_of(client: usize) -> Option<Str> {
    (client >= 3).then(|| text(&format!("instance-{client}")))
}

impl Round<'_> {
    #[track_caller]
    fn same<T: PartialEq + Debug>(&self, kafka: T, machine: T) {
        if kafka != machine {
            panic!("{}\nKafka:   {kafka:#?}\nmachine: {machine:#?}", self.story.join("\n"));
        }
    }

    fn ask<R: Asked>(&mut self, client: usize, version: i16, requests: [R; 2]) -> (Ticket, Ticket) {
        let mut line = format!("client {client}, version {version}: {:?}", requests[1]);
        line.truncate(line.char_indices().nth(700).map_or(line.len(), |(at, _)| at));
        self.story.push(line);
        let kafka = self.kafka.ask(client, version, &requests[0]);
        let machine = self.machine.ask(client, version, &requests[1]);
        (kafka, machine)
    }

    /// Asks something that is answered at once.
    fn both<R: Asked>(&mut self, client: usize, version: i16, requests: [R; 2]) -> [R::Response; 2] {
        let (kafka, machine) = self.ask(client, version, requests);
        let machine = self.machine.answer::<R>(&machine, true).expect("the machine's answer");
        [self.kafka.answer::<R>(&kafka, true).expect("Kafka's answer"), machine]
    }

    fn is_waiting(&self, client: usize) -> bool {
        self.waiting.iter().any(|waiting| match waiting {
            Waiting::Join(who, ..) | Waiting::Sync(who, ..) => *who == client,
        })
    }

    /// Takes the answers that have come; both sides must have the same.
    fn collect(&mut self) -> Result<(), Parted> {
        self.machine.advance(15);
        let mut joined = Vec::new();
        for waiting in std::mem::take(&mut self.waiting) {
            match waiting {
                Waiting::Join(client, kafka, machine) => match self.answers::<JoinGroupRequest>(&kafka, &machine) {
                    Some(responses) => joined.push((client, responses)),
                    None => self.waiting.push(Waiting::Join(client, kafka, machine)),
                },
                Waiting::Sync(client, kafka, machine) => match self.answers::<SyncGroupRequest>(&kafka, &machine) {
                    Some([kafka, machine]) => {
                        self.story.push(format!("client {client} synced: {machine:?}"));
                        self.same(kafka, machine);
                    }
                    None => self.waiting.push(Waiting::Sync(client, kafka, machine)),
                },
            }
        }
        // Some of them tell of the ids of others.
        for (client, responses) in &joined {
            for (names, response) in self.names.iter_mut().zip(responses) {
                if matches!(ErrorCode::from(response.error_code), ErrorCode::None | ErrorCode::MemberIdRequired) {
                    names.give(*client, &response.member_id);
                }
            }
        }
        joined.into_iter().try_for_each(|(client, responses)| self.joined(client, responses))
    }

    fn answers<R: Asked>(&mut self, kafka: &Ticket, machine: &Ticket) -> Option<[R::Response; 2]> {
        let machine = self.machine.answer::<R>(machine, true);
        let kafka = self.kafka.answer::<R>(kafka, machine.is_some());
        match (kafka, machine) {
            (Some(kafka), Some(machine)) => Some([kafka, machine]),
            (None, None) => None,
            (kafka, machine) => panic!("{}\nKafka:   {kafka:?}\nmachine: {machine:?}", self.story.join("\n")),
        }
    }

    fn joined(&mut self, client: usize, responses: [JoinGroupResponse; 2]) -> Result<(), Parted> {
        let mut called = responses.clone();
        for (side, response) in called.iter_mut().enumerate() {
            let names = &self.names[side];
            response.member_id = names.call(&response.member_id);
            response.leader = names.call(&response.leader);
            for member in &mut response.members {
                member.member_id = names.call(&member.member_id);
            }
            response.members.sort_by(|a, b| a.member_id.cmp(&b.member_id));
        }
        self.story.push(format!("client {client} joined: {:?}", called[1]));
        let [kafka, machine] = called;
        if kafka.leader != machine.leader && kafka.error_code == 0 && machine.error_code == 0 {
            return Err(Parted);
        }
        self.same(kafka, machine);
        for (known, response) in self.known.iter_mut().zip(responses) {
            let known = &mut known[client];
            match ErrorCode::from(response.error_code) {
                ErrorCode::None => {
                    known.leads = response.leader == response.member_id && !response.skip_assignment;
                    known.member_id = response.member_id;
                    known.generation = response.generation_id;
                    known.protocol = response.protocol_name;
                    known.members = response.members;
                }
                ErrorCode::MemberIdRequired => known.member_id = response.member_id,
                ErrorCode::UnknownMemberId | ErrorCode::FencedInstanceId => known.member_id = Str::EMPTY,
                _ => {}
            }
        }
        Ok(())
    }

    fn step(&mut self) -> Result<(), Parted> {
        let client = self.dice.roll(CLIENTS);
        match self.dice.roll(32) {
            0..7 => self.join(client)?,
            // A dynamic member that forgets its id holds the next rebalance up for a whole session: static ones only.
            7 if !self.is_waiting(3 + client % 2) => {
                let client = 3 + client % 2;
                self.known.iter_mut().for_each(|known| known[client].member_id = Str::EMPTY);
                self.join(client)?;
            }
            8 => {
                self.topic[client] = self.dice.roll(TOPICS.len());
                self.join(client)?;
            }
            9..16 => self.sync(client)?,
            16..19 => self.heartbeat(client),
            19 => self.leave(client),
            20..23 => self.commit(client),
            23 | 24 => self.fetch(),
            25 => self.delete_offsets(),
            26 => self.delete_group(),
            27 | 28 => self.describe(),
            29 => self.list(),
            _ => self.gather()?,
        }
        Ok(())
    }

    /// Everyone does what it takes to have a stable group.
    fn gather(&mut self) -> Result<(), Parted> {
        for client in (0..CLIENTS).chain(0..CLIENTS) {
            self.join(client)?;
        }
        for client in 0..CLIENTS {
            self.sync(client)?;
        }
        Ok(())
    }

    fn join(&mut self, client: usize) -> Result<(), Parted> {
        if self.is_waiting(client) {
            return Ok(());
        }
        let version = match client {
            3.. => 5 + self.dice.roll(5) as i16,
            _ => self.dice.version::<JoinGroupRequest>(),
        };
        let protocol_type = if self.dice.roll(20) == 0 { "connect" } else { "consumer" };
        let session_timeout_ms = if self.dice.roll(20) == 0 { 5_000 } else { 60_000 };
        let metadata = subscription(TOPICS[self.topic[client]]);
        let requests = [0, 1].map(|side| JoinGroupRequest {
            group_id: self.group.clone(),
            session_timeout_ms,
            rebalance_timeout_ms: 120_000,
            member_id: self.known[side][client].member_id.clone(),
            group_instance_id: instance_of(client),
            protocol_type: text(protocol_type),
            protocols: ["range", "sticky"]
                .iter()
                .map(|name| JoinGroupRequestProtocol {
                    name: text(name),
                    metadata: metadata.clone(),
                    ..Default::default()
                })
                .collect(),
            ..Default::default()
        });
        let (kafka, machine) = self.ask(client, version, requests);
        self.waiting.push(Waiting::Join(client, kafka, machine));
        self.collect()
    }

    fn sync(&mut self, client: usize) -> Result<(), Parted> {
        if self.is_waiting(client) {
            return Ok(());
        }
        let version = match client {
            3.. => 3 + self.dice.roll(3) as i16,
            _ => self.dice.version::<SyncGroupRequest>(),
        };
        let (odd_generation, odd_protocol) = (self.dice.roll(12) == 0, self.dice.roll(12) == 0);
        let requests = [0, 1].map(|side| {
            let known = &self.known[side][client];
            let assign = |member: &JoinGroupResponseMember| SyncGroupRequestAssignment {
                member_id: member.member_id.clone(),
                assignment: Bytes::from(format!("{}: {}", known.generation, self.names[side].call(&member.member_id))),
                ..Default::default()
            };
            let named = version >= 5;
            SyncGroupRequest {
                group_id: self.group.clone(),
                generation_id: known.generation + i32::from(odd_generation),
                member_id: known.member_id.clone(),
                group_instance_id: instance_of(client),
                protocol_type: named.then(|| Str::from("consumer")),
                protocol_name: if odd_protocol && named { Some(Str::from("odd")) } else { known.protocol.clone() }
                    .filter(|_| named),
                assignments: known.members.iter().filter(|_| known.leads).map(assign).collect(),
                ..Default::default()
            }
        });
        let (kafka, machine) = self.ask(client, version, requests);
        self.waiting.push(Waiting::Sync(client, kafka, machine));
        self.collect()
    }

    fn heartbeat(&mut self, client: usize) {
        let odd = self.dice.roll(8) == 0;
        let requests = [0, 1].map(|side| HeartbeatRequest {
            group_id: self.group.clone(),
            generation_id: self.known[side][client].generation - i32::from(odd),
            member_id: self.known[side][client].member_id.clone(),
            group_instance_id: instance_of(client),
            ..Default::default()
        });
        let version = if client >= 3 { 4 } else { self.dice.version::<HeartbeatRequest>() };
        let [kafka, machine] = self.both(client, version, requests);
        self.same(kafka, machine);
    }

    fn leave(&mut self, client: usize) {
        let version = self.dice.version::<LeaveGroupRequest>();
        let by_instance = client >= 3 && self.dice.roll(2) == 0;
        let other = self.dice.roll(CLIENTS);
        let both = self.dice.roll(3) == 0;
        // A member that waits for its sync is never answered by Kafka once it is removed.
        if self.waiting.iter().any(|waiting| matches!(waiting, Waiting::Sync(..))) {
            return;
        }
        let requests = [0, 1].map(|side| {
            let member_id = self.known[side][client].member_id.clone();
            if version < 3 {
                return LeaveGroupRequest { group_id: self.group.clone(), member_id, ..Default::default() };
            }
            let mut members = vec![LeaveGroupRequestMemberIdentity {
                member_id: if by_instance { Str::EMPTY } else { member_id },
                group_instance_id: instance_of(client),
                ..Default::default()
            }];
            if both {
                members.push(LeaveGroupRequestMemberIdentity {
                    member_id: self.known[side][other].member_id.clone(),
                    group_instance_id: instance_of(other),
                    ..Default::default()
                });
            }
            LeaveGroupRequest { group_id: self.group.clone(), members, ..Default::default() }
        });
        let mut responses = self.both(client, version, requests);
        for (side, response) in responses.iter_mut().enumerate() {
            for member in &mut response.members {
                member.member_id = self.names[side].call(&member.member_id);
            }
        }
        let [kafka, machine] = responses;
        self.same(kafka, machine);
    }

    fn commit(&mut self, client: usize) {
        let version =
            if client >= 3 { 7 + self.dice.roll(4) as i16 } else { self.dice.version::<OffsetCommitRequest>() };
        let alone = self.dice.roll(4) == 0;
        let odd = self.dice.roll(10) == 0;
        let name = TOPICS[self.dice.roll(TOPICS.len())];
        let large = self.dice.roll(6) == 0;
        let offset = self.dice.roll(1_000) as i64;
        let partition = |partition_index: i32| OffsetCommitRequestPartition {
            partition_index,
            committed_offset: offset,
            committed_leader_epoch: if version >= 6 { partition_index - 1 } else { -1 },
            committed_metadata: match partition_index {
                0 => None,
                1 if large => Some(text(&"ü".repeat(4_097))),
                _ => Some(text(&"ü".repeat(4_096))),
            },
            ..Default::default()
        };
        let ids = [self.kafka.topic_id(name), self.machine.topic_id(name)];
        let requests = [0, 1].map(|side| {
            let known = &self.known[side][client];
            OffsetCommitRequest {
                group_id: self.group.clone(),
                generation_id_or_member_epoch: if alone { -1 } else { known.generation + i32::from(odd) },
                member_id: if alone { Str::EMPTY } else { known.member_id.clone() },
                group_instance_id: instance_of(client).filter(|_| !alone),
                topics: vec![OffsetCommitRequestTopic {
                    name: text(name),
                    topic_id: ids[side],
                    partitions: (0..3).map(partition).collect(),
                    ..Default::default()
                }],
                ..Default::default()
            }
        });
        let mut responses = self.both(client, version, requests);
        responses.iter_mut().flat_map(|response| &mut response.topics).for_each(|topic| topic.topic_id = ids[0]);
        let [kafka, machine] = responses;
        self.same(kafka, machine);
    }

    fn fetch(&mut self) {
        let version = self.dice.version::<OffsetFetchRequest>();
        let all = version >= 2 && self.dice.roll(2) == 0;
        let other = self.dice.roll(6) == 0;
        let group_id = if other { text("nobody") } else { self.group.clone() };
        let ids = [self.kafka.topic_id(TOPICS[0]), self.machine.topic_id(TOPICS[0])];
        let requests = [0, 1].map(|side| {
            if version < 8 {
                let topic = OffsetFetchRequestTopic {
                    name: text(TOPICS[0]),
                    partition_indexes: vec![2, 0, 1],
                    ..Default::default()
                };
                return OffsetFetchRequest {
                    group_id: group_id.clone(),
                    topics: (!all).then(|| vec![topic]),
                    ..Default::default()
                };
            }
            let topic = OffsetFetchRequestTopics {
                name: text(TOPICS[0]),
                topic_id: ids[side],
                partition_indexes: vec![2, 0, 1],
                ..Default::default()
            };
            let group = |group_id: &Str| OffsetFetchRequestGroup {
                group_id: group_id.clone(),
                topics: (!all).then(|| vec![topic.clone()]),
                ..Default::default()
            };
            OffsetFetchRequest { groups: vec![group(&group_id), group(&text("nobody"))], ..Default::default() }
        });
        let named = [0, 1].map(|side| {
            let id = |name: &str| if side == 0 { self.kafka.topic_id(name) } else { self.machine.topic_id(name) };
            TOPICS.map(|name| (id(name), text(name)))
        });
        let mut responses = self.both(0, version, requests);
        for (side, response) in responses.iter_mut().enumerate() {
            response.topics.sort_by(|a, b| a.name.cmp(&b.name));
            response.topics.iter_mut().for_each(|topic| topic.partitions.sort_by_key(|p| p.partition_index));
            for group in &mut response.groups {
                for topic in &mut group.topics {
                    if let Some((_, name)) = named[side].iter().find(|(id, _)| *id == topic.topic_id) {
                        topic.name = name.clone();
                        topic.topic_id = Default::default();
                    }
                    topic.partitions.sort_by_key(|partition| partition.partition_index);
                }
                group.topics.sort_by(|a, b| a.name.cmp(&b.name));
            }
        }
        let [kafka, machine] = responses;
        self.same(kafka, machine);
    }

    fn delete_offsets(&mut self) {
        let name = TOPICS[self.dice.roll(TOPICS.len())];
        let request = OffsetDeleteRequest {
            group_id: self.group.clone(),
            topics: vec![OffsetDeleteRequestTopic {
                name: text(name),
                partitions: [0, 2].map(|partition_index| OffsetDeleteRequestPartition { partition_index }).to_vec(),
            }],
        };
        let [kafka, machine] = self.both(0, 0, [request.clone(), request]);
        self.same(kafka, machine);
    }

    fn delete_group(&mut self) {
        let groups_names = vec![self.group.clone(), text("nobody")];
        let request = DeleteGroupsRequest { groups_names, ..Default::default() };
        let version = self.dice.version::<DeleteGroupsRequest>();
        let mut responses = self.both(0, version, [request.clone(), request]);
        responses.iter_mut().for_each(|response| response.results.sort_by(|a, b| a.group_id.cmp(&b.group_id)));
        let [kafka, machine] = responses;
        self.same(kafka, machine);
    }

    fn describe(&mut self) {
        let groups = vec![self.group.clone(), text("nobody")];
        let request = DescribeGroupsRequest { groups, ..Default::default() };
        let version = self.dice.version::<DescribeGroupsRequest>();
        let mut responses = self.both(0, version, [request.clone(), request]);
        for (side, response) in responses.iter_mut().enumerate() {
            response.groups.sort_by(|a, b| a.group_id.cmp(&b.group_id));
            for group in &mut response.groups {
                for member in &mut group.members {
                    member.member_id = self.names[side].call(&member.member_id);
                }
                group.members.sort_by(|a, b| a.member_id.cmp(&b.member_id));
            }
        }
        // Members whose first join waits have ids that nobody was told yet.
        let told: Vec<BTreeSet<Str>> =
            self.names.iter().map(|names| names.names.values().map(|name| text(name)).collect()).collect();
        for (response, told) in responses.iter_mut().zip(told) {
            for member in response.groups.iter_mut().flat_map(|group| &mut group.members) {
                if !told.contains(&member.member_id) {
                    member.member_id = Str::EMPTY;
                }
            }
            for group in &mut response.groups {
                group
                    .members
                    .sort_by(|a, b| (&a.member_id, &a.group_instance_id).cmp(&(&b.member_id, &b.group_instance_id)));
            }
        }
        let [kafka, machine] = responses;
        self.same(kafka, machine);
    }

    fn list(&mut self) {
        let version = self.dice.version::<ListGroupsRequest>();
        let state = ["Stable", "empty", "PreparingRebalance", "CompletingRebalance"][self.dice.roll(4)];
        let filter = |from: i16, name: &'static str| if version >= from { vec![Str::from(name)] } else { Vec::new() };
        let request = ListGroupsRequest {
            states_filter: filter(4, state),
            types_filter: filter(5, "Classic"),
            ..Default::default()
        };
        let mut responses = self.both(0, version, [request.clone(), request]);
        let group = self.group.clone();
        responses.iter_mut().for_each(|response| response.groups.retain(|listed| listed.group_id == group));
        let [kafka, machine] = responses;
        self.same(kafka, machine);
    }
}

fn subscription(topic: &str) -> Bytes {
    let mut bytes = vec![0, 0, 0, 0, 0, 1];
    bytes.extend((topic.len() as i16).to_be_bytes());
    bytes.extend(topic.as_bytes());
    bytes.extend((-1i32).to_be_bytes());
    Bytes::from(bytes)
}
