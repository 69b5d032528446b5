//! Receiving: pieces of the shard's receive memory, by one multishot request for each connection that sends little at a time.
//!
//! What a multishot request takes at once has no bound: the kernel goes on as long as the peer does. So a connection that sends much
//! receives one buffer at a time, a few such connections in a turn of the pump, in the order in which they came: however many they
//! are, what others have sent is looked at in between. A new connection shows first which kind it is.
#![allow(unsafe_code)]

use super::{
    NetState, RX_PIECES, address,
    area::Group,
    conn::{Flow, Rx, Slot},
};
use crate::budget::{Budget, BudgetUnits};
use crate::reactor::{Kind, Reactor, tag};
use io_uring::{cqueue, opcode, squeue, types::Fd};
use std::{ops::Deref, os::fd::AsRawFd, ptr, rc::Rc, task::Waker};

/// What a new connection may send at first.
const FIRST: u32 = 16 << 10;
/// A connection of which so much comes at once sends much, until there is less than [`FIRST`] of it and no more behind it.
const MUCH: usize = 32 << 10;
/// Connections that send much and receive in one turn of the pump.
const BULK_TURN: u16 = 4;

/// What is set aside and no larger is let in where larger pieces are not, into the last quarter of what there is.
const ASIDE_SMALL: usize = 4 << 10;

/// Received bytes, still in the shard's receive memory: copy them where they belong and drop this soon, or
/// [put it back](super::Conn::put_back).
pub struct RecvBuf {
    from: Source,
    at: *const u8,
    len: usize,
}

enum Source {
    Area {
        reactor: Rc<Reactor>,
        group: Group,
        id: u16,
    },
    /// Outside the receive memory, for a task that is not reading.
    Heap {
        _bytes: Box<[u8]>,
        _units: BudgetUnits,
    },
}

impl RecvBuf {
    /// Leaves out the first `n` bytes, at most all.
    pub fn skip(&mut self, n: usize) {
        let rest = self.get(n..).unwrap_or_default();
        (self.at, self.len) = (rest.as_ptr(), rest.len());
    }

    fn is_aside(&self) -> bool {
        matches!(self.from, Source::Heap { .. })
    }

    fn is_of(&self, wanted: Group) -> bool {
        matches!(self.from, Source::Area { group, .. } if group == wanted)
    }

    /// Puts the bytes outside the receive memory; false: there is no room for them.
    fn set_aside(&mut self, aside: &Budget) -> bool {
        if self.is_aside() {
            return true;
        }
        let Some(units) = room_in(aside, self.len) else { return false };
        let bytes: Box<[u8]> = (**self).into();
        *self = RecvBuf { at: bytes.as_ptr(), len: bytes.len(), from: Source::Heap { _bytes: bytes, _units: units } };
        true
    }
}

fn room_in(aside: &Budget, bytes: usize) -> Option<BudgetUnits> {
    let kept = if bytes > ASIDE_SMALL { aside.limit() / 4 } else { 0 };
    (aside.used() + bytes + kept <= aside.limit()).then(|| aside.try_take(bytes)).flatten()
}

impl Deref for RecvBuf {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        // SAFETY: the kernel wrote `len` bytes there and does not touch them again before `done`; or our own heap.
        unsafe { std::slice::from_raw_parts(self.at, self.len) }
    }
}

