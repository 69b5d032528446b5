//! Sockets of one shard, on its ring: multishot accept, multishot receive into the shard's receive memory, and sends
//! that carry everything queued on a connection.
//!
//! One task reads a connection and one waits for its sends (they may be the same). Back-pressure both ways: who does
//! not read stops its peer at [`NetOptions::rx_limit`], and who sends waits in [`Conn::flushed`].

mod address;
mod area;
mod conn;
mod listener;
mod options;
mod recv;
mod send;

pub(crate) use area::{Area, Areas};
pub use conn::{Conn, connect};
pub use listener::{Listener, listen};
pub use options::{ListenOptions, NetOptions, NetStats};
pub use recv::RecvBuf;

use crate::{
    budget::Budget,
    reactor::{Kind, Reactor},
    shard::lane,
    slab::Slab,
};
use conn::Slot;
use listener::Acceptor;
use send::Batch;
use std::{collections::VecDeque, io, rc::Rc, task::Waker};

/// Pieces a connection may queue, whatever their size.
const RX_PIECES: usize = 64;

pub(crate) struct NetState {
    options: NetOptions,
    /// What received bytes outside the receive memory take.
    aside: Budget,
    conns: Slab<Slot>,
    acceptors: Slab<Acceptor>,
    /// Connections with something to send and no send under way.
    dirty: Vec<u32>,
    /// Connections whose receive ended for want of a buffer.
    starved: Vec<u32>,
    /// Connections that send much: whose turn it is to receive comes first.
    bulk: VecDeque<u32>,
    /// Boxed: the kernel holds a pointer to a batch's header between the queueing and the enter.
    #[allow(clippy::vec_box)]
    spare: Vec<Box<Batch>>,
}

/// Sets the calling shard's options. Fails once the shard has had a socket.
pub fn configure(o: NetOptions) -> io::Result<()> {
    let reactor = lane::current().reactor.clone();
    if reactor.areas.borrow().is_some() {
        return Err(io::Error::other("the shard has sockets already"));
    }
    let mut st = reactor.net.borrow_mut();
    st.aside = Budget::new(o.aside_bytes);
    st.options = o;
    Ok(())
}

/// Of the calling shard.
pub fn stats() -> NetStats {
    let reactor = lane::current().reactor.clone();
    let (areas, st) = (reactor.areas.borrow(), reactor.net.borrow());
    let (receive_buffers, receive_buffers_free) = areas.as_ref().map_or((0, 0), Areas::count);
    NetStats { connections: st.conns.len(), receive_buffers, receive_buffers_free, aside_bytes: st.aside.used() }
}

/// The reactor of the calling shard, its receive memory set up.
fn reactor() -> io::Result<Rc<Reactor>> {
    let reactor = lane::current().reactor.clone();
    if reactor.areas.borrow().is_none() {
        let options = reactor.net.borrow().options.clone();
        let areas = reactor.with_ring(|ring| Areas::new(&ring.uring.submitter(), &options))?;
        *reactor.areas.borrow_mut() = Some(areas);
    }
    Ok(reactor)
}

impl Default for NetState {
    fn default() -> Self {
        let options = NetOptions::default();
        NetState {
            aside: Budget::new(options.aside_bytes),
            options,
            conns: Slab::default(),
            acceptors: Slab::default(),
            dirty: Vec::new(),
            starved: Vec::new(),
            bulk: VecDeque::new(),
            spare: Vec::new(),
        }
    }
}

impl NetState {
    /// The kernel still holds something of a socket that is going.
    pub fn in_flight(&self) -> bool {
        self.conns.iter().any(|(_, c)| c.is_leaving()) || self.acceptors.iter().any(|(_, a)| a.is_leaving())
    }

    fn conn(&mut self, i: u32) -> &mut Slot {
        self.conns.get_mut(i).expect("a connection keeps its slot")
    }

    /// Frees the slot once its `Conn` is dropped and the kernel holds nothing of it.
    fn release(&mut self, i: u32) -> Option<Slot> {
        if self.conns.get(i).is_some_and(Slot::is_free) { self.conns.remove(i) } else { None }
    }
}

/// Before the pump submits: receives that waited for memory, and everything queued for sending.
pub(crate) fn prepare(reactor: &Rc<Reactor>) {
    let mut st = reactor.net.borrow_mut();
    if !st.starved.is_empty() {
        recv::resume_starved(reactor, &mut st);
    }
    if !st.bulk.is_empty() {
        recv::receive_bulk(reactor, &mut st);
    }
    if !st.dirty.is_empty() {
        let mut dirty = std::mem::take(&mut st.dirty);
        for i in dirty.drain(..) {
            send::start(reactor, &mut st, i);
        }
        if st.dirty.is_empty() {
            st.dirty = dirty; // keeps its memory
        }
    }
}

/// A completion that is the sockets'.
pub(crate) fn completed(reactor: &Rc<Reactor>, user_data: u64, result: i32, flags: u32, wake: &mut Vec<Waker>) {
    let (kind, i) = ((user_data >> 32) as u32, user_data as u32);
    let mut st = reactor.net.borrow_mut();
    if kind == Kind::Accept as u32 {
        let gone = listener::accepted(&mut st, i, result, flags, wake);
        drop(st);
        drop(gone);
        return;
    }
    if kind == Kind::Recv as u32 {
        recv::received(reactor, &mut st, i, result, flags, wake);
    } else if kind == Kind::Send as u32 {
        send::sent(reactor, &mut st, i, result, flags, wake);
    } else {
        return;
    }
    let gone = st.release(i);
    drop(st);
    drop(gone);
}
