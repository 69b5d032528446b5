//! Accepting: one multishot request per listener.

use super::{Conn, ListenOptions, NetState, address};
use crate::{
    reactor::{Kind, Reactor, tag},
    time,
};
use io_uring::{cqueue, opcode, types::Fd};
use std::{
    collections::VecDeque,
    future::poll_fn,
    io,
    net::SocketAddr,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    rc::Rc,
    task::{Poll, Waker},
    time::Duration,
};

/// After an error that hits every accept (too many open files), the next one waits this long.
const BACK_OFF: Duration = Duration::from_millis(100);

pub(super) struct Acceptor {
    fd: OwnedFd,
    armed: bool,
    owned: bool,
    queue: VecDeque<io::Result<OwnedFd>>,
    waker: Option<Waker>,
    /// The last error is one that would come again at once.
    back_off: bool,
}

impl Acceptor {
    pub fn is_leaving(&self) -> bool {
        !self.owned
    }
}

/// A listening socket. Dropping it closes the socket; connections that nobody accepted are reset.
pub struct Listener {
    reactor: Rc<Reactor>,
    i: u32,
}

/// Listens on `address`. Connections have TCP_NODELAY.
pub fn listen(address: SocketAddr, options: ListenOptions) -> io::Result<Listener> {
    let reactor = super::reactor()?;
    let fd = address::listen(address, options)?;
    let acceptor = Acceptor { fd, armed: false, owned: true, queue: VecDeque::new(), waker: None, back_off: false };
    let i = reactor.net.borrow_mut().acceptors.insert(acceptor);
    Ok(Listener { reactor, i })
}

impl Listener {
    /// The next connection. Errors do not end the listener; after one that concerns all connections (too many open
    /// files) the next call takes its time. For one task.
    pub async fn accept(&self) -> io::Result<Conn> {
        let wait = self.with(|a| std::mem::take(&mut a.back_off));
        if wait {
            time::sleep(BACK_OFF).await;
        }
        let fd = poll_fn(|cx| {
            let arm = self.with(|a| {
                if let Some(r) = a.queue.pop_front() {
                    return Err(r);
                }
                a.waker = Some(cx.waker().clone());
                Ok(if std::mem::replace(&mut a.armed, true) { None } else { Some(a.fd.as_raw_fd()) })
            });
            match arm {
                Err(r) => return Poll::Ready(r),
                Ok(Some(fd)) => {
                    let e = opcode::AcceptMulti::new(Fd(fd)).flags(libc::SOCK_CLOEXEC).build();
                    self.reactor.submit(e.user_data(tag(Kind::Accept, self.i)));
                }
                Ok(None) => {}
            }
            Poll::Pending
        })
        .await?;
        Ok(Conn::adopt(&self.reactor, fd))
    }

    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.with(|a| address::as_std(&a.fd, |s| s.local_addr()))
    }

    fn with<T>(&self, f: impl FnOnce(&mut Acceptor) -> T) -> T {
        f(self.reactor.net.borrow_mut().acceptors.get_mut(self.i).expect("a listener keeps its slot"))
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let armed = self.with(|a| {
            a.owned = false;
            a.queue.clear();
            a.waker = None;
            a.armed
        });
        if armed {
            let cancel = opcode::AsyncCancel::new(tag(Kind::Accept, self.i)).build();
            self.reactor.submit(cancel.user_data(tag(Kind::Ignored, self.i)));
        } else {
            let gone = self.reactor.net.borrow_mut().acceptors.remove(self.i);
            drop(gone);
        }
    }
}

/// Gives back what is to be dropped once nothing is borrowed.
pub(super) fn accepted(
    st: &mut NetState,
    i: u32,
    result: i32,
    flags: u32,
    wake: &mut Vec<Waker>,
) -> (Option<Acceptor>, Option<OwnedFd>) {
    let fd = match result {
        // SAFETY: the kernel made this descriptor for us.
        #[allow(unsafe_code)]
        n @ 0.. => Ok(unsafe { OwnedFd::from_raw_fd(n) }),
        e => Err(-e),
    };
    let Some(a) = st.acceptors.get_mut(i) else { return (None, fd.ok()) };
    if !cqueue::more(flags) {
        a.armed = false; // armed again by the next `accept`, so that an error cannot spin
    }
    if !a.owned {
        let gone = if a.armed { None } else { st.acceptors.remove(i) };
        return (gone, fd.ok());
    }
    match fd {
        Ok(fd) => a.queue.push_back(Ok(fd)),
        // the connection is gone before it was accepted, or the wait was interrupted: the next `accept` goes on
        Err(libc::ECONNABORTED | libc::EINTR | libc::EAGAIN | libc::ECANCELED) => {}
        Err(e) => {
            a.back_off |= matches!(e, libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::ENOBUFS);
            a.queue.push_back(Err(io::Error::from_raw_os_error(e)));
        }
    }
    wake.extend(a.waker.take());
    (None, None)
}
