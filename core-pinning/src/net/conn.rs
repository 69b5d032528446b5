//! One connection.

use super::{NetState, address, area::Group, recv, send::Batch};
use crate::reactor::{Reactor, ops::Work};
use bytes::Bytes;
use std::{
    collections::VecDeque,
    future::{Future, poll_fn},
    io,
    net::SocketAddr,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    rc::Rc,
    task::{Context, Poll, Waker},
};

use super::RecvBuf;

#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Rx {
    Off,
    Armed,
    Cancelling,
}

/// How a connection sends, as far as has been seen.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Flow {
    New,
    /// Little at a time: a request for whatever comes stays with the kernel.
    Small,
    /// More than its task takes at once: each piece is asked for in its turn.
    Bulk,
}

pub(super) struct Slot {
    pub fd: OwnedFd,
    /// Its `Conn` lives.
    pub owned: bool,
    pub rx: Rx,
    pub flow: Flow,
    /// Where the kernel receives to.
    pub group: Group,
    /// It is in a list of those whose receive goes on later.
    pub rx_waits: bool,
    /// 0: the peer closed; else an errno.
    pub eof: Option<i32>,
    pub got: VecDeque<RecvBuf>,
    pub got_bytes: usize,
    pub rx_waker: Option<Waker>,
    pub out: VecDeque<Bytes>,
    /// Small replies, copied together.
    pub tail: Vec<u8>,
    /// Queued and not taken by the kernel yet.
    pub out_bytes: usize,
    /// In the list of those that want to send.
    pub dirty: bool,
    /// The send under way.
    pub batch: Option<Box<Batch>>,
    pub tx_waker: Option<Waker>,
    pub tx_err: i32,
}

impl Slot {
    pub fn is_leaving(&self) -> bool {
        !self.owned
    }

    pub fn is_free(&self) -> bool {
        !self.owned && self.rx == Rx::Off && self.batch.is_none()
    }

    fn wait_to_receive(&mut self, cx: &Context<'_>) {
        if !self.rx_waker.as_ref().is_some_and(|w| w.will_wake(cx.waker())) {
            self.rx_waker = Some(cx.waker().clone());
        }
    }
}

/// One connection. Dropping it closes the socket; queued replies that the kernel has not taken by then are lost, so
/// wait for [`flushed`](Conn::flushed)`(0)` first if they matter.
pub struct Conn {
    reactor: Rc<Reactor>,
    i: u32,
}

/// Connects to `address`, with TCP_NODELAY.
pub async fn connect(address: SocketAddr) -> io::Result<Conn> {
    let reactor = super::reactor()?;
    let socket = address::socket(address)?;
    address::set_option(socket.as_fd(), libc::IPPROTO_TCP, libc::TCP_NODELAY, 1)?;
    match reactor.start(Work::Connect { socket, address: Box::new(address::to_kernel(address)) }).await {
        (Work::Connect { socket, .. }, Ok(_)) => Ok(Conn::adopt(&reactor, socket)),
        (_, r) => Err(r.err().unwrap_or_else(|| io::ErrorKind::Other.into())),
    }
}

impl Conn {
    /// Takes over a connected socket and starts to receive.
    pub(super) fn adopt(reactor: &Rc<Reactor>, fd: OwnedFd) -> Conn {
        let mut st = reactor.net.borrow_mut();
        let i = st.conns.insert(Slot {
            fd,
            owned: true,
            rx: Rx::Off,
            flow: Flow::New,
            group: Group::Ordinary,
            rx_waits: false,
            eof: None,
            got: VecDeque::new(),
            got_bytes: 0,
            rx_waker: None,
            out: VecDeque::new(),
            tail: Vec::new(),
            out_bytes: 0,
            dirty: false,
            batch: None,
            tx_waker: None,
            tx_err: 0,
        });
        recv::arm(reactor, &mut st, i);
        drop(st);
        Conn { reactor: reactor.clone(), i }
    }

