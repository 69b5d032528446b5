//! The groups of one coordinator, of every kind.

use std::ops::{Deref, DerefMut};

use corelane_protocol::{EncodeError, ErrorCode, Str};
use hashbrown::HashMap;

use super::classic::ClassicGroup;
use super::consumer::group::ConsumerGroup;
use super::env::Env;
use super::offset_store::CommittedOffset;
use super::persist;
use super::protocol::CONSUMER_PROTOCOL_TYPE;
use super::share::ShareGroup;
use super::streams::group::StreamsGroup;
use crate::{CoordinatorRecord, Now};

/// A group of any kind. What every kind has is asked here; what only one has, of that one.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "most groups are of the largest kind")]
pub(crate) enum Group {
    Classic(ClassicGroup),
    Share(ShareGroup),
    Consumer(ConsumerGroup),
    Streams(StreamsGroup),
}

impl Group {
    pub(crate) fn id(&self) -> &Str {
        match self {
            Group::Classic(group) => &group.id,
            Group::Share(group) => &group.id,
            Group::Consumer(group) => &group.id,
            Group::Streams(group) => &group.id,
        }
    }

    /// Tells groups of one id apart: what was begun for one must not end in another.
    pub(crate) fn incarnation(&self) -> u64 {
        match self {
            Group::Classic(group) => group.incarnation,
            Group::Share(group) => group.incarnation,
            Group::Consumer(group) => group.incarnation,
            Group::Streams(group) => group.incarnation,
        }
    }

    /// What kind it is, as ListGroups names and filters it.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Group::Classic(_) => "classic",
            Group::Share(_) => "share",
            Group::Consumer(_) => "consumer",
            Group::Streams(_) => "streams",
        }
    }

    pub(crate) fn protocol_type(&self) -> Str {
        match self {
            Group::Classic(group) => group.protocol_type.clone().unwrap_or_default(),
            Group::Share(_) => Str::from_static("share"),
            Group::Consumer(_) => Str::from_static(CONSUMER_PROTOCOL_TYPE),
            Group::Streams(_) => Str::from_static("streams"),
        }
    }

    pub(crate) fn state_name(&self) -> &'static str {
        match self {
            Group::Classic(group) => group.state().name(),
            Group::Share(group) => group.state_name(),
            Group::Consumer(group) => group.state().name(),
            Group::Streams(group) => group.state().name(),
        }
    }

    /// Without members: it may be deleted.
    pub(crate) fn is_empty(&self) -> bool {
        match self {
            Group::Classic(group) => group.is_in(super::GroupState::Empty),
            Group::Share(group) => group.is_empty(),
            Group::Consumer(group) => group.is_empty(),
            Group::Streams(group) => group.members.is_empty(),
        }
    }

    pub(crate) fn members(&self) -> usize {
        match self {
            Group::Classic(group) => group.members.len(),
            Group::Share(group) => group.member_count(),
            Group::Consumer(group) => group.members(),
            Group::Streams(group) => group.members.len(),
        }
    }

    pub(crate) fn classic(&self) -> Option<&ClassicGroup> {
        match self {
            Group::Classic(group) => Some(group),
            _ => None,
        }
    }

    pub(crate) fn classic_mut(&mut self) -> Option<&mut ClassicGroup> {
        match self {
            Group::Classic(group) => Some(group),
            _ => None,
        }
    }

    pub(crate) fn share(&self) -> Option<&ShareGroup> {
        match self {
            Group::Share(group) => Some(group),
            _ => None,
        }
    }

    pub(crate) fn share_mut(&mut self) -> Option<&mut ShareGroup> {
        match self {
            Group::Share(group) => Some(group),
            _ => None,
        }
    }

    /// Whether a group without members and offsets goes by itself.
    pub(crate) fn expires(&self) -> bool {
        match self {
            Group::Classic(_) | Group::Consumer(_) | Group::Streams(_) => true,
            Group::Share(_) => false,
        }
    }

    /// The records that remove the group, which has no members.
    pub(crate) fn tombstones(&self) -> Result<Vec<CoordinatorRecord>, EncodeError> {
        match self {
            Group::Classic(group) => persist::group_tombstone(&group.id).map(|record| vec![record]),
            Group::Share(group) => group.tombstones(),
            Group::Consumer(group) => group.tombstones(),
            Group::Streams(group) => group.tombstones(),
        }
    }

    /// Puts all timers into the queue again, after the group was out of the table.
    pub(crate) fn rearm(&mut self, env: &mut Env<'_>) {
        match self {
            Group::Classic(group) => group.rearm(env),
            Group::Share(group) => group.rearm(env),
            Group::Consumer(group) => group.rearm(env),
            Group::Streams(group) => group.rearm(env),
        }
    }

    /// Answers everyone who waits with an error: the group is gone, or goes to another coordinator.
    pub(crate) fn answer_all(&mut self, env: &mut Env<'_>, error: ErrorCode) {
        match self {
            Group::Classic(group) => group.answer_all(env, error),
            // Its answers wait for writes only.
            Group::Share(_) => {}
            // Nobody waits for more than a write.
            Group::Consumer(_) | Group::Streams(_) => {}
        }
    }

    /// Loading is complete: members have a whole session to be heard of.
    pub(crate) fn loaded(&mut self, env: &mut Env<'_>) {
        match self {
            Group::Classic(group) => group.loaded(env),
            Group::Share(group) => group.loaded(env),
            Group::Consumer(group) => group.start_missing_sessions(env),
            Group::Streams(group) => group.start_missing_sessions(env),
        }
    }

    /// Whether a member reads `topic`, as far as that can be told. Offsets of such topics are neither expired nor deleted.
    pub(crate) fn is_subscribed_to(&self, topic: &str) -> bool {
        match self {
            Group::Classic(group) => group.is_subscribed_to(topic),
            Group::Share(group) => group.is_subscribed_to(topic),
            Group::Consumer(group) => group.is_subscribed_to(topic),
            Group::Streams(group) => group.is_subscribed_to(topic),
        }
    }

    pub(crate) fn check_offset_delete(&self) -> Result<(), ErrorCode> {
        match self {
            Group::Classic(group) => group.check_offset_delete(),
            Group::Share(group) => group.check_offset_delete(),
            Group::Consumer(_) | Group::Streams(_) => Ok(()),
        }
    }

    /// Whether an offset of this group is past its time.
    pub(crate) fn is_expired(&self, now: Now, offset: &CommittedOffset, retention_ms: i64) -> bool {
        match self {
            Group::Classic(group) => group.is_expired(now, offset, retention_ms),
            Group::Share(_) => false,
            Group::Consumer(_) | Group::Streams(_) => offset.is_expired(now, offset.commit_timestamp_ms, retention_ms),
        }
    }
}

