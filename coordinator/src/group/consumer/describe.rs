//! ConsumerGroupDescribe.

use std::collections::BTreeMap;

use corelane_protocol::messages::{
    ConsumerGroupDescribeResponseAssignment, ConsumerGroupDescribeResponseDescribedGroup,
    ConsumerGroupDescribeResponseMember, ConsumerGroupDescribeResponseTopicPartitions,
};
use corelane_protocol::{ErrorCode, Str, Uuid};

use super::group::ConsumerGroup;
use super::member::Subscription;
use crate::group::coordinator::GroupCoordinator;
use crate::group::modern::topics::Topics;

impl GroupCoordinator {
    /// A consumer group with its members, what they have and what they are meant to have.
    pub fn describe_consumer_group(&self, group_id: &Str) -> ConsumerGroupDescribeResponseDescribedGroup {
        if let Some(group) = self.groups.consumer(group_id) {
            let default = self.config.consumer.default_assignor();
            let described = group.describe(&*self.catalog.topics);
            let assignor_name = group.preferred_assignor().unwrap_or(default).name();
            return ConsumerGroupDescribeResponseDescribedGroup {
                group_id: group_id.clone(),
                assignor_name: Str::from_static(assignor_name),
                ..described
            };
        }
        let message = match self.groups.contains_key(group_id) {
            true => format!("Group {group_id} is not a consumer group."),
            false => format!("Group {group_id} not found."),
        };
        ConsumerGroupDescribeResponseDescribedGroup {
            error_code: ErrorCode::GroupIdNotFound.code(),
            error_message: Some(message.into()),
            group_id: group_id.clone(),
            ..Default::default()
        }
    }
}

impl ConsumerGroup {
    fn describe(&self, topics: &dyn Topics) -> ConsumerGroupDescribeResponseDescribedGroup {
        ConsumerGroupDescribeResponseDescribedGroup {
            group_state: Str::from_static(self.state().name()),
            group_epoch: self.epoch.epoch,
            assignment_epoch: self.target_epoch.epoch,
            members: self.subscriptions.iter().map(|(id, member)| self.describe_member(topics, id, member)).collect(),
            ..Default::default()
        }
    }

    fn describe_member(
        &self,
        topics: &dyn Topics,
        id: &Str,
        subscription: &Subscription,
    ) -> ConsumerGroupDescribeResponseMember {
        let (current, target) = (self.current(id), self.target(id));
        // A member is responsible for what it gives up until it has.
        let mut owned: BTreeMap<Uuid, Vec<i32>> = BTreeMap::new();
        for (topic, partitions) in current.assigned.iter().chain(&current.revoking) {
            owned.entry(*topic).or_default().extend(partitions.keys());
        }
        let target = target.iter().map(|(topic, partitions)| (*topic, partitions.iter().copied().collect()));
        ConsumerGroupDescribeResponseMember {
            member_id: id.clone(),
            instance_id: subscription.instance_id.clone(),
            rack_id: subscription.rack_id.clone(),
            member_epoch: current.epoch,
            client_id: subscription.client_id.clone(),
            client_host: subscription.client_host.clone(),
            subscribed_topic_names: subscription.topics.iter().cloned().collect(),
            subscribed_topic_regex: Some(subscription.regex.clone()),
            assignment: assignment(topics, owned.into_iter()),
            target_assignment: assignment(topics, target),
            member_type: i8::from(subscription.classic.is_none()),
            ..Default::default()
        }
    }
}

/// Topics that are gone are left out.
fn assignment(
    topics: &dyn Topics,
    partitions: impl Iterator<Item = (Uuid, Vec<i32>)>,
) -> ConsumerGroupDescribeResponseAssignment {
    let topic_partitions = partitions.filter_map(|(topic_id, partitions)| {
        let topic_name = topics.with_id(topic_id)?.name;
        Some(ConsumerGroupDescribeResponseTopicPartitions { topic_id, topic_name, partitions, ..Default::default() })
    });
    ConsumerGroupDescribeResponseAssignment { topic_partitions: topic_partitions.collect(), ..Default::default() }
}
