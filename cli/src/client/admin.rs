//! Administration: topics, configurations, groups.

use super::connection::Connection;
use super::error::ClientError;
use super::routing::Cluster;
use corelane_protocol::Str;
use corelane_protocol::messages::{
    CreatePartitionsRequest, CreatePartitionsRequestCreatePartitionsTopic, CreateTopicsRequest,
    CreateTopicsRequestCreatableTopic, CreateTopicsRequestCreatableTopicConfig, DeleteGroupsRequest,
    DeleteTopicsRequest, DeleteTopicsRequestDeleteTopicState, DescribeConfigsRequest,
    DescribeConfigsRequestDescribeConfigsResource, DescribeConfigsResponseDescribeConfigsResourceResult,
    DescribeGroupsRequest, DescribeGroupsResponseDescribedGroup, DescribeLogDirsRequest,
    DescribeLogDirsRequestDescribableLogDirTopic, IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsRequestAlterConfigsResource, IncrementalAlterConfigsRequestAlterableConfig,
    ListGroupsRequest, ListGroupsResponseListedGroup, MetadataResponse, OffsetCommitRequest,
    OffsetCommitRequestPartition, OffsetCommitRequestTopic, OffsetFetchRequest, OffsetFetchRequestGroup,
};
use std::collections::BTreeMap;

/// FindCoordinator's key type of groups.
pub const fn coordinator_key_type() -> i8 {
    0
}

/// The resource type of a topic in configuration requests.
const TOPIC: i8 = 2;

/// What a new topic should be.
#[derive(Clone, Debug, Default)]
pub struct TopicDescription {
    pub name: String,
    /// -1: the broker's default.
    pub partitions: i32,
    /// -1: the broker's default.
    pub replication: i16,
    pub configs: Vec<(String, String)>,
}

/// Offsets by topic and partition: the offset and the metadata text.
pub type Committed = BTreeMap<(String, i32), (i64, String)>;

fn text(s: &str) -> Str {
    Str::from(s.to_owned())
}

impl Cluster {
    /// Creates a topic; returns how many partitions it got, where the broker says.
    pub fn create_topic(&mut self, topic: &TopicDescription, only_check: bool) -> Result<Option<i32>, ClientError> {
        let config = |(name, value): &(String, String)| CreateTopicsRequestCreatableTopicConfig {
            name: text(name),
            value: Some(text(value)),
            ..Default::default()
        };
        let request = CreateTopicsRequest {
            topics: vec![CreateTopicsRequestCreatableTopic {
                name: text(&topic.name),
                num_partitions: topic.partitions,
                replication_factor: topic.replication,
                configs: topic.configs.iter().map(config).collect(),
                ..Default::default()
            }],
            timeout_ms: self.patience_ms(),
            validate_only: only_check,
            ..Default::default()
        };
        let result = self.retry(|c| {
            let mut answer = c.any()?.call(&request)?;
            let result = answer.topics.pop();
            let result = result.ok_or_else(|| ClientError::Invalid("an empty answer to CreateTopics".to_owned()))?;
            ClientError::check(|| format!("topic {}", topic.name), result.error_code, result.error_message.as_deref())?;
            Ok(result)
        })?;
        self.forget_topics();
        Ok((result.num_partitions >= 0).then_some(result.num_partitions))
    }

    pub fn delete_topic(&mut self, name: &str) -> Result<(), ClientError> {
        let by_name = self.any()?.version::<DeleteTopicsRequest>()? < 6;
        let state = DeleteTopicsRequestDeleteTopicState { name: Some(text(name)), ..Default::default() };
        let request = DeleteTopicsRequest {
            topics: if by_name { Vec::new() } else { vec![state] },
            topic_names: if by_name { vec![text(name)] } else { Vec::new() },
            timeout_ms: self.patience_ms(),
            ..Default::default()
        };
        let answer = self.any()?.call(&request)?;
        self.forget_topics();
        for r in &answer.responses {
            ClientError::check(|| format!("topic {name}"), r.error_code, r.error_message.as_deref())?;
        }
        Ok(())
    }

    /// Raises the number of partitions to `count`.
    pub fn create_partitions(&mut self, name: &str, count: i32) -> Result<(), ClientError> {
        let request = CreatePartitionsRequest {
            topics: vec![CreatePartitionsRequestCreatePartitionsTopic {
                name: text(name),
                count,
                assignments: None,
                ..Default::default()
            }],
            timeout_ms: self.patience_ms(),
            ..Default::default()
        };
        let answer = self.any()?.call(&request)?;
        self.forget_topics();
        for r in &answer.results {
            ClientError::check(|| format!("topic {name}"), r.error_code, r.error_message.as_deref())?;
        }
        Ok(())
    }

