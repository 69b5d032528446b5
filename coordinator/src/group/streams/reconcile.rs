//! The next step of a member towards its target assignment: give up what it is not to have, then get what others have given up.

use std::collections::{BTreeMap, BTreeSet};

use corelane_protocol::{ErrorCode, Str};
use hashbrown::{HashMap, HashSet};

use super::member::{CurrentAssignment, Member, MemberState};
use super::tasks::{AssignedTasks, EpochTasks, TaskSet, Tasks};
use crate::group::refusal::Refusal;

/// Which processes have which tasks, or have yet to give them up.
#[derive(Debug, Default)]
pub(crate) struct Holders<'a> {
    active: HashMap<(&'a Str, i32), &'a Str>,
    copies: HashMap<(&'a Str, i32), HashSet<&'a Str>>,
}

impl<'a> Holders<'a> {
    pub(crate) fn of(members: impl Iterator<Item = &'a Member>) -> Holders<'a> {
        let mut holders = Holders::default();
        for member in members {
            let process = &member.metadata.process_id;
            for tasks in [&member.current.assigned, &member.current.revoked] {
                for (id, partitions) in &tasks.active {
                    holders.active.extend(partitions.keys().map(|partition| ((id, *partition), process)));
                }
                for (id, partition) in [&tasks.standby, &tasks.warmup].into_iter().flat_map(super::tasks::each) {
                    holders.copies.entry((id, partition)).or_default().insert(process);
                }
            }
        }
        holders
    }

    fn has_copy(&self, task: (&Str, i32), process: &Str) -> bool {
        self.copies.get(&task).is_some_and(|processes| processes.contains(process))
    }

    /// A task has one active member, and its process no copy of it besides.
    fn keeps_active(&self, task: (&Str, i32), process: &Str) -> bool {
        self.active.contains_key(&task) || self.has_copy(task, process)
    }

    /// A process has a task once, whatever as.
    fn keeps_copy(&self, task: (&Str, i32), process: &Str) -> bool {
        self.active.get(&task).is_some_and(|other| *other == process) || self.has_copy(task, process)
    }
}

/// A member and where it is to get.
pub(crate) struct Reconciliation<'a> {
    pub(crate) current: &'a CurrentAssignment,
    pub(crate) process_id: &'a Str,
    pub(crate) target_epoch: i32,
    pub(crate) target: &'a TaskSet,
    /// What the member says that it has, if it says so.
    pub(crate) owned: Option<&'a TaskSet>,
    pub(crate) holders: &'a Holders<'a>,
}

impl Reconciliation<'_> {
    pub(crate) fn next(&self) -> Result<CurrentAssignment, Refusal> {
        let current = self.current;
        match current.state {
            MemberState::Stable if current.epoch == self.target_epoch => Ok(current.clone()),
            MemberState::Stable | MemberState::UnreleasedTasks => Ok(self.step(current.epoch)),
            MemberState::UnrevokedTasks => match self.owned {
                Some(owned) if !owned.has_any_of(&current.revoked) => Ok(self.step(current.epoch + 1)),
                _ => Ok(current.clone()),
            },
            MemberState::Unknown => match self.owned {
                Some(owned) if owned.is_empty() => Ok(self.step(self.target_epoch)),
                _ => Err(Refusal::new(
                    ErrorCode::FencedMemberEpoch,
                    "The streams group member is in a unknown state. The member must abandon all its tasks and rejoin.",
                )),
            },
        }
    }

    fn step(&self, epoch: i32) -> CurrentAssignment {
        let mut difference = Difference::default();
        let process = self.process_id;
        difference.active(self, |task| self.holders.keeps_active(task, process));
        let keeps_copy = |task: (&Str, i32)| self.holders.keeps_copy(task, process);
        let (assigned, target) = (&self.current.assigned, self.target);
        let standby = split(&assigned.standby, &target.standby, keeps_copy);
        let warmup = split(&assigned.warmup, &target.warmup, keeps_copy);
        difference.kept.standby = standby.kept;
        difference.kept.warmup = warmup.kept;
        difference.revoked.standby = standby.revoked;
        difference.revoked.warmup = warmup.revoked;
        difference.new.standby = standby.new;
        difference.new.warmup = warmup.new;
        difference.unreleased |= standby.unreleased | warmup.unreleased;

        let Difference { kept, revoked, new, unreleased } = difference;
        if !revoked.is_empty() && self.owned.is_none_or(|owned| owned.has_any_of(&revoked)) {
            // It stays in its epoch until it has given them up.
            let state = MemberState::UnrevokedTasks;
            return CurrentAssignment { epoch, previous_epoch: self.current.epoch, state, assigned: kept, revoked };
        }
        CurrentAssignment {
            epoch: self.target_epoch,
            previous_epoch: self.current.epoch,
            state: if unreleased { MemberState::UnreleasedTasks } else { MemberState::Stable },
            assigned: kept.merged_with(new),
            revoked: AssignedTasks::default(),
        }
    }
}

#[derive(Default)]
struct Difference {
    kept: AssignedTasks,
    revoked: AssignedTasks,
    new: AssignedTasks,
    /// Some of the target cannot be given yet.
    unreleased: bool,
}

impl Difference {
    fn active(&mut self, member: &Reconciliation<'_>, is_held: impl Fn((&Str, i32)) -> bool) {
        let (none, nothing) = (BTreeMap::new(), BTreeSet::new());
        let (current, target) = (&member.current.assigned.active, &member.target.active);
        let put = |into: &mut EpochTasks, id: &Str, partition: i32, epoch: i32| {
            into.entry(id.clone()).or_default().insert(partition, epoch);
        };
        for id in current.keys().chain(target.keys()).collect::<BTreeSet<_>>() {
            let (has, wants) = (current.get(id).unwrap_or(&none), target.get(id).unwrap_or(&nothing));
            for (partition, epoch) in has {
                let into = if wants.contains(partition) { &mut self.kept } else { &mut self.revoked };
                put(&mut into.active, id, *partition, *epoch);
            }
            for partition in wants.iter().filter(|partition| !has.contains_key(*partition)) {
                match is_held((id, *partition)) {
                    true => self.unreleased = true,
                    false => put(&mut self.new.active, id, *partition, member.target_epoch),
                }
            }
        }
    }
}

#[derive(Default)]
struct Split {
    kept: Tasks,
    revoked: Tasks,
    new: Tasks,
    unreleased: bool,
}

fn split(current: &Tasks, target: &Tasks, is_held: impl Fn((&Str, i32)) -> bool) -> Split {
    let mut split = Split::default();
    let put = |into: &mut Tasks, id: &Str, partition: i32| {
        into.entry(id.clone()).or_default().insert(partition);
    };
    for (id, partition) in super::tasks::each(current) {
        let wanted = super::tasks::contains(target, id, partition);
        put(if wanted { &mut split.kept } else { &mut split.revoked }, id, partition);
    }
    for (id, partition) in super::tasks::each(target).filter(|(id, p)| !super::tasks::contains(current, id, *p)) {
        match is_held((id, partition)) {
            true => split.unreleased = true,
            false => put(&mut split.new, id, partition),
        }
    }
    split
}

#[cfg(test)]
#[path = "reconcile_tests.rs"]
mod tests;
