//! ShareGroupHeartbeat: members come, go, change what they subscribe to, and hear what to read.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use corelane_protocol::messages::{
    ShareGroupHeartbeatRequest, ShareGroupHeartbeatResponse, ShareGroupHeartbeatResponseAssignment,
    ShareGroupHeartbeatResponseTopicPartitions,
};
use corelane_protocol::{ErrorCode, Str, Uuid};

use super::assignor::{Reader, assign};
use super::group::ShareGroup;
use super::record::ShareRecord;
use super::state::{LEFT, ShareMember};
use super::{Partitions, Refusal};
use crate::Now;
use crate::group::RequestContext;
use crate::group::coordinator::GroupCoordinator;
use crate::group::env::Env;
use crate::group::modern::topics::Topics;
use crate::group::outcome::{Effects, Errand, Outcome, WriteId};
use crate::group::reject;
use crate::group::writes::OnWritten;

/// Epoch with which a member joins.
const JOINING: i32 = 0;

/// The answer, and the write that it has to wait for.
type Answer = (ShareGroupHeartbeatResponse, Option<WriteId>);

impl GroupCoordinator {
    /// A member says that it is there: answered when what came of it is stored.
    pub fn share_group_heartbeat(
        &mut self,
        now: Now,
        context: &RequestContext,
        request: &ShareGroupHeartbeatRequest,
    ) -> Outcome<ShareGroupHeartbeatResponse> {
        let mut out = Effects::default();
        let answer = check(request).and_then(|()| self.beat(now, context, request, &mut out));
        let (response, write) = match answer {
            Ok(answer) => answer,
            Err(refusal) => (reject::share_heartbeat(refusal.code, Some(refusal.message)), None),
        };
        let Some(write) = write else { return Outcome { effects: out, ..Outcome::now(response) } };
        let token = self.next_token();
        self.writes.reply_after(write, token, response);
        self.settle(now, &mut out);
        Outcome::from_effects(token, out)
    }

    fn beat(
        &mut self,
        now: Now,
        context: &RequestContext,
        request: &ShareGroupHeartbeatRequest,
        out: &mut Effects,
    ) -> Result<Answer, Refusal> {
        let id = &request.group_id;
        if !self.groups.contains_key(id) {
            match request.member_epoch {
                JOINING => {
                    let group = ShareGroup::new(id.detach(), self.next_incarnation());
                    self.groups.add_share(group);
                }
                LEFT => return Err(Refusal::new(ErrorCode::GroupIdNotFound, format!("Group {id} not found."))),
                _ => return Err(Refusal::new(ErrorCode::GroupIdNotFound, format!("Share group {id} not found."))),
            }
        }
        let last = self.writes.last_of(id);
        let (groups, mut env) = self.parts(now, out);
        let group = groups.share_mut(id).ok_or_else(|| Refusal::not_a_share_group(id))?;
        let (response, write) = match request.member_epoch {
            LEFT => group.leave(&mut env, request)?,
            _ => group.heartbeat(&mut env, context, request)?,
        };
        Ok((response, write.or(last)))
    }
}

fn check(request: &ShareGroupHeartbeatRequest) -> Result<(), Refusal> {
    let invalid = |reason: &'static str| Err(Refusal { code: ErrorCode::InvalidRequest, message: Str::from(reason) });
    let is_blank = |text: &str| text.chars().all(|c| c <= ' ');
    let subscribed = request.subscribed_topic_names.as_ref().is_some_and(|names| !names.is_empty());
    if is_blank(&request.member_id) {
        invalid("MemberId can't be empty.")
    } else if is_blank(&request.group_id) {
        invalid("GroupId can't be empty.")
    } else if request.rack_id.as_ref().is_some_and(|rack| is_blank(rack)) {
        invalid("RackId can't be empty.")
    } else if request.member_epoch == JOINING && !subscribed {
        invalid("SubscribedTopicNames must be set in first request.")
    } else if request.member_epoch < LEFT {
        invalid("MemberEpoch is invalid.")
    } else {
        Ok(())
    }
}

impl ShareGroup {
    fn leave(&mut self, env: &mut Env<'_>, request: &ShareGroupHeartbeatRequest) -> Result<Answer, Refusal> {
        let member_id = request.member_id.detach();
        if !self.state.members.contains_key(&member_id) {
            return Err(self.unknown(&member_id));
        }
        let write = self.fence(env, &member_id);
        let response = ShareGroupHeartbeatResponse {
            member_id: Some(member_id),
            member_epoch: request.member_epoch,
            ..Default::default()
        };
        Ok((response, Some(write)))
    }

