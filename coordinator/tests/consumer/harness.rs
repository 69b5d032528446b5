//! A coordinator, its clock, its log, its topics, and consumers that follow the protocol.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

use corelane_coordinator::group::{
    ConsumerGroupSettings, Effects, GroupConfig, GroupCoordinator, Outcome, Reply, RequestContext, Response, Topic,
    Topics, WaitToken, Write,
};
use corelane_coordinator::{CoordinatorRecord, Now};
use corelane_protocol::messages::*;
use corelane_protocol::{ErrorCode, Str, Uuid};

pub const GROUP: &str = "g";

/// Topics by name: id and partitions.
#[derive(Clone, Debug, Default)]
pub struct Cluster {
    pub topics: BTreeMap<String, (Uuid, i32)>,
}

impl Topics for Cluster {
    fn named(&self, name: &str) -> Option<Topic> {
        let (id, partitions) = self.topics.get(name)?;
        Some(Topic { id: *id, name: Str::from(name.to_owned()), partitions: *partitions })
    }

    fn with_id(&self, id: Uuid) -> Option<Topic> {
        let (name, _) = self.topics.iter().find(|(_, (other, _))| *other == id)?;
        self.named(name)
    }

    fn each_name(&self, visit: &mut dyn FnMut(&str)) {
        self.topics.keys().for_each(|name| visit(name));
    }
}

pub fn topic_id(name: &str) -> Uuid {
    Uuid::from_u128(name.bytes().fold(7, |id, byte| id * 257 + u128::from(byte)))
}

pub fn error(code: i16) -> ErrorCode {
    ErrorCode::from_code(code).expect("a code of Kafka's")
}

pub struct Harness {
    pub machine: GroupCoordinator,
    pub config: GroupConfig,
    pub now: Now,
    pub cluster: Cluster,
    /// What is durable.
    pub log: Vec<CoordinatorRecord>,
    pub under_way: VecDeque<Write>,
    /// Writes wait for the test to end them.
    pub hold_writes: bool,
    pub answers: BTreeMap<WaitToken, Response>,
    random: u128,
}

pub type Owned = BTreeSet<(Uuid, i32)>;

/// A member as its client sees it.
#[derive(Clone, Debug)]
pub struct Consumer {
    pub id: Str,
    pub instance_id: Option<Str>,
    pub epoch: i32,
    pub topics: Option<Vec<Str>>,
    pub regex: Option<Str>,
    pub assignor: Option<Str>,
    pub owned: Owned,
    pub rebalance_ms: i32,
    pub version: i16,
}

pub fn consumer(id: &str, topics: &[&str]) -> Consumer {
    Consumer {
        id: Str::from(id.to_owned()),
        instance_id: None,
        epoch: 0,
        topics: Some(topics.iter().map(|topic| Str::from((*topic).to_owned())).collect()),
        regex: None,
        assignor: None,
        owned: Owned::new(),
        rebalance_ms: 60_000,
        version: 1,
    }
}

impl Consumer {
    pub fn named(mut self, instance_id: &str) -> Consumer {
        self.instance_id = Some(Str::from(instance_id.to_owned()));
        self
    }

    pub fn matching(mut self, regex: &str) -> Consumer {
        self.topics = None;
        self.regex = Some(Str::from(regex.to_owned()));
        self
    }

    pub fn request(&self) -> ConsumerGroupHeartbeatRequest {
        let joining = self.epoch == 0;
        let mut owned: BTreeMap<Uuid, Vec<i32>> = BTreeMap::new();
        self.owned.iter().for_each(|(topic, partition)| owned.entry(*topic).or_default().push(*partition));
        let owned = owned.into_iter().map(|(topic_id, partitions)| ConsumerGroupHeartbeatRequestTopicPartitions {
            topic_id,
            partitions,
            ..Default::default()
        });
        ConsumerGroupHeartbeatRequest {
            group_id: Str::from(GROUP),
            member_id: self.id.clone(),
            member_epoch: self.epoch,
            instance_id: self.instance_id.clone(),
            rebalance_timeout_ms: if joining { self.rebalance_ms } else { -1 },
            subscribed_topic_names: self.topics.clone().filter(|_| joining),
            subscribed_topic_regex: self.regex.clone().filter(|_| joining),
            server_assignor: self.assignor.clone(),
            topic_partitions: Some(owned.collect()),
            ..Default::default()
        }
    }

    /// Follows an answer: gives up what it lost, takes what is new. Gives the error.
    pub fn follow(&mut self, response: &ConsumerGroupHeartbeatResponse) -> ErrorCode {
        let outcome = error(response.error_code);
        match outcome {
            ErrorCode::None => {
                self.id = response.member_id.clone().expect("a member id");
                if self.epoch > 0 {
                    assert!(response.member_epoch >= self.epoch, "epochs do not go back: {response:?}");
                }
                self.epoch = response.member_epoch;
                if let Some(assignment) = &response.assignment {
                    let topics = assignment.topic_partitions.iter();
                    self.owned = topics.flat_map(|t| t.partitions.iter().map(|p| (t.topic_id, *p))).collect();
                }
            }
            ErrorCode::FencedMemberEpoch | ErrorCode::UnknownMemberId => {
                self.epoch = 0;
                self.owned.clear();
            }
            _ => {}
        }
        outcome
    }
}

/// An answer, or what it will come by.
pub enum Ticket<R> {
    Now(R),
    Later(WaitToken),
}

impl Default for Harness {
    fn default() -> Harness {
        Harness::new(GroupConfig::default())
    }
}

/// A new one that assigns whenever it may.
pub fn machine(config: &GroupConfig) -> GroupCoordinator {
    let mut machine = GroupCoordinator::new(config.clone());
    machine.set_consumer_settings(Rc::new(ConsumerGroupSettings { assignment_interval_ms: 0, ..Default::default() }));
    machine
}

