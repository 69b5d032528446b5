//! A coordinator, its clock, its log and the answers it gave.

use std::collections::{BTreeMap, VecDeque};
use std::marker::PhantomData;
use std::rc::Rc;

use bytes::Bytes;
use corelane_coordinator::group::{
    Effects, Errand, GroupConfig, GroupCoordinator, Outcome, Reply, RequestContext, Response, Topic, Topics, WaitToken,
    Write,
};
use corelane_coordinator::{CoordinatorRecord, Now};
use corelane_protocol::messages::*;
use corelane_protocol::{ErrorCode, Str, Uuid};

/// A request's answer, which may still have to come.
#[derive(Debug)]
pub enum Ticket<R> {
    Now(R),
    Later(WaitToken, PhantomData<R>),
}

impl<R> Ticket<R> {
    pub fn token(&self) -> Option<WaitToken> {
        match self {
            Ticket::Now(_) => None,
            Ticket::Later(token, _) => Some(*token),
        }
    }
}

pub struct Harness {
    pub machine: GroupCoordinator,
    pub config: GroupConfig,
    pub now: Now,
    /// What is durable.
    pub log: Vec<CoordinatorRecord>,
    pub under_way: VecDeque<Write>,
    /// Writes wait for the test to end them.
    pub hold_writes: bool,
    pub answers: BTreeMap<WaitToken, Response>,
    /// What others were to be asked for.
    pub errands: Vec<Errand>,
    pub topics: Rc<TestTopics>,
    random: u128,
}

