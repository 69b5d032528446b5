//! What is in flight, against a naive model that knows every offset by itself: random members, lost writes, locks that end, a log
//! that is cut and a leader that goes and comes back.

use std::collections::{BTreeMap, VecDeque};

use corelane_coordinator::share::in_flight::*;
use corelane_coordinator::share::*;
use corelane_protocol::ErrorCode;
use proptest::prelude::*;

use crate::harness::{Harness, key};

const MEMBERS: [&str; 3] = ["a", "b", "c"];
const LIMITS: InFlightLimits = InFlightLimits { max_records: 40, max_delivery_count: 4, lock_ms: 1_000, renew: true };

#[derive(Clone, Debug, PartialEq)]
struct Cell {
    state: RecordState,
    count: i16,
    owner: Option<(usize, i64)>,
    storing: Option<StoreId>,
}

#[derive(Clone, Debug)]
enum Step {
    Append(Vec<i64>),
    Fetch {
        member: usize,
        exact: bool,
        max: i32,
        batch_size: i32,
        batches: usize,
        aborted: Option<usize>,
    },
    /// Of what the member has, from the n-th on so many, each with one of these types.
    Acknowledge {
        member: usize,
        skip: usize,
        types: Vec<i8>,
        whole: bool,
    },
    /// Whatever lies there.
    AcknowledgeAny {
        member: usize,
        first: i64,
        types: Vec<i8>,
    },
    Release(usize),
    Wait(i64),
    Stored(bool),
    Cut(i64),
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let who = 0..MEMBERS.len();
    let types = || {
        proptest::collection::vec(
            prop_oneof![6 => Just(1i8), 3 => Just(2), 2 => Just(3), 1 => Just(0), 1 => Just(4)],
            1..12,
        )
    };
    let fetch = (who.clone(), any::<bool>(), 1..25, 1..12, 1usize..5, proptest::option::weighted(0.1, 0usize..4));
    prop_oneof![
        3 => proptest::collection::vec(1i64..9, 1..4).prop_map(Step::Append),
        10 => fetch.prop_map(|(member, exact, max, batch_size, batches, aborted)| {
            Step::Fetch { member, exact, max, batch_size, batches, aborted }
        }),
        8 => (who.clone(), 0usize..10, types(), any::<bool>())
            .prop_map(|(member, skip, types, whole)| Step::Acknowledge { member, skip, types, whole }),
        1 => (who.clone(), 0i64..60, types()).prop_map(|(member, first, types)| Step::AcknowledgeAny { member, first, types }),
        2 => who.prop_map(Step::Release),
        2 => (1i64..1_500).prop_map(Step::Wait),
        6 => prop_oneof![5 => Just(true), 1 => Just(false)].prop_map(Step::Stored),
        1 => (1i64..20).prop_map(Step::Cut),
        1 => Just(Step::Restart),
    ]
}

/// What was asked to be stored, and whether it is the end of locks.
type Store = (ToStore, bool);

struct World {
    machine: SharePartition,
    cells: BTreeMap<i64, Cell>,
    coordinator: Harness,
    storing: VecDeque<Store>,
    now: i64,
    /// First offset of each batch of the log, and the log's end.
    log: Vec<i64>,
    log_end: i64,
    log_start: i64,
    /// Stored for good: no member may see these again.
    accepted: BTreeMap<i64, ()>,
}

impl World {
    fn new() -> World {
        let mut coordinator = Harness::new(ShareConfig { updates_per_snapshot: 5, ..ShareConfig::default() });
        let begun = coordinator.run(&key("g", 1, 0), &Operation::Initialize { state_epoch: 0, start_offset: -1 });
        assert_eq!(begun, Ok(Answer::Done));
        let known = coordinator.known(&key("g", 1, 0));
        World {
            machine: SharePartition::load(&known, 0).expect("a share partition"),
            cells: BTreeMap::new(),
            coordinator,
            storing: VecDeque::new(),
            now: 0,
            log: Vec::new(),
            log_end: 0,
            log_start: 0,
            accepted: BTreeMap::new(),
        }
    }

    fn log_batches(&self, from: i64, count: usize) -> Vec<(i64, i64)> {
        let ends = self.log.iter().skip(1).copied().chain([self.log_end]);
        let all = self.log.iter().copied().zip(ends).map(|(first, end)| (first, end - 1));
        all.filter(|(_, last)| *last >= from).take(count).collect()
    }

