//! The producer table as bytes, for the snapshot beside each segment. Version 0 had no transactions behind the producers.

use super::{AbortedTransaction, BATCHES_KEPT, Entry, KeptBatch, ProducerTable, Transactions};
use crate::map::HashMap;
use crate::model::{Offset, ProducerEpoch, ProducerId};
use crate::sealed::{self, FRAME_BYTES, SealError};

const PRODUCERS: [u8; 4] = *b"CLPT";
const VERSION: u16 = 1;
const ENTRY_BYTES: usize = 8 + 2 + 4 + 8 + 8 + 1;
const BATCH_BYTES: usize = 4 + 4 + 8 + 8;
/// A producer's encoded size at most.
const PRODUCER_BYTES: usize = ENTRY_BYTES + BATCHES_KEPT * BATCH_BYTES;
const ABORTED_BYTES: usize = 4 * 8;
const DECIDED_BYTES: usize = 2 * 8;

impl Entry {
    /// The entry as it was before the batches that reach `end`.
    fn before(&self, end: Offset) -> Option<Entry> {
        let mut entry = self.clone();
        let logged = self.batches().partition_point(|batch| batch.last_offset < end.0);
        if logged < self.batches().len() {
            let last = self.batches().get(logged.checked_sub(1)?)?;
            entry.last_timestamp = last.timestamp;
            entry.kept = logged as u8;
        }
        if entry.txn_first_offset >= end.0 {
            entry.txn_first_offset = -1;
        }
        Some(entry)
    }
}

impl ProducerTable {
    /// Encoded size at most.
    pub fn encoded_bytes(&self) -> usize {
        let Transactions { aborted, decided, .. } = &self.transactions;
        self.entries.len() * PRODUCER_BYTES + aborted.len() * ABORTED_BYTES + decided.len() * DECIDED_BYTES
    }

