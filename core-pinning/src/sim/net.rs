//! The simulated network: connections of the machine to itself, with latency, bounded streams, split reads and resets. The
//! same surface as the real `net`, without its memory: see there for what the functions promise.

use super::{random::Rng, world::World};
use crate::{shard::lane, slab::Slab, time};
use bytes::Bytes;
use std::{
    collections::{BTreeMap, VecDeque},
    future::{Future, poll_fn},
    io,
    net::SocketAddr,
    ops::Deref,
    sync::Arc,
    task::{Poll, Waker},
    time::Duration,
};

#[path = "../net/options.rs"]
mod options;
pub use options::{ListenOptions, NetOptions, NetStats};

/// Bytes on their way or received and not read, per direction.
const WINDOW: usize = 256 << 10;
/// The longest a piece is on its way.
const LATENCY_NS: u64 = 200_000;
const FIRST_PORT: u16 = 40_000;

#[derive(Default)]
struct Side {
    other: u32,
    owned: bool,
    out: VecDeque<Bytes>,
    out_bytes: usize,
    /// Sent by this side and not read by the other.
    under_way: usize,
    /// What this side sent arrives in order.
    last_arrival: u64,
    got: VecDeque<Bytes>,
    eof: Option<i32>,
    tx_err: i32,
    rx_waker: Option<Waker>,
    tx_waker: Option<Waker>,
    local: Option<SocketAddr>,
    peer: Option<SocketAddr>,
}

#[derive(Default)]
struct Listening {
    queue: VecDeque<u32>,
    backlog: usize,
    waker: Option<Waker>,
}

enum Arrival {
    Bytes(Bytes),
    End,
}

pub(crate) struct Network {
    rng: Rng,
    /// Per million pieces.
    pub resets: u32,
    sides: Slab<Side>,
    listening: BTreeMap<SocketAddr, Vec<Listening>>,
    /// By time and number: for which side.
    due: BTreeMap<(u64, u64), (u32, Arrival)>,
    number: u64,
    next_port: u16,
}

impl Network {
    pub fn new(rng: Rng) -> Network {
        Network {
            rng,
            resets: 0,
            sides: Slab::default(),
            listening: BTreeMap::new(),
            due: BTreeMap::new(),
            number: 0,
            next_port: FIRST_PORT,
        }
    }

    /// Every connection is gone.
    pub fn clear(&mut self) {
        self.sides = Slab::default();
        self.listening.clear();
        self.due.clear();
    }

    pub fn next_due(&self) -> Option<u64> {
        self.due.first_key_value().map(|(at, _)| at.0)
    }

    /// Hands over what has arrived. True if anything has.
    pub fn deliver(&mut self, now: u64, wake: &mut Vec<Waker>) -> bool {
        let mut did = false;
        while let Some(first) = self.due.first_entry()
            && first.key().0 <= now
        {
            did = true;
            let (to, what) = first.remove();
            if matches!(what, Arrival::Bytes(_)) && self.rng.per_million(self.resets) {
                self.reset(to, wake);
                continue;
            }
            let Some(side) = self.sides.get_mut(to) else { continue };
            match what {
                Arrival::Bytes(b) if side.eof.is_none() => side.got.push_back(b),
                Arrival::Bytes(_) => {}
                Arrival::End => side.eof = side.eof.or(Some(0)),
            }
            wake.extend(side.rx_waker.take());
        }
        did
    }

    fn reset(&mut self, i: u32, wake: &mut Vec<Waker>) {
        let other = self.sides.get(i).map(|s| s.other);
        for i in [Some(i), other].into_iter().flatten() {
            let Some(s) = self.sides.get_mut(i) else { continue };
            s.eof = s.eof.or(Some(libc::ECONNRESET));
            s.tx_err = libc::ECONNRESET;
            s.out.clear();
            wake.extend(s.rx_waker.take());
            wake.extend(s.tx_waker.take());
        }
    }

    /// Sends what the window of side `i` allows, in pieces of any size.
    fn send(&mut self, i: u32, now: u64) {
        while let Some(side) = self.sides.get_mut(i)
            && side.tx_err == 0
            && side.under_way <= WINDOW / 4 * 3
            && let Some(mut piece) = side.out.pop_front()
        {
            let most = piece.len().min(WINDOW - side.under_way);
            let n = if self.rng.one_in(2) { most } else { self.rng.between(1.min(most as u64), most as u64) as usize };
            let rest = piece.split_off(n);
            if !rest.is_empty() {
                side.out.push_front(rest);
            }
            side.out_bytes -= n;
            side.under_way += n;
            let (other, waker) = (side.other, side.tx_waker.take());
            self.arrive(i, other, Arrival::Bytes(piece), now);
            if let Some(w) = waker {
                w.wake();
            }
        }
    }