impl AsRef<[u8]> for RecvBuf {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl Drop for RecvBuf {
    fn drop(&mut self) {
        if let Source::Area { reactor, group, id } = &self.from {
            let wanted = reactor.areas.borrow_mut().as_mut().is_some_and(|a| a.of(*group).done(*id));
            if wanted {
                reactor.want_turn();
            }
        }
    }
}

/// Asks the kernel for what comes, unless it has been asked.
pub(super) fn arm(reactor: &Reactor, st: &mut NetState, i: u32) {
    let Some(c) = st.conns.get_mut(i) else { return };
    if !c.may_receive() {
        return;
    }
    if c.flow == Flow::Bulk {
        c.rx_waits = true;
        st.bulk.push_back(i);
        return reactor.want_turn();
    }
    c.receive(reactor, i);
}

/// Buffers of a group that the kernel can receive into.
fn free(reactor: &Reactor, group: Group) -> u16 {
    reactor.areas.borrow_mut().as_mut().map_or(0, |areas| areas.of(group).free())
}

/// The drop of a piece that gives a buffer back kicks the pump, or does so no more.
fn set_starved(reactor: &Reactor, group: Group, starved: bool) {
    if let Some(areas) = reactor.areas.borrow_mut().as_mut() {
        areas.of(group).starved = starved;
    }
}

/// Receives that found no buffer go on, if there is one now. If there is none, what connections have queued is copied
/// out of the receive memory: tasks that do not read must not stop those that do.
pub(super) fn resume_starved(reactor: &Rc<Reactor>, st: &mut NetState) {
    make_room(reactor, st, Group::Ordinary, u16::MAX);
    if free(reactor, Group::Ordinary) == 0 {
        return; // all of it is in the hands of tasks, which do not wait with it; the drop of a piece kicks the pump
    }
    set_starved(reactor, Group::Ordinary, false);
    let limit = st.options.rx_limit;
    for i in std::mem::take(&mut st.starved) {
        let Some(c) = st.conns.get_mut(i) else { continue };
        c.rx_waits = false;
        // Whose task does not read goes on when it does.
        if !c.is_full(limit) {
            arm(reactor, st, i);
        }
    }
}

/// The next few of those that send much receive a piece each.
pub(super) fn receive_bulk(reactor: &Rc<Reactor>, st: &mut NetState) {
    make_room(reactor, st, Group::Bulk, BULK_TURN);
    let limit = st.options.rx_limit;
    let mut left = free(reactor, Group::Bulk).min(BULK_TURN);
    let has_room = left > 0;
    while left > 0
        && let Some(i) = st.bulk.pop_front()
    {
        let Some(c) = st.conns.get_mut(i) else { continue };
        if std::mem::take(&mut c.rx_waits) && c.may_receive() && !c.is_full(limit) {
            c.receive(reactor, i);
            left -= 1;
        }
    }
    let others_wait = !st.bulk.is_empty();
    set_starved(reactor, Group::Bulk, others_wait && !has_room);
    if others_wait && has_room {
        reactor.want_turn();
    } else if others_wait {
        reactor.count(|s| s.starved += 1);
    }
}

/// Where no buffer is free, what connections have queued is copied out of the receive memory until so many are.
fn make_room(reactor: &Rc<Reactor>, st: &mut NetState, group: Group, buffers: u16) {
    if free(reactor, group) > 0 {
        return;
    }
    let holds = |c: &Slot| c.got.iter().any(|piece| piece.is_of(group));
    let holders: Vec<u32> = st.conns.iter().filter(|(_, c)| holds(c)).map(|(i, _)| i).collect();
    for i in holders {
        if free(reactor, group) >= buffers {
            return;
        }
        set_aside(st, i, 0);
    }
}

/// Copies a connection's pieces from number `from` on out of the receive memory. Where there is no room for them, whoever has queued
/// most is let go, until there is, or it is the one: what many have queued must not cost those who have queued little.
fn set_aside(st: &mut NetState, i: u32, from: usize) {
    let NetState { conns, aside, .. } = st;
    loop {
        let Some(c) = conns.get_mut(i) else { return };
        if c.got.iter_mut().skip(from).all(|piece| piece.set_aside(aside)) {
            return;
        }
        let most = conns.iter_mut().map(|(_, c)| c).filter(|c| c.owned).max_by_key(|c| c.got_bytes);
        let Some(most) = most else { return };
        most.overrun();
    }
}

pub(super) fn received(
    reactor: &Rc<Reactor>,
    st: &mut NetState,
    i: u32,
    result: i32,
    flags: u32,
    wake: &mut Vec<Waker>,
) {
    let limit = st.options.rx_limit;
    let Some(c) = st.conns.get_mut(i) else { return };
    let more = cqueue::more(flags);
    if !more {
        c.rx = Rx::Off;
    }
    let group = c.group;
    let piece = cqueue::buffer_select(flags).map(|id| {
        let len = result.max(0) as usize;
        let mut areas = reactor.areas.borrow_mut();
        let areas = areas.as_mut().expect("receive memory is set up before any socket");
        RecvBuf {
            at: areas.of(group).filled(id, len, cqueue::buffer_more(flags)),
            len,
            from: Source::Area { reactor: reactor.clone(), group, id },
        }
    });
    match result {
        1.. => {
            if let Some(piece) = piece
                && c.owned
                && c.eof.is_none()
            {
                let (full, number) = (c.is_full(limit), c.got.len());
                c.note_flow(piece.len(), !more, cqueue::sock_nonempty(flags));
                c.got_bytes += piece.len();
                c.got.push_back(piece);
                if full {
                    set_aside(st, i, number);
                }
            }
            let Some(c) = st.conns.get_mut(i) else { return };
            let full = c.is_full(limit);
            if full {
                c.flow = Flow::Bulk;
            }
            if c.flow == Flow::Bulk && more && c.rx == Rx::Armed {
                c.rx = Rx::Cancelling;
                let cancel = opcode::AsyncCancel::new(tag(Kind::Recv, i)).build();
                reactor.submit(cancel.user_data(tag(Kind::Ignored, i)));
            } else if !more && !full {
                arm(reactor, st, i);
            }
        }
        0 => c.eof = c.eof.or(Some(0)),
        e if e == -libc::ENOBUFS => {
            reactor.count(|s| s.starved += 1);
            if c.owned {
                c.rx_waits = true;
                match group {
                    Group::Ordinary => st.starved.push(i),
                    Group::Bulk => st.bulk.push_back(i),
                }
                set_starved(reactor, group, true);
            }
        }
        e if e == -libc::ECANCELED || e == -libc::EINTR || e == -libc::EAGAIN => {
            if c.may_resume(limit) {
                arm(reactor, st, i);
            }
        }
        e => c.eof = c.eof.or(Some(-e)),
    }
    if let Some(c) = st.conns.get_mut(i)
        && (!c.got.is_empty() || c.eof.is_some())
    {
        wake.extend(c.rx_waker.take());
    }
}

impl Slot {
    /// Nothing has been asked of the kernel, or will be without a call.
    fn may_receive(&self) -> bool {
        self.rx == Rx::Off && self.eof.is_none() && self.owned && !self.rx_waits
    }

