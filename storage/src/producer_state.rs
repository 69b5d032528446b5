//! What a partition remembers of its idempotent producers (Kafka's `ProducerStateManager`, `ProducerStateEntry`,
//! `ProducerAppendInfo`): enough to recognise the last five batches of each, and to refuse gaps and fenced producers.
//!
//! The order of appends is fixed when they are enqueued, long before they are durable. So `check` and `update` are two steps
//! of one synchronous piece of code: check the batch, give it its offsets, `update`, enqueue. A table that got ahead of
//! a log that lost its tail is rebuilt from the last snapshot and the batch headers after it.
#![deny(clippy::unwrap_used, clippy::indexing_slicing)]

mod contradiction;
mod snapshot;
mod transactions;

use crate::map::HashMap;
use crate::model::{Offset, ProducerEpoch, ProducerId, Sequence};
use crate::record::{BatchHeader, EndMarker};

pub use transactions::AbortedTransaction;
use transactions::Transactions;

/// Batches remembered of each producer: clients keep at most as many in flight.
pub const BATCHES_KEPT: usize = 5;

/// What the transaction coordinator has said of a batch's transaction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verification {
    /// Nobody has to ask it (`transaction.partition.verification.enable` is off, or the broker itself writes).
    NotRequired,
    /// Nothing: only a transaction that is open here may go on.
    Missing,
    Verified,
}

/// What the transaction coordinator was asked of a producer since a batch of its transactions was last written here, whatever the
/// answer was (Kafka's `VerificationStateEntry`). Batches of the producer have to begin with the first that it was asked of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Unsettled {
    /// The producer's transactions each have an epoch of their own, which begins at sequence 0 (KIP-890).
    pub epoch_bump: bool,
    /// The smallest sequence that it was asked of: none that is larger comes before it.
    pub lowest: Sequence,
}

/// A batch that is on its way into the log.
#[derive(Clone, Copy, Debug)]
pub struct Coming<'a> {
    pub header: &'a BatchHeader,
    pub base_offset: Offset,
    /// Of a transaction marker.
    pub marker: Option<EndMarker>,
}

/// What `check` found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Checked {
    /// Append it.
    Fresh,
    /// It is in the log already, with these offsets: answer with them and append nothing.
    Duplicate {
        base: Offset,
        last: Offset,
        /// The batch's max timestamp, ms.
        timestamp: i64,
    },
}

/// Why a batch is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ProducerError {
    /// Kafka's OUT_OF_ORDER_SEQUENCE_NUMBER (45).
    #[error("out of order sequence of {producer} at epoch {epoch}: {got} after {last}")]
    OutOfOrderSequence { producer: ProducerId, epoch: ProducerEpoch, got: Sequence, last: Sequence },
    /// Kafka's INVALID_PRODUCER_EPOCH (47).
    #[error("epoch {got} of {producer} is smaller than the last seen, {current}")]
    InvalidProducerEpoch { producer: ProducerId, got: ProducerEpoch, current: ProducerEpoch },
    /// Kafka's INVALID_TXN_STATE (48).
    #[error("a batch of {producer} at epoch {epoch}: {reason}")]
    InvalidTxnState { producer: ProducerId, epoch: ProducerEpoch, reason: &'static str },
    /// Kafka's TRANSACTION_COORDINATOR_FENCED (52).
    #[error("coordinator epoch {got} of a marker of {producer} is older than {current}")]
    TransactionCoordinatorFenced { producer: ProducerId, got: i32, current: i32 },
}

