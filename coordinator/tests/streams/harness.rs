//! A coordinator, its clock, its log, its topics, and members that follow the protocol.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

use corelane_coordinator::group::{
    Effects, GroupConfig, GroupCoordinator, Outcome, Reply, RequestContext, Response, StreamsHeartbeat,
    StreamsSettings, Topic, Topics, WaitToken, Write,
};
use corelane_coordinator::{CoordinatorRecord, Now};
use corelane_protocol::messages::*;
use corelane_protocol::{ErrorCode, Str, Uuid};

pub const GROUP: &str = "app";

/// Topics by name, with their partitions.
#[derive(Clone, Debug, Default)]
pub struct Cluster(pub BTreeMap<String, i32>);

impl Topics for Cluster {
    fn named(&self, name: &str) -> Option<Topic> {
        let partitions = *self.0.get(name)?;
        let id = Uuid::from_u128(name.bytes().fold(7, |id, byte| id * 257 + u128::from(byte)));
        Some(Topic { id, name: Str::from(name.to_owned()), partitions })
    }

    fn with_id(&self, id: Uuid) -> Option<Topic> {
        self.0.keys().filter_map(|name| self.named(name)).find(|topic| topic.id == id)
    }

    fn each_name(&self, visit: &mut dyn FnMut(&str)) {
        self.0.keys().for_each(|name| visit(name));
    }
}

pub struct Harness {
    pub machine: GroupCoordinator,
    pub settings: StreamsSettings,
    pub now: Now,
    pub cluster: Cluster,
    /// What is durable.
    pub log: Vec<CoordinatorRecord>,
    pub under_way: VecDeque<Write>,
    /// Writes wait for the test to end them.
    pub hold_writes: bool,
    pub answers: BTreeMap<WaitToken, Response>,
}

/// Tasks as (subtopology, partition).
pub type Tasks = BTreeSet<(Str, i32)>;

/// A member as its client sees it.
#[derive(Clone, Debug)]
pub struct Member {
    pub id: Str,
    pub process: Str,
    pub epoch: i32,
    pub active: Tasks,
    pub standby: Tasks,
    pub endpoint: Option<u16>,
    pub endpoint_epoch: i32,
    /// What the last answer said besides.
    pub statuses: Vec<i8>,
}

pub fn member(process: &str, number: usize) -> Member {
    Member {
        id: Str::from(format!("{process}-{number}")),
        process: Str::from(process.to_owned()),
        epoch: 0,
        active: Tasks::new(),
        standby: Tasks::new(),
        endpoint: None,
        endpoint_epoch: -1,
        statuses: Vec::new(),
    }
}

/// Words of `text`, counted behind a repartition topic.
pub fn topology() -> StreamsGroupHeartbeatRequestTopology {
    let internal = |name| StreamsGroupHeartbeatRequestTopicInfo { name: Str::from_static(name), ..Default::default() };
    let first = StreamsGroupHeartbeatRequestSubtopology {
        subtopology_id: Str::from_static("0"),
        source_topics: vec![Str::from_static("text")],
        repartition_sink_topics: vec![Str::from_static("words")],
        ..Default::default()
    };
    let second = StreamsGroupHeartbeatRequestSubtopology {
        subtopology_id: Str::from_static("1"),
        repartition_source_topics: vec![internal("words")],
        state_changelog_topics: vec![internal("counts")],
        ..Default::default()
    };
    StreamsGroupHeartbeatRequestTopology { subtopologies: vec![first, second], ..Default::default() }
}

fn listed(tasks: &Tasks) -> Vec<StreamsGroupHeartbeatRequestTaskIds> {
    let mut by_id: BTreeMap<Str, Vec<i32>> = BTreeMap::new();
    tasks.iter().for_each(|(id, partition)| by_id.entry(id.clone()).or_default().push(*partition));
    let ids = |(subtopology_id, partitions)| StreamsGroupHeartbeatRequestTaskIds {
        subtopology_id,
        partitions,
        ..Default::default()
    };
    by_id.into_iter().map(ids).collect()
}

fn told(ids: &[StreamsGroupHeartbeatResponseTaskIds]) -> Tasks {
    ids.iter().flat_map(|ids| ids.partitions.iter().map(|p| (ids.subtopology_id.clone(), *p))).collect()
}