    /// Removes a member; the others get a new assignment with their next heartbeats.
    pub(super) fn fence(&mut self, env: &mut Env<'_>, member_id: &Str) -> WriteId {
        let id = || member_id.clone();
        let hash = self.hash_without(env.catalog, member_id);
        let records = vec![
            ShareRecord::Current { id: id(), value: None },
            ShareRecord::Target { id: id(), value: None },
            ShareRecord::Member { id: id(), value: None },
            ShareRecord::Epoch(Some((self.state.epoch.saturating_add(1), hash))),
        ];
        self.end_session(member_id);
        self.write(env, records, OnWritten::Nothing)
    }

    fn unknown(&self, member_id: &str) -> Refusal {
        let message = format!("Member {member_id} is not a member of group {}.", self.id);
        Refusal::new(ErrorCode::UnknownMemberId, message)
    }

    fn heartbeat(
        &mut self,
        env: &mut Env<'_>,
        context: &RequestContext,
        request: &ShareGroupHeartbeatRequest,
    ) -> Result<Answer, Refusal> {
        let topics = env.catalog.topics.clone();
        let settings = env.share_settings.of(&self.id);
        let member_id = request.member_id.detach();
        let known = self.state.members.get(&member_id).cloned();
        if known.is_none() && self.state.members.len() >= settings.max_size {
            let message = format!("The share group has reached its maximum capacity of {} members.", settings.max_size);
            return Err(Refusal::new(ErrorCode::GroupMaxSizeReached, message));
        }
        let before = match known {
            Some(member) => member,
            None if request.member_epoch == JOINING => Rc::default(),
            None => return Err(self.unknown(&member_id)),
        };
        check_epoch(&before, request.member_epoch)?;

        let mut member = updated(&before, context, request);
        let mut records = Vec::new();
        let mut resubscribed = false;
        if member != *before {
            records.push(ShareRecord::Member { id: member_id.clone(), value: Some(member.subscription()) });
            resubscribed = member.topics != before.topics;
        }
        let mut changed = resubscribed;
        if self.state.assignment_epoch >= self.state.epoch {
            changed |= self.has_unassigned();
        }
        let subscribed = self.subscribed_with(&before, &member);
        let mut epoch = self.state.epoch;
        if changed || self.refreshed.is_none_or(|refreshed| refreshed > epoch) {
            let hash = env.catalog.group_hash(subscribed.iter());
            changed |= hash != self.state.metadata_hash;
            if changed {
                epoch = epoch.saturating_add(1);
                records.push(ShareRecord::Epoch(Some((epoch, hash))));
            }
            self.refreshed = Some(epoch);
        }
        let (target_epoch, target) = self.next_target(
            env.now,
            &*topics,
            settings.assignment_interval_ms,
            epoch,
            (&member_id, &member),
            &mut records,
        );
        if changed || member.epoch != target_epoch {
            let told = reconcile(&mut member, target_epoch, &target, &*topics);
            if told {
                records.push(ShareRecord::Current { id: member_id.clone(), value: Some(member.told()) });
            }
        }
        let initialize = self.initialize_subscribed(env, &subscribed, epoch, &mut records);
        self.start_session(env, &member_id);

        let is_full = request.subscribed_topic_names.is_some();
        let tells = request.member_epoch == JOINING || is_full || before.assigned != member.assigned;
        let response = ShareGroupHeartbeatResponse {
            member_id: Some(member_id),
            member_epoch: member.epoch,
            heartbeat_interval_ms: settings.heartbeat_interval_ms,
            assignment: tells.then(|| assignment(&member.assigned)),
            ..Default::default()
        };
        let on_written = match initialize {
            Some(errand) => OnWritten::Errand(Box::new(Errand::InitializeShareState(errand))),
            None => OnWritten::Nothing,
        };
        let write = (!records.is_empty()).then(|| self.write(env, records, on_written));
        Ok((response, write))
    }

    /// Topics of all members, where this one is about to change.
    fn subscribed_with(&self, before: &ShareMember, after: &ShareMember) -> BTreeSet<Str> {
        let left = |(name, count): &(&Str, &usize)| **count > 1 || !before.topics.contains(*name);
        let others = self.state.subscribed.iter().filter(left).map(|(name, _)| name);
        others.chain(&after.topics).cloned().collect()
    }

    /// Whether partitions that members subscribe to are initialised and not in the target, or the reverse.
    fn has_unassigned(&mut self) -> bool {
        let state = &self.state;
        if self.all_assigned.as_ref().is_some_and(|seen| Rc::ptr_eq(seen, state)) {
            return false;
        }
        let mut assigned = Partitions::new();
        for (topic, partitions) in state.target.values().flat_map(|target| target.iter()) {
            assigned.entry(*topic).or_default().extend(partitions);
        }
        let done = state.initializations.done.iter();
        let mut subscribed = done.filter(|(_, topic)| state.subscribed.contains_key(&topic.topic));
        let unassigned = subscribed.any(|(id, topic)| assigned.get(id) != Some(&topic.partitions));
        if !unassigned {
            self.all_assigned = Some(state.clone());
        }
        unassigned
    }

