//! What an application is made of, as its members say, and the internal topics that follow from it.

use std::collections::{BTreeMap, BTreeSet};

use corelane_protocol::messages::{StreamsGroupHeartbeatRequestTopicInfo, StreamsGroupHeartbeatRequestTopology};
use corelane_protocol::records::group::{
    StreamsGroupTopologyValue, StreamsGroupTopologyValueCopartitionGroup, StreamsGroupTopologyValueSubtopology,
    StreamsGroupTopologyValueTopicConfig, StreamsGroupTopologyValueTopicInfo,
};
use corelane_protocol::{ErrorCode, Str};

use super::unknown;
use crate::group::refusal::Refusal;

pub(crate) type Subtopology = StreamsGroupTopologyValueSubtopology;
pub(crate) type TopicInfo = StreamsGroupTopologyValueTopicInfo;

/// How many partitions a topic has, if there is one of that name.
pub(crate) type PartitionCounts<'a> = &'a dyn Fn(&str) -> Option<i32>;

/// An application's subtopologies by their ids.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Topology {
    pub(crate) epoch: i32,
    pub(crate) subtopologies: BTreeMap<Str, Subtopology>,
}

impl Topology {
    pub(crate) fn from_request(request: &StreamsGroupHeartbeatRequestTopology) -> Result<Topology, Refusal> {
        let subtopology = |s: &corelane_protocol::messages::StreamsGroupHeartbeatRequestSubtopology| Subtopology {
            subtopology_id: s.subtopology_id.detach(),
            source_topics: detached(&s.source_topics),
            source_topic_regex: detached(&s.source_topic_regex),
            state_changelog_topics: s.state_changelog_topics.iter().map(topic_info).collect(),
            repartition_sink_topics: detached(&s.repartition_sink_topics),
            repartition_source_topics: s.repartition_source_topics.iter().map(topic_info).collect(),
            copartition_groups: s
                .copartition_groups
                .iter()
                .map(|group| StreamsGroupTopologyValueCopartitionGroup {
                    source_topics: group.source_topics.clone(),
                    source_topic_regex: group.source_topic_regex.clone(),
                    repartition_source_topics: group.repartition_source_topics.clone(),
                    ..Default::default()
                })
                .collect(),
            ..Default::default()
        };
        let subtopologies = request.subtopologies.iter().map(subtopology).collect();
        let topology = Topology::from_subtopologies(request.epoch, subtopologies);
        topology.filter(|t| t.epoch >= 0).ok_or_else(unknown)
    }

    /// `value` holds text of its own.
    pub(crate) fn from_value(value: StreamsGroupTopologyValue) -> Option<Topology> {
        Topology::from_subtopologies(value.epoch, value.subtopologies)
    }

    /// `None` if two have the same id.
    fn from_subtopologies(epoch: i32, subtopologies: Vec<Subtopology>) -> Option<Topology> {
        let count = subtopologies.len();
        let by_id: BTreeMap<Str, Subtopology> =
            subtopologies.into_iter().map(|s| (s.subtopology_id.clone(), s)).collect();
        (by_id.len() == count).then_some(Topology { epoch, subtopologies: by_id })
    }

    pub(crate) fn to_value(&self) -> StreamsGroupTopologyValue {
        let subtopologies = self.subtopologies.values().cloned().collect();
        StreamsGroupTopologyValue { epoch: self.epoch, subtopologies, ..Default::default() }
    }

    /// Topics that are read or written to restore state, which all must be there.
    pub(crate) fn required_topics(&self) -> BTreeSet<&Str> {
        let mut names = BTreeSet::new();
        for s in self.subtopologies.values() {
            names.extend(&s.source_topics);
            names.extend(s.repartition_source_topics.iter().chain(&s.state_changelog_topics).map(|t| &t.name));
        }
        names
    }

    /// The subtopology that reads `topic`.
    pub(crate) fn reader_of(&self, topic: &str) -> Option<&Subtopology> {
        self.subtopologies.values().find(|s| {
            s.source_topics.iter().any(|t| t == topic) || s.repartition_source_topics.iter().any(|t| t.name == topic)
        })
    }
}

fn detached(texts: &[Str]) -> Vec<Str> {
    texts.iter().map(Str::detach).collect()
}

fn topic_info(info: &StreamsGroupHeartbeatRequestTopicInfo) -> TopicInfo {
    let config = |pair: &corelane_protocol::messages::StreamsGroupHeartbeatRequestKeyValue| {
        let (key, value) = (pair.key.detach(), pair.value.detach());
        StreamsGroupTopologyValueTopicConfig { key, value, ..Default::default() }
    };
    TopicInfo {
        name: info.name.detach(),
        partitions: info.partitions,
        replication_factor: info.replication_factor,
        topic_configs: info.topic_configs.iter().map(config).collect(),
        ..Default::default()
    }
}

/// An application cannot be what it says that it is.
pub(crate) fn invalid(message: impl Into<String>) -> Refusal {
    Refusal::new(ErrorCode::StreamsInvalidTopology, message)
}
