//! Requests that change the cluster, for the audit: what they name, and how they ended.

use std::any::Any;
use std::collections::BTreeSet;

use corelane_protocol::messages::{
    AddRaftVoterRequest, AddRaftVoterResponse, AlterClientQuotasRequest, AlterClientQuotasRequestEntityData,
    AlterClientQuotasResponse, AlterConfigsRequest, AlterConfigsResponse, AlterPartitionReassignmentsRequest,
    AlterPartitionReassignmentsResponse, AlterReplicaLogDirsRequest, AlterReplicaLogDirsResponse,
    AlterShareGroupOffsetsRequest, AlterShareGroupOffsetsResponse, AlterUserScramCredentialsRequest,
    AlterUserScramCredentialsResponse, CreateAclsRequest, CreateAclsResponse, CreateDelegationTokenRequest,
    CreateDelegationTokenResponse, CreatePartitionsRequest, CreatePartitionsResponse, CreateTopicsRequest,
    CreateTopicsResponse, DeleteAclsRequest, DeleteAclsResponse, DeleteGroupsRequest, DeleteGroupsResponse,
    DeleteRecordsRequest, DeleteRecordsResponse, DeleteShareGroupOffsetsRequest, DeleteShareGroupOffsetsResponse,
    DeleteTopicsRequest, DeleteTopicsResponse, ElectLeadersRequest, ElectLeadersResponse, ExpireDelegationTokenRequest,
    ExpireDelegationTokenResponse, IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse,
    OffsetDeleteRequest, OffsetDeleteResponse, RemoveRaftVoterRequest, RemoveRaftVoterResponse,
    RenewDelegationTokenRequest, RenewDelegationTokenResponse, UnregisterBrokerRequest, UnregisterBrokerResponse,
    UpdateFeaturesRequest, UpdateFeaturesResponse, WriteTxnMarkersRequest, WriteTxnMarkersResponse,
};
use corelane_protocol::{ApiKey, ErrorCode};

use crate::kafka::request::RequestContext;
use crate::security::audit::DONE;

/// Names in one line. What comes after them is counted.
const NAMED: usize = 20;

/// The administrative requests; `None`: this is none of them.
macro_rules! administrative {
    ($($api:ident: $request:ident => $names:expr, $answer:ident => $errors:expr;)*) => {
        fn names(api: ApiKey, request: &dyn Any) -> Option<Vec<String>> {
            match api {
                $(ApiKey::$api => {
                    let names: fn(&$request) -> Vec<String> = $names;
                    request.downcast_ref::<$request>().map(names)
                })*
                _ => None,
            }
        }

        fn errors(api: ApiKey, answer: &dyn Any) -> Vec<i16> {
            match api {
                $(ApiKey::$api => {
                    let errors: fn(&$answer) -> Vec<i16> = $errors;
                    answer.downcast_ref::<$answer>().map(errors).unwrap_or_default()
                })*
                _ => Vec::new(),
            }
        }
    };
}

fn all<T, N: ToString>(list: &[T], name: impl Fn(&T) -> N) -> Vec<String> {
    list.iter().map(|item| name(item).to_string()).collect()
}

fn codes<T>(list: &[T], code: impl Fn(&T) -> i16) -> Vec<i16> {
    list.iter().map(code).collect()
}