    /// The epoch of the target and this member's part in it: a new one if the group has changed, but not too often.
    fn next_target(
        &self,
        now: Now,
        topics: &dyn Topics,
        interval_ms: i32,
        epoch: i32,
        (member_id, member): (&Str, &ShareMember),
        records: &mut Vec<ShareRecord>,
    ) -> (i32, Partitions) {
        let state = &self.state;
        let last = |id: &str| state.target.get(id).map(|target| &**target);
        let next_at = state.assigned_at_ms.saturating_add(i64::from(interval_ms));
        let too_soon = state.assigned_at_ms != 0 && interval_ms != 0 && now.wall_ms < next_at;
        if state.assignment_epoch >= epoch || too_soon {
            return (state.assignment_epoch, last(member_id).cloned().unwrap_or_default());
        }
        let mut members: BTreeMap<&Str, &ShareMember> = state.members.iter().map(|(id, m)| (id, &**m)).collect();
        members.insert(member_id, member);
        let mut seen: BTreeMap<&Str, Option<Uuid>> = BTreeMap::new();
        let subscriptions: Vec<BTreeSet<Uuid>> = members
            .values()
            .map(|member| {
                let names = member.topics.iter();
                let ids = names
                    .filter_map(|name| *seen.entry(name).or_insert_with(|| topics.named(name).map(|topic| topic.id)));
                ids.collect()
            })
            .collect();
        let readers = members.keys().zip(&subscriptions).map(|(id, topics)| Reader { topics, current: last(id) });
        let mut assignable = state.initialized();
        assignable.retain(|id, partitions| {
            let count = topics.with_id(*id).map_or(0, |topic| topic.partitions);
            partitions.retain(|index| *index < count);
            !partitions.is_empty()
        });
        let parts = assign(&readers.collect::<Vec<_>>(), &assignable);
        let mut own = Partitions::new();
        for (id, part) in members.keys().zip(parts) {
            if last(id) != Some(&part) {
                records.push(ShareRecord::Target { id: (*id).clone(), value: Some(part.clone()) });
            }
            if *id == member_id {
                own = part;
            }
        }
        records.push(ShareRecord::TargetEpoch(Some((epoch, now.wall_ms))));
        (epoch, own)
    }
}

/// An answer with the last epoch may have been lost, so that a member may be one behind.
fn check_epoch(member: &ShareMember, received: i32) -> Result<(), Refusal> {
    let known = member.epoch;
    if received == JOINING || received == known || (received < known && received == member.previous_epoch) {
        return Ok(());
    }
    let rejoin = "The member must abandon all its partitions and rejoin.";
    let message = if received > known {
        format!(
            "The share group member has a greater member epoch ({received}) than the one known by the group coordinator \
             ({known}). {rejoin}"
        )
    } else {
        format!(
            "The share group member has a smaller member epoch ({received}) than the one known by the group coordinator \
             ({known}), and it does not match the previous member epoch ({}). {rejoin}",
            member.previous_epoch
        )
    };
    Err(Refusal::new(ErrorCode::FencedMemberEpoch, message))
}

fn updated(before: &ShareMember, context: &RequestContext, request: &ShareGroupHeartbeatRequest) -> ShareMember {
    let mut member = before.clone();
    if let Some(rack) = &request.rack_id {
        member.rack_id = Some(rack.detach());
    }
    if let Some(names) = &request.subscribed_topic_names {
        member.topics = names.iter().map(Str::detach).collect();
    }
    member.client_id = context.client_id.detach();
    member.client_host = context.client_host.detach();
    member
}

/// Moves a member to the target, as far as it subscribes to that; says whether that changed it.
fn reconcile(member: &mut ShareMember, epoch: i32, target: &Partitions, topics: &dyn Topics) -> bool {
    let ids: BTreeSet<Uuid> =
        member.topics.iter().filter_map(|name| topics.named(name)).map(|topic| topic.id).collect();
    let assigned: Partitions =
        target.iter().filter(|(id, _)| ids.contains(*id)).map(|(id, partitions)| (*id, partitions.clone())).collect();
    let changed = assigned != member.assigned || epoch != member.epoch;
    if epoch != member.epoch {
        (member.previous_epoch, member.epoch) = (member.epoch, epoch);
    }
    member.assigned = assigned;
    changed
}

fn assignment(partitions: &Partitions) -> ShareGroupHeartbeatResponseAssignment {
    let topic = |(topic_id, partitions): (&Uuid, &BTreeSet<i32>)| {
        let (topic_id, partitions) = (*topic_id, partitions.iter().copied().collect());
        ShareGroupHeartbeatResponseTopicPartitions { topic_id, partitions, ..Default::default() }
    };
    let topic_partitions = partitions.iter().map(topic).collect();
    ShareGroupHeartbeatResponseAssignment { topic_partitions, ..Default::default() }
}
