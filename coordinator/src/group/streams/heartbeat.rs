//! A member's heartbeat: it joins, says what it has and hears what it is to have. (Kafka: `GroupMetadataManager.streamsGroupHeartbeat`.)

use std::collections::BTreeMap;
use std::rc::Rc;

use corelane_protocol::messages::{
    StreamsGroupHeartbeatRequest, StreamsGroupHeartbeatRequestTaskIds, StreamsGroupHeartbeatRequestTopology,
    StreamsGroupHeartbeatResponse, StreamsGroupHeartbeatResponseStatus, StreamsGroupHeartbeatResponseTaskIds,
};
use corelane_protocol::{ErrorCode, Str};

use super::assignor::{self, Candidate, Workload};
use super::configured::{ConfiguredTopology, InternalTopic, configure};
use super::group::{StreamsGroup, StreamsGroupState};
use super::member::{CurrentAssignment, MemberMetadata};
use super::reconcile::{Holders, Reconciliation};
use super::records::{Change, GroupMetadata, TargetMetadata, tasks};
use super::status::Status;
use super::tasks::{AssignedTasks, TaskSet, Tasks};
use super::topology::{PartitionCounts, Topology};
use super::validate::JOINING;
use super::{by_key, unknown};
use crate::Now;
use crate::group::RequestContext;
use crate::group::refusal::Refusal;

/// Settings of one group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamsSettings {
    /// `group.streams.max.size`
    pub max_size: usize,
    /// `streams.session.timeout.ms`
    pub session_timeout_ms: i32,
    /// `streams.heartbeat.interval.ms`
    pub heartbeat_interval_ms: i32,
    /// `streams.assignment.interval.ms`: an assignment is not made sooner after the last.
    pub assignment_interval_ms: i32,
    /// `streams.initial.rebalance.delay.ms`
    pub initial_rebalance_delay_ms: i32,
    /// `streams.num.standby.replicas`
    pub standby_replicas: i32,
}

impl Default for StreamsSettings {
    fn default() -> StreamsSettings {
        StreamsSettings {
            max_size: i32::MAX as usize,
            session_timeout_ms: 45_000,
            heartbeat_interval_ms: 5_000,
            assignment_interval_ms: 1_000,
            initial_rebalance_delay_ms: 3_000,
            standby_replicas: 0,
        }
    }
}

/// What a group needs to know to serve a heartbeat.
pub(crate) struct Surroundings<'a> {
    pub(crate) now: Now,
    pub(crate) settings: StreamsSettings,
    /// An empty group of another kind has the group's name until now.
    pub(crate) replaces: bool,
    pub(crate) partitions: PartitionCounts<'a>,
    /// Stands for the topics that a topology needs.
    pub(crate) hash: &'a mut dyn FnMut(&Topology) -> i64,
}

/// What a heartbeat comes to.
#[derive(Debug)]
pub(crate) struct Beat {
    pub(crate) changes: Vec<Change>,
    pub(crate) answer: StreamsGroupHeartbeatResponse,
    /// Internal topics to be made.
    pub(crate) missing: Vec<InternalTopic>,
    /// Nobody gets tasks for a while from now on.
    pub(crate) begins_delay: bool,
    /// The member's assignment has changed, to this.
    pub(crate) moved_to: Option<CurrentAssignment>,
    pub(crate) rebalance_timeout_ms: i32,
}

