//! Responses that say no, in the shape that each API and version has for it.

use corelane_protocol::messages::{
    ConsumerGroupHeartbeatResponse, DeleteGroupsResponse, DeleteGroupsResponseDeletableGroupResult,
    DescribeGroupsResponseDescribedGroup, HeartbeatResponse, JoinGroupResponse, LeaveGroupRequest, LeaveGroupResponse,
    LeaveGroupResponseMemberResponse, OffsetCommitRequest, OffsetCommitResponse, OffsetCommitResponsePartition,
    OffsetCommitResponseTopic, OffsetDeleteResponse, OffsetFetchRequestGroup, OffsetFetchResponseGroup,
    OffsetFetchResponsePartitions, OffsetFetchResponseTopics, ShareGroupDescribeResponseDescribedGroup,
    ShareGroupHeartbeatResponse, StreamsGroupDescribeResponseDescribedGroup, StreamsGroupHeartbeatResponse,
    SyncGroupResponse, TxnOffsetCommitRequest, TxnOffsetCommitRequestTopic, TxnOffsetCommitResponse,
    TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic,
};
use corelane_protocol::{ErrorCode, Str};

use super::outcome::Response;
use super::streams::StreamsHeartbeat;

/// What the client hears when writing to the coordinator's partition failed with `error`.
pub fn write_error(error: ErrorCode) -> ErrorCode {
    use ErrorCode::*;
    match error {
        UnknownTopicOrPartition | NotEnoughReplicas | RequestTimedOut => CoordinatorNotAvailable,
        NotLeaderOrFollower | KafkaStorageError => NotCoordinator,
        MessageTooLarge | RecordListTooLarge | InvalidFetchSize => UnknownServerError,
        NetworkException => CoordinatorLoadInProgress,
        other => other,
    }
}

pub fn join(api_version: i16, member_id: &str, error: ErrorCode) -> JoinGroupResponse {
    let mut response = join_body(member_id, error);
    fit_join(api_version, &mut response);
    response
}

pub(crate) fn join_body(member_id: &str, error: ErrorCode) -> JoinGroupResponse {
    JoinGroupResponse { error_code: error.code(), member_id: Str::from(member_id.to_owned()), ..Default::default() }
}

/// No protocol is an empty name before version 7, and null from then on.
pub(crate) fn fit_join(api_version: i16, response: &mut JoinGroupResponse) {
    let name = response.protocol_name.take().filter(|name| !name.is_empty());
    response.protocol_name = if api_version < 7 { Some(name.unwrap_or_default()) } else { name };
}

pub fn sync(error: ErrorCode) -> SyncGroupResponse {
    SyncGroupResponse { error_code: error.code(), ..Default::default() }
}

/// While the group is being loaded a heartbeat is answered as if all were well.
pub fn heartbeat(error: ErrorCode) -> HeartbeatResponse {
    let error = if error == ErrorCode::CoordinatorLoadInProgress { ErrorCode::None } else { error };
    HeartbeatResponse { error_code: error.code(), ..Default::default() }
}

pub fn consumer_heartbeat(error: ErrorCode) -> ConsumerGroupHeartbeatResponse {
    ConsumerGroupHeartbeatResponse { error_code: error.code(), ..Default::default() }
}

pub fn leave(error: ErrorCode) -> LeaveGroupResponse {
    LeaveGroupResponse { error_code: error.code(), ..Default::default() }
}

/// Every member of the request is unknown, which is what a group that does not exist gives.
pub(crate) fn leave_unknown(request: &LeaveGroupRequest) -> LeaveGroupResponse {
    let unknown =
        |member: &corelane_protocol::messages::LeaveGroupRequestMemberIdentity| LeaveGroupResponseMemberResponse {
            member_id: member.member_id.clone(),
            group_instance_id: member.group_instance_id.clone(),
            error_code: ErrorCode::UnknownMemberId.code(),
            ..Default::default()
        };
    LeaveGroupResponse { members: request.members.iter().map(unknown).collect(), ..Default::default() }
}

pub fn streams_heartbeat(error: ErrorCode) -> StreamsGroupHeartbeatResponse {
    StreamsGroupHeartbeatResponse { error_code: error.code(), ..Default::default() }
}

pub fn describe_streams_group(group_id: &Str, error: ErrorCode) -> StreamsGroupDescribeResponseDescribedGroup {
    StreamsGroupDescribeResponseDescribedGroup {
        group_id: group_id.clone(),
        error_code: error.code(),
        topology: None,
        ..Default::default()
    }
}

pub fn offset_commit(request: &OffsetCommitRequest, error: ErrorCode) -> OffsetCommitResponse {
    let topic = |topic: &corelane_protocol::messages::OffsetCommitRequestTopic| OffsetCommitResponseTopic {
        name: topic.name.clone(),
        topic_id: topic.topic_id,
        partitions: topic
            .partitions
            .iter()
            .map(|partition| OffsetCommitResponsePartition {
                partition_index: partition.partition_index,
                error_code: error.code(),
                ..Default::default()
            })
            .collect(),
        ..Default::default()
    };
    OffsetCommitResponse { topics: request.topics.iter().map(topic).collect(), ..Default::default() }
}

pub fn txn_offset_commit(request: &TxnOffsetCommitRequest, error: ErrorCode) -> TxnOffsetCommitResponse {
    let topic = |topic: &TxnOffsetCommitRequestTopic| TxnOffsetCommitResponseTopic {
        name: topic.name.clone(),
        partitions: topic
            .partitions
            .iter()
            .map(|partition| TxnOffsetCommitResponsePartition {
                partition_index: partition.partition_index,
                error_code: error.code(),
                ..Default::default()
            })
            .collect(),
        ..Default::default()
    };
    TxnOffsetCommitResponse { topics: request.topics.iter().map(topic).collect(), ..Default::default() }
}