/// Topics by name, with their numbers of partitions.
#[derive(Clone, Debug, Default)]
pub struct TestTopics(pub BTreeMap<&'static str, i32>);

impl Topics for TestTopics {
    fn named(&self, name: &str) -> Option<Topic> {
        let (name, partitions) = self.0.get_key_value(name)?;
        Some(Topic { id: topic_id(name), name: Str::from(*name), partitions: *partitions })
    }

    fn with_id(&self, id: Uuid) -> Option<Topic> {
        self.0.keys().find(|name| topic_id(name) == id).and_then(|name| self.named(name))
    }

    fn each_name(&self, visit: &mut dyn FnMut(&str)) {
        self.0.keys().for_each(|name| visit(name));
    }
}

/// What a consumer is made of.
#[derive(Clone, Debug)]
pub struct Client {
    pub group: &'static str,
    pub client_id: &'static str,
    pub member_id: Str,
    pub instance_id: Option<Str>,
    pub protocol_type: &'static str,
    pub protocols: Vec<(&'static str, Bytes)>,
    pub session_ms: i32,
    pub rebalance_ms: i32,
    pub version: i16,
    pub generation: i32,
    pub protocol: Option<Str>,
}

pub fn client(group: &'static str) -> Client {
    Client {
        group,
        client_id: "app",
        member_id: Str::EMPTY,
        instance_id: None,
        protocol_type: "consumer",
        protocols: vec![("range", subscription(&["orders"]))],
        session_ms: 10_000,
        rebalance_ms: 60_000,
        version: 9,
        generation: -1,
        protocol: None,
    }
}

impl Client {
    pub fn named(mut self, instance_id: &'static str) -> Client {
        self.instance_id = Some(Str::from(instance_id));
        self
    }

    pub fn offering(mut self, protocols: &[&'static str]) -> Client {
        self.protocols = protocols.iter().map(|name| (*name, subscription(&["orders"]))).collect();
        self
    }

    pub fn version(mut self, version: i16) -> Client {
        self.version = version;
        self
    }

    pub fn join_request(&self) -> JoinGroupRequest {
        JoinGroupRequest {
            group_id: Str::from(self.group),
            session_timeout_ms: self.session_ms,
            rebalance_timeout_ms: self.rebalance_ms,
            member_id: self.member_id.clone(),
            group_instance_id: self.instance_id.clone(),
            protocol_type: Str::from(self.protocol_type),
            protocols: self
                .protocols
                .iter()
                .map(|(name, metadata)| JoinGroupRequestProtocol {
                    name: Str::from(*name),
                    metadata: metadata.clone(),
                    ..Default::default()
                })
                .collect(),
            ..Default::default()
        }
    }

    /// Takes over what the answer to a join says.
    pub fn joined(&mut self, response: &JoinGroupResponse) {
        assert_eq!(response.error_code, 0, "{response:?}");
        self.member_id = response.member_id.clone();
        self.generation = response.generation_id;
        self.protocol = response.protocol_name.clone();
    }

    pub fn sync_request(&self, assignments: &[(&Str, &str)]) -> SyncGroupRequest {
        SyncGroupRequest {
            group_id: Str::from(self.group),
            generation_id: self.generation,
            member_id: self.member_id.clone(),
            group_instance_id: self.instance_id.clone(),
            protocol_type: Some(Str::from(self.protocol_type)),
            protocol_name: self.protocol.clone(),
            assignments: assignments
                .iter()
                .map(|(member_id, assignment)| SyncGroupRequestAssignment {
                    member_id: (*member_id).clone(),
                    assignment: Bytes::from((*assignment).to_owned()),
                    ..Default::default()
                })
                .collect(),
            ..Default::default()
        }
    }

    pub fn heartbeat_request(&self) -> HeartbeatRequest {
        HeartbeatRequest {
            group_id: Str::from(self.group),
            generation_id: self.generation,
            member_id: self.member_id.clone(),
            group_instance_id: self.instance_id.clone(),
            ..Default::default()
        }
    }

    pub fn commit_request(&self, topic: &str, partition: i32, offset: i64) -> OffsetCommitRequest {
        OffsetCommitRequest {
            group_id: Str::from(self.group),
            generation_id_or_member_epoch: self.generation,
            member_id: self.member_id.clone(),
            group_instance_id: self.instance_id.clone(),
            topics: vec![OffsetCommitRequestTopic {
                name: Str::from(topic.to_owned()),
                topic_id: topic_id(topic),
                partitions: vec![OffsetCommitRequestPartition {
                    partition_index: partition,
                    committed_offset: offset,
                    committed_leader_epoch: 3,
                    committed_metadata: Some(Str::from("note")),
                    ..Default::default()
                }],
                ..Default::default()
            }],
            ..Default::default()
        }
    }
}

/// The id that the tests give a topic of this name.
pub fn topic_id(topic: &str) -> Uuid {
    Uuid::from_u128(topic.bytes().fold(7, |id, byte| id * 257 + u128::from(byte)))
}

/// A consumer's subscription, version 0.
pub fn subscription(topics: &[&str]) -> Bytes {
    let mut bytes = vec![0, 0];
    bytes.extend((topics.len() as i32).to_be_bytes());
    for topic in topics {
        bytes.extend((topic.len() as i16).to_be_bytes());
        bytes.extend(topic.as_bytes());
    }
    bytes.extend((-1i32).to_be_bytes());
    Bytes::from(bytes)
}

pub fn code(error: ErrorCode) -> i16 {
    error.code()
}

impl Default for Harness {
    fn default() -> Harness {
        Harness::new(GroupConfig::default())
    }
}

impl Harness {
    pub fn new(config: GroupConfig) -> Harness {
        let now = Now { mono_ms: 5_000, wall_ms: 1_700_000_000_000 };
        let mut machine = GroupCoordinator::new(config.clone());
        assert_eq!(machine.finish_loading(now), Effects::default());
        Harness {
            machine,
            config,
            now,
            log: Vec::new(),
            under_way: VecDeque::new(),
            hold_writes: false,
            answers: BTreeMap::new(),
            errands: Vec::new(),
            topics: Rc::default(),
            random: 1,
        }
    }

    pub fn context(&mut self, client: &Client) -> RequestContext {
        self.random = self.random.wrapping_mul(0x2545_f491_4f6c_dd1d_2545_f491_4f6c_dd1d).wrapping_add(99);
        RequestContext {
            client_id: Str::from(client.client_id),
            client_host: Str::from("/127.0.0.1"),
            api_version: client.version,
            random: self.random,
        }
    }

    pub fn absorb(&mut self, effects: Effects) {
        for completed in effects.completed {
            let before = self.answers.insert(completed.token, completed.response);
            assert_eq!(before, None, "{:?} answered twice", completed.token);
        }
        self.under_way.extend(effects.writes);
        self.errands.extend(effects.errands);
        if !self.hold_writes {
            self.complete_writes();
        }
    }

    pub fn complete_writes(&mut self) {
        while let Some(write) = self.under_way.pop_front() {
            self.log.extend(write.records);
            let effects = self.machine.write_completed(self.now, write.id);
            self.absorb(effects);
        }
    }

    /// All writes under way come to nothing.
    pub fn fail_writes(&mut self, error: ErrorCode) {
        if let Some(first) = self.under_way.front() {
            let id = first.id;
            self.under_way.clear();
            let effects = self.machine.write_failed(self.now, id, error);
            self.absorb(effects);
        }
    }

    pub fn ticket<R>(&mut self, outcome: Outcome<R>) -> Ticket<R> {
        self.absorb(outcome.effects);
        match outcome.reply {
            Reply::Now(response) => Ticket::Now(response),
            Reply::Later(token) => Ticket::Later(token, PhantomData),
        }
    }

    /// The answer, if it has come.
    pub fn answer<R: TryFrom<Response, Error = Response>>(&mut self, ticket: Ticket<R>) -> Option<R> {
        match ticket {
            Ticket::Now(response) => Some(response),
            Ticket::Later(token, _) => self.answers.remove(&token).map(|response| R::try_from(response).unwrap()),
        }
    }

    pub fn has_answer<R>(&self, ticket: &Ticket<R>) -> bool {
        match ticket {
            Ticket::Now(_) => true,
            Ticket::Later(token, _) => self.answers.contains_key(token),
        }
    }

    #[track_caller]
    pub fn expect<R: TryFrom<Response, Error = Response>>(&mut self, ticket: Ticket<R>) -> R {
        self.answer(ticket).expect("the answer should be there")
    }

    /// Lets time pass, and everything that is due meanwhile happen at its time.
    pub fn advance(&mut self, ms: i64) {
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

    /// Another process takes over what is in the log.
    pub fn restart(&mut self) {
        let error = ErrorCode::NotCoordinator;
        let old = std::mem::replace(&mut self.machine, GroupCoordinator::new(self.config.clone()));
        for completed in old.unload(self.now, error) {
            assert_eq!(self.answers.insert(completed.token, completed.response), None);
        }
        self.under_way.clear();
        self.machine = self.replayed();
        let effects = self.machine.finish_loading(self.now);
        self.absorb(effects);
    }

    pub fn replayed(&self) -> GroupCoordinator {
        let mut machine = GroupCoordinator::new(self.config.clone());
        machine.set_topics(self.topics.clone(), &[]);
        for record in &self.log {
            machine.replay(self.now, record.key.clone(), record.value.clone(), None).unwrap();
        }
        machine
    }

    /// There is a topic of this name, with so many partitions; 0: there is none any more.
    pub fn set_topic(&mut self, name: &'static str, partitions: i32) {
        let mut topics = (*self.topics).clone();
        match partitions {
            0 => drop(topics.0.remove(name)),
            _ => drop(topics.0.insert(name, partitions)),
        }
        self.topics = Rc::new(topics);
        self.machine.set_topics(self.topics.clone(), &[Str::from(name)]);
    }

    pub fn join(&mut self, client: &Client) -> Ticket<JoinGroupResponse> {
        let context = self.context(client);
        let outcome = self.machine.join_group(self.now, &context, &client.join_request());
        self.ticket(outcome)
    }

    /// A new member joins, asking for an id first where its version has to.
    pub fn join_new(&mut self, client: &mut Client) -> Ticket<JoinGroupResponse> {
        assert!(client.member_id.is_empty());
        if client.version < 4 || client.instance_id.is_some() {
            return self.join(client);
        }
        let ticket = self.join(client);
        let response = self.expect(ticket);
        assert_eq!(response.error_code, code(ErrorCode::MemberIdRequired));
        client.member_id = response.member_id;
        self.join(client)
    }

    pub fn sync(&mut self, client: &Client, assignments: &[(&Str, &str)]) -> Ticket<SyncGroupResponse> {
        let request = client.sync_request(assignments);
        let context = RequestContext { api_version: client.version.min(5), ..self.context(client) };
        let outcome = self.machine.sync_group(self.now, &context, &request);
        self.ticket(outcome)
    }

    pub fn heartbeat(&mut self, client: &Client) -> i16 {
        self.machine.heartbeat(self.now, &client.heartbeat_request()).error_code
    }

    pub fn leave(&mut self, client: &Client, members: &[(&str, Option<&str>)]) -> Ticket<LeaveGroupResponse> {
        let request = LeaveGroupRequest {
            group_id: Str::from(client.group),
            members: members
                .iter()
                .map(|(member_id, instance_id)| LeaveGroupRequestMemberIdentity {
                    member_id: Str::from((*member_id).to_owned()),
                    group_instance_id: instance_id.map(|id| Str::from(id.to_owned())),
                    ..Default::default()
                })
                .collect(),
            ..Default::default()
        };
        let context = RequestContext { api_version: client.version.min(5), ..self.context(client) };
        let outcome = self.machine.leave_group(self.now, &context, &request);
        self.ticket(outcome)
    }

    pub fn commit(&mut self, client: &Client, request: &OffsetCommitRequest) -> Ticket<OffsetCommitResponse> {
        let context = self.context(client);
        let outcome = self.machine.offset_commit(self.now, &context, request);
        self.ticket(outcome)
    }

    /// Commits and gives the first partition's error.
    pub fn commit_error(&mut self, client: &Client, request: &OffsetCommitRequest) -> i16 {
        let ticket = self.commit(client, request);
        self.expect(ticket).topics[0].partitions[0].error_code
    }

    pub fn fetch(&mut self, group: &str, topics: Option<&[(&str, &[i32])]>) -> Ticket<OffsetFetchResponseGroup> {
        let request = OffsetFetchRequestGroup {
            group_id: Str::from(group.to_owned()),
            topics: topics.map(|topics| {
                topics
                    .iter()
                    .map(|(name, partitions)| OffsetFetchRequestTopics {
                        name: Str::from((*name).to_owned()),
                        topic_id: topic_id(name),
                        partition_indexes: partitions.to_vec(),
                        ..Default::default()
                    })
                    .collect()
            }),
            ..Default::default()
        };
        let outcome = self.machine.offset_fetch(&request, false);
        self.ticket(outcome)
    }

    /// The committed offset of one partition, -1 for none.
    #[track_caller]
    pub fn committed(&mut self, group: &str, topic: &str, partition: i32) -> i64 {
        let ticket = self.fetch(group, Some(&[(topic, &[partition])]));
        let response = self.expect(ticket);
        assert_eq!(response.error_code, 0);
        response.topics[0].partitions[0].committed_offset
    }

    pub fn delete_offsets(&mut self, group: &str, topic: &str, partition: i32) -> Ticket<OffsetDeleteResponse> {
        let request = OffsetDeleteRequest {
            group_id: Str::from(group.to_owned()),
            topics: vec![OffsetDeleteRequestTopic {
                name: Str::from(topic.to_owned()),
                partitions: vec![OffsetDeleteRequestPartition { partition_index: partition }],
            }],
        };
        let outcome = self.machine.offset_delete(self.now, &request);
        self.ticket(outcome)
    }

    pub fn delete_groups(&mut self, groups: &[&str]) -> Ticket<DeleteGroupsResponse> {
        let groups: Vec<Str> = groups.iter().map(|group| Str::from((*group).to_owned())).collect();
        let outcome = self.machine.delete_groups(self.now, &groups);
        self.ticket(outcome)
    }

    pub fn describe(&self, group: &str) -> DescribeGroupsResponseDescribedGroup {
        let context = RequestContext { client_id: Str::EMPTY, client_host: Str::EMPTY, api_version: 6, random: 0 };
        self.machine.describe_groups(&context, &[Str::from(group.to_owned())]).remove(0)
    }

    pub fn state(&self, group: &str) -> String {
        self.describe(group).group_state.to_string()
    }

    /// A stable group of these members, the first one leading; each is assigned its member id. Their joins come in order.
    pub fn stabilize(&mut self, clients: &mut [Client]) {
        let tickets: Vec<_> = clients.iter_mut().map(|client| self.join_new(client)).collect();
        while !self.has_answer(&tickets[0]) {
            self.advance(500);
        }
        for (client, ticket) in clients.iter_mut().zip(tickets) {
            let response = self.expect(ticket);
            client.joined(&response);
        }
        self.assign(clients);
    }

    /// Everyone of a new generation syncs, the leader included; each is assigned its member id.
    pub fn assign(&mut self, clients: &[Client]) {
        let ids: Vec<Str> = clients.iter().map(|client| client.member_id.clone()).collect();
        let assignments: Vec<(&Str, &str)> = ids.iter().map(|id| (id, id.as_str())).collect();
        let tickets: Vec<_> = clients.iter().map(|client| self.sync(client, &assignments)).collect();
        for (client, ticket) in clients.iter().zip(tickets) {
            let response = self.expect(ticket);
            assert_eq!(response.error_code, 0);
            assert_eq!(response.assignment, client.member_id.as_bytes());
        }
        assert_eq!(self.state(clients[0].group), "Stable");
    }
}

/// The errors that the tests name; all of them would bring in one called `None`.
pub mod errors {
    pub use corelane_protocol::ErrorCode::{
        CoordinatorNotAvailable, FencedInstanceId, GroupIdNotFound, GroupMaxSizeReached, GroupSubscribedToTopic,
        IllegalGeneration, InconsistentGroupProtocol, InvalidGroupId, InvalidRecord, InvalidSessionTimeout,
        KafkaStorageError, MemberIdRequired, MessageTooLarge, NonEmptyGroup, NotCoordinator, NotEnoughReplicas,
        NotLeaderOrFollower, OffsetMetadataTooLarge, RebalanceInProgress, RequestTimedOut, UnknownMemberId,
        UnknownServerError, UnknownTopicOrPartition,
    };
}
