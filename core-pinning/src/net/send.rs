//! Sending: everything queued on a connection goes in one request, and the next starts when it is done.
#![allow(unsafe_code)]

use super::NetState;
use crate::reactor::{Kind, Reactor, tag};
use bytes::Bytes;
use io_uring::{opcode, types::Fd};
use std::{os::fd::AsRawFd, task::Waker};

const MAX_CHUNKS: usize = 64;
const MAX_BYTES: usize = 4 << 20;
const SPARE: usize = 256;

/// What one send carries: kept, unmoved, until the kernel is done with it.
pub(super) struct Batch {
    chunks: Vec<Bytes>,
    iov: Vec<libc::iovec>,
    header: libc::msghdr,
    left: usize,
}

impl Batch {
    fn new() -> Box<Batch> {
        // SAFETY: a msghdr of zeroes is valid: nothing to send.
        Box::new(Batch { chunks: Vec::new(), iov: Vec::new(), header: unsafe { std::mem::zeroed() }, left: 0 })
    }

    /// `n` bytes went out.
    fn advance(&mut self, mut n: usize) {
        self.left -= n;
        let whole = self.iov.iter().take_while(|v| {
            let fits = v.iov_len <= n;
            if fits {
                n -= v.iov_len;
            }
            fits
        });
        let whole = whole.count();
        self.iov.drain(..whole);
        if let Some(v) = self.iov.first_mut() {
            v.iov_base = v.iov_base.wrapping_byte_add(n);
            v.iov_len -= n;
        }
    }
}

/// Everything queued on the connection becomes one send.
pub(super) fn start(reactor: &Reactor, st: &mut NetState, i: u32) {
    let Some(c) = st.conns.get_mut(i) else { return };
    c.dirty = false;
    if c.batch.is_some() || c.tx_err != 0 || !c.owned {
        return;
    }
    if !c.tail.is_empty() {
        c.out.push_back(std::mem::take(&mut c.tail).into());
    }
    let mut b = st.spare.pop().unwrap_or_else(Batch::new);
    while b.chunks.len() < MAX_CHUNKS && b.left < MAX_BYTES {
        let Some(x) = c.out.pop_front() else { break };
        if x.is_empty() {
            continue;
        }
        b.left += x.len();
        b.iov.push(libc::iovec { iov_base: x.as_ptr().cast_mut().cast(), iov_len: x.len() });
        b.chunks.push(x);
    }
    if b.left > 0 {
        c.batch = Some(b);
        submit(reactor, st, i);
    } else {
        st.spare.push(b);
    }
}

fn submit(reactor: &Reactor, st: &mut NetState, i: u32) {
    let Some(c) = st.conns.get_mut(i) else { return };
    let fd = Fd(c.fd.as_raw_fd());
    let Some(b) = c.batch.as_mut() else { return };
    let flags = libc::MSG_WAITALL | libc::MSG_NOSIGNAL;
    let e = match &mut b.iov[..] {
        [one] => opcode::Send::new(fd, one.iov_base.cast(), one.iov_len as u32).flags(flags).build(),
        many => {
            b.header.msg_iov = many.as_mut_ptr();
            b.header.msg_iovlen = many.len();
            opcode::SendMsg::new(fd, &raw const b.header).flags(flags as u32).build()
        }
    };
    reactor.submit(e.user_data(tag(Kind::Send, i)));
}

pub(super) fn sent(reactor: &Reactor, st: &mut NetState, i: u32, result: i32, _flags: u32, wake: &mut Vec<Waker>) {
    let c = st.conn(i);
    let Some(b) = c.batch.as_mut() else { return };
    match result {
        n @ 0.. => {
            b.advance(n as usize);
            c.out_bytes -= n as usize;
        }
        e if e == -libc::EINTR || e == -libc::EAGAIN => {}
        e => {
            c.tx_err = -e;
            b.left = 0;
        }
    }
    wake.extend(c.tx_waker.take());
    if b.left > 0 {
        if c.owned {
            return submit(reactor, st, i);
        }
        c.tx_err = libc::EPIPE;
    }
    let Some(mut b) = c.batch.take() else { return };
    b.chunks.clear();
    b.iov.clear();
    b.left = 0;
    if c.tx_err == 0 && !c.dirty && c.out_bytes > 0 {
        c.dirty = true;
        st.dirty.push(i);
    }
    if st.spare.len() < SPARE {
        st.spare.push(b);
    }
}
