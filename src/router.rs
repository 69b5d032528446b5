//! Typed calls from shard to shard. What a call does before its first await happens in the order of the calls.

mod meter;

use std::any::Any;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use core_pinning::sync::{Signal, oneshot};
use core_pinning::task::{Queue, spawn};
use core_pinning::{MeshEnd, ShardId};

pub use self::meter::{Meter, Metered};
use crate::shard::Shard;

/// Work that runs on the shard that owns what it touches.
pub trait ShardCall: Send + 'static {
    type Reply: Send + 'static;

    /// Called on the owning shard. The part before the returned future is polled runs in the order of the calls.
    fn run(self, shard: &Rc<Shard>) -> impl Future<Output = Self::Reply> + 'static;
}

type ErasedReply = Box<dyn Any + Send>;

trait ErasedCall: Send {
    fn start(self: Box<Self>, shard: &Rc<Shard>) -> Pin<Box<dyn Future<Output = ErasedReply>>>;
}

impl<C: ShardCall> ErasedCall for C {
    fn start(self: Box<Self>, shard: &Rc<Shard>) -> Pin<Box<dyn Future<Output = ErasedReply>>> {
        let reply = (*self).run(shard);
        Box::pin(async move { Box::new(reply.await) as ErasedReply })
    }
}

/// What shards say to each other, and what the control thread says to a shard.
pub enum ShardMessage {
    Call {
        slot: usize,
        call: Call,
        /// Somebody wants to know how long it works.
        metered: bool,
    },
    Reply {
        slot: usize,
        reply: Reply,
        /// For a metered call: how long it has worked.
        worked: Duration,
    },
    /// From the control thread: take no more connections and end those there are.
    Drain,
    /// From the control thread, when no shard has a connection: write everything back and return.
    Close,
}

pub struct Call(Box<dyn ErasedCall>);
pub struct Reply(ErasedReply);

pub struct Router {
    mesh: Rc<MeshEnd<ShardMessage>>,
    waiting: RefCell<Waiting>,
    /// Messages that found their ring full, by target; bounded by what the connections may have in flight.
    overflow: RefCell<Vec<VecDeque<Option<ShardMessage>>>>,
    overflowed: Signal,
}

/// A call on its way: who gets its reply, and on whose account it works.
type Caller = (oneshot::Sender<ErasedReply>, Option<Meter>);

#[derive(Default)]
struct Waiting {
    slots: Vec<Option<Caller>>,
    free: Vec<usize>,
}

impl Router {
    pub fn new(mesh: MeshEnd<ShardMessage>) -> Router {
        let overflow = (0..mesh.shards()).map(|_| VecDeque::new()).collect();
        Router {
            mesh: Rc::new(mesh),
            waiting: RefCell::default(),
            overflow: RefCell::new(overflow),
            overflowed: Signal::default(),
        }
    }

    /// Runs `call` on shard `to`, which may be this one. Starts it (or sends it) at once, not at the first poll.
    pub fn call<C: ShardCall>(&self, shard: &Rc<Shard>, to: ShardId, call: C) -> CallFuture<C> {
        if to == self.mesh.id() {
            return CallFuture::Local(Box::pin(call.run(shard)));
        }
        let (sender, receiver) = oneshot::channel();
        let meter = Meter::current();
        let metered = meter.is_some();
        let slot = self.waiting.borrow_mut().put((sender, meter));
        self.post(to, ShardMessage::Call { slot, call: Call(Box::new(call)), metered });
        CallFuture::Remote(receiver)
    }

    /// Runs a copy of `call` on each of `shards`, on all at once. Their replies come in the order of the shards.
    pub async fn call_each<C: ShardCall + Clone>(
        &self,
        shard: &Rc<Shard>,
        shards: impl Iterator<Item = ShardId>,
        call: C,
    ) -> Vec<C::Reply> {
        let calls: Vec<_> = shards.map(|to| self.call(shard, to, call.clone())).collect();
        let mut replies = Vec::with_capacity(calls.len());
        for call in calls {
            replies.push(call.await);
        }
        replies
    }

