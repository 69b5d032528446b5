//! Random members, failed writes and topics that come: what is stored is what the machine says, and no task is done by two.

use std::collections::BTreeMap;

use corelane_protocol::Str;
use proptest::prelude::*;

use super::harness::*;

#[derive(Clone, Debug)]
enum Step {
    Beat(usize),
    Leave(usize),
    /// The client was killed, and comes back under another id.
    Restart(usize),
    Pass(i64),
    /// The next beats' writes are held, and then fail or not.
    Hold,
    End {
        fail: bool,
    },
    Grow,
    Standby(i32),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        12 => (0..5usize).prop_map(Step::Beat),
        1 => (0..5usize).prop_map(Step::Leave),
        1 => (0..5usize).prop_map(Step::Restart),
        2 => prop_oneof![Just(100), Just(1_000), Just(20_000), Just(50_000)].prop_map(Step::Pass),
        1 => Just(Step::Hold),
        2 => any::<bool>().prop_map(|fail| Step::End { fail }),
        1 => Just(Step::Grow),
        1 => (0..3i32).prop_map(Step::Standby),
    ];
    prop::collection::vec(step, 1..80)
}

struct World {
    h: Harness,
    members: Vec<Member>,
    restarts: usize,
    partitions: i32,
}

impl World {
    /// No two members that the group counts with have the same task.
    fn check_owners(&self) {
        let mut owners: BTreeMap<(Str, i32), Str> = BTreeMap::new();
        for member in &self.h.describe().members {
            for ids in &member.assignment.active_tasks {
                for partition in &ids.partitions {
                    let task = (ids.subtopology_id.clone(), *partition);
                    if let Some(other) = owners.insert(task.clone(), member.member_id.clone()) {
                        panic!("{task:?} is {other}'s and {}'s", member.member_id);
                    }
                }
            }
        }
    }

    fn beat(&mut self, number: usize) {
        let request = self.members[number].request();
        // an answer that waits for a held write is lost: the client asks again
        if let Ok(answer) = self.h.send(&request) {
            self.members[number].follow(&answer.response);
            for topic in answer.missing {
                self.h.set_topic(&topic.name, topic.partitions);
            }
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Beat(number) => self.beat(number),
            Step::Leave(number) => {
                let _ = self.h.send(&self.members[number].leaving());
                self.members[number].abandon();
            }
            Step::Restart(number) => {
                self.restarts += 1;
                let process = self.members[number].process.clone();
                self.members[number] = member(&process, 10 + self.restarts);
            }
            Step::Pass(ms) => self.h.pass(ms),
            Step::Hold => self.h.hold_writes = true,
            Step::End { fail } => {
                self.h.hold_writes = false;
                match fail {
                    true => self.h.fail_writes(),
                    false => self.h.end_write(),
                }
                while !self.h.under_way.is_empty() {
                    self.h.end_write();
                }
            }
            Step::Grow => {
                self.partitions += 1;
                for topic in ["text", "words", "counts"] {
                    self.h.set_topic(topic, self.partitions);
                }
            }
            Step::Standby(copies) => self.h.settings.standby_replicas = copies,
        }
        self.check_owners();
        if self.h.under_way.is_empty() {
            let loaded = self.h.reloaded(&self.h.log);
            assert_eq!(stored(&loaded), stored(&self.h.machine), "after loading");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_group_is_what_its_log_says(steps in steps()) {
        let mut h = Harness::default();
        h.set_topic("text", 2);
        let members = (0..5).map(|number| member(["p", "q", "r"][number % 3], number)).collect();
        let mut world = World { h, members, restarts: 0, partitions: 2 };
        for step in steps {
            world.step(step);
        }
        // in the end everybody who is there gets its share, and all is done
        world.step(Step::End { fail: false });
        world.h.pass(50_000);
        world.members.iter_mut().for_each(Member::abandon);
        for _ in 0..30 {
            (0..world.members.len()).for_each(|number| world.beat(number));
        }
        let tasks: usize = world.members.iter().map(|member| member.active.len()).sum();
        prop_assert_eq!(tasks, 2 * world.partitions as usize, "{:?}", world.h.describe());
        prop_assert_eq!(&world.h.describe().group_state, "Stable");
        // every part of the log loads
        for end in 0..world.h.log.len() {
            world.h.reloaded(&world.h.log[..end]);
        }
    }
}
