//! Random operations, failures and crashes against a naive model, which knows every offset by itself.

use std::collections::BTreeMap;

use corelane_coordinator::share::*;
use corelane_protocol::ErrorCode;
use proptest::prelude::*;

use crate::harness::*;

#[derive(Clone, Debug, PartialEq)]
struct Naive {
    state_epoch: i32,
    state_fence: i32,
    leader_epoch: i32,
    leader_fence: i32,
    start: i64,
    complete: i32,
    /// Delivery count and state by offset.
    words: BTreeMap<i64, (i16, i8)>,
}

/// By partition of group `g`.
type Model = BTreeMap<i32, Naive>;

#[derive(Clone, Debug)]
enum Step {
    Run(i32, Operation),
    /// So many writes become durable.
    Finish(usize),
    /// Of the writes under way all but so many fail.
    Fail(usize),
    Crash,
    Wait,
}

fn epoch() -> impl Strategy<Value = i32> {
    -1..4
}

fn batches() -> impl Strategy<Value = Vec<StateBatch>> {
    let one = (0i64..30, 0i64..6, prop_oneof![Just(0i8), Just(2), Just(4)], 1i16..4)
        .prop_map(|(first, more, state, count)| batch(first, first + more, state, count));
    proptest::collection::vec(one, 0..4)
}

fn operation() -> impl Strategy<Value = Operation> {
    let write = (epoch(), epoch(), -1i64..20, 0..9, batches());
    prop_oneof![
        2 => (epoch(), -1i64..10).prop_map(|(state_epoch, start_offset)| Operation::Initialize { state_epoch, start_offset }),
        2 => epoch().prop_map(|leader_epoch| Operation::Read { leader_epoch }),
        12 => write.prop_map(|(state_epoch, leader_epoch, start_offset, delivery_complete_count, batches)| {
            Operation::Write { state_epoch, leader_epoch, start_offset, delivery_complete_count, batches }
        }),
        1 => Just(Operation::Delete),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (0..3, operation()).prop_map(|(partition, operation)| Step::Run(partition, operation)),
        6 => (1usize..6).prop_map(Step::Finish),
        1 => (0usize..4).prop_map(Step::Fail),
        1 => Just(Step::Crash),
        1 => Just(Step::Wait),
    ]
}

/// True if a record must be written for it.
fn apply(model: &mut Model, partition: i32, operation: &Operation) -> Result<bool, ErrorCode> {
    let entry = model.get_mut(&partition);
    match operation {
        Operation::Initialize { state_epoch, start_offset } => {
            let fence = entry.as_ref().map(|e| (e.state_fence, e.leader_fence));
            if let Some((fence, _)) = fence
                && *state_epoch != -1
                && *state_epoch < fence
            {
                return Err(ErrorCode::FencedStateEpoch);
            }
            let (state_fence, leader_fence) = fence.unwrap_or((0, 0));
            let fresh = Naive {
                state_epoch: *state_epoch,
                state_fence: state_fence.max(*state_epoch),
                leader_epoch: 0,
                leader_fence,
                start: *start_offset,
                complete: if *start_offset == -1 { -1 } else { 0 },
                words: BTreeMap::new(),
            };
            model.insert(partition, fresh);
            Ok(true)
        }
        Operation::Read { leader_epoch } => {
            let entry = entry.ok_or(ErrorCode::InvalidRequest)?;
            if *leader_epoch != -1 && *leader_epoch < entry.leader_fence {
                return Err(ErrorCode::FencedLeaderEpoch);
            }
            let changes = *leader_epoch != -1 && *leader_epoch != entry.leader_fence;
            if changes {
                (entry.leader_epoch, entry.leader_fence) = (*leader_epoch, *leader_epoch);
            }
            Ok(changes)
        }
        Operation::Write { state_epoch, leader_epoch, start_offset, delivery_complete_count, batches } => {
            let entry = entry.ok_or(ErrorCode::InvalidRequest)?;
            if *leader_epoch != -1 && *leader_epoch < entry.leader_fence {
                return Err(ErrorCode::FencedLeaderEpoch);
            }
            if *state_epoch != -1 && *state_epoch < entry.state_fence {
                return Err(ErrorCode::FencedStateEpoch);
            }
            if *start_offset != -1 {
                entry.start = *start_offset;
            }
            entry.complete = *delivery_complete_count;
            for batch in batches {
                for offset in batch.first..=batch.last {
                    let word = (batch.delivery_count, batch.delivery_state);
                    let known = entry.words.entry(offset).or_insert(word);
                    *known = (*known).max(word);
                }
            }
            let start = entry.start;
            entry.words.retain(|offset, _| start == -1 || *offset >= start);
            Ok(true)
        }
        Operation::Delete => Ok(model.remove(&partition).is_some()),
        Operation::Summary => Ok(false),
    }
}

