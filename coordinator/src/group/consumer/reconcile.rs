//! From what a member has to what it is meant to have: give up first, then take what is free.
//! (Kafka: `CurrentAssignmentBuilder`.)

use std::collections::BTreeSet;

use corelane_protocol::messages::ConsumerGroupHeartbeatRequestTopicPartitions;
use corelane_protocol::{ErrorCode, Uuid};

use super::member::{Current, MemberState};
use crate::group::modern::partitions::{Owned, Partitions, has};
use crate::group::refusal::Refusal;

/// What decides about a member's next step.
pub(super) struct Step<'a> {
    pub(super) current: &'a Current,
    pub(super) target_epoch: i32,
    pub(super) target: &'a Partitions,
    /// The topics that the member reads, as far as they exist.
    pub(super) topics: &'a BTreeSet<Uuid>,
    pub(super) subscription_changed: bool,
    /// What the member says it owns; nothing if it did not say.
    pub(super) owned: Option<&'a [ConsumerGroupHeartbeatRequestTopicPartitions]>,
    /// Whether a member has the partition.
    pub(super) is_owned: &'a dyn Fn(Uuid, i32) -> bool,
}

impl Step<'_> {
    /// What the member has next; the same as now if it cannot go on.
    pub(super) fn next(&self) -> Result<Current, Refusal> {
        let current = self.current;
        match current.state {
            MemberState::Stable if current.epoch != self.target_epoch => Ok(self.advance(current.epoch)),
            MemberState::Revoking if !self.still_owns(&current.revoking) => Ok(self.advance(current.epoch)),
            MemberState::Waiting => Ok(self.advance(current.epoch)),
            MemberState::Stable | MemberState::Revoking if self.subscription_changed => Ok(self.drop_unread()),
            MemberState::Stable | MemberState::Revoking => Ok(current.clone()),
            MemberState::Unknown if self.owned.is_some_and(<[_]>::is_empty) => Ok(self.advance(self.target_epoch)),
            MemberState::Unknown => Err(Refusal::new(
                ErrorCode::FencedMemberEpoch,
                "The consumer group member is in a unknown state. The member must abandon all its partitions and rejoin.",
            )),
        }
    }

    fn still_owns(&self, partitions: &Owned) -> bool {
        let Some(owned) = self.owned else { return true };
        owned.iter().any(|topic| topic.partitions.iter().any(|partition| has(partitions, topic.topic_id, *partition)))
    }

    /// Takes the partitions from the member that it no longer subscribes to.
    fn drop_unread(&self) -> Current {
        let current = self.current;
        let (assigned, unread): (Owned, Owned) =
            current.assigned.iter().map(|(t, p)| (*t, p.clone())).partition(|(topic, _)| self.topics.contains(topic));
        if unread.is_empty() {
            return current.clone();
        }
        let mut revoking = current.revoking.clone();
        for (topic, partitions) in unread {
            revoking.entry(topic).or_default().extend(partitions);
        }
        let next = Current { previous_epoch: current.epoch, assigned, ..current.clone() };
        match self.still_owns(&revoking) {
            true => Current { state: MemberState::Revoking, revoking, ..next },
            false => next,
        }
    }

    fn advance(&self, epoch: i32) -> Current {
        let current = self.current;
        let nothing = BTreeSet::new();
        let (mut assigned, mut revoking) = (Owned::new(), Owned::new());
        let mut free: Vec<(Uuid, i32)> = Vec::new();
        let mut is_waiting = false;
        let topics: BTreeSet<Uuid> = self.target.keys().chain(current.assigned.keys()).copied().collect();
        for topic in topics {
            let target = self.target.get(&topic).filter(|_| self.topics.contains(&topic)).unwrap_or(&nothing);
            let mut held = 0;
            for (partition, since) in current.assigned.get(&topic).into_iter().flatten() {
                let kept = target.contains(partition);
                let to = if kept { &mut assigned } else { &mut revoking };
                to.entry(topic).or_default().insert(*partition, *since);
                held += usize::from(kept);
            }
            if held == target.len() {
                continue;
            }
            for partition in target.iter().filter(|partition| !has(&current.assigned, topic, **partition)) {
                // What the member itself is giving up it may take back.
                if (self.is_owned)(topic, *partition) && !has(&current.revoking, topic, *partition) {
                    is_waiting = true;
                } else {
                    free.push((topic, *partition));
                }
            }
        }
        if !revoking.is_empty() && self.still_owns(&revoking) {
            return Current { epoch, previous_epoch: current.epoch, state: MemberState::Revoking, assigned, revoking };
        }
        for (topic, partition) in free {
            assigned.entry(topic).or_default().insert(partition, self.target_epoch);
        }
        Current {
            epoch: self.target_epoch,
            previous_epoch: current.epoch,
            state: if is_waiting { MemberState::Waiting } else { MemberState::Stable },
            assigned,
            revoking: Owned::new(),
        }
    }
}
