//! Ranges: of each topic the members get consecutive partitions, the first ones one more if it does not come out even.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use corelane_protocol::{Str, Uuid};

use super::{GroupSpec, MemberSpec};
use crate::group::modern::partitions::Partitions;

struct Topic {
    partitions: i32,
    members: i32,
    /// How many members have been served.
    served: i32,
    next: i32,
}

pub(super) fn assign(group: &GroupSpec<'_>) -> BTreeMap<Str, Partitions> {
    let mut members: Vec<&MemberSpec<'_>> = group.members.iter().collect();
    members.sort_by(|a, b| by_instance(a, b));
    let mut topics: BTreeMap<Uuid, Topic> = BTreeMap::new();
    for topic in members.iter().flat_map(|member| member.topics.iter()) {
        let partitions = group.partitions_of(*topic);
        topics.entry(*topic).or_insert(Topic { partitions, members: 0, served: 0, next: 0 }).members += 1;
    }
    let mut assignments = BTreeMap::new();
    for member in members {
        let mut assignment = Partitions::new();
        for id in member.topics.iter() {
            let Some(topic) = topics.get_mut(id) else { continue };
            let count = topic.partitions / topic.members + i32::from(topic.served < topic.partitions % topic.members);
            let range = topic.next..topic.next + count;
            topic.served += 1;
            topic.next = range.end;
            if !range.is_empty() {
                assignment.insert(*id, range.collect());
            }
        }
        assignments.insert(member.id.clone(), assignment);
    }
    assignments
}

/// Static members come first, in the order of their instance ids: they keep their ranges when they come back.
fn by_instance(a: &MemberSpec<'_>, b: &MemberSpec<'_>) -> Ordering {
    match (a.instance_id, b.instance_id) {
        (Some(a), Some(b)) => a.cmp(b),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => a.id.cmp(&b.id),
    }
}
