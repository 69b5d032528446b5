//! Where a group without members begins to read: AlterShareGroupOffsets, DeleteShareGroupOffsets, and the end of a group. Each is
//! written down, then done by the share coordinator, then written down as done.

use std::collections::{BTreeMap, BTreeSet};

use corelane_protocol::messages::{
    AlterShareGroupOffsetsRequest, AlterShareGroupOffsetsRequestTopic, AlterShareGroupOffsetsResponse,
    AlterShareGroupOffsetsResponsePartition, AlterShareGroupOffsetsResponseTopic, DeleteShareGroupOffsetsRequest,
    DeleteShareGroupOffsetsResponse, DeleteShareGroupOffsetsResponseTopic,
};
use corelane_protocol::{ErrorCode, Str, Uuid};

use super::group::ShareGroup;
use super::initialize::{InitializeShareState, name_of};
use super::record::ShareRecord;
use super::state::Initialization;
use super::{Partitions, Refusal};
use crate::Now;
use crate::group::coordinator::GroupCoordinator;
use crate::group::outcome::{Effects, Outcome, Response, WriteId};
use crate::group::writes::OnWritten;

const NOTHING_TO_DELETE: &str = "There is no offset information to delete.";

/// AlterShareGroupOffsets, begun: what to answer once the share coordinator has done its part.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ShareOffsetsAlteration {
    pub response: AlterShareGroupOffsetsResponse,
    pub initialize: InitializeShareState,
}

/// DeleteShareGroupOffsets, begun: what the share coordinator is to forget, and the answer as far as it is known.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ShareOffsetsDeletion {
    pub response: DeleteShareGroupOffsetsResponse,
    pub delete: Partitions,
}

/// The first step of DeleteGroups for a share group: what the share coordinator is to forget. Any other group passes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ShareGroupDeletion {
    pub error_code: i16,
    pub delete: Partitions,
}

fn non_empty() -> Refusal {
    Refusal { code: ErrorCode::NonEmptyGroup, message: Str::from_static(ErrorCode::NonEmptyGroup.message()) }
}

fn begun<R: Into<Response> + TryFrom<Response>>(
    coordinator: &mut GroupCoordinator,
    now: Now,
    (response, write): (R, Option<WriteId>),
    mut out: Effects,
) -> Outcome<R> {
    let Some(write) = write else { return Outcome { effects: out, ..Outcome::now(response) } };
    let token = coordinator.next_token();
    coordinator.writes.reply_after(write, token, response);
    coordinator.settle(now, &mut out);
    Outcome::from_effects(token, out)
}

impl GroupCoordinator {
    /// Answered when it is written down what is to be initialised anew. A group that does not exist begins to.
    pub fn begin_alter_share_offsets(
        &mut self,
        now: Now,
        request: &AlterShareGroupOffsetsRequest,
    ) -> Outcome<ShareOffsetsAlteration> {
        let mut out = Effects::default();
        let answer = self.alter_share_offsets(now, request, &mut out).unwrap_or_else(|refusal| {
            let response = AlterShareGroupOffsetsResponse {
                error_code: refusal.code.code(),
                error_message: Some(refusal.message),
                ..Default::default()
            };
            (ShareOffsetsAlteration { response, ..Default::default() }, None)
        });
        begun(self, now, answer, out)
    }