    /// Sets (`Some`) and deletes (`None`) properties of a topic.
    pub fn alter_topic(&mut self, name: &str, changes: &[(String, Option<String>)]) -> Result<(), ClientError> {
        let change = |(name, value): &(String, Option<String>)| IncrementalAlterConfigsRequestAlterableConfig {
            name: text(name),
            config_operation: i8::from(value.is_none()),
            value: value.as_deref().map(text),
            ..Default::default()
        };
        let request = IncrementalAlterConfigsRequest {
            resources: vec![IncrementalAlterConfigsRequestAlterConfigsResource {
                resource_type: TOPIC,
                resource_name: text(name),
                configs: changes.iter().map(change).collect(),
                ..Default::default()
            }],
            ..Default::default()
        };
        let answer = self.any()?.call(&request)?;
        for r in &answer.responses {
            ClientError::check(|| format!("topic {name}"), r.error_code, r.error_message.as_deref())?;
        }
        Ok(())
    }

    pub fn topic_configs(
        &mut self,
        name: &str,
    ) -> Result<Vec<DescribeConfigsResponseDescribeConfigsResourceResult>, ClientError> {
        self.topic(name)?;
        let request = DescribeConfigsRequest {
            resources: vec![DescribeConfigsRequestDescribeConfigsResource {
                resource_type: TOPIC,
                resource_name: text(name),
                configuration_keys: None,
                ..Default::default()
            }],
            ..Default::default()
        };
        // A broker may hear of a new topic a moment after the one that Metadata came from.
        let result = self.retry(|c| {
            let result = c.any()?.call(&request)?.results.into_iter().next();
            let result = result.ok_or_else(|| ClientError::Invalid("an empty answer to DescribeConfigs".to_owned()))?;
            ClientError::check(|| format!("topic {name}"), result.error_code, result.error_message.as_deref())?;
            Ok(result)
        })?;
        Ok(result.configs)
    }

    /// Bytes on disk of each partition, the largest replica counts. Empty where the broker does not tell.
    pub fn sizes(&mut self, topic: &str) -> Result<BTreeMap<i32, i64>, ClientError> {
        let wanted = self.topic(topic)?;
        let nodes: Vec<i32> = self.nodes();
        let mut sizes = BTreeMap::new();
        for node in nodes {
            let connection = self.node(node)?;
            if !connection.serves(corelane_protocol::ApiKey::DescribeLogDirs) {
                continue;
            }
            let request = DescribeLogDirsRequest {
                topics: Some(vec![DescribeLogDirsRequestDescribableLogDirTopic {
                    topic: text(topic),
                    partitions: wanted.partitions.iter().map(|p| p.index).collect(),
                    ..Default::default()
                }]),
                ..Default::default()
            };
            let answer = connection.call(&request)?;
            for p in answer.results.iter().flat_map(|r| &r.topics).flat_map(|t| &t.partitions) {
                let size: &mut i64 = sizes.entry(p.partition_index).or_default();
                *size = p.partition_size.max(*size);
            }
        }
        Ok(sizes)
    }

    /// Every group that any broker coordinates, with the broker.
    pub fn groups(&mut self) -> Result<Vec<(i32, ListGroupsResponseListedGroup)>, ClientError> {
        self.metadata(Some(&[]), false)?;
        let mut all = Vec::new();
        for node in self.nodes() {
            let answer = self.retry(|c| {
                let answer = c.node(node)?.call(&ListGroupsRequest::default())?;
                ClientError::check(|| format!("groups of broker {node}"), answer.error_code, None)?;
                Ok(answer)
            })?;
            all.extend(answer.groups.into_iter().map(|g| (node, g)));
        }
        all.sort_by(|a, b| a.1.group_id.cmp(&b.1.group_id));
        Ok(all)
    }

    pub fn describe_group(&mut self, group: &str) -> Result<(i32, DescribeGroupsResponseDescribedGroup), ClientError> {
        self.retry(|c| {
            let node = c.coordinator(group, coordinator_key_type())?;
            let request = DescribeGroupsRequest { groups: vec![text(group)], ..Default::default() };
            let answer = c.node(node)?.call(&request)?;
            let found = answer.groups.into_iter().next();
            let found = found.ok_or_else(|| ClientError::Invalid("an empty answer to DescribeGroups".to_owned()))?;
            ClientError::check(|| format!("group {group}"), found.error_code, found.error_message.as_deref())?;
            Ok((node, found))
        })
    }

