//! One connection with TLS over a socket of this shard.
//!
//! What is to be sent waits as it is and is encrypted only as far as the kernel keeps up, so that a large answer neither holds
//! the core nor lies in memory twice. Handshakes run on helper threads: their private-key operations take milliseconds.

#![deny(clippy::unwrap_used, clippy::indexing_slicing)]

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, BufRead, IoSlice, Write};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use core_pinning::net::{Conn, RecvBuf};
use core_pinning::time::timeout;
use rustls::pki_types::CertificateDer;
use rustls::{ServerConfig, ServerConnection};

/// Encrypted bytes that may wait for the kernel; also what is encrypted without a pause.
const AHEAD: usize = 256 << 10;
/// What is encrypted in one step.
const STEP: usize = 64 << 10;
/// Slices that are encrypted together.
const STEP_SLICES: usize = 32;
/// What encryption adds to a record of 16 KiB or less, at most.
const RECORD_OVERHEAD: usize = 64;
/// What a client may send before the handshake is over: more than any chain of certificates.
const HANDSHAKE_BYTES_MAX: usize = 128 << 10;
/// How long the last words of a failed handshake may take.
const ALERT_MAX: Duration = Duration::from_secs(1);

#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    #[error("the peer closed the connection")]
    Closed,
    #[error("it takes too long")]
    TooSlow,
    #[error("the peer sends too much")]
    TooLarge,
    #[error(transparent)]
    Tls(#[from] rustls::Error),
    #[error(transparent)]
    Io(#[from] io::Error),
}

pub struct TlsConn {
    conn: Conn,
    session: RefCell<Option<Session>>,
}

struct Session {
    tls: ServerConnection,
    /// What has come and is not decrypted, and how much of it is.
    received: Option<(Received, usize)>,
    /// What is not encrypted yet.
    waiting: VecDeque<Bytes>,
    waiting_bytes: usize,
}

enum Received {
    Piece(RecvBuf),
    /// Came with the end of the handshake.
    Rest(Vec<u8>),
}

impl AsRef<[u8]> for Received {
    fn as_ref(&self) -> &[u8] {
        match self {
            Received::Piece(piece) => piece,
            Received::Rest(rest) => rest,
        }
    }
}

impl TlsConn {
    /// Nothing else may be asked of it before [`TlsConn::handshake`] has ended well.
    pub fn new(conn: Conn) -> TlsConn {
        TlsConn { conn, session: RefCell::new(None) }
    }

    pub fn conn(&self) -> &Conn {
        &self.conn
    }

    /// Answers with the certificates that the client has shown.
    pub async fn handshake(
        &self,
        config: Arc<ServerConfig>,
        limit: Duration,
    ) -> Result<Option<Vec<CertificateDer<'static>>>, HandshakeError> {
        match timeout(limit, self.shake_hands(config)).await {
            Ok(Ok(session)) => {
                let shown =
                    session.tls.peer_certificates().map(|all| all.iter().map(|c| c.clone().into_owned()).collect());
                self.session.replace(Some(session));
                Ok(shown)
            }
            Ok(Err(error)) => {
                // The alert that says why, if it goes out.
                let _ = timeout(ALERT_MAX, self.conn.flushed(0)).await;
                Err(error)
            }
            Err(_) => Err(HandshakeError::TooSlow),
        }
    }

    async fn shake_hands(&self, config: Arc<ServerConfig>) -> Result<Session, HandshakeError> {
        let mut tls = ServerConnection::new(config)?;
        tls.set_buffer_limit(None);
        let (mut rest, mut come) = (Vec::new(), 0);
        while tls.is_handshaking() {
            let piece = self.conn.recv().await?.ok_or(HandshakeError::Closed)?;
            come += piece.len();
            if come > HANDSHAKE_BYTES_MAX {
                return Err(HandshakeError::TooLarge);
            }
            let bytes = piece.to_vec();
            drop(piece);
            let (advanced, used, result) = core_pinning::compute(move || {
                let mut used = 0;
                let result = decrypt(&mut tls, &bytes, &mut used);
                (tls, bytes.get(used..).unwrap_or_default().to_vec(), result)
            })
            .await;
            (tls, rest) = (advanced, used);
            let mut out = Vec::new();
            while tls.wants_write() {
                tls.write_tls(&mut out)?;
            }
            if !out.is_empty() {
                self.conn.send(out.into());
            }
            result?;
        }
        let received = (!rest.is_empty()).then_some((Received::Rest(rest), 0));
        Ok(Session { tls, received, waiting: VecDeque::new(), waiting_bytes: 0 })
    }

    /// The next bytes in order, `None` at the end of the stream. For one task. May be dropped while it waits.
    pub async fn recv(&self) -> io::Result<Option<Vec<u8>>> {
        loop {
            if let Some(ready) = self.with(|session| session.next(&self.conn))? {
                return Ok(ready);
            }
            let Some(piece) = self.conn.recv().await? else { return Ok(None) };
            self.with(|session| {
                session.received = Some((Received::Piece(piece), 0));
                Ok(())
            })?;
        }
    }

    /// Gives what has come and is not decrypted back to the socket, until somebody reads again.
    pub fn put_back(&self) {
        // A connection that has failed has nothing to give.
        let _ = self.with(|session| {
            match session.received.take() {
                Some((Received::Piece(mut piece), used)) => {
                    piece.skip(used);
                    self.conn.put_back(piece);
                }
                rest => session.received = rest,
            }
            Ok(())
        });
    }

    /// Queues bytes without copying them.
    pub fn send(&self, bytes: Bytes) {
        // A connection that has failed takes nothing any more; who waits for it hears of that.
        let _ = self.with(|session| {
            session.waiting_bytes += bytes.len();
            session.waiting.push_back(bytes);
            Ok(())
        });
    }

    /// Bytes that the kernel has not taken.
    pub fn unsent(&self) -> usize {
        self.session.borrow().as_ref().map_or(0, |session| session.waiting_bytes) + self.conn.unsent()
    }

    /// Waits until at most `limit` bytes are unsent, and encrypts meanwhile: nothing goes out without it. For one task.
    pub async fn flushed(&self, limit: usize) -> io::Result<()> {
        loop {
            self.push()?;
            if self.unsent() <= limit {
                return Ok(());
            }
            let all = self.session.borrow().as_ref().is_none_or(|session| session.waiting.is_empty());
            self.conn.flushed(if all { limit } else { AHEAD / 2 }).await?;
        }
    }

    /// Encrypts what the kernel will take soon.
    pub fn push(&self) -> io::Result<()> {
        self.with(|session| {
            while session.waiting_bytes > 0 && self.conn.unsent() < AHEAD {
                session.encrypt(&self.conn)?;
            }
            Ok(())
        })
    }

    /// Says that nothing more comes.
    pub fn close(&self) {
        let _ = self.with(|session| {
            session.tls.send_close_notify();
            session.write(&self.conn, RECORD_OVERHEAD)
        });
    }

    fn with<T>(&self, f: impl FnOnce(&mut Session) -> io::Result<T>) -> io::Result<T> {
        match self.session.borrow_mut().as_mut() {
            Some(session) => f(session),
            None => Err(io::ErrorKind::NotConnected.into()),
        }
    }
}

