//! Requests off a socket: a four-byte length, then that many bytes.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use core_pinning::AlignedBuf;
use core_pinning::budget::BudgetUnits;
use core_pinning::task::{Turn, polled_at};
use core_pinning::time::{Instant, now, timeout};
use futures::{FutureExt, select_biased};

use super::fairness::Usage;
use super::request_memory::{Claim, RequestMemory, WHOLE};
use super::transport::{Piece, Transport};

/// What a frame may allocate before that many bytes of it have come: a client pays for what it sends, not for what it
/// announces.
const FIRST_ALLOCATION: usize = 64 << 10;
/// Room grows by this factor, so that little is copied twice, ...
const GROWTH: usize = 4;
/// ... but from here on that of a giant grows by whole huge pages, in a place where nothing is copied any more.
const GIANT_FROM: usize = 256 << 10;
/// A frame that is larger is a giant: its memory comes as it is filled.
const GIANT: usize = 4 << 20;
const HUGE_PAGE: usize = 2 << 20;
/// What is copied before somebody looks whether others should go first.
const STEP: usize = 64 << 10;
/// Smaller frames get memory of their exact size: parts of them may live long in a group's state.
const SMALL: usize = 16 << 10;
/// A frame that gets no memory for so long is given up with its connection: others may be waiting for what it holds.
const MEMORY_WAIT: Duration = Duration::from_secs(10);
/// While others wait for memory, a frame comes at least as fast as would bring what it holds in so long.
const SLOWEST: Duration = Duration::from_secs(8);
/// Over so long that is measured, and so often looked at.
const MEASURED: Duration = Duration::from_secs(1);

#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    #[error("the peer closed the connection")]
    Closed,
    #[error("frame of {size} bytes, allowed are 0 to {max}")]
    Size { size: i32, max: usize },
    #[error("no memory for a frame of {size} bytes")]
    Memory { size: usize },
    #[error("a frame of {size} bytes comes too slowly, and others wait for its memory")]
    Slow { size: usize },
    #[error("it sends more than is read of it, and others need the memory")]
    Overrun,
    #[error(transparent)]
    Io(std::io::Error),
}

impl From<std::io::Error> for FrameError {
    fn from(error: std::io::Error) -> FrameError {
        match error.raw_os_error() {
            Some(libc::ENOBUFS) => FrameError::Overrun,
            _ => FrameError::Io(error),
        }
    }
}

/// A whole request and the memory it holds of the shard's budget.
pub struct Frame {
    pub bytes: Bytes,
    pub memory: Vec<BudgetUnits>,
}

pub struct FrameReader {
    conn: Rc<Transport>,
    max: usize,
    budget: RequestMemory,
    piece: Option<(Piece, usize)>,
    length: Vec<u8>,
    partial: Option<Partial>,
    /// It lets others go first.
    turn: Option<Turn>,
    /// When the task was polled whose turn had come.
    turn_came: u64,
}

struct Partial {
    wanted: usize,
    bytes: Memory,
    /// What `bytes` may grow to.
    room: usize,
    memory: Vec<BudgetUnits>,
    /// What had come at a time since when others have waited for memory.
    measured: Option<(Instant, usize)>,
}

impl Partial {
    /// It comes more slowly than it may while others wait. To be asked again and again.
    fn is_too_slow(&mut self, now: Instant, is_wanted: bool) -> bool {
        let have = self.bytes.len();
        let Some((since, had)) = self.measured.filter(|_| is_wanted) else {
            self.measured = is_wanted.then_some((now, have));
            return false;
        };
        let passed = now - since;
        if passed < MEASURED {
            return false;
        }
        self.measured = Some((now, have));
        ((have - had) as f64) < self.room as f64 * (passed.as_secs_f64() / SLOWEST.as_secs_f64())
    }
}

enum Memory {
    Small(Vec<u8>),
    /// Recycled: fresh memory would cost more than the copy into it.
    Large(AlignedBuf),
}

impl Memory {
    fn len(&self) -> usize {
        match self {
            Memory::Small(bytes) => bytes.len(),
            Memory::Large(bytes) => bytes.len(),
        }
    }

    /// There is room: `make_room` has seen to it.
    fn extend(&mut self, piece: &[u8]) {
        match self {
            Memory::Small(bytes) => bytes.extend_from_slice(piece),
            Memory::Large(bytes) => bytes.extend_from_slice(piece),
        }
    }

