//! Which Raft term wrote which entries: the first entry of every term in the log. The leader epochs (`epoch_cache`) tell the
//! same of offsets, but know nothing of a term that took none.
#![deny(clippy::unwrap_used, clippy::indexing_slicing)]

use crate::model::{LogId, RaftIndex, Term};
use crate::sealed::{Fields, SealError};

/// Terms and indexes both rise.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct TermStarts(Vec<LogId>);

impl TermStarts {
    /// `id` is appended.
    pub(crate) fn append(&mut self, id: LogId) {
        if self.0.last().is_none_or(|last| last.term < id.term) {
            self.0.push(id);
        }
    }

    /// The log now ends before `end`.
    pub(crate) fn truncate(&mut self, end: RaftIndex) {
        let keep = self.0.partition_point(|id| id.index < end);
        self.0.truncate(keep);
    }

    /// The entries up to `last` are gone: forgets the terms that have no other.
    pub(crate) fn purge(&mut self, last: LogId) {
        let gone = self.0.partition_point(|id| id.index <= last.index.next());
        self.0.drain(..gone.saturating_sub(1));
    }

    /// The term that wrote the entry at `index`, if that is known.
    pub(crate) fn term_of(&self, index: RaftIndex) -> Option<Term> {
        let after = self.0.partition_point(|id| id.index <= index);
        after.checked_sub(1).and_then(|at| self.0.get(at)).map(|id| id.term)
    }

    /// The last entry of every term that has one at `first` or later, the log's last entry being `last`.
    pub(crate) fn last_of_terms(&self, first: RaftIndex, last: Option<LogId>) -> Vec<LogId> {
        let nexts = self.0.iter().skip(1).map(|next| next.index.0.checked_sub(1).map(RaftIndex));
        let ends = nexts.chain([last.map(|last| last.index)]);
        let ids = self.0.iter().zip(ends).filter_map(|(start, end)| Some(LogId::new(start.term, end?)));
        ids.filter(|id| id.index >= first).collect()
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&(self.0.len() as u32).to_be_bytes());
        for id in &self.0 {
            out.extend_from_slice(&id.term.0.to_be_bytes());
            out.extend_from_slice(&id.index.0.to_be_bytes());
        }
    }

    pub(crate) fn decode(fields: &mut Fields<'_>) -> Result<TermStarts, SealError> {
        let count = u32::from_be_bytes(fields.array()?) as usize;
        if count > fields.room_for(16) {
            return Err(SealError::Contents);
        }
        let mut starts: Vec<LogId> = Vec::with_capacity(count);
        for _ in 0..count {
            let term = Term(u64::from_be_bytes(fields.array()?));
            let id = LogId::new(term, RaftIndex(u64::from_be_bytes(fields.array()?)));
            if starts.last().is_some_and(|before| before.term >= id.term || before.index >= id.index) {
                return Err(SealError::Contents);
            }
            starts.push(id);
        }
        Ok(TermStarts(starts))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(term: u64, index: u64) -> LogId {
        LogId::new(Term(term), RaftIndex(index))
    }

    fn filled() -> TermStarts {
        let mut starts = TermStarts::default();
        for id in [id(1, 0), id(1, 1), id(1, 2), id(3, 3), id(3, 4), id(4, 5)] {
            starts.append(id);
        }
        starts
    }

    #[test]
    fn every_entry_has_the_term_that_began_before_it() {
        let mut starts = filled();
        let terms: Vec<_> = (0..7).map(|index| starts.term_of(RaftIndex(index)).map(|term| term.0)).collect();
        assert_eq!(terms, [Some(1), Some(1), Some(1), Some(3), Some(3), Some(4), Some(4)]);
        starts.purge(id(3, 3));
        assert_eq!(starts.term_of(RaftIndex(2)), None, "not known any more");
    }

    #[test]
    fn every_term_ends_where_the_next_begins() {
        let starts = filled();
        assert_eq!(starts.last_of_terms(RaftIndex(0), Some(id(4, 9))), [id(1, 2), id(3, 4), id(4, 9)]);
        assert_eq!(starts.last_of_terms(RaftIndex(3), Some(id(4, 5))), [id(3, 4), id(4, 5)]);
        assert_eq!(TermStarts::default().last_of_terms(RaftIndex(0), None), []);
    }

    #[test]
    fn truncation_and_purge_forget_terms_without_entries() {
        let mut starts = filled();
        starts.truncate(RaftIndex(4));
        assert_eq!(starts.last_of_terms(RaftIndex(0), Some(id(3, 3))), [id(1, 2), id(3, 3)]);
        starts.append(id(7, 4));
        starts.purge(id(1, 1));
        assert_eq!(starts.last_of_terms(RaftIndex(2), Some(id(7, 4))), [id(1, 2), id(3, 3), id(7, 4)]);
        starts.purge(id(1, 2));
        assert_eq!(starts.last_of_terms(RaftIndex(3), Some(id(7, 4))), [id(3, 3), id(7, 4)]);
        starts.purge(id(7, 4));
        assert_eq!(starts.last_of_terms(RaftIndex(5), Some(id(7, 4))), []);
    }

    #[test]
    fn they_read_back_and_nonsense_is_refused() {
        let mut bytes = Vec::new();
        filled().encode(&mut bytes);
        assert_eq!(TermStarts::decode(&mut Fields::new(&bytes)).unwrap(), filled());
        assert!(TermStarts::decode(&mut Fields::new(&bytes[..bytes.len() - 1])).is_err());
        let mut falling = 2u32.to_be_bytes().to_vec();
        [2u64, 5, 1, 6].iter().for_each(|n| falling.extend(n.to_be_bytes()));
        assert!(TermStarts::decode(&mut Fields::new(&falling)).is_err());
    }
}
