//! Who may commit and fetch offsets of a consumer group.

use std::cmp::Ordering;

use corelane_protocol::messages::OffsetFetchRequestGroup;
use corelane_protocol::{EncodeError, ErrorCode, Str, Uuid};

use super::change::Change;
use super::group::ConsumerGroup;
use super::member::Current;
use crate::CoordinatorRecord;

/// The first version of OffsetCommit that members of the consumer protocol may use.
const MEMBER_EPOCHS_FROM: i16 = 9;

/// A commit, as far as it says who commits.
pub(crate) struct Committer<'a> {
    pub(crate) member_id: &'a str,
    pub(crate) instance_id: Option<&'a Str>,
    /// Generation of the classic protocol, or member epoch.
    pub(crate) epoch: i32,
    /// The version of OffsetCommit; nothing for a commit in a transaction.
    pub(crate) api_version: Option<i16>,
}

impl ConsumerGroup {
    /// A member commits with the epoch that it has, or with one from which on it has had all of the partitions.
    pub(crate) fn check_commit(
        &self,
        committer: &Committer<'_>,
        mut partitions: impl Iterator<Item = (Uuid, i32)>,
    ) -> Result<(), ErrorCode> {
        let Committer { member_id, instance_id, epoch, api_version } = *committer;
        if epoch < 0 && self.is_empty() {
            return Ok(());
        }
        if api_version.is_none() && epoch == -1 && member_id.is_empty() && instance_id.is_none() {
            return Ok(());
        }
        let member = self.subscriptions.get(member_id).ok_or(ErrorCode::UnknownMemberId)?;
        let is_classic = member.classic.is_some();
        if !is_classic && api_version.is_some_and(|version| version < MEMBER_EPOCHS_FROM) {
            return Err(ErrorCode::UnsupportedVersion);
        }
        let stale = match is_classic || api_version.is_none() {
            true => ErrorCode::IllegalGeneration,
            false => ErrorCode::StaleMemberEpoch,
        };
        let current = self.current(member_id);
        let is_known = match epoch.cmp(&current.epoch) {
            Ordering::Equal => true,
            Ordering::Less => partitions.all(|(topic, index)| since(&current, topic, index) <= epoch),
            Ordering::Greater => false,
        };
        if is_known { Ok(()) } else { Err(stale) }
    }

    /// Members fetch with the epoch that they have; who says nothing of itself may fetch.
    pub(crate) fn check_fetch(&self, request: &OffsetFetchRequestGroup) -> Result<(), ErrorCode> {
        let Some(member_id) = &request.member_id else {
            return if request.member_epoch < 0 { Ok(()) } else { Err(ErrorCode::UnknownMemberId) };
        };
        let member = self.subscriptions.get(member_id).ok_or(ErrorCode::UnknownMemberId)?;
        if request.member_epoch == self.current(member_id).epoch {
            return Ok(());
        }
        Err(if member.classic.is_some() { ErrorCode::IllegalGeneration } else { ErrorCode::StaleMemberEpoch })
    }

    pub(crate) fn tombstones(&self) -> Result<Vec<CoordinatorRecord>, EncodeError> {
        let members = self.subscriptions.keys();
        let mut changes: Vec<Change> = members.clone().map(|id| Change::Current(id.clone(), None)).collect();
        changes.extend(members.clone().map(|id| Change::Target(id.clone(), None)));
        changes.push(Change::TargetEpoch(None));
        changes.extend(members.map(|id| Change::Subscription(id.clone(), None)));
        changes.extend(self.resolved.keys().map(|regex| Change::Regex(regex.clone(), None)));
        changes.extend([Change::OldTopics(false), Change::Epoch(None)]);
        changes.iter().map(|change| change.to_record(&self.id)).collect()
    }
}

/// From which epoch on the member has had the partition; beyond all if it does not have it.
fn since(current: &Current, topic: Uuid, partition: i32) -> i32 {
    let of = [&current.assigned, &current.revoking];
    of.iter().find_map(|owned| owned.get(&topic)?.get(&partition)).copied().unwrap_or(i32::MAX)
}
