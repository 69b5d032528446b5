//! Share groups (KIP-932), and the states of theirs that brokers keep for each other.

use corelane_acl::{Operation, ResourceType};
use corelane_coordinator::group::reject;
use corelane_protocol::messages::{
    AlterShareGroupOffsetsRequest, AlterShareGroupOffsetsResponse, AlterShareGroupOffsetsResponsePartition,
    AlterShareGroupOffsetsResponseTopic, DeleteShareGroupOffsetsRequest, DeleteShareGroupOffsetsResponse,
    DeleteShareGroupOffsetsResponseTopic, DeleteShareGroupStateRequest, DeleteShareGroupStateResponse,
    DeleteShareGroupStateResponseDeleteStateResult, DeleteShareGroupStateResponsePartitionResult,
    DescribeShareGroupOffsetsRequest, DescribeShareGroupOffsetsResponse, DescribeShareGroupOffsetsResponseGroup,
    DescribeShareGroupOffsetsResponsePartition, DescribeShareGroupOffsetsResponseTopic,
    InitializeShareGroupStateRequest, InitializeShareGroupStateResponse,
    InitializeShareGroupStateResponseInitializeStateResult, InitializeShareGroupStateResponsePartitionResult,
    ReadShareGroupStateRequest, ReadShareGroupStateResponse, ReadShareGroupStateResponsePartitionResult,
    ReadShareGroupStateResponseReadStateResult, ReadShareGroupStateSummaryRequest, ReadShareGroupStateSummaryResponse,
    ReadShareGroupStateSummaryResponsePartitionResult, ReadShareGroupStateSummaryResponseReadStateSummaryResult,
    ShareAcknowledgeRequest, ShareAcknowledgeResponse, ShareFetchRequest, ShareFetchResponse,
    ShareGroupDescribeRequest, ShareGroupDescribeResponse, ShareGroupHeartbeatRequest, ShareGroupHeartbeatResponse,
    WriteShareGroupStateRequest, WriteShareGroupStateResponse, WriteShareGroupStateResponsePartitionResult,
    WriteShareGroupStateResponseWriteStateResult,
};
use corelane_protocol::{ErrorCode, Request, Str};

use super::groups::{HIDDEN_TOPICS, put_operations, subscription, take_hidden};
use super::{Access, Guarded, Verdict, worded};
use crate::kafka::handlers::is_share_member;

const GROUP_REFUSED: ErrorCode = ErrorCode::GroupAuthorizationFailed;
const TOPIC_REFUSED: ErrorCode = ErrorCode::TopicAuthorizationFailed;

impl Guarded for ShareGroupHeartbeatRequest {
    fn guard(&mut self, access: &Access<'_>) -> Verdict<ShareGroupHeartbeatResponse> {
        let topics = self.subscribed_topic_names.as_ref().filter(|_| is_share_member(&self.member_id));
        subscription(access, &self.group_id, topics, |error| reject::share_heartbeat(error, None))
    }
}

impl Guarded for ShareGroupDescribeRequest {
    fn guard(&mut self, access: &Access<'_>) -> Verdict<ShareGroupDescribeResponse> {
        let hidden = take_hidden(access, &mut self.group_ids);
        Verdict::amend(move |access, answer: &mut ShareGroupDescribeResponse| {
            for group in &mut answer.groups {
                put_operations(access, &group.group_id, &mut group.authorized_operations);
                let topics = group.members.iter().flat_map(|m| &m.assignment.topic_partitions).map(|t| &t.topic_name);
                if !access.refused(Operation::Describe, topics).is_empty() {
                    let message = Some(Str::from_static(HIDDEN_TOPICS));
                    *group = reject::share_describe(&group.group_id, TOPIC_REFUSED, message);
                }
            }
            let refused = hidden.iter().map(|id| reject::share_describe(id, GROUP_REFUSED, None));
            answer.groups.splice(..0, refused);
        })
    }
}

// Their handlers ask for the topics.

