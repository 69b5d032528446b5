//! The sticky assignor: who is to work on which task.
//!
//! A task stays where it is, or goes where a copy of its state is, as long as no member gets more than its share; what is left
//! goes to the process with the least work for each of its members, and there to the member with the fewest tasks. Copies of
//! state go to processes that do not have the task already. Judge it by Kafka's `StickyTaskAssignor`; where that leaves a tie
//! to the order of a hash table, the least id comes first here.

use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use corelane_protocol::Str;
use hashbrown::{HashMap, HashSet};

use super::tasks::{TaskSet, Tasks};

/// What the assignor knows of a member.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Candidate<'a> {
    pub(crate) process_id: &'a Str,
    /// What it was to work on so far.
    pub(crate) previous: &'a TaskSet,
}

/// What there is to do for one subtopology.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Workload {
    pub(crate) tasks: i32,
    /// It has state, of which there can be copies.
    pub(crate) stateful: bool,
}

/// Gives every task of `topology` to one of `members`, and copies of it to others; none if there are no members.
pub(crate) fn assign(
    members: &BTreeMap<Str, Candidate<'_>>,
    topology: &BTreeMap<Str, Workload>,
    standby_replicas: usize,
) -> BTreeMap<Str, TaskSet> {
    if members.is_empty() {
        return BTreeMap::new();
    }
    let mut assignor = Assignor::new(members, topology, standby_replicas);
    let all = tasks_of(topology, |_| true);
    assignor.assign_active(all);
    if standby_replicas > 0 {
        assignor.assign_standby(tasks_of(topology, |workload| workload.stateful), standby_replicas);
    }
    assignor.result(members, topology)
}

/// Subtopologies are counted in the order of their ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Task {
    subtopology: usize,
    partition: i32,
}

fn tasks_of(topology: &BTreeMap<Str, Workload>, wanted: impl Fn(&Workload) -> bool) -> Vec<Task> {
    let of = |(subtopology, workload): (usize, &Workload)| {
        let count = if wanted(workload) { workload.tasks } else { 0 };
        (0..count).map(move |partition| Task { subtopology, partition })
    };
    topology.values().enumerate().flat_map(of).collect()
}

/// Place of a member: its process, and its place there.
#[derive(Clone, Copy, Debug)]
struct Place {
    process: usize,
    member: usize,
}

#[derive(Debug, Default)]
struct Worker {
    active: BTreeSet<Task>,
    standby: BTreeSet<Task>,
}

impl Worker {
    fn tasks(&self) -> usize {
        self.active.len() + self.standby.len()
    }
}

#[derive(Debug, Default)]
struct Process {
    workers: Vec<Worker>,
    tasks: HashSet<Task>,
    count: usize,
}

impl Process {
    fn load(&self) -> Load {
        Load { tasks: self.count, workers: self.workers.len() }
    }
}

/// Tasks for each member of a process.
#[derive(Clone, Copy, Debug)]
struct Load {
    tasks: usize,
    workers: usize,
}

impl Ord for Load {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.tasks * other.workers).cmp(&(other.tasks * self.workers))
    }
}

impl PartialOrd for Load {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Load {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Load {}

/// What one member may get: the share shrinks or grows with what is left once a member is full.
#[derive(Debug)]
struct Quota {
    tasks: usize,
    members: usize,
    each: usize,
}

impl Quota {
    fn new(tasks: usize, members: usize) -> Quota {
        Quota { tasks, members, each: tasks.checked_div(members).map_or(0, |_| tasks.div_ceil(members)) }
    }

