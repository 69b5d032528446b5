//! Topics, by what is done with them. Creation and deletion are here, the rest of administration is next door.

use corelane_acl::{CLUSTER_NAME, Operation, ResourceType};
use corelane_protocol::messages::create_partitions_response::CreatePartitionsResponseCreatePartitionsTopicResult;
use corelane_protocol::messages::create_topics_response::CreateTopicsResponseCreatableTopicResult;
use corelane_protocol::messages::delete_records_response::{
    DeleteRecordsResponseDeleteRecordsPartitionResult, DeleteRecordsResponseDeleteRecordsTopicResult,
};
use corelane_protocol::messages::delete_topics_response::DeleteTopicsResponseDeletableTopicResult;
use corelane_protocol::messages::describe_producers_response::{
    DescribeProducersResponsePartitionResponse, DescribeProducersResponseTopicResponse,
};
use corelane_protocol::messages::list_offsets_response::{
    ListOffsetsResponseListOffsetsPartitionResponse, ListOffsetsResponseListOffsetsTopicResponse,
};
use corelane_protocol::messages::offset_for_leader_epoch_response::{
    OffsetForLeaderEpochResponseEpochEndOffset, OffsetForLeaderEpochResponseOffsetForLeaderTopicResult,
};
use corelane_protocol::messages::{
    CreatePartitionsRequest, CreatePartitionsResponse, CreateTopicsRequest, CreateTopicsResponse, DeleteRecordsRequest,
    DeleteRecordsResponse, DeleteTopicsRequest, DeleteTopicsResponse, DescribeProducersRequest,
    DescribeProducersResponse, ListOffsetsRequest, ListOffsetsResponse, OffsetForLeaderEpochRequest,
    OffsetForLeaderEpochResponse,
};
use corelane_protocol::{ErrorCode, Str, Uuid};
use corelane_storage::model::TopicId;

use super::{Access, Guarded, Verdict, worded};
use crate::controller::names::check_name;
use crate::kafka::handlers::create_topics::is_for_controller;
use crate::kafka::handlers::{create_partitions, create_topics, deletion_is_late};
use crate::kafka::topics::named_twice;

const REFUSED: ErrorCode = ErrorCode::TopicAuthorizationFailed;

impl Guarded for ListOffsetsRequest {
    fn guard(&mut self, access: &Access<'_>) -> Verdict<ListOffsetsResponse> {
        let refused = self.topics.extract_if(.., |topic| !access.topic(Operation::Describe, &topic.name));
        let refused: Vec<_> = refused.collect();
        Verdict::amend(move |_, answer: &mut ListOffsetsResponse| {
            answer.topics.extend(refused.into_iter().map(|topic| {
                ListOffsetsResponseListOffsetsTopicResponse {
                    name: topic.name,
                    partitions: topic
                        .partitions
                        .into_iter()
                        .map(|partition| ListOffsetsResponseListOffsetsPartitionResponse {
                            partition_index: partition.partition_index,
                            error_code: REFUSED.code(),
                            ..Default::default()
                        })
                        .collect(),
                    ..Default::default()
                }
            }));
        })
    }
}

impl Guarded for OffsetForLeaderEpochRequest {
    fn guard(&mut self, access: &Access<'_>) -> Verdict<OffsetForLeaderEpochResponse> {
        if access.may_see(Operation::ClusterAction, ResourceType::Cluster, CLUSTER_NAME) {
            return Verdict::Pass;
        }
        let refused = self.topics.extract_if(.., |topic| !access.topic(Operation::Describe, &topic.topic));
        let refused: Vec<_> = refused.collect();
        Verdict::amend(move |_, answer: &mut OffsetForLeaderEpochResponse| {
            answer.topics.extend(refused.into_iter().map(|topic| {
                OffsetForLeaderEpochResponseOffsetForLeaderTopicResult {
                    topic: topic.topic,
                    partitions: topic
                        .partitions
                        .into_iter()
                        .map(|partition| OffsetForLeaderEpochResponseEpochEndOffset {
                            partition: partition.partition,
                            error_code: REFUSED.code(),
                            ..Default::default()
                        })
                        .collect(),
                    ..Default::default()
                }
            }));
        })
    }
}

