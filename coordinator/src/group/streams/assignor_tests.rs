use std::collections::{BTreeMap, BTreeSet};

use corelane_protocol::Str;
use proptest::prelude::*;

use super::*;

fn topology(workloads: &[(i32, bool)]) -> BTreeMap<Str, Workload> {
    let named = |(number, (tasks, stateful)): (usize, &(i32, bool))| {
        (Str::from(number.to_string()), Workload { tasks: *tasks, stateful: *stateful })
    };
    workloads.iter().enumerate().map(named).collect()
}

/// Runs the assignor for members `process.number`.
fn run(
    members: &[(usize, usize)],
    previous: &BTreeMap<Str, TaskSet>,
    topology: &BTreeMap<Str, Workload>,
    replicas: usize,
) -> BTreeMap<Str, TaskSet> {
    let nothing = TaskSet::default();
    let named: Vec<(Str, Str)> =
        members.iter().map(|(p, m)| (Str::from(format!("{p:02}.{m:02}")), Str::from(format!("p{p}")))).collect();
    let candidates = named
        .iter()
        .map(|(id, process_id)| (id.clone(), Candidate { process_id, previous: previous.get(id).unwrap_or(&nothing) }))
        .collect();
    assign(&candidates, topology, replicas)
}

fn count(tasks: &Tasks) -> usize {
    tasks.values().map(BTreeSet::len).sum()
}

fn total(set: &TaskSet) -> usize {
    count(&set.active) + count(&set.standby)
}

#[test]
fn a_first_assignment_goes_by_ranges_over_the_processes() {
    let topology = topology(&[(4, false), (4, true)]);
    let assigned = run(&[(0, 0), (0, 1), (1, 0), (1, 1)], &BTreeMap::new(), &topology, 0);
    assert_eq!(assigned.len(), 4);
    assert!(assigned.values().all(|set| count(&set.active) == 2), "{assigned:?}");
}

#[test]
fn a_new_member_gets_its_share_and_the_others_keep_the_rest() {
    let topology = topology(&[(6, true)]);
    let before = run(&[(0, 0), (1, 0)], &BTreeMap::new(), &topology, 0);
    let after = run(&[(0, 0), (1, 0), (2, 0)], &before, &topology, 0);
    for (id, set) in &before {
        let kept: usize = each(&set.active).filter(|(s, p)| contains(&after[id].active, s, *p)).count();
        assert_eq!(kept, 2, "{id}: {after:?}");
    }
    assert_eq!(count(&after["02.00"].active), 2);
}

#[test]
fn a_task_goes_where_a_copy_of_its_state_is() {
    let topology = topology(&[(4, true)]);
    let before = run(&[(0, 0), (1, 0)], &BTreeMap::new(), &topology, 1);
    assert!(before.values().all(|set| count(&set.active) == 2 && count(&set.standby) == 2), "{before:?}");
    // the second goes, and a third comes
    let after = run(&[(0, 0), (2, 0)], &before, &topology, 1);
    let kept = &before["00.00"].active;
    assert_eq!(&after["00.00"].active, kept, "{after:?}");
    assert_eq!(count(&after["02.00"].active), 2);
    // without a third, all is where its copies are
    let after = run(&[(0, 0)], &before, &topology, 1);
    assert_eq!((count(&after["00.00"].active), count(&after["00.00"].standby)), (4, 0));
}

#[test]
fn without_members_nothing_is_assigned() {
    assert!(run(&[], &BTreeMap::new(), &topology(&[(3, true)]), 1).is_empty());
}

use crate::group::streams::tasks::{contains, each};

proptest! {
    /// Members come and go, workloads grow: every task is done once, copies are elsewhere, the work is even, and who stays keeps
    /// as much as is fair.
    #[test]
    fn every_task_has_one_worker_and_its_copies_others(
        workloads in prop::collection::vec((1..9i32, any::<bool>()), 1..5),
        steps in prop::collection::vec(prop::collection::btree_set((0..4usize, 0..3usize), 1..8), 1..6),
        replicas in 0..3usize,
    ) {
        let topology = topology(&workloads);
        let mut previous = BTreeMap::new();
        for members in steps {
            let members: Vec<_> = members.into_iter().collect();
            let assigned = run(&members, &previous, &topology, replicas);
            prop_assert_eq!(assigned.len(), members.len());
            let processes: BTreeSet<usize> = members.iter().map(|(process, _)| *process).collect();
            for (id, workload) in &topology {
                for partition in 0..workload.tasks {
                    let doing: Vec<&Str> =
                        assigned.iter().filter(|(_, set)| contains(&set.active, id, partition)).map(|(id, _)| id).collect();
                    prop_assert_eq!(doing.len(), 1, "{}-{}: {:?}", id, partition, &assigned);
                    let copies: Vec<&str> = assigned
                        .iter()
                        .filter(|(_, set)| contains(&set.standby, id, partition))
                        .map(|(id, _)| &id[..2])
                        .collect();
                    let wanted = if workload.stateful { replicas.min(processes.len() - 1) } else { 0 };
                    prop_assert_eq!(copies.len(), wanted, "{}-{}: {:?}", id, partition, &assigned);
                    let mut places: BTreeSet<&str> = copies.iter().copied().collect();
                    places.insert(&doing[0][..2]);
                    prop_assert_eq!(places.len(), copies.len() + 1, "a process has a task twice: {:?}", &assigned);
                }
            }
            let tasks: usize = assigned.values().map(|set| count(&set.active)).sum();
            // nobody keeps more than its share
            let share = tasks.div_ceil(members.len());
            for (id, set) in &assigned {
                let had = previous.get(id).map_or(0, |set: &TaskSet| count(&set.active));
                let kept = previous.get(id).map_or(0, |set: &TaskSet| {
                    each(&set.active).filter(|(s, p)| contains(&assigned[id].active, s, *p)).count()
                });
                prop_assert!(kept >= had.min(tasks / members.len()).min(share), "{id} kept {kept} of {had}: {set:?}");
            }
            // the same members and the same work, evenly spread: nobody's work is interrupted
            let again = run(&members, &assigned, &topology, replicas);
            let actives = |sets: &BTreeMap<Str, TaskSet>| sets.values().map(|set| set.active.clone()).collect::<Vec<_>>();
            let counts = || assigned.values().map(|set| count(&set.active));
            if counts().max() <= counts().min().map(|least| least + 1) {
                prop_assert_eq!(actives(&again), actives(&assigned));
            }
            prop_assert!(assigned.values().map(total).sum::<usize>() >= tasks);
            previous = assigned;
        }
    }
}