    fn alter_share_offsets(
        &mut self,
        now: Now,
        request: &AlterShareGroupOffsetsRequest,
        out: &mut Effects,
    ) -> Result<(ShareOffsetsAlteration, Option<WriteId>), Refusal> {
        let id = request.group_id.detach();
        let known = self.groups.get(&id).is_some();
        if !known {
            let group = ShareGroup::new(id.clone(), self.next_incarnation());
            self.groups.add_share(group);
        }
        let last = self.writes.last_of(&id);
        let (groups, mut env) = self.parts(now, out);
        let group = groups.share_mut(&id).ok_or_else(|| Refusal::not_a_share_group(&id))?;
        if !group.is_empty() {
            return Err(non_empty());
        }
        let mut begun = BTreeMap::new();
        let mut altered = ShareOffsetsAlteration::default();
        (altered.initialize.group, altered.initialize.state_epoch) = (id.clone(), group.state.epoch);
        for topic in &request.topics {
            let found = env.catalog.topics.named(&topic.topic_name);
            if found.is_none() && topic.partitions.is_empty() {
                // There is no partition to say it of.
                continue;
            }
            let count = found.as_ref().map_or(i32::MIN, |found| found.partitions);
            let answer = altered_topic(topic, found.as_ref().map(|found| found.id), count);
            let same = |other: &&mut AlterShareGroupOffsetsResponseTopic| other.topic_name == answer.topic_name;
            match altered.response.responses.iter_mut().find(same) {
                Some(before) => before.partitions.extend(answer.partitions),
                None => altered.response.responses.push(answer),
            }
            let Some(found) = found else { continue };
            let valid = topic.partitions.iter().filter(|partition| partition.partition_index < count);
            let offsets: BTreeMap<i32, i64> = valid.map(|p| (p.partition_index, p.start_offset)).collect();
            // What is below zero could never be deleted again: the caller is told, but nothing of it is written down.
            let partitions = offsets.keys().copied().filter(|partition| *partition >= 0).collect();
            begun.insert(found.id, Initialization { topic: found.name, partitions, since_ms: now.wall_ms });
            if !offsets.is_empty() {
                altered.initialize.topics.entry(found.id).or_default().extend(offsets);
            }
        }
        if begun.is_empty() {
            if !known {
                groups.remove(&id);
            }
            return Ok((altered, last));
        }
        let record = group.begin(begun);
        let write = group.write(&mut env, vec![record], OnWritten::Nothing);
        Ok((altered, Some(write)))
    }

    /// Answered when it is written down what is being deleted.
    pub fn begin_delete_share_offsets(
        &mut self,
        now: Now,
        request: &DeleteShareGroupOffsetsRequest,
    ) -> Outcome<ShareOffsetsDeletion> {
        let mut out = Effects::default();
        let answer = self.delete_share_offsets(now, request, &mut out).unwrap_or_else(|refusal| {
            let response = DeleteShareGroupOffsetsResponse {
                error_code: refusal.code.code(),
                error_message: Some(refusal.message),
                ..Default::default()
            };
            (ShareOffsetsDeletion { response, ..Default::default() }, None)
        });
        begun(self, now, answer, out)
    }