impl Guarded for DeleteRecordsRequest {
    fn guard(&mut self, access: &Access<'_>) -> Verdict<DeleteRecordsResponse> {
        let refused = self.topics.extract_if(.., |topic| !access.topic(Operation::Delete, &topic.name));
        let refused: Vec<_> = refused.filter(|topic| !topic.partitions.is_empty()).collect();
        Verdict::amend(move |_, answer: &mut DeleteRecordsResponse| {
            answer.topics.extend(refused.into_iter().map(|topic| {
                DeleteRecordsResponseDeleteRecordsTopicResult {
                    name: topic.name,
                    partitions: topic
                        .partitions
                        .into_iter()
                        .map(|partition| DeleteRecordsResponseDeleteRecordsPartitionResult {
                            partition_index: partition.partition_index,
                            low_watermark: -1,
                            error_code: REFUSED.code(),
                            ..Default::default()
                        })
                        .collect(),
                    ..Default::default()
                }
            }));
        })
    }
}

impl Guarded for DescribeProducersRequest {
    fn guard(&mut self, access: &Access<'_>) -> Verdict<DescribeProducersResponse> {
        // What is no name of a topic is told so.
        let hidden = |name: &str| check_name(name).is_ok() && !access.topic(Operation::Read, name);
        let mut refused = Vec::new();
        let mut place = 0;
        self.topics.retain_mut(|topic| {
            let hide = hidden(&topic.name);
            if hide {
                refused.push((place, std::mem::take(topic)));
            }
            place += 1;
            !hide
        });
        Verdict::amend(move |_, answer: &mut DescribeProducersResponse| {
            for (place, topic) in refused {
                let partition = |index: &i32| {
                    let (error_code, error_message) = worded(REFUSED);
                    DescribeProducersResponsePartitionResponse {
                        partition_index: *index,
                        error_code,
                        error_message,
                        ..Default::default()
                    }
                };
                let refused = DescribeProducersResponseTopicResponse {
                    partitions: topic.partition_indexes.iter().map(partition).collect(),
                    name: topic.name,
                    ..Default::default()
                };
                answer.topics.insert(place.min(answer.topics.len()), refused);
            }
        })
    }
}

impl Guarded for CreateTopicsRequest {
    fn guard(&mut self, access: &Access<'_>) -> Verdict<CreateTopicsResponse> {
        let all = access.may_see(Operation::Create, ResourceType::Cluster, CLUSTER_NAME);
        // What is named twice, or is no topic of a client's, is refused for that.
        let names: Vec<Str> = self.topics.iter().map(|topic| topic.name.clone()).collect();
        let twice = named_twice(&names);
        let refused = self.topics.extract_if(.., |topic| {
            !all && is_for_controller(&topic.name, &twice) && !access.topic(Operation::Create, &topic.name)
        });
        let refused: Vec<Str> = refused.map(|topic| topic.name).collect();
        // What the controller is asked for makes the rest late, too.
        if self.timeout_ms <= 0 && self.topics.iter().any(|topic| is_for_controller(&topic.name, &twice)) {
            return Verdict::Refuse(create_topics::late(names));
        }
        Verdict::amend(move |access, answer: &mut CreateTopicsResponse| {
            for topic in answer.topics.iter_mut().filter(|topic| topic.error_code == 0) {
                if !access.may_see(Operation::DescribeConfigs, ResourceType::Topic, &topic.name) {
                    topic.topic_config_error_code = REFUSED.code();
                    (topic.num_partitions, topic.replication_factor) = (-1, -1);
                    topic.configs = Some(Vec::new());
                }
            }
            answer.topics.extend(refused.into_iter().map(|name| CreateTopicsResponseCreatableTopicResult {
                name,
                error_code: REFUSED.code(),
                error_message: Some(Str::from_static("Authorization failed.")),
                ..Default::default()
            }));
        })
    }
}

