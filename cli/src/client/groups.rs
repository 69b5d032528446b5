//! Groups of every kind, each through the APIs of its kind: classic, consumer (KIP-848), share (KIP-932), streams (KIP-1071).

use super::admin::coordinator_key_type;
use super::error::ClientError;
use super::group::decode_assignment;
use super::routing::Cluster;
use corelane_protocol::messages::{
    AlterShareGroupOffsetsRequest, AlterShareGroupOffsetsRequestPartition, AlterShareGroupOffsetsRequestTopic,
    ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponseAssignment, DescribeGroupsResponseDescribedGroup,
    DescribeShareGroupOffsetsRequest, DescribeShareGroupOffsetsRequestGroup, ShareGroupDescribeRequest,
    ShareGroupDescribeResponseAssignment, StreamsGroupDescribeRequest, StreamsGroupDescribeResponseMember,
    StreamsGroupDescribeResponseTaskIds, StreamsGroupDescribeResponseTopology,
};
use corelane_protocol::{ErrorCode, Str};
use std::collections::BTreeMap;

/// Partitions by topic.
pub type Assigned = BTreeMap<String, Vec<i32>>;

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum GroupKind {
    Classic,
    Consumer,
    Share,
    Streams,
}

impl GroupKind {
    /// As brokers name it, in lower case.
    pub fn name(self) -> &'static str {
        match self {
            GroupKind::Classic => "classic",
            GroupKind::Consumer => "consumer",
            GroupKind::Share => "share",
            GroupKind::Streams => "streams",
        }
    }
}

/// A group, whatever its kind.
#[derive(Clone, Debug)]
pub struct GroupDescription {
    pub kind: GroupKind,
    pub coordinator: i32,
    pub state: String,
    pub protocol_type: String,
    /// Who divides partitions among the members; empty: it is not told.
    pub assignor: String,
    /// Rises with each change of the members and of what they subscribe to; a classic group does not tell its generation.
    pub epoch: Option<i32>,
    pub members: Vec<MemberDescription>,
}

#[derive(Clone, Debug, Default)]
pub struct MemberDescription {
    pub id: String,
    pub instance: Option<String>,
    pub client: String,
    pub host: String,
    pub epoch: Option<i32>,
    /// What it reads.
    pub assigned: Assigned,
    /// Of a streams group: its tasks, such as `0_3`.
    pub tasks: Option<Tasks>,
}

#[derive(Clone, Debug, Default)]
pub struct Tasks {
    pub active: Vec<String>,
    pub standby: Vec<String>,
    pub warmup: Vec<String>,
}

/// Where a share group is in a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShareOffset {
    /// Everything before is done with; `None`: the group has not begun to read.
    pub start: Option<i64>,
    /// Records that are not; `None` where the broker does not tell.
    pub lag: Option<i64>,
}

impl Cluster {
    /// A group of any kind. Only its own kind's API knows it; the classic one has the last word, and says what is missing.
    pub fn group(&mut self, name: &str) -> Result<GroupDescription, ClientError> {
        self.retry(|c| {
            let node = c.coordinator(name, coordinator_key_type())?;
            let asked = [Cluster::consumer_group, Cluster::share_group, Cluster::streams_group];
            for ask in asked {
                match ask(c, node, name) {
                    Err(e) if is_of_another_kind(&e) => {}
                    other => return other,
                }
            }
            c.describe_group(name).map(|(node, group)| classic(node, group))
        })
    }

    fn consumer_group(&mut self, node: i32, name: &str) -> Result<GroupDescription, ClientError> {
        let request = ConsumerGroupDescribeRequest { group_ids: vec![name_of(name)], ..Default::default() };
        let g = first(self.node(node)?.call(&request)?.groups)?;
        ClientError::check(|| format!("group {name}"), g.error_code, g.error_message.as_deref())?;
        let members = g.members.into_iter().map(|m| MemberDescription {
            id: m.member_id.to_string(),
            instance: m.instance_id.map(|id| id.to_string()),
            client: m.client_id.to_string(),
            host: m.client_host.to_string(),
            epoch: Some(m.member_epoch),
            assigned: consumer_assignment(&m.assignment),
            tasks: None,
        });
        Ok(GroupDescription {
            kind: GroupKind::Consumer,
            coordinator: node,
            state: g.group_state.to_string(),
            protocol_type: "consumer".to_owned(),
            assignor: g.assignor_name.to_string(),
            epoch: Some(g.group_epoch),
            members: members.collect(),
        })
    }