    fn keep(&mut self, store: Option<ToStore>, expiry: bool) {
        if let Some(store) = store {
            assert_eq!(store.start_offset, self.machine.start_offset());
            let done = self.cells.range(store.start_offset..).filter(|(_, cell)| cell.state.is_terminal());
            assert_eq!(store.delivery_complete_count as usize, done.count());
            self.storing.push_back((store, expiry));
        }
    }

    fn given_back(count: i16) -> RecordState {
        if count >= LIMITS.max_delivery_count { RecordState::Archived } else { RecordState::Available }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Append(sizes) => {
                for size in sizes {
                    self.log.push(self.log_end);
                    self.log_end += size;
                }
            }
            Step::Fetch { member, exact, max, batch_size, batches, aborted } => {
                self.fetch(*member, *exact, *max, *batch_size, *batches, *aborted);
            }
            Step::Acknowledge { member, skip, types, whole } => {
                let start = self.machine.start_offset();
                let of_member = self.cells.range(start..).filter(|(_, cell)| {
                    cell.state == RecordState::Acquired && cell.owner.is_some_and(|(owner, _)| owner == *member)
                });
                let Some((first, _)) = of_member.into_iter().nth(*skip) else { return };
                let first = *first;
                self.acknowledge(*member, first, types, *whole);
            }
            Step::AcknowledgeAny { member, first, types } => self.acknowledge(*member, *first, types, false),
            Step::Release(member) => {
                let store = self.machine.release(MEMBERS[*member], &LIMITS);
                let id = store.as_ref().map(|store| store.id);
                let start = self.machine.start_offset();
                for (offset, cell) in &mut self.cells {
                    if cell.state == RecordState::Acquired && cell.owner.is_some_and(|(owner, _)| owner == *member) {
                        cell.state =
                            if *offset < start { RecordState::Archived } else { World::given_back(cell.count) };
                        cell.storing = id;
                    }
                }
                self.keep(store, false);
            }
            Step::Wait(ms) => {
                self.now += ms;
                let due = self.machine.next_deadline().is_some_and(|at| at <= self.now);
                let overdue = |cell: &Cell| {
                    cell.state == RecordState::Acquired && cell.owner.is_some_and(|(_, at)| at <= self.now)
                };
                assert!(due || !self.cells.values().any(overdue), "nobody would look at a lock that has ended");
                if due {
                    let store = self.machine.expire(self.now, &LIMITS);
                    let (start, now) = (self.machine.start_offset(), self.now);
                    for (offset, cell) in &mut self.cells {
                        if cell.state == RecordState::Acquired && cell.owner.is_some_and(|(_, at)| at <= now) {
                            cell.state =
                                if *offset < start { RecordState::Archived } else { World::given_back(cell.count) };
                            cell.owner = None;
                        }
                    }
                    assert!(self.machine.next_deadline().is_none_or(|at| at > self.now));
                    self.keep(store, true);
                }
            }
            Step::Stored(succeeds) => self.stored(*succeeds),
            Step::Cut(more) => {
                self.log_start = (self.log_start + more).min(self.log_end);
                let start = self.machine.start_offset();
                if self.machine.log_start_moved(self.log_start) {
                    for cell in self.cells.range_mut(start..self.log_start).map(|(_, cell)| cell) {
                        if cell.state == RecordState::Available {
                            (cell.state, cell.storing, cell.owner) = (RecordState::Archived, None, None);
                        }
                    }
                    assert_eq!(self.machine.start_offset(), self.log_start);
                }
            }
            Step::Restart => {
                // What is on its way to the coordinator may have arrived or not: here it has not.
                self.storing.clear();
                let known = self.coordinator.known(&key("g", 1, 0));
                self.machine = SharePartition::load(&known, self.log_start).expect("a share partition");
                self.machine.log_start_moved(self.log_start);
                self.cells.clear();
                for (first, last, state, count) in self.machine.in_flight() {
                    for offset in first..=last {
                        self.cells.insert(offset, Cell { state, count, owner: None, storing: None });
                    }
                }
            }
        }
        self.check();
    }

    fn fetch(&mut self, member: usize, exact: bool, max: i32, batch_size: i32, batches: usize, aborted: Option<usize>) {
        let could = self.machine.can_acquire(&LIMITS);
        let offset = self.machine.next_fetch_offset();
        let free = self.cells.range(self.machine.start_offset()..);
        let mut free = free.filter(|(_, cell)| cell.state == RecordState::Available && cell.storing.is_none());
        if let Some((first, _)) = free.next() {
            assert!(offset <= *first, "offset {first} is free and the fetch goes on at {offset}");
        }
        if !could || offset >= self.log_end {
            return;
        }
        assert!(offset >= self.log_start);
        let found = self.log_batches(offset, batches);
        let aborted: Vec<(i64, i64)> = aborted.and_then(|place| found.get(place).copied()).into_iter().collect();
        let mode = if exact { AcquireMode::RecordLimit } else { AcquireMode::BatchOptimized };
        let wanted = Wanted { member: MEMBERS[member], mode, max_records: max, batch_size };
        let fetched = Fetched { offset, batches: &found, aborted: &aborted };
        let in_flight =
            self.machine.in_flight().last().map_or(0, |(_, last, ..)| last + 1 - self.machine.start_offset());
        let acquired = self.machine.acquire(self.now, wanted, fetched, &LIMITS);
        assert!(!exact || acquired.count() <= i64::from(max), "more than asked for");
        if acquired.ranges.is_empty() {
            assert!(!aborted.is_empty(), "nothing was lent of what could be: {offset} {found:?} {in_flight}");
        }
        // Free offsets that were not known: the rest of a batch of the log, or what aborted transactions wrote.
        for (first, last, state, count) in self.machine.in_flight() {
            for offset in first..=last {
                self.cells.entry(offset).or_insert(Cell { state, count, owner: None, storing: None });
                let cell = self.cells.get_mut(&offset).expect("a cell");
                if aborted.iter().any(|(first, last)| (first..=last).contains(&&offset))
                    && state == RecordState::Archived
                {
                    if cell.state != state {
                        assert!(matches!(cell.state, RecordState::Available | RecordState::Acquired));
                        *cell = Cell { state, count, owner: None, storing: None };
                    }
                } else if acquired.ranges.iter().any(|range| (range.first..=range.last).contains(&offset)) {
                    let known_free = cell.state == RecordState::Available && cell.storing.is_none();
                    assert!(known_free || cell.count == count, "offset {offset} was lent twice");
                    assert!(cell.owner.is_none() || cell.state == RecordState::Available);
                    *cell = Cell {
                        state,
                        count: cell.count.max(count),
                        owner: Some((member, self.now + LIMITS.lock_ms)),
                        storing: None,
                    };
                }
            }
        }
        // What was given up at the front has been passed already.
        let passed = self.machine.start_offset();
        for (first, last) in aborted.iter().filter(|(first, _)| *first < passed) {
            for (offset, cell) in self.cells.range_mut(*first..=(*last).min(passed - 1)) {
                if *offset >= self.log_start && !cell.state.is_terminal() {
                    assert!(cell.storing.is_none());
                    (cell.state, cell.owner) = (RecordState::Archived, None);
                }
            }
        }
        let mut last = -1;
        for range in &acquired.ranges {
            assert!(range.first > last && range.last >= range.first && range.last < self.log_end);
            assert!(range.delivery_count >= 1 && range.delivery_count <= LIMITS.max_delivery_count);
            assert!(range.first >= self.machine.start_offset());
            for offset in range.first..=range.last {
                assert!(!self.accepted.contains_key(&offset), "offset {offset} was accepted and is lent again");
                assert_eq!(self.cells[&offset].count, range.delivery_count);
                assert_eq!(self.cells[&offset].state, RecordState::Acquired);
            }
            last = range.last;
        }
    }

    fn acknowledge(&mut self, member: usize, first: i64, types: &[i8], whole: bool) {
        let last = first + types.len() as i64 - 1;
        let types: Vec<i8> = if whole { types[..1].to_vec() } else { types.to_vec() };
        let start = self.machine.start_offset();
        let kind = |offset: i64| if types.len() == 1 { types[0] } else { types[(offset - first) as usize] };
        let of_member = |offset: &i64| {
            self.cells.get(offset).is_some_and(|cell| {
                cell.state == RecordState::Acquired && cell.owner.is_some_and(|(owner, _)| owner == member)
            })
        };
        let good = last < start || (first.max(start)..=last).all(|offset| of_member(&offset));
        let up_to_another: Vec<i64> = (first.max(start)..=last).take_while(&of_member).collect();
        let message = Acknowledgement { first, last, types: types.clone() };
        let taken = self.machine.acknowledge(self.now, MEMBERS[member], &[message], &LIMITS);
        match taken {
            Err(error) => {
                assert!(!good, "{first}..={last} {types:?}: {error:?}");
                assert!(matches!(error, ErrorCode::InvalidRecordState | ErrorCode::InvalidRequest));
                if error == ErrorCode::InvalidRecordState {
                    let renewed = up_to_another.iter().filter(|offset| kind(**offset) == 4);
                    renewed.for_each(|offset| {
                        self.cells.get_mut(offset).expect("a cell").owner = Some((member, self.now + LIMITS.lock_ms));
                    });
                }
                self.follow_overdue(member);
            }
            Ok(store) => {
                assert!(good, "{first}..={last} {types:?} was taken");
                let id = store.as_ref().map(|store| store.id);
                for offset in first.max(start)..=last {
                    let Some(cell) = self.cells.get_mut(&offset) else { continue };
                    match kind(offset) {
                        4 => cell.owner = Some((member, self.now + LIMITS.lock_ms)),
                        kind => {
                            cell.state = match kind {
                                1 => RecordState::Acknowledged,
                                2 => World::given_back(cell.count),
                                _ => RecordState::Archived,
                            };
                            cell.storing = id;
                        }
                    }
                }
                self.keep(store, false);
            }
        }
    }

    /// A message that failed has changed no state, except that it may have ended locks of the member whose time was over.
    fn follow_overdue(&mut self, member: usize) {
        let start = self.machine.start_offset();
        for (first, last, state, _) in self.machine.in_flight() {
            for offset in first..=last {
                let cell = self.cells.get_mut(&offset).expect("a cell");
                if cell.state != state {
                    let overdue = cell.owner.is_some_and(|(owner, at)| owner == member && at <= self.now);
                    let free = if offset < start { RecordState::Archived } else { World::given_back(cell.count) };
                    assert!(overdue && state == free, "offset {offset}");
                    (cell.state, cell.owner) = (state, None);
                }
            }
        }
    }

    fn stored(&mut self, succeeds: bool) {
        let Some((store, expiry)) = self.storing.pop_front() else { return };
        if succeeds {
            let write = Operation::Write {
                state_epoch: 0,
                leader_epoch: -1,
                start_offset: store.start_offset,
                delivery_complete_count: store.delivery_complete_count,
                batches: store.batches.clone(),
            };
            assert_eq!(self.coordinator.run(&key("g", 1, 0), &write), Ok(Answer::Done));
        }
        if expiry {
            self.machine.expiry_stored();
        } else {
            let start = self.machine.start_offset();
            self.machine.stored(store.id, succeeds, self.now, &LIMITS);
            for (offset, cell) in self.cells.iter_mut().filter(|(_, cell)| cell.storing == Some(store.id)) {
                cell.storing = None;
                if succeeds {
                    cell.owner = None;
                    if cell.state == RecordState::Acknowledged {
                        self.accepted.insert(*offset, ());
                    }
                } else if cell.owner.is_some_and(|(_, at)| at <= self.now) {
                    let state = if *offset < start { RecordState::Archived } else { World::given_back(cell.count) };
                    (cell.state, cell.owner) = (state, None);
                } else {
                    cell.state = RecordState::Acquired;
                }
            }
        }
        if succeeds {
            let start = self.machine.start_offset();
            let settled = self.cells.get(&start).is_some_and(|cell| cell.state.is_terminal() && cell.storing.is_none());
            assert!(!settled, "the start stays at {start}, which is done with");
        }
    }

    /// Offset by offset, as the model has it; and nothing before the start is owed to anybody.
    fn check(&self) {
        let mut found = BTreeMap::new();
        for (first, last, state, count) in self.machine.in_flight() {
            for offset in first..=last {
                assert_eq!(found.insert(offset, (state, count)), None, "offset {offset} is there twice");
            }
        }
        for (offset, cell) in self.cells.range(self.machine.start_offset()..) {
            assert_eq!(found.get(offset), Some(&(cell.state, cell.count)), "offset {offset}");
        }
        for (offset, cell) in self.cells.range(self.log_start..self.machine.start_offset().max(self.log_start)) {
            assert!(cell.state.is_terminal() && cell.storing.is_none(), "offset {offset} was passed: {cell:?}");
        }
    }

    /// Everything that is left gets through.
    fn drain(&mut self) {
        while !self.storing.is_empty() {
            self.stored(true);
        }
        for member in 0..MEMBERS.len() {
            self.step(&Step::Release(member));
            self.stored(true);
        }
        for _ in 0..2_000 {
            if self.machine.start_offset() >= self.log_end {
                return;
            }
            self.fetch(0, false, 500, 500, 100, None);
            let lent: Vec<i64> =
                self.cells.iter().filter(|(_, cell)| cell.state == RecordState::Acquired).map(|(o, _)| *o).collect();
            for offset in lent {
                if offset >= self.machine.start_offset() {
                    self.acknowledge(0, offset, &[1], true);
                    self.stored(true);
                }
            }
        }
        panic!("stuck at {} of {}: {:?}", self.machine.start_offset(), self.log_end, self.machine);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn every_record_is_lent_until_it_is_done_with_and_never_after(steps in proptest::collection::vec(step(), 1..80)) {
        live(&steps);
    }
}

