//! Who reads what: Kafka's `simple` assignor. Balance first, then as few changes as that allows.
//!
//! Every partition is read by equally many members, and every member reads equally many partitions, give or take one. Where
//! all subscribe to the same topics that holds over all their partitions together, else for each topic by itself. The order
//! is that of member ids and partitions, so that the same input gives the same assignment.

use std::collections::{BTreeSet, VecDeque};

use corelane_protocol::Uuid;

use super::Partitions;

/// A member, as far as it matters here.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    pub(super) topics: &'a BTreeSet<Uuid>,
    /// What it was assigned before.
    pub(super) current: Option<&'a Partitions>,
}

/// Spreads what can be read over members, which come in the order of their ids; gives each one's part in this order.
pub(super) fn assign(members: &[Reader<'_>], assignable: &Partitions) -> Vec<Partitions> {
    let mut parts = vec![Partitions::new(); members.len()];
    let of_topic = |topic: &Uuid| {
        let indexes = assignable.get(topic).into_iter().flatten();
        indexes.map(|index| (*topic, *index)).collect::<Vec<_>>()
    };
    let Some(first) = members.first() else { return parts };
    if members.iter().all(|member| member.topics == first.topics) {
        let partitions: Vec<_> = first.topics.iter().flat_map(of_topic).collect();
        let everybody: Vec<usize> = (0..members.len()).collect();
        Spread::new(&everybody, &partitions).run(members, &mut parts);
    } else {
        let topics: BTreeSet<&Uuid> = members.iter().flat_map(|member| member.topics).collect();
        for topic in topics {
            let reads = |place: &usize| members.get(*place).is_some_and(|member| member.topics.contains(topic));
            let readers: Vec<usize> = (0..members.len()).filter(reads).collect();
            Spread::new(&readers, &of_topic(topic)).run(members, &mut parts);
        }
    }
    parts
}

/// One share of the work: partitions that all of some members read.
struct Spread<'a> {
    readers: &'a [usize],
    partitions: &'a [(Uuid, i32)],
    /// How many members read each partition.
    sharing: usize,
    /// By place among the readers: the places of the partitions that each has.
    held: Vec<BTreeSet<usize>>,
    /// By place among the partitions: how many have it.
    shared: Vec<usize>,
}

