//! Members that come, go, fall silent and are slow, topics that change, writes that fail and processes that end.

use std::collections::BTreeMap;

use corelane_coordinator::group::GroupCoordinator;
use corelane_protocol::messages::ConsumerGroupHeartbeatResponse;
use corelane_protocol::{ErrorCode, Str, Uuid};
use proptest::prelude::*;

use crate::harness::{Consumer, GROUP, Harness, Ticket, consumer, machine};

#[derive(Clone, Copy, Debug)]
enum Step {
    Join(usize),
    Beat(usize),
    Leave(usize),
    /// A static member, for a while.
    Away(usize),
    Vanish(usize),
    Topic(usize, i32),
    Advance(i64),
    Hold,
    Write,
    Fail,
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let member = 0..5usize;
    let step = prop_oneof![
        3 => member.clone().prop_map(Step::Join),
        12 => member.clone().prop_map(Step::Beat),
        1 => member.clone().prop_map(Step::Leave),
        1 => member.clone().prop_map(Step::Away),
        1 => member.prop_map(Step::Vanish),
        1 => (0..3usize, 0..6i32).prop_map(|(topic, partitions)| Step::Topic(topic, partitions)),
        2 => (1..50_000i64).prop_map(Step::Advance),
        1 => Just(Step::Hold),
        2 => Just(Step::Write),
        1 => Just(Step::Fail),
        1 => Just(Step::Restart),
    ];
    prop::collection::vec(step, 1..120)
}

const TOPICS: [&str; 3] = ["orders.a", "orders.b", "bills"];

/// One of the members: some by name, one static, one by a regular expression.
fn member(index: usize, life: usize) -> Consumer {
    let id = format!("m{index}-{life}");
    match index {
        0 => consumer(&id, &["orders.a"]).named("zero"),
        1 => consumer(&id, &["orders.a", "bills"]),
        2 => consumer(&id, &[]).matching("orders.*"),
        _ => consumer(&id, &TOPICS),
    }
}

#[derive(Default)]
struct World {
    harness: Harness,
    alive: BTreeMap<usize, Consumer>,
    waiting: Vec<(usize, Str, Ticket<ConsumerGroupHeartbeatResponse>)>,
    lives: usize,
}

impl World {
    fn beat(&mut self, index: usize) {
        if self.waiting.iter().any(|(other, ..)| *other == index) {
            return;
        }
        let Some(consumer) = self.alive.get(&index) else { return };
        let ticket = self.harness.send(1, &consumer.request());
        self.waiting.push((index, consumer.id.clone(), ticket));
        self.hear();
    }

    fn hear(&mut self) {
        for (index, id, ticket) in std::mem::take(&mut self.waiting) {
            match self.harness.answer(&ticket) {
                Some(response) => {
                    if let Some(consumer) = self.alive.get_mut(&index).filter(|consumer| consumer.id == id) {
                        consumer.follow(&response);
                    }
                }
                None => self.waiting.push((index, id, ticket)),
            }
        }
        self.check();
    }

