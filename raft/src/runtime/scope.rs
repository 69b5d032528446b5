//! Which openraft instance a task belongs to.
//!
//! openraft spawns five tasks for a group with one voter (core, state machine, flush forwarder, tick, read
//! deadlines) and more for followers; each is spawned by another one of them, so a task inherits the scope of the
//! task that spawns it. A scope counts its tasks, and hears of a panic in any of them.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use core_pinning::sync::oneshot;
use pin_project_lite::pin_project;

use super::crew;

thread_local! {
    static CURRENT: RefCell<Option<Rc<Scope>>> = const { RefCell::new(None) };
    static LIVE: Cell<usize> = const { Cell::new(0) };
}

/// Tasks that openraft runs on this shard now, of all instances.
pub(crate) fn live_tasks() -> usize {
    LIVE.get()
}

/// A task ended in a panic; the message, if it had one.
#[derive(Clone, Debug)]
pub(crate) struct TaskPanic(pub Arc<str>);

impl fmt::Display for TaskPanic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "task panicked: {}", self.0)
    }
}

fn message(panic: Box<dyn Any + Send>) -> TaskPanic {
    let text = match panic.downcast_ref::<&'static str>() {
        Some(s) => s,
        None => panic.downcast_ref::<String>().map_or("no message", String::as_str),
    };
    TaskPanic(text.into())
}

/// The tasks of one openraft instance.
pub(crate) struct Scope {
    live: Cell<usize>,
    ended: RefCell<Option<Waker>>,
    on_panic: Box<dyn Fn(&TaskPanic)>,
}

impl Scope {
    /// `on_panic` is told of every task that ends in a panic.
    pub(crate) fn new(on_panic: impl Fn(&TaskPanic) + 'static) -> Rc<Scope> {
        Rc::new(Scope { live: Cell::new(0), ended: RefCell::default(), on_panic: Box::new(on_panic) })
    }

    /// Tasks alive.
    pub(crate) fn live(&self) -> usize {
        self.live.get()
    }

    /// Waits until the last task has ended. One task may wait at a time.
    pub(crate) async fn ended(&self) {
        poll_fn(|cx| {
            if self.live.get() == 0 {
                return Poll::Ready(());
            }
            self.ended.replace(Some(cx.waker().clone()));
            Poll::Pending
        })
        .await;
    }

    /// Runs `future` in this scope without counting it: what it spawns belongs here, and its panic is contained.
    pub(crate) fn run<F: Future>(self: &Rc<Self>, future: F) -> Scoped<F> {
        Scoped { future, scope: Some(self.clone()), counted: None }
    }
}

/// Schedules `future` as a task of the current scope, counted; returns where its output comes.
pub(super) fn spawn<F>(future: F) -> oneshot::Receiver<Result<F::Output, TaskPanic>>
where
    F: Future + 'static,
    F::Output: 'static,
{
    let scope = CURRENT.with_borrow(Clone::clone);
    let scoped = Scoped { future, counted: Some(Counted::new(scope.clone())), scope };
    let (sender, receiver) = oneshot::channel();
    crew::add(Box::pin(async move {
        let output = scoped.await;
        // Nobody may care.
        let _ = sender.send(output);
    }));
    receiver
}

struct Counted(Option<Rc<Scope>>);

impl Counted {
    fn new(scope: Option<Rc<Scope>>) -> Counted {
        LIVE.set(LIVE.get() + 1);
        if let Some(scope) = &scope {
            scope.live.set(scope.live.get() + 1);
        }
        Counted(scope)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        LIVE.set(LIVE.get() - 1);
        let Some(scope) = &self.0 else { return };
        let left = scope.live.get() - 1;
        scope.live.set(left);
        if left == 0
            && let Some(waker) = scope.ended.take()
        {
            waker.wake();
        }
    }
}

pin_project! {
    /// A future polled within a scope, its panic turned into [`TaskPanic`].
    pub(crate) struct Scoped<F> {
        #[pin]
        future: F,
        scope: Option<Rc<Scope>>,
        counted: Option<Counted>,
    }
}

impl<F: Future> Future for Scoped<F> {
    type Output = Result<F::Output, TaskPanic>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let outer = CURRENT.replace(this.scope.clone());
        let polled = catch_unwind(AssertUnwindSafe(|| this.future.poll(cx)));
        CURRENT.set(outer);
        match polled {
            Ok(polled) => polled.map(Ok),
            Err(panic) => {
                let panic = message(panic);
                if let Some(scope) = this.scope {
                    (scope.on_panic)(&panic);
                }
                Poll::Ready(Err(panic))
            }
        }
    }
}