impl Member {
    pub fn request(&self) -> StreamsGroupHeartbeatRequest {
        let joining = self.epoch == 0;
        StreamsGroupHeartbeatRequest {
            group_id: Str::from_static(GROUP),
            member_id: self.id.clone(),
            member_epoch: self.epoch,
            endpoint_information_epoch: self.endpoint_epoch,
            rebalance_timeout_ms: if joining { 60_000 } else { -1 },
            topology: joining.then(topology),
            active_tasks: Some(listed(&self.active)),
            standby_tasks: Some(listed(&self.standby)),
            warmup_tasks: Some(Vec::new()),
            process_id: joining.then(|| self.process.clone()),
            user_endpoint: self.endpoint.filter(|_| joining).map(|port| StreamsGroupHeartbeatRequestEndpoint {
                host: Str::from_static("host"),
                port,
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    pub fn leaving(&self) -> StreamsGroupHeartbeatRequest {
        StreamsGroupHeartbeatRequest {
            group_id: Str::from_static(GROUP),
            member_id: self.id.clone(),
            member_epoch: -1,
            ..Default::default()
        }
    }

    /// Follows an answer: gives up what it lost and takes what is new. Gives the error.
    pub fn follow(&mut self, answer: &StreamsGroupHeartbeatResponse) -> ErrorCode {
        let error = ErrorCode::from_code(answer.error_code).expect("a code of Kafka's");
        match error {
            ErrorCode::None => {
                assert!(answer.member_epoch >= self.epoch, "epochs do not go back: {answer:?}");
                self.epoch = answer.member_epoch;
                self.endpoint_epoch = answer.endpoint_information_epoch;
                self.statuses = answer.status.iter().flatten().map(|status| status.status_code).collect();
                if let (Some(active), Some(standby)) = (&answer.active_tasks, &answer.standby_tasks) {
                    (self.active, self.standby) = (told(active), told(standby));
                }
            }
            ErrorCode::FencedMemberEpoch | ErrorCode::UnknownMemberId => self.abandon(),
            _ => {}
        }
        error
    }

    /// Gives everything up, and joins at the next heartbeat.
    pub fn abandon(&mut self) {
        self.epoch = 0;
        self.active.clear();
        self.standby.clear();
        self.endpoint_epoch = -1;
    }
}

impl Default for Harness {
    fn default() -> Harness {
        let settings =
            StreamsSettings { initial_rebalance_delay_ms: 0, assignment_interval_ms: 0, ..StreamsSettings::default() };
        let mut harness = Harness {
            machine: GroupCoordinator::new(GroupConfig::default()),
            settings,
            now: Now { mono_ms: 1_000, wall_ms: 1_700_000_000_000 },
            cluster: Cluster::default(),
            log: Vec::new(),
            under_way: VecDeque::new(),
            hold_writes: false,
            answers: BTreeMap::new(),
        };
        let effects = harness.machine.finish_loading(harness.now);
        harness.take(effects);
        harness
    }
}

impl Harness {
    /// With the topics of [`topology`], each of so many partitions.
    pub fn with_topics(partitions: i32) -> Harness {
        let mut harness = Harness::default();
        for name in ["text", "words", "counts"] {
            harness.set_topic(name, partitions);
        }
        harness
    }

    pub fn set_topic(&mut self, name: &str, partitions: i32) {
        self.cluster.0.insert(name.to_owned(), partitions);
        self.machine.set_topics(Rc::new(self.cluster.clone()), &[Str::from(name.to_owned())]);
    }

    pub fn take(&mut self, effects: Effects) {
        for completed in effects.completed {
            assert!(self.answers.insert(completed.token, completed.response).is_none(), "answered twice");
        }
        self.under_way.extend(effects.writes);
        while !self.hold_writes && !self.under_way.is_empty() {
            self.end_write();
        }
    }

    /// The oldest write becomes durable.
    pub fn end_write(&mut self) {
        if let Some(write) = self.under_way.pop_front() {
            self.log.extend(write.records);
            let effects = self.machine.write_completed(self.now, write.id);
            self.take(effects);
        }
    }

    /// The oldest write fails, and with it all others.
    pub fn fail_writes(&mut self) {
        if let Some(write) = self.under_way.pop_front() {
            self.under_way.clear();
            let effects = self.machine.write_failed(self.now, write.id, ErrorCode::NotEnoughReplicas);
            self.take(effects);
        }
    }

    pub fn pass(&mut self, ms: i64) {
        self.now.mono_ms += ms;
        self.now.wall_ms += ms;
        let effects = self.machine.tick(self.now);
        self.take(effects);
    }

    pub fn context() -> RequestContext {
        let (client_id, client_host) = (Str::from_static("client"), Str::from_static("/127.0.0.1"));
        RequestContext { client_id, client_host, api_version: 0, random: 0 }
    }

    /// Sends a request; the answer, or what it waits for.
    pub fn send(&mut self, request: &StreamsGroupHeartbeatRequest) -> Result<StreamsHeartbeat, WaitToken> {
        let Outcome { reply, effects } =
            self.machine.streams_group_heartbeat(self.now, &Harness::context(), request, self.settings);
        self.take(effects);
        match reply {
            Reply::Now(answer) => Ok(answer),
            Reply::Later(token) => self.answer(token).ok_or(token),
        }
    }

    pub fn answer(&mut self, token: WaitToken) -> Option<StreamsHeartbeat> {
        let response = self.answers.remove(&token)?;
        Some(StreamsHeartbeat::try_from(response).expect("an answer to a heartbeat"))
    }

    pub fn ask(&mut self, request: &StreamsGroupHeartbeatRequest) -> StreamsHeartbeat {
        self.send(request).expect("an answer")
    }

    /// One heartbeat of a member that follows the answer.
    pub fn beat(&mut self, member: &mut Member) -> ErrorCode {
        let answer = self.ask(&member.request());
        member.follow(&answer.response)
    }

    pub fn describe(&self) -> StreamsGroupDescribeResponseDescribedGroup {
        self.machine.describe_streams_group(&Str::from_static(GROUP))
    }

    /// Everybody beats until nothing changes.
    pub fn settle(&mut self, members: &mut [Member]) {
        for _ in 0..20 {
            let before = self.log.len();
            for member in members.iter_mut() {
                self.beat(member);
            }
            if self.log.len() == before {
                return;
            }
        }
        panic!("does not settle: {:?}", self.describe());
    }

    /// A machine that has loaded `log`.
    pub fn reloaded(&self, log: &[CoordinatorRecord]) -> GroupCoordinator {
        let mut machine = GroupCoordinator::new(GroupConfig::default());
        for record in log {
            machine.replay(self.now, record.key.clone(), record.value.clone(), None).expect("a record");
        }
        machine
    }
}

/// What must be the same after loading: all that is stored. The topology may be shown as it is fitted to the topics, or not yet.
pub fn stored(machine: &GroupCoordinator) -> StreamsGroupDescribeResponseDescribedGroup {
    let described = machine.describe_streams_group(&Str::from_static(GROUP));
    StreamsGroupDescribeResponseDescribedGroup { topology: None, ..described }
}
