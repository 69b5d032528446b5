//! Writes under way: what they change when they are durable, and how to take back what they already changed.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use bytes::Bytes;
use corelane_protocol::{ErrorCode, Str};
use hashbrown::HashMap;

use super::consumer::change::Change;
use super::coordinator::GroupCoordinator;
use super::offset_store::CommittedOffset;
use super::outcome::{Completed, Effects, Errand, Response, WaitToken, WriteId};
use super::reject;
use super::share::ShareState;
use super::static_join::StaticReplacement;
use super::streams::records::Change as StreamsChange;
use super::table::Group;
use crate::Now;

/// What happens to a group when a write about it ends.
#[derive(Debug)]
pub(crate) enum OnWritten {
    Nothing,
    /// The leader's assignment of a generation; members get it once it is stored.
    Assignment {
        incarnation: u64,
        generation: i32,
        assignments: BTreeMap<Str, Bytes>,
    },
    StaticMember(Box<StaticReplacement>),
    /// Something is to be done then, outside of the machine.
    Errand(Box<Errand>),
}

/// One change that a write made ahead of time.
#[derive(Debug)]
pub(crate) enum Undo {
    CreatedGroup { group: Str, incarnation: u64 },
    RemovedGroup(Box<Group>),
    ShareGroup { group: Str, incarnation: u64, state: Rc<ShareState> },
    Consumer { group: Str, incarnation: u64, back: Box<Change> },
    Streams { group: Str, incarnation: u64, back: Box<StreamsChange> },
    Offset { group: Str, topic: Str, partition: i32, previous: Option<CommittedOffset> },
    PendingOffset { producer_id: i64, group: Str, topic: Str, partition: i32, previous: Option<CommittedOffset> },
}

#[derive(Debug)]
pub(crate) struct PendingWrite {
    pub(crate) on_written: OnWritten,
    pub(crate) undo: Vec<Undo>,
    /// The groups whose records these are.
    pub(crate) groups: Vec<Str>,
    /// Answers that go out when the write is durable, or as errors when it is not.
    pub(crate) replies: Vec<(WaitToken, Response)>,
}

/// The writes under way, oldest first.
#[derive(Debug, Default)]
pub(crate) struct WriteLog {
    pending: VecDeque<(WriteId, PendingWrite)>,
    next: u64,
    /// Number and newest of the writes that touch a group.
    touching: HashMap<Str, (usize, WriteId)>,
    /// A write that could not even be encoded.
    doomed: Option<WriteId>,
}

impl WriteLog {
    pub(crate) fn push(&mut self, write: PendingWrite) -> WriteId {
        let id = WriteId(self.next);
        self.next += 1;
        for group in &write.groups {
            let entry = self.touching.entry(group.clone()).or_insert((0, id));
            *entry = (entry.0 + 1, id);
        }
        self.pending.push_back((id, write));
        id
    }

    pub(crate) fn fail_later(&mut self, id: WriteId) {
        self.doomed = Some(self.doomed.map_or(id, |other| other.min(id)));
    }

    fn take_doomed(&mut self) -> Option<WriteId> {
        self.doomed.take()
    }

    /// The newest write that touches `group`.
    pub(crate) fn last_of(&self, group: &str) -> Option<WriteId> {
        self.touching.get(group).map(|(_, id)| *id)
    }

    /// Lets an answer wait for a write under way.
    pub(crate) fn reply_after(&mut self, id: WriteId, token: WaitToken, response: impl Into<Response>) {
        let position = self.pending.binary_search_by_key(&id, |(id, _)| *id);
        let write = position.ok().and_then(|position| self.pending.get_mut(position));
        debug_assert!(write.is_some(), "{id:?} is not under way");
        if let Some((_, write)) = write {
            write.replies.push((token, response.into()));
        }
    }

    fn pop_up_to(&mut self, id: WriteId) -> Option<PendingWrite> {
        if self.pending.front()?.0 > id {
            return None;
        }
        let (_, write) = self.pending.pop_front()?;
        for group in &write.groups {
            if let Some(entry) = self.touching.get_mut(group) {
                entry.0 -= 1;
                if entry.0 == 0 {
                    self.touching.remove(group);
                }
            }
        }
        Some(write)
    }

    /// Takes out `id` and all that came after it, newest first.
    fn cut_off(&mut self, id: WriteId) -> Vec<PendingWrite> {
        let position = self.pending.partition_point(|(other, _)| *other < id);
        let cut = self.pending.split_off(position);
        self.touching.clear();
        for (id, write) in &self.pending {
            for group in &write.groups {
                let entry = self.touching.entry(group.clone()).or_insert((0, *id));
                *entry = (entry.0 + 1, *id);
            }
        }
        cut.into_iter().rev().map(|(_, write)| write).collect()
    }

