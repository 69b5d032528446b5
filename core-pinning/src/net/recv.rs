//! Receiving: one multishot request per connection, pieces of the shard's receive memory.
#![allow(unsafe_code)]

use super::{
    NetState, RX_PIECES, address,
    area::GROUP,
    conn::{Rx, Slot},
};
use crate::budget::{Budget, BudgetUnits};
use crate::reactor::{Kind, Reactor, tag};
use io_uring::{cqueue, opcode, types::Fd};
use std::{ops::Deref, os::fd::AsRawFd, rc::Rc, task::Waker};

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
        if let Source::Area { reactor, id } = &self.from {
            let wanted = reactor.area.borrow_mut().as_mut().is_some_and(|a| a.done(*id));
            if wanted {
                reactor.want_turn();
            }
        }
    }
}

/// Asks the kernel for whatever comes, unless it has been asked.
pub(super) fn arm(reactor: &Reactor, st: &mut NetState, i: u32) {
    let Some(c) = st.conns.get_mut(i) else { return };
    if c.rx != Rx::Off || c.eof.is_some() || !c.owned || c.starved {
        return;
    }
    c.rx = Rx::Armed;
    reactor.submit(opcode::RecvMulti::new(Fd(c.fd.as_raw_fd()), GROUP).build().user_data(tag(Kind::Recv, i)));
}

/// Receives that found no buffer go on, if there is one now. If there is none, what connections have queued is copied
/// out of the receive memory: tasks that do not read must not stop those that do.
pub(super) fn resume_starved(reactor: &Rc<Reactor>, st: &mut NetState) {
    let free = || reactor.area.borrow().as_ref().map_or(0, |a| a.free());
    if free() == 0 {
        let queued: Vec<u32> = st.conns.iter_mut().filter(|(_, c)| !c.got.is_empty()).map(|(i, _)| i).collect();
        queued.into_iter().for_each(|i| set_aside(st, i, 0));
        if free() == 0 {
            return; // all of it is in the hands of tasks, which do not wait with it; the drop of a piece kicks the pump
        }
    }
    if let Some(a) = reactor.area.borrow_mut().as_mut() {
        a.starved = false;
    }
    let limit = st.options.rx_limit;
    for i in std::mem::take(&mut st.starved) {
        let Some(c) = st.conns.get_mut(i) else { continue };
        c.starved = false;
        // Whose task does not read goes on when it does.
        if !c.is_full(limit) {
            arm(reactor, st, i);
        }
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
    let piece = cqueue::buffer_select(flags).map(|id| {
        let len = result.max(0) as usize;
        let mut area = reactor.area.borrow_mut();
        let at = area.as_mut().expect("receive memory is set up before any socket");
        RecvBuf {
            at: at.filled(id, len, cqueue::buffer_more(flags)),
            len,
            from: Source::Area { reactor: reactor.clone(), id },
        }
    });
    match result {
        1.. => {
            if let Some(piece) = piece
                && c.owned
                && c.eof.is_none()
            {
                let (full, number) = (c.is_full(limit), c.got.len());
                c.got_bytes += piece.len();
                c.got.push_back(piece);
                if full {
                    set_aside(st, i, number);
                }
            }
            let Some(c) = st.conns.get_mut(i) else { return };
            let full = c.is_full(limit);
            if full && c.rx == Rx::Armed {
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
                c.starved = true;
                st.starved.push(i);
                if let Some(a) = reactor.area.borrow_mut().as_mut() {
                    a.starved = true;
                }
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
