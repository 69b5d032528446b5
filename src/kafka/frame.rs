//! Requests off a socket: a four-byte length, then that many bytes.

use std::rc::Rc;

use bytes::{Bytes, BytesMut};
use core_pinning::budget::{Budget, BudgetUnits};
use core_pinning::net::{Conn, RecvBuf};

/// What a frame may allocate before that many bytes of it have come: a client pays for what it sends, not for what it
/// announces.
const FIRST_ALLOCATION: usize = 64 << 10;

#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    #[error("the peer closed the connection")]
    Closed,
    #[error("frame of {size} bytes, allowed are 0 to {max}")]
    Size { size: i32, max: usize },
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// A whole request and the memory it holds of the shard's budget.
pub struct Frame {
    pub bytes: Bytes,
    pub memory: BudgetUnits,
}

pub struct FrameReader {
    conn: Rc<Conn>,
    max: usize,
    budget: Budget,
    piece: Option<(RecvBuf, usize)>,
    length: Vec<u8>,
    partial: Option<Partial>,
}

struct Partial {
    wanted: usize,
    bytes: BytesMut,
    memory: BudgetUnits,
}

impl FrameReader {
    pub fn new(conn: Rc<Conn>, max: usize, budget: Budget) -> FrameReader {
        FrameReader { conn, max, budget, piece: None, length: Vec::with_capacity(4), partial: None }
    }

    /// The next frame. May be dropped while it waits; nothing that has arrived is lost.
    pub async fn next(&mut self) -> Result<Frame, FrameError> {
        loop {
            if let Some(partial) = &self.partial
                && partial.bytes.len() == partial.wanted
                && let Some(done) = self.partial.take()
            {
                return Ok(Frame { bytes: done.bytes.freeze(), memory: done.memory });
            }
            if self.partial.is_none() && self.length.len() == 4 {
                self.begin().await?;
                continue;
            }
            if self.piece.is_none() {
                let piece = self.conn.recv().await?.ok_or(FrameError::Closed)?;
                self.piece = Some((piece, 0));
            }
            self.take_from_piece();
        }
    }

    /// The length is there: checks it and waits for memory to receive the rest.
    async fn begin(&mut self) -> Result<(), FrameError> {
        let size = match self.length.as_slice().try_into() {
            Ok(length) => i32::from_be_bytes(length),
            Err(_) => return Ok(()),
        };
        let wanted = usize::try_from(size).ok().filter(|w| *w <= self.max);
        let Some(wanted) = wanted else { return Err(FrameError::Size { size, max: self.max }) };
        let memory = self.budget.take(wanted.min(self.budget.limit())).await;
        self.length.clear();
        self.partial = Some(Partial { wanted, bytes: BytesMut::with_capacity(wanted.min(FIRST_ALLOCATION)), memory });
        Ok(())
    }

    fn take_from_piece(&mut self) {
        let Some((piece, used)) = &mut self.piece else { return };
        let rest = piece.get(*used..).unwrap_or_default();
        let (target, wanted) = match &mut self.partial {
            Some(partial) => (None, partial.wanted - partial.bytes.len()),
            None => (Some(&mut self.length), 4),
        };
        let take = match target {
            Some(length) => {
                let take = rest.len().min(wanted - length.len());
                length.extend_from_slice(rest.get(..take).unwrap_or_default());
                take
            }
            None => {
                let take = rest.len().min(wanted);
                if let Some(partial) = &mut self.partial {
                    grow(&mut partial.bytes, take, partial.wanted);
                    partial.bytes.extend_from_slice(rest.get(..take).unwrap_or_default());
                }
                take
            }
        };
        *used += take;
        if *used == piece.len() {
            self.piece = None;
        }
    }
}

/// Doubles the room, so that copying stays linear, and never past the frame.
fn grow(bytes: &mut BytesMut, more: usize, wanted: usize) {
    if bytes.capacity() - bytes.len() < more {
        let target = (bytes.capacity() * 2).max(bytes.len() + more).min(wanted);
        bytes.reserve(target - bytes.len());
    }
}
