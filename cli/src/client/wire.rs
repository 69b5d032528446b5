//! The bytes of a connection, as they are or by TLS. One thread may read while another writes.

use bytes::{Buf, Bytes, BytesMut};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};
use std::io::{self, IoSlice, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What is encrypted or read from the kernel in one step.
const STEP: usize = 64 << 10;

pub struct Wire {
    tcp: TcpStream,
    tls: Option<Tls>,
}

struct Tls {
    session: Mutex<Session>,
    /// Held while encrypted bytes are made and sent: they must arrive in the order in which they were made. The session is not,
    /// so that answers are read while the broker takes no more.
    sending: Mutex<Vec<u8>>,
}

struct Session {
    connection: ClientConnection,
    /// Decrypted, and not read yet.
    received: BytesMut,
}

impl Wire {
    pub fn plain(tcp: TcpStream) -> Wire {
        Wire { tcp, tls: None }
    }

    /// Shakes hands with a broker that must have a certificate for `host`.
    pub fn tls(tcp: TcpStream, host: &str, config: &Arc<ClientConfig>) -> io::Result<Wire> {
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        let mut connection = ClientConnection::new(config.clone(), name).map_err(io::Error::other)?;
        connection.set_buffer_limit(None);
        while connection.is_handshaking() {
            connection.complete_io(&mut &tcp)?;
        }
        let session = Session { connection, received: BytesMut::new() };
        Ok(Wire { tcp, tls: Some(Tls { session: Mutex::new(session), sending: Mutex::default() }) })
    }

    pub fn set_read_timeout(&self, patience: Option<Duration>) -> io::Result<()> {
        self.tcp.set_read_timeout(patience)
    }

    pub fn read_timeout(&self) -> Option<Duration> {
        self.tcp.read_timeout().ok().flatten()
    }

    /// Ends both directions, whoever waits in them. One that is closed already is as good.
    pub fn shutdown(&self) {
        let _ = self.tcp.shutdown(Shutdown::Both);
    }

    /// Writes slices in order.
    pub fn write_all(&self, slices: &[Bytes]) -> io::Result<()> {
        match &self.tls {
            None => write_gathered(&self.tcp, slices),
            Some(tls) => slices.iter().flat_map(|s| s.chunks(STEP)).try_for_each(|part| tls.send(&self.tcp, part)),
        }
    }
}

impl Tls {
    fn session(&self) -> MutexGuard<'_, Session> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn send(&self, mut tcp: &TcpStream, part: &[u8]) -> io::Result<()> {
        let mut encrypted = self.sending.lock().unwrap_or_else(PoisonError::into_inner);
        encrypted.clear();
        let mut session = self.session();
        session.connection.writer().write_all(part)?;
        while session.connection.wants_write() {
            session.connection.write_tls(&mut *encrypted)?;
        }
        drop(session);
        tcp.write_all(&encrypted)
    }

    fn receive(&self, mut tcp: &TcpStream, out: &mut [u8]) -> io::Result<usize> {
        let mut encrypted = Vec::new();
        loop {
            let mut session = self.session();
            if session.received.has_remaining() {
                let n = out.len().min(session.received.len());
                session.received.copy_to_slice(out.get_mut(..n).unwrap_or_default());
                return Ok(n);
            }
            drop(session);
            encrypted.resize(STEP, 0);
            let n = tcp.read(&mut encrypted)?;
            let mut rest = encrypted.get(..n).unwrap_or_default();
            let mut session = self.session();
            let Session { connection, received } = &mut *session;
            loop {
                connection.read_tls(&mut rest)?;
                let state = connection.process_new_packets();
                let state = state.map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
                let at = received.len();
                received.resize(at + state.plaintext_bytes_to_read(), 0);
                connection.reader().read_exact(received.get_mut(at..).unwrap_or_default())?;
                // An end without a farewell is an end, too: frames say how long they are.
                if (n == 0 || state.peer_has_closed()) && received.is_empty() {
                    return Ok(0);
                }
                if rest.is_empty() {
                    break;
                }
            }
        }
    }
}

impl Read for &Wire {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        match &self.tls {
            None => (&self.tcp).read(out),
            Some(tls) => tls.receive(&self.tcp, out),
        }
    }
}

fn write_gathered(mut tcp: &TcpStream, slices: &[Bytes]) -> io::Result<()> {
    let mut slices: Vec<IoSlice<'_>> = slices.iter().map(|s| IoSlice::new(s)).collect();
    let mut rest = slices.as_mut_slice();
    IoSlice::advance_slices(&mut rest, 0);
    while !rest.is_empty() {
        match tcp.write_vectored(rest) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => IoSlice::advance_slices(&mut rest, n),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}
