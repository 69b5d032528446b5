//! The machine, with as much of a broker around it as the requests need.

use std::collections::HashMap;

use corelane_coordinator::Now;
use corelane_coordinator::group::*;
use corelane_protocol::messages::*;
use corelane_protocol::{ErrorCode, Message, Request, Str, Uuid};

use crate::{Asked, Side, TOPICS, Ticket, text};

pub enum Handled<R> {
    Now(R),
    Later(WaitToken),
}

pub struct Machine {
    coordinator: GroupCoordinator,
    now: Now,
    completed: HashMap<WaitToken, Response>,
    /// Answers and what is waited for, by ticket; answers are encoded in the ticket's version.
    waiting: HashMap<i32, WaitToken>,
    ready: HashMap<i32, bytes::Bytes>,
    random: u128,
    next: i32,
}

impl Machine {
    pub fn new() -> Machine {
        let now = Now { mono_ms: 0, wall_ms: 1_700_000_000_000 };
        let config = GroupConfig { initial_rebalance_delay_ms: 0, ..Default::default() };
        let mut coordinator = GroupCoordinator::new(config);
        coordinator.finish_loading(now);
        Machine {
            coordinator,
            now,
            completed: HashMap::new(),
            waiting: HashMap::new(),
            ready: HashMap::new(),
            random: 3,
            next: 0,
        }
    }

    fn absorb(&mut self, effects: Effects) {
        for completed in effects.completed {
            self.completed.insert(completed.token, completed.response);
        }
        for write in effects.writes {
            let effects = self.coordinator.write_completed(self.now, write.id);
            self.absorb(effects);
        }
    }

    pub fn advance(&mut self, ms: i64) {
        self.now.mono_ms += ms;
        self.now.wall_ms += ms;
        let effects = self.coordinator.tick(self.now);
        self.absorb(effects);
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

    fn take<R: TryFrom<Response, Error = Response>>(&mut self, outcome: Outcome<R>) -> Handled<R> {
        self.absorb(outcome.effects);
        match outcome.reply {
            Reply::Now(response) => Handled::Now(response),
            Reply::Later(token) => match self.completed.remove(&token) {
                Some(response) => Handled::Now(R::try_from(response).unwrap()),
                None => Handled::Later(token),
            },
        }
    }

    fn name_of(&self, id: Uuid) -> Option<Str> {
        TOPICS.iter().find(|name| self.topic_id(name) == id).map(|name| text(name))
    }
}

impl Side for Machine {
    fn ask<R: Asked>(&mut self, client: usize, version: i16, request: &R) -> Ticket {
        // Through bytes, so that it is what a client of that version can say.
        let request = request.to_bytes(version).unwrap();
        let request = R::decode(&mut corelane_protocol::Decoder::new(request), version).unwrap();
        self.next += 1;
        match request.handle(self, version) {
            Handled::Now(response) => {
                self.ready.insert(self.next, response.to_bytes(version).unwrap());
            }
            Handled::Later(token) => {
                self.waiting.insert(self.next, token);
            }
        }
        Ticket { client, number: self.next, version, may_wait: R::may_wait() }
    }

    fn answer<R: Asked>(&mut self, ticket: &Ticket, _: bool) -> Option<R::Response> {
        if let Some(token) = self.waiting.get(&ticket.number) {
            let bytes = match self.completed.remove(token)? {
                Response::Join(response) => response.to_bytes(ticket.version),
                Response::Sync(response) => response.to_bytes(ticket.version),
                other => panic!("{other:?}"),
            };
            self.waiting.remove(&ticket.number);
            self.ready.insert(ticket.number, bytes.unwrap());
        }
        let bytes = self.ready.remove(&ticket.number)?;
        Some(R::Response::decode(&mut corelane_protocol::Decoder::new(bytes), ticket.version).unwrap())
    }

    fn topic_id(&self, name: &str) -> Uuid {
        TOPICS.iter().position(|topic| *topic == name).map_or(Uuid::from_u128(77), |at| Uuid::from_u128(5 + at as u128))
    }
}

fn at_once<R: std::fmt::Debug>(handled: Handled<R>) -> R {
    match handled {
        Handled::Now(response) => response,
        Handled::Later(token) => panic!("{token:?}"),
    }
}

impl Asked for JoinGroupRequest {
    fn may_wait() -> bool {
        true
    }