impl StreamsGroup {
    /// Serves a heartbeat that neither leaves nor is invalid. `is_new`: the group comes to be with it.
    pub(crate) fn heartbeat(
        &mut self,
        around: &mut Surroundings<'_>,
        context: &RequestContext,
        request: &StreamsGroupHeartbeatRequest,
        is_new: bool,
    ) -> Result<Beat, Refusal> {
        let joins = request.member_epoch == JOINING;
        let (old, before) = self.member_for(around, request)?;
        let member_id = request.member_id.detach();
        let metadata = updated(&old, context, request)?;
        let mut changes = Vec::new();
        let mut status = Vec::new();
        let mut bump = metadata != old || !self.members.contains_key(&member_id);
        if bump {
            changes.push(Change::Member(member_id.clone(), Some(metadata.clone())));
        }

        let topology = self.topology_for(request.topology.as_ref(), &mut changes)?;
        if let Some(own) = self.topology.as_ref().filter(|own| metadata.topology_epoch < own.epoch) {
            status.push(Status::StaleTopology.with(format!(
                "The member's topology epoch {} is behind the group's topology epoch {}.",
                metadata.topology_epoch, own.epoch
            )));
        }
        let hash = (around.hash)(&topology);
        bump |= hash != self.metadata.metadata_hash;
        let configured = match &self.configured {
            Some(configured) if self.topology.is_some() && hash == self.metadata.metadata_hash => configured.clone(),
            _ => Rc::new(configure(&topology, around.partitions)?),
        };
        self.configured = Some(configured.clone());
        let validated = match (configured.is_ready(), &configured.subtopologies) {
            (true, Some(subtopologies)) => {
                for tasks in [&request.active_tasks, &request.standby_tasks, &request.warmup_tasks] {
                    check_tasks(subtopologies, tasks.as_deref())?;
                }
                topology.epoch
            }
            _ => -1,
        };
        bump |= validated != self.metadata.validated_topology_epoch;
        let replicas = around.settings.standby_replicas.max(0);
        let replicas_text = Str::from(replicas.to_string());
        let configs = BTreeMap::from([(Str::from_static("num.standby.replicas"), replicas_text)]);
        bump |= configs != self.metadata.assignment_configs;
        let mut epoch = self.metadata.epoch;
        if bump {
            epoch += 1;
            changes.push(Change::Metadata(Some(GroupMetadata {
                epoch,
                metadata_hash: hash,
                validated_topology_epoch: validated,
                assignment_configs: configs,
            })));
        }

        let begins_delay = self.state() == StreamsGroupState::Empty
            && around.settings.initial_rebalance_delay_ms > 0
            && !self.initial_delay.is_set();
        let target = if begins_delay || self.initial_delay.is_set() {
            let detail = "Assignment delayed due to the configured initial rebalance delay.";
            status.push(Status::AssignmentDelayed.with(detail));
            (self.target_metadata.epoch, TaskSet::default())
        } else if self.target_metadata.epoch >= epoch {
            self.last_target(&member_id)
        } else if !self.may_assign(around) {
            let detail = "Assignment delayed due to the configured assignment interval.";
            status.push(Status::AssignmentDelayed.with(detail));
            self.last_target(&member_id)
        } else {
            let updated = Some((&member_id, &metadata));
            let mut targets =
                self.new_targets(around.now, epoch, updated, &configured, replicas as usize, &mut changes);
            (epoch, targets.remove(&member_id).unwrap_or_default())
        };
        let after = self.reconciled(&metadata, &before, &target, request)?;
        let moved_to = (after != before).then(|| after.clone());
        if moved_to.is_some() {
            changes.push(Change::Current(member_id.clone(), Some(after.clone())));
        }

        let asks_to_end = request.shutdown_application.then(|| member_id.clone());
        let ended_by = self.shutdown_by.clone().or(asks_to_end);
        let mut answer = StreamsGroupHeartbeatResponse {
            member_id: member_id.clone(),
            member_epoch: after.epoch,
            heartbeat_interval_ms: around.settings.heartbeat_interval_ms,
            ..Default::default()
        };
        if joins || before.assigned != after.assigned {
            answer.active_tasks = Some(ids(&after.assigned.active_tasks()));
            answer.standby_tasks = Some(ids(&after.assigned.standby));
            answer.warmup_tasks = Some(ids(&after.assigned.warmup));
            if metadata.user_endpoint.is_some() {
                self.endpoint_epoch += 1;
            }
        }
        if self.endpoint_epoch != request.endpoint_information_epoch {
            let endpoints = self.endpoints(around.partitions, &configured, (&member_id, &metadata, &after));
            answer.partitions_by_user_endpoint = Some(endpoints);
        }
        if !is_new || around.replaces {
            answer.endpoint_information_epoch = self.endpoint_epoch;
        }
        if is_new {
            // A group that is not there yet remembers nothing.
            self.endpoint_epoch = 0;
        } else {
            self.shutdown_by = ended_by.clone();
        }
        if let Some((problem, detail)) = &configured.problem {
            status.push(problem.with(detail.as_str()));
        }
        status.extend(ended_by.map(shutdown_status));
        answer.status = Some(status);
        let missing = configured.missing.clone();
        let rebalance_timeout_ms = metadata.rebalance_timeout_ms;
        Ok(Beat { changes, answer, missing, begins_delay, moved_to, rebalance_timeout_ms })
    }

