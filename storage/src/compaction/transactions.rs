//! How the transactions of a log ended, as far as its closed segments tell (Kafka's `CleanedTransactionMetadata`, which reads it
//! from the transaction index).
//!
//! | a batch of a transaction that  | its keys count | in the pass                                     |
//! |--------------------------------|----------------|-------------------------------------------------|
//! | was committed                  | yes            | as any other                                    |
//! | was aborted                    | no             | goes; what was aborted replaces nothing         |
//! | has not ended                  | no             | the pass ends before the transaction's first one |
//!
//! In a log without transactional batches nothing is read for this.
#![deny(clippy::unwrap_used, clippy::indexing_slicing)]

use std::rc::Rc;

use hashbrown::HashMap;

use super::Cleaner;
use super::plan::Source;
use crate::error::StorageError;
use crate::log::LogInner;
use crate::model::{Offset, ProducerId};
use crate::record::{BatchHeader, TransactionMarker};
use crate::store::background::breathe;

/// Transactions that are remembered, open or aborted, at most; a pass ends before the one that is too many.
const TRANSACTIONS_MAX: usize = 64 << 10;

/// What became of the transactions from some offset on.
pub(super) struct Outcomes {
    /// Of each producer, ascending: from the first batch to the marker.
    aborted: HashMap<ProducerId, Vec<(Offset, Offset)>>,
    /// All transactions with a batch before it have ended.
    upto: Offset,
}

impl Default for Outcomes {
    /// Of no transactions.
    fn default() -> Outcomes {
        Outcomes { aborted: HashMap::new(), upto: Offset::MAX }
    }
}

impl Outcomes {
    /// Where the first transaction begins of which it is not known how it ends.
    pub(super) fn upto(&self) -> Offset {
        self.upto
    }

    /// True of a batch of records whose transaction was aborted.
    pub(super) fn is_aborted(&self, header: &BatchHeader) -> bool {
        if !header.is_transactional() || header.is_control() {
            return false;
        }
        let Some(aborted) = self.aborted.get(&header.producer_id) else { return false };
        let ends_behind = aborted.partition_point(|(_, marker)| *marker < header.base_offset);
        aborted.get(ends_behind).is_some_and(|(first, _)| *first <= header.base_offset)
    }
}

/// Reads the batches from `position` of the first source on.
pub(super) async fn read(
    cleaner: &mut Cleaner,
    log: &Rc<LogInner>,
    sources: impl Iterator<Item = &Source>,
    mut position: u32,
) -> Result<Outcomes, StorageError> {
    let mut account = Account::default();
    for source in sources {
        let file = log.open_segment(source.base, false).await?;
        let mut scan = log.scan(file, std::mem::take(&mut position), source.size).in_background(&log.shared);
        while let Some(batch) = log.scanned_batch(source.base, scan.next().await)? {
            cleaner.account(log, batch.bytes.len()).await?;
            breathe().await;
            if !account.take_in(&batch.header, &batch.bytes) {
                return Ok(account.ended(batch.header.base_offset));
            }
        }
        account.end = source.end;
    }
    let end = account.end;
    Ok(account.ended(end))
}

#[derive(Default)]
struct Account {
    /// First offsets of transactions that have not ended.
    open: HashMap<ProducerId, Offset>,
    aborted: HashMap<ProducerId, Vec<(Offset, Offset)>>,
    aborts: usize,
    end: Offset,
}

impl Account {
    /// False if it is one transaction too many.
    fn take_in(&mut self, header: &BatchHeader, batch: &[u8]) -> bool {
        let producer = header.producer_id;
        if header.is_control() {
            let marker = TransactionMarker::of(header, batch);
            let first = marker.and_then(|_| self.open.remove(&producer));
            if let (Some(first), Some(TransactionMarker::Abort)) = (first, marker) {
                self.aborted.entry(producer).or_default().push((first, header.base_offset));
                self.aborts += 1;
            }
            return true;
        }
        // What has no records left is of a transaction that ended long ago, and its marker may be gone.
        if !header.is_transactional() || header.count == 0 || self.open.contains_key(&producer) {
            return true;
        }
        if self.open.len() + self.aborts >= TRANSACTIONS_MAX {
            return false;
        }
        self.open.insert(producer, header.base_offset);
        true
    }

    fn ended(self, end: Offset) -> Outcomes {
        let first_open = self.open.into_values().min();
        Outcomes { aborted: self.aborted, upto: first_open.unwrap_or(end).min(end) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ProducerEpoch, Sequence, Term};
    use crate::record::{BatchBuilder, Codec};

    fn header(producer: i64, base: i64, marker: Option<TransactionMarker>) -> (BatchHeader, bytes::Bytes) {
        let mut b = BatchBuilder::new(Codec::None)
            .producer(ProducerId(producer), ProducerEpoch(0), Sequence(0))
            .transactional();
        match marker {
            Some(marker) => b.push_marker(1, marker, 0),
            None => b.push(1, Some(b"k"), Some(b"v")),
        }
        let bytes = b.build_at(Offset(base), Term(1)).unwrap();
        (BatchHeader::parse(&bytes).unwrap(), bytes)
    }

    fn outcomes(batches: &[(i64, i64, Option<TransactionMarker>)], end: i64) -> Outcomes {
        let mut account = Account::default();
        for (producer, base, marker) in batches {
            let (header, bytes) = header(*producer, *base, *marker);
            assert!(account.take_in(&header, &bytes));
        }
        account.ended(Offset(end))
    }

    #[test]
    fn a_batch_is_aborted_if_the_next_marker_of_its_producer_says_so() {
        use TransactionMarker::{Abort, Commit};
        let found = outcomes(
            &[(1, 0, None), (2, 1, None), (1, 2, None), (1, 3, Some(Abort)), (2, 4, Some(Commit)), (1, 5, None)],
            9,
        );
        let aborted: Vec<i64> = [(1, 0), (2, 1), (1, 2), (1, 5)]
            .iter()
            .filter(|(p, o)| found.is_aborted(&header(*p, *o, None).0))
            .map(|(_, o)| *o)
            .collect();
        assert_eq!(aborted, [0, 2]);
        assert!(!found.is_aborted(&header(1, 3, Some(Abort)).0), "markers have a rule of their own");
        assert_eq!(found.upto(), Offset(5), "the last transaction has not ended");
        let ended =
            outcomes(&[(1, 0, None), (1, 1, Some(Abort)), (1, 2, None), (1, 3, Some(Commit)), (1, 4, Some(Abort))], 9);
        let is = |at| ended.is_aborted(&header(1, at, None).0);
        assert!(is(0) && !is(2) && ended.upto() == Offset(9), "a marker of nothing aborts nothing");
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut account = Account::default();
        let (first, bytes) = header(0, 0, None);
        for n in 0..TRANSACTIONS_MAX as i64 {
            let header = BatchHeader { producer_id: ProducerId(n), base_offset: Offset(n), ..first };
            assert!(account.take_in(&header, &bytes));
        }
        let one_more = BatchHeader { producer_id: ProducerId(-5), base_offset: Offset(1 << 20), ..first };
        assert!(!account.take_in(&one_more, &bytes));
        assert_eq!(account.ended(one_more.base_offset).upto(), Offset(0));
    }
}
