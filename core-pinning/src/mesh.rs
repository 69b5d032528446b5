//! Messages between shards: one bounded ring per ordered pair, one wake-up for many messages.

use crate::{
    reactor::{Remote, mail},
    shard::{ShardId, lane},
    sync::Semaphore,
};
use rtrb::{Consumer, Producer, PushError, RingBuffer};
use std::{
    cell::{Cell, RefCell},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering, fence},
    },
};

/// Messages a ring holds, if the pool is not told otherwise.
pub const RING_MESSAGES: usize = 4096;
/// Messages taken from one ring before the next one has its turn.
const BURST: u32 = 64;

/// One shard's end of the mesh.
///
/// Messages from one shard to another arrive in the order in which their sends completed; between several senders to
/// one shard there is no order. A shard may send to itself.
///
/// The task that receives must never wait in [`send`](MeshEnd::send): two shards whose receivers wait for room in each
/// other's rings wait for ever. Answer from a task of its own, or give up when [`try_send`](MeshEnd::try_send) refuses.
pub struct MeshEnd<M> {
    id: ShardId,
    out: Vec<Out<M>>,
    into: Vec<In<M>>,
    /// The ring being read, and how many messages it may still give before the next one's turn.
    turn: Cell<(usize, u32)>,
}

struct Out<M> {
    ring: RefCell<Producer<M>>,
    /// Held by the task that waits for room; others queue behind it.
    line: Semaphore,
    blocked: Arc<AtomicBool>,
    remote: Arc<Remote>,
}

struct In<M> {
    ring: RefCell<Consumer<M>>,
    /// The sender found the ring full and waits to be told of room.
    blocked: Arc<AtomicBool>,
    remote: Arc<Remote>,
    /// Messages taken since the sender was last looked after.
    taken: Cell<u32>,
    tell_after: u32,
}

impl<M> Out<M> {
    fn push(&self, message: M) -> Result<(), M> {
        let pushed = self.ring.borrow_mut().push(message);
        match pushed {
            Ok(()) => {
                self.remote.notify(mail::MESH);
                Ok(())
            }
            Err(PushError::Full(m)) => Err(m),
        }
    }
}

impl<M> In<M> {
    fn pop(&self) -> Option<M> {
        let message = self.ring.borrow_mut().pop().ok();
        let taken = self.taken.get() + u32::from(message.is_some());
        // a sender that waits is told when the ring is empty, or a good part of it is free
        if taken >= self.tell_after || message.is_none() && taken > 0 {
            self.taken.set(0);
            fence(Ordering::SeqCst); // our pops before the look; the sender: its mark before its look at the ring
            if self.blocked.load(Ordering::Relaxed) && self.blocked.swap(false, Ordering::SeqCst) {
                self.remote.notify(mail::ROOM);
            }
        } else {
            self.taken.set(taken);
        }
        message
    }
}

impl<M: Send + 'static> MeshEnd<M> {
    pub fn id(&self) -> ShardId {
        self.id
    }

    pub fn shards(&self) -> usize {
        self.out.len()
    }

    fn out(&self, to: ShardId) -> &Out<M> {
        self.out.get(to.index()).unwrap_or_else(|| panic!("shard {to} of {}", self.out.len()))
    }

    /// Gives the message back if the ring is full or others wait for room. Panics if there is no shard `to`.
    pub fn try_send(&self, to: ShardId, message: M) -> Result<(), M> {
        let out = self.out(to);
        match out.line.try_acquire(1) {
            Some(_turn) => out.push(message),
            None => Err(message),
        }
    }

    /// Waits for room, in the order of the calls. Panics if there is no shard `to`.
    pub async fn send(&self, to: ShardId, message: M) {
        let out = self.out(to);
        let _turn = out.line.acquire(1).await;
        let Err(mut message) = out.push(message) else { return };
        let reactor = lane::current().reactor.clone();
        loop {
            let room = reactor.mail_event(mail::ROOM).listen();
            out.blocked.store(true, Ordering::SeqCst);
            fence(Ordering::SeqCst);
            match out.push(message) {
                Ok(()) => return,
                Err(m) => message = m,
            }
            room.await;
        }
    }

    /// The next message that is there. The rings take turns.
    pub fn try_recv(&self) -> Option<(ShardId, M)> {
        let (mut from, mut left) = self.turn.get();
        for _ in 0..=self.into.len() {
            if left > 0
                && let Some(message) = self.into[from].pop()
            {
                self.turn.set((from, left - 1));
                return Some((ShardId(from as u16), message));
            }
            from = (from + 1) % self.into.len();
            left = BURST;
        }
        self.turn.set((from, left));
        None
    }

    /// The next message. Meant for one task; if several wait, any gets it.
    pub async fn recv(&self) -> (ShardId, M) {
        if let Some(m) = self.try_recv() {
            return m;
        }
        let reactor = lane::current().reactor.clone();
        loop {
            let arrived = reactor.mail_event(mail::MESH).listen();
            if let Some(m) = self.try_recv() {
                return m;
            }
            arrived.await;
        }
    }
}

/// The ends of a mesh between the shards behind `remotes`.
pub(crate) fn build<M>(remotes: &[Arc<Remote>], capacity: usize) -> Vec<MeshEnd<M>> {
    let n = remotes.len();
    let mut ends: Vec<MeshEnd<M>> = (0..n)
        .map(|i| MeshEnd {
            id: ShardId(i as u16),
            out: Vec::with_capacity(n),
            into: Vec::with_capacity(n),
            turn: Cell::new((0, BURST)),
        })
        .collect();
    for from in 0..n {
        for to in 0..n {
            let (tx, rx) = RingBuffer::new(capacity);
            let blocked = Arc::new(AtomicBool::new(false));
            ends[from].out.push(Out {
                ring: RefCell::new(tx),
                line: Semaphore::new(1),
                blocked: blocked.clone(),
                remote: remotes[to].clone(),
            });
            ends[to].into.push(In {
                ring: RefCell::new(rx),
                blocked,
                remote: remotes[from].clone(),
                taken: Cell::new(0),
                tell_after: (capacity / 4).max(1) as u32,
            });
        }
    }
    ends
}
