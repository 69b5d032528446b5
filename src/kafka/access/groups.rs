//! Groups of the classic, the consumer and the streams protocol, and their offsets.

use corelane_acl::{CLUSTER_NAME, Operation, ResourceType};
use corelane_coordinator::group::reject;
use corelane_protocol::messages::{
    ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse, ConsumerGroupDescribeResponseDescribedGroup,
    ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, DeleteGroupsRequest, DeleteGroupsResponse,
    DescribeGroupsRequest, DescribeGroupsResponse, HeartbeatRequest, HeartbeatResponse, JoinGroupRequest,
    JoinGroupResponse, LeaveGroupRequest, LeaveGroupResponse, ListGroupsRequest, ListGroupsResponse,
    OffsetCommitRequest, OffsetCommitResponse, OffsetDeleteRequest, OffsetDeleteResponse, StreamsGroupDescribeRequest,
    StreamsGroupDescribeResponse, StreamsGroupHeartbeatRequest, StreamsGroupHeartbeatResponse, SyncGroupRequest,
    SyncGroupResponse,
};
use corelane_protocol::{ErrorCode, Request, Str};

use super::{Access, Guarded, Verdict};
use crate::controller::features::GROUP_VERSION;
use crate::kafka::operations;

const REFUSED: ErrorCode = ErrorCode::GroupAuthorizationFailed;
pub(super) const HIDDEN_TOPICS: &str =
    "The group has described topic(s) that the client is not authorized to describe.";
/// First version that must name protocol and its type.
const PROTOCOL_FROM: i16 = 5;

