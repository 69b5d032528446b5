//! The cluster: its configuration, brokers, elections and access rules.

use corelane_acl::{CLUSTER_NAME, Operation, ResourceType};
use corelane_protocol::messages::alter_partition_reassignments_response::{
    AlterPartitionReassignmentsResponseReassignablePartitionResponse,
    AlterPartitionReassignmentsResponseReassignableTopicResponse,
};
use corelane_protocol::messages::alter_replica_log_dirs_response::{
    AlterReplicaLogDirsResponseAlterReplicaLogDirPartitionResult,
    AlterReplicaLogDirsResponseAlterReplicaLogDirTopicResult,
};
use corelane_protocol::messages::describe_configs_request::DescribeConfigsRequestDescribeConfigsResource;
use corelane_protocol::messages::describe_configs_response::DescribeConfigsResponseDescribeConfigsResult;
use corelane_protocol::messages::elect_leaders_response::{
    ElectLeadersResponsePartitionResult, ElectLeadersResponseReplicaElectionResult,
};
use corelane_protocol::messages::list_partition_reassignments_response::{
    ListPartitionReassignmentsResponseOngoingPartitionReassignment,
    ListPartitionReassignmentsResponseOngoingTopicReassignment,
};
use corelane_protocol::messages::{
    AddRaftVoterRequest, AddRaftVoterResponse, AlterClientQuotasRequest, AlterClientQuotasResponse,
    AlterConfigsRequest, AlterConfigsResponse, AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse,
    AlterReplicaLogDirsRequest, AlterReplicaLogDirsResponse, CreateAclsRequest, CreateAclsResponse,
    CreateAclsResponseAclCreationResult, DeleteAclsRequest, DeleteAclsResponse,
    DeleteAclsResponseDeleteAclsFilterResult, DescribeAclsRequest, DescribeAclsResponse, DescribeClientQuotasRequest,
    DescribeClientQuotasResponse, DescribeClusterRequest, DescribeClusterResponse, DescribeConfigsRequest,
    DescribeConfigsResponse, DescribeLogDirsRequest, DescribeLogDirsResponse, DescribeQuorumRequest,
    DescribeQuorumResponse, ElectLeadersRequest, ElectLeadersResponse, IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse, ListConfigResourcesRequest, ListConfigResourcesResponse,
    ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse, RemoveRaftVoterRequest,
    RemoveRaftVoterResponse, UnregisterBrokerRequest, UnregisterBrokerResponse, UpdateFeaturesRequest,
    UpdateFeaturesResponse,
};
use corelane_protocol::{ErrorCode, Str};

use super::{Access, Guarded, Verdict, worded};
use crate::kafka::broker_loggers::BROKER_LOGGER;
use crate::kafka::handlers::all_quotas_refused;
use crate::kafka::operations;

const REFUSED: ErrorCode = ErrorCode::ClusterAuthorizationFailed;

/// What stands for a resource with a configuration, and the error of who may not have to do with it. `None`: there is no such type.
pub fn configured(kind: i8, name: &str) -> Option<(ResourceType, &str, ErrorCode)> {
    use crate::controller::image::ResourceType as Kept;
    match Kept::from_code(kind) {
        Some(Kept::Topic) => Some((ResourceType::Topic, name, ErrorCode::TopicAuthorizationFailed)),
        Some(Kept::Group) => Some((ResourceType::Group, name, ErrorCode::GroupAuthorizationFailed)),
        Some(Kept::Broker | Kept::ClientMetrics) => Some((ResourceType::Cluster, CLUSTER_NAME, REFUSED)),
        None if kind == BROKER_LOGGER => Some((ResourceType::Cluster, CLUSTER_NAME, REFUSED)),
        None => None,
    }
}

impl Guarded for DescribeConfigsRequest {
    fn guard(&mut self, access: &Access<'_>) -> Verdict<DescribeConfigsResponse> {
        let stands_for = |r: &DescribeConfigsRequestDescribeConfigsResource| {
            configured(r.resource_type, &r.resource_name)
                .map(|(of, name, error)| (of, Str::from(name.to_owned()), error))
        };
        // The whole request is refused for a type that there is not.
        if self.resources.iter().any(|resource| stands_for(resource).is_none()) {
            return Verdict::Pass;
        }
        let mut refused = Vec::new();
        self.resources.retain(|resource| {
            let Some((of, name, error)) = stands_for(resource) else { return true };
            let keeps = access.may(Operation::DescribeConfigs, of, &name);
            if !keeps {
                let (error_code, error_message) = worded(error);
                refused.push(DescribeConfigsResponseDescribeConfigsResult {
                    error_code,
                    error_message,
                    resource_type: resource.resource_type,
                    resource_name: resource.resource_name.clone(),
                    ..Default::default()
                });
            }
            keeps
        });
        Verdict::amend(move |_, answer: &mut DescribeConfigsResponse| answer.results.extend(refused))
    }
}

