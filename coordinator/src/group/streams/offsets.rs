//! Who may commit and fetch offsets of a streams group.

use corelane_protocol::ErrorCode;
use corelane_protocol::messages::{OffsetCommitRequest, OffsetFetchRequestGroup, TxnOffsetCommitRequest};

use super::group::StreamsGroup;
use super::tasks::EpochTasks;

/// The first version of OffsetCommit that has member epochs.
const MEMBER_EPOCHS_FROM: i16 = 9;

impl StreamsGroup {
    pub(crate) fn check_offset_commit(&self, api_version: i16, request: &OffsetCommitRequest) -> Result<(), ErrorCode> {
        let epoch = request.generation_id_or_member_epoch;
        if epoch < 0 && self.members.is_empty() {
            // From an administrator.
            return Ok(());
        }
        if !self.members.contains_key(&request.member_id) {
            return Err(ErrorCode::UnknownMemberId);
        }
        if api_version < MEMBER_EPOCHS_FROM {
            return Err(ErrorCode::UnsupportedVersion);
        }
        let topics = request.topics.iter();
        let partitions = topics.flat_map(|t| t.partitions.iter().map(|p| (t.name.as_str(), p.partition_index)));
        self.check_epoch_of(&request.member_id, epoch, partitions)
    }

    /// A producer need not say for whom it commits.
    pub(crate) fn check_txn_offset_commit(&self, request: &TxnOffsetCommitRequest) -> Result<(), ErrorCode> {
        let epoch = request.generation_id;
        let nobody = epoch == -1 && request.member_id.is_empty() && request.group_instance_id.is_none();
        if nobody || (epoch < 0 && self.members.is_empty()) {
            return Ok(());
        }
        let topics = request.topics.iter();
        let partitions = topics.flat_map(|t| t.partitions.iter().map(|p| (t.name.as_str(), p.partition_index)));
        let checked = self.check_epoch_of(&request.member_id, epoch, partitions);
        // the error that transactional clients know
        checked.map_err(|error| if error == ErrorCode::StaleMemberEpoch { ErrorCode::IllegalGeneration } else { error })
    }

    pub(crate) fn check_offset_fetch(&self, request: &OffsetFetchRequestGroup) -> Result<(), ErrorCode> {
        let Some(member_id) = &request.member_id else {
            return if request.member_epoch < 0 { Ok(()) } else { Err(ErrorCode::UnknownMemberId) };
        };
        let member = self.members.get(member_id).ok_or(ErrorCode::UnknownMemberId)?;
        if request.member_epoch == member.current.epoch { Ok(()) } else { Err(ErrorCode::StaleMemberEpoch) }
    }

    /// A member commits with the epoch that it has, or with one from which on it has had the tasks that read all of the
    /// partitions.
    fn check_epoch_of<'a>(
        &self,
        member_id: &str,
        epoch: i32,
        mut partitions: impl Iterator<Item = (&'a str, i32)>,
    ) -> Result<(), ErrorCode> {
        let current = &self.members.get(member_id).ok_or(ErrorCode::UnknownMemberId)?.current;
        if epoch == current.epoch {
            return Ok(());
        }
        let topology = self.topology.as_ref().filter(|_| epoch < current.epoch).ok_or(ErrorCode::StaleMemberEpoch)?;
        let has_had = |(topic, partition): (&str, i32)| {
            let id = &topology.reader_of(topic)?.subtopology_id;
            let since = |tasks: &EpochTasks| tasks.get(id)?.get(&partition).copied();
            let since = since(&current.assigned.active).or_else(|| since(&current.revoked.active))?;
            (since <= epoch).then_some(())
        };
        if partitions.all(|partition| has_had(partition).is_some()) { Ok(()) } else { Err(ErrorCode::StaleMemberEpoch) }
    }
}