fn live(steps: &[Step]) {
    let mut world = World::new();
    world.step(&Step::Append(vec![5, 3, 8]));
    steps.iter().for_each(|step| world.step(step));
    // As a marker follows every transaction: the start goes over what was aborted when something behind it is done with.
    world.step(&Step::Append(vec![1]));
    world.drain();
}

#[test]
fn what_was_aborted_at_the_start_is_passed() {
    let fetch = Step::Fetch { member: 0, exact: false, max: 1, batch_size: 1, batches: 1, aborted: Some(0) };
    live(&[Step::Cut(16), Step::Append(vec![1]), fetch]);
}

fn fetched(batches: &[(i64, i64)]) -> Fetched<'_> {
    Fetched { offset: batches[0].0, batches, aborted: &[] }
}

fn wanted(mode: AcquireMode, max_records: i32) -> Wanted<'static> {
    Wanted { member: "a", mode, max_records, batch_size: 500 }
}

fn range(first: i64, last: i64, delivery_count: i16) -> AcquiredRange {
    AcquiredRange { first, last, delivery_count }
}

fn fresh() -> SharePartition {
    let known = Known { state_epoch: 0, start_offset: 0, batches: vec![] };
    SharePartition::load(&known, 0).expect("a share partition")
}

#[test]
fn whole_batches_are_lent_unless_no_more_than_asked_for_may_be() {
    let log = [(0, 4), (5, 9), (10, 14)];
    let mut machine = fresh();
    let lent = machine.acquire(0, wanted(AcquireMode::BatchOptimized, 7), fetched(&log), &LIMITS);
    assert_eq!(lent.ranges, [range(0, 9, 1)]);
    let mut machine = fresh();
    let lent = machine.acquire(0, wanted(AcquireMode::RecordLimit, 7), fetched(&log), &LIMITS);
    assert_eq!(lent.ranges, [range(0, 6, 1)]);
    assert_eq!(machine.next_fetch_offset(), 7);
    let lent = machine.acquire(0, wanted(AcquireMode::RecordLimit, 7), fetched(&log[1..]), &LIMITS);
    assert_eq!(lent.ranges, [range(7, 9, 1), range(10, 13, 1)]);
    let split = Wanted { batch_size: 5, ..wanted(AcquireMode::BatchOptimized, 15) };
    let lent = fresh().acquire(0, split, fetched(&log), &LIMITS);
    assert_eq!(lent.ranges, [range(0, 4, 1), range(5, 9, 1), range(10, 14, 1)]);
}