    /// The next bytes in order, `None` at the end of the stream. For one task.
    pub fn recv(&self) -> impl Future<Output = io::Result<Option<RecvBuf>>> + '_ {
        poll_fn(|cx| {
            let mut st = self.reactor.net.borrow_mut();
            if let Some(b) = self.next(&mut st) {
                return Poll::Ready(Ok(Some(b)));
            }
            let c = st.conn(self.i);
            match c.eof {
                Some(0) => Poll::Ready(Ok(None)),
                Some(e) => Poll::Ready(Err(io::Error::from_raw_os_error(e))),
                None => {
                    c.wait_to_receive(cx);
                    Poll::Pending
                }
            }
        })
    }

    /// What has been received already: serve everything that is there before waiting.
    pub fn try_recv(&self) -> Option<RecvBuf> {
        self.next(&mut self.reactor.net.borrow_mut())
    }

    /// What was received last and is not wanted yet is received again. So a task that waits keeps no receive memory from others.
    pub fn put_back(&self, piece: RecvBuf) {
        if piece.is_empty() {
            return;
        }
        let mut st = self.reactor.net.borrow_mut();
        let c = st.conn(self.i);
        c.got_bytes += piece.len();
        c.got.push_front(piece);
    }

    /// Received bytes that [`recv`](Conn::recv) has not given out.
    pub fn queued(&self) -> usize {
        self.reactor.net.borrow_mut().conn(self.i).got_bytes
    }

    /// Waits until so many bytes are queued; false: they will not come. Not for more than a connection may queue
    /// ([`NetOptions::rx_limit`](super::NetOptions::rx_limit)), and for the task that receives.
    pub fn has_queued(&self, bytes: usize) -> impl Future<Output = bool> + '_ {
        poll_fn(move |cx| {
            let mut st = self.reactor.net.borrow_mut();
            let c = st.conn(self.i);
            if c.got_bytes >= bytes || c.eof.is_some() {
                return Poll::Ready(c.got_bytes >= bytes);
            }
            c.wait_to_receive(cx);
            Poll::Pending
        })
    }

    fn next(&self, st: &mut NetState) -> Option<RecvBuf> {
        let limit = st.options.rx_limit;
        let c = st.conn(self.i);
        let b = c.got.pop_front()?;
        c.got_bytes -= b.len();
        if c.may_resume(limit) {
            recv::arm(&self.reactor, st, self.i);
        }
        Some(b)
    }

    /// Queues bytes without copying them. They leave in the order of the calls, all that are queued in one send.
    pub fn send(&self, b: Bytes) {
        let mut st = self.reactor.net.borrow_mut();
        let c = st.conn(self.i);
        if !c.tail.is_empty() {
            c.out.push_back(std::mem::take(&mut c.tail).into());
        }
        c.out_bytes += b.len();
        c.out.push_back(b);
        self.mark(&mut st);
    }

    /// Queues a few bytes, copying them behind the previous ones.
    pub fn send_copy(&self, b: &[u8]) {
        let mut st = self.reactor.net.borrow_mut();
        let c = st.conn(self.i);
        c.out_bytes += b.len();
        c.tail.extend_from_slice(b);
        self.mark(&mut st);
    }

    fn mark(&self, st: &mut NetState) {
        let c = st.conn(self.i);
        if c.tx_err != 0 {
            // nobody will ever take them
            c.out.clear();
            c.tail.clear();
        } else if !c.dirty && c.batch.is_none() {
            c.dirty = true;
            st.dirty.push(self.i);
            self.reactor.want_turn();
        }
    }

    /// Waits until at most `limit` queued bytes are left (the caller's back-pressure); 0 flushes. For one task.
    pub fn flushed(&self, limit: usize) -> impl Future<Output = io::Result<()>> + '_ {
        poll_fn(move |cx| {
            let mut st = self.reactor.net.borrow_mut();
            let c = st.conn(self.i);
            if c.tx_err != 0 {
                return Poll::Ready(Err(io::Error::from_raw_os_error(c.tx_err)));
            }
            if c.out_bytes <= limit {
                return Poll::Ready(Ok(()));
            }
            if !c.tx_waker.as_ref().is_some_and(|w| w.will_wake(cx.waker())) {
                c.tx_waker = Some(cx.waker().clone());
            }
            Poll::Pending
        })
    }

    /// Queued bytes that the kernel has not taken.
    pub fn unsent(&self) -> usize {
        self.reactor.net.borrow_mut().conn(self.i).out_bytes
    }

    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        address::as_std(&self.reactor.net.borrow_mut().conn(self.i).fd, |s| s.peer_addr())
    }

    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        address::as_std(&self.reactor.net.borrow_mut().conn(self.i).fd, |s| s.local_addr())
    }

    /// Ends both directions now: the reading task gets the end of the stream, sends fail.
    pub fn shutdown(&self) {
        address::shut_down(&self.reactor.net.borrow_mut().conn(self.i).fd);
    }
}

impl std::fmt::Debug for Conn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let fd = self.reactor.net.borrow().conns.get(self.i).map(|c| c.fd.as_raw_fd());
        write!(f, "Conn({}, fd {fd:?})", self.i)
    }
}

impl Drop for Conn {
    fn drop(&mut self) {
        let mut st = self.reactor.net.borrow_mut();
        let c = st.conn(self.i);
        c.owned = false;
        let unread = std::mem::take(&mut c.got);
        let unsent = std::mem::take(&mut c.out);
        let wakers = (c.rx_waker.take(), c.tx_waker.take());
        // ends the receive and a send that waits; their completions free the slot
        address::shut_down(&c.fd);
        let gone = st.release(self.i);
        drop(st);
        drop((unread, unsent, wakers, gone));
    }
}