    fn share_group(&mut self, node: i32, name: &str) -> Result<GroupDescription, ClientError> {
        let request = ShareGroupDescribeRequest { group_ids: vec![name_of(name)], ..Default::default() };
        let g = first(self.node(node)?.call(&request)?.groups)?;
        ClientError::check(|| format!("group {name}"), g.error_code, g.error_message.as_deref())?;
        let members = g.members.into_iter().map(|m| MemberDescription {
            id: m.member_id.to_string(),
            client: m.client_id.to_string(),
            host: m.client_host.to_string(),
            epoch: Some(m.member_epoch),
            assigned: share_assignment(&m.assignment),
            ..Default::default()
        });
        Ok(GroupDescription {
            kind: GroupKind::Share,
            coordinator: node,
            state: g.group_state.to_string(),
            protocol_type: "share".to_owned(),
            assignor: g.assignor_name.to_string(),
            epoch: Some(g.group_epoch),
            members: members.collect(),
        })
    }

    fn streams_group(&mut self, node: i32, name: &str) -> Result<GroupDescription, ClientError> {
        let request = StreamsGroupDescribeRequest { group_ids: vec![name_of(name)], ..Default::default() };
        let g = first(self.node(node)?.call(&request)?.groups)?;
        ClientError::check(|| format!("group {name}"), g.error_code, g.error_message.as_deref())?;
        let topology = g.topology.unwrap_or_default();
        Ok(GroupDescription {
            kind: GroupKind::Streams,
            coordinator: node,
            state: g.group_state.to_string(),
            protocol_type: "streams".to_owned(),
            assignor: String::new(),
            epoch: Some(g.group_epoch),
            members: g.members.into_iter().map(|m| streams_member(m, &topology)).collect(),
        })
    }

    /// Where a share group is, in each partition that it knows of.
    pub fn share_offsets(&mut self, group: &str) -> Result<BTreeMap<(String, i32), ShareOffset>, ClientError> {
        let asked = DescribeShareGroupOffsetsRequestGroup { group_id: name_of(group), ..Default::default() };
        let request = DescribeShareGroupOffsetsRequest {
            groups: vec![DescribeShareGroupOffsetsRequestGroup { topics: None, ..asked }],
            ..Default::default()
        };
        self.retry(|c| {
            let node = c.coordinator(group, coordinator_key_type())?;
            let answer = first(c.node(node)?.call(&request)?.groups)?;
            let what = || format!("offsets of group {group}");
            ClientError::check(what, answer.error_code, answer.error_message.as_deref())?;
            let mut all = BTreeMap::new();
            for (t, p) in answer.topics.iter().flat_map(|t| t.partitions.iter().map(move |p| (t, p))) {
                ClientError::check(what, p.error_code, p.error_message.as_deref())?;
                let known = |offset: i64| (offset >= 0).then_some(offset);
                let offset = ShareOffset { start: known(p.start_offset), lag: known(p.lag) };
                all.insert((t.topic_name.to_string(), p.partition_index), offset);
            }
            Ok(all)
        })
    }

    /// Sets where a share group without members goes on.
    pub fn alter_share_offsets(
        &mut self,
        group: &str,
        offsets: &BTreeMap<(String, i32), i64>,
    ) -> Result<(), ClientError> {
        let mut topics: BTreeMap<&str, Vec<AlterShareGroupOffsetsRequestPartition>> = BTreeMap::new();
        for ((topic, partition), offset) in offsets {
            topics.entry(topic).or_default().push(AlterShareGroupOffsetsRequestPartition {
                partition_index: *partition,
                start_offset: *offset,
                ..Default::default()
            });
        }
        let topics = topics.into_iter().map(|(name, partitions)| AlterShareGroupOffsetsRequestTopic {
            topic_name: name_of(name),
            partitions,
            ..Default::default()
        });
        let request =
            AlterShareGroupOffsetsRequest { group_id: name_of(group), topics: topics.collect(), ..Default::default() };
        let answer = self.retry(|c| {
            let node = c.coordinator(group, coordinator_key_type())?;
            let answer = c.node(node)?.call(&request)?;
            ClientError::check(|| format!("group {group}"), answer.error_code, answer.error_message.as_deref())?;
            Ok(answer)
        })?;
        for (t, p) in answer.responses.iter().flat_map(|t| t.partitions.iter().map(move |p| (t, p))) {
            let what = || format!("offset of {}-{}", t.topic_name, p.partition_index);
            ClientError::check(what, p.error_code, p.error_message.as_deref())?;
        }
        Ok(())
    }
}

/// There is no such group of the kind that was asked for, or the broker knows no groups of that kind.
fn is_of_another_kind(e: &ClientError) -> bool {
    matches!(e, ClientError::Unsupported { .. })
        || matches!(e.code(), Some(ErrorCode::GroupIdNotFound | ErrorCode::UnsupportedVersion))
}

fn name_of(text: &str) -> Str {
    Str::from(text.to_owned())
}

