//! Batches that take long to be judged, or come behind one that does: each partition takes them in one after the other, in the
//! order in which they came, and its shard does other things in between.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use core_pinning::budget::Budget;
use core_pinning::sync::oneshot;
use core_pinning::task::{Queue, is_long_running, spawn, yield_if_needed};
use corelane_protocol::ErrorCode;
use corelane_storage::record::{RecordErrors, Validated, Validation};

use super::produce::{ProduceFailure, Produced};
use super::{Partition, produce::Arrival};
use crate::router::{Meter, Metered};

/// Records of a batch, uncompressed, up to which it needs no turn of its own.
const SMALL_BYTES: usize = 4 << 20;
/// Batches of a shard that are being judged at a time.
const JOBS: usize = 4;

/// Bounds the memory for uncompressed records: so many batches at a time, and of those with more than `SMALL_BYTES` only one.
struct Turns {
    jobs: Budget,
    large: Budget,
}

thread_local! {
    /// Of the shard: a shard is a thread.
    static TURNS: Turns = Turns { jobs: Budget::new(JOBS), large: Budget::new(1) };
}

/// The batches of one partition that wait.
#[derive(Default)]
pub(super) struct Intake {
    waiting: RefCell<VecDeque<Waiting>>,
    /// A task takes them in.
    running: Cell<bool>,
}

struct Waiting {
    validation: Validation,
    arrival: Arrival,
    outcome: oneshot::Sender<Result<Produced, ProduceFailure>>,
    /// On whose account this works.
    meter: Option<Meter>,
}

/// A batch whose place in the order of the partition is certain.
pub enum Taken {
    /// It has its offsets, or is refused.
    Now(Box<Result<Produced, ProduceFailure>>),
    Later(oneshot::Receiver<Result<Produced, ProduceFailure>>),
}

impl Taken {
    /// Waits until it has its offsets. It gets them even if nobody waits.
    pub async fn ordered(self) -> Result<Produced, ProduceFailure> {
        match self {
            Taken::Now(result) => *result,
            // The shard ends.
            Taken::Later(outcome) => outcome.await.unwrap_or(Err(ErrorCode::NotLeaderOrFollower.into())),
        }
    }
}

impl Partition {
    /// Judges a batch and orders it, at once if it can; `begun`: what could be seen without reading it.
    pub(super) fn take_in(self: &Rc<Self>, begun: Result<Validation, RecordErrors>, arrival: Arrival) -> Taken {
        let mut validation = match begun {
            Ok(validation) => validation,
            Err(errors) => return Taken::Now(Box::new(Err(errors.into()))),
        };
        if !self.intake.running.get() {
            while !is_long_running() {
                if let Some(judged) = validation.step() {
                    return Taken::Now(Box::new(self.order(judged, arrival)));
                }
            }
        }
        let (sender, receiver) = oneshot::channel();
        let waiting = Waiting { validation, arrival, outcome: sender, meter: Meter::current() };
        self.intake.waiting.borrow_mut().push_back(waiting);
        if !self.intake.running.replace(true) {
            let partition = self.clone();
            spawn(Queue::Serve, "judge batches", async move { partition.take_in_waiting().await }).detach();
        }
        Taken::Later(receiver)
    }

    async fn take_in_waiting(self: Rc<Self>) {
        loop {
            let next = self.intake.waiting.borrow_mut().pop_front();
            let Some(Waiting { validation, arrival, outcome, meter }) = next else { break };
            let judged = match meter {
                None => judge(validation).await,
                Some(meter) => Metered::new(meter, Box::pin(judge(validation))).await,
            };
            // Whoever asked may be gone: the batch is appended all the same.
            let _ = outcome.send(self.order(judged, arrival));
            yield_if_needed().await;
        }
        self.intake.running.set(false);
    }
}

async fn judge(mut validation: Validation) -> Result<Validated, RecordErrors> {
    let (jobs, large) = TURNS.with(|turns| (turns.jobs.clone(), turns.large.clone()));
    let _job = jobs.take(1).await;
    let mut turn = None;
    loop {
        if turn.is_none() && validation.memory() > SMALL_BYTES {
            turn = Some(large.take(1).await);
        }
        if let Some(judged) = validation.step() {
            return judged;
        }
        yield_if_needed().await;
    }
}