    /// `room` of the `wanted` bytes of a frame may come.
    fn grow(&mut self, room: usize, wanted: usize) {
        let giant = wanted > GIANT && room > GIANT_FROM;
        let room = if giant { wanted.next_multiple_of(HUGE_PAGE) } else { room };
        match self {
            Memory::Large(bytes) if room <= bytes.capacity() => {}
            Memory::Small(bytes) if room <= SMALL => bytes.reserve_exact(room - bytes.len()),
            Memory::Large(bytes) => bytes.reserve(room),
            Memory::Small(_) => {
                let mut larger = AlignedBuf::new(room);
                larger.extend_from_slice(self.as_ref());
                *self = Memory::Large(larger);
            }
        }
    }

    fn freeze(self) -> Bytes {
        match self {
            Memory::Small(bytes) => bytes.into(),
            Memory::Large(bytes) => bytes.freeze(),
        }
    }
}

impl AsRef<[u8]> for Memory {
    fn as_ref(&self) -> &[u8] {
        match self {
            Memory::Small(bytes) => bytes,
            Memory::Large(bytes) => bytes,
        }
    }
}

/// Room for a frame of `size` that has some already, where so much of it has come.
fn next_room(room: usize, come: usize, size: usize) -> usize {
    let next = match size > GIANT && room.max(come) >= GIANT_FROM {
        true => come.max(room + 1).next_multiple_of(HUGE_PAGE),
        false => come.max(room * GROWTH).max(FIRST_ALLOCATION),
    };
    next.min(size)
}

impl FrameReader {
    pub fn new(conn: Rc<Transport>, max: usize, budget: RequestMemory) -> FrameReader {
        FrameReader {
            conn,
            max,
            budget,
            piece: None,
            length: Vec::with_capacity(4),
            partial: None,
            turn: None,
            turn_came: 0,
        }
    }

    /// What goes for the frames whose length has not been read.
    pub fn limit(&mut self, max: usize, budget: RequestMemory) {
        (self.max, self.budget) = (max, budget);
    }

    /// Nothing of the next frame has been taken.
    pub fn is_between_frames(&self) -> bool {
        self.partial.is_none() && self.length.is_empty()
    }

    /// Nothing will be taken for a while: what has come must not keep the shard's receive memory from others.
    pub fn put_back(&mut self) {
        self.piece = self.conn.put_back(self.piece.take());
    }

    /// The next frame, once it is the turn of that client. May be dropped while it waits; nothing that has arrived is lost.
    pub async fn next(&mut self, of: &Usage) -> Result<Frame, FrameError> {
        loop {
            self.take_turns(of).await;
            if let Some(partial) = &self.partial
                && partial.bytes.len() == partial.wanted
                && let Some(done) = self.partial.take()
            {
                return Ok(Frame { bytes: done.bytes.freeze(), memory: done.memory });
            }
            if self.partial.is_none() && self.length.len() == 4 {
                self.begin()?;
                continue;
            }
            if self.piece.is_none() && !self.receive().await? {
                continue;
            }
            if self.make_room().await? {
                self.take_from_piece();
            }
        }
    }

    /// What comes without end, in one frame or in many, must not keep the core from others.
    async fn take_turns(&mut self, of: &Usage) {
        if self.turn.is_none() {
            self.turn = of.turn(self.turn_came == polled_at());
            if self.turn.is_some() {
                self.put_back();
            }
        }
        if let Some(turn) = &mut self.turn {
            turn.await;
            (self.turn, self.turn_came) = (None, polled_at());
        }
    }

    /// The length is there: what follows is a frame.
    fn begin(&mut self) -> Result<(), FrameError> {
        let size = match self.length.as_slice().try_into() {
            Ok(length) => i32::from_be_bytes(length),
            Err(_) => return Ok(()),
        };
        let wanted = usize::try_from(size).ok().filter(|w| *w <= self.max);
        let Some(wanted) = wanted else { return Err(FrameError::Size { size, max: self.max }) };
        self.length.clear();
        let (bytes, memory) = (Memory::Small(Vec::new()), Vec::new());
        self.partial = Some(Partial { wanted, bytes, room: 0, memory, measured: None });
        Ok(())
    }