    fn receive(&mut self, reactor: &Reactor, i: u32) {
        self.rx = Rx::Armed;
        self.group = if self.flow == Flow::Bulk { Group::Bulk } else { Group::Ordinary };
        let (fd, group) = (Fd(self.fd.as_raw_fd()), self.group as u16);
        // As much as a buffer has room for, but at first.
        let once = |len| {
            let entry = opcode::Recv::new(fd, ptr::null_mut(), len).buf_group(group).build();
            entry.flags(squeue::Flags::BUFFER_SELECT)
        };
        let entry = match self.flow {
            Flow::New => once(FIRST),
            Flow::Small => opcode::RecvMulti::new(fd, group).build(),
            Flow::Bulk => once(0),
        };
        reactor.submit(entry.user_data(tag(Kind::Recv, i)));
    }

    /// What a piece shows. `last`: the request to the kernel has ended with it.
    fn note_flow(&mut self, bytes: usize, last: bool, more_behind: bool) {
        if bytes >= MUCH || last && more_behind {
            self.flow = Flow::Bulk;
        } else if last && bytes < FIRST as usize {
            self.flow = Flow::Small;
        }
    }

    fn is_full(&self, limit: usize) -> bool {
        self.got_bytes >= limit || self.got.len() >= RX_PIECES
    }

    /// What it has sent is lost: it ends here.
    fn overrun(&mut self) {
        self.got.clear();
        self.got_bytes = 0;
        self.eof = Some(libc::ENOBUFS);
        address::shut_down(&self.fd);
    }

    /// Enough has been read for the receive to go on.
    pub(super) fn may_resume(&self, limit: usize) -> bool {
        self.got_bytes <= limit / 2 && self.got.len() <= RX_PIECES / 2
    }
}
