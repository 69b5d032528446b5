//! Starting shards, one thread each, and what happens when one of them panics.

use super::{Inbox, InboxReceiver, ShardId, ShardPanic, inbox, lane, lane::Lane};
use crate::{
    mesh::{self, MeshEnd},
    reactor::{Reactor, Remote, mail, pump},
    ready::{self, Counted},
    rt, stall,
    task::Queue,
    topology,
};
use std::{
    cell::RefCell,
    future::{Future, poll_fn},
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    rc::Rc,
    sync::{
        Arc, Once, OnceLock,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    task::Poll,
    thread,
};

/// How a pool is laid out.
#[derive(Clone, Debug)]
pub struct ShardPoolOptions {
    /// One shard per entry, in this order.
    pub cores: Vec<usize>,
    /// Ties each shard's thread to its core; otherwise `cores` only says how many shards there are.
    pub pin: bool,
    /// Threads are called `<name>-<shard>`.
    pub name: String,
    /// Messages each ring of the mesh holds.
    pub mesh_messages: usize,
}

impl Default for ShardPoolOptions {
    fn default() -> Self {
        ShardPoolOptions { cores: vec![0], pin: false, name: "shard".into(), mesh_messages: mesh::RING_MESSAGES }
    }
}

/// What a shard's main function gets.
pub struct ShardContext<M> {
    pub id: ShardId,
    /// Shards in the pool.
    pub shards: usize,
    pub mesh: MeshEnd<M>,
    pub inbox: InboxReceiver<M>,
}

/// Running shards. Dropping the pool does not stop them.
pub struct ShardPool<M = ()> {
    inboxes: Vec<Inbox<M>>,
    threads: Vec<thread::JoinHandle<Option<ShardPanic>>>,
}

/// What the shards of a pool have in common.
struct Common {
    remotes: Vec<Arc<Remote>>,
    failed: AtomicBool,
}

/// What a shard's thread is started with.
struct Seat<M> {
    id: ShardId,
    core: Option<usize>,
    name: String,
    mesh: MeshEnd<M>,
    inbox: InboxReceiver<M>,
    common: Arc<Common>,
    ready: mpsc::Sender<io::Result<()>>,
    go: mpsc::Receiver<()>,
}

impl<M: Send + 'static> ShardPool<M> {
    /// One thread, executor and ring per core; `main` runs on each, and the pool ends when all have returned. What a
    /// main function leaves running is cancelled at its return.
    ///
    /// Fails, with nothing left running, if a shard cannot be set up. A panic in any task ends all shards and is
    /// returned by [`join`](ShardPool::join).
    pub fn start<F, Fut>(o: ShardPoolOptions, main: F) -> io::Result<ShardPool<M>>
    where
        F: Fn(ShardContext<M>) -> Fut + Send + Clone + 'static,
        Fut: Future<Output = ()> + 'static,
    {
        if o.cores.is_empty() || o.cores.len() > usize::from(u16::MAX) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a pool has between 1 and 65535 shards"));
        }
        install_panic_hook();
        let remotes = o.cores.iter().map(|_| Remote::new().map(Arc::new)).collect::<io::Result<Vec<_>>>()?;
        let mut meshes = mesh::build(&remotes, o.mesh_messages.max(1)).into_iter();
        let common = Arc::new(Common { remotes, failed: AtomicBool::new(false) });
        #[cfg(sim)]
        let world = crate::sim::world::current_or_new();
        #[cfg(sim)]
        world.turns.begin(&common.remotes);
        let (mut inboxes, mut threads, mut gos) = (Vec::new(), Vec::new(), Vec::new());
        let (ready_tx, ready) = mpsc::channel();
        for ((i, &core), mesh) in o.cores.iter().enumerate().zip(&mut meshes) {
            let (inbox, receiver) = inbox::pair(common.remotes[i].clone());
            let (go_tx, go) = mpsc::channel();
            let seat = Seat {
                id: ShardId(i as u16),
                core: o.pin.then_some(core),
                name: format!("{}-{i}", o.name),
                mesh,
                inbox: receiver,
                common: common.clone(),
                ready: ready_tx.clone(),
                go,
            };
            let main = main.clone();
            let name = seat.name.clone();
            #[cfg(sim)]
            let world = world.clone();
            let run = move || {
                #[cfg(sim)]
                crate::sim::sit_down(world, i);
                seat.run(main)
            };
            threads.push(thread::Builder::new().name(name).spawn(run)?);
            inboxes.push(inbox);
            gos.push(go_tx);
        }
        drop(ready_tx);
        // a shard starts only once all are set up; dropping `gos` lets them end instead
        for _ in 0..o.cores.len() {
            ready.recv().unwrap_or_else(|_| Err(io::Error::other("a shard ended while it was being set up")))?;
        }
        gos.into_iter().for_each(|go| _ = go.send(()));
        Ok(ShardPool { inboxes, threads })
    }

    /// The way into a shard for ordinary threads. Panics if there is no such shard.
    pub fn inbox(&self, shard: ShardId) -> Inbox<M> {
        self.inboxes[shard.index()].clone()
    }

    pub fn shards(&self) -> usize {
        self.inboxes.len()
    }

    /// Waits until all shards have returned. The first panic of any.
    pub fn join(self) -> Result<(), ShardPanic> {
        let mut first = None;
        for (i, t) in self.threads.into_iter().enumerate() {
            let failure = t.join().unwrap_or_else(|_| {
                Some(ShardPanic {
                    shard: ShardId(i as u16),
                    task: "shard",
                    message: "the shard's thread panicked".into(),
                    location: None,
                })
            });
            first = first.or(failure);
        }
        first.map_or(Ok(()), Err)
    }
}

