//! Consumers of the classic protocol, as clients do it: join, sync, heartbeat.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use corelane_protocol::messages::*;
use corelane_protocol::record_frame::{decode_versioned, encode_versioned};
use corelane_protocol::records::data::{
    ConsumerProtocolAssignment, ConsumerProtocolAssignmentTopicPartition, ConsumerProtocolSubscription,
    ConsumerProtocolSubscriptionTopicPartition,
};
use corelane_protocol::{ErrorCode, Str};

use crate::harness::{GROUP, Harness, Owned, Ticket, error, topic_id};

pub fn text(text: &str) -> Str {
    Str::from(text.to_owned())
}

/// What the client does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    Join,
    Sync,
    Beat,
}

#[derive(Clone, Debug)]
pub struct Classic {
    /// Empty until it is told.
    pub id: Str,
    pub instance_id: Option<Str>,
    pub topics: Vec<&'static str>,
    /// It keeps its partitions while it rejoins, and says which they are.
    pub cooperative: bool,
    pub generation: i32,
    pub next: Next,
    pub owned: Owned,
    /// As the leader of a classic generation: what everyone is to get.
    pub plan: Vec<SyncGroupRequestAssignment>,
}

pub fn classic(topics: &[&'static str]) -> Classic {
    Classic {
        id: Str::EMPTY,
        instance_id: None,
        topics: topics.to_vec(),
        cooperative: false,
        generation: -1,
        next: Next::Join,
        owned: Owned::new(),
        plan: Vec::new(),
    }
}

pub fn assignment(owned: &Owned, names: &[&str]) -> Bytes {
    let topic = |name: &&str| {
        let partitions: Vec<i32> = owned.iter().filter(|(id, _)| *id == topic_id(name)).map(|(_, p)| *p).collect();
        (!partitions.is_empty()).then(|| ConsumerProtocolAssignmentTopicPartition { topic: text(name), partitions })
    };
    let assigned_partitions = names.iter().filter_map(topic).collect();
    encode_versioned(&ConsumerProtocolAssignment { assigned_partitions, user_data: None }, 0).unwrap()
}

/// Partitions in an assignment; none in an empty one.
pub fn read_assignment(bytes: &Bytes) -> Owned {
    if bytes.is_empty() {
        return Owned::new();
    }
    let (assignment, _) = decode_versioned::<ConsumerProtocolAssignment>(bytes.clone()).unwrap();
    let topics = assignment.assigned_partitions.iter();
    topics.flat_map(|topic| topic.partitions.iter().map(|p| (topic_id(&topic.topic), *p))).collect()
}

impl Classic {
    pub fn named(mut self, instance_id: &str) -> Classic {
        self.instance_id = Some(text(instance_id));
        self
    }

    pub fn cooperative(mut self) -> Classic {
        self.cooperative = true;
        self
    }

    fn subscription(&self) -> Bytes {
        let owned = |name: &&'static str| {
            let partitions = self.owned.iter().filter(|(id, _)| *id == topic_id(name)).map(|(_, p)| *p).collect();
            ConsumerProtocolSubscriptionTopicPartition { topic: text(name), partitions }
        };
        let subscription = ConsumerProtocolSubscription {
            topics: self.topics.iter().map(|name| text(name)).collect(),
            owned_partitions: if self.cooperative { self.topics.iter().map(owned).collect() } else { Vec::new() },
            ..Default::default()
        };
        encode_versioned(&subscription, 1).unwrap()
    }

    pub fn join_request(&self) -> JoinGroupRequest {
        let name = if self.cooperative { "cooperative-sticky" } else { "range" };
        JoinGroupRequest {
            group_id: Str::from(GROUP),
            session_timeout_ms: 30_000,
            rebalance_timeout_ms: 60_000,
            member_id: self.id.clone(),
            group_instance_id: self.instance_id.clone(),
            protocol_type: Str::from("consumer"),
            protocols: vec![JoinGroupRequestProtocol {
                name: Str::from(name),
                metadata: self.subscription(),
                ..Default::default()
            }],
            ..Default::default()
        }
    }

    fn sync_request(&self) -> SyncGroupRequest {
        SyncGroupRequest {
            group_id: Str::from(GROUP),
            generation_id: self.generation,
            member_id: self.id.clone(),
            group_instance_id: self.instance_id.clone(),
            protocol_type: Some(Str::from("consumer")),
            protocol_name: Some(Str::from(if self.cooperative { "cooperative-sticky" } else { "range" })),
            assignments: self.plan.clone(),
            ..Default::default()
        }
    }

    fn beat_request(&self) -> HeartbeatRequest {
        HeartbeatRequest {
            group_id: Str::from(GROUP),
            generation_id: self.generation,
            member_id: self.id.clone(),
            group_instance_id: self.instance_id.clone(),
            ..Default::default()
        }
    }

    fn lose_all(&mut self, code: ErrorCode) {
        if code == ErrorCode::UnknownMemberId || code == ErrorCode::FencedInstanceId {
            self.id = Str::EMPTY;
        }
        if code != ErrorCode::RebalanceInProgress {
            self.owned.clear();
        }
        self.next = Next::Join;
    }

    fn joined(&mut self, harness: &Harness, response: &JoinGroupResponse) -> ErrorCode {
        let code = error(response.error_code);
        match code {
            ErrorCode::None => {
                self.id = response.member_id.clone();
                self.generation = response.generation_id;
                self.next = Next::Sync;
                self.plan = if response.leader == self.id { plan(harness, &response.members) } else { Vec::new() };
            }
            ErrorCode::MemberIdRequired => self.id = response.member_id.clone(),
            _ => self.lose_all(code),
        }
        code
    }

    fn synced(&mut self, response: &SyncGroupResponse) -> ErrorCode {
        let code = error(response.error_code);
        match code {
            ErrorCode::None => {
                let owned = read_assignment(&response.assignment);
                // What it gives up others wait for.
                let lost = self.cooperative && !self.owned.is_subset(&owned);
                self.next = if lost { Next::Join } else { Next::Beat };
                self.owned = owned;
            }
            _ => self.lose_all(code),
        }
        code
    }
}