administrative! {
    CreateTopics: CreateTopicsRequest => |r| all(&r.topics, |t| t.name.clone()),
        CreateTopicsResponse => |a| codes(&a.topics, |t| t.error_code);
    DeleteTopics: DeleteTopicsRequest => |r| {
        let named = r.topics.iter().map(|t| t.name.as_ref().map_or(t.topic_id.to_string(), |name| name.to_string()));
        r.topic_names.iter().map(|name| name.to_string()).chain(named).collect()
    }, DeleteTopicsResponse => |a| codes(&a.responses, |t| t.error_code);
    DeleteRecords: DeleteRecordsRequest => |r| all(&r.topics, |t| t.name.clone()),
        DeleteRecordsResponse => |a| a.topics.iter().flat_map(|t| &t.partitions).map(|p| p.error_code).collect();
    CreatePartitions: CreatePartitionsRequest => |r| all(&r.topics, |t| format!("{} to {}", t.name, t.count)),
        CreatePartitionsResponse => |a| codes(&a.results, |t| t.error_code);
    AlterConfigs: AlterConfigsRequest => |r| {
        // Names of properties only: values may be secrets.
        all(&r.resources, |r| format!("{} {}: {}", r.resource_type, r.resource_name, all(&r.configs, |c| c.name.clone()).join(" ")))
    }, AlterConfigsResponse => |a| codes(&a.responses, |r| r.error_code);
    IncrementalAlterConfigs: IncrementalAlterConfigsRequest => |r| {
        all(&r.resources, |r| format!("{} {}: {}", r.resource_type, r.resource_name, all(&r.configs, |c| c.name.clone()).join(" ")))
    }, IncrementalAlterConfigsResponse => |a| codes(&a.responses, |r| r.error_code);
    AlterClientQuotas: AlterClientQuotasRequest => |r| all(&r.entries, |entry| {
        let part = |part: &AlterClientQuotasRequestEntityData| match &part.entity_name {
            Some(name) => format!("{} {name:?}", part.entity_type),
            None => format!("default {}", part.entity_type),
        };
        let quotas = all(&entry.ops, |op| if op.remove { format!("no {}", op.key) } else { format!("{}={}", op.key, op.value) });
        format!("{}: {}", all(&entry.entity, part).join(", "), quotas.join(" "))
    }), AlterClientQuotasResponse => |a| codes(&a.entries, |e| e.error_code);
    CreateAcls: CreateAclsRequest => |r| all(&r.creations, |c| {
        let what = (c.principal.as_str(), c.host.as_str(), c.permission_type, c.operation);
        format!("{what:?} {} {} {}", c.resource_type, c.resource_pattern_type, c.resource_name)
    }), CreateAclsResponse => |a| codes(&a.results, |r| r.error_code);
    DeleteAcls: DeleteAclsRequest => |r| all(&r.filters, |f| {
        let what = (f.principal_filter.as_deref(), f.host_filter.as_deref(), f.permission_type, f.operation);
        let name = f.resource_name_filter.as_deref();
        format!("{what:?} {} {} {name:?}", f.resource_type_filter, f.pattern_type_filter)
    }), DeleteAclsResponse => |a| codes(&a.filter_results, |r| r.error_code);
    AlterUserScramCredentials: AlterUserScramCredentialsRequest => |r| {
        let gone = all(&r.deletions, |d| format!("{} without {}", d.name, d.mechanism));
        // Not what is salted: it is as good as the password.
        let set = all(&r.upsertions, |u| format!("{} with {}", u.name, u.mechanism));
        gone.into_iter().chain(set).collect()
    }, AlterUserScramCredentialsResponse => |a| codes(&a.results, |r| r.error_code);
    CreateDelegationToken: CreateDelegationTokenRequest => |r| {
        let owner = r.owner_principal_name.as_ref().filter(|name| !name.is_empty()).map(|name| format!("of {name}"));
        owner.into_iter().chain(all(&r.renewers, |p| format!("renewed by {}:{}", p.principal_type, p.principal_name))).collect()
    }, CreateDelegationTokenResponse => |a| vec![a.error_code];
    // Which one only its HMAC says, and that is a secret.
    RenewDelegationToken: RenewDelegationTokenRequest => |r| vec![format!("for {} ms", r.renew_period_ms)],
        RenewDelegationTokenResponse => |a| vec![a.error_code];
    ExpireDelegationToken: ExpireDelegationTokenRequest => |r| vec![format!("in {} ms", r.expiry_time_period_ms)],
        ExpireDelegationTokenResponse => |a| vec![a.error_code];
    DeleteGroups: DeleteGroupsRequest => |r| all(&r.groups_names, |name| name.clone()),
        DeleteGroupsResponse => |a| codes(&a.results, |r| r.error_code);
    OffsetDelete: OffsetDeleteRequest => |r| vec![r.group_id.to_string()],
        OffsetDeleteResponse => |a| {
            let partitions = a.topics.iter().flat_map(|t| &t.partitions).map(|p| p.error_code);
            partitions.chain([a.error_code]).collect()
        };
    ElectLeaders: ElectLeadersRequest => |r| r.topic_partitions.iter().flatten().map(|t| t.topic.to_string()).collect(),
        ElectLeadersResponse => |a| {
            let partitions = a.replica_election_results.iter().flat_map(|t| &t.partition_result).map(|p| p.error_code);
            partitions.chain([a.error_code]).collect()
        };
    AlterPartitionReassignments: AlterPartitionReassignmentsRequest => |r| all(&r.topics, |t| t.name.clone()),
        AlterPartitionReassignmentsResponse => |a| {
            let partitions = a.responses.iter().flat_map(|t| &t.partitions).map(|p| p.error_code);
            partitions.chain([a.error_code]).collect()
        };
    AlterReplicaLogDirs: AlterReplicaLogDirsRequest => |r| all(&r.dirs, |d| d.path.clone()),
        AlterReplicaLogDirsResponse => |a| a.results.iter().flat_map(|t| &t.partitions).map(|p| p.error_code).collect();
    UpdateFeatures: UpdateFeaturesRequest =>
        |r| all(&r.feature_updates, |f| format!("{} to {}", f.feature, f.max_version_level)),
        UpdateFeaturesResponse => |a| vec![a.error_code];
    UnregisterBroker: UnregisterBrokerRequest => |r| vec![format!("broker {}", r.broker_id)],
        UnregisterBrokerResponse => |a| vec![a.error_code];
    AddRaftVoter: AddRaftVoterRequest => |r| vec![format!("voter {}", r.voter_id)],
        AddRaftVoterResponse => |a| vec![a.error_code];
    RemoveRaftVoter: RemoveRaftVoterRequest => |r| vec![format!("voter {}", r.voter_id)],
        RemoveRaftVoterResponse => |a| vec![a.error_code];
    WriteTxnMarkers: WriteTxnMarkersRequest => |r| all(&r.markers, |m| format!("producer {}", m.producer_id)),
        WriteTxnMarkersResponse => |a| {
            let topics = a.markers.iter().flat_map(|m| &m.topics);
            topics.flat_map(|t| &t.partitions).map(|p| p.error_code).collect()
        };
    AlterShareGroupOffsets: AlterShareGroupOffsetsRequest => |r| vec![r.group_id.to_string()],
        AlterShareGroupOffsetsResponse => |a| {
            let partitions = a.responses.iter().flat_map(|t| &t.partitions).map(|p| p.error_code);
            partitions.chain([a.error_code]).collect()
        };
    DeleteShareGroupOffsets: DeleteShareGroupOffsetsRequest => |r| vec![r.group_id.to_string()],
        DeleteShareGroupOffsetsResponse => |a| a.responses.iter().map(|t| t.error_code).chain([a.error_code]).collect();
}

/// An administrative request that is under way.
pub struct Administrative {
    api: ApiKey,
    names: Vec<String>,
}

impl Administrative {
    pub fn begin(api: ApiKey, request: &dyn Any) -> Option<Administrative> {
        let mut names = names(api, request)?;
        if names.len() > NAMED {
            let more = names.len() - NAMED;
            names.truncate(NAMED);
            names.push(format!("and {more} more"));
        }
        Some(Administrative { api, names })
    }

    pub fn end(self, context: &RequestContext, answer: &dyn Any) {
        let errors: BTreeSet<i16> = errors(self.api, answer).into_iter().collect();
        let named: Vec<String> = errors
            .into_iter()
            .map(|code| match ErrorCode::from_code(code) {
                Some(ErrorCode::None) => DONE.to_owned(),
                Some(error) => format!("{error:?}"),
                None => code.to_string(),
            })
            .collect();
        let outcome = if named.is_empty() { DONE.to_owned() } else { named.join(", ") };
        context.audited(|asker| context.shard.audit.administrative(asker, &self.names, &outcome));
    }
}
