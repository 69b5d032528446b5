//! What a partition remembers of its idempotent producers (Kafka's `ProducerStateManager`, `ProducerStateEntry`,
//! `ProducerAppendInfo`): enough to recognise the last five batches of each, and to refuse gaps and fenced producers.
//!
//! The order of appends is fixed when they are enqueued, long before they are durable. So `check` and `update` are two steps
//! of one synchronous piece of code: check the batch, give it its offsets, `update`, enqueue. A table that got ahead of
//! a log that lost its tail is rebuilt from the last snapshot and the batch headers after it.
#![deny(clippy::unwrap_used, clippy::indexing_slicing)]

mod snapshot;

use crate::map::HashMap;
use crate::model::{Offset, ProducerEpoch, ProducerId, Sequence};
use crate::record::BatchHeader;

/// Batches remembered of each producer: clients keep at most as many in flight.
pub const BATCHES_KEPT: usize = 5;

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
}

impl ProducerError {
    /// The number in Kafka's `Errors`.
    pub fn kafka_code(&self) -> i16 {
        match self {
            ProducerError::OutOfOrderSequence { .. } => 45,
            ProducerError::InvalidProducerEpoch { .. } => 47,
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

#[derive(Clone, Debug)]
struct Entry {
    /// The max timestamp of the last batch, by which the entry expires, ms.
    last_timestamp: i64,
    /// First offset of the open transaction; -1 while transactions do not write here.
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
            coordinator_epoch: -1,
            epoch,
            kept: 0,
            batches: [KeptBatch::default(); BATCHES_KEPT],
        }
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
}

impl ProducerTable {
    pub fn new() -> ProducerTable {
        ProducerTable::default()
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Says whether a client's validated batch may be appended now. Batches without a producer are always fresh, and so is
    /// the first of a producer nothing is known of, whatever its sequence.
    pub fn check(&self, header: &BatchHeader) -> Result<Checked, ProducerError> {
        if !header.has_producer() {
            return Ok(Checked::Fresh);
        }
        let Some(entry) = self.entries.get(&header.producer_id) else { return Ok(Checked::Fresh) };
        let (producer, epoch, first) = (header.producer_id, header.producer_epoch, header.base_sequence);
        if epoch == entry.epoch {
            let same =
                |b: &&KeptBatch| b.first_sequence() == first && Sequence(b.last_sequence) == header.last_sequence();
            if let Some(found) = entry.batches().iter().find(same) {
                let last = Offset(found.last_offset);
                let base = last + -i64::from(found.delta);
                return Ok(Checked::Duplicate { base, last, timestamp: found.timestamp });
            }
        }
        if epoch < entry.epoch {
            return Err(ProducerError::InvalidProducerEpoch { producer, got: epoch, current: entry.epoch });
        }
        let last = if epoch == entry.epoch { entry.last_sequence() } else { Sequence::NONE };
        // After NONE (-1) comes 0: a new epoch, or one known only from a transaction marker, starts there.
        if first == last.next() {
            Ok(Checked::Fresh)
        } else {
            Err(ProducerError::OutOfOrderSequence { producer, epoch, got: first, last })
        }
    }

    /// As [`check`](Self::check), with the batches counted in that are on their way into the log: `ahead`, in their order,
    /// each with its base offset.
    pub fn check_behind<'a>(
        &self,
        header: &BatchHeader,
        ahead: impl Iterator<Item = (&'a BatchHeader, Offset)>,
    ) -> Result<Checked, ProducerError> {
        let mut ahead = ahead.filter(|(batch, _)| batch.producer_id == header.producer_id).peekable();
        if !header.has_producer() || ahead.peek().is_none() {
            return self.check(header);
        }
        let entry = self.entries.get(&header.producer_id).map(|entry| (header.producer_id, entry.clone()));
        let mut own = ProducerTable { entries: entry.into_iter().collect() };
        ahead.for_each(|(batch, base_offset)| own.update(batch, base_offset));
        own.check(header)
    }

    /// Takes note of a batch that is being appended at `base_offset`, or that is read back from the log. Checks nothing.
    pub fn update(&mut self, header: &BatchHeader, base_offset: Offset) {
        if !header.has_producer() || header.is_internal() {
            return;
        }
        let epoch = header.producer_epoch;
        let entry = self.entries.entry(header.producer_id).or_insert_with(|| Entry::new(epoch));
        if entry.epoch != epoch {
            entry.epoch = epoch;
            entry.kept = 0;
        }
        entry.last_timestamp = header.max_timestamp;
        // A transaction marker has no sequence: it only moves the epoch. Compaction keeps a producer's last batch, empty.
        if let (false, Ok(delta)) = (header.is_control(), u32::try_from(header.last_offset_delta)) {
            entry.push(KeptBatch {
                last_offset: (base_offset + i64::from(delta)).0,
                timestamp: header.max_timestamp,
                last_sequence: header.last_sequence().0,
                delta,
            });
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
