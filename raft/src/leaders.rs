//! Which term wrote which entries of a log, so that an entry's id is known without reading it.

use corelane_storage::model::{LogId, RaftIndex, Term};

/// The last entry of every term in the log, in order. Unknown until the replica is surveyed.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Leaders(Option<Known>);

#[derive(Clone, PartialEq, Eq, Debug)]
struct Known {
    /// The first entry of the log.
    first: RaftIndex,
    last_of_terms: Vec<LogId>,
}

impl Leaders {
    pub fn unknown() -> Leaders {
        Leaders(None)
    }

    /// A log whose first entry is `first`; `last_of_terms` has the last entry of every term.
    pub fn known(first: RaftIndex, last_of_terms: Vec<LogId>) -> Leaders {
        Leaders(Some(Known { first, last_of_terms }))
    }

    /// The last entry of every term, if known.
    pub fn last_of_terms(&self) -> Option<&[LogId]> {
        self.0.as_ref().map(|k| &k.last_of_terms[..])
    }

    /// The term that wrote `index`, if known.
    pub fn term_at(&self, index: RaftIndex) -> Option<Term> {
        let known = self.0.as_ref().filter(|k| k.first <= index)?;
        let at = known.last_of_terms.partition_point(|id| id.index < index);
        known.last_of_terms.get(at).map(|id| id.term)
    }

    /// `id` was appended.
    fn append(&mut self, id: LogId) {
        let Some(known) = &mut self.0 else { return };
        match known.last_of_terms.last_mut() {
            Some(last) if last.term == id.term => *last = id,
            Some(_) => known.last_of_terms.push(id),
            None => {
                known.first = id.index;
                known.last_of_terms.push(id);
            }
        }
    }

    /// Entries were appended, in order.
    pub fn extend(&mut self, ids: impl IntoIterator<Item = LogId>) {
        ids.into_iter().for_each(|id| self.append(id));
    }

    /// Everything after `last` was removed.
    pub fn truncate_after(&mut self, last: Option<LogId>) {
        let Some(known) = &mut self.0 else { return };
        let Some(last) = last.filter(|id| id.index >= known.first) else {
            known.last_of_terms.clear();
            return;
        };
        let keep = known.last_of_terms.partition_point(|id| id.index < last.index);
        known.last_of_terms.truncate(keep);
        known.last_of_terms.push(last);
    }

    /// Everything up to `upto` was purged.
    pub fn purge(&mut self, upto: LogId) {
        let Some(known) = &mut self.0 else { return };
        known.first = known.first.max(upto.index.next());
        known.last_of_terms.retain(|id| id.index > upto.index);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(term: u64, index: u64) -> LogId {
        LogId::new(Term(term), RaftIndex(index))
    }

    /// The rules against a plain list of all ids.
    #[test]
    fn agrees_with_a_list_of_all_entries() {
        let mut leaders = Leaders::known(RaftIndex(0), vec![]);
        let mut all: Vec<LogId> = vec![];
        let check = |leaders: &Leaders, all: &[LogId]| {
            for id in all {
                assert_eq!(leaders.term_at(id.index), Some(id.term), "{id} in {leaders:?}");
            }
            if let (Some(first), Some(last)) = (all.first(), all.last()) {
                assert_eq!(leaders.term_at(last.index.next()), None);
                assert!(first.index.0 == 0 || leaders.term_at(RaftIndex(first.index.0 - 1)).is_none());
            }
        };
        let mut next = 0;
        for (term, count) in [(1, 3), (2, 1), (5, 4)] {
            for _ in 0..count {
                all.push(id(term, next));
                leaders.extend([id(term, next)]);
                next += 1;
                check(&leaders, &all);
            }
        }
        assert_eq!(leaders.last_of_terms(), Some(&[id(1, 2), id(2, 3), id(5, 7)][..]));
        for keep in (0..8).rev() {
            let (mut leaders, mut all) = (leaders.clone(), all.clone());
            all.truncate(keep + 1);
            leaders.truncate_after(all.last().copied());
            check(&leaders, &all);
            assert_eq!(leaders.last_of_terms().unwrap().last(), all.last());
        }
        for purged in 0..8 {
            let (mut leaders, mut all) = (leaders.clone(), all.clone());
            leaders.purge(all[purged]);
            all.drain(..=purged);
            check(&leaders, &all);
        }
        leaders.truncate_after(None);
        leaders.extend([id(9, 8)]);
        check(&leaders, &[id(9, 8)]);
    }

    #[test]
    fn stays_unknown_until_told() {
        let mut leaders = Leaders::unknown();
        leaders.extend([id(1, 1)]);
        assert_eq!((leaders.last_of_terms(), leaders.term_at(RaftIndex(1))), (None, None));
    }
}