// Their handlers ask, once they know that the resources are some.

impl Guarded for AlterConfigsRequest {
    fn guard(&mut self, _: &Access<'_>) -> Verdict<AlterConfigsResponse> {
        Verdict::Pass
    }
}

impl Guarded for IncrementalAlterConfigsRequest {
    fn guard(&mut self, _: &Access<'_>) -> Verdict<IncrementalAlterConfigsResponse> {
        Verdict::Pass
    }
}

impl Guarded for ListConfigResourcesRequest {
    fn guard(&mut self, access: &Access<'_>) -> Verdict<ListConfigResourcesResponse> {
        Verdict::unless(access.cluster(Operation::DescribeConfigs), || ListConfigResourcesResponse {
            error_code: REFUSED.code(),
            ..Default::default()
        })
    }
}

impl Guarded for AlterReplicaLogDirsRequest {
    fn guard(&mut self, access: &Access<'_>) -> Verdict<AlterReplicaLogDirsResponse> {
        Verdict::unless(access.cluster(Operation::Alter), || {
            let partition = |index: &i32| AlterReplicaLogDirsResponseAlterReplicaLogDirPartitionResult {
                partition_index: *index,
                error_code: REFUSED.code(),
                ..Default::default()
            };
            let topics = self.dirs.iter().flat_map(|dir| &dir.topics);
            let results = topics.map(|topic| AlterReplicaLogDirsResponseAlterReplicaLogDirTopicResult {
                topic_name: topic.name.clone(),
                partitions: topic.partitions.iter().map(partition).collect(),
                ..Default::default()
            });
            AlterReplicaLogDirsResponse { results: results.collect(), ..Default::default() }
        })
    }
}

impl Guarded for DescribeLogDirsRequest {
    fn guard(&mut self, access: &Access<'_>) -> Verdict<DescribeLogDirsResponse> {
        // Before its third version an empty answer says it.
        Verdict::unless(access.cluster(Operation::Describe), || DescribeLogDirsResponse {
            error_code: if access.version() >= 3 { REFUSED.code() } else { 0 },
            ..Default::default()
        })
    }
}

impl Guarded for ElectLeadersRequest {
    fn guard(&mut self, access: &Access<'_>) -> Verdict<ElectLeadersResponse> {
        Verdict::unless(access.cluster(Operation::Alter), || {
            let (error_code, error_message) = worded(REFUSED);
            let partition = |index: &i32| ElectLeadersResponsePartitionResult {
                partition_id: *index,
                error_code,
                error_message: error_message.clone(),
                ..Default::default()
            };
            let topics = self.topic_partitions.iter().flatten();
            let results = topics.map(|topic| ElectLeadersResponseReplicaElectionResult {
                topic: topic.topic.clone(),
                partition_result: topic.partitions.iter().map(partition).collect(),
                ..Default::default()
            });
            ElectLeadersResponse {
                error_code: if access.version() == 0 { 0 } else { error_code },
                replica_election_results: results.collect(),
                ..Default::default()
            }
        })
    }
}

impl Guarded for AlterPartitionReassignmentsRequest {
    fn guard(&mut self, access: &Access<'_>) -> Verdict<AlterPartitionReassignmentsResponse> {
        Verdict::unless(access.cluster(Operation::Alter), || {
            let (error_code, error_message) = worded(REFUSED);
            let topics = self.topics.iter().map(|topic| AlterPartitionReassignmentsResponseReassignableTopicResponse {
                name: topic.name.clone(),
                partitions: topic
                    .partitions
                    .iter()
                    .map(|partition| AlterPartitionReassignmentsResponseReassignablePartitionResponse {
                        partition_index: partition.partition_index,
                        error_code,
                        error_message: error_message.clone(),
                        ..Default::default()
                    })
                    .collect(),
                ..Default::default()
            });
            let responses = topics.collect();
            AlterPartitionReassignmentsResponse { error_code, error_message, responses, ..Default::default() }
        })
    }
}

impl Guarded for ListPartitionReassignmentsRequest {
    fn guard(&mut self, access: &Access<'_>) -> Verdict<ListPartitionReassignmentsResponse> {
        Verdict::unless(access.cluster(Operation::Describe), || {
            let (error_code, error_message) = worded(REFUSED);
            let partition = |index: &i32| ListPartitionReassignmentsResponseOngoingPartitionReassignment {
                partition_index: *index,
                ..Default::default()
            };
            let topics = self.topics.iter().flatten();
            let topics = topics.map(|topic| ListPartitionReassignmentsResponseOngoingTopicReassignment {
                name: topic.name.clone(),
                partitions: topic.partition_indexes.iter().map(partition).collect(),
                ..Default::default()
            });
            let topics = topics.collect();
            ListPartitionReassignmentsResponse { error_code, error_message, topics, ..Default::default() }
        })
    }
}

