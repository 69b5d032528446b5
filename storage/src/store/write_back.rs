//! The shard's write-back: a few jobs at a time, one of a log at a time, logs taking turns.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use core_pinning::sync::{Event, Permit, Semaphore, Signal};
use core_pinning::{Queue, spawn, time};

use super::shared::Shared;
use crate::error::StorageError;
use crate::log::LogInner;

/// Pause before a log whose files could not be written is tried again.
const RETRY: Duration = Duration::from_millis(500);

/// The writes of write-back take turns: nobody waits for them, and an append's write, which may come at any moment, is served by the
/// disk behind all that it has already. Chunks of many logs are often full together.
pub(crate) struct Turns(Semaphore);

impl Turns {
    pub(crate) fn new() -> Turns {
        Turns(Semaphore::new(1))
    }

    /// To be held during the write. `None`, at once, if write-back is behind.
    pub(crate) async fn next(&self, behind: bool) -> Option<Permit<'_>> {
        if behind { None } else { Some(self.wait().await) }
    }

    pub(super) async fn wait(&self) -> Permit<'_> {
        self.0.acquire(1).await
    }
}

pub(crate) struct WriteBack {
    max: usize,
    pub(crate) turns: Turns,
    queue: RefCell<VecDeque<Rc<LogInner>>>,
    in_flight: Cell<usize>,
    wake: Signal,
    /// A job ended.
    progress: Event,
    disk_full: RefCell<Option<StorageError>>,
}

impl WriteBack {
    pub(crate) fn new(max: usize) -> WriteBack {
        WriteBack {
            max: max.max(1),
            turns: Turns::new(),
            queue: RefCell::default(),
            in_flight: Cell::new(0),
            wake: Signal::new(),
            progress: Event::new(),
            disk_full: RefCell::default(),
        }
    }

    /// Has the log's next jobs run, if there are any. The log may be borrowed.
    pub(crate) fn enqueue(&self, log: &Rc<LogInner>) {
        // While something passes by the journal there is nothing to do; when it is settled the log asks again.
        // Nor between a failure and the next try, however many ask.
        let rests = log.marks.unsettled.get() > 0 || log.marks.pausing.get();
        if !rests && !log.marks.queued.replace(true) {
            self.queue.borrow_mut().push_back(log.clone());
            self.wake.notify();
        }
    }

    /// Writes everything of the log that is durable when this begins, also what does not fill a block.
    pub(crate) fn force(&self, log: &Rc<LogInner>) {
        log.marks.forced.set(true);
        self.enqueue(log);
    }

    /// The same for one who waits for it; not while the log is being cut, which nothing is written in, however often one asks.
    pub(crate) fn force_again(&self, log: &Rc<LogInner>) {
        if log.state.borrow().truncating == 0 {
            self.force(log);
        }
    }

    /// Waits until a job ends.
    pub(crate) async fn progress(&self) {
        self.progress.listen().await
    }

    /// Waits until the log's job, if one runs, has ended.
    pub(crate) async fn finished(&self, log: &LogInner) {
        self.progress.wait_for(|| !log.marks.busy.get()).await
    }

    /// Waits until `condition`, looking at it whenever there is progress.
    pub(crate) async fn progressed(&self, condition: impl FnMut() -> bool) {
        self.progress.wait_for(condition).await
    }

    /// Has those who wait for progress look around.
    pub(crate) fn notify_progress(&self) {
        self.progress.notify_all();
    }

    pub(crate) fn disk_full(&self) -> Option<StorageError> {
        self.disk_full.borrow().clone()
    }

    pub(crate) fn notify(&self) {
        self.wake.notify();
    }

    /// Waits until no job runs.
    pub(crate) async fn all_finished(&self) {
        self.progress.wait_for(|| self.in_flight.get() == 0).await
    }

    fn next(&self) -> Option<Rc<LogInner>> {
        if self.in_flight.get() >= self.max {
            return None;
        }
        let mut queue = self.queue.borrow_mut();
        let at = queue.iter().position(|log| !log.marks.busy.get())?;
        let log = queue.remove(at)?;
        log.marks.queued.set(false);
        Some(log)
    }

    /// Starts jobs as long as the store is open.
    pub(crate) async fn run(shared: Rc<Shared>) {
        while !shared.ending.get() {
            while let Some(log) = shared.write_back.next() {
                let this = &shared.write_back;
                this.in_flight.set(this.in_flight.get() + 1);
                log.marks.busy.set(true);
                spawn(Queue::Background, "write-back", run_job(shared.clone(), log)).detach();
            }
            shared.write_back.wake.wait().await;
        }
    }
}

async fn run_job(shared: Rc<Shared>, log: Rc<LogInner>) {
    let result = log.write_back_once().await;
    let this = &shared.write_back;
    log.marks.busy.set(false);
    this.in_flight.set(this.in_flight.get() - 1);
    match result {
        Ok(true) => {
            this.disk_full.replace(None);
            log.state.borrow_mut().write_back_error = None;
            log.marks.failing_since.set(None);
            shared.cache.trim();
            this.enqueue(&log);
        }
        Ok(false) if log.marks.unsettled.get() > 0 => {}
        Ok(false) => log.marks.unforce(),
        Err(error) => {
            let known = match error {
                StorageError::DiskFull { .. } => this.disk_full.borrow().is_some(),
                _ => log.marks.failing_since.get().is_some(),
            };
            if !known {
                tracing::warn!(topic = %log.topic, partition = log.key.partition, %error, "write-back failed, is tried again");
            }
            match error {
                StorageError::DiskFull { .. } => drop(this.disk_full.replace(Some(error))),
                error => {
                    log.state.borrow_mut().write_back_error = Some(error);
                    log.marks.failing_since.set(log.marks.failing_since.get().or(Some(time::now())));
                }
            }
            // Nothing is lost: it is in the journal, which keeps it until this has worked.
            log.marks.pausing.set(true);
            let (shared, log) = (shared.clone(), log.clone());
            let retry = async move {
                time::sleep(RETRY).await;
                log.marks.pausing.set(false);
                shared.write_back.enqueue(&log);
            };
            spawn(Queue::Background, "write-back retry", retry).detach();
        }
    }
    log.advance(&mut log.state.borrow_mut());
    this.wake.notify();
    this.progress.notify_all();
}