impl<'a> Spread<'a> {
    fn new(readers: &'a [usize], partitions: &'a [(Uuid, i32)]) -> Spread<'a> {
        let sharing = if partitions.is_empty() { 0 } else { readers.len().div_ceil(partitions.len()) };
        let (held, shared) = (vec![BTreeSet::new(); readers.len()], vec![0; partitions.len()]);
        Spread { readers, partitions, sharing, held, shared }
    }

    /// How many partitions the reader in this place gets; these add up to what all partitions want.
    fn quota(&self, place: usize) -> usize {
        let total = self.sharing * self.partitions.len();
        let upto = |place: usize| (total * place).div_ceil(self.readers.len());
        upto(place + 1) - upto(place)
    }

    fn run(mut self, members: &[Reader<'_>], parts: &mut [Partitions]) {
        if self.readers.is_empty() || self.partitions.is_empty() {
            return;
        }
        self.keep(members);
        self.fill();
        self.even_out();
        for (reader, held) in self.readers.iter().zip(&self.held) {
            let Some(part) = parts.get_mut(*reader) else { continue };
            for (topic, index) in held.iter().filter_map(|place| self.partitions.get(*place)) {
                part.entry(*topic).or_default().insert(*index);
            }
        }
    }

    /// What was assigned before stays, as far as there is room for it.
    fn keep(&mut self, members: &[Reader<'_>]) {
        for (place, reader) in self.readers.iter().enumerate() {
            let quota = self.quota(place);
            let Some(current) = members.get(*reader).and_then(|member| member.current) else { continue };
            let Some(held) = self.held.get_mut(place) else { continue };
            for (at, ((topic, index), shared)) in self.partitions.iter().zip(&mut self.shared).enumerate() {
                let had = current.get(topic).is_some_and(|indexes| indexes.contains(index));
                if had && *shared < self.sharing && held.len() < quota {
                    held.insert(at);
                    *shared += 1;
                }
            }
        }
    }

    /// Those who may read more take turns.
    fn fill(&mut self) {
        let is_open = |place: &usize| self.held.get(*place).is_some_and(|held| held.len() < self.quota(*place));
        let mut open: VecDeque<usize> = (0..self.readers.len()).filter(is_open).collect();
        for at in 0..self.partitions.len() {
            while self.shared.get(at).is_some_and(|shared| *shared < self.sharing) {
                let lacks = |place: &usize| self.held.get(*place).is_some_and(|held| !held.contains(&at));
                let next = open.iter().position(lacks).and_then(|position| open.remove(position));
                let Some(place) = next else { break };
                self.give(place, at);
                if self.held.get(place).is_some_and(|held| held.len() < self.quota(place)) {
                    open.push_back(place);
                }
            }
        }
    }

    /// A reader with room may have everything that is still wanting: then it gets another partition, whose reader takes that.
    fn even_out(&mut self) {
        for at in 0..self.partitions.len() {
            while self.shared.get(at).is_some_and(|shared| *shared < self.sharing) {
                let has_room = |place: &usize| self.held.get(*place).is_some_and(|h| h.len() < self.quota(*place));
                let Some(open) = (0..self.readers.len()).find(has_room) else { break };
                let swap = self.held.iter().enumerate().find_map(|(giver, held)| {
                    let wanted = self.held.get(open)?;
                    let gift = held.iter().find(|partition| !wanted.contains(*partition))?;
                    (giver != open && !held.contains(&at)).then_some((giver, *gift))
                });
                let Some((giver, gift)) = swap else { break };
                self.take(giver, gift);
                self.give(open, gift);
                self.give(giver, at);
            }
        }
    }

    fn give(&mut self, place: usize, at: usize) {
        if self.held.get_mut(place).is_some_and(|held| held.insert(at))
            && let Some(shared) = self.shared.get_mut(at)
        {
            *shared += 1;
        }
    }

    fn take(&mut self, place: usize, at: usize) {
        if self.held.get_mut(place).is_some_and(|held| held.remove(&at))
            && let Some(shared) = self.shared.get_mut(at)
        {
            *shared -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TOPICS: u128 = 4;

    fn partitions(counts: &[i32]) -> Partitions {
        counts.iter().zip(1..).map(|(count, id)| (Uuid::from_u128(id), (0..*count).collect())).collect()
    }

    fn topics() -> impl Strategy<Value = BTreeSet<Uuid>> {
        proptest::collection::btree_set((1..=TOPICS).prop_map(Uuid::from_u128), 0..=TOPICS as usize)
    }

    /// Sizes of the parts, and how many read each partition, of what is of one of `topics`.
    fn loads(parts: &[&Partitions], assignable: &Partitions, topics: &BTreeSet<Uuid>) -> (Vec<usize>, Vec<usize>) {
        let count = |part: &&Partitions| part.iter().filter(|(t, _)| topics.contains(t)).map(|(_, p)| p.len()).sum();
        let wanted = assignable.iter().filter(|(topic, _)| topics.contains(topic));
        let readers = |topic: &Uuid, index: &i32| {
            parts.iter().filter(|part| part.get(topic).is_some_and(|p| p.contains(index))).count()
        };
        let shared = wanted.flat_map(|(topic, indexes)| indexes.iter().map(move |index| readers(topic, index)));
        (parts.iter().map(count).collect(), shared.collect())
    }

    fn assert_balanced(parts: &[&Partitions], assignable: &Partitions, topics: &BTreeSet<Uuid>) {
        let (sizes, shared) = loads(parts, assignable, topics);
        if let (Some(least), Some(most)) = (sizes.iter().min(), sizes.iter().max()) {
            assert!(most - least <= 1, "{sizes:?}");
        }
        if !parts.is_empty() {
            assert!(shared.iter().all(|readers| *readers == parts.len().div_ceil(shared.len())), "{shared:?}");
        }
    }

    proptest! {
        #[test]
        fn members_with_one_subscription_read_equally_much(
            topics in topics(),
            counts in proptest::collection::vec(0..9i32, TOPICS as usize),
            before in 0..12usize,
            after in 1..12usize,
        ) {
            let assignable = partitions(&counts);
            let readers: Vec<_> = (0..before).map(|_| Reader { topics: &topics, current: None }).collect();
            let first = assign(&readers, &assignable);
            let readers: Vec<_> = (0..after).map(|at| Reader { topics: &topics, current: first.get(at) }).collect();
            let second = assign(&readers, &assignable);
            assert_balanced(&second.iter().collect::<Vec<_>>(), &assignable, &topics);
            // Nothing moves when nothing changed.
            let readers: Vec<_> = second.iter().map(|part| Reader { topics: &topics, current: Some(part) }).collect();
            prop_assert_eq!(assign(&readers, &assignable), second);
        }

        #[test]
        fn each_topic_is_spread_over_those_who_subscribe_to_it(
            subscriptions in proptest::collection::vec((topics(), topics()), 1..9),
            counts in proptest::collection::vec(0..9i32, TOPICS as usize),
        ) {
            let assignable = partitions(&counts);
            let readers: Vec<_> = subscriptions.iter().map(|(t, _)| Reader { topics: t, current: None }).collect();
            let first = assign(&readers, &assignable);
            let next = subscriptions.iter().zip(&first);
            let readers: Vec<_> = next.map(|((_, t), part)| Reader { topics: t, current: Some(part) }).collect();
            let second = assign(&readers, &assignable);
            for (reader, part) in readers.iter().zip(&second) {
                prop_assert!(part.keys().all(|topic| reader.topics.contains(topic)));
            }
            if readers.iter().all(|reader| reader.topics == readers[0].topics) {
                return Ok(());
            }
            for topic in (1..=TOPICS).map(Uuid::from_u128) {
                let members = readers.iter().zip(&second).filter(|(reader, _)| reader.topics.contains(&topic));
                let parts: Vec<_> = members.map(|(_, part)| part).collect();
                assert_balanced(&parts, &assignable, &BTreeSet::from([topic]));
            }
        }

        #[test]
        fn who_leaves_moves_no_more_than_it_had(members in 2..9usize, count in 9..40i32) {
            let (topics, assignable) = (BTreeSet::from([Uuid::from_u128(1)]), partitions(&[count]));
            let readers: Vec<_> = (0..members).map(|_| Reader { topics: &topics, current: None }).collect();
            let first = assign(&readers, &assignable);
            let stay = first.iter().skip(1).map(|part| Reader { topics: &topics, current: Some(part) });
            let second = assign(&stay.collect::<Vec<_>>(), &assignable);
            let kept: usize = first.iter().skip(1).zip(&second).map(|(before, after)| {
                let kept = before.values().flatten().filter(|p| after.values().flatten().any(|q| q == *p));
                kept.count()
            }).sum();
            let had: usize = first.iter().skip(1).flat_map(|part| part.values()).map(BTreeSet::len).sum();
            // A quota may shrink by one with the place of its member.
            prop_assert!(kept + members >= had, "{} of {}", kept, had);
        }
    }
}
