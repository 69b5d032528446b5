//! StreamsGroupDescribe.

use std::collections::{BTreeMap, BTreeSet};

use corelane_protocol::Str;
use corelane_protocol::messages::*;

use super::configured::{ConfiguredSubtopology, ConfiguredTopology, InternalTopic};
use super::group::StreamsGroup;
use super::member::Member;
use super::tasks::{TaskSet, Tasks};
use super::topology::{Subtopology, TopicInfo, Topology};

impl StreamsGroup {
    pub(crate) fn describe(&self) -> StreamsGroupDescribeResponseDescribedGroup {
        let configured = self.configured.as_ref().filter(|configured| configured.is_ready());
        let topology = match (configured, &self.topology) {
            (Some(configured), _) => Some(configured_topology(configured)),
            (None, Some(topology)) => Some(plain_topology(topology)),
            (None, None) => None,
        };
        StreamsGroupDescribeResponseDescribedGroup {
            group_id: self.id.clone(),
            group_state: Str::from_static(self.state().name()),
            group_epoch: self.metadata.epoch,
            assignment_epoch: self.target_metadata.epoch,
            topology,
            members: self
                .members
                .iter()
                .map(|(id, member)| describe_member(id, member, self.targets.get(id)))
                .collect(),
            ..Default::default()
        }
    }
}

fn describe_member(id: &Str, member: &Member, target: Option<&TaskSet>) -> StreamsGroupDescribeResponseMember {
    let (metadata, current) = (&member.metadata, &member.current);
    let assignment = |active: &Tasks, standby: &Tasks, warmup: &Tasks| StreamsGroupDescribeResponseAssignment {
        active_tasks: ids(active),
        standby_tasks: ids(standby),
        warmup_tasks: ids(warmup),
        ..Default::default()
    };
    let assigned = &current.assigned;
    StreamsGroupDescribeResponseMember {
        member_id: id.clone(),
        member_epoch: current.epoch,
        instance_id: metadata.instance_id.clone(),
        rack_id: metadata.rack_id.clone(),
        client_id: metadata.client_id.clone(),
        client_host: metadata.client_host.clone(),
        topology_epoch: metadata.topology_epoch,
        process_id: metadata.process_id.clone(),
        user_endpoint: metadata.user_endpoint.as_ref().map(|(host, port)| StreamsGroupDescribeResponseEndpoint {
            host: host.clone(),
            port: *port,
            ..Default::default()
        }),
        client_tags: metadata.client_tags.iter().map(pair).collect(),
        assignment: assignment(&assigned.active_tasks(), &assigned.standby, &assigned.warmup),
        target_assignment: target.map(|t| assignment(&t.active, &t.standby, &t.warmup)).unwrap_or_default(),
        ..Default::default()
    }
}

fn pair((key, value): (&Str, &Str)) -> StreamsGroupDescribeResponseKeyValue {
    StreamsGroupDescribeResponseKeyValue { key: key.clone(), value: value.clone(), ..Default::default() }
}

fn ids(tasks: &Tasks) -> Vec<StreamsGroupDescribeResponseTaskIds> {
    let ids = |(id, partitions): (&Str, &BTreeSet<i32>)| StreamsGroupDescribeResponseTaskIds {
        subtopology_id: id.clone(),
        partitions: partitions.iter().copied().collect(),
        ..Default::default()
    };
    tasks.iter().map(ids).collect()
}

/// As it fits the topics there are.
fn configured_topology(configured: &ConfiguredTopology) -> StreamsGroupDescribeResponseTopology {
    let topic = |topic: &InternalTopic| StreamsGroupDescribeResponseTopicInfo {
        name: topic.name.clone(),
        partitions: topic.partitions,
        replication_factor: topic.replication_factor.unwrap_or(0),
        topic_configs: topic.configs.iter().map(pair).collect(),
        ..Default::default()
    };
    let subtopology = |(id, s): (&Str, &ConfiguredSubtopology)| StreamsGroupDescribeResponseSubtopology {
        subtopology_id: id.clone(),
        source_topics: s.source_topics.iter().cloned().collect(),
        repartition_sink_topics: s.repartition_sink_topics.iter().cloned().collect(),
        repartition_source_topics: s.repartition_source_topics.values().map(topic).collect(),
        state_changelog_topics: s.state_changelog_topics.values().map(topic).collect(),
        ..Default::default()
    };
    let subtopologies: Option<&BTreeMap<_, _>> = configured.subtopologies.as_ref();
    StreamsGroupDescribeResponseTopology {
        epoch: configured.epoch,
        subtopologies: Some(subtopologies.into_iter().flatten().map(subtopology).collect()),
        ..Default::default()
    }
}

/// As its members say it.
fn plain_topology(topology: &Topology) -> StreamsGroupDescribeResponseTopology {
    let topics = |infos: &[TopicInfo]| {
        let topic = |info: &TopicInfo| StreamsGroupDescribeResponseTopicInfo {
            name: info.name.clone(),
            partitions: info.partitions,
            replication_factor: info.replication_factor,
            topic_configs: info.topic_configs.iter().map(|config| pair((&config.key, &config.value))).collect(),
            ..Default::default()
        };
        let mut topics: Vec<_> = infos.iter().map(topic).collect();
        topics.sort_by(|a, b| a.name.cmp(&b.name));
        topics
    };
    let sorted = |names: &[Str]| {
        let mut names = names.to_vec();
        names.sort();
        names
    };
    let subtopology = |s: &Subtopology| StreamsGroupDescribeResponseSubtopology {
        subtopology_id: s.subtopology_id.clone(),
        source_topics: sorted(&s.source_topics),
        repartition_sink_topics: sorted(&s.repartition_sink_topics),
        repartition_source_topics: topics(&s.repartition_source_topics),
        state_changelog_topics: topics(&s.state_changelog_topics),
        ..Default::default()
    };
    StreamsGroupDescribeResponseTopology {
        epoch: topology.epoch,
        subtopologies: Some(topology.subtopologies.values().map(subtopology).collect()),
        ..Default::default()
    }
}
