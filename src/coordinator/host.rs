//! A partition of an internal topic and the state machine over it: writes what the machine says, tells it what became of that, gives
//! out its answers and wakes it in time.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use core_pinning::sync::{Signal, oneshot};
use core_pinning::task::Task;
use core_pinning::time::{now, sleep, wall_ms};
use corelane_coordinator::Now;
use corelane_coordinator::group::{Reply, WaitToken, Write, WriteId, WriteProducer};
use corelane_protocol::ErrorCode;
use corelane_raft::Proposal;
use corelane_storage::model::{ProducerEpoch, ProducerId, Sequence};
use corelane_storage::record::{BatchBuilder, Codec};
use futures::future::{Either, select};
use hashbrown::HashMap;

use crate::partition::{Partition, ProduceFailure};
use crate::step::Step;

pub(super) fn time() -> Now {
    Now { mono_ms: (now().as_nanos() / 1_000_000) as i64, wall_ms: wall_ms() }
}

/// A coordinator's state machine.
pub(super) trait Machine: Sized {
    /// What it is called in the broker's log.
    const NAME: &'static str;
    type Answer;
    /// What is to be done besides writing and answering.
    type Errand;
    type Effects: Into<Work<Self>>;

    fn finish_loading(&mut self, now: Now) -> Self::Effects;
    /// A write gets the offsets from `base` on, if it comes to be.
    fn write_placed(&mut self, _id: WriteId, _base: i64) {}
    fn write_completed(&mut self, now: Now, id: WriteId) -> Self::Effects;
    fn write_failed(&mut self, now: Now, id: WriteId, error: ErrorCode) -> Self::Effects;
    fn next_deadline(&self) -> Option<i64>;
    fn tick(&mut self, now: Now) -> Self::Effects;
    /// The answers of all who wait.
    fn unload(self, now: Now, error: ErrorCode) -> Vec<(WaitToken, Self::Answer)>;
    /// What a write is called as a step of a transaction, if it is one.
    fn step(_: &Write) -> Option<String> {
        None
    }
}

/// What a machine asks for.
pub(super) struct Work<M: Machine> {
    pub writes: Vec<Write>,
    pub errands: Vec<M::Errand>,
    pub answers: Vec<(WaitToken, M::Answer)>,
}

/// An answer, or who will bring it.
pub(super) type Promise<R, M> = Result<R, oneshot::Receiver<<M as Machine>::Answer>>;

pub(super) struct Host<M: Machine> {
    pub partition: Rc<Partition>,
    /// `None` while it is rebuilt, and for good if that failed or the shard stops.
    machine: RefCell<Option<M>>,
    failed: Cell<bool>,
    waiting: RefCell<HashMap<WaitToken, oneshot::Sender<M::Answer>>>,
    /// Writes in the order of the log, whose fate is not known yet.
    writes: RefCell<VecDeque<(WriteId, Proposal, Step)>>,
    written: Signal,
    /// Those that nobody has begun.
    errands: RefCell<VecDeque<M::Errand>>,
    errand: Signal,
    /// The next deadline may have changed.
    rescheduled: Signal,
    tasks: RefCell<Vec<Task<()>>>,
}

impl<M: Machine> Host<M> {
    pub fn new(partition: Rc<Partition>) -> Host<M> {
        Host {
            partition,
            machine: RefCell::new(None),
            failed: Cell::new(false),
            waiting: RefCell::default(),
            writes: RefCell::default(),
            written: Signal::default(),
            errands: RefCell::default(),
            errand: Signal::default(),
            rescheduled: Signal::default(),
            tasks: RefCell::default(),
        }
    }

    /// Keeps the tasks that serve the machine until it stops.
    pub fn keep(&self, tasks: Vec<Task<()>>) {
        self.tasks.replace(tasks);
    }

    /// Takes the machine into service, rebuilt from the partition.
    pub fn loaded(&self, machine: Result<M, String>) {
        match machine {
            Ok(mut machine) => {
                let effects = machine.finish_loading(time());
                self.machine.replace(Some(machine));
                self.perform(effects.into());
            }
            Err(error) => {
                self.failed.set(true);
                tracing::error!(partition = self.partition.index, error, "{} could not be rebuilt", M::NAME);
            }
        }
    }

    pub fn ready(&self) -> Result<(), ErrorCode> {
        self.look(|_| ()).ok_or_else(|| self.not_ready())
    }

    /// Why there is no machine.
    pub fn not_ready(&self) -> ErrorCode {
        if self.failed.get() { ErrorCode::NotCoordinator } else { ErrorCode::CoordinatorLoadInProgress }
    }

    /// Looks at the machine.
    pub fn look<R>(&self, question: impl FnOnce(&M) -> R) -> Option<R> {
        self.machine.borrow().as_ref().map(question)
    }

    /// Changes the machine; nothing is written.
    pub fn change<R>(&self, change: impl FnOnce(&mut M) -> R) -> Option<R> {
        self.machine.borrow_mut().as_mut().map(change)
    }

