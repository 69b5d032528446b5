//! ShareGroupDescribe.

use corelane_protocol::messages::{
    ShareGroupDescribeResponseAssignment, ShareGroupDescribeResponseDescribedGroup, ShareGroupDescribeResponseMember,
    ShareGroupDescribeResponseTopicPartitions,
};
use corelane_protocol::{ErrorCode, Str};

use super::Refusal;
use super::group::ShareGroup;
use super::state::ShareMember;
use crate::group::coordinator::GroupCoordinator;
use crate::group::modern::topics::Topics;
use crate::group::outcome::{Effects, Outcome};
use crate::group::reject;

/// The only assignor.
const ASSIGNOR: Str = Str::from_static("simple");

impl GroupCoordinator {
    /// Answered when no write that touches the group is under way.
    pub fn share_group_describe(&mut self, group_id: &Str) -> Outcome<ShareGroupDescribeResponseDescribedGroup> {
        let response = match self.groups.get(group_id) {
            None => {
                let message = Str::from(format!("Group {group_id} not found."));
                reject::share_describe(group_id, ErrorCode::GroupIdNotFound, Some(message))
            }
            Some(group) => match group.share() {
                None => {
                    let refusal = Refusal::not_a_share_group(group_id);
                    reject::share_describe(group_id, refusal.code, Some(refusal.message))
                }
                Some(group) => group.describe(&*self.catalog.topics),
            },
        };
        match self.writes.last_of(group_id) {
            None => Outcome::now(response),
            Some(write) => {
                let token = self.next_token();
                self.writes.reply_after(write, token, response);
                Outcome::from_effects(token, Effects::default())
            }
        }
    }
}

impl ShareGroup {
    fn describe(&self, topics: &dyn Topics) -> ShareGroupDescribeResponseDescribedGroup {
        ShareGroupDescribeResponseDescribedGroup {
            group_id: self.id.clone(),
            group_state: Str::from_static(self.state_name()),
            group_epoch: self.state.epoch,
            assignment_epoch: self.state.assignment_epoch,
            assignor_name: ASSIGNOR,
            members: self.state.members.iter().map(|(id, member)| describe(id, member, topics)).collect(),
            ..Default::default()
        }
    }
}

fn describe(id: &Str, member: &ShareMember, topics: &dyn Topics) -> ShareGroupDescribeResponseMember {
    let assigned = member.assigned.iter().filter_map(|(topic_id, partitions)| {
        Some(ShareGroupDescribeResponseTopicPartitions {
            topic_id: *topic_id,
            topic_name: topics.with_id(*topic_id)?.name,
            partitions: partitions.iter().copied().collect(),
            ..Default::default()
        })
    });
    ShareGroupDescribeResponseMember {
        member_id: id.clone(),
        rack_id: member.rack_id.clone(),
        member_epoch: member.epoch,
        client_id: member.client_id.clone(),
        client_host: member.client_host.clone(),
        subscribed_topic_names: member.topics.iter().cloned().collect(),
        assignment: ShareGroupDescribeResponseAssignment { topic_partitions: assigned.collect(), ..Default::default() },
        ..Default::default()
    }
}