    fn arrive(&mut self, from: u32, to: u32, what: Arrival, now: u64) {
        let at = now + self.rng.below(LATENCY_NS);
        let at = self.sides.get_mut(from).map_or(at, |s| {
            s.last_arrival = at.max(s.last_arrival);
            s.last_arrival
        });
        self.number += 1;
        self.due.insert((at, self.number), (to, what));
    }

    /// Side `i` will send nothing more, and read nothing.
    fn end(&mut self, i: u32, now: u64) {
        let Some(side) = self.sides.get_mut(i) else { return };
        if side.tx_err != 0 {
            return;
        }
        side.tx_err = libc::EPIPE;
        side.eof = side.eof.or(Some(0));
        let (other, wakers) = (side.other, [side.rx_waker.take(), side.tx_waker.take()]);
        self.arrive(i, other, Arrival::End, now);
        wakers.into_iter().flatten().for_each(Waker::wake);
    }

    fn free(&mut self, i: u32) {
        let other = self.sides.get(i).map(|s| s.other);
        let gone = |s: Option<&Side>| s.is_none_or(|s| !s.owned);
        if let Some(other) = other
            && gone(self.sides.get(i))
            && gone(self.sides.get(other))
        {
            self.due.retain(|_, (to, _)| *to != i && *to != other);
            self.sides.remove(i);
            self.sides.remove(other);
        }
    }

    fn port(&mut self) -> u16 {
        self.next_port = self.next_port.checked_add(1).unwrap_or(FIRST_PORT);
        self.next_port
    }

    fn connect(&mut self, to: SocketAddr) -> io::Result<u32> {
        let from = SocketAddr::new(to.ip(), self.port());
        let chance = self.rng.u64();
        let listeners = self.listening.get_mut(&to).filter(|l| !l.is_empty());
        let Some(listeners) = listeners else { return Err(io::Error::from_raw_os_error(libc::ECONNREFUSED)) };
        let at = (chance % listeners.len() as u64) as usize;
        let listener = &mut listeners[at];
        if listener.queue.len() >= listener.backlog {
            return Err(io::Error::from_raw_os_error(libc::ECONNREFUSED));
        }
        let side = |local, peer, owned| Side { owned, local: Some(local), peer: Some(peer), ..Side::default() };
        let (client, server) = (self.sides.insert(side(from, to, true)), self.sides.insert(side(to, from, true)));
        for (i, other) in [(client, server), (server, client)] {
            if let Some(s) = self.sides.get_mut(i) {
                s.other = other;
            }
        }
        listener.queue.push_back(server);
        if let Some(w) = listener.waker.take() {
            w.wake();
        }
        Ok(client)
    }
}

/// Received bytes.
pub struct RecvBuf(Bytes);

impl RecvBuf {
    pub fn skip(&mut self, n: usize) {
        self.0 = self.0.slice(n.min(self.0.len())..);
    }
}