/// All groups by their ids.
#[derive(Debug, Default)]
pub(crate) struct GroupTable(HashMap<Str, Group>);

impl GroupTable {
    pub(crate) fn add(&mut self, group: Group) {
        self.0.insert(group.id().clone(), group);
    }

    pub(crate) fn add_classic(&mut self, group: ClassicGroup) {
        self.add(Group::Classic(group));
    }

    pub(crate) fn classic_mut(&mut self, id: &str) -> Option<&mut ClassicGroup> {
        self.0.get_mut(id)?.classic_mut()
    }

    pub(crate) fn add_share(&mut self, group: ShareGroup) {
        self.add(Group::Share(group));
    }

    pub(crate) fn share_mut(&mut self, id: &str) -> Option<&mut ShareGroup> {
        self.0.get_mut(id)?.share_mut()
    }

    pub(crate) fn consumer(&self, id: &str) -> Option<&ConsumerGroup> {
        match self.0.get(id)? {
            Group::Consumer(group) => Some(group),
            _ => None,
        }
    }

    pub(crate) fn streams(&self, id: &str) -> Option<&StreamsGroup> {
        match self.0.get(id)? {
            Group::Streams(group) => Some(group),
            _ => None,
        }
    }

    pub(crate) fn streams_mut(&mut self, id: &str) -> Option<&mut StreamsGroup> {
        match self.0.get_mut(id)? {
            Group::Streams(group) => Some(group),
            _ => None,
        }
    }

    pub(crate) fn consumer_mut(&mut self, id: &str) -> Option<&mut ConsumerGroup> {
        match self.0.get_mut(id)? {
            Group::Consumer(group) => Some(group),
            _ => None,
        }
    }
}

impl Deref for GroupTable {
    type Target = HashMap<Str, Group>;

    fn deref(&self) -> &HashMap<Str, Group> {
        &self.0
    }
}

impl DerefMut for GroupTable {
    fn deref_mut(&mut self) -> &mut HashMap<Str, Group> {
        &mut self.0
    }
}