/// What a machine at rest says of all partitions.
fn said(h: &mut Harness) -> Model {
    let mut said = Model::new();
    for partition in 0..3 {
        let key = key("g", 1, partition);
        let Ok(Answer::Known(known)) = h.run(&key, &READ) else { continue };
        let Ok(Answer::Summary(summary)) = h.run(&key, &Operation::Summary) else { panic!("a summary") };
        assert_eq!((known.state_epoch, known.start_offset), (summary.state_epoch, summary.start_offset));
        let mut words = BTreeMap::new();
        for batch in known.batches {
            for offset in batch.first..=batch.last {
                assert_eq!(words.insert(offset, (batch.delivery_count, batch.delivery_state)), None);
            }
        }
        // A partition that does not exist is refused after the fences: so they are found without a trace.
        let leads = |leader_epoch: &i32| {
            let read = Operation::Read { leader_epoch: *leader_epoch };
            h.start(&key, &read, false) != Ok(Err(ErrorCode::FencedLeaderEpoch))
        };
        let leader_fence = (0..4).find(leads).expect("a leader's epoch");
        let counts = |state_epoch: &i32| {
            let initialize = Operation::Initialize { state_epoch: *state_epoch, start_offset: 0 };
            h.start(&key, &initialize, false) != Ok(Err(ErrorCode::FencedStateEpoch))
        };
        let state_fence = (0..4).find(counts).expect("a state's epoch");
        said.insert(
            partition,
            Naive {
                state_epoch: summary.state_epoch,
                state_fence,
                leader_epoch: summary.leader_epoch,
                leader_fence,
                start: summary.start_offset,
                complete: summary.delivery_complete_count,
                words,
            },
        );
    }
    said
}

/// Fences that were higher than what is stored are gone, as in Kafka, when the records that raised them are pruned.
fn take_fences(model: &mut Model, found: &Model) {
    for (naive, found) in model.values_mut().zip(found.values()) {
        assert!(found.state_fence >= naive.state_epoch.max(0) && found.state_fence <= naive.state_fence);
        assert!(found.leader_fence >= naive.leader_epoch && found.leader_fence <= naive.leader_fence);
        (naive.state_fence, naive.leader_fence) = (found.state_fence, found.leader_fence);
    }
}

struct Run {
    harness: Harness,
    /// What is known, durable or not.
    model: Model,
    /// What is known after each record that was ever written, and those under way: the first is before any.
    history: Vec<Model>,
    waiting: Vec<(corelane_coordinator::group::WaitToken, Result<(), ErrorCode>)>,
}

impl Run {
    fn written(&self) -> usize {
        self.harness.log_start as usize + self.harness.log.len()
    }

    fn step(&mut self, step: &Step) {
        let h = &mut self.harness;
        match step {
            Step::Run(partition, operation) => {
                let expected = apply(&mut self.model, *partition, operation);
                if expected == Ok(true) {
                    self.history.push(self.model.clone());
                }
                let expected = expected.map(drop);
                match h.start(&key("g", 1, *partition), operation, true) {
                    Ok(answered) => {
                        assert!(h.under_way.is_empty(), "an answer before its time");
                        assert_eq!(answered.map(drop), expected, "{step:?}");
                    }
                    Err(token) => self.waiting.push((token, expected)),
                }
            }
            Step::Finish(count) => {
                for _ in 0..*count {
                    h.finish_write();
                }
            }
            Step::Fail(kept) => {
                h.fail_writes(*kept, ErrorCode::NotEnoughReplicas);
                let left: usize = h.under_way.iter().map(|write| write.records.len()).sum();
                self.history.truncate(1 + self.written() + left);
                self.model = self.history.last().expect("the beginning").clone();
            }
            Step::Crash => {
                h.crash();
                self.waiting.clear();
                let written = self.harness.log_start as usize + self.harness.log.len();
                self.history.truncate(1 + written);
                let durable = self.history.last_mut().expect("the beginning");
                if self.harness.log_start > 0 {
                    take_fences(durable, &said(&mut self.harness));
                }
                self.model = durable.clone();
            }
            Step::Wait => {
                h.advance(h.config.cold_snapshot_interval_ms + 1);
                let under_way: usize = h.under_way.iter().map(|write| write.records.len()).sum();
                // Snapshots of what has not changed say nothing new.
                self.history.resize(1 + self.written() + under_way, self.model.clone());
            }
        }
        self.settle_answers();
    }

    fn settle_answers(&mut self) {
        let answers = &mut self.harness.answers;
        self.waiting.retain(|(token, expected)| match answers.remove(token) {
            None => true,
            Some(Err(ErrorCode::CoordinatorNotAvailable)) => false,
            Some(answer) => {
                assert_eq!(answer.map(drop), *expected);
                false
            }
        });
        assert!(answers.is_empty(), "answers that nobody waits for");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn every_offset_is_what_a_naive_model_says_whatever_fails(
        steps in proptest::collection::vec(step(), 1..60),
        updates_per_snapshot in 0u32..4,
    ) {
        let mut harness = Harness::new(ShareConfig { updates_per_snapshot, ..ShareConfig::default() });
        harness.hold_writes = true;
        let mut run = Run { harness, model: Model::new(), history: vec![Model::new()], waiting: Vec::new() };
        for step in &steps {
            run.step(step);
        }
        while run.harness.finish_write() {}
        run.settle_answers();
        prop_assert!(run.waiting.is_empty(), "somebody waits for ever");
        prop_assert_eq!(&said(&mut run.harness), &run.model);
        // Whatever of the log a crash leaves, it is a state that there was.
        for records in 0..=run.harness.log.len() {
            let mut rebuilt = Harness::new(run.harness.config.clone());
            rebuilt.machine = run.harness.rebuilt(records);
            let at = run.harness.log_start as usize + records;
            let mut expected = run.history[at].clone();
            if run.harness.log_start > 0 {
                if records < run.harness.log.len() {
                    // Some snapshots are missing there.
                    continue;
                }
                take_fences(&mut expected, &said(&mut rebuilt));
            }
            prop_assert_eq!(&said(&mut rebuilt), &expected, "after {} records", at);
        }
    }
}