impl Deref for RecvBuf {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl AsRef<[u8]> for RecvBuf {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

/// There is no receive memory to lay out.
pub fn configure(_: NetOptions) -> io::Result<()> {
    Ok(())
}

/// Of the machine.
pub fn stats() -> NetStats {
    let connections = world().net().sides.iter().filter(|(_, s)| s.owned).count();
    NetStats { connections, ..NetStats::default() }
}

fn world() -> Arc<World> {
    lane::current().reactor.world.clone()
}

/// A listening socket.
pub struct Listener {
    world: Arc<World>,
    address: SocketAddr,
    /// With `reuse_port` several listen on one address; a place never moves.
    place: usize,
}

pub fn listen(mut address: SocketAddr, options: ListenOptions) -> io::Result<Listener> {
    let world = world();
    let mut net = world.net();
    if address.port() == 0 {
        address.set_port(net.port());
    }
    let listeners = net.listening.entry(address).or_default();
    if !listeners.is_empty() && !options.reuse_port {
        return Err(io::Error::from_raw_os_error(libc::EADDRINUSE));
    }
    listeners.push(Listening { backlog: options.backlog.max(1) as usize, ..Listening::default() });
    let place = listeners.len() - 1;
    drop(net);
    Ok(Listener { world, address, place })
}

impl Listener {
    pub async fn accept(&self) -> io::Result<Conn> {
        let accepted = poll_fn(|cx| {
            let mut net = self.world.net();
            let Some(l) = net.listening.get_mut(&self.address).and_then(|l| l.get_mut(self.place)) else {
                return Poll::Ready(Err(io::Error::from(io::ErrorKind::NotConnected)));
            };
            match l.queue.pop_front() {
                Some(i) => Poll::Ready(Ok(i)),
                None => {
                    l.waker = Some(cx.waker().clone());
                    Poll::Pending
                }
            }
        });
        let i = accepted.await?;
        Ok(Conn { world: self.world.clone(), i })
    }

    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let mut net = self.world.net();
        let Some(listeners) = net.listening.get_mut(&self.address) else { return };
        let Some(mine) = listeners.get_mut(self.place) else { return };
        mine.backlog = 0;
        let unaccepted = std::mem::take(&mut mine.queue);
        if listeners.iter().all(|l| l.backlog == 0) {
            net.listening.remove(&self.address);
        }
        let mut wake = Vec::new();
        for i in unaccepted {
            net.reset(i, &mut wake);
            if let Some(s) = net.sides.get_mut(i) {
                s.owned = false;
            }
        }
        drop(net);
        wake.into_iter().for_each(Waker::wake);
    }
}

/// One connection.
pub struct Conn {
    world: Arc<World>,
    i: u32,
}

pub async fn connect(address: SocketAddr) -> io::Result<Conn> {
    let world = world();
    let takes = world.net().rng.below(LATENCY_NS);
    time::sleep(Duration::from_nanos(takes)).await;
    let i = world.net().connect(address)?;
    Ok(Conn { world, i })
}

impl Conn {
    fn with<T>(&self, f: impl FnOnce(&mut Side) -> T) -> T {
        f(self.world.net().sides.get_mut(self.i).expect("a connection keeps its place"))
    }

    pub fn recv(&self) -> impl Future<Output = io::Result<Option<RecvBuf>>> + '_ {
        poll_fn(|cx| {
            if let Some(b) = self.try_recv() {
                return Poll::Ready(Ok(Some(b)));
            }
            self.with(|s| match s.eof {
                Some(0) => Poll::Ready(Ok(None)),
                Some(e) => Poll::Ready(Err(io::Error::from_raw_os_error(e))),
                None => {
                    s.rx_waker = Some(cx.waker().clone());
                    Poll::Pending
                }
            })
        })
    }

    pub fn try_recv(&self) -> Option<RecvBuf> {
        let mut net = self.world.net();
        let side = net.sides.get_mut(self.i)?;
        let (b, other) = (side.got.pop_front()?, side.other);
        if let Some(sender) = net.sides.get_mut(other) {
            sender.under_way -= b.len();
        }
        net.send(other, self.world.now());
        Some(RecvBuf(b))
    }

    pub fn put_back(&self, piece: RecvBuf) {
        if piece.is_empty() {
            return;
        }
        let mut net = self.world.net();
        let Some(side) = net.sides.get_mut(self.i) else { return };
        let (other, len) = (side.other, piece.len());
        side.got.push_front(piece.0);
        if let Some(sender) = net.sides.get_mut(other) {
            sender.under_way += len;
        }
    }

    pub fn send(&self, b: Bytes) {
        if b.is_empty() {
            return;
        }
        let mut net = self.world.net();
        let Some(s) = net.sides.get_mut(self.i) else { return };
        s.out_bytes += b.len();
        if s.tx_err == 0 {
            s.out.push_back(b);
        }
        net.send(self.i, self.world.now());
    }

    pub fn send_copy(&self, b: &[u8]) {
        self.send(Bytes::copy_from_slice(b));
    }

    pub fn flushed(&self, limit: usize) -> impl Future<Output = io::Result<()>> + '_ {
        poll_fn(move |cx| {
            self.with(|s| {
                if s.tx_err != 0 {
                    return Poll::Ready(Err(io::Error::from_raw_os_error(s.tx_err)));
                }
                if s.out_bytes <= limit {
                    return Poll::Ready(Ok(()));
                }
                s.tx_waker = Some(cx.waker().clone());
                Poll::Pending
            })
        })
    }

    pub fn unsent(&self) -> usize {
        self.with(|s| s.out_bytes)
    }

    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.with(|s| s.peer).ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.with(|s| s.local).ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    pub fn shutdown(&self) {
        self.world.net().end(self.i, self.world.now());
    }
}

impl std::fmt::Debug for Conn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Conn({})", self.i)
    }
}

impl Drop for Conn {
    fn drop(&mut self) {
        let mut net = self.world.net();
        if let Some(s) = net.sides.get_mut(self.i) {
            s.owned = false;
            s.got.clear();
        }
        net.end(self.i, self.world.now());
        net.free(self.i);
    }
}