impl Guarded for ShareFetchRequest {
    fn guard(&mut self, access: &Access<'_>) -> Verdict<ShareFetchResponse> {
        // Without a group it is refused for that.
        let allowed = self.group_id.as_ref().is_none_or(|group| access.group(Operation::Read, group));
        Verdict::unless(allowed, || {
            let (error_code, error_message) = worded(GROUP_REFUSED);
            ShareFetchResponse { error_code, error_message, ..Default::default() }
        })
    }
}

impl Guarded for ShareAcknowledgeRequest {
    fn guard(&mut self, access: &Access<'_>) -> Verdict<ShareAcknowledgeResponse> {
        let allowed = self.group_id.as_ref().is_none_or(|group| access.group(Operation::Read, group));
        Verdict::unless(allowed, || {
            let (error_code, error_message) = worded(GROUP_REFUSED);
            ShareAcknowledgeResponse { error_code, error_message, ..Default::default() }
        })
    }
}

impl Guarded for DescribeShareGroupOffsetsRequest {
    fn guard(&mut self, access: &Access<'_>) -> Verdict<DescribeShareGroupOffsetsResponse> {
        let asked: Vec<Str> = self.groups.iter().map(|group| group.group_id.clone()).collect();
        let refused: Vec<usize> = asked
            .iter()
            .enumerate()
            .filter(|(_, group)| !access.group(Operation::Describe, group))
            .map(|(place, _)| place)
            .collect();
        let mut place = 0;
        self.groups.retain(|_| {
            place += 1;
            !refused.contains(&(place - 1))
        });
        let mut hidden = Vec::new();
        for group in &mut self.groups {
            // An answer without topics would be one to a question without topics.
            let topics = group.topics.iter_mut().flat_map(|topics| {
                topics.extract_if(.., |topic| !access.topic(Operation::Describe, &topic.topic_name))
            });
            hidden.push(topics.collect::<Vec<_>>());
        }
        Verdict::amend(move |access, answer: &mut DescribeShareGroupOffsetsResponse| {
            for (group, hidden) in answer.groups.iter_mut().zip(hidden) {
                group
                    .topics
                    .retain(|topic| access.may_see(Operation::Describe, ResourceType::Topic, &topic.topic_name));
                if group.error_code != 0 {
                    continue;
                }
                group.topics.extend(hidden.into_iter().map(|topic| DescribeShareGroupOffsetsResponseTopic {
                    partitions: topic.partitions.iter().map(|index| offset_refused(*index)).collect(),
                    topic_name: topic.topic_name,
                    ..Default::default()
                }));
            }
            for place in refused {
                let group = DescribeShareGroupOffsetsResponseGroup {
                    group_id: asked.get(place).cloned().unwrap_or_default(),
                    error_code: GROUP_REFUSED.code(),
                    ..Default::default()
                };
                answer.groups.insert(place.min(answer.groups.len()), group);
            }
        })
    }
}

fn offset_refused(partition_index: i32) -> DescribeShareGroupOffsetsResponsePartition {
    let (error_code, error_message) = worded(TOPIC_REFUSED);
    DescribeShareGroupOffsetsResponsePartition {
        partition_index,
        start_offset: -1,
        lag: -1,
        error_code,
        error_message,
        ..Default::default()
    }
}