/// Requests that members of a group send, which takes READ on the group.
macro_rules! members {
    ($($request:ident => $refuse:expr,)*) => {
        $(impl Guarded for $request {
            fn guard(&mut self, access: &Access<'_>) -> Verdict<<Self as Request>::Response> {
                let refuse: fn(&Self, &Access<'_>) -> <Self as Request>::Response = $refuse;
                Verdict::unless(access.group(Operation::Read, &self.group_id), || refuse(self, access))
            }
        })*
    };
}

members! {
    HeartbeatRequest => |_, _| -> HeartbeatResponse { reject::heartbeat(REFUSED) },
    LeaveGroupRequest => |_, _| -> LeaveGroupResponse { reject::leave(REFUSED) },
    JoinGroupRequest => |_, access| -> JoinGroupResponse { reject::join(access.version(), "", REFUSED) },
    // Its handler asks for the topics.
    OffsetCommitRequest => |request, _| -> OffsetCommitResponse { reject::offset_commit(request, REFUSED) },
}

impl Guarded for SyncGroupRequest {
    fn guard(&mut self, access: &Access<'_>) -> Verdict<SyncGroupResponse> {
        if access.version() >= PROTOCOL_FROM && (self.protocol_type.is_none() || self.protocol_name.is_none()) {
            return Verdict::Refuse(reject::sync(ErrorCode::InconsistentGroupProtocol));
        }
        Verdict::unless(access.group(Operation::Read, &self.group_id), || reject::sync(REFUSED))
    }
}

impl Guarded for OffsetDeleteRequest {
    fn guard(&mut self, access: &Access<'_>) -> Verdict<OffsetDeleteResponse> {
        // Its handler asks for the topics.
        Verdict::unless(access.group(Operation::Delete, &self.group_id), || reject::offset_delete(REFUSED))
    }
}

impl Guarded for DeleteGroupsRequest {
    fn guard(&mut self, access: &Access<'_>) -> Verdict<DeleteGroupsResponse> {
        self.groups_names.sort_unstable();
        self.groups_names.dedup();
        let refused: Vec<Str> = self.groups_names.extract_if(.., |id| !access.group(Operation::Delete, id)).collect();
        Verdict::amend(move |_, answer: &mut DeleteGroupsResponse| {
            answer.results.extend(reject::delete_groups(&refused, REFUSED).results)
        })
    }
}

impl Guarded for ListGroupsRequest {
    fn guard(&mut self, access: &Access<'_>) -> Verdict<ListGroupsResponse> {
        if access.may_see(Operation::Describe, ResourceType::Cluster, CLUSTER_NAME) {
            return Verdict::Pass;
        }
        Verdict::amend(|access, answer: &mut ListGroupsResponse| {
            answer.groups.retain(|group| access.may_see(Operation::Describe, ResourceType::Group, &group.group_id));
        })
    }
}

/// Takes out the groups that the client may not describe.
pub(super) fn take_hidden(access: &Access<'_>, groups: &mut Vec<Str>) -> Vec<Str> {
    groups.extract_if(.., |id| !access.group(Operation::Describe, id)).collect()
}

/// The operations on a group, where the answer has any.
pub(super) fn put_operations(access: &Access<'_>, group: &str, to: &mut i32) {
    if *to != operations::UNKNOWN {
        *to = access.operations(ResourceType::Group, group);
    }
}

impl Guarded for DescribeGroupsRequest {
    fn guard(&mut self, access: &Access<'_>) -> Verdict<DescribeGroupsResponse> {
        let hidden = take_hidden(access, &mut self.groups);
        Verdict::amend(move |access, answer: &mut DescribeGroupsResponse| {
            for group in &mut answer.groups {
                put_operations(access, &group.group_id, &mut group.authorized_operations);
            }
            answer.groups.splice(..0, reject::describe_groups(&hidden, REFUSED));
        })
    }
}

/// A heartbeat names what its member wants to read.
pub(super) fn subscription<A>(
    access: &Access<'_>,
    group: &str,
    topics: Option<&Vec<Str>>,
    refuse: impl Fn(ErrorCode) -> A,
) -> Verdict<A> {
    if !access.group(Operation::Read, group) {
        Verdict::Refuse(refuse(REFUSED))
    } else if !access.refused(Operation::Describe, topics.into_iter().flatten()).is_empty() {
        Verdict::Refuse(refuse(ErrorCode::TopicAuthorizationFailed))
    } else {
        Verdict::Pass
    }
}

impl Guarded for ConsumerGroupHeartbeatRequest {
    fn guard(&mut self, access: &Access<'_>) -> Verdict<ConsumerGroupHeartbeatResponse> {
        if access.image().feature(GROUP_VERSION) < 1 {
            return Verdict::Pass;
        }
        subscription(access, &self.group_id, self.subscribed_topic_names.as_ref(), reject::consumer_heartbeat)
    }
}

impl Guarded for ConsumerGroupDescribeRequest {
    fn guard(&mut self, access: &Access<'_>) -> Verdict<ConsumerGroupDescribeResponse> {
        if access.image().feature(GROUP_VERSION) < 1 {
            return Verdict::Pass;
        }
        let hidden = take_hidden(access, &mut self.group_ids);
        Verdict::amend(move |access, answer: &mut ConsumerGroupDescribeResponse| {
            let refused = |group_id: Str, error: ErrorCode| ConsumerGroupDescribeResponseDescribedGroup {
                group_id,
                error_code: error.code(),
                ..Default::default()
            };
            for group in &mut answer.groups {
                put_operations(access, &group.group_id, &mut group.authorized_operations);
                let assignments = group.members.iter().flat_map(|m| [&m.assignment, &m.target_assignment]);
                let topics = assignments.flat_map(|assignment| &assignment.topic_partitions).map(|t| &t.topic_name);
                if !access.refused(Operation::Describe, topics).is_empty() {
                    *group = ConsumerGroupDescribeResponseDescribedGroup {
                        error_message: Some(Str::from_static(HIDDEN_TOPICS)),
                        ..refused(group.group_id.clone(), ErrorCode::TopicAuthorizationFailed)
                    };
                }
            }
            answer.groups.splice(..0, hidden.into_iter().map(|id| refused(id, REFUSED)));
        })
    }
}

impl Guarded for StreamsGroupHeartbeatRequest {
    fn guard(&mut self, access: &Access<'_>) -> Verdict<StreamsGroupHeartbeatResponse> {
        // Its handler asks for the topics, once it knows that their names are names.
        Verdict::unless(access.group(Operation::Read, &self.group_id), || reject::streams_heartbeat(REFUSED))
    }
}

impl Guarded for StreamsGroupDescribeRequest {
    fn guard(&mut self, access: &Access<'_>) -> Verdict<StreamsGroupDescribeResponse> {
        let hidden = take_hidden(access, &mut self.group_ids);
        Verdict::amend(move |access, answer: &mut StreamsGroupDescribeResponse| {
            for group in &mut answer.groups {
                put_operations(access, &group.group_id, &mut group.authorized_operations);
                let subtopologies = group.topology.iter().flat_map(|topology| topology.subtopologies.iter().flatten());
                let topics = subtopologies.flat_map(|s| {
                    let internal = s.repartition_source_topics.iter().chain(&s.state_changelog_topics).map(|t| &t.name);
                    s.source_topics.iter().chain(&s.repartition_sink_topics).chain(internal)
                });
                if !access.refused(Operation::Describe, topics).is_empty() {
                    let error = ErrorCode::TopicAuthorizationFailed;
                    *group = reject::describe_streams_group(&group.group_id, error);
                    group.error_message =
                        Some("The described group uses topics that the client is not authorized to describe.".into());
                }
            }
            let refused = hidden.iter().map(|id| reject::describe_streams_group(id, REFUSED));
            answer.groups.splice(..0, refused);
        })
    }
}