impl Guarded for CreatePartitionsRequest {
    fn guard(&mut self, access: &Access<'_>) -> Verdict<CreatePartitionsResponse> {
        let names: Vec<Str> = self.topics.iter().map(|topic| topic.name.clone()).collect();
        let twice = named_twice(&names);
        let refused = self
            .topics
            .extract_if(.., |topic| !twice.contains(&topic.name) && !access.topic(Operation::Alter, &topic.name));
        let refused: Vec<Str> = refused.map(|topic| topic.name).collect();
        if self.timeout_ms <= 0 && self.topics.iter().any(|topic| !twice.contains(&topic.name)) {
            return Verdict::Refuse(create_partitions::late(names));
        }
        Verdict::amend(move |_, answer: &mut CreatePartitionsResponse| {
            answer.results.extend(refused.into_iter().map(|name| {
                CreatePartitionsResponseCreatePartitionsTopicResult {
                    name,
                    error_code: REFUSED.code(),
                    ..Default::default()
                }
            }));
        })
    }
}

impl Guarded for DeleteTopicsRequest {
    /// Who may not describe a topic is not told whether it is there; who may describe it but not delete it is told its name.
    fn guard(&mut self, access: &Access<'_>) -> Verdict<DeleteTopicsResponse> {
        let enabled = access.context.shard.config.broker().delete_topics;
        // What has no time left is refused as it came, and nobody learns anything by it.
        if !enabled || deletion_is_late(self) || access.may_see(Operation::Delete, ResourceType::Cluster, CLUSTER_NAME)
        {
            return Verdict::Pass;
        }
        let mut refused: Vec<(Option<Str>, Uuid)> = Vec::new();
        let named = self.topics.iter().filter(|t| t.topic_id.is_zero()).filter_map(|t| t.name.as_ref());
        let twice = named_twice(self.topic_names.iter().chain(named));
        let mut deletable = |name: &Str| {
            if twice.contains(name) {
                return true;
            }
            let describable = access.topic(Operation::Describe, name);
            // What is not there is told to whoever may describe it.
            let known = access.image().topic_named(name).is_some();
            let keeps = describable && (!known || access.topic(Operation::Delete, name));
            if !keeps {
                refused.push((Some(name.clone()), Uuid::ZERO));
            }
            keeps
        };
        self.topic_names.retain(&mut deletable);
        self.topics.retain(|topic| match &topic.name {
            Some(name) if topic.topic_id.is_zero() => deletable(name),
            _ => true,
        });
        let ids: Vec<Uuid> = self.topics.iter().filter(|t| t.name.is_none()).map(|t| t.topic_id).collect();
        let twice = named_twice(&ids);
        self.topics.retain(|topic| {
            let id = topic.topic_id;
            let once = !twice.contains(&id);
            let found = access.image().topic(TopicId(id.0)).filter(|_| topic.name.is_none() && once);
            let Some(found) = found else { return true };
            let keeps = access.topic(Operation::Delete, &found.name);
            if !keeps {
                let shown = access.may_see(Operation::Describe, ResourceType::Topic, &found.name);
                refused.push((shown.then(|| found.wire_name()), id));
            }
            keeps
        });
        Verdict::amend(move |_, answer: &mut DeleteTopicsResponse| {
            let (error_code, error_message) = worded(REFUSED);
            answer.responses.extend(refused.into_iter().map(|(name, topic_id)| {
                DeleteTopicsResponseDeletableTopicResult {
                    name,
                    topic_id,
                    error_code,
                    error_message: error_message.clone(),
                    ..Default::default()
                }
            }));
        })
    }
}
