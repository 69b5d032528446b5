//! Members of both protocols come, go, fall silent and change, writes fail and processes end, while the group goes from one
//! protocol to the other and back.

use std::collections::BTreeMap;

use corelane_coordinator::group::GroupConfig;
use corelane_protocol::ErrorCode;
use corelane_protocol::messages::ConsumerGroupHeartbeatResponse;
use proptest::prelude::*;

use crate::classic::{Classic, Waiting, classic};
use crate::harness::{Consumer, GROUP, Harness, Owned, Ticket, consumer};

#[derive(Clone, Copy, Debug)]
enum Step {
    Old(usize),
    New(usize),
    Act(usize),
    Leave(usize),
    Vanish(usize),
    Advance(i64),
    Hold,
    Write,
    Fail,
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let member = 0..4usize;
    let step = prop_oneof![
        3 => member.clone().prop_map(Step::Old),
        3 => member.clone().prop_map(Step::New),
        16 => member.clone().prop_map(Step::Act),
        2 => member.clone().prop_map(Step::Leave),
        1 => member.prop_map(Step::Vanish),
        2 => (1..90_000i64).prop_map(Step::Advance),
        1 => Just(Step::Hold),
        2 => Just(Step::Write),
        1 => Just(Step::Fail),
        1 => Just(Step::Restart),
    ];
    prop::collection::vec(step, 1..120)
}

enum Member {
    Old(Classic, Option<Waiting>),
    New(Consumer, Option<Ticket<ConsumerGroupHeartbeatResponse>>),
}

impl Member {
    fn owned(&self) -> &Owned {
        match self {
            Member::Old(member, _) => &member.owned,
            Member::New(member, _) => &member.owned,
        }
    }
}

struct World {
    harness: Harness,
    alive: BTreeMap<usize, Member>,
    lives: usize,
}

impl World {
    fn new() -> World {
        let mut harness = Harness::new(GroupConfig { initial_rebalance_delay_ms: 0, ..GroupConfig::default() });
        harness.topic("orders", 5);
        World { harness, alive: BTreeMap::new(), lives: 0 }
    }

    fn act(&mut self, index: usize) {
        self.hear();
        match self.alive.get_mut(&index) {
            Some(Member::Old(member, waiting @ None)) => *waiting = self.harness.act(member),
            Some(Member::New(member, waiting @ None)) => *waiting = Some(self.harness.send(1, &member.request())),
            _ => {}
        }
        self.hear();
    }

    fn hear(&mut self) {
        for member in self.alive.values_mut() {
            match member {
                Member::Old(member, waiting) => {
                    let heard = waiting.as_ref().and_then(|waiting| self.harness.hear(member, waiting));
                    if heard.is_some() {
                        *waiting = None;
                    }
                }
                Member::New(member, waiting) => {
                    if let Some(response) = waiting.as_ref().and_then(|waiting| self.harness.answer(waiting)) {
                        member.follow(&response);
                        *waiting = None;
                    }
                }
            }
        }
        // No partition is read by two members that are alive and known to be.
        let mut owners = BTreeMap::new();
        for (index, member) in &self.alive {
            for partition in member.owned() {
                assert_eq!(owners.insert(*partition, index), None, "{partition:?} is also read by {index}");
            }
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Old(index) if !self.alive.contains_key(&index) => {
                self.alive.insert(index, Member::Old(classic(&["orders"]), None));
            }
            Step::New(index) if !self.alive.contains_key(&index) => {
                self.lives += 1;
                let member = consumer(&format!("m{index}-{}", self.lives), &["orders"]);
                self.alive.insert(index, Member::New(member, None));
            }
            Step::Old(index) | Step::New(index) | Step::Act(index) => self.act(index),
            Step::Leave(index) => match self.alive.remove(&index) {
                Some(Member::Old(member, _)) if !member.id.is_empty() => drop(self.harness.leave_classic(&member.id)),
                Some(Member::New(member, _)) => {
                    let mut request = member.request();
                    (request.member_epoch, request.topic_partitions) = (-1, None);
                    self.harness.send(1, &request);
                }
                _ => {}
            },
            Step::Vanish(index) => drop(self.alive.remove(&index)),
            Step::Advance(ms) => {
                // Those who are alive say so in time: no answer takes as long as a session.
                self.harness.hold_writes = false;
                self.harness.complete_writes(usize::MAX);
                let mut left = ms;
                while left > 0 {
                    let pause = left.min(5_000);
                    self.harness.advance(pause);
                    left -= pause;
                    let alive: Vec<usize> = self.alive.keys().copied().collect();
                    alive.into_iter().for_each(|index| self.act(index));
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

proptest! {
    #![proptest_config(ProptestConfig { cases: 120, ..ProptestConfig::default() })]

    #[test]
    fn partitions_of_a_group_on_its_way_have_one_reader_and_in_the_end_all_have(steps in steps(), last in 0..2usize) {
        let mut world = World::new();
        steps.into_iter().for_each(|step| world.step(step));
        // In the end the writes succeed, the silent are out, and there is somebody who reads everything.
        world.step(Step::Advance(1));
        world.step(if last == 0 { Step::Old(3) } else { Step::New(3) });
        world.step(Step::Advance(200_000));
        let owned: Owned = world.alive.values().flat_map(|member| member.owned().clone()).collect();
        prop_assert_eq!(owned.len(), 5, "in group {} {:#?}", GROUP, world.harness.describe());
        let classic = world.alive.values().all(|member| matches!(member, Member::Old(..)));
        let described = world.harness.describe_classic();
        prop_assert_eq!(described.group_state == "Stable", classic, "{:#?}", described);
        world.harness.restart();
        world.harness.answers.clear();
        let again = world.harness.describe_classic();
        prop_assert_eq!(again.group_state, described.group_state);
    }
}

#[test]
fn who_has_not_heard_that_a_group_went_and_came_back_still_reads_what_it_read() {
    use Step::{Act, Advance, Leave, New, Old};
    let mut world = World::new();
    // The first member reads everything, and has not heard of the second when that has gone and the third comes.
    let steps = [Old(0), Advance(40_000), New(1), Act(1), Leave(1), New(2), Act(2)];
    steps.into_iter().for_each(|step| world.step(step));
    assert_eq!([0, 2].map(|member| world.alive[&member].owned().len()), [5, 0]);
    world.step(Advance(200_000));
    assert_eq!([0, 2].map(|member| world.alive[&member].owned().len()).iter().sum::<usize>(), 5);
}

#[test]
fn a_restart_does_not_forget_that_members_have_to_share_what_somebody_left() {
    use Step::{Advance, Leave, New, Old, Restart};
    let mut world = World::new();
    let steps = [New(0), Old(1), Old(2), Advance(40_000), Leave(0), Restart, Advance(200_000)];
    steps.into_iter().for_each(|step| world.step(step));
    assert_eq!([1, 2].map(|member| world.alive[&member].owned().len()).iter().sum::<usize>(), 5);
}