    /// Where a write under way has changed this offset: what it would fall back to becomes `offset`, if that is the newer one.
    pub(crate) fn amend_undo(&mut self, group: &str, topic: &str, index: i32, offset: &CommittedOffset) {
        let changes = self.pending.iter_mut().flat_map(|(_, write)| &mut write.undo);
        let mut oldest = changes.filter_map(|undo| match undo {
            Undo::Offset { group: g, topic: t, partition, previous }
                if g == group && t == topic && *partition == index =>
            {
                Some(previous)
            }
            _ => None,
        });
        if let Some(previous) = oldest.next()
            && previous.as_ref().is_none_or(|previous| previous.order < offset.order)
        {
            *previous = Some(offset.clone());
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.pending.len()
    }

    pub(crate) fn drain(&mut self) -> impl Iterator<Item = PendingWrite> {
        self.touching.clear();
        std::mem::take(&mut self.pending).into_iter().map(|(_, write)| write)
    }
}

impl GroupCoordinator {
    /// The write `id` is durable, and so is every write before it.
    pub fn write_completed(&mut self, now: Now, id: WriteId) -> Effects {
        let mut out = Effects::default();
        while let Some(write) = self.writes.pop_up_to(id) {
            for (token, response) in write.replies {
                out.completed.push(Completed { token, response });
            }
            if let OnWritten::Errand(errand) = write.on_written {
                out.errands.push(*errand);
                continue;
            }
            let Some(group) = write.groups.first() else { continue };
            let (groups, mut env) = self.parts(now, &mut out);
            let Some(group) = groups.classic_mut(group) else { continue };
            match write.on_written {
                OnWritten::Nothing | OnWritten::Errand(_) => {}
                OnWritten::Assignment { incarnation, generation, assignments } => {
                    if group.incarnation == incarnation {
                        group.assignment_written(&mut env, generation, assignments);
                    }
                }
                OnWritten::StaticMember(replacement) => group.static_member_written(&mut env, *replacement),
            }
        }
        self.settle(now, &mut out);
        out
    }

    /// The write `id` will never be in the log, and neither will the writes after it: they are taken back.
    ///
    /// `error` is what appending gave, as Kafka names it; who waits gets what Kafka makes of it.
    pub fn write_failed(&mut self, now: Now, id: WriteId, error: ErrorCode) -> Effects {
        let mut out = Effects::default();
        self.roll_back(now, id, error, &mut out);
        self.settle(now, &mut out);
        out
    }

    fn roll_back(&mut self, now: Now, id: WriteId, error: ErrorCode, out: &mut Effects) {
        let mut failed = self.writes.cut_off(id);
        for write in &mut failed {
            for undo in std::mem::take(&mut write.undo).into_iter().rev() {
                self.take_back(now, undo, error, out);
            }
        }
        for write in failed.into_iter().rev() {
            for (token, response) in write.replies {
                out.completed.push(Completed { token, response: reject::after_write(response, error) });
            }
            let Some(group) = write.groups.first() else { continue };
            let (groups, mut env) = self.parts(now, out);
            let Some(group) = groups.classic_mut(group) else { continue };
            match write.on_written {
                OnWritten::Nothing | OnWritten::Errand(_) => {}
                OnWritten::Assignment { incarnation, generation, .. } => {
                    if group.incarnation == incarnation {
                        group.assignment_failed(&mut env, generation, reject::write_error(error));
                    }
                }
                OnWritten::StaticMember(replacement) => {
                    group.static_member_failed(&mut env, *replacement, reject::write_error(error));
                }
            }
        }
    }

    pub(super) fn take_back(&mut self, now: Now, undo: Undo, error: ErrorCode, out: &mut Effects) {
        match undo {
            Undo::Offset { group, topic, partition, previous } => {
                self.offsets.set(&group, &topic, partition, previous);
            }
            Undo::PendingOffset { producer_id, group, topic, partition, previous } => {
                self.pending.set(producer_id, &group, &topic, partition, previous);
            }
            Undo::CreatedGroup { group, incarnation } => {
                if self.groups.get(&group).is_some_and(|group| group.incarnation() == incarnation)
                    && let Some(mut group) = self.groups.remove(&group)
                {
                    let (_, mut env) = self.parts(now, out);
                    group.answer_all(&mut env, reject::write_error(error));
                }
            }
            Undo::ShareGroup { group, incarnation, state } => {
                let (groups, mut env) = self.parts(now, out);
                if let Some(group) = groups.share_mut(&group).filter(|group| group.incarnation == incarnation) {
                    group.restore(&mut env, state);
                }
            }
            Undo::Consumer { group, incarnation, back } => {
                let (groups, mut env) = self.parts(now, out);
                if let Some(group) = groups.consumer_mut(&group).filter(|group| group.incarnation == incarnation) {
                    group.apply(*back);
                    group.start_missing_sessions(&mut env);
                }
            }
            Undo::Streams { group, incarnation, back } => {
                let (groups, mut env) = self.parts(now, out);
                if let Some(group) = groups.streams_mut(&group).filter(|group| group.incarnation == incarnation) {
                    group.apply(*back);
                    group.start_missing_sessions(&mut env);
                }
            }
            Undo::RemovedGroup(mut group) => {
                let (groups, mut env) = self.parts(now, out);
                group.rearm(&mut env);
                groups.add(*group);
            }
        }
    }

    /// To be called last wherever something may have been written: fails what could not be encoded.
    pub(crate) fn settle(&mut self, now: Now, out: &mut Effects) {
        while let Some(id) = self.writes.take_doomed() {
            out.writes.retain(|write| write.id < id);
            self.roll_back(now, id, ErrorCode::UnknownServerError, out);
        }
    }
}
