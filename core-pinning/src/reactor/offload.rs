//! System calls that io_uring does not have run on two helper threads of the process, and long computations on two others: a sync
//! that takes its time must not hold up who only needs a core.

use super::{Reactor, mail};
use std::{
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    rc::Rc,
    sync::{Arc, Mutex, OnceLock, PoisonError, mpsc},
    thread,
};

const THREADS: usize = 2;

type Job = Box<dyn FnOnce() + Send>;

/// Helper threads of one kind.
struct Pool {
    name: &'static str,
    jobs: OnceLock<Mutex<mpsc::Sender<Job>>>,
}

static CALLS: Pool = Pool { name: "offload", jobs: OnceLock::new() };
static COMPUTATIONS: Pool = Pool { name: "compute", jobs: OnceLock::new() };

fn jobs(pool: &'static Pool) -> &'static Mutex<mpsc::Sender<Job>> {
    pool.jobs.get_or_init(|| {
        let (tx, rx) = mpsc::channel::<Job>();
        let rx = Arc::new(Mutex::new(rx));
        for i in 0..THREADS {
            let rx = rx.clone();
            let started = thread::Builder::new().name(format!("{}-{i}", pool.name)).spawn(move || {
                crate::topology::unpin_thread();
                loop {
                    let job = rx.lock().unwrap_or_else(PoisonError::into_inner).recv();
                    match job {
                        Ok(job) => job(),
                        Err(_) => return,
                    }
                }
            });
            if let Err(e) = started {
                tracing::error!("cannot start a helper thread: {e}");
            }
        }
        Mutex::new(tx)
    })
}

impl Reactor {
    /// Runs a short blocking function elsewhere. It runs even if the future is dropped.
    pub async fn offload<T: Send + 'static>(self: &Rc<Self>, f: impl FnOnce() -> T + Send + 'static) -> T {
        self.run_in(&CALLS, f).await
    }

    /// Runs a function elsewhere that computes for long. It runs even if the future is dropped.
    pub async fn compute<T: Send + 'static>(self: &Rc<Self>, f: impl FnOnce() -> T + Send + 'static) -> T {
        self.run_in(&COMPUTATIONS, f).await
    }

    async fn run_in<T: Send + 'static>(
        self: &Rc<Self>,
        pool: &'static Pool,
        f: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        let result = Arc::new(Mutex::new(None));
        let (slot, remote) = (result.clone(), self.remote.clone());
        let job: Job = Box::new(move || {
            let r = catch_unwind(AssertUnwindSafe(f));
            *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(r);
            remote.notify(mail::OFFLOAD);
        });
        let sent = jobs(pool).lock().unwrap_or_else(PoisonError::into_inner).send(job);
        sent.expect("the helper threads live as long as the process");
        loop {
            let done = self.mail_event(mail::OFFLOAD).listen();
            let r = result.lock().unwrap_or_else(PoisonError::into_inner).take();
            match r {
                Some(Ok(v)) => return v,
                Some(Err(panic)) => resume_unwind(panic),
                None => done.await,
            }
        }
    }
}
