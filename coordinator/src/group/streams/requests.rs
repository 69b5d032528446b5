//! Requests of streams groups at the coordinator: they find their group, and what they change is written.

use corelane_protocol::messages::{
    StreamsGroupDescribeResponseDescribedGroup, StreamsGroupHeartbeatRequest, StreamsGroupHeartbeatResponse,
};
use corelane_protocol::{ErrorCode, Str};

use super::changed::Changed;
use super::configured::InternalTopic;
use super::group::StreamsGroup;
use super::heartbeat::{Beat, StreamsSettings, Surroundings};
use super::records::Change;
use super::topology::Topology;
use super::validate::{LEAVING, LEAVING_FOR_A_WHILE, validate};
use crate::Now;
use crate::group::coordinator::GroupCoordinator;
use crate::group::outcome::{Effects, Outcome};
use crate::group::refusal::Refusal;
use crate::group::table::Group;
use crate::group::writes::Undo;
use crate::group::{RequestContext, reject};

/// The answer to a heartbeat, and what is to be done for it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StreamsHeartbeat {
    pub response: StreamsGroupHeartbeatResponse,
    /// Internal topics that the application lacks: they are to be made. Its status says so too.
    pub missing: Vec<InternalTopic>,
}

impl GroupCoordinator {
    /// A member of a Kafka Streams application joins, is alive or leaves. `settings` are those of its group. Answered when what
    /// it has changed, and all that was changed in the group before, is stored.
    pub fn streams_group_heartbeat(
        &mut self,
        now: Now,
        context: &RequestContext,
        request: &StreamsGroupHeartbeatRequest,
        settings: StreamsSettings,
    ) -> Outcome<StreamsHeartbeat> {
        let (mut out, mut changed) = (Effects::default(), Changed::default());
        let done = validate(request).and_then(|()| match request.member_epoch {
            LEAVING | LEAVING_FOR_A_WHILE => self.leave_streams_group(request, &mut changed),
            _ => self.streams_beat(now, context, request, settings, &mut changed, &mut out),
        });
        let answer = match done {
            Ok(answer) => answer,
            Err(refusal) => return Outcome::now(refused(refusal)),
        };
        let group_id = request.group_id.detach();
        let (_, mut env) = self.parts(now, &mut out);
        changed.write(&mut env, &group_id);
        let Some(last) = self.writes.last_of(&group_id) else {
            return Outcome { effects: out, ..Outcome::now(answer) };
        };
        let token = self.next_token();
        self.writes.reply_after(last, token, answer);
        self.settle(now, &mut out);
        Outcome::from_effects(token, out)
    }

    fn streams_beat(
        &mut self,
        now: Now,
        context: &RequestContext,
        request: &StreamsGroupHeartbeatRequest,
        settings: StreamsSettings,
        changed: &mut Changed,
        out: &mut Effects,
    ) -> Result<StreamsHeartbeat, Refusal> {
        let id = &request.group_id;
        let joins = request.member_epoch == super::validate::JOINING;
        let mut new = match self.groups.get(id) {
            Some(Group::Streams(_)) => None,
            // An empty classic group gives way.
            Some(Group::Classic(_)) if joins && self.groups.get(id).is_some_and(Group::is_empty) => {
                Some(StreamsGroup::new(id.detach(), self.next_incarnation()))
            }
            Some(_) => return Err(not_a_streams_group(id)),
            None if joins => Some(StreamsGroup::new(id.detach(), self.next_incarnation())),
            None => {
                return Err(Refusal::new(ErrorCode::GroupIdNotFound, format!("Streams group {id} not found.")));
            }
        };
        let (groups, env) = self.parts(now, out);
        let topics = env.catalog.topics.clone();
        let partitions = |name: &str| topics.named(name).map(|topic| topic.partitions);
        let hash = &mut |topology: &Topology| env.catalog.group_hash(topology.required_topics().into_iter());
        let is_new = new.is_some();
        let replaces = is_new && groups.contains_key(id);
        let mut around = Surroundings { now, settings, replaces, partitions: &partitions, hash };
        let group = match &mut new {
            Some(group) => group,
            None => groups.streams_mut(id).ok_or_else(|| not_a_streams_group(id))?,
        };
        let Beat { changes, answer, missing, begins_delay, moved_to, rebalance_timeout_ms } =
            group.heartbeat(&mut around, context, request, is_new)?;
        if let Some(group) = new {
            if let Some(replaced) = groups.remove(id) {
                match replaced.tombstones() {
                    Ok(records) => changed.records.extend(records.into_iter().map(Ok)),
                    Err(error) => changed.records.push(Err(error)),
                }
                changed.undo.push(Undo::RemovedGroup(Box::new(replaced)));
            }
            changed.undo.push(Undo::CreatedGroup { group: group.id.clone(), incarnation: group.incarnation });
            groups.add(Group::Streams(group));
        }
        let (groups, mut env) = self.parts(now, out);
        if let Some(group) = groups.streams_mut(id) {
            changed.make(group, changes);
            let member = answer.member_id.clone();
            group.start_session(&mut env, &member, settings.session_timeout_ms);
            if moved_to.is_some() {
                group.follow_revocation(&mut env, &member, rebalance_timeout_ms);
            }
            if begins_delay {
                group.start_initial_delay(&mut env, settings.initial_rebalance_delay_ms);
            }
        }
        Ok(StreamsHeartbeat { response: answer, missing })
    }

