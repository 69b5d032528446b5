//! Which leader epoch (term) wrote which offsets (Kafka's `LeaderEpochFileCache`): answers OffsetForLeaderEpoch and tells
//! a fetcher where its log parts from ours.
#![deny(clippy::unwrap_used, clippy::indexing_slicing)]

use crate::model::{Offset, Term};
use crate::sealed::{self, SealError};

const EPOCHS: [u8; 4] = *b"CLEC";
const VERSION: u16 = 0;

/// Leader epochs that wrote records, each with the offset of its first record. Terms and offsets both rise.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct EpochCache {
    entries: Vec<(Term, Offset)>,
}

impl EpochCache {
    pub fn new() -> EpochCache {
        EpochCache::default()
    }

    /// Notes that records of `term` begin at `start`. A term that is known already keeps its start, unless `start` is lower;
    /// entries that contradict the new one (same or later term, same or later start) go. True if anything changed.
    pub fn assign(&mut self, term: Term, start: Offset) -> bool {
        if start < Offset::ZERO {
            return false;
        }
        match self.entries.last() {
            Some(&(last, at)) if last == term && at <= start => return false,
            _ => {}
        }
        while self.entries.last().is_some_and(|&(t, s)| t >= term || s >= start) {
            self.entries.pop();
        }
        self.entries.push((term, start));
        true
    }

    /// Where `asked` ended: the largest epoch at or below it and the offset after its last record. The latest epoch ends at
    /// `log_end`; `None` (-1, -1 on the wire) for an epoch later than every known one. An epoch before every known one ends
    /// where the first known one starts.
    pub fn end_offset_for(&self, asked: Term, log_end: Offset) -> Option<(Term, Offset)> {
        let above = self.entries.partition_point(|&(t, _)| t <= asked);
        let floor = above.checked_sub(1).and_then(|i| self.entries.get(i)).map(|&(t, _)| t);
        match self.entries.get(above) {
            Some(&(_, start)) => Some((floor.unwrap_or(asked), start)),
            None => (floor == Some(asked)).then_some((asked, log_end)),
        }
    }

    /// The epoch that wrote `offset`.
    pub fn epoch_for(&self, offset: Offset) -> Option<Term> {
        let above = self.entries.partition_point(|&(_, s)| s <= offset);
        above.checked_sub(1).and_then(|i| self.entries.get(i)).map(|&(t, _)| t)
    }

    pub fn latest(&self) -> Option<(Term, Offset)> {
        self.entries.last().copied()
    }

    pub fn earliest(&self) -> Option<(Term, Offset)> {
        self.entries.first().copied()
    }

    pub fn entries(&self) -> &[(Term, Offset)] {
        &self.entries
    }

    /// The log now ends at `log_end`: forgets the epochs that start there or later.
    pub fn truncate_end(&mut self, log_end: Offset) {
        let keep = self.entries.partition_point(|&(_, s)| s < log_end);
        self.entries.truncate(keep);
    }

    /// The log now starts at `log_start`: the epoch that holds it starts there, earlier ones go.
    pub fn trim_start(&mut self, log_start: Offset) {
        let above = self.entries.partition_point(|&(_, s)| s <= log_start);
        if above > 0 {
            self.entries.drain(..above - 1);
            if let Some((_, start)) = self.entries.first_mut() {
                *start = log_start;
            }
        }
    }

    /// Appends the cache to `out`: a frame with magic, version and CRC around a count `u32` and pairs of term `u64` and
    /// start `i64`, big-endian.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut payload = Vec::with_capacity(4 + self.entries.len() * 16);
        payload.extend_from_slice(&(self.entries.len() as u32).to_be_bytes());
        for (term, start) in &self.entries {
            payload.extend_from_slice(&term.0.to_be_bytes());
            payload.extend_from_slice(&start.0.to_be_bytes());
        }
        sealed::seal(EPOCHS, VERSION, &payload, out);
    }

    /// Takes a cache off the front of `bytes`.
    pub fn decode(bytes: &mut &[u8]) -> Result<EpochCache, SealError> {
        let (_, mut fields) = sealed::open(EPOCHS, VERSION, bytes)?;
        let count = u32::from_be_bytes(fields.array()?) as usize;
        if count > fields.room_for(16) {
            return Err(SealError::Contents);
        }
        let mut entries: Vec<(Term, Offset)> = Vec::with_capacity(count);
        for _ in 0..count {
            let term = Term(u64::from_be_bytes(fields.array()?));
            let start = Offset(i64::from_be_bytes(fields.array()?));
            if start < Offset::ZERO || entries.last().is_some_and(|&(t, s)| t >= term || s >= start) {
                return Err(SealError::Contents);
            }
            entries.push((term, start));
        }
        fields.end()?;
        Ok(EpochCache { entries })
    }
}

#[cfg(test)]
mod tests;