/// Requests that need ALTER on the cluster, and whose answer is one error.
macro_rules! alters_cluster {
    ($($request:ident => $response:ident),*) => {
        $(impl Guarded for $request {
            fn guard(&mut self, access: &Access<'_>) -> Verdict<$response> {
                Verdict::unless(access.cluster(Operation::Alter), || {
                    let (error_code, error_message) = worded(REFUSED);
                    $response { error_code, error_message, ..Default::default() }
                })
            }
        })*
    };
}

alters_cluster! {
    UpdateFeaturesRequest => UpdateFeaturesResponse,
    UnregisterBrokerRequest => UnregisterBrokerResponse,
    AddRaftVoterRequest => AddRaftVoterResponse,
    RemoveRaftVoterRequest => RemoveRaftVoterResponse
}

impl Guarded for AlterClientQuotasRequest {
    fn guard(&mut self, access: &Access<'_>) -> Verdict<AlterClientQuotasResponse> {
        Verdict::unless(access.cluster(Operation::AlterConfigs), || {
            let entries = all_quotas_refused(self, REFUSED.code(), Some(REFUSED.message()));
            AlterClientQuotasResponse { entries, ..Default::default() }
        })
    }
}

impl Guarded for DescribeClientQuotasRequest {
    fn guard(&mut self, access: &Access<'_>) -> Verdict<DescribeClientQuotasResponse> {
        Verdict::unless(access.cluster(Operation::DescribeConfigs), || {
            let (error_code, error_message) = worded(REFUSED);
            DescribeClientQuotasResponse { error_code, error_message, entries: None, ..Default::default() }
        })
    }
}

impl Guarded for DescribeQuorumRequest {
    fn guard(&mut self, access: &Access<'_>) -> Verdict<DescribeQuorumResponse> {
        Verdict::unless(access.cluster(Operation::Describe), || {
            let (error_code, message) = worded(REFUSED);
            let error_message = message.filter(|_| access.version() >= 2);
            DescribeQuorumResponse { error_code, error_message, ..Default::default() }
        })
    }
}

impl Guarded for DescribeClusterRequest {
    /// Brokers are shown to everybody.
    fn guard(&mut self, _: &Access<'_>) -> Verdict<DescribeClusterResponse> {
        Verdict::amend(|access, answer: &mut DescribeClusterResponse| {
            cluster_operations(access, &mut answer.cluster_authorized_operations)
        })
    }
}

/// The operations on the cluster, where the answer has any: none where it may not be described.
pub fn cluster_operations(access: &Access<'_>, to: &mut i32) {
    if *to == operations::UNKNOWN {
        return;
    }
    *to = match access.cluster(Operation::Describe) {
        true => access.operations(ResourceType::Cluster, CLUSTER_NAME),
        false => 0,
    };
}

impl Guarded for DescribeAclsRequest {
    fn guard(&mut self, access: &Access<'_>) -> Verdict<DescribeAclsResponse> {
        Verdict::unless(access.cluster(Operation::Describe), || {
            let (error_code, error_message) = worded(REFUSED);
            DescribeAclsResponse { error_code, error_message, ..Default::default() }
        })
    }

    fn is_sound(&self) -> bool {
        is_some_rule([self.resource_type_filter, self.pattern_type_filter, self.operation, self.permission_type])
    }
}

impl Guarded for CreateAclsRequest {
    fn guard(&mut self, access: &Access<'_>) -> Verdict<CreateAclsResponse> {
        Verdict::unless(access.cluster(Operation::Alter), || {
            let (error_code, error_message) = worded(REFUSED);
            let refused = CreateAclsResponseAclCreationResult { error_code, error_message, ..Default::default() };
            CreateAclsResponse { results: vec![refused; self.creations.len()], ..Default::default() }
        })
    }

    fn is_sound(&self) -> bool {
        let codes =
            self.creations.iter().map(|c| [c.resource_type, c.resource_pattern_type, c.operation, c.permission_type]);
        codes.into_iter().all(is_some_rule)
    }
}

impl Guarded for DeleteAclsRequest {
    fn guard(&mut self, access: &Access<'_>) -> Verdict<DeleteAclsResponse> {
        Verdict::unless(access.cluster(Operation::Alter), || {
            let (error_code, error_message) = worded(REFUSED);
            let refused = DeleteAclsResponseDeleteAclsFilterResult { error_code, error_message, ..Default::default() };
            DeleteAclsResponse { filter_results: vec![refused; self.filters.len()], ..Default::default() }
        })
    }

    fn is_sound(&self) -> bool {
        let codes = self
            .filters
            .iter()
            .map(|f| [f.resource_type_filter, f.pattern_type_filter, f.operation, f.permission_type]);
        codes.into_iter().all(is_some_rule)
    }
}

/// None of the codes is that of what is unknown.
fn is_some_rule(codes: [i8; 4]) -> bool {
    !codes.contains(&0)
}