    /// A member has `tasks` now.
    fn note(&mut self, tasks: usize) {
        if tasks == self.each {
            *self = Quota::new(self.tasks.saturating_sub(tasks), self.members.saturating_sub(1));
        }
    }
}

struct Assignor {
    processes: Vec<Process>,
    places: Vec<Place>,
    previous_active: HashMap<Task, Place>,
    previous_standby: HashMap<Task, Vec<Place>>,
    active: Quota,
    total: Quota,
}

type Queue = BinaryHeap<Reverse<(Load, usize)>>;

impl Assignor {
    fn new(
        members: &BTreeMap<Str, Candidate<'_>>,
        topology: &BTreeMap<Str, Workload>,
        standby_replicas: usize,
    ) -> Assignor {
        let numbers: HashMap<&Str, usize> = topology.keys().enumerate().map(|(number, id)| (id, number)).collect();
        let tasks = |tasks: &Tasks| -> Vec<Task> {
            let of = |(id, partitions): (&Str, &BTreeSet<i32>)| {
                let subtopology = numbers.get(id).copied()?;
                Some(partitions.iter().map(|p| Task { subtopology, partition: *p }).collect::<Vec<_>>())
            };
            tasks.iter().filter_map(of).flatten().collect()
        };
        let mut by_id: BTreeMap<&Str, usize> = members.values().map(|member| (member.process_id, 0)).collect();
        by_id.values_mut().enumerate().for_each(|(number, slot)| *slot = number);
        let mut processes: Vec<Process> = by_id.iter().map(|_| Process::default()).collect();
        let mut places = Vec::with_capacity(members.len());
        let (mut previous_active, mut previous_standby) = (HashMap::new(), HashMap::new());
        for member in members.values() {
            let process = by_id.get(member.process_id).copied().unwrap_or_default();
            let Some(of) = processes.get_mut(process) else { continue };
            let place = Place { process, member: of.workers.len() };
            of.workers.push(Worker::default());
            places.push(place);
            previous_active.extend(tasks(&member.previous.active).into_iter().map(|task| (task, place)));
            for task in tasks(&member.previous.standby) {
                previous_standby.entry(task).or_insert_with(Vec::new).push(place);
            }
        }
        let count = |workload: &Workload| workload.tasks.max(0) as usize;
        let active = topology.values().map(count).sum();
        let copies: usize = topology.values().filter(|w| w.stateful).map(|w| count(w) * standby_replicas).sum();
        Assignor {
            processes,
            previous_active,
            previous_standby,
            active: Quota::new(active, places.len()),
            total: Quota::new(active + copies, places.len()),
            places,
        }
    }

    fn process(&self, place: Place) -> Option<&Process> {
        self.processes.get(place.process)
    }

    fn count(&self, place: Place) -> usize {
        self.process(place).and_then(|process| process.workers.get(place.member)).map_or(0, Worker::tasks)
    }

    fn has(&self, place: Place, task: Task) -> bool {
        self.process(place).is_some_and(|process| process.tasks.contains(&task))
    }

    fn give(&mut self, place: Place, task: Task, active: bool) {
        let Some(process) = self.processes.get_mut(place.process) else { return };
        let Some(worker) = process.workers.get_mut(place.member) else { return };
        if active {
            worker.active.insert(task)
        } else {
            worker.standby.insert(task)
        };
        let count = worker.tasks();
        process.tasks.insert(task);
        process.count += 1;
        if active {
            self.active.note(count);
        }
        self.total.note(count);
    }

    /// The member of a process with the fewest tasks.
    fn least_busy(&self, process: usize) -> Option<Place> {
        let workers = &self.processes.get(process)?.workers;
        let (member, _) = workers.iter().enumerate().min_by_key(|(_, worker)| worker.tasks())?;
        Some(Place { process, member })
    }

    fn queue(&self) -> Queue {
        self.processes.iter().enumerate().map(|(number, process)| Reverse((process.load(), number))).collect()
    }

    fn requeue(&self, queue: &mut Queue, number: usize) {
        if let Some(process) = self.processes.get(number) {
            queue.push(Reverse((process.load(), number)));
        }
    }