    /// Appends the table to `out`, sorted by producer id. Big-endian, framed with magic, version and CRC; each entry is
    /// id `i64`, epoch `i16`, coordinator epoch `i32`, last timestamp `i64`, first offset of the open transaction `i64`
    /// (-1: none), then a count `u8` of batches: last sequence `i32`, delta `u32`, last offset `i64`, timestamp `i64`. Then come
    /// the aborted transactions that no index file has and those with markers that were not applied: a count `u32`, and of each
    /// producer id, first offset, last offset and last stable offset, or first and last offset; all `i64`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        self.encode_before(Offset::MAX, out);
    }

    /// As `encode`, without the batches that reach `end`: they were checked and are not in the log yet, and must not be taken
    /// for duplicates after a crash that loses them. A producer of which nothing is left is left out.
    pub fn encode_before(&self, end: Offset, out: &mut Vec<u8>) {
        let mut entries: Vec<(&ProducerId, Entry)> =
            self.entries.iter().filter_map(|(id, e)| Some((id, e.before(end)?))).collect();
        entries.sort_unstable_by_key(|(id, _)| **id);
        let mut payload = Vec::with_capacity(12 + self.encoded_bytes());
        payload.extend_from_slice(&(entries.len() as u32).to_be_bytes());
        for (id, entry) in entries {
            payload.extend_from_slice(&id.0.to_be_bytes());
            payload.extend_from_slice(&entry.epoch.0.to_be_bytes());
            payload.extend_from_slice(&entry.coordinator_epoch.to_be_bytes());
            payload.extend_from_slice(&entry.last_timestamp.to_be_bytes());
            payload.extend_from_slice(&entry.txn_first_offset.to_be_bytes());
            payload.push(entry.kept);
            for batch in entry.batches() {
                payload.extend_from_slice(&batch.last_sequence.to_be_bytes());
                payload.extend_from_slice(&batch.delta.to_be_bytes());
                payload.extend_from_slice(&batch.last_offset.to_be_bytes());
                payload.extend_from_slice(&batch.timestamp.to_be_bytes());
            }
        }
        let aborted: Vec<_> = self.transactions.aborted.iter().filter(|a| a.last_offset < end).collect();
        payload.extend_from_slice(&(aborted.len() as u32).to_be_bytes());
        for AbortedTransaction { producer, first_offset, last_offset, last_stable_offset } in aborted {
            for field in [producer.0, first_offset.0, last_offset.0, last_stable_offset.0] {
                payload.extend_from_slice(&field.to_be_bytes());
            }
        }
        let decided: Vec<_> = self.transactions.decided.iter().filter(|(_, marker)| *marker < end).collect();
        payload.extend_from_slice(&(decided.len() as u32).to_be_bytes());
        for (first, marker) in decided {
            payload.extend_from_slice(&first.0.to_be_bytes());
            payload.extend_from_slice(&marker.0.to_be_bytes());
        }
        sealed::seal(PRODUCERS, VERSION, &payload, out);
    }

    /// Where in the bytes of a table its entry of a producer begins.
    pub(crate) fn position_of(id: ProducerId, mut bytes: &[u8]) -> Option<u64> {
        let (_, mut fields) = sealed::open(PRODUCERS, VERSION, &mut bytes).ok()?;
        let count = u32::from_be_bytes(fields.array().ok()?);
        let mut position = FRAME_BYTES + size_of_val(&count);
        for _ in 0..count {
            let entry = fields.bytes(ENTRY_BYTES).ok()?;
            if entry.starts_with(&id.0.to_be_bytes()) {
                return Some(position as u64);
            }
            let batches = usize::from(*entry.last()?) * BATCH_BYTES;
            fields.bytes(batches).ok()?;
            position += ENTRY_BYTES + batches;
        }
        None
    }

    /// Takes a table off the front of `bytes`.
    pub fn decode(bytes: &mut &[u8]) -> Result<ProducerTable, SealError> {
        let (version, mut fields) = sealed::open(PRODUCERS, VERSION, bytes)?;
        let count = u32::from_be_bytes(fields.array()?) as usize;
        if count > fields.room_for(ENTRY_BYTES) {
            return Err(SealError::Contents);
        }
        let mut entries = HashMap::with_capacity_and_hasher(count, Default::default());
        for _ in 0..count {
            let id = ProducerId(i64::from_be_bytes(fields.array()?));
            let mut entry = Entry::new(ProducerEpoch(i16::from_be_bytes(fields.array()?)));
            entry.coordinator_epoch = i32::from_be_bytes(fields.array()?);
            entry.last_timestamp = i64::from_be_bytes(fields.array()?);
            entry.txn_first_offset = i64::from_be_bytes(fields.array()?);
            let [kept] = fields.array::<1>()?;
            if usize::from(kept) > BATCHES_KEPT {
                return Err(SealError::Contents);
            }
            for _ in 0..kept {
                entry.push(KeptBatch {
                    last_sequence: i32::from_be_bytes(fields.array()?),
                    delta: u32::from_be_bytes(fields.array()?),
                    last_offset: i64::from_be_bytes(fields.array()?),
                    timestamp: i64::from_be_bytes(fields.array()?),
                });
            }
            if entries.insert(id, entry).is_some() {
                return Err(SealError::Contents);
            }
        }
        let mut transactions = Transactions::default();
        transactions.reopen(&entries);
        if version >= 1 {
            let fields = &mut fields;
            let count = u32::from_be_bytes(fields.array()?) as usize;
            if count > fields.room_for(ABORTED_BYTES) {
                return Err(SealError::Contents);
            }
            for _ in 0..count {
                transactions.aborted.push(AbortedTransaction {
                    producer: ProducerId(i64::from_be_bytes(fields.array()?)),
                    first_offset: Offset(i64::from_be_bytes(fields.array()?)),
                    last_offset: Offset(i64::from_be_bytes(fields.array()?)),
                    last_stable_offset: Offset(i64::from_be_bytes(fields.array()?)),
                });
            }
            for _ in 0..u32::from_be_bytes(fields.array()?) {
                let first = Offset(i64::from_be_bytes(fields.array()?));
                transactions.decided.push_back((first, Offset(i64::from_be_bytes(fields.array()?))));
            }
        }
        fields.end()?;
        Ok(ProducerTable { entries, transactions })
    }
}