    pub fn delete_group(&mut self, group: &str) -> Result<(), ClientError> {
        self.retry(|c| {
            let node = c.coordinator(group, coordinator_key_type())?;
            let request = DeleteGroupsRequest { groups_names: vec![text(group)], ..Default::default() };
            let answer = c.node(node)?.call(&request)?;
            for r in &answer.results {
                ClientError::check(|| format!("group {group}"), r.error_code, None)?;
            }
            Ok(())
        })
    }

    /// Every offset a group has committed.
    pub fn committed(&mut self, group: &str) -> Result<Committed, ClientError> {
        // Version 10 names topics by id; version 9 by name, which is what is wanted here.
        const NAMES: i16 = 9;
        self.retry(|c| {
            let node = c.coordinator(group, coordinator_key_type())?;
            let connection = c.node(node)?;
            let batched = connection.version_up_to::<OffsetFetchRequest>(NAMES)? >= 8;
            let groups = vec![OffsetFetchRequestGroup { group_id: text(group), topics: None, ..Default::default() }];
            let request = OffsetFetchRequest {
                group_id: if batched { Str::EMPTY } else { text(group) },
                topics: if batched { Some(Vec::new()) } else { None },
                groups: if batched { groups } else { Vec::new() },
                ..Default::default()
            };
            let answer = connection.call_up_to(&request, NAMES)?;
            let what = || format!("offsets of group {group}");
            ClientError::check(what, answer.error_code, None)?;
            let mut all = Committed::new();
            for g in &answer.groups {
                ClientError::check(what, g.error_code, None)?;
                for (t, p) in g.topics.iter().flat_map(|t| t.partitions.iter().map(move |p| (t, p))) {
                    ClientError::check(what, p.error_code, None)?;
                    let metadata = p.metadata.as_deref().unwrap_or_default().to_owned();
                    all.insert((t.name.to_string(), p.partition_index), (p.committed_offset, metadata));
                }
            }
            for (t, p) in answer.topics.iter().flat_map(|t| t.partitions.iter().map(move |p| (t, p))) {
                ClientError::check(what, p.error_code, None)?;
                let metadata = p.metadata.as_deref().unwrap_or_default().to_owned();
                all.insert((t.name.to_string(), p.partition_index), (p.committed_offset, metadata));
            }
            all.retain(|_, (offset, _)| *offset >= 0);
            Ok(all)
        })
    }

    /// Commits offsets; `member` is the generation and the member id, or (-1, "") for a group without members.
    pub fn commit(
        &mut self,
        group: &str,
        member: (i32, &str),
        offsets: &BTreeMap<(String, i32), i64>,
    ) -> Result<(), ClientError> {
        let node = self.coordinator(group, coordinator_key_type())?;
        commit(self.node(node)?, group, member, offsets)
    }

    /// The ids of the brokers that Metadata names.
    pub fn describe_cluster(&mut self) -> Result<MetadataResponse, ClientError> {
        self.metadata(Some(&[]), false)
    }

    fn patience_ms(&self) -> i32 {
        i32::try_from(self.patience.as_millis()).unwrap_or(i32::MAX)
    }
}

/// Commits offsets through a connection to the coordinator.
pub fn commit(
    connection: &mut Connection,
    group: &str,
    (generation, member): (i32, &str),
    offsets: &BTreeMap<(String, i32), i64>,
) -> Result<(), ClientError> {
    const NAMES: i16 = 9;
    let mut topics: BTreeMap<&str, Vec<OffsetCommitRequestPartition>> = BTreeMap::new();
    for ((topic, partition), offset) in offsets {
        topics.entry(topic).or_default().push(OffsetCommitRequestPartition {
            partition_index: *partition,
            committed_offset: *offset,
            committed_metadata: Some(Str::EMPTY),
            ..Default::default()
        });
    }
    let topics = topics.into_iter().map(|(name, partitions)| OffsetCommitRequestTopic {
        name: text(name),
        partitions,
        ..Default::default()
    });
    let request = OffsetCommitRequest {
        group_id: text(group),
        generation_id_or_member_epoch: generation,
        member_id: text(member),
        topics: topics.collect(),
        ..Default::default()
    };
    let answer = connection.call_up_to(&request, NAMES)?;
    for (t, p) in answer.topics.iter().flat_map(|t| t.partitions.iter().map(move |p| (t, p))) {
        ClientError::check(|| format!("commit of {}-{}", t.name, p.partition_index), p.error_code, None)?;
    }
    Ok(())
}