/// Before version 2 there is no place for an error but the partitions.
pub fn offset_fetch(api_version: i16, request: &OffsetFetchRequestGroup, error: ErrorCode) -> OffsetFetchResponseGroup {
    let group_id = request.group_id.clone();
    if api_version >= 2 {
        return OffsetFetchResponseGroup { group_id, error_code: error.code(), ..Default::default() };
    }
    let topic = |topic: &corelane_protocol::messages::OffsetFetchRequestTopics| OffsetFetchResponseTopics {
        name: topic.name.clone(),
        topic_id: topic.topic_id,
        partitions: topic.partition_indexes.iter().map(|index| fetched_nothing(*index, error)).collect(),
        ..Default::default()
    };
    let topics = request.topics.iter().flatten().map(topic).collect();
    OffsetFetchResponseGroup { group_id, topics, ..Default::default() }
}

/// A partition without a committed offset.
pub(crate) fn fetched_nothing(partition_index: i32, error: ErrorCode) -> OffsetFetchResponsePartitions {
    OffsetFetchResponsePartitions {
        partition_index,
        committed_offset: -1,
        committed_leader_epoch: -1,
        metadata: Some(Str::EMPTY),
        error_code: error.code(),
        ..Default::default()
    }
}

pub fn offset_delete(error: ErrorCode) -> OffsetDeleteResponse {
    OffsetDeleteResponse { error_code: error.code(), ..Default::default() }
}

pub fn delete_groups(group_ids: &[Str], error: ErrorCode) -> DeleteGroupsResponse {
    let result = |group_id: &Str| DeleteGroupsResponseDeletableGroupResult {
        group_id: group_id.clone(),
        error_code: error.code(),
        ..Default::default()
    };
    DeleteGroupsResponse { results: group_ids.iter().map(result).collect(), ..Default::default() }
}

pub fn describe_groups(group_ids: &[Str], error: ErrorCode) -> Vec<DescribeGroupsResponseDescribedGroup> {
    let group = |group_id: &Str| DescribeGroupsResponseDescribedGroup {
        group_id: group_id.clone(),
        error_code: error.code(),
        ..Default::default()
    };
    group_ids.iter().map(group).collect()
}

pub fn share_heartbeat(error: ErrorCode, message: Option<Str>) -> ShareGroupHeartbeatResponse {
    ShareGroupHeartbeatResponse { error_code: error.code(), error_message: message, ..Default::default() }
}

pub fn share_describe(
    group_id: &Str,
    error: ErrorCode,
    message: Option<Str>,
) -> ShareGroupDescribeResponseDescribedGroup {
    ShareGroupDescribeResponseDescribedGroup {
        group_id: group_id.clone(),
        error_code: error.code(),
        error_message: message,
        ..Default::default()
    }
}

/// The error that an operation on a group ended with, as whoever asked sees it.
fn with_message(error: ErrorCode) -> Option<Str> {
    Some(Str::from_static(error.message()))
}

/// What becomes of an answer that waited for a write which then failed.
pub(crate) fn after_write(mut response: Response, error: ErrorCode) -> Response {
    let mapped = write_error(error);
    let code = mapped.code();
    match &mut response {
        // Of a version that is not known here: older ones need a name, and newer ones bear an empty one.
        Response::Join(join) => {
            *join = JoinGroupResponse { protocol_name: Some(Str::EMPTY), ..join_body("", mapped) };
        }
        Response::Sync(sync_response) => *sync_response = sync(mapped),
        Response::Leave(leave_response) => *leave_response = leave(mapped),
        Response::OffsetCommit(commit) => {
            let partitions = commit.topics.iter_mut().flat_map(|topic| &mut topic.partitions);
            partitions.for_each(|partition| partition.error_code = code);
        }
        Response::TxnOffsetCommit(commit) => {
            let partitions = commit.topics.iter_mut().flat_map(|topic| &mut topic.partitions);
            partitions.for_each(|partition| partition.error_code = code);
        }
        Response::OffsetDelete(delete) => *delete = offset_delete(mapped),
        Response::StreamsHeartbeat(heartbeat) => {
            *heartbeat = StreamsHeartbeat { response: streams_heartbeat(mapped), missing: Vec::new() };
        }
        Response::ConsumerHeartbeat(heartbeat) => *heartbeat = consumer_heartbeat(mapped),
        Response::DeleteGroups(delete) => delete.results.iter_mut().for_each(|result| result.error_code = code),
        Response::ShareGroupHeartbeat(beat) => *beat = share_heartbeat(mapped, with_message(mapped)),
        Response::ShareGroupDescribe(described) => *described = share_describe(&described.group_id, mapped, None),
        Response::AlterShareOffsets(altered) => {
            *altered = Default::default();
            (altered.response.error_code, altered.response.error_message) = (code, with_message(mapped));
        }
        Response::DeleteShareOffsets(deleted) => {
            *deleted = Default::default();
            (deleted.response.error_code, deleted.response.error_message) = (code, with_message(mapped));
        }
        Response::DeleteShareGroup(deletion) => (deletion.error_code, deletion.delete) = (code, Default::default()),
        Response::OffsetFetch(fetch) => {
            use ErrorCode::{NotCoordinator, NotEnoughReplicas, RequestTimedOut, UnknownTopicOrPartition};
            let lost = matches!(error, UnknownTopicOrPartition | NotEnoughReplicas | RequestTimedOut);
            let error = if lost { NotCoordinator } else { mapped };
            fetch.error_code = error.code();
            for partition in fetch.topics.iter_mut().flat_map(|topic| &mut topic.partitions) {
                *partition = fetched_nothing(partition.partition_index, error);
            }
        }
    }
    response
}
