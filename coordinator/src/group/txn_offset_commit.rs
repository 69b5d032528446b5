//! TxnOffsetCommit, and the end of the transactions that offsets are committed in.

use corelane_protocol::messages::{
    TxnOffsetCommitRequest, TxnOffsetCommitResponse, TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic,
};
use corelane_protocol::records::group::OffsetCommitValue;
use corelane_protocol::{EncodeError, ErrorCode, Str, Uuid};

use super::classic::ClassicGroup;
use super::consumer::Committer;
use super::coordinator::GroupCoordinator;
use super::offset_commit::is_longer;
use super::offset_store::CommittedOffset;
use super::outcome::{Effects, Outcome, WriteProducer};
use super::state::GroupState;
use super::table::Group;
use super::writes::{OnWritten, Undo};
use super::{persist, reject};
use crate::{CoordinatorRecord, Now};

impl GroupCoordinator {
    /// A producer stores how far its transaction has read: this counts when the transaction is committed. Answered when it is
    /// stored.
    ///
    /// The caller has dropped topics and partitions that do not exist, and made sure that the producer's transaction has this
    /// coordinator's partition.
    pub fn txn_offset_commit(
        &mut self,
        now: Now,
        request: &TxnOffsetCommitRequest,
    ) -> Outcome<TxnOffsetCommitResponse> {
        let found = self.groups.get(&request.group_id);
        let checked = match found {
            Some(Group::Classic(group)) => group.check_txn_commit(request),
            Some(Group::Share(_)) => Err(ErrorCode::GroupIdNotFound),
            Some(Group::Streams(group)) => group.check_txn_offset_commit(request),
            Some(Group::Consumer(group)) => {
                let committer = Committer {
                    member_id: &request.member_id,
                    instance_id: request.group_instance_id.as_ref(),
                    epoch: request.generation_id,
                    api_version: None,
                };
                let partitions = request.topics.iter().flat_map(|topic| {
                    let id = self.catalog.topics.named(&topic.name).map_or(Uuid::ZERO, |topic| topic.id);
                    topic.partitions.iter().map(move |partition| (id, partition.partition_index))
                });
                group.check_commit(&committer, partitions)
            }
            None if request.generation_id >= 0 => Err(ErrorCode::IllegalGeneration),
            None => Ok(()),
        };
        if let Err(error) = checked {
            return Outcome::now(reject::txn_offset_commit(request, error));
        }
        let known = found.map(|group| group.id().clone());
        let group_id = known.clone().unwrap_or_else(|| request.group_id.detach());
        let limit = self.config.offset_metadata_max_bytes;
        let mut response = TxnOffsetCommitResponse::default();
        let mut commits = Vec::new();
        for topic in &request.topics {
            let mut partitions = Vec::with_capacity(topic.partitions.len());
            for partition in &topic.partitions {
                let metadata = partition.committed_metadata.clone().unwrap_or_default();
                let too_large = is_longer(&metadata, limit);
                let error = if too_large { ErrorCode::OffsetMetadataTooLarge } else { ErrorCode::None };
                partitions.push(TxnOffsetCommitResponsePartition {
                    partition_index: partition.partition_index,
                    error_code: error.code(),
                    ..Default::default()
                });
                if !too_large {
                    let value = OffsetCommitValue {
                        offset: partition.committed_offset,
                        leader_epoch: partition.committed_leader_epoch.max(-1),
                        metadata,
                        commit_timestamp: now.wall_ms,
                        expire_timestamp: -1,
                        ..Default::default()
                    };
                    commits.push((topic.name.clone(), partition.partition_index, value));
                }
            }
            let name = topic.name.clone();
            response.topics.push(TxnOffsetCommitResponseTopic { name, partitions, ..Default::default() });
        }
        if commits.is_empty() {
            return Outcome::now(response);
        }
        let mut undo = Vec::with_capacity(commits.len() + 1);
        if known.is_none() {
            let group = self.new_group(now, group_id.clone());
            undo.push(Undo::CreatedGroup { group: group_id.clone(), incarnation: group.incarnation });
            self.groups.add_classic(group);
        }
        let producer = WriteProducer { id: request.producer_id, epoch: request.producer_epoch };
        let records = self.apply_pending(producer.id, &group_id, commits, &mut undo);
        let token = self.next_token();
        let mut out = Effects::default();
        let (_, mut env) = self.parts(now, &mut out);
        let id = env.write(&group_id, records, OnWritten::Nothing, undo);
        out.writes.iter_mut().filter(|write| write.id == id).for_each(|write| write.producer = Some(producer));
        self.writes.reply_after(id, token, response);
        self.settle(now, &mut out);
        Outcome::from_effects(token, out)
    }

    fn apply_pending(
        &mut self,
        producer_id: i64,
        group: &Str,
        commits: Vec<(Str, i32, OffsetCommitValue)>,
        undo: &mut Vec<Undo>,
    ) -> Result<Vec<CoordinatorRecord>, EncodeError> {
        let mut records = Vec::with_capacity(commits.len());
        for (topic, partition, value) in commits {
            let offset = CommittedOffset { order: self.next_order(), ..CommittedOffset::from_value(&value) };
            records.push(persist::offset_record(group, &topic, partition, Some(value))?);
            let previous = self.pending.set(producer_id, group, &topic, partition, Some(offset));
            undo.push(Undo::PendingOffset { producer_id, group: group.clone(), topic, partition, previous });
        }
        Ok(records)
    }

    /// A producer's transaction has ended: its marker is in this machine's partition, behind all that the producer wrote in it.
    /// While loading, markers are told in their place among the records.
    pub fn transaction_ended(&mut self, producer_id: i64, commit: bool) {
        let ended = self.pending.take(producer_id);
        if !commit {
            return;
        }
        for (group, topics) in ended {
            for (topic, partitions) in topics {
                for (partition, offset) in partitions {
                    self.settle_offset(&group, &topic, partition, offset);
                }
            }
        }
    }

    /// A pending offset counts now, unless another one was committed after it.
    fn settle_offset(&mut self, group: &Str, topic: &Str, partition: i32, offset: CommittedOffset) {
        self.writes.amend_undo(group, topic, partition, &offset);
        if self.offsets.get(group, topic, partition).is_none_or(|other| other.order < offset.order) {
            self.offsets.set(group, topic, partition, Some(offset));
        }
    }
}

impl ClassicGroup {
    /// A producer need not say for whom it commits; if it does, the member must be of this generation.
    fn check_txn_commit(&self, request: &TxnOffsetCommitRequest) -> Result<(), ErrorCode> {
        if request.generation_id < 0 && self.is_in(GroupState::Empty) {
            return Ok(());
        }
        if request.generation_id >= 0 || !request.member_id.is_empty() || request.group_instance_id.is_some() {
            self.check_member(&request.member_id, request.group_instance_id.as_deref())?;
            if request.generation_id != self.generation {
                return Err(ErrorCode::IllegalGeneration);
            }
        }
        Ok(())
    }
}