impl ProducerError {
    /// The number in Kafka's `Errors`.
    pub fn kafka_code(&self) -> i16 {
        match self {
            ProducerError::OutOfOrderSequence { .. } => 45,
            ProducerError::InvalidProducerEpoch { .. } => 47,
            ProducerError::InvalidTxnState { .. } => 48,
            ProducerError::TransactionCoordinatorFenced { .. } => 52,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct KeptBatch {
    last_offset: i64,
    timestamp: i64,
    last_sequence: i32,
    /// Last minus first, of offsets and of sequences alike.
    delta: u32,
}

impl KeptBatch {
    fn first_sequence(&self) -> Sequence {
        Sequence(self.last_sequence).minus(self.delta)
    }
}

/// The epoch of the coordinator where no marker was written yet.
const NO_COORDINATOR: i32 = -1;

#[derive(Clone, Debug)]
struct Entry {
    /// The max timestamp of the last batch, by which the entry expires, ms.
    last_timestamp: i64,
    /// First offset of the open transaction; -1 without.
    txn_first_offset: i64,
    coordinator_epoch: i32,
    epoch: ProducerEpoch,
    kept: u8,
    /// Oldest first; the first `kept` are in use.
    batches: [KeptBatch; BATCHES_KEPT],
}

impl Entry {
    fn new(epoch: ProducerEpoch) -> Entry {
        Entry {
            last_timestamp: -1,
            txn_first_offset: -1,
            coordinator_epoch: NO_COORDINATOR,
            epoch,
            kept: 0,
            batches: [KeptBatch::default(); BATCHES_KEPT],
        }
    }

    /// Goes on with `epoch`.
    fn begin(&mut self, epoch: ProducerEpoch) {
        if self.epoch != epoch {
            self.epoch = epoch;
            self.kept = 0;
        }
    }

    /// The batch, if it is in the log already.
    fn duplicate(&self, header: &BatchHeader) -> Option<Checked> {
        let (first, last) = (header.base_sequence, header.last_sequence());
        let same = |b: &&KeptBatch| b.first_sequence() == first && Sequence(b.last_sequence) == last;
        let found = self.batches().iter().filter(|_| header.producer_epoch == self.epoch).find(same)?;
        let last = Offset(found.last_offset);
        let base = last + -i64::from(found.delta);
        Some(Checked::Duplicate { base, last, timestamp: found.timestamp })
    }

    fn batches(&self) -> &[KeptBatch] {
        self.batches.get(..usize::from(self.kept)).unwrap_or_default()
    }

    fn last_sequence(&self) -> Sequence {
        self.batches().last().map_or(Sequence::NONE, |b| Sequence(b.last_sequence))
    }

    fn push(&mut self, batch: KeptBatch) {
        if usize::from(self.kept) == BATCHES_KEPT {
            self.batches.rotate_left(1);
            self.kept -= 1;
        }
        if let Some(place) = self.batches.get_mut(usize::from(self.kept)) {
            *place = batch;
            self.kept += 1;
        }
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Entry) -> bool {
        let own = |e: &Entry| (e.epoch, e.coordinator_epoch, e.last_timestamp, e.txn_first_offset);
        own(self) == own(other) && self.batches() == other.batches()
    }
}

impl Eq for Entry {}

/// What is known of one producer, for DescribeProducers and the tools.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ProducerInfo {
    pub id: ProducerId,
    pub epoch: ProducerEpoch,
    /// `Sequence::NONE` when no batch of this epoch is known.
    pub last_sequence: Sequence,
    /// Of the last batch with records; `None` if only a transaction marker is known.
    pub last_offset: Option<Offset>,
    /// Milliseconds.
    pub last_timestamp: i64,
    /// The coordinator's epoch of the last transaction marker; -1 without.
    pub coordinator_epoch: i32,
    pub txn_first_offset: Option<Offset>,
}

/// The producers of one partition. About 200 bytes each.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ProducerTable {
    entries: HashMap<ProducerId, Entry>,
    transactions: Transactions,
}

impl ProducerTable {
    pub fn new() -> ProducerTable {
        ProducerTable::default()
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.transactions.is_empty()
    }

    /// Says whether a client's validated batch may be appended now, as far as that is not a matter of its transaction's
    /// verification.
    pub fn check(&self, header: &BatchHeader) -> Result<Checked, ProducerError> {
        self.check_verified(header, Verification::NotRequired, None)
    }

    /// Says whether a client's validated batch may be appended now. Batches without a producer are always fresh, and so is
    /// the first of a producer nothing is known of, whatever its sequence, unless something about it is `unsettled`.
    pub fn check_verified(
        &self,
        header: &BatchHeader,
        verification: Verification,
        unsettled: Option<Unsettled>,
    ) -> Result<Checked, ProducerError> {
        if !header.has_producer() {
            return Ok(Checked::Fresh);
        }
        let (producer, epoch, first) = (header.producer_id, header.producer_epoch, header.base_sequence);
        let entry = self.entries.get(&header.producer_id);
        if let Some(duplicate) = entry.and_then(|entry| entry.duplicate(header)) {
            return Ok(duplicate);
        }
        self.check_epoch(header)?;
        let state = |reason| Err(ProducerError::InvalidTxnState { producer, epoch, reason });
        if header.is_transactional() && verification == Verification::Missing && !self.is_ongoing(producer, epoch) {
            return state("it was not part of an ongoing transaction");
        }
        let order = |last| Err(ProducerError::OutOfOrderSequence { producer, epoch, got: first, last });
        if let Some(Unsettled { epoch_bump, lowest }) = unsettled {
            let nothing = entry.is_none_or(|entry| entry.kept == 0);
            if (epoch_bump && nothing && first != Sequence(0)) || first.0 > lowest.0 {
                return order(Sequence::NONE);
            }
        }
        let Some(entry) = entry else { return known_epoch(producer, epoch).map(|()| Checked::Fresh) };
        let last = if epoch == entry.epoch { entry.last_sequence() } else { Sequence::NONE };
        // After NONE (-1) comes 0: a new epoch, or one known only from a transaction marker, starts there. What was written without
        // an epoch says nothing of the order.
        if first != last.next() && entry.epoch != ProducerEpoch::NONE {
            return order(last);
        }
        if entry.txn_first_offset >= 0 && !header.is_transactional() {
            return state("a write without its open transaction");
        }
        Ok(Checked::Fresh)
    }

