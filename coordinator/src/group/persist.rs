//! Groups and offsets as records, in Kafka's schemas.

use std::collections::BTreeMap;

use bytes::Bytes;
use corelane_protocol::record_frame::{CoordinatorKey, encode_versioned};
use corelane_protocol::records::group::{
    GroupMetadataKey, GroupMetadataValue, GroupMetadataValueMemberMetadata, OffsetCommitKey, OffsetCommitValue,
};
use corelane_protocol::{EncodeError, Str};

use super::classic::ClassicGroup;
use super::member::{Member, Protocol};
use super::state::GroupState;
use crate::timer::Timer;
use crate::{CoordinatorRecord, Now};

type RecordResult = Result<CoordinatorRecord, EncodeError>;

/// Version in which groups are written: the last one without compact lengths, as Kafka does.
const GROUP_VERSION: i16 = 3;
/// Version in which offsets are written.
const OFFSET_VERSION: i16 = 4;
/// The only version that holds a time to expire of the offset's own.
const EXPIRING_OFFSET_VERSION: i16 = 1;

/// The partition of `__consumer_offsets`, out of `partitions`, that a group belongs to: by Java's hash of its id.
pub fn partition_for(group_id: &str, partitions: i32) -> i32 {
    let hash = group_id.encode_utf16().fold(0i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)));
    (if hash == i32::MIN { 0 } else { hash.abs() }).checked_rem(partitions).unwrap_or(0)
}

pub(super) fn record<K: CoordinatorKey>(key: &K, value: Option<(K::Value, i16)>) -> RecordResult {
    let value = value.map(|(value, version)| encode_versioned(&value, version)).transpose()?;
    Ok(CoordinatorRecord { key: key.to_key_bytes()?, value })
}

fn group_key(group: &Str) -> GroupMetadataKey {
    GroupMetadataKey { group: group.clone() }
}

pub(crate) fn group_tombstone(group: &Str) -> RecordResult {
    record(&group_key(group), None)
}

/// A group that has never had a generation.
pub(crate) fn empty_group_record(group: &Str, wall_ms: i64) -> RecordResult {
    let value =
        GroupMetadataValue { protocol: None, leader: None, current_state_timestamp: wall_ms, ..Default::default() };
    record(&group_key(group), Some((value, GROUP_VERSION)))
}

/// An offset, or its tombstone.
pub(crate) fn offset_record(
    group: &Str,
    topic: &Str,
    partition: i32,
    value: Option<OffsetCommitValue>,
) -> RecordResult {
    let key = OffsetCommitKey { group: group.clone(), topic: topic.clone(), partition };
    let version = |value: &OffsetCommitValue| match value.expire_timestamp {
        -1 => OFFSET_VERSION,
        _ => EXPIRING_OFFSET_VERSION,
    };
    record(&key, value.map(|value| (version(&value), value)).map(|(version, value)| (value, version)))
}

impl ClassicGroup {
    /// The group's current generation with these assignments, or else with those that its members have.
    pub(super) fn to_record(&self, assignments: Option<&BTreeMap<Str, Bytes>>) -> RecordResult {
        let assignment = |id: &Str, member: &Member| match assignments {
            Some(assignments) => assignments.get(id).cloned().unwrap_or_default(),
            None => member.assignment.clone(),
        };
        let metadata = |(id, member): (&Str, &Member)| GroupMetadataValueMemberMetadata {
            member_id: id.clone(),
            group_instance_id: member.instance_id.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            rebalance_timeout: member.rebalance_timeout_ms,
            session_timeout: member.session_timeout_ms,
            subscription: member.metadata(self.protocol_name.as_deref()),
            assignment: assignment(id, member),
            ..Default::default()
        };
        let value = GroupMetadataValue {
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            generation: self.generation,
            protocol: self.protocol_name.clone(),
            leader: self.leader.clone().filter(|_| !self.must_rejoin),
            current_state_timestamp: self.state_since_ms.unwrap_or(-1),
            members: self.members.iter().map(metadata).collect(),
            ..Default::default()
        };
        record(&group_key(&self.id), Some((value, GROUP_VERSION)))
    }

    /// The group as it was stored: stable, or empty. Its members' sessions start with [`ClassicGroup::loaded`].
    pub(super) fn from_value(id: Str, incarnation: u64, value: GroupMetadataValue) -> ClassicGroup {
        let mut group = ClassicGroup::new(id, incarnation, 0);
        let detached = |text: &Option<Str>| text.as_ref().map(Str::detach);
        group.state = if value.members.is_empty() { GroupState::Empty } else { GroupState::Stable };
        group.state_since_ms = Some(value.current_state_timestamp).filter(|since| *since != -1);
        group.generation = value.generation;
        group.protocol_type = Some(value.protocol_type.detach()).filter(|name| !name.is_empty());
        group.protocol_name = detached(&value.protocol);
        group.leader = detached(&value.leader);
        group.must_rejoin = value.leader.is_none() && !value.members.is_empty();
        let protocol_type = group.protocol_type.clone();
        for stored in &value.members {
            let protocol = Protocol {
                name: group.protocol_name.clone().unwrap_or_default(),
                metadata: Bytes::copy_from_slice(&stored.subscription),
            };
            let member = Member {
                instance_id: detached(&stored.group_instance_id),
                client_id: stored.client_id.detach(),
                client_host: stored.client_host.detach(),
                rebalance_timeout_ms: match stored.rebalance_timeout {
                    -1 => stored.session_timeout,
                    timeout => timeout,
                },
                session_timeout_ms: stored.session_timeout,
                protocols: vec![protocol],
                assignment: Bytes::copy_from_slice(&stored.assignment),
                awaiting_join: None,
                awaiting_sync: None,
                is_new: false,
                session: Timer::default(),
            };
            group.add(stored.member_id.detach(), member, protocol_type.clone());
        }
        group.find_subscribed_topics();
        group
    }

    /// Loading is complete: members have a whole session to be heard of. If there are more than allowed now, a rebalance will turn
    /// some away.
    pub(super) fn loaded(&mut self, env: &mut super::env::Env<'_>) {
        let member_ids: Vec<Str> = self.members.keys().cloned().collect();
        for member_id in &member_ids {
            self.restart_session(env, member_id);
        }
        if member_ids.len() > env.config.max_size || self.must_rejoin {
            self.prepare_rebalance(env);
        }
    }
}

/// Milliseconds of retention that a commit asks for, as the time that it ends.
pub(crate) fn expire_timestamp(now: Now, retention_time_ms: i64) -> i64 {
    if retention_time_ms == -1 { -1 } else { now.wall_ms.saturating_add(retention_time_ms) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_spread_like_javas_string_hash() {
        // "".hashCode() = 0, "a" = 97, "polygenelubricants" = i32::MIN, "grüße" has a two-byte character.
        assert_eq!(partition_for("", 50), 0);
        assert_eq!(partition_for("a", 50), 47);
        assert_eq!(partition_for("polygenelubricants", 50), 0);
        assert_eq!(partition_for("my-group", 50), 12);
        assert_eq!(partition_for("grüße", 50), 23);
    }
}