#[test]
fn a_record_that_nobody_can_take_ends_up_alone_and_is_given_up() {
    let log = [(0, 15)];
    let mut machine = fresh();
    let mut seen = Vec::new();
    for now in 0..200 {
        if machine.start_offset() > 15 {
            break;
        }
        let offset = machine.next_fetch_offset();
        let fetched = Fetched { offset, batches: &log, aborted: &[] };
        let lent = machine.acquire(now * 2_000, wanted(AcquireMode::BatchOptimized, 100), fetched, &LIMITS);
        for range in &lent.ranges {
            // Record 7 ends the member; the lock runs out.
            let crash = (range.first..=range.last).contains(&7);
            seen.push((range.last - range.first + 1, crash));
            if !crash {
                let accept = Acknowledgement { first: range.first, last: range.last, types: vec![1] };
                let store =
                    machine.acknowledge(now * 2_000, "a", &[accept], &LIMITS).expect("taken").expect("to store");
                machine.stored(store.id, true, now * 2_000, &LIMITS);
            }
        }
        if machine.expire(now * 2_000 + 1_500, &LIMITS).is_some() {
            machine.expiry_stored();
        }
    }
    assert_eq!(machine.start_offset(), 16, "{machine:?}");
    let crashes: Vec<i64> = seen.iter().filter(|(_, crash)| *crash).map(|(size, _)| *size).collect();
    assert_eq!(crashes, [16, 16, 8, 1], "lent with fewer others each time");
}

