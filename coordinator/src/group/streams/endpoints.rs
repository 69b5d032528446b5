//! Where the state of which partitions can be asked for (interactive queries).

use std::collections::{BTreeMap, BTreeSet};

use corelane_protocol::Str;
use corelane_protocol::messages::{
    StreamsGroupHeartbeatResponseEndpoint, StreamsGroupHeartbeatResponseEndpointToPartitions,
    StreamsGroupHeartbeatResponseTopicPartition,
};

use super::configured::{ConfiguredSubtopology, ConfiguredTopology};
use super::group::StreamsGroup;
use super::member::{CurrentAssignment, MemberMetadata};
use super::tasks::Tasks;
use super::topology::PartitionCounts;

impl StreamsGroup {
    /// What each member with an endpoint has, the member `updated` as it is now, and last.
    pub(super) fn endpoints(
        &self,
        partitions: PartitionCounts<'_>,
        configured: &ConfiguredTopology,
        (updated, metadata, current): (&Str, &MemberMetadata, &CurrentAssignment),
    ) -> Vec<StreamsGroupHeartbeatResponseEndpointToPartitions> {
        let Some(subtopologies) = &configured.subtopologies else { return Vec::new() };
        let others = self.members.iter().filter(|(id, _)| *id != updated);
        let others = others.map(|(_, member)| (&member.metadata, &member.current));
        let entry = |(metadata, current): (&MemberMetadata, &CurrentAssignment)| {
            let (host, port) = metadata.user_endpoint.clone()?;
            Some(StreamsGroupHeartbeatResponseEndpointToPartitions {
                user_endpoint: StreamsGroupHeartbeatResponseEndpoint { host, port, ..Default::default() },
                active_partitions: read_by(&current.assigned.active_tasks(), subtopologies, partitions),
                standby_partitions: read_by(&current.assigned.standby, subtopologies, partitions),
                ..Default::default()
            })
        };
        others.chain([(metadata, current)]).filter_map(entry).collect()
    }
}

/// The partitions of topics that tasks read.
fn read_by(
    tasks: &Tasks,
    subtopologies: &BTreeMap<Str, ConfiguredSubtopology>,
    partitions: PartitionCounts<'_>,
) -> Vec<StreamsGroupHeartbeatResponseTopicPartition> {
    let mut read = Vec::new();
    for (id, numbers) in tasks {
        let Some(subtopology) = subtopologies.get(id) else { continue };
        let topics: BTreeSet<&Str> =
            subtopology.source_topics.iter().chain(subtopology.repartition_source_topics.keys()).collect();
        for topic in topics {
            // A topic with fewer partitions than there are tasks counts with that many: as in Kafka, the first of them.
            let count = partitions(topic).unwrap_or(0).max(0) as usize;
            read.push(StreamsGroupHeartbeatResponseTopicPartition {
                topic: topic.clone(),
                partitions: numbers.iter().copied().take(count).collect(),
                ..Default::default()
            });
        }
    }
    read
}
