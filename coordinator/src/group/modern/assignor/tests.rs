//! What assignors promise, over random groups.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use corelane_protocol::{Str, Uuid};
use proptest::prelude::*;

use super::{Assignor, GroupSpec, MemberSpec};
use crate::group::modern::partitions::Partitions;

fn topic(number: usize) -> Uuid {
    Uuid::from_u128(number as u128 + 10)
}

fn id(number: usize) -> Str {
    Str::from(format!("m{number:03}"))
}

type Subscriptions = BTreeMap<Str, BTreeSet<Uuid>>;

fn assign(
    assignor: Assignor,
    subscriptions: &Subscriptions,
    before: &BTreeMap<Str, Partitions>,
    counts: &BTreeMap<Uuid, i32>,
) -> BTreeMap<Str, Partitions> {
    let nothing = Partitions::new();
    let members: Vec<MemberSpec<'_>> = subscriptions
        .iter()
        .map(|(id, topics)| MemberSpec {
            id: id.clone(),
            instance_id: None,
            topics: Rc::new(topics.clone()),
            assigned: before.get(id).unwrap_or(&nothing),
        })
        .collect();
    let same_topics = members.windows(2).all(|pair| pair[0].topics == pair[1].topics);
    assignor.assign(&GroupSpec { members, same_topics, partition_counts: counts.clone() })
}

fn owners(assignment: &BTreeMap<Str, Partitions>) -> BTreeMap<(Uuid, i32), Str> {
    let mut owners = BTreeMap::new();
    for (member, partitions) in assignment {
        for (topic, indexes) in partitions {
            for index in indexes {
                assert_eq!(owners.insert((*topic, *index), member.clone()), None, "{topic}-{index} twice");
            }
        }
    }
    owners
}

fn check(subscriptions: &Subscriptions, assignment: &BTreeMap<Str, Partitions>, counts: &BTreeMap<Uuid, i32>) {
    let owners = owners(assignment);
    for (topic, count) in counts {
        let is_read = subscriptions.values().any(|topics| topics.contains(topic));
        for index in 0..*count {
            assert_eq!(owners.contains_key(&(*topic, index)), is_read, "{topic}-{index}");
        }
    }
    for ((topic, index), owner) in &owners {
        assert!(subscriptions[owner].contains(topic), "{owner} does not read {topic}");
        assert!(*index < counts[topic]);
    }
}

fn load(assignment: &BTreeMap<Str, Partitions>, member: &Str) -> usize {
    assignment.get(member).map_or(0, |partitions| partitions.values().map(BTreeSet::len).sum())
}

fn groups() -> impl Strategy<Value = (Subscriptions, BTreeMap<Uuid, i32>)> {
    let topics = prop::collection::vec(1..12i32, 1..5);
    topics.prop_flat_map(|counts| {
        let topics = counts.len();
        let members = prop::collection::vec(prop::collection::btree_set(0..topics, 1..=topics), 1..8);
        let counts: BTreeMap<Uuid, i32> = counts.into_iter().enumerate().map(|(n, count)| (topic(n), count)).collect();
        (members, Just(counts), any::<bool>()).prop_map(move |(members, counts, same)| {
            let first = members[0].clone();
            let read = |topics: BTreeSet<usize>| topics.into_iter().map(topic).collect();
            let members = members.into_iter().enumerate();
            let members = members.map(|(n, topics)| (id(n), read(if same { first.clone() } else { topics })));
            (members.collect(), counts)
        })
    })
}

proptest! {
    #[test]
    fn every_partition_has_one_reader_and_the_next_assignment_begins_with_the_last(
        (subscriptions, counts) in groups(),
        leaver in 0..8usize,
    ) {
        for assignor in [Assignor::Uniform, Assignor::Range] {
            let first = assign(assignor, &subscriptions, &BTreeMap::new(), &counts);
            check(&subscriptions, &first, &counts);
            let again = assign(assignor, &subscriptions, &first, &counts);
            prop_assert_eq!(owners(&again), owners(&first), "nothing has changed, {:?}", assignor);
            let mut fewer = subscriptions.clone();
            fewer.remove(&id(leaver));
            let before = first.into_iter().filter(|(member, _)| fewer.contains_key(member)).collect();
            let after = assign(assignor, &fewer, &before, &counts);
            check(&fewer, &after, &counts);
        }
    }

    #[test]
    fn members_of_the_same_topics_have_the_same_load(mut members in 1..9usize, partitions in 1..40i32, grow in 0..4usize) {
        let counts = BTreeMap::from([(topic(0), partitions), (topic(1), 5)]);
        let read = |members: usize| -> Subscriptions {
            (0..members).map(|n| (id(n), counts.keys().copied().collect())).collect()
        };
        let mut assignment = assign(Assignor::Uniform, &read(members), &BTreeMap::new(), &counts);
        for _ in 0..=grow {
            let loads: Vec<usize> = (0..members).map(|n| load(&assignment, &id(n))).collect();
            let (most, least) = (*loads.iter().max().unwrap(), *loads.iter().min().unwrap());
            prop_assert!(most - least <= 1, "{:?}", loads);
            members += 1;
            let after = assign(Assignor::Uniform, &read(members), &assignment, &counts);
            // Only the newcomer gets something that another had.
            let newcomer = id(members - 1);
            let before = owners(&assignment);
            for (partition, owner) in owners(&after) {
                prop_assert!(owner == newcomer || owner == before[&partition]);
            }
            assignment = after;
        }
    }
}

#[test]
fn ranges_are_consecutive_and_the_first_members_get_more() {
    let counts = BTreeMap::from([(topic(0), 7), (topic(1), 2)]);
    let subscriptions: Subscriptions = (0..3).map(|n| (id(n), counts.keys().copied().collect())).collect();
    let assignment = assign(Assignor::Range, &subscriptions, &BTreeMap::new(), &counts);
    assert_eq!(assignment[&id(0)], Partitions::from([(topic(0), BTreeSet::from([0, 1, 2])), (topic(1), [0].into())]));
    assert_eq!(assignment[&id(1)], Partitions::from([(topic(0), BTreeSet::from([3, 4])), (topic(1), [1].into())]));
    assert_eq!(assignment[&id(2)], Partitions::from([(topic(0), BTreeSet::from([5, 6]))]));
}

#[test]
fn different_subscriptions_are_balanced_as_far_as_they_allow() {
    let counts = BTreeMap::from([(topic(0), 10), (topic(1), 10)]);
    let subscriptions = Subscriptions::from([
        (id(0), [topic(0)].into()),
        (id(1), [topic(0), topic(1)].into()),
        (id(2), [topic(1)].into()),
    ]);
    let assignment = assign(Assignor::Uniform, &subscriptions, &BTreeMap::new(), &counts);
    check(&subscriptions, &assignment, &counts);
    let loads: Vec<usize> = (0..3).map(|n| load(&assignment, &id(n))).collect();
    assert!(loads.iter().all(|load| (6..=7).contains(load)), "{loads:?}");
}