    /// Says whether the batch's producer is fenced by a later epoch.
    pub fn check_epoch(&self, header: &BatchHeader) -> Result<(), ProducerError> {
        let (producer, got) = (header.producer_id, header.producer_epoch);
        match self.entries.get(&producer).filter(|entry| got < entry.epoch) {
            Some(entry) => Err(ProducerError::InvalidProducerEpoch { producer, got, current: entry.epoch }),
            None => Ok(()),
        }
    }

    /// What will be known of one producer when what is on its way is in the log; `None` if nothing of it is.
    pub fn behind<'a>(&self, producer: ProducerId, ahead: impl Iterator<Item = Coming<'a>>) -> Option<ProducerTable> {
        let mut ahead = ahead.filter(|coming| coming.header.producer_id == producer).peekable();
        ahead.peek()?;
        let entry = self.entries.get(&producer).map(|entry| (producer, entry.clone()));
        let mut own = ProducerTable { entries: entry.into_iter().collect(), transactions: Transactions::default() };
        own.transactions.reopen(&own.entries);
        ahead.for_each(|coming| own.take(coming));
        Some(own)
    }

    /// Takes note of a batch that is being appended, or that is read back from the log. Checks nothing.
    pub fn take(&mut self, coming: Coming<'_>) {
        match coming.marker {
            Some(marker) => self.end_transaction(coming.header, coming.base_offset, marker),
            None => self.update(coming.header, coming.base_offset),
        }
    }

    /// As [`take`](Self::take), of the bytes of a batch.
    pub fn see(&mut self, header: &BatchHeader, base_offset: Offset, batch: &[u8]) {
        self.take(Coming { header, base_offset, marker: EndMarker::of(header, batch) });
    }

    /// As [`take`](Self::take), of a batch that is no transaction marker.
    pub fn update(&mut self, header: &BatchHeader, base_offset: Offset) {
        if !header.has_producer() || header.is_internal() {
            return;
        }
        let epoch = header.producer_epoch;
        let entry = self.entries.entry(header.producer_id).or_insert_with(|| Entry::new(epoch));
        entry.begin(epoch);
        entry.last_timestamp = header.max_timestamp;
        // A transaction marker has no sequence: it only moves the epoch. Compaction keeps a producer's last batch, empty.
        if let (false, Ok(delta)) = (header.is_control(), u32::try_from(header.last_offset_delta)) {
            entry.push(KeptBatch {
                last_offset: (base_offset + i64::from(delta)).0,
                timestamp: header.max_timestamp,
                last_sequence: header.last_sequence().0,
                delta,
            });
            // What compaction has left of an old batch, without records, is of a transaction that has ended.
            if header.is_transactional() && header.count > 0 && entry.txn_first_offset < 0 {
                entry.txn_first_offset = base_offset.0;
                self.transactions.begin(base_offset, header.producer_id);
            }
        }
    }

    /// Forgets producers whose last batch is `expiration_ms` old (`producer.id.expiration.ms`) and gives their number.
    pub fn expire(&mut self, now_ms: i64, expiration_ms: i64) -> usize {
        let before = self.entries.len();
        self.entries.retain(|_, e| e.txn_first_offset >= 0 || now_ms.saturating_sub(e.last_timestamp) < expiration_ms);
        let gone = before - self.entries.len();
        if gone > 0 {
            self.entries.shrink_to(self.entries.len() * 2);
        }
        gone
    }

    pub fn get(&self, id: ProducerId) -> Option<ProducerInfo> {
        self.entries.get(&id).map(|e| info(id, e))
    }

    /// In no order.
    pub fn iter(&self) -> impl Iterator<Item = ProducerInfo> + '_ {
        self.entries.iter().map(|(id, e)| info(*id, e))
    }
}

/// Of a producer nothing is known of: -1 is no epoch, and what is below it is fenced.
fn known_epoch(producer: ProducerId, got: ProducerEpoch) -> Result<(), ProducerError> {
    let current = ProducerEpoch::NONE;
    if got < current { Err(ProducerError::InvalidProducerEpoch { producer, got, current }) } else { Ok(()) }
}

fn info(id: ProducerId, e: &Entry) -> ProducerInfo {
    ProducerInfo {
        id,
        epoch: e.epoch,
        last_sequence: e.last_sequence(),
        last_offset: e.batches().last().map(|b| Offset(b.last_offset)),
        last_timestamp: e.last_timestamp,
        coordinator_epoch: e.coordinator_epoch,
        txn_first_offset: Offset(e.txn_first_offset).known(),
    }
}

#[cfg(test)]
mod tests;