impl Guarded for AlterShareGroupOffsetsRequest {
    fn guard(&mut self, access: &Access<'_>) -> Verdict<AlterShareGroupOffsetsResponse> {
        if !access.group(Operation::Read, &self.group_id) {
            let (error_code, error_message) = worded(GROUP_REFUSED);
            return Verdict::Refuse(AlterShareGroupOffsetsResponse { error_code, error_message, ..Default::default() });
        }
        let refused = self.topics.extract_if(.., |topic| !access.topic(Operation::Read, &topic.topic_name));
        let refused: Vec<_> = refused.collect();
        Verdict::amend(move |access, answer: &mut AlterShareGroupOffsetsResponse| {
            if answer.error_code != 0 {
                return;
            }
            let (error_code, error_message) = worded(TOPIC_REFUSED);
            let refused = refused.into_iter().filter(|topic| !topic.partitions.is_empty());
            let topics = refused.map(|topic| AlterShareGroupOffsetsResponseTopic {
                topic_id: access.image().topic_named(&topic.topic_name).map(|t| t.uuid()).unwrap_or_default(),
                topic_name: topic.topic_name,
                partitions: topic
                    .partitions
                    .into_iter()
                    .map(|partition| AlterShareGroupOffsetsResponsePartition {
                        partition_index: partition.partition_index,
                        error_code,
                        error_message: error_message.clone(),
                        ..Default::default()
                    })
                    .collect(),
                ..Default::default()
            });
            answer.responses.splice(..0, topics);
        })
    }
}

impl Guarded for DeleteShareGroupOffsetsRequest {
    fn guard(&mut self, access: &Access<'_>) -> Verdict<DeleteShareGroupOffsetsResponse> {
        if !access.group(Operation::Delete, &self.group_id) {
            let (error_code, error_message) = worded(GROUP_REFUSED);
            return Verdict::Refuse(DeleteShareGroupOffsetsResponse {
                error_code,
                error_message,
                ..Default::default()
            });
        }
        let refused = self.topics.extract_if(.., |topic| !access.topic(Operation::Read, &topic.topic_name));
        let refused: Vec<_> = refused.collect();
        Verdict::amend(move |_, answer: &mut DeleteShareGroupOffsetsResponse| {
            if answer.error_code != 0 {
                return;
            }
            let (error_code, error_message) = worded(TOPIC_REFUSED);
            let topics = refused.into_iter().map(|topic| DeleteShareGroupOffsetsResponseTopic {
                topic_name: topic.topic_name,
                error_code,
                error_message: error_message.clone(),
                ..Default::default()
            });
            answer.responses.splice(..0, topics);
        })
    }
}

/// Requests of brokers to the keeper of share groups' states.
macro_rules! states {
    ($($request:ident: $answer:ident, $topic:ident, $partition:ident;)*) => {
        $(impl Guarded for $request {
            fn guard(&mut self, access: &Access<'_>) -> Verdict<<Self as Request>::Response> {
                Verdict::unless(access.cluster(Operation::ClusterAction), || {
                    let (error_code, error_message) = worded(ErrorCode::ClusterAuthorizationFailed);
                    let results = self.topics.iter().map(|topic| $topic {
                        topic_id: topic.topic_id,
                        partitions: topic
                            .partitions
                            .iter()
                            .map(|partition| $partition {
                                partition: partition.partition,
                                error_code,
                                error_message: error_message.clone(),
                                ..Default::default()
                            })
                            .collect(),
                        ..Default::default()
                    });
                    $answer { results: results.collect(), ..Default::default() }
                })
            }
        })*
    };
}

states! {
    InitializeShareGroupStateRequest: InitializeShareGroupStateResponse,
        InitializeShareGroupStateResponseInitializeStateResult, InitializeShareGroupStateResponsePartitionResult;
    ReadShareGroupStateRequest: ReadShareGroupStateResponse,
        ReadShareGroupStateResponseReadStateResult, ReadShareGroupStateResponsePartitionResult;
    WriteShareGroupStateRequest: WriteShareGroupStateResponse,
        WriteShareGroupStateResponseWriteStateResult, WriteShareGroupStateResponsePartitionResult;
    DeleteShareGroupStateRequest: DeleteShareGroupStateResponse,
        DeleteShareGroupStateResponseDeleteStateResult, DeleteShareGroupStateResponsePartitionResult;
    ReadShareGroupStateSummaryRequest: ReadShareGroupStateSummaryResponse,
        ReadShareGroupStateSummaryResponseReadStateSummaryResult, ReadShareGroupStateSummaryResponsePartitionResult;
}
