//! Random share groups, restarts and failing writes against what must always hold.

use std::collections::BTreeMap;

use corelane_coordinator::group::{Errand, GroupCoordinator};
use corelane_protocol::Str;
use corelane_protocol::messages::*;
use proptest::prelude::*;

use crate::harness::errors::*;
use crate::harness::{Harness, topic_id};
use crate::share::{Consumer, consumer, context};

const TOPICS: [&str; 3] = ["t0", "t1", "t2"];
const MEMBERS: [&str; 6] = ["m0", "m1", "m2", "m3", "m4", "m5"];

#[derive(Clone, Debug)]
enum Step {
    Beat(usize),
    Subscribe(usize, u8),
    Leave(usize),
    Partitions(usize, i32),
    Initialized(bool),
    Advance(i64),
    WritesEnd,
    WritesFail,
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let who = 0..MEMBERS.len();
    prop_oneof![
        20 => who.clone().prop_map(Step::Beat),
        3 => (who.clone(), 1..8u8).prop_map(|(who, topics)| Step::Subscribe(who, topics)),
        2 => who.prop_map(Step::Leave),
        1 => (0..TOPICS.len(), 1..6i32).prop_map(|(topic, count)| Step::Partitions(topic, count)),
        5 => any::<bool>().prop_map(Step::Initialized),
        6 => (0..12_000i64).prop_map(Step::Advance),
        8 => Just(Step::WritesEnd),
        1 => Just(Step::WritesFail),
        1 => Just(Step::Restart),
    ]
}

fn subscription(bits: u8) -> Vec<&'static str> {
    TOPICS.iter().enumerate().filter(|(index, _)| bits & (1 << index) != 0).map(|(_, name)| *name).collect()
}

fn describe(machine: &mut GroupCoordinator) -> ShareGroupDescribeResponseDescribedGroup {
    let outcome = machine.share_group_describe(&Str::from("g"));
    match outcome.reply {
        corelane_coordinator::group::Reply::Now(described) => described,
        other => panic!("a write is under way: {other:?}"),
    }
}

struct World {
    harness: Harness,
    members: Vec<Consumer>,
}

impl World {
    fn beat(&mut self, who: usize) {
        let member = &mut self.members[who];
        let outcome = self.harness.machine.share_group_heartbeat(self.harness.now, &context(), &member.request());
        let ticket = self.harness.ticket(outcome);
        let Some(response) = self.harness.answer(ticket) else {
            member.lost = true;
            return;
        };
        match response.error_code {
            0 => member.take(&response),
            _ => member.epoch = 0,
        }
    }

    fn run(&mut self, step: &Step) {
        match step {
            Step::Beat(who) => self.beat(*who),
            Step::Subscribe(who, bits) => {
                self.members[*who].topics = subscription(*bits);
                self.members[*who].epoch = 0;
                self.beat(*who);
            }
            Step::Leave(who) => {
                let request = ShareGroupHeartbeatRequest { member_epoch: -1, ..self.members[*who].request() };
                let outcome = self.harness.machine.share_group_heartbeat(self.harness.now, &context(), &request);
                self.harness.ticket(outcome);
                self.members[*who].epoch = 0;
            }
            Step::Partitions(topic, count) => {
                let had = self.harness.topics.0.get(TOPICS[*topic]).copied().unwrap_or(0);
                self.harness.set_topic(TOPICS[*topic], had.max(*count));
            }
            Step::Initialized(failed) => {
                if let Some(Errand::InitializeShareState(asked)) = self.harness.errands.pop() {
                    let effects = self.harness.machine.share_state_initialized(self.harness.now, &asked, *failed);
                    self.harness.absorb(effects);
                }
            }
            Step::Advance(ms) => self.harness.advance(*ms),
            Step::WritesEnd => self.harness.complete_writes(),
            Step::WritesFail => self.harness.fail_writes(NotEnoughReplicas),
            Step::Restart => {
                // Nobody waits any more.
                self.harness.answers.clear();
                self.harness.restart();
                self.harness.answers.clear();
                self.harness.errands.clear();
            }
        }
    }