fn first<T>(answers: Vec<T>) -> Result<T, ClientError> {
    answers.into_iter().next().ok_or_else(|| ClientError::Invalid("an answer that names no group".to_owned()))
}

fn classic(coordinator: i32, group: DescribeGroupsResponseDescribedGroup) -> GroupDescription {
    let members = group.members.into_iter().map(|m| MemberDescription {
        id: m.member_id.to_string(),
        instance: m.group_instance_id.map(|id| id.to_string()),
        client: m.client_id.to_string(),
        host: m.client_host.to_string(),
        epoch: None,
        assigned: decode_assignment(&m.member_assignment).unwrap_or_default(),
        tasks: None,
    });
    GroupDescription {
        kind: GroupKind::Classic,
        coordinator,
        state: group.group_state.to_string(),
        protocol_type: group.protocol_type.to_string(),
        assignor: group.protocol_data.to_string(),
        epoch: None,
        members: members.collect(),
    }
}

fn consumer_assignment(assignment: &ConsumerGroupDescribeResponseAssignment) -> Assigned {
    assignment.topic_partitions.iter().map(|t| (t.topic_name.to_string(), t.partitions.clone())).collect()
}

fn share_assignment(assignment: &ShareGroupDescribeResponseAssignment) -> Assigned {
    assignment.topic_partitions.iter().map(|t| (t.topic_name.to_string(), t.partitions.clone())).collect()
}

fn streams_member(
    member: StreamsGroupDescribeResponseMember,
    topology: &StreamsGroupDescribeResponseTopology,
) -> MemberDescription {
    let names = |tasks: &[StreamsGroupDescribeResponseTaskIds]| {
        let each = |t: &StreamsGroupDescribeResponseTaskIds| {
            t.partitions.iter().map(|p| format!("{}_{p}", t.subtopology_id)).collect::<Vec<_>>()
        };
        tasks.iter().flat_map(each).collect()
    };
    // An active task reads its partition of each of its subtopology's topics.
    let mut assigned = Assigned::new();
    for task in &member.assignment.active_tasks {
        let known = topology.subtopologies.iter().flatten();
        for subtopology in known.filter(|known| known.subtopology_id == task.subtopology_id) {
            let repartitioned = subtopology.repartition_source_topics.iter().map(|topic| &topic.name);
            for topic in subtopology.source_topics.iter().chain(repartitioned) {
                assigned.entry(topic.to_string()).or_default().extend(&task.partitions);
            }
        }
    }
    MemberDescription {
        id: member.member_id.to_string(),
        instance: member.instance_id.map(|id| id.to_string()),
        client: member.client_id.to_string(),
        host: member.client_host.to_string(),
        epoch: Some(member.member_epoch),
        assigned,
        tasks: Some(Tasks {
            active: names(&member.assignment.active_tasks),
            standby: names(&member.assignment.standby_tasks),
            warmup: names(&member.assignment.warmup_tasks),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use corelane_protocol::messages::{
        StreamsGroupDescribeResponseAssignment, StreamsGroupDescribeResponseSubtopology,
        StreamsGroupDescribeResponseTopicInfo,
    };

    #[test]
    fn active_tasks_read_the_topics_of_their_subtopology() {
        let info = |name| StreamsGroupDescribeResponseTopicInfo { name: Str::from(name), ..Default::default() };
        let task = |id, partitions: &[i32]| StreamsGroupDescribeResponseTaskIds {
            subtopology_id: Str::from(id),
            partitions: partitions.to_vec(),
            ..Default::default()
        };
        let part = |id, sources: &[&'static str], repartitioned| StreamsGroupDescribeResponseSubtopology {
            subtopology_id: Str::from(id),
            source_topics: sources.iter().map(|name| Str::from(*name)).collect(),
            repartition_source_topics: repartitioned,
            ..Default::default()
        };
        let topology = StreamsGroupDescribeResponseTopology {
            subtopologies: Some(vec![part("0", &["in"], vec![]), part("1", &[], vec![info("counted")])]),
            ..Default::default()
        };
        let member = StreamsGroupDescribeResponseMember {
            assignment: StreamsGroupDescribeResponseAssignment {
                active_tasks: vec![task("0", &[0, 2]), task("1", &[1])],
                standby_tasks: vec![task("1", &[0])],
                ..Default::default()
            },
            ..Default::default()
        };
        let member = streams_member(member, &topology);
        let assigned = [("counted".to_owned(), vec![1]), ("in".to_owned(), vec![0, 2])];
        assert_eq!(member.assigned, Assigned::from(assigned));
        let tasks = member.tasks.unwrap();
        assert_eq!((tasks.active, tasks.standby), (vec!["0_0".into(), "0_2".into(), "1_1".into()], vec!["1_0".into()]));
        assert!(tasks.warmup.is_empty());
    }
}