impl<M: Send + 'static> Seat<M> {
    fn run<F, Fut>(self, main: F) -> Option<ShardPanic>
    where
        F: Fn(ShardContext<M>) -> Fut,
        Fut: Future<Output = ()> + 'static,
    {
        let Seat { id, core, name, mesh, inbox, common, ready, go } = self;
        let set_up = core
            .map_or(Ok(()), |c| topology::pin_thread(&[c]))
            .and_then(|()| Shard::new(id, &name, common.remotes[id.index()].clone()));
        let shard = match set_up {
            Ok(shard) => shard,
            Err(e) => {
                let _ = ready.send(Err(io::Error::new(e.kind(), format!("shard {id}: {e}"))));
                return None;
            }
        };
        let _ = ready.send(Ok(()));
        drop(ready);
        go.recv().ok()?;
        let shards = common.remotes.len();
        let failed = || common.failed.load(Ordering::SeqCst);
        let result = shard.run(failed, async move || main(ShardContext { id, shards, mesh, inbox }).await);
        match result {
            Ok(_) => None,
            Err(failure) => {
                common.failed.store(true, Ordering::SeqCst);
                common.remotes.iter().for_each(|r| r.notify(mail::STOP));
                Some(failure)
            }
        }
    }
}

/// A shard that is set up on its thread but does not run yet.
struct Shard {
    executor: rt::Executor,
    lane: Rc<Lane>,
}

impl Shard {
    fn new(id: ShardId, name: &str, remote: Arc<Remote>) -> io::Result<Shard> {
        topology::lengthen_slice();
        let executor = rt::Executor::new(name)?;
        let reactor = Rc::new(Reactor::new(remote.clone())?);
        let lane = Rc::new(Lane::new(id, reactor, stall::register(id, name, remote)));
        Ok(Shard { executor, lane })
    }

    /// Runs `main` to its end, cancels what it left behind, and closes the ring. `Ok(None)`: `stopped` held first.
    fn run<T>(self, stopped: impl Fn() -> bool, main: impl AsyncFnOnce() -> T) -> Result<Option<T>, ShardPanic> {
        let lane = self.lane;
        lane::install(Some(lane.clone()));
        ready::begin_lane();
        let name = lane.name_number("main");
        let mut run = pin!(async {
            rt::create_queues();
            pump::start(lane.clone());
            let result = {
                let mut main = pin!(main());
                let mut local_stop = pin!(lane.stop.wait());
                let mut pool_stop = pin!(lane.reactor.mail_event(mail::STOP).wait_for(stopped));
                poll_fn(|cx| {
                    let local = local_stop.as_mut().poll(cx).is_ready();
                    if local || pool_stop.as_mut().poll(cx).is_ready() {
                        return Poll::Ready(None);
                    }
                    match catch_unwind(AssertUnwindSafe(|| main.as_mut().poll(cx))) {
                        Ok(p) => p.map(Some),
                        Err(panic) => {
                            lane.fail(name, panic);
                            Poll::Ready(None)
                        }
                    }
                })
                .await
            };
            lane.cancel_all().await;
            lane.reactor.close().await;
            lane.take_failure().map_or(Ok(result), Err)
        });
        let run = poll_fn(|cx| {
            lane.enter(name, Queue::Serve);
            let polled = run.as_mut().poll(cx);
            lane.leave();
            polled
        });
        let result = self.executor.run(Counted::new(run, lane.reactor.remote.clone()));
        ready::end_lane();
        drop(self.executor);
        lane::install(None);
        stall::deregister(&lane.published);
        result.unwrap_or(Ok(None))
    }
}

/// Runs `f` on a shard of its own, on the calling thread and not pinned: for tests and tools. Panics if a task does,
/// or if the shard cannot be set up.
pub fn run_local<T>(f: impl AsyncFnOnce() -> T) -> T {
    try_run_local(f).unwrap_or_else(|e| panic!("cannot set up a shard: {e}"))
}

/// [`run_local`] where setting the shard up may fail.
pub fn try_run_local<T>(f: impl AsyncFnOnce() -> T) -> io::Result<T> {
    match run_alone(f)? {
        Some(v) => Ok(v),
        None => unreachable!("nobody stops a local shard but a panic"),
    }
}

/// A shard by itself; `None` if its machine was lost.
pub(crate) fn run_alone<T>(f: impl AsyncFnOnce() -> T) -> io::Result<Option<T>> {
    assert!(lane::try_current().is_none(), "run_local inside a shard");
    install_panic_hook();
    let shard = Shard::new(ShardId(0), "local", Arc::new(Remote::new()?))?;
    Ok(shard.run(|| false, f).unwrap_or_else(|panic| panic!("{panic}")))
}

type PanicHook = Box<dyn Fn(&ShardPanic) + Send + Sync>;

fn hook() -> &'static OnceLock<PanicHook> {
    static HOOK: OnceLock<PanicHook> = OnceLock::new();
    &HOOK
}

/// Called on the shard's thread at every panic in a task, before the shard is ended; a broker ends the process there.
/// Only the first call has an effect.
pub fn on_panic(f: impl Fn(&ShardPanic) + Send + Sync + 'static) {
    let _ = hook().set(Box::new(f));
}

pub(super) fn call_panic_hook(p: &ShardPanic) {
    if let Some(f) = hook().get() {
        f(p);
    }
}

/// Keeps where a panic happened: only the hook is told.
fn install_panic_hook() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let at = info.location().map(ToString::to_string);
            let _ = lane::PANIC_AT.try_with(|p: &RefCell<Option<String>>| p.try_borrow_mut().map(|mut p| *p = at));
            before(info);
        }));
    });
}