/// Range: for each topic the partitions in turn to those who read it.
fn plan(harness: &Harness, members: &[JoinGroupResponseMember]) -> Vec<SyncGroupRequestAssignment> {
    let mut readers: BTreeMap<String, Vec<&Str>> = BTreeMap::new();
    for member in members {
        let (wanted, _) = decode_versioned::<ConsumerProtocolSubscription>(member.metadata.clone()).unwrap();
        wanted.topics.iter().for_each(|topic| readers.entry(topic.to_string()).or_default().push(&member.member_id));
    }
    let mut plans: BTreeMap<&Str, Owned> = members.iter().map(|m| (&m.member_id, Owned::new())).collect();
    for (topic, readers) in &readers {
        let Some((id, partitions)) = harness.cluster.topics.get(topic) else { continue };
        for partition in 0..*partitions {
            let reader = readers[partition as usize % readers.len()];
            plans.get_mut(reader).unwrap().insert((*id, partition));
        }
    }
    let names: BTreeSet<&str> = readers.keys().map(String::as_str).collect();
    let names: Vec<&str> = names.into_iter().collect();
    plans
        .into_iter()
        .map(|(id, owned)| SyncGroupRequestAssignment {
            member_id: id.clone(),
            assignment: assignment(&owned, &names),
            ..Default::default()
        })
        .collect()
}

/// A request of a classic member that waits for its answer.
pub enum Waiting {
    Join(Ticket<JoinGroupResponse>),
    Sync(Ticket<SyncGroupResponse>),
}

impl Harness {
    /// Does what the member does next; the answer of a join or a sync may have to be waited for.
    pub fn act(&mut self, member: &mut Classic) -> Option<Waiting> {
        let context = self.context(5);
        Some(match member.next {
            Next::Join => {
                if !member.cooperative {
                    member.owned.clear();
                }
                let outcome = self.machine.join_group(self.now, &context, &member.join_request());
                Waiting::Join(self.ticket(outcome))
            }
            Next::Sync => {
                let outcome = self.machine.sync_group(self.now, &context, &member.sync_request());
                Waiting::Sync(self.ticket(outcome))
            }
            Next::Beat => {
                let response = self.machine.heartbeat(self.now, &member.beat_request());
                match error(response.error_code) {
                    ErrorCode::None => {}
                    code => member.lose_all(code),
                }
                return None;
            }
        })
    }

    /// Takes the answer if it is there.
    pub fn hear(&mut self, member: &mut Classic, waiting: &Waiting) -> Option<ErrorCode> {
        match waiting {
            Waiting::Join(ticket) => self.answer(ticket).map(|response| member.joined(self, &response)),
            Waiting::Sync(ticket) => self.answer(ticket).map(|response| member.synced(&response)),
        }
    }

    /// One step of the member, whose answer must be there.
    #[track_caller]
    pub fn step(&mut self, member: &mut Classic) -> ErrorCode {
        match self.act(member) {
            None if member.next == Next::Beat => ErrorCode::None,
            None => ErrorCode::RebalanceInProgress,
            Some(waiting) => self.hear(member, &waiting).expect("the answer should be there"),
        }
    }

    /// Joins and syncs; the answers must be there.
    #[track_caller]
    pub fn enter(&mut self, member: &mut Classic) {
        for _ in 0..6 {
            self.step(member);
            if member.next == Next::Beat {
                return;
            }
        }
        panic!("{member:?} does not get in: {:#?}", self.describe());
    }

    pub fn leave_classic(&mut self, member_id: &Str) -> Ticket<LeaveGroupResponse> {
        let context = self.context(5);
        let members = vec![LeaveGroupRequestMemberIdentity { member_id: member_id.clone(), ..Default::default() }];
        let request = LeaveGroupRequest { group_id: Str::from(GROUP), members, ..Default::default() };
        let outcome = self.machine.leave_group(self.now, &context, &request);
        self.ticket(outcome)
    }

    pub fn describe_classic(&mut self) -> DescribeGroupsResponseDescribedGroup {
        let context = self.context(6);
        self.machine.describe_groups(&context, &[Str::from(GROUP)]).remove(0)
    }
}