    fn leave_streams_group(
        &mut self,
        request: &StreamsGroupHeartbeatRequest,
        changed: &mut Changed,
    ) -> Result<StreamsHeartbeat, Refusal> {
        let id = &request.group_id;
        if !self.groups.contains_key(id) {
            return Err(Refusal::new(ErrorCode::GroupIdNotFound, format!("Group {id} not found.")));
        }
        let group = self.groups.streams_mut(id).ok_or_else(|| not_a_streams_group(id))?;
        let member_id = request.member_id.detach();
        if request.shutdown_application {
            group.shutdown_by.get_or_insert_with(|| member_id.clone());
        }
        if !group.members.contains_key(&member_id) {
            return Err(group.unknown_member(&member_id));
        }
        let changes = group.removal_of(&member_id);
        changed.make(group, changes);
        let response = StreamsGroupHeartbeatResponse {
            member_id,
            member_epoch: request.member_epoch,
            status: Some(Vec::new()),
            ..Default::default()
        };
        Ok(StreamsHeartbeat { response, missing: Vec::new() })
    }

    /// Takes over what a record says of a streams group.
    pub(crate) fn replay_streams_group(&mut self, group_id: Str, change: Change) {
        let is_tombstone = change.is_tombstone();
        match self.groups.get(&group_id) {
            Some(Group::Streams(_)) => {}
            Some(other) => {
                let holds_offsets = |group: &crate::group::classic::ClassicGroup| {
                    group.protocol_type.is_none() && group.is_in(crate::group::GroupState::Empty)
                };
                if is_tombstone || !other.classic().is_some_and(holds_offsets) {
                    return;
                }
            }
            None if is_tombstone => return,
            None => {}
        }
        if self.groups.streams_mut(&group_id).is_none() {
            let group = StreamsGroup::new(group_id.clone(), self.next_incarnation());
            self.groups.add(Group::Streams(group));
        }
        if change == Change::Metadata(None) {
            self.groups.remove(&group_id);
        } else if let Some(group) = self.groups.streams_mut(&group_id) {
            group.apply(change);
        }
    }

    /// A streams group with its topology, its members and what they have and are to have.
    pub fn describe_streams_group(&self, group_id: &Str) -> StreamsGroupDescribeResponseDescribedGroup {
        let message = match self.groups.get(group_id) {
            Some(Group::Streams(group)) => return group.describe(),
            Some(_) => format!("Group {group_id} is not a streams group."),
            None => format!("Group {group_id} not found."),
        };
        StreamsGroupDescribeResponseDescribedGroup {
            error_message: Some(message.into()),
            ..reject::describe_streams_group(group_id, ErrorCode::GroupIdNotFound)
        }
    }
}

fn not_a_streams_group(group_id: &str) -> Refusal {
    Refusal::new(ErrorCode::GroupIdNotFound, format!("Group {group_id} is not a streams group."))
}

fn refused(refusal: Refusal) -> StreamsHeartbeat {
    let message = Some(Str::from(refusal.message)).filter(|_| refusal.code != ErrorCode::UnknownServerError);
    let response = StreamsGroupHeartbeatResponse {
        error_code: refusal.code.code(),
        error_message: message,
        ..reject::streams_heartbeat(refusal.code)
    };
    StreamsHeartbeat { response, missing: Vec::new() }
}