    /// What is stored is what there is.
    fn check_replay(&mut self) {
        self.harness.complete_writes();
        let machine = &mut self.harness.machine;
        let (described, initialized) = (describe(machine), machine.initialized_share_partitions("g"));
        let mut replayed = self.harness.replayed();
        assert_eq!(describe(&mut replayed), described);
        assert_eq!(replayed.initialized_share_partitions("g"), initialized);
    }

    /// Everybody is heard of until nothing changes: all that can be read is read, by those who subscribe to it.
    fn settle(&mut self) {
        self.harness.hold_writes = false;
        self.harness.complete_writes();
        // What was begun and forgotten is begun again after 30 seconds.
        for _ in 0..7 {
            self.harness.advance(10_000);
            (0..MEMBERS.len()).for_each(|who| self.beat(who));
            self.harness.initialize_share_states(false);
        }
        let mut readers = BTreeMap::new();
        for (topic, index) in self.members.iter().flat_map(|member| &member.assigned) {
            *readers.entry((*topic, *index)).or_insert(0) += 1;
        }
        for (name, count) in &self.harness.topics.0 {
            let subscribed = self.members.iter().filter(|member| member.topics.contains(name)).count();
            for index in 0..*count {
                let reading = readers.remove(&(topic_id(name), index)).unwrap_or(0);
                assert!(reading > 0 || subscribed == 0, "{name}-{index} is read by nobody");
                assert!(reading <= subscribed);
            }
        }
        assert_eq!(readers.len(), 0, "what does not exist is assigned");
        let described = describe(&mut self.harness.machine);
        assert_eq!(described.group_epoch, described.assignment_epoch);
        assert!(described.members.iter().all(|member| member.member_epoch == described.assignment_epoch));
        let log = self.harness.log.len();
        (0..MEMBERS.len()).for_each(|who| self.beat(who));
        assert_eq!(self.harness.log.len(), log, "a group that stands writes nothing");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..Default::default() })]
    #[test]
    fn everything_is_read_and_stored(
        subscriptions in proptest::collection::vec(1..8u8, MEMBERS.len()),
        steps in proptest::collection::vec(step(), 1..120),
    ) {
        let mut harness = Harness::default();
        harness.hold_writes = true;
        harness.set_topic("t0", 3);
        harness.set_topic("t1", 1);
        let named = MEMBERS.iter().zip(&subscriptions);
        let members = named.map(|(id, bits)| consumer("g", id, &subscription(*bits))).collect();
        let mut world = World { harness, members };
        for step in &steps {
            world.run(step);
            if matches!(step, Step::WritesEnd) {
                world.check_replay();
            }
        }
        world.settle();
        world.check_replay();
    }

    #[test]
    fn every_prefix_of_the_log_is_a_group(steps in proptest::collection::vec(step(), 1..60)) {
        let mut harness = Harness::default();
        harness.set_topic("t0", 3);
        let members = MEMBERS.iter().map(|id| consumer("g", id, &["t0", "t1"])).collect();
        let mut world = World { harness, members };
        let mut shown: BTreeMap<usize, ShareGroupDescribeResponseDescribedGroup> = BTreeMap::new();
        for step in &steps {
            world.run(step);
            shown.insert(world.harness.log.len(), describe(&mut world.harness.machine));
        }
        let log = std::mem::take(&mut world.harness.log);
        let mut machine = world.harness.replayed();
        for (count, record) in log.iter().enumerate() {
            machine.replay(world.harness.now, record.key.clone(), record.value.clone(), None).unwrap();
            let described = describe(&mut machine);
            if let Some(shown) = shown.get(&(count + 1)) {
                // The topic may have gone since: names are looked up.
                prop_assert_eq!(&described, shown);
            }
        }
    }
}
