//! Transactional ids as records, in Kafka's schemas.

use bytes::Bytes;
use corelane_protocol::record_frame::{CoordinatorKey, decode_versioned, encode_versioned};
use corelane_protocol::records::transaction::{
    TransactionLogKey, TransactionLogValue, TransactionLogValuePartitionsSchema,
};
use corelane_protocol::{DecodeError, EncodeError, Str};

use super::coordinator::TxnCoordinator;
use super::partitions::{Partitions, TxnVersion};
use super::state::TxnState;
use super::transaction::{Producer, Stored};
use crate::CoordinatorRecord;

/// What is stored of an id where transactions are at `version`, or its tombstone.
pub(super) fn record(
    transactional_id: &Str,
    stored: Option<&Stored>,
    version: TxnVersion,
) -> Result<CoordinatorRecord, EncodeError> {
    let key = TransactionLogKey { transactional_id: transactional_id.clone() }.to_key_bytes()?;
    let value =
        stored.map(|stored| encode_versioned(&stored.to_value(version), version.value_version())).transpose()?;
    Ok(CoordinatorRecord { key, value })
}

impl TxnCoordinator {
    /// The state that a record stores: its name, for people.
    pub fn state_of(record: &CoordinatorRecord) -> &'static str {
        match record.value.clone().map(Stored::from_value) {
            None => "removed",
            Some(Ok(Some(stored))) => stored.state.name(),
            Some(_) => "unknown",
        }
    }
}

impl Stored {
    fn to_value(&self, version: TxnVersion) -> TransactionLogValue {
        let whole = version.value_version() >= 1;
        let partitions = self.partitions.topics().map(|(topic, partitions)| TransactionLogValuePartitionsSchema {
            topic: topic.clone(),
            partition_ids: partitions.iter().copied().collect(),
            ..Default::default()
        });
        TransactionLogValue {
            producer_id: self.producer.id,
            previous_producer_id: if whole { self.previous_id } else { -1 },
            next_producer_id: if whole { self.next_id } else { -1 },
            producer_epoch: self.producer.epoch,
            transaction_timeout_ms: self.timeout_ms,
            transaction_status: self.state.id(),
            // Kafka has no list at all where no transaction has begun.
            transaction_partitions: (self.state != TxnState::Empty).then(|| partitions.collect()),
            transaction_last_update_timestamp_ms: self.updated_ms,
            transaction_start_timestamp_ms: self.started_ms,
            client_transaction_version: if whole { self.version.level() } else { 0 },
            ..Default::default()
        }
    }

    /// A stored value; `None` for a state that no record should hold.
    pub(super) fn from_value(value: Bytes) -> Result<Option<Stored>, DecodeError> {
        let (value, _) = decode_versioned::<TransactionLogValue>(value)?;
        let Some(state) = TxnState::from_id(value.transaction_status) else { return Ok(None) };
        let mut partitions = Partitions::default();
        for topic in value.transaction_partitions.iter().flatten() {
            topic.partition_ids.iter().for_each(|partition| partitions.insert(&topic.topic, *partition));
        }
        Ok(Some(Stored {
            producer: Producer { id: value.producer_id, epoch: value.producer_epoch },
            previous_id: value.previous_producer_id,
            next_id: value.next_producer_id,
            last_epoch: -1,
            timeout_ms: value.transaction_timeout_ms,
            state,
            partitions,
            started_ms: value.transaction_start_timestamp_ms,
            updated_ms: value.transaction_last_update_timestamp_ms,
            version: TxnVersion::from_level(value.client_transaction_version),
        }))
    }
}