impl Harness {
    pub fn new(config: GroupConfig) -> Harness {
        let now = Now { mono_ms: 5_000, wall_ms: 1_700_000_000_000 };
        let mut machine = machine(&config);
        assert_eq!(machine.finish_loading(now), Effects::default());
        Harness {
            machine,
            config,
            now,
            cluster: Cluster::default(),
            log: Vec::new(),
            under_way: VecDeque::new(),
            hold_writes: false,
            answers: BTreeMap::new(),
            random: 1,
        }
    }

    /// Creates a topic, or gives it another number of partitions; none removes it.
    pub fn topic(&mut self, name: &str, partitions: i32) {
        match partitions {
            0 => drop(self.cluster.topics.remove(name)),
            _ => drop(self.cluster.topics.insert(name.to_owned(), (topic_id(name), partitions))),
        }
        let name = Str::from(name.to_owned());
        self.machine.set_topics(Rc::new(self.cluster.clone()), &[name]);
    }

    pub fn context(&mut self, version: i16) -> RequestContext {
        self.random = self.random.wrapping_mul(0x2545_f491_4f6c_dd1d_2545_f491_4f6c_dd1d).wrapping_add(99);
        RequestContext {
            client_id: Str::from("app"),
            client_host: Str::from("/127.0.0.1"),
            api_version: version,
            random: self.random,
        }
    }

    pub fn absorb(&mut self, effects: Effects) {
        for completed in effects.completed {
            assert_eq!(self.answers.insert(completed.token, completed.response), None, "answered twice");
        }
        self.under_way.extend(effects.writes);
        if !self.hold_writes {
            self.complete_writes(usize::MAX);
        }
    }

    pub fn complete_writes(&mut self, most: usize) {
        for _ in 0..most {
            let Some(write) = self.under_way.pop_front() else { return };
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
            Reply::Later(token) => Ticket::Later(token),
        }
    }

    pub fn answer<R: Clone + TryFrom<Response, Error = Response>>(&mut self, ticket: &Ticket<R>) -> Option<R> {
        match ticket {
            Ticket::Now(response) => Some(response.clone()),
            Ticket::Later(token) => self.answers.remove(token).map(|response| R::try_from(response).unwrap()),
        }
    }

    pub fn send(
        &mut self,
        version: i16,
        request: &ConsumerGroupHeartbeatRequest,
    ) -> Ticket<ConsumerGroupHeartbeatResponse> {
        let context = self.context(version);
        let outcome = self.machine.consumer_group_heartbeat(self.now, &context, request);
        self.ticket(outcome)
    }

    #[track_caller]
    pub fn call(&mut self, version: i16, request: &ConsumerGroupHeartbeatRequest) -> ConsumerGroupHeartbeatResponse {
        let ticket = self.send(version, request);
        self.answer(&ticket).expect("the answer should be there")
    }

    #[track_caller]
    pub fn beat(&mut self, consumer: &mut Consumer) -> ErrorCode {
        let response = self.call(consumer.version, &consumer.request());
        consumer.follow(&response)
    }

    #[track_caller]
    pub fn leave(&mut self, consumer: &Consumer, epoch: i32) -> ErrorCode {
        let request = ConsumerGroupHeartbeatRequest {
            member_epoch: epoch,
            rebalance_timeout_ms: -1,
            subscribed_topic_names: None,
            subscribed_topic_regex: None,
            topic_partitions: None,
            ..consumer.request()
        };
        error(self.call(consumer.version, &request).error_code)
    }

    /// Heartbeats until nothing changes any more.
    pub fn settle(&mut self, consumers: &mut [Consumer]) {
        for _ in 0..50 {
            let before: Vec<(i32, Owned)> = consumers.iter().map(|c| (c.epoch, c.owned.clone())).collect();
            for consumer in &mut *consumers {
                self.beat(consumer);
                self.advance(1);
            }
            let after: Vec<(i32, Owned)> = consumers.iter().map(|c| (c.epoch, c.owned.clone())).collect();
            if before == after && self.describe().group_state == "Stable" {
                return;
            }
        }
        panic!("the group does not settle: {:#?}", self.describe());
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
        let replayed = self.replayed();
        let old = std::mem::replace(&mut self.machine, replayed);
        for completed in old.unload(self.now, ErrorCode::NotCoordinator) {
            assert_eq!(self.answers.insert(completed.token, completed.response), None);
        }
        self.under_way.clear();
        let effects = self.machine.finish_loading(self.now);
        self.absorb(effects);
    }

    pub fn replayed(&self) -> GroupCoordinator {
        let mut machine = machine(&self.config);
        for record in &self.log {
            machine.replay(self.now, record.key.clone(), record.value.clone(), None).unwrap();
        }
        machine.set_topics(Rc::new(self.cluster.clone()), &[]);
        machine
    }

    pub fn describe(&self) -> ConsumerGroupDescribeResponseDescribedGroup {
        self.machine.describe_consumer_group(&Str::from(GROUP))
    }

    /// Every partition of the topics is some consumer's.
    #[track_caller]
    pub fn assert_covered(&self, consumers: &[Consumer], topics: &[&str]) {
        let mut owned = Owned::new();
        for consumer in consumers {
            for partition in &consumer.owned {
                assert!(owned.insert(*partition), "{partition:?} has two owners");
            }
        }
        let all = topics.iter().flat_map(|name| {
            let (id, partitions) = self.cluster.topics[*name];
            (0..partitions).map(move |partition| (id, partition))
        });
        assert_eq!(owned, all.collect());
    }
}