    fn delete_share_offsets(
        &mut self,
        now: Now,
        request: &DeleteShareGroupOffsetsRequest,
        out: &mut Effects,
    ) -> Result<(ShareOffsetsDeletion, Option<WriteId>), Refusal> {
        let id = &request.group_id;
        if !self.groups.contains_key(id) {
            return Err(Refusal::new(ErrorCode::GroupIdNotFound, format!("Group {id} not found.")));
        }
        let last = self.writes.last_of(id);
        let (groups, mut env) = self.parts(now, out);
        let group = groups.share_mut(id).ok_or_else(|| Refusal::not_a_share_group(id))?;
        if !group.is_empty() {
            return Err(non_empty());
        }
        let mut deletion = ShareOffsetsDeletion::default();
        let mut next = (*group.state.initializations).clone();
        if !next.recorded {
            return Ok((deletion, last));
        }
        for topic in &request.topics {
            let missing = |message: &'static str| DeleteShareGroupOffsetsResponseTopic {
                topic_name: topic.topic_name.clone(),
                error_code: ErrorCode::UnknownTopicOrPartition.code(),
                error_message: Some(Str::from_static(message)),
                ..Default::default()
            };
            let Some(found) = env.catalog.topics.named(&topic.topic_name) else {
                deletion.response.responses.push(missing(ErrorCode::UnknownTopicOrPartition.message()));
                continue;
            };
            if let Some(done) = next.done.remove(&found.id) {
                next.deleting.insert(found.id, found.name);
                deletion.delete.insert(found.id, done.partitions);
            } else if next.deleting.contains_key(&found.id) {
                // It was begun before and has not come to its end.
                deletion.delete.insert(found.id, (0..found.partitions).collect());
            } else {
                deletion.response.responses.push(missing(NOTHING_TO_DELETE));
            }
        }
        let write = group.write(&mut env, vec![ShareRecord::Initializations(Some(next))], OnWritten::Nothing);
        Ok((deletion, Some(write)))
    }

    /// The share coordinator has forgotten all of these topics.
    pub fn share_offsets_deleted(&mut self, now: Now, group: &Str, topics: &BTreeSet<Uuid>) -> Effects {
        let mut out = Effects::default();
        let (groups, mut env) = self.parts(now, &mut out);
        if let Some(group) = groups.share_mut(group) {
            let mut next = (*group.state.initializations).clone();
            next.deleting.retain(|id, _| !topics.contains(id));
            group.write(&mut env, vec![ShareRecord::Initializations(Some(next))], OnWritten::Nothing);
        }
        self.settle(now, &mut out);
        out
    }

    /// Answered when it is written down that all of the group's state is being deleted.
    pub fn begin_delete_share_group(&mut self, now: Now, group_id: &Str) -> Outcome<ShareGroupDeletion> {
        let mut out = Effects::default();
        let (groups, mut env) = self.parts(now, &mut out);
        let mut deletion = ShareGroupDeletion::default();
        let mut write = None;
        if let Some(group) = groups.share_mut(group_id) {
            if !group.is_empty() {
                deletion.error_code = ErrorCode::NonEmptyGroup.code();
            } else if group.state.initializations.recorded {
                deletion.delete = group.initialized_or_begun();
                let mut next = (*group.state.initializations).clone();
                // Begun before, and not come to its end; of a topic that is gone nothing is left.
                for topic in next.deleting.keys().filter_map(|id| env.catalog.topics.with_id(*id)) {
                    deletion.delete.entry(topic.id).or_default().extend(0..topic.partitions);
                }
                let (under_way, done) = (std::mem::take(&mut next.under_way), std::mem::take(&mut next.done));
                let mut names: BTreeMap<Uuid, Str> = under_way.into_iter().map(|(id, t)| (id, t.topic)).collect();
                names.extend(done.into_iter().map(|(id, t)| (id, t.topic)));
                next.deleting = deletion
                    .delete
                    .keys()
                    .map(|id| (*id, names.remove(id).unwrap_or_else(|| name_of(&*env.catalog.topics, id))))
                    .collect();
                write = Some(group.write(&mut env, vec![ShareRecord::Initializations(Some(next))], OnWritten::Nothing));
            }
        }
        begun(self, now, (deletion, write), out)
    }

    /// Partitions of a share group whose state is initialised; none of a group that is not there.
    pub fn initialized_share_partitions(&self, group_id: &str) -> Partitions {
        self.groups.get(group_id).and_then(|group| group.share()).map(|g| g.state.initialized()).unwrap_or_default()
    }
}

impl ShareGroup {
    fn initialized_or_begun(&self) -> Partitions {
        let mut all = self.state.initialized();
        for (id, topic) in &self.state.initializations.under_way {
            all.entry(*id).or_default().extend(&topic.partitions);
        }
        all
    }
}

/// `id`: of the topic, if there is one, with `count` partitions. Kafka lets negative ones pass here.
fn altered_topic(
    topic: &AlterShareGroupOffsetsRequestTopic,
    id: Option<Uuid>,
    count: i32,
) -> AlterShareGroupOffsetsResponseTopic {
    let unknown = ErrorCode::UnknownTopicOrPartition;
    let partitions = topic.partitions.iter().map(|partition| {
        let exists = id.is_some() && partition.partition_index < count;
        AlterShareGroupOffsetsResponsePartition {
            partition_index: partition.partition_index,
            error_code: if exists { 0 } else { unknown.code() },
            error_message: (!exists).then(|| Str::from_static(unknown.message())),
            ..Default::default()
        }
    });
    AlterShareGroupOffsetsResponseTopic {
        topic_name: topic.topic_name.clone(),
        topic_id: id.unwrap_or_default(),
        partitions: partitions.collect(),
        ..Default::default()
    }
}
