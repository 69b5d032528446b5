//! Offsets and groups that have been out of use for long enough.

use std::collections::VecDeque;

use corelane_protocol::{EncodeError, Str};

use super::classic::ClassicGroup;
use super::coordinator::GroupCoordinator;
use super::offset_store::CommittedOffset;
use super::outcome::{Effects, Outcome, Response};
use super::persist;
use super::state::GroupState;
use super::writes::{OnWritten, Undo};
use crate::{CoordinatorRecord, Now};

/// Bounds of one write of tombstones.
const WRITE_RECORDS: usize = 1_000;
const WRITE_BYTES: usize = 256 << 10;
/// Groups and offsets that one tick looks at.
const TICK_STEPS: usize = 10_000;

/// What is to be removed, in the order in which it is to be written.
#[derive(Debug, Default)]
pub(crate) struct Tombstones(Vec<Tombstone>);

#[derive(Debug)]
enum Tombstone {
    Offset { group: Str, topic: Str, partition: i32 },
    Group(Str),
}

impl Tombstones {
    pub(crate) fn offset(&mut self, group: &Str, topic: &Str, partition: i32) {
        self.0.push(Tombstone::Offset { group: group.clone(), topic: topic.clone(), partition });
    }

    pub(crate) fn group(&mut self, group: &Str) {
        self.0.push(Tombstone::Group(group.clone()));
    }
}

/// The regular look at all groups, done in steps.
#[derive(Debug, Default)]
pub(crate) struct Sweep {
    /// When the next one begins or, while one is under way, goes on.
    pub(crate) next_ms: Option<i64>,
    left: VecDeque<Str>,
}

impl GroupCoordinator {
    /// Goes on with a sweep that is due; begins one when it is time.
    pub(crate) fn sweep(&mut self, now: Now, out: &mut Effects) {
        if self.sweep.next_ms.is_none_or(|next| next > now.mono_ms) {
            return;
        }
        if self.sweep.left.is_empty() {
            let mut groups: Vec<Str> = self.groups.keys().cloned().collect();
            groups.sort_unstable();
            self.sweep.left = groups.into();
        }
        let mut gone = Tombstones::default();
        let mut steps = 0;
        while steps < TICK_STEPS
            && let Some(group) = self.sweep.left.pop_front()
        {
            steps += 1 + self.find_expired(now, &group, &mut gone);
        }
        let pause = if self.sweep.left.is_empty() { self.config.offsets_retention_check_interval_ms } else { 0 };
        self.sweep.next_ms = Some(now.mono_ms.saturating_add(pause));
        self.bury(now, gone, out);
    }

    /// Adds what has expired of a group, and the group if nothing of it is left; gives how many offsets it looked at.
    fn find_expired(&self, now: Now, group_id: &Str, gone: &mut Tombstones) -> usize {
        let Some(group) = self.groups.get(group_id) else { return 0 };
        let mut seen = 0;
        let mut all_expired = true;
        if let Some(offsets) = self.offsets.of_group(group_id) {
            for (topic, partitions) in offsets {
                seen += partitions.len();
                let kept = group.is_subscribed_to(topic);
                for (partition, offset) in partitions {
                    let expired = group.is_expired(now, offset, self.config.offsets_retention_ms);
                    if !kept && expired && !self.pending.has(group_id, topic, *partition) {
                        gone.offset(group_id, topic, *partition);
                    } else {
                        all_expired = false;
                    }
                }
            }
        }
        if all_expired && group.expires() && group.is_empty() && !self.pending.has_group(group_id) {
            gone.group(group_id);
        }
        seen
    }

    /// Removes offsets and groups and writes their tombstones, in batches of bounded size.
    pub(crate) fn bury(&mut self, now: Now, gone: Tombstones, out: &mut Effects) {
        let mut records = Vec::new();
        let mut undo = Vec::new();
        let mut groups: Vec<Str> = Vec::new();
        let mut size = 0;
        for tombstone in gone.0 {
            let (group, of_it) = match &tombstone {
                Tombstone::Offset { group, topic, partition } => {
                    let record = persist::offset_record(group, topic, *partition, None);
                    (group.clone(), record.map(|record| vec![record]))
                }
                Tombstone::Group(group) => {
                    let known = self.groups.get(group);
                    (group.clone(), known.map_or(Ok(Vec::new()), |known| known.tombstones()))
                }
            };
            let of_it = match of_it {
                Ok(of_it) => of_it,
                // It was read from a record, so it can be written to one.
                Err(error) => return self.write_tombstones(now, groups, Err(error), undo, out),
            };
            size += of_it.iter().map(CoordinatorRecord::size).sum::<usize>();
            records.extend(of_it);
            self.remove_now(tombstone, &mut undo);
            if groups.last() != Some(&group) {
                groups.push(group);
            }
            if records.len() >= WRITE_RECORDS || size >= WRITE_BYTES {
                size = 0;
                let (records, undo) = (std::mem::take(&mut records), std::mem::take(&mut undo));
                self.write_tombstones(now, std::mem::take(&mut groups), Ok(records), undo, out);
            }
        }
        if !records.is_empty() {
            self.write_tombstones(now, groups, Ok(records), undo, out);
        }
    }

    fn remove_now(&mut self, tombstone: Tombstone, undo: &mut Vec<Undo>) {
        match tombstone {
            Tombstone::Offset { group, topic, partition } => {
                for producer_id in self.pending.producers_of(&group, &topic, partition) {
                    let previous = self.pending.set(producer_id, &group, &topic, partition, None);
                    let (group, topic) = (group.clone(), topic.clone());
                    undo.push(Undo::PendingOffset { producer_id, group, topic, partition, previous });
                }
                let previous = self.offsets.set(&group, &topic, partition, None);
                undo.push(Undo::Offset { group, topic, partition, previous });
            }
            Tombstone::Group(group) => {
                undo.extend(self.groups.remove(&group).map(|group| Undo::RemovedGroup(Box::new(group))));
            }
        }
    }

    fn write_tombstones(
        &mut self,
        now: Now,
        groups: Vec<Str>,
        records: Result<Vec<CoordinatorRecord>, EncodeError>,
        undo: Vec<Undo>,
        out: &mut Effects,
    ) {
        let (_, mut env) = self.parts(now, out);
        env.write_all(groups, records, OnWritten::Nothing, undo);
    }

    /// Answers a request when the last of the writes that it caused is durable.
    pub(crate) fn answer_after_writes<R>(&mut self, now: Now, response: R, mut out: Effects) -> Outcome<R>
    where
        R: Into<Response> + TryFrom<Response>,
    {
        let Some(last) = out.writes.last().map(|write| write.id) else {
            return Outcome { effects: out, ..Outcome::now(response) };
        };
        let token = self.next_token();
        self.writes.reply_after(last, token, response);
        self.settle(now, &mut out);
        Outcome::from_effects(token, out)
    }
}

impl ClassicGroup {
    /// Whether an offset of this group is past its time. That counts from when the group became empty, or if it has members,
    /// or never had any, from the commit.
    pub(super) fn is_expired(&self, now: Now, offset: &CommittedOffset, retention_ms: i64) -> bool {
        let since = match (&self.protocol_type, self.state()) {
            (None, _) => offset.commit_timestamp_ms,
            (Some(_), GroupState::Empty) => self.state_since_ms.unwrap_or(offset.commit_timestamp_ms),
            (Some(_), GroupState::Stable) if self.uses_consumer_protocol() && self.subscribed_topics.is_some() => {
                offset.commit_timestamp_ms
            }
            _ => return false,
        };
        offset.is_expired(now, since, retention_ms)
    }
}
