//! OffsetCommit.

use corelane_protocol::messages::{
    OffsetCommitRequest, OffsetCommitResponse, OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use corelane_protocol::records::group::OffsetCommitValue;
use corelane_protocol::{EncodeError, ErrorCode, Str};

use super::classic::ClassicGroup;
use super::consumer::Committer;
use super::coordinator::GroupCoordinator;
use super::offset_store::CommittedOffset;
use super::outcome::{Effects, Outcome};
use super::persist;
use super::state::GroupState;
use super::table::Group;
use super::writes::{OnWritten, Undo};
use super::{RequestContext, reject};
use crate::{CoordinatorRecord, Now};

/// From this version on a group that does not exist has an error of its own.
const GROUP_ID_NOT_FOUND_FROM: i16 = 9;

impl GroupCoordinator {
    /// A member, or someone without a group, stores how far it has read. Answered when it is stored.
    ///
    /// The caller has dropped topics and partitions that do not exist or may not be read, and filled in both name and id of
    /// the others, whichever the request's version names.
    pub fn offset_commit(
        &mut self,
        now: Now,
        context: &RequestContext,
        request: &OffsetCommitRequest,
    ) -> Outcome<OffsetCommitResponse> {
        if let Err(error) = self.check_commit(now, context, request) {
            return Outcome::now(reject::offset_commit(request, error));
        }
        let group = self.groups.get(&request.group_id).map(|group| group.id().clone());
        let group_id = group.clone().unwrap_or_else(|| request.group_id.detach());
        let mut response = OffsetCommitResponse::default();
        let mut commits = Vec::new();
        for topic in &request.topics {
            let mut partitions = Vec::with_capacity(topic.partitions.len());
            for partition in &topic.partitions {
                let metadata = partition.committed_metadata.clone().unwrap_or_default();
                let too_large = is_longer(&metadata, self.config.offset_metadata_max_bytes);
                let error = if too_large { ErrorCode::OffsetMetadataTooLarge } else { ErrorCode::None };
                partitions.push(OffsetCommitResponsePartition {
                    partition_index: partition.partition_index,
                    error_code: error.code(),
                    ..Default::default()
                });
                if too_large {
                    continue;
                }
                let expire_timestamp = persist::expire_timestamp(now, request.retention_time_ms);
                let keeps_its_own_time = expire_timestamp != -1;
                let value = OffsetCommitValue {
                    offset: partition.committed_offset,
                    // The record version that has a time to expire lacks what came later.
                    leader_epoch: if keeps_its_own_time { -1 } else { partition.committed_leader_epoch.max(-1) },
                    metadata,
                    commit_timestamp: now.wall_ms,
                    expire_timestamp,
                    topic_id: if keeps_its_own_time { Default::default() } else { topic.topic_id },
                    ..Default::default()
                };
                commits.push((topic.name.clone(), partition.partition_index, value));
            }
            response.topics.push(OffsetCommitResponseTopic {
                name: topic.name.clone(),
                topic_id: topic.topic_id,
                partitions,
                ..Default::default()
            });
        }
        if commits.is_empty() {
            return Outcome::now(response);
        }
        let mut undo = Vec::with_capacity(commits.len() + 1);
        if group.is_none() {
            // Someone stores offsets without joining: the group is there for them alone, and needs no record of its own.
            let group = self.new_group(now, group_id.clone());
            undo.push(Undo::CreatedGroup { group: group_id.clone(), incarnation: group.incarnation });
            self.groups.add_classic(group);
        }
        let records = self.apply_commits(&group_id, commits, &mut undo);
        let token = self.next_token();
        let mut out = Effects::default();
        let (_, mut env) = self.parts(now, &mut out);
        let id = env.write(&group_id, records, OnWritten::Nothing, undo);
        self.writes.reply_after(id, token, response);
        self.settle(now, &mut out);
        Outcome::from_effects(token, out)
    }

    fn apply_commits(
        &mut self,
        group: &Str,
        commits: Vec<(Str, i32, OffsetCommitValue)>,
        undo: &mut Vec<Undo>,
    ) -> Result<Vec<CoordinatorRecord>, EncodeError> {
        let mut records = Vec::with_capacity(commits.len());
        for (topic, partition, value) in commits {
            let offset = CommittedOffset { order: self.next_order(), ..CommittedOffset::from_value(&value) };
            records.push(persist::offset_record(group, &topic, partition, Some(value))?);
            let previous = self.offsets.set(group, &topic, partition, Some(offset));
            undo.push(Undo::Offset { group: group.clone(), topic, partition, previous });
        }
        Ok(records)
    }

    fn check_commit(
        &mut self,
        now: Now,
        context: &RequestContext,
        request: &OffsetCommitRequest,
    ) -> Result<(), ErrorCode> {
        let mut out = Effects::default();
        let (groups, mut env) = self.parts(now, &mut out);
        let Some(group) = groups.get_mut(&request.group_id) else {
            return match request.generation_id_or_member_epoch {
                ..=-1 => Ok(()),
                _ if context.api_version >= GROUP_ID_NOT_FOUND_FROM => Err(ErrorCode::GroupIdNotFound),
                _ => Err(ErrorCode::IllegalGeneration),
            };
        };
        match group {
            Group::Classic(group) => {
                group.check_commit(request)?;
                // A commit of a member is a sign of life.
                if matches!(group.state(), GroupState::Stable | GroupState::PreparingRebalance) {
                    group.restart_session(&mut env, &request.member_id);
                }
            }
            Group::Share(_) => return Err(ErrorCode::GroupIdNotFound),
            Group::Streams(group) => group.check_offset_commit(context.api_version, request)?,
            Group::Consumer(group) => {
                let committer = Committer {
                    member_id: &request.member_id,
                    instance_id: request.group_instance_id.as_ref(),
                    epoch: request.generation_id_or_member_epoch,
                    api_version: Some(context.api_version),
                };
                let topics = request.topics.iter();
                let partitions = topics.flat_map(|t| t.partitions.iter().map(|p| (t.topic_id, p.partition_index)));
                group.check_commit(&committer, partitions)?;
            }
        }
        Ok(())
    }
}

impl ClassicGroup {
    fn check_commit(&self, request: &OffsetCommitRequest) -> Result<(), ErrorCode> {
        let generation = request.generation_id_or_member_epoch;
        if generation < 0 && self.is_in(GroupState::Empty) {
            // From an administrator, or a consumer that assigns its partitions by itself.
            return Ok(());
        }
        if generation >= 0 || !request.member_id.is_empty() || request.group_instance_id.is_some() {
            self.check_member(&request.member_id, request.group_instance_id.as_deref())?;
            if generation != self.generation {
                return Err(ErrorCode::IllegalGeneration);
            }
        } else if !self.is_in(GroupState::Empty) {
            return Err(ErrorCode::UnknownMemberId);
        }
        // The member knows the new generation and nothing yet of its assignment in it.
        if self.is_in(GroupState::CompletingRebalance) {
            return Err(ErrorCode::RebalanceInProgress);
        }
        Ok(())
    }
}

/// Length in UTF-16 units, which is what Kafka counts.
pub(crate) fn is_longer(text: &str, limit: usize) -> bool {
    text.len() > limit && text.encode_utf16().count() > limit
}