    fn handle(&self, machine: &mut Machine, version: i16) -> Handled<JoinGroupResponse> {
        let context = machine.context(version);
        let outcome = machine.coordinator.join_group(machine.now, &context, self);
        machine.take(outcome)
    }
}

impl Asked for SyncGroupRequest {
    fn may_wait() -> bool {
        true
    }

    fn handle(&self, machine: &mut Machine, version: i16) -> Handled<SyncGroupResponse> {
        let context = machine.context(version);
        let outcome = machine.coordinator.sync_group(machine.now, &context, self);
        machine.take(outcome)
    }
}

impl Asked for HeartbeatRequest {
    fn handle(&self, machine: &mut Machine, _: i16) -> Handled<HeartbeatResponse> {
        Handled::Now(machine.coordinator.heartbeat(machine.now, self))
    }
}

impl Asked for LeaveGroupRequest {
    fn handle(&self, machine: &mut Machine, version: i16) -> Handled<LeaveGroupResponse> {
        let context = machine.context(version);
        let outcome = machine.coordinator.leave_group(machine.now, &context, self);
        machine.take(outcome)
    }
}

impl Asked for OffsetCommitRequest {
    /// Topics that do not exist are the broker's to refuse: the scenarios only have such that do.
    fn handle(&self, machine: &mut Machine, version: i16) -> Handled<OffsetCommitResponse> {
        let mut request = self.clone();
        for topic in &mut request.topics {
            if version >= 10 {
                topic.name = machine.name_of(topic.topic_id).unwrap();
            } else {
                topic.topic_id = machine.topic_id(&topic.name);
            }
        }
        let context = machine.context(version);
        let outcome = machine.coordinator.offset_commit(machine.now, &context, &request);
        machine.take(outcome)
    }
}

impl Asked for OffsetFetchRequest {
    fn handle(&self, machine: &mut Machine, version: i16) -> Handled<OffsetFetchResponse> {
        let mut groups = Vec::new();
        for mut group in fetched_groups(version, self) {
            for topic in group.topics.iter_mut().flatten() {
                match machine.name_of(topic.topic_id) {
                    Some(name) if version >= 10 => topic.name = name,
                    _ => topic.topic_id = machine.topic_id(&topic.name),
                }
            }
            let outcome = machine.coordinator.offset_fetch(&group, false);
            let mut group = at_once(machine.take(outcome));
            for topic in &mut group.topics {
                topic.topic_id = machine.topic_id(&topic.name);
            }
            groups.push(group);
        }
        Handled::Now(fetch_response(version, groups))
    }
}

impl Asked for OffsetDeleteRequest {
    fn handle(&self, machine: &mut Machine, _: i16) -> Handled<OffsetDeleteResponse> {
        let outcome = machine.coordinator.offset_delete(machine.now, self);
        machine.take(outcome)
    }
}

impl Asked for DeleteGroupsRequest {
    fn handle(&self, machine: &mut Machine, _: i16) -> Handled<DeleteGroupsResponse> {
        let outcome = machine.coordinator.delete_groups(machine.now, &self.groups_names);
        machine.take(outcome)
    }
}

impl Asked for DescribeGroupsRequest {
    fn handle(&self, machine: &mut Machine, version: i16) -> Handled<DescribeGroupsResponse> {
        let context = machine.context(version);
        let groups = machine.coordinator.describe_groups(&context, &self.groups);
        Handled::Now(DescribeGroupsResponse { groups, ..Default::default() })
    }
}

impl Asked for ListGroupsRequest {
    fn handle(&self, machine: &mut Machine, _: i16) -> Handled<ListGroupsResponse> {
        let groups = machine.coordinator.list_groups(self);
        Handled::Now(ListGroupsResponse { groups, error_code: ErrorCode::None.code(), ..Default::default() })
    }
}

/// The versions of a request that both sides have.
pub fn versions<R: Request>() -> std::ops::RangeInclusive<i16> {
    R::MIN_VERSION..=R::MAX_VERSION
}