    /// Moves the machine, if it is there, and does what comes out of it.
    pub fn advance(&self, step: impl FnOnce(&mut M) -> M::Effects) {
        if let Some(effects) = self.change(step) {
            self.perform(effects.into());
        }
    }

    /// Runs a request. The machine is changed and its records are ordered when this returns; the answer may come later.
    pub fn run<R>(
        &self,
        request: impl FnOnce(&mut M, Now) -> (Reply<R>, M::Effects),
    ) -> Result<Promise<R, M>, ErrorCode> {
        let ran = self.change(|machine| request(machine, time()));
        let (reply, effects) = ran.ok_or_else(|| self.not_ready())?;
        let promise = match reply {
            Reply::Now(answer) => Ok(answer),
            Reply::Later(token) => {
                let (sender, receiver) = oneshot::channel();
                self.waiting.borrow_mut().insert(token, sender);
                Err(receiver)
            }
        };
        self.perform(effects.into());
        Ok(promise)
    }

    pub fn reschedule(&self) {
        self.rescheduled.notify();
    }

    pub fn take_errands(&self) -> VecDeque<M::Errand> {
        self.errands.take()
    }

    pub async fn errand(&self) {
        self.errand.wait().await
    }

    /// Starts the writes and the errands, and gives out the answers.
    fn perform(&self, work: Work<M>) {
        let mut refused = None;
        for write in work.writes {
            let (id, step) = (write.id, Step::of(|| M::step(&write)));
            let base = self.partition.next_offset();
            match self.write(write) {
                Ok(proposal) => {
                    step.reached("ordered");
                    self.change(|machine| machine.write_placed(id, base.0));
                    self.writes.borrow_mut().push_back((id, proposal, step));
                    self.written.notify();
                }
                Err(failure) => {
                    // With it go all that come after it: the machine takes them back together.
                    refused = Some((id, failure.code));
                    break;
                }
            }
        }
        if !work.errands.is_empty() {
            self.errands.borrow_mut().extend(work.errands);
            self.errand.notify();
        }
        for (token, answer) in work.answers {
            if let Some(sender) = self.waiting.borrow_mut().remove(&token) {
                // Whoever asked may have gone away with its connection.
                let _ = sender.send(answer);
            }
        }
        self.rescheduled.notify();
        if let Some((id, error)) = refused {
            self.advance(|machine| machine.write_failed(time(), id, error));
        }
    }

    fn write(&self, write: Write) -> Result<Proposal, ProduceFailure> {
        let mut batch = BatchBuilder::new(Codec::None);
        if let Some(WriteProducer { id, epoch }) = write.producer {
            batch = batch.producer(ProducerId(id), ProducerEpoch(epoch), Sequence::NONE).transactional();
        }
        let now = wall_ms();
        write.records.iter().for_each(|r| batch.push(now, Some(&r.key), r.value.as_deref()));
        self.partition.append(batch)
    }

    /// Tells the machine of each write what became of it, in their order, and `after` each of them runs.
    pub async fn follow_writes(&self, after: impl Fn()) {
        loop {
            let next = self.writes.borrow_mut().pop_front();
            let Some((id, proposal, step)) = next else {
                self.written.wait().await;
                continue;
            };
            match proposal.applied().await {
                Ok(_) => {
                    step.reached("durable");
                    self.advance(|machine| machine.write_completed(time(), id));
                    step.reached("told");
                }
                Err(error) if error.appended_nothing() => {
                    let error = ProduceFailure::from(error).code;
                    self.advance(|machine| machine.write_failed(time(), id, error));
                }
                Err(error) => {
                    tracing::error!(partition = self.partition.index, %error, "{} gives up", M::NAME);
                    self.unload();
                }
            }
            after();
        }
    }

    /// Wakes the machine at its deadlines; `before` each of them runs.
    pub async fn keep_time(&self, before: impl AsyncFn()) {
        loop {
            let Some(deadline) = self.look(M::next_deadline).flatten() else {
                self.rescheduled.wait().await;
                continue;
            };
            let left = Duration::from_millis(deadline.saturating_sub(time().mono_ms).max(0) as u64);
            if !left.is_zero() {
                let rescheduled = pin!(self.rescheduled.wait());
                if let Either::Left(_) = select(rescheduled, pin!(sleep(left))).await {
                    continue;
                }
            }
            before().await;
            self.advance(|machine| machine.tick(time()));
        }
    }

    /// Everybody who waits is told to look for another coordinator, and so is everybody from now on. What is being
    /// written may or may not come to be.
    fn unload(&self) {
        self.failed.set(true);
        let machine = self.machine.take();
        let answers = machine.map(|m| m.unload(time(), ErrorCode::NotCoordinator)).unwrap_or_default();
        self.errands.borrow_mut().clear();
        self.perform(Work { writes: Vec::new(), errands: Vec::new(), answers });
    }

    pub async fn stop(&self) {
        self.unload();
        let tasks = self.tasks.take();
        for task in tasks {
            task.cancel().await;
        }
    }
}