    /// The next bytes, if they come as fast as they must where others wait for the memory that the frame holds. False: they have
    /// not come for a while.
    async fn receive(&mut self) -> Result<bool, FrameError> {
        let come = match self.partial.as_mut().filter(|partial| partial.room > 0) {
            None => self.conn.recv().await,
            Some(partial) => {
                if partial.is_too_slow(now(), self.budget.is_wanted(partial.wanted)) {
                    return Err(FrameError::Slow { size: partial.wanted });
                }
                match timeout(MEASURED, self.conn.recv()).await {
                    Ok(come) => come,
                    Err(_) => return Ok(false),
                }
            }
        };
        self.piece = Some((come?.ok_or(FrameError::Closed)?, 0));
        Ok(true)
    }

    /// Whether there is memory to take some of the piece in. If not, waits for it, or until the rest of the frame has come: then there
    /// is memory of another kind. Room grows in steps, so that copying stays linear, and never past the frame.
    async fn make_room(&mut self) -> Result<bool, FrameError> {
        let (Some(partial), Some((piece, used))) = (&self.partial, &self.piece) else { return Ok(true) };
        let (have, size, here) = (partial.bytes.len(), partial.wanted, piece.len() - used);
        if have + here.min(size - have).min(STEP) <= partial.room {
            return Ok(true);
        }
        let come = (have + here + self.conn.queued()).min(size);
        let has_come = come == size;
        let room = if has_come { size } else { next_room(partial.room, come, size) };
        let claim = Claim { bytes: room - partial.room, rest: size - partial.room, size, has_come };
        let (units, bytes, at_once) = match self.budget.try_take(claim) {
            Some(units) => (units, claim.bytes, true),
            None => {
                self.put_back();
                let rest_comes = async {
                    match !has_come && size - have <= WHOLE && self.piece.is_none() {
                        true => self.conn.has_queued(size - have).await,
                        false => std::future::pending().await,
                    }
                };
                let granted = select_biased! {
                    waited = self.budget.take(claim, MEMORY_WAIT).fuse() => {
                        Some(waited.map_err(|_| FrameError::Memory { size })?)
                    }
                    comes = rest_comes.fuse() => if comes { None } else { return Err(FrameError::Closed) },
                };
                // It was not the peer that was slow meanwhile.
                self.partial.iter_mut().for_each(|partial| partial.measured = None);
                let Some((units, bytes)) = granted else { return Ok(false) };
                (units, bytes, false)
            }
        };
        if let Some(partial) = &mut self.partial {
            partial.room += bytes;
            partial.memory.push(units);
        }
        // Who has waited does so for the core as well: what is given back is given to many.
        Ok(at_once)
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
                let take = rest.len().min(wanted).min(STEP);
                if let Some(partial) = &mut self.partial {
                    partial.bytes.grow(partial.room, partial.wanted);
                    partial.bytes.extend(rest.get(..take).unwrap_or_default());
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_holds_no_more_than_a_few_times_what_has_come_of_it() {
        for size in [100 << 10, 3 << 20, GIANT, GIANT + 1, 100 << 20] {
            let (mut room, mut come) = (0, 0);
            while come < size {
                come = (come + 9000).min(size);
                if come > room {
                    room = next_room(room, come, size);
                }
                let most = (come * GROWTH).max(if come > GIANT_FROM && size > GIANT { come + HUGE_PAGE } else { 0 });
                assert!(room >= come && room <= most.max(FIRST_ALLOCATION), "{come} of {size}: {room}");
            }
        }
    }

    #[test]
    fn a_frame_is_too_slow_only_where_others_wait_for_what_it_holds() {
        let begun = Instant::now();
        let bytes = Memory::Large(AlignedBuf::zeroed(1000));
        let mut partial = Partial { wanted: 1 << 20, bytes, room: 64 << 10, memory: Vec::new(), measured: None };
        let after = |seconds| begun + Duration::from_secs(seconds);
        assert!(!partial.is_too_slow(after(3600), false), "nobody waits");
        assert!(!partial.is_too_slow(after(3700), true), "from now on it is measured");
        assert!(partial.is_too_slow(after(3701), true), "nothing has come");
        assert!(!partial.is_too_slow(after(3702), false));
        assert!(!partial.is_too_slow(after(3703), true), "begun again");
        partial.bytes.grow(64 << 10, 1 << 20);
        partial.bytes.extend(&[0; 8 << 10]);
        assert!(!partial.is_too_slow(after(3704), true), "an eighth of what it holds came in a second");
        partial.bytes.extend(&[0; (8 << 10) - 1]);
        assert!(partial.is_too_slow(after(3705), true), "a little less");
    }
}