    /// The member as it is known, or as a new one.
    fn member_for(
        &self,
        around: &Surroundings<'_>,
        request: &StreamsGroupHeartbeatRequest,
    ) -> Result<(MemberMetadata, CurrentAssignment), Refusal> {
        let max = around.settings.max_size;
        if request.member_epoch == JOINING && self.members.len() >= max {
            let message = format!("The streams group has reached its maximum capacity of {max} members.");
            return Err(Refusal::new(ErrorCode::GroupMaxSizeReached, message));
        }
        match self.members.get(&request.member_id) {
            Some(member) => {
                check_epoch(&member.current, request)?;
                Ok((member.metadata.clone(), member.current.clone()))
            }
            None if request.member_epoch == JOINING => Ok(Default::default()),
            None => Err(self.unknown_member(&request.member_id)),
        }
    }

    pub(crate) fn unknown_member(&self, member_id: &str) -> Refusal {
        let message = format!("Member {member_id} is not a member of group {}.", self.id);
        Refusal::new(ErrorCode::UnknownMemberId, message)
    }

    /// The application's topology: the first to join says it, and the others have to say the same.
    fn topology_for(
        &self,
        asked: Option<&StreamsGroupHeartbeatRequestTopology>,
        changes: &mut Vec<Change>,
    ) -> Result<Rc<Topology>, Refusal> {
        let asked = asked.map(Topology::from_request).transpose()?;
        match (asked, &self.topology) {
            (None, None) => Err(unknown()),
            (None, Some(own)) => Ok(own.clone()),
            (Some(asked), None) => {
                let asked = Rc::new(asked);
                changes.push(Change::Topology(Some(asked.clone())));
                Ok(asked)
            }
            (Some(asked), Some(own)) if own.epoch > asked.epoch || **own == asked => Ok(own.clone()),
            _ => Err(Refusal::new(ErrorCode::InvalidRequest, "Topology updates are not supported yet.")),
        }
    }

    fn last_target(&self, member_id: &Str) -> (i32, TaskSet) {
        (self.target_metadata.epoch, self.targets.get(member_id).cloned().unwrap_or_default())
    }

    /// Assignments are made at some distance of each other, so that members that come together get one.
    fn may_assign(&self, around: &Surroundings<'_>) -> bool {
        let (made, interval) = (self.target_metadata.made_ms, i64::from(around.settings.assignment_interval_ms));
        made == 0 || interval == 0 || around.now.wall_ms.saturating_sub(made) >= interval
    }