#[test]
fn what_a_leader_lost_between_stored_offsets_is_lent_again() {
    let done = |first, last| StateBatch { first, last, delivery_count: 1, delivery_state: 2 };
    let known = Known { state_epoch: 0, start_offset: 3, batches: vec![done(3, 5), done(9, 11)] };
    let mut machine = SharePartition::load(&known, 0).expect("a share partition");
    assert_eq!((machine.start_offset(), machine.next_fetch_offset()), (6, 6));
    let lent = machine.acquire(0, wanted(AcquireMode::BatchOptimized, 100), fetched(&[(0, 7), (8, 20)]), &LIMITS);
    assert_eq!(lent.ranges, [range(6, 8, 1), range(12, 20, 1)]);
}

#[test]
fn what_is_stored_must_make_sense() {
    let batch = |first, last, delivery_state| StateBatch { first, last, delivery_count: 1, delivery_state };
    let wrong: [(i64, Vec<StateBatch>); 5] = [
        (5, vec![batch(4, 6, 2)]),
        (5, vec![batch(7, 6, 2)]),
        (5, vec![batch(6, 8, 2), batch(8, 9, 2)]),
        (5, vec![batch(6, 8, 9)]),
        (0, vec![batch(0, i64::MAX, 2)]),
    ];
    for (start_offset, batches) in wrong {
        let known = Known { state_epoch: 0, start_offset, batches };
        let refused = SharePartition::load(&known, 0).map(drop).map_err(|refusal| refusal.code);
        assert_eq!(refused, Err(ErrorCode::UnknownServerError), "{known:?}");
    }
    for (start_offset, begins) in [(-1, 4), (-2, 0), (i64::MIN, 0)] {
        let known = Known { state_epoch: 0, start_offset, batches: Vec::new() };
        let mut machine = SharePartition::load(&known, 4).expect("a start below zero comes before every log's");
        assert_eq!(machine.next_fetch_offset(), begins, "{start_offset}");
    }
}

