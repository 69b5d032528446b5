//! Socket addresses as the kernel has them, and making sockets.
#![allow(unsafe_code)]

use super::ListenOptions;
use std::{
    io,
    mem::ManuallyDrop,
    net::{SocketAddr, TcpStream},
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
};

pub(super) fn to_kernel(a: SocketAddr) -> (libc::sockaddr_storage, u32) {
    // SAFETY: a sockaddr_storage of zeroes is valid.
    let mut storage: libc::sockaddr_storage = unsafe { std::mem::zeroed() };
    let len = match a {
        SocketAddr::V4(a) => {
            let sin = libc::sockaddr_in {
                sin_family: libc::AF_INET as u16,
                sin_port: a.port().to_be(),
                sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(a.ip().octets()) },
                sin_zero: [0; 8],
            };
            // SAFETY: a sockaddr_storage has room and alignment for every address type.
            unsafe { (&raw mut storage).cast::<libc::sockaddr_in>().write(sin) };
            size_of::<libc::sockaddr_in>()
        }
        SocketAddr::V6(a) => {
            let sin6 = libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as u16,
                sin6_port: a.port().to_be(),
                sin6_flowinfo: a.flowinfo(),
                sin6_addr: libc::in6_addr { s6_addr: a.ip().octets() },
                sin6_scope_id: a.scope_id(),
            };
            // SAFETY: as above.
            unsafe { (&raw mut storage).cast::<libc::sockaddr_in6>().write(sin6) };
            size_of::<libc::sockaddr_in6>()
        }
    };
    (storage, len as u32)
}

pub(super) fn socket(a: SocketAddr) -> io::Result<OwnedFd> {
    let family = if a.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    // SAFETY: makes a fresh descriptor.
    let fd = unsafe { libc::socket(family, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: just made, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

pub(super) fn set_option(fd: BorrowedFd<'_>, level: i32, name: i32, value: i32) -> io::Result<()> {
    // SAFETY: a plain setsockopt of an int.
    let r = unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, (&raw const value).cast(), 4) };
    if r == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Binds and listens.
pub(super) fn listen(a: SocketAddr, options: ListenOptions) -> io::Result<OwnedFd> {
    let s = socket(a)?;
    set_option(s.as_fd(), libc::SOL_SOCKET, libc::SO_REUSEADDR, 1)?;
    if options.reuse_port {
        set_option(s.as_fd(), libc::SOL_SOCKET, libc::SO_REUSEPORT, 1)?;
    }
    // accepted sockets inherit it: no system call per connection
    set_option(s.as_fd(), libc::IPPROTO_TCP, libc::TCP_NODELAY, 1)?;
    // What is accepted has the same: a peer that vanished is found out some day, as in Kafka.
    set_option(s.as_fd(), libc::SOL_SOCKET, libc::SO_KEEPALIVE, 1)?;
    // Before `listen`: what a peer may send at once is told it with the first packet.
    for (name, bytes) in [(libc::SO_RCVBUF, options.receive_bytes), (libc::SO_SNDBUF, options.send_bytes)] {
        if let Some(bytes) = bytes {
            set_option(s.as_fd(), libc::SOL_SOCKET, name, i32::try_from(bytes).unwrap_or(i32::MAX))?;
        }
    }
    let (storage, len) = to_kernel(a);
    // SAFETY: the address is live and `len` bytes long.
    if unsafe { libc::bind(s.as_raw_fd(), (&raw const storage).cast(), len) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a plain listen.
    if unsafe { libc::listen(s.as_raw_fd(), i32::try_from(options.backlog).unwrap_or(i32::MAX)) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(s)
}

/// Looks at a socket as std's type without taking it over.
pub(super) fn as_std<T>(fd: &OwnedFd, f: impl FnOnce(&TcpStream) -> io::Result<T>) -> io::Result<T> {
    // SAFETY: the descriptor is open for the whole call, and the stream is never dropped.
    f(&ManuallyDrop::new(unsafe { TcpStream::from_raw_fd(fd.as_raw_fd()) }))
}

/// Ends both directions; what waits in the kernel completes.
pub(super) fn shut_down(fd: &OwnedFd) {
    // SAFETY: a plain shutdown of an open socket.
    unsafe { libc::shutdown(fd.as_raw_fd(), libc::SHUT_RDWR) };
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn option(socket: &TcpStream, name: i32) -> i32 {
        let (mut value, mut len) = (0, 4);
        // SAFETY: a plain getsockopt of an int.
        let r = unsafe {
            libc::getsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                name,
                (&raw mut value).cast::<libc::c_void>(),
                &raw mut len,
            )
        };
        assert_eq!(r, 0, "{}", io::Error::last_os_error());
        value
    }

    #[test]
    fn what_is_accepted_has_the_buffers_that_are_asked_for() {
        let buffers = |options| {
            let listener = TcpListener::from(listen("127.0.0.1:0".parse().unwrap(), options).unwrap());
            let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (socket, _) = listener.accept().unwrap();
            [libc::SO_RCVBUF, libc::SO_SNDBUF].map(|name| option(&socket, name))
        };
        let both = ListenOptions { receive_bytes: Some(20_000), send_bytes: Some(30_000), ..Default::default() };
        // The kernel doubles them (socket(7)).
        assert_eq!(buffers(both), [40_000, 60_000]);
        let tuned = buffers(ListenOptions::default());
        assert_eq!(buffers(ListenOptions { send_bytes: None, ..both }), [40_000, tuned[1]]);
        assert_eq!(buffers(ListenOptions { receive_bytes: None, ..both }), [tuned[0], 60_000]);
    }
}