    /// Makes a new target assignment, for the members there are and one that has changed.
    pub(crate) fn new_targets(
        &self,
        now: Now,
        epoch: i32,
        updated: Option<(&Str, &MemberMetadata)>,
        configured: &ConfiguredTopology,
        standby_replicas: usize,
        changes: &mut Vec<Change>,
    ) -> BTreeMap<Str, TaskSet> {
        let nothing = TaskSet::default();
        let all = self.members.iter().map(|(id, member)| (id, &member.metadata)).chain(updated);
        let candidate = |(id, metadata): (&Str, &'_ MemberMetadata)| {
            let previous = self.targets.get(id).unwrap_or(&nothing);
            (id.clone(), metadata.process_id.clone(), previous)
        };
        let specs: Vec<(Str, Str, &TaskSet)> = all.map(candidate).collect();
        let members: BTreeMap<Str, Candidate<'_>> =
            specs.iter().map(|(id, process_id, previous)| (id.clone(), Candidate { process_id, previous })).collect();
        let targets = match configured.subtopologies.as_ref().filter(|_| configured.is_ready()) {
            Some(subtopologies) => {
                let workload = |(id, s): (&Str, &super::configured::ConfiguredSubtopology)| {
                    (id.clone(), Workload { tasks: s.tasks, stateful: !s.state_changelog_topics.is_empty() })
                };
                let topology = subtopologies.iter().map(workload).collect();
                assignor::assign(&members, &topology, standby_replicas)
            }
            None => members.keys().map(|id| (id.clone(), TaskSet::default())).collect(),
        };
        for (id, target) in &targets {
            if self.targets.get(id) != Some(target) {
                changes.push(Change::Target(id.clone(), Some(target.clone())));
            }
        }
        changes.push(Change::TargetMetadata(Some(TargetMetadata { epoch, made_ms: now.wall_ms })));
        targets
    }

    fn reconciled(
        &self,
        metadata: &MemberMetadata,
        current: &CurrentAssignment,
        (target_epoch, target): &(i32, TaskSet),
        request: &StreamsGroupHeartbeatRequest,
    ) -> Result<CurrentAssignment, Refusal> {
        if current.is_reconciled_to(*target_epoch) {
            return Ok(current.clone());
        }
        let owned = owned_tasks(request)?;
        let owned = owned.as_ref();
        let holders = Holders::of(self.members.values());
        let process_id = &metadata.process_id;
        Reconciliation { current, process_id, target_epoch: *target_epoch, target, owned, holders: &holders }.next()
    }

    /// The time to wait for more members is over: what is known by now is assigned.
    pub(crate) fn delay_is_over(&self, now: Now) -> Vec<Change> {
        let mut changes = Vec::new();
        let Some(configured) = self.configured.as_ref().filter(|_| !self.members.is_empty()) else { return changes };
        let replicas = self.metadata.assignment_configs.get("num.standby.replicas");
        let replicas = replicas.and_then(|text| text.parse().ok()).unwrap_or(0);
        if self.metadata.epoch > self.target_metadata.epoch {
            self.new_targets(now, self.metadata.epoch, None, configured, replicas, &mut changes);
        }
        changes
    }
}

fn shutdown_status(member: Str) -> StreamsGroupHeartbeatResponseStatus {
    Status::ShutdownApplication.with(format!(
        "Streams group member {member} encountered a fatal error and requested a shutdown for the entire application."
    ))
}

/// The member with what the request says of it; what it leaves out stays.
fn updated(
    old: &MemberMetadata,
    context: &RequestContext,
    request: &StreamsGroupHeartbeatRequest,
) -> Result<MemberMetadata, Refusal> {
    let endpoint = request.user_endpoint.as_ref().map(|endpoint| (endpoint.host.detach(), endpoint.port));
    let tags = request.client_tags.as_ref();
    let tags = tags.map(|tags| by_key(tags.iter().map(|pair| (pair.key.detach(), pair.value.detach())))).transpose()?;
    Ok(MemberMetadata {
        instance_id: old.instance_id.clone(),
        rack_id: request.rack_id.as_ref().map(Str::detach).or_else(|| old.rack_id.clone()),
        client_id: context.client_id.detach(),
        client_host: context.client_host.detach(),
        rebalance_timeout_ms: match request.rebalance_timeout_ms {
            -1 => old.rebalance_timeout_ms,
            timeout => timeout,
        },
        topology_epoch: request.topology.as_ref().map_or(old.topology_epoch, |topology| topology.epoch),
        process_id: request.process_id.as_ref().map_or_else(|| old.process_id.clone(), Str::detach),
        user_endpoint: endpoint.or_else(|| old.user_endpoint.clone()),
        client_tags: tags.unwrap_or_else(|| old.client_tags.clone()),
    })
}