    fn post(&self, to: ShardId, message: ShardMessage) {
        let mut overflow = self.overflow.borrow_mut();
        let Some(queue) = overflow.get_mut(to.index()) else { return };
        let refused = if queue.is_empty() { self.mesh.try_send(to, message).err() } else { Some(message) };
        if let Some(message) = refused {
            queue.push_back(Some(message));
            self.overflowed.notify();
        }
    }

    /// Sends what did not fit when it was posted.
    pub async fn drain_overflow(&self) {
        loop {
            let next = self.overflow.borrow_mut().iter_mut().position(|q| !q.is_empty());
            let Some(to) = next else {
                self.overflowed.wait().await;
                continue;
            };
            // Its place in the queue stays while it waits, so that later messages stay behind it.
            let message = self.overflow.borrow_mut().get_mut(to).and_then(|q| q.front_mut().and_then(Option::take));
            if let Some(message) = message {
                self.mesh.send(ShardId(to as u16), message).await;
                self.overflow.borrow_mut().get_mut(to).map(VecDeque::pop_front);
            }
        }
    }

    /// Receives until it is cancelled.
    pub async fn serve(shard: Rc<Shard>) {
        loop {
            let (from, message) = shard.router.mesh.recv().await;
            match message {
                ShardMessage::Call { slot, call, metered } => {
                    let meter = metered.then(Meter::default);
                    let reply = match &meter {
                        None => call.0.start(&shard),
                        Some(meter) => {
                            let work = meter.count(|| call.0.start(&shard));
                            Box::pin(Metered::new(meter.clone(), work))
                        }
                    };
                    let shard = shard.clone();
                    drop(spawn(Queue::Serve, "shard call", async move {
                        let reply = Reply(reply.await);
                        let worked = meter.map_or(Duration::ZERO, |meter| meter.spent());
                        shard.router.post(from, ShardMessage::Reply { slot, reply, worked });
                    }));
                }
                ShardMessage::Reply { slot, reply, worked } => {
                    let caller = shard.router.waiting.borrow_mut().take(slot);
                    if let Some((sender, meter)) = caller {
                        if let Some(meter) = meter {
                            meter.add(worked);
                        }
                        // The caller may have gone away with its connection.
                        let _ = sender.send(reply.0);
                    }
                }
                ShardMessage::Drain | ShardMessage::Close => {}
            }
        }
    }
}

impl Waiting {
    fn put(&mut self, caller: Caller) -> usize {
        match self.free.pop() {
            Some(slot) => {
                self.slots[slot] = Some(caller);
                slot
            }
            None => {
                self.slots.push(Some(caller));
                self.slots.len() - 1
            }
        }
    }

    fn take(&mut self, slot: usize) -> Option<Caller> {
        let caller = self.slots.get_mut(slot)?.take()?;
        self.free.push(slot);
        Some(caller)
    }
}

/// The answer of a call. A shard answers every call or the whole process ends, so there is no error.
pub enum CallFuture<C: ShardCall> {
    Local(Pin<Box<dyn Future<Output = C::Reply>>>),
    Remote(oneshot::Receiver<ErasedReply>),
}

impl<C: ShardCall> Future for CallFuture<C> {
    type Output = C::Reply;

    fn poll(self: Pin<&mut Self>, context: &mut std::task::Context<'_>) -> std::task::Poll<C::Reply> {
        match self.get_mut() {
            CallFuture::Local(reply) => reply.as_mut().poll(context),
            CallFuture::Remote(receiver) => Pin::new(receiver).poll(context).map(|reply| {
                let reply = reply.expect("the router keeps the sender until the reply is there");
                *reply.downcast::<C::Reply>().expect("a slot is answered with the reply of its own call")
            }),
        }
    }
}
