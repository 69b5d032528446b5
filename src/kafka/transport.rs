//! What carries a connection's bytes: a socket as it is, or one with TLS over it.

use std::io;
use std::ops::Deref;

use bytes::Bytes;
use core_pinning::net::{Conn, RecvBuf};

use crate::security::tls::TlsConn;

pub enum Transport {
    Plain(Conn),
    Tls(Box<TlsConn>),
}

/// Bytes that have come.
pub enum Piece {
    /// Still in the shard's receive memory: drop it soon.
    Received(RecvBuf),
    Decrypted(Vec<u8>),
}

impl Deref for Piece {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Piece::Received(piece) => piece,
            Piece::Decrypted(bytes) => bytes,
        }
    }
}

impl Transport {
    /// The next bytes in order, `None` at the end of the stream. For one task. May be dropped while it waits.
    pub async fn recv(&self) -> io::Result<Option<Piece>> {
        match self {
            Transport::Plain(conn) => Ok(conn.recv().await?.map(Piece::Received)),
            Transport::Tls(tls) => Ok(tls.recv().await?.map(Piece::Decrypted)),
        }
    }

    /// Nobody will read for a while: gives what has come back to the socket, where it keeps no receive memory from others. What
    /// cannot go back is given back to the caller. `piece`: the last one, and how much of it was used.
    pub fn put_back(&self, piece: Option<(Piece, usize)>) -> Option<(Piece, usize)> {
        match (self, piece) {
            (Transport::Plain(conn), Some((Piece::Received(mut piece), used))) => {
                piece.skip(used);
                conn.put_back(piece);
                None
            }
            (Transport::Plain(_), piece) => piece,
            (Transport::Tls(tls), piece) => {
                tls.put_back();
                piece
            }
        }
    }

    /// Bytes that have come and were not given out, as far as that is known.
    pub fn queued(&self) -> usize {
        match self {
            Transport::Plain(conn) => conn.queued(),
            Transport::Tls(_) => 0,
        }
    }

    /// Waits until so many bytes are queued, where that is known; false: they will not come. For the task that receives.
    pub async fn has_queued(&self, bytes: usize) -> bool {
        match self {
            Transport::Plain(conn) => conn.has_queued(bytes).await,
            Transport::Tls(_) => std::future::pending().await,
        }
    }

    /// Queues slices without copying them. They leave in the order of the calls, those with TLS as far as somebody waits in
    /// [`Transport::flushed`].
    pub fn send(&self, slices: Vec<Bytes>) {
        match self {
            Transport::Plain(conn) => slices.into_iter().for_each(|slice| conn.send(slice)),
            Transport::Tls(tls) => {
                slices.into_iter().for_each(|slice| tls.send(slice));
                // Who reads hears of a failure.
                let _ = tls.push();
            }
        }
    }

    /// Waits until at most `limit` bytes are unsent. For one task.
    pub async fn flushed(&self, limit: usize) -> io::Result<()> {
        match self {
            Transport::Plain(conn) => conn.flushed(limit).await,
            Transport::Tls(tls) => tls.flushed(limit).await,
        }
    }

    /// Bytes that the kernel has not taken.
    pub fn unsent(&self) -> usize {
        match self {
            Transport::Plain(conn) => conn.unsent(),
            Transport::Tls(tls) => tls.unsent(),
        }
    }

    /// Tells the peer that nothing more comes, where there is a way to.
    pub fn close(&self) {
        match self {
            Transport::Plain(_) => {}
            Transport::Tls(tls) => tls.close(),
        }
    }

    /// Ends both directions now.
    pub fn shutdown(&self) {
        match self {
            Transport::Plain(conn) => conn.shutdown(),
            Transport::Tls(tls) => tls.conn().shutdown(),
        }
    }
}