    fn assign_active(&mut self, mut tasks: Vec<Task>) {
        // An assignment so far keeps like partitions together: they are looked at together.
        tasks.sort_unstable_by_key(|task| (task.partition, task.subtopology));
        tasks.retain(|task| {
            let previous = self.previous_active.get(task).copied();
            !previous.is_some_and(|place| self.give_active_within_quota(place, *task))
        });
        tasks.retain(|task| {
            let previous = self.least_loaded_of(*task, false);
            !previous.is_some_and(|place| self.give_active_within_quota(place, *task))
        });
        // A first assignment goes by ranges.
        tasks.sort_unstable();
        let mut queue = self.queue();
        for task in tasks {
            let Some(Reverse((_, process))) = queue.pop() else { return };
            if let Some(place) = self.least_busy(process) {
                self.give(place, task, true);
            }
            self.requeue(&mut queue, process);
        }
    }

    fn give_active_within_quota(&mut self, place: Place, task: Task) -> bool {
        let fits = self.count(place) < self.active.each;
        if fits {
            self.give(place, task, true);
        }
        fits
    }

    /// Of the members that had a copy of the task, one with little work. For another copy, not where the task is by now: as in
    /// Kafka it is the first member's process that decides whether there is any.
    fn least_loaded_of(&self, task: Task, for_copy: bool) -> Option<Place> {
        let places = self.previous_standby.get(&task)?;
        let load = |place: Place| self.process(place).map(Process::load);
        let first = *places.first()?;
        let mut candidate = first;
        for place in places.iter().copied().skip(1) {
            if load(place) < load(candidate)
                && !(for_copy && self.has(place, task))
                && self.count(place) < self.count(candidate)
            {
                candidate = place;
            }
        }
        Some(candidate).filter(|_| !(for_copy && self.has(first, task)))
    }

    fn assign_standby(&mut self, mut tasks: Vec<Task>, replicas: usize) {
        tasks.sort_unstable_by_key(|task| Reverse((task.partition, task.subtopology)));
        let mut left = Vec::new();
        for task in tasks {
            for copy in 0..replicas {
                let fits = |assignor: &Assignor, place: &Place| assignor.count(*place) < assignor.total.each;
                let active = self.previous_active.get(&task).copied();
                let place = active.filter(|place| !self.has(*place, task) && fits(self, place));
                let place = place.or_else(|| self.least_loaded_of(task, true).filter(|place| fits(self, place)));
                let Some(place) = place else {
                    left.push((task, replicas - copy));
                    break;
                };
                self.give(place, task, false);
            }
        }
        left.sort_unstable_by_key(|(task, _)| Reverse(*task));
        let mut queue = self.queue();
        for (task, copies) in left {
            for _ in 0..copies {
                if !self.give_copy_to_least_loaded(&mut queue, task) {
                    break;
                }
            }
        }
    }

    /// False if every process has the task already.
    fn give_copy_to_least_loaded(&mut self, queue: &mut Queue, task: Task) -> bool {
        let mut passed = Vec::new();
        let mut given = false;
        while let Some(Reverse((_, process))) = queue.pop() {
            passed.push(process);
            if self.processes.get(process).is_some_and(|process| !process.tasks.contains(&task)) {
                if let Some(place) = self.least_busy(process) {
                    self.give(place, task, false);
                    given = true;
                }
                break;
            }
        }
        passed.into_iter().for_each(|process| self.requeue(queue, process));
        given
    }

    fn result(
        &self,
        members: &BTreeMap<Str, Candidate<'_>>,
        topology: &BTreeMap<Str, Workload>,
    ) -> BTreeMap<Str, TaskSet> {
        let ids: Vec<&Str> = topology.keys().collect();
        let named = |tasks: &BTreeSet<Task>| {
            let mut named = Tasks::new();
            for task in tasks {
                if let Some(id) = ids.get(task.subtopology) {
                    named.entry((*id).clone()).or_default().insert(task.partition);
                }
            }
            named
        };
        let of = |place: &Place| {
            let worker = self.process(*place).and_then(|process| process.workers.get(place.member));
            worker.map_or_else(TaskSet::default, |worker| TaskSet {
                active: named(&worker.active),
                standby: named(&worker.standby),
                warmup: Tasks::new(),
            })
        };
        members.keys().cloned().zip(self.places.iter().map(of)).collect()
    }
}

#[cfg(test)]
#[path = "assignor_tests.rs"]
mod tests;
