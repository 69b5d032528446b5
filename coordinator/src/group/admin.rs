//! DescribeGroups, ListGroups and DeleteGroups.

use corelane_protocol::messages::{
    DeleteGroupsResponse, DeleteGroupsResponseDeletableGroupResult, DescribeGroupsResponseDescribedGroup,
    ListGroupsRequest, ListGroupsResponseListedGroup,
};
use corelane_protocol::{ErrorCode, Str};

use super::RequestContext;
use super::coordinator::GroupCoordinator;
use super::outcome::{Effects, Outcome};
use super::retention::Tombstones;
use super::state::GroupState;
use super::table::Group;
use crate::Now;

/// The first version that tells a group that does not exist from one that is dead.
const GROUP_ID_NOT_FOUND_FROM: i16 = 6;

/// A group's state as filters of ListGroups name it. Kafka: `StreamsGroupState.toLowerCaseString`.
fn filter_name(group: &Group) -> &'static str {
    match group.state_name() {
        "NotReady" => "not_ready",
        name => name,
    }
}

impl GroupCoordinator {
    /// State and members of groups, in the order in which they were asked for.
    pub fn describe_groups(
        &self,
        context: &RequestContext,
        group_ids: &[Str],
    ) -> Vec<DescribeGroupsResponseDescribedGroup> {
        group_ids.iter().map(|group_id| self.describe_group(context, group_id)).collect()
    }

    fn describe_group(&self, context: &RequestContext, group_id: &Str) -> DescribeGroupsResponseDescribedGroup {
        let mut described = DescribeGroupsResponseDescribedGroup { group_id: group_id.clone(), ..Default::default() };
        match self.groups.get(group_id).and_then(Group::classic) {
            Some(group) => {
                let protocol = group.protocol_name.as_ref().filter(|_| group.is_in(GroupState::Stable));
                described.group_state = group.state().text();
                described.protocol_type = group.protocol_type.clone().unwrap_or_default();
                described.protocol_data = protocol.cloned().unwrap_or_default();
                let members = group.members.iter();
                described.members =
                    members.map(|(id, member)| member.describe(id, protocol.map(Str::as_str))).collect();
            }
            None => {
                described.group_state = Str::from_static("Dead");
                if context.api_version >= GROUP_ID_NOT_FOUND_FROM {
                    described.error_code = ErrorCode::GroupIdNotFound.code();
                    let why = if self.groups.contains_key(group_id) { "is not a classic group" } else { "not found" };
                    described.error_message = Some(Str::from(format!("Group {group_id} {why}.")));
                }
            }
        }
        described
    }

    /// The groups of this coordinator that pass the request's filters of states and types, in no particular order.
    pub fn list_groups(&self, request: &ListGroupsRequest) -> Vec<ListGroupsResponseListedGroup> {
        let (types, states) = (&request.types_filter, &request.states_filter);
        let is_asked_for = |group: &&Group| {
            (types.is_empty() || types.iter().any(|name| name.eq_ignore_ascii_case(group.kind())))
                && (states.is_empty() || states.iter().any(|name| name.trim().eq_ignore_ascii_case(filter_name(group))))
        };
        self.groups
            .values()
            .filter(is_asked_for)
            .map(|group| ListGroupsResponseListedGroup {
                group_id: group.id().clone(),
                protocol_type: group.protocol_type(),
                group_state: Str::from_static(group.state_name()),
                group_type: Str::from_static(group.kind()),
                ..Default::default()
            })
            .collect()
    }

    /// Removes groups without members, and all their offsets.
    pub fn delete_groups(&mut self, now: Now, group_ids: &[Str]) -> Outcome<DeleteGroupsResponse> {
        let mut response = DeleteGroupsResponse::default();
        let mut gone = Tombstones::default();
        for (position, group_id) in group_ids.iter().enumerate() {
            if group_ids.iter().take(position).any(|other| other == group_id) {
                continue;
            }
            let error = match self.groups.get(group_id) {
                None => ErrorCode::GroupIdNotFound,
                Some(group) if !group.is_empty() => ErrorCode::NonEmptyGroup,
                Some(group) => {
                    for (topic, partitions) in self.offsets.of_group(group_id).into_iter().flatten() {
                        partitions.keys().for_each(|partition| gone.offset(group.id(), topic, *partition));
                    }
                    for (_, topics) in self.pending.of_group(group_id) {
                        for (topic, partitions) in topics {
                            let only_pending = |p: &&i32| self.offsets.get(group_id, topic, **p).is_none();
                            let partitions = partitions.keys().filter(only_pending);
                            partitions.for_each(|partition| gone.offset(group.id(), topic, *partition));
                        }
                    }
                    gone.group(group.id());
                    ErrorCode::None
                }
            };
            response.results.push(DeleteGroupsResponseDeletableGroupResult {
                group_id: group_id.clone(),
                error_code: error.code(),
                ..Default::default()
            });
        }
        let mut out = Effects::default();
        self.bury(now, gone, &mut out);
        self.answer_after_writes(now, response, out)
    }
}
