//! OffsetFetch.

use corelane_protocol::messages::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopics, OffsetFetchResponse,
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions, OffsetFetchResponseTopic,
    OffsetFetchResponseTopics,
};
use corelane_protocol::{ErrorCode, Uuid};

use super::coordinator::GroupCoordinator;
use super::offset_store::CommittedOffset;
use super::outcome::{Effects, Outcome};
use super::reject::fetched_nothing;

/// The first version that can ask for several groups.
const GROUPS_FROM: i16 = 8;

impl GroupCoordinator {
    /// What one group has committed: for the partitions asked for, or with no list of topics, for all there are. A group that
    /// does not exist has committed nothing, which is no error.
    ///
    /// Answered when no write that touches the group is under way. Topics of the answer that were asked for carry the name
    /// and id that they were asked by; with no list of topics they carry names only.
    ///
    /// With `require_stable` an offset that a transaction is about to change is an error that asks to come again.
    pub fn offset_fetch(
        &mut self,
        request: &OffsetFetchRequestGroup,
        require_stable: bool,
    ) -> Outcome<OffsetFetchResponseGroup> {
        if let Some(group) = self.groups.streams(&request.group_id)
            && let Err(error) = group.check_offset_fetch(request)
        {
            let group_id = request.group_id.clone();
            return Outcome::now(OffsetFetchResponseGroup { group_id, error_code: error.code(), ..Default::default() });
        }
        if let Some(group) = self.groups.consumer(&request.group_id)
            && let Err(error) = group.check_fetch(request)
        {
            let group_id = request.group_id.clone();
            return Outcome::now(OffsetFetchResponseGroup { group_id, error_code: error.code(), ..Default::default() });
        }
        let topics = match &request.topics {
            Some(topics) => topics.iter().map(|topic| self.fetch_topic(request, topic, require_stable)).collect(),
            None => self.fetch_all(request, require_stable),
        };
        let response = OffsetFetchResponseGroup { group_id: request.group_id.clone(), topics, ..Default::default() };
        match self.writes.last_of(&request.group_id) {
            None => Outcome::now(response),
            Some(id) => {
                let token = self.next_token();
                self.writes.reply_after(id, token, response);
                Outcome::from_effects(token, Effects::default())
            }
        }
    }

    fn fetch_topic(
        &self,
        request: &OffsetFetchRequestGroup,
        topic: &OffsetFetchRequestTopics,
        require_stable: bool,
    ) -> OffsetFetchResponseTopics {
        let exists = self.groups.contains_key(&request.group_id);
        let fetch = |index: &i32| {
            if require_stable && exists && self.pending.has(&request.group_id, &topic.name, *index) {
                return fetched_nothing(*index, ErrorCode::UnstableOffsetCommit);
            }
            let offset = self.offsets.get(&request.group_id, &topic.name, *index);
            match offset.filter(|offset| exists && is_same_topic(offset.topic_id, topic.topic_id)) {
                Some(offset) => fetched(*index, offset),
                None => fetched_nothing(*index, ErrorCode::None),
            }
        };
        OffsetFetchResponseTopics {
            name: topic.name.clone(),
            topic_id: topic.topic_id,
            partitions: topic.partition_indexes.iter().map(fetch).collect(),
            ..Default::default()
        }
    }

    fn fetch_all(&self, request: &OffsetFetchRequestGroup, require_stable: bool) -> Vec<OffsetFetchResponseTopics> {
        if !self.groups.contains_key(&request.group_id) {
            return Vec::new();
        }
        let partition = |name: &str, index: i32, offset: &CommittedOffset| {
            if require_stable && self.pending.has(&request.group_id, name, index) {
                fetched_nothing(index, ErrorCode::UnstableOffsetCommit)
            } else {
                fetched(index, offset)
            }
        };
        let topics = self.offsets.of_group(&request.group_id).into_iter().flatten();
        let topic = |(name, partitions): (&corelane_protocol::Str, &super::offset_store::PartitionOffsets)| {
            OffsetFetchResponseTopics {
                name: name.clone(),
                partitions: partitions.iter().map(|(index, offset)| partition(name, *index, offset)).collect(),
                ..Default::default()
            }
        };
        topics.map(topic).collect()
    }
}

/// An offset of a topic that was deleted is none of its namesake's.
fn is_same_topic(committed: Uuid, asked: Uuid) -> bool {
    committed.is_zero() || asked.is_zero() || committed == asked
}

fn fetched(partition_index: i32, offset: &CommittedOffset) -> OffsetFetchResponsePartitions {
    OffsetFetchResponsePartitions {
        partition_index,
        committed_offset: offset.offset,
        committed_leader_epoch: offset.leader_epoch,
        metadata: Some(offset.metadata.clone()),
        error_code: ErrorCode::None.code(),
        ..Default::default()
    }
}

/// The groups that a request of any version asks for.
pub fn fetched_groups(api_version: i16, request: &OffsetFetchRequest) -> Vec<OffsetFetchRequestGroup> {
    if api_version >= GROUPS_FROM {
        return request.groups.clone();
    }
    let topic = |topic: &corelane_protocol::messages::OffsetFetchRequestTopic| OffsetFetchRequestTopics {
        name: topic.name.clone(),
        partition_indexes: topic.partition_indexes.clone(),
        ..Default::default()
    };
    vec![OffsetFetchRequestGroup {
        group_id: request.group_id.clone(),
        topics: request.topics.as_ref().map(|topics| topics.iter().map(topic).collect()),
        ..Default::default()
    }]
}

/// The response of any version for the groups that were asked for.
pub fn fetch_response(api_version: i16, groups: Vec<OffsetFetchResponseGroup>) -> OffsetFetchResponse {
    if api_version >= GROUPS_FROM {
        return OffsetFetchResponse { groups, ..Default::default() };
    }
    let Some(group) = groups.into_iter().next() else { return OffsetFetchResponse::default() };
    let partition = |partition: OffsetFetchResponsePartitions| OffsetFetchResponsePartition {
        partition_index: partition.partition_index,
        committed_offset: partition.committed_offset,
        // The field is younger than the oldest versions, which have no room for it.
        committed_leader_epoch: if api_version >= 5 { partition.committed_leader_epoch } else { -1 },
        metadata: partition.metadata,
        error_code: partition.error_code,
        ..Default::default()
    };
    let topic = |topic: OffsetFetchResponseTopics| OffsetFetchResponseTopic {
        name: topic.name,
        partitions: topic.partitions.into_iter().map(partition).collect(),
        ..Default::default()
    };
    OffsetFetchResponse {
        topics: group.topics.into_iter().map(topic).collect(),
        error_code: group.error_code,
        ..Default::default()
    }
}
