//! The transactions of a partition: which are open, and how those ended that are still of interest (Kafka's `ongoingTxns`,
//! `unreplicatedTxns`, and what it puts into its transaction index).

use std::collections::{BTreeSet, VecDeque};

use super::{Entry, NO_COORDINATOR, ProducerError, ProducerTable, known_epoch};
use crate::map::HashMap;
use crate::model::{Offset, ProducerEpoch, ProducerId};
use crate::record::{BatchHeader, EndMarker, TransactionMarker};

/// A transaction whose records readers of what is committed leave out (Kafka's `AbortedTxn`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AbortedTransaction {
    pub producer: ProducerId,
    /// Of its first batch here.
    pub first_offset: Offset,
    /// Of its marker.
    pub last_offset: Offset,
    /// When the marker had been appended: where the first transaction began that was still open then, or the end.
    pub last_stable_offset: Offset,
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Transactions {
    /// Their first offsets.
    open: BTreeSet<(Offset, ProducerId)>,
    /// Those that have ended, from the first batch to the marker, with a marker that was not applied yet; by markers.
    pub(super) decided: VecDeque<(Offset, Offset)>,
    /// Aborted ones that no index file has; by markers.
    pub(super) aborted: Vec<AbortedTransaction>,
}

impl Transactions {
    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty() && self.decided.is_empty() && self.aborted.is_empty()
    }

    pub(super) fn begin(&mut self, first: Offset, producer: ProducerId) {
        self.open.insert((first, producer));
    }

    /// Finds the open ones among the entries.
    pub(super) fn reopen(&mut self, entries: &HashMap<ProducerId, Entry>) {
        let open = entries.iter().filter_map(|(id, entry)| Some((Offset(entry.txn_first_offset).known()?, *id)));
        self.open = open.collect();
    }
}

impl ProducerTable {
    /// Takes note of a transaction marker at `offset`. Checks nothing.
    pub fn end_transaction(&mut self, header: &BatchHeader, offset: Offset, end: EndMarker) {
        let (producer, epoch) = (header.producer_id, header.producer_epoch);
        let entry = self.entries.entry(producer).or_insert_with(|| Entry::new(epoch));
        entry.begin(epoch);
        entry.coordinator_epoch = end.coordinator_epoch;
        entry.last_timestamp = header.max_timestamp;
        let first = Offset(std::mem::replace(&mut entry.txn_first_offset, -1));
        // A marker that ends nothing changes nothing for readers.
        let Some(first_offset) = first.known() else { return };
        let transactions = &mut self.transactions;
        transactions.open.remove(&(first_offset, producer));
        transactions.decided.push_back((first_offset, offset));
        if end.marker == TransactionMarker::Abort {
            let last_stable_offset = transactions.open.first().map_or(offset.next(), |(first, _)| *first);
            let aborted = AbortedTransaction { producer, first_offset, last_offset: offset, last_stable_offset };
            transactions.aborted.push(aborted);
        }
    }

    /// Says whether a coordinator's marker may be appended (Kafka's `ProducerAppendInfo`). `transaction_version`: from 2 on a
    /// marker's epoch is above that of its transaction; the same marker again is let pass.
    pub fn check_marker(
        &self,
        producer: ProducerId,
        epoch: ProducerEpoch,
        coordinator_epoch: i32,
        transaction_version: i16,
    ) -> Result<(), ProducerError> {
        let entry = self.entries.get(&producer);
        match entry {
            Some(entry) => entry.check_marker_epoch(producer, epoch, transaction_version)?,
            None => known_epoch(producer, epoch)?,
        }
        let current = entry.map_or(NO_COORDINATOR, |entry| entry.coordinator_epoch);
        if coordinator_epoch < current {
            return Err(ProducerError::TransactionCoordinatorFenced { producer, got: coordinator_epoch, current });
        }
        Ok(())
    }

    /// True if the producer has a transaction open at this very epoch.
    pub fn is_ongoing(&self, producer: ProducerId, epoch: ProducerEpoch) -> bool {
        self.entries.get(&producer).is_some_and(|entry| entry.epoch == epoch && entry.txn_first_offset >= 0)
    }

    /// Where the first transaction begins that is open, or whose marker is not applied yet.
    pub fn first_unstable_offset(&self) -> Option<Offset> {
        let open = self.transactions.open.first().map(|(first, _)| *first);
        let decided = self.transactions.decided.iter().map(|(first, _)| *first);
        open.into_iter().chain(decided).min()
    }

    /// The markers before `high_watermark` are applied.
    pub(crate) fn applied(&mut self, high_watermark: Offset) {
        while self.transactions.decided.front().is_some_and(|(_, marker)| *marker < high_watermark) {
            self.transactions.decided.pop_front();
        }
    }

    /// Aborted transactions that are in no index file; by markers.
    pub(crate) fn aborted(&self) -> &[AbortedTransaction] {
        &self.transactions.aborted
    }

    /// Forgets aborted transactions whose markers lie before `offset`.
    pub(crate) fn forget_aborted(&mut self, offset: Offset) {
        self.transactions.aborted.retain(|aborted| aborted.last_offset >= offset);
    }
}

impl Entry {
    fn check_marker_epoch(
        &self,
        producer: ProducerId,
        epoch: ProducerEpoch,
        transaction_version: i16,
    ) -> Result<(), ProducerError> {
        let again = epoch == self.epoch && (self.txn_first_offset < 0 || epoch == ProducerEpoch(i16::MAX));
        let fenced = match transaction_version {
            2.. => epoch <= self.epoch && !again,
            _ => epoch < self.epoch,
        };
        if fenced {
            return Err(ProducerError::InvalidProducerEpoch { producer, got: epoch, current: self.epoch });
        }
        Ok(())
    }
}
