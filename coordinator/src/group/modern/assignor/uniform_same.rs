//! Uniform assignment of members who all read the same topics: everyone keeps what it has, up to its share.

use std::collections::{BTreeMap, HashSet};

use corelane_protocol::{Str, Uuid};

use super::GroupSpec;
use crate::group::modern::partitions::Partitions;

pub(super) fn assign(group: &GroupSpec<'_>) -> BTreeMap<Str, Partitions> {
    let Some(topics) = group.members.first().map(|member| member.topics.clone()).filter(|topics| !topics.is_empty())
    else {
        return BTreeMap::new();
    };
    let assigned: HashSet<(Uuid, i32)> = group.members.iter().flat_map(|m| every(m.assigned)).collect();
    let of_topic = |topic: &Uuid| {
        let topic = *topic;
        (0..group.partitions_of(topic)).map(move |partition| (topic, partition))
    };
    let mut free: Vec<(Uuid, i32)> =
        topics.iter().flat_map(of_topic).filter(|partition| !assigned.contains(partition)).collect();
    let total: usize = topics.iter().map(|topic| group.partitions_of(*topic).max(0) as usize).sum();
    let members = group.members.len();
    let least = total / members;
    // So many members get one more.
    let mut extras = total % members;
    let mut assignments = BTreeMap::new();
    let mut unfilled: Vec<(Str, usize)> = Vec::new();
    for (index, member) in group.members.iter().enumerate() {
        let mut takes_extra = extras > 0;
        let mut room = least + usize::from(takes_extra);
        let mut kept = Partitions::new();
        for (topic, partition) in every(member.assigned) {
            // A topic of another id, or of fewer partitions than it once had, is gone.
            if !topics.contains(&topic) || partition >= group.partitions_of(topic) {
                continue;
            }
            if room > 0 {
                room -= 1;
                kept.entry(topic).or_default().insert(partition);
            } else {
                free.push((topic, partition));
            }
        }
        if room > 0 && takes_extra && members - index > extras {
            // Others may need the extra one more, as long as enough of them are left.
            room -= 1;
            takes_extra = false;
        }
        if room > 0 {
            unfilled.push((member.id.clone(), room));
        }
        extras -= usize::from(takes_extra);
        assignments.insert(member.id.clone(), kept);
    }
    let mut free = free.into_iter();
    for (id, room) in unfilled {
        let assignment: &mut Partitions = assignments.entry(id).or_default();
        for (topic, partition) in free.by_ref().take(room) {
            assignment.entry(topic).or_default().insert(partition);
        }
    }
    assignments
}

fn every(partitions: &Partitions) -> impl Iterator<Item = (Uuid, i32)> {
    partitions.iter().flat_map(|(topic, indexes)| indexes.iter().map(|index| (*topic, *index)))
}
