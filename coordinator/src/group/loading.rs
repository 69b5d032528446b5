//! Taking a partition over and giving it up.

use bytes::Bytes;
use corelane_protocol::record_frame::decode_versioned;
use corelane_protocol::records::group::{
    GroupMetadataKey, GroupMetadataValue, LegacyOffsetCommitKey, LegacyOffsetCommitValue, OffsetCommitKey,
    OffsetCommitValue,
};
use corelane_protocol::{DecodeError, Decoder, ErrorCode, Message, Str};

use super::classic::ClassicGroup;
use super::coordinator::GroupCoordinator;
use super::offset_store::CommittedOffset;
use super::outcome::{Completed, Effects};
use super::reject;
use super::share::{self, ShareGroup, ShareRecord};
use super::streams::records::Change;
use crate::Now;

/// What became of a replayed record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replayed {
    Applied,
    /// A record of this type is none of this machine's: of a newer Kafka.
    Skipped(i16),
}

impl GroupCoordinator {
    /// Takes over one record of the partition; all of them, in their order, rebuild what was stored. `now` is for groups of
    /// which no state is stored.
    ///
    /// `producer_id` is that of a transactional batch: its offsets count when [`GroupCoordinator::transaction_ended`] says so.
    pub fn replay(
        &mut self,
        now: Now,
        key: Bytes,
        value: Option<Bytes>,
        producer_id: Option<i64>,
    ) -> Result<Replayed, DecodeError> {
        let mut decoder = Decoder::new(key.clone());
        match decoder.i16()? {
            0 => {
                let key = LegacyOffsetCommitKey::decode(&mut decoder, 0)?;
                let value = value.map(decode_versioned::<LegacyOffsetCommitValue>).transpose()?;
                let offset = value.map(|(value, _)| CommittedOffset {
                    offset: value.offset,
                    leader_epoch: -1,
                    metadata: value.metadata.detach(),
                    commit_timestamp_ms: value.commit_timestamp,
                    expire_timestamp_ms: None,
                    topic_id: Default::default(),
                    order: 0,
                });
                self.replay_offset(now, &key.group, &key.topic, key.partition, offset, producer_id);
            }
            1 => {
                let key = OffsetCommitKey::decode(&mut decoder, 0)?;
                let value = value.map(decode_versioned::<OffsetCommitValue>).transpose()?;
                let offset = value.map(|(value, _)| CommittedOffset::from_value(&value));
                self.replay_offset(now, &key.group, &key.topic, key.partition, offset, producer_id);
            }
            2 => {
                let key = GroupMetadataKey::decode(&mut decoder, 0)?;
                let value = value.map(decode_versioned::<GroupMetadataValue>).transpose()?;
                self.replay_group(&key.group, value.map(|(value, _)| value));
            }
            other => {
                if self.replay_consumer_group(other, &mut decoder, value.clone())? {
                    return Ok(Replayed::Applied);
                }
                if let Some((group, change)) = Change::from_record(&key, value.as_ref())? {
                    self.replay_streams_group(group, change);
                    return Ok(Replayed::Applied);
                }
                match share::replayed(other, &mut decoder, value)? {
                    Some((group, record)) => self.replay_share(now, &group, &record),
                    None => return Ok(Replayed::Skipped(other)),
                }
            }
        }
        Ok(Replayed::Applied)
    }

    /// A tombstone of what is not there says nothing; nor does a record of a group that is of another kind.
    fn replay_share(&mut self, now: Now, group_id: &Str, record: &ShareRecord) {
        if *record == ShareRecord::Epoch(None) {
            if self.groups.share_mut(group_id).is_some() {
                self.groups.remove(group_id);
            }
            return;
        }
        if !self.groups.contains_key(group_id) {
            if record.is_tombstone() {
                return;
            }
            let group = ShareGroup::new(group_id.detach(), self.next_incarnation());
            self.groups.add_share(group);
        }
        if let Some(group) = self.groups.share_mut(group_id) {
            group.replay(now.wall_ms, record);
        }
    }

    fn replay_offset(
        &mut self,
        now: Now,
        group_id: &Str,
        topic: &Str,
        partition: i32,
        offset: Option<CommittedOffset>,
        producer_id: Option<i64>,
    ) {
        let offset = offset.map(|offset| CommittedOffset { order: self.next_order(), ..offset });
        if offset.is_some() && !self.groups.contains_key(group_id) {
            let group = self.new_group(now, group_id.detach());
            self.groups.add_classic(group);
        }
        match producer_id {
            Some(producer_id) => drop(self.pending.set(producer_id, group_id, topic, partition, offset)),
            None => {
                if offset.is_none() {
                    // Deleted: what transactions have pending for it goes too.
                    for producer_id in self.pending.producers_of(group_id, topic, partition) {
                        self.pending.set(producer_id, group_id, topic, partition, None);
                    }
                }
                self.offsets.set(group_id, topic, partition, offset);
            }
        }
    }

    fn replay_group(&mut self, group_id: &Str, value: Option<GroupMetadataValue>) {
        match value {
            None => {
                // A consumer group of this id came after it, and stays.
                if self.groups.get(group_id).is_some_and(|group| group.classic().is_some()) {
                    self.groups.remove(group_id);
                }
            }
            Some(value) => {
                let incarnation = self.next_incarnation();
                let group = ClassicGroup::from_value(group_id.detach(), incarnation, value);
                self.groups.add_classic(group);
            }
        }
    }

    /// All records are replayed: sessions and the regular sweep begin. Call once, before the first request.
    pub fn finish_loading(&mut self, now: Now) -> Effects {
        let mut out = Effects::default();
        let (groups, mut env) = self.parts(now, &mut out);
        for group in groups.values_mut() {
            group.loaded(&mut env);
        }
        self.sweep.next_ms = Some(now.mono_ms.saturating_add(self.config.offsets_retention_check_interval_ms));
        self.settle(now, &mut out);
        out
    }

    /// The partition goes elsewhere, or its fate is unknown: everyone who waits is told `error` (as a rule `NotCoordinator`).
    /// Writes under way may or may not be in the log; whoever replays it next will see.
    pub fn unload(mut self, now: Now, error: ErrorCode) -> Vec<Completed> {
        let mut out = Effects::default();
        for write in self.writes.drain() {
            for (token, response) in write.replies {
                out.completed.push(Completed { token, response: reject::after_write(response, error) });
            }
        }
        let (groups, mut env) = self.parts(now, &mut out);
        for group in groups.values_mut() {
            group.answer_all(&mut env, error);
        }
        out.completed.sort_unstable_by_key(|completed| completed.token);
        out.completed
    }
}