/// An epoch is the one that the member was told last, or if that answer was lost, the one before.
fn check_epoch(current: &CurrentAssignment, request: &StreamsGroupHeartbeatRequest) -> Result<(), Refusal> {
    let (received, known) = (request.member_epoch, current.epoch);
    if received == JOINING || received == known {
        return Ok(());
    }
    let lost_answer = received == current.previous_epoch && has_only(request, &current.assigned);
    if received < known && lost_answer {
        return Ok(());
    }
    let size = if received > known { "greater" } else { "smaller" };
    Err(Refusal::new(
        ErrorCode::FencedMemberEpoch,
        format!(
            "The streams group member has a {size} member epoch ({received}) than the one known by the group coordinator \
             ({known}). The member must abandon all its partitions and rejoin."
        ),
    ))
}

fn check_tasks(
    subtopologies: &BTreeMap<Str, super::configured::ConfiguredSubtopology>,
    tasks: Option<&[StreamsGroupHeartbeatRequestTaskIds]>,
) -> Result<(), Refusal> {
    let wrong = |message| Err(Refusal::new(ErrorCode::InvalidRequest, message));
    for task in tasks.into_iter().flatten() {
        let id = &task.subtopology_id;
        let Some(subtopology) = subtopologies.get(id) else {
            return wrong(format!("Subtopology {id} does not exist in the topology."));
        };
        let count = subtopology.tasks;
        if let Some(partition) = task.partitions.iter().find(|partition| !(0..count).contains(*partition)) {
            return wrong(format!(
                "Task {partition} for subtopology {id} is invalid. Number of tasks for this subtopology: {count}"
            ));
        }
    }
    Ok(())
}

/// Whether the member says what it has, and that is nothing but what is its own: a subtopology of which it has no task is not, even
/// if it names none.
fn has_only(request: &StreamsGroupHeartbeatRequest, own: &AssignedTasks) -> bool {
    let within = |ids: &Option<Vec<StreamsGroupHeartbeatRequestTaskIds>>, own: &Tasks| {
        let known = |ids: &StreamsGroupHeartbeatRequestTaskIds| {
            let own = own.get(&ids.subtopology_id);
            own.is_some_and(|own| ids.partitions.iter().all(|partition| own.contains(partition)))
        };
        ids.as_ref().is_some_and(|ids| ids.iter().all(known))
    };
    within(&request.active_tasks, &own.active_tasks())
        && within(&request.standby_tasks, &own.standby)
        && within(&request.warmup_tasks, &own.warmup)
}

/// What the member says that it has, if it says so.
fn owned_tasks(request: &StreamsGroupHeartbeatRequest) -> Result<Option<TaskSet>, Refusal> {
    let (Some(active), Some(standby), Some(warmup)) =
        (&request.active_tasks, &request.standby_tasks, &request.warmup_tasks)
    else {
        return Ok(None);
    };
    let of = |ids: &[StreamsGroupHeartbeatRequestTaskIds]| -> Result<Tasks, Refusal> {
        let by_id = by_key(ids.iter().map(|ids| (ids.subtopology_id.clone(), ids.partitions.clone())))?;
        Ok(tasks(by_id.into_iter()))
    };
    Ok(Some(TaskSet { active: of(active)?, standby: of(standby)?, warmup: of(warmup)? }))
}

fn ids(tasks: &Tasks) -> Vec<StreamsGroupHeartbeatResponseTaskIds> {
    let ids = |(id, partitions): (&Str, &std::collections::BTreeSet<i32>)| StreamsGroupHeartbeatResponseTaskIds {
        subtopology_id: id.clone(),
        partitions: partitions.iter().copied().collect(),
        ..Default::default()
    };
    tasks.iter().map(ids).collect()
}