#[test]
fn hostile_acknowledgements_are_refused() {
    let mut machine = fresh();
    machine.acquire(0, wanted(AcquireMode::BatchOptimized, 10), fetched(&[(0, 9)]), &LIMITS);
    let mut refused = |first, last, types: &[i8]| {
        let message = Acknowledgement { first, last, types: types.to_vec() };
        machine.acknowledge(0, "a", &[message], &LIMITS).map(drop).expect_err("refused")
    };
    assert_eq!(refused(0, 9, &[]), ErrorCode::InvalidRequest);
    assert_eq!(refused(0, 9, &[5]), ErrorCode::InvalidRequest);
    assert_eq!(refused(0, 9, &[1, 1]), ErrorCode::InvalidRequest);
    assert_eq!(refused(5, 4, &[1]), ErrorCode::InvalidRequest);
    assert_eq!(refused(0, 10, &[1]), ErrorCode::InvalidRequest);
    assert_eq!(refused(20, 21, &[1]), ErrorCode::InvalidRequest);
    assert_eq!(refused(i64::MAX - 1, i64::MAX, &[1, 1, 1]), ErrorCode::InvalidRequest);
    assert_eq!(refused(i64::MIN, i64::MAX, &[1, 1]), ErrorCode::InvalidRequest);
    assert_eq!(refused(i64::MIN, i64::MAX, &[1]), ErrorCode::InvalidRequest);
    assert!(machine.in_flight().all(|(_, _, state, _)| state == RecordState::Acquired), "{machine:?}");
}

#[test]
fn what_is_held_and_a_part_of_what_was_lent_are_not_enough() {
    let mut machine = fresh();
    assert!(machine.suffices(0, 10, 10) && !machine.suffices(0, 10, 11));
    machine.acquire(0, wanted(AcquireMode::RecordLimit, 4), fetched(&[(0, 9)]), &LIMITS);
    assert!(machine.suffices(0, 10, 6) && !machine.suffices(0, 10, 7), "four are held");
    assert!(!machine.suffices(0, 9, 1), "the end of what was lent together is missing");
    assert!(machine.suffices(4, 12, 8) && !machine.suffices(4, 12, 9));
}