impl Session {
    /// What can be read now: bytes, or the end of the stream. `None`: more must come first.
    fn next(&mut self, conn: &Conn) -> io::Result<Option<Option<Vec<u8>>>> {
        loop {
            let mut reader = self.tls.reader();
            match reader.fill_buf() {
                Ok([]) => return Ok(Some(None)),
                Ok(chunk) => {
                    let (bytes, len) = (chunk.to_vec(), chunk.len());
                    reader.consume(len);
                    return Ok(Some(Some(bytes)));
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(e) => return Err(e),
            }
            let Some((received, used)) = &mut self.received else { return Ok(None) };
            let result = decrypt(&mut self.tls, received.as_ref(), used);
            if *used >= received.as_ref().len() {
                self.received = None;
            }
            // Alerts, and answers to what the peer asked of the connection itself.
            self.write(conn, RECORD_OVERHEAD)?;
            result.map_err(io::Error::other)?;
        }
    }

    /// Encrypts the next few slices.
    fn encrypt(&mut self, conn: &Conn) -> io::Result<()> {
        let mut left = STEP;
        let mut slices: Vec<Bytes> = Vec::new();
        while left > 0
            && slices.len() < STEP_SLICES
            && let Some(front) = self.waiting.front_mut()
        {
            let part = front.split_to(front.len().min(left));
            left -= part.len();
            if front.is_empty() {
                self.waiting.pop_front();
            }
            slices.push(part);
        }
        let bytes = STEP - left;
        self.waiting_bytes -= bytes;
        let parts: Vec<IoSlice<'_>> = slices.iter().map(|s| IoSlice::new(s)).collect();
        let taken = self.tls.writer().write_vectored(&parts)?;
        if taken != bytes {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.write(conn, bytes + (bytes / (16 << 10) + 1) * RECORD_OVERHEAD)
    }

    /// Hands what is encrypted to the kernel; `expected` bytes, more or less.
    fn write(&mut self, conn: &Conn, expected: usize) -> io::Result<()> {
        if !self.tls.wants_write() {
            return Ok(());
        }
        let mut out = Vec::with_capacity(expected);
        while self.tls.wants_write() {
            self.tls.write_tls(&mut out)?;
        }
        conn.send(out.into());
        Ok(())
    }
}

/// Takes in what has come, until all of it is or there is something to read.
fn decrypt(tls: &mut ServerConnection, bytes: &[u8], used: &mut usize) -> Result<(), rustls::Error> {
    while let Some(mut rest) = bytes.get(*used..).filter(|rest| !rest.is_empty()) {
        let before = rest.len();
        // Fails only where something waits to be read first, or a message is longer than any may be.
        if tls.read_tls(&mut rest).is_err() {
            return match tls.process_new_packets()?.plaintext_bytes_to_read() {
                0 => Err(rustls::Error::General("a message is too long".to_owned())),
                _ => Ok(()),
            };
        }
        if rest.len() == before {
            // After the peer's goodbye nothing counts.
            *used = bytes.len();
        }
        *used += before - rest.len();
        if tls.process_new_packets()?.plaintext_bytes_to_read() > 0 {
            return Ok(());
        }
    }
    Ok(())
}