    /// No partition is read by two members that are alive and known to be.
    fn check(&self) {
        let mut owners: BTreeMap<(Uuid, i32), &Str> = BTreeMap::new();
        for consumer in self.alive.values() {
            for partition in &consumer.owned {
                let other = owners.insert(*partition, &consumer.id);
                assert_eq!(other, None, "{partition:?} is also read by {}", consumer.id);
            }
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Join(index) => {
                if !self.alive.contains_key(&index) {
                    self.lives += 1;
                    self.alive.insert(index, member(index, self.lives));
                }
                self.beat(index);
            }
            Step::Beat(index) => self.beat(index),
            Step::Leave(index) | Step::Away(index) => {
                if let Some(consumer) = self.alive.remove(&index) {
                    let away = matches!(step, Step::Away(_)) && consumer.instance_id.is_some();
                    let mut request = consumer.request();
                    request.member_epoch = if away { -2 } else { -1 };
                    request.topic_partitions = None;
                    self.harness.send(1, &request);
                }
            }
            Step::Vanish(index) => drop(self.alive.remove(&index)),
            Step::Topic(topic, partitions) => {
                let before = self.harness.cluster.topics.get(TOPICS[topic]).map_or(0, |(_, count)| *count);
                // A topic that exists only grows.
                self.harness.topic(TOPICS[topic], if partitions == 0 { 0 } else { partitions.max(before) });
            }
            Step::Advance(ms) => {
                // Those who are alive say so in time: no answer takes as long as a session.
                self.harness.hold_writes = false;
                self.harness.complete_writes(usize::MAX);
                self.hear();
                let mut left = ms;
                while left > 0 {
                    let pause = left.min(5_000);
                    self.harness.advance(pause);
                    left -= pause;
                    let alive: Vec<usize> = self.alive.keys().copied().collect();
                    alive.into_iter().for_each(|index| self.beat(index));
                }
            }
            Step::Hold => self.harness.hold_writes = true,
            Step::Write => {
                self.harness.complete_writes(1);
                self.harness.hold_writes &= !self.harness.under_way.is_empty();
            }
            Step::Fail => {
                self.harness.fail_writes(ErrorCode::NotEnoughReplicas);
                self.harness.hold_writes = false;
            }
            Step::Restart => {
                self.harness.hold_writes = false;
                self.harness.restart();
                self.hear();
                self.harness.answers.clear();
            }
        }
        self.hear();
    }
}

fn replayed_prefix(harness: &Harness, records: usize) -> GroupCoordinator {
    let mut machine = machine(&harness.config);
    for record in &harness.log[..records] {
        machine.replay(harness.now, record.key.clone(), record.value.clone(), None).unwrap();
    }
    machine
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 160, ..ProptestConfig::default() })]

    #[test]
    fn partitions_have_one_reader_at_most_and_in_the_end_exactly_one(steps in steps()) {
        let mut world = World::default();
        world.harness.topic("orders.a", 4);
        for step in steps {
            world.step(step);
            if world.harness.under_way.is_empty() {
                let replayed = world.harness.replayed();
                let group = Str::from(GROUP);
                prop_assert_eq!(replayed.describe_consumer_group(&group), world.harness.describe());
                prop_assert_eq!(replayed.counts().members, world.harness.machine.counts().members);
            }
        }
        // In the end the writes succeed, the silent are out, and there are members who read everything.
        world.harness.hold_writes = false;
        world.harness.complete_writes(usize::MAX);
        world.hear();
        world.step(Step::Join(4));
        world.step(Step::Advance(60_000));
        let mut consumers: Vec<Consumer> = world.alive.values().cloned().collect();
        world.harness.settle(&mut consumers);
        let topics: Vec<String> = world.harness.cluster.topics.keys().cloned().collect();
        let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
        world.harness.assert_covered(&consumers, &topics);
    }

    #[test]
    fn every_prefix_of_the_log_is_a_group_that_can_go_on(steps in steps(), cut in 0..100usize) {
        let mut world = World::default();
        world.harness.topic("orders.a", 4);
        steps.into_iter().for_each(|step| world.step(step));
        let records = world.harness.log.len() * cut / 100;
        let mut harness = Harness::default();
        harness.machine = replayed_prefix(&world.harness, records);
        harness.log = world.harness.log[..records].to_vec();
        harness.now = world.harness.now;
        harness.machine.finish_loading(harness.now);
        harness.topic("orders.a", 4);
        harness.topic("bills", 2);
        // Whoever is in there is silent and gives way.
        harness.advance(120_000);
        let mut consumers = vec![consumer("x", &["orders.a", "bills"]), consumer("y", &["bills", "orders.a"])];
        harness.settle(&mut consumers);
        harness.assert_covered(&consumers, &["orders.a", "bills"]);
    }
}
