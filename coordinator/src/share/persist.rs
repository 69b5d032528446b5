//! States as records, in Kafka's schemas.

use bytes::Bytes;
use corelane_protocol::record_frame::{CoordinatorKey, decode_versioned, encode_versioned};
use corelane_protocol::records::share::{
    ShareRecordKey, ShareSnapshotKey, ShareSnapshotValue, ShareSnapshotValueStateBatch, ShareUpdateKey,
    ShareUpdateValue, ShareUpdateValueStateBatch,
};
use corelane_protocol::{DecodeError, EncodeError};

use super::batches::StateBatch;
use super::key::SharePartitionKey;
use super::state::{StateRecord, Stored, Update};
use crate::CoordinatorRecord;

const VALUE_VERSION: i16 = 0;

pub(super) fn encode(key: &SharePartitionKey, record: &StateRecord) -> Result<CoordinatorRecord, EncodeError> {
    let SharePartitionKey { group, topic, partition } = key.clone();
    let snapshot_key = || ShareSnapshotKey { group_id: group.clone(), topic_id: topic, partition }.to_key_bytes();
    let (key, value) = match record {
        StateRecord::Tombstone => (snapshot_key()?, None),
        StateRecord::Snapshot(stored) => (snapshot_key()?, Some(encode_versioned(&snapshot(stored), VALUE_VERSION)?)),
        StateRecord::Update(changes) => {
            let key = ShareUpdateKey { group_id: group.clone(), topic_id: topic, partition }.to_key_bytes()?;
            (key, Some(encode_versioned(&update(changes), VALUE_VERSION)?))
        }
    };
    Ok(CoordinatorRecord { key, value })
}

/// `None` for an update without a value, which says nothing.
pub(super) fn decode(
    key: ShareRecordKey,
    value: Option<Bytes>,
) -> Result<Option<(SharePartitionKey, StateRecord)>, DecodeError> {
    match key {
        ShareRecordKey::ShareSnapshot(key) => {
            let record = match value {
                Some(value) => StateRecord::Snapshot(stored(decode_versioned(value)?.0)),
                None => StateRecord::Tombstone,
            };
            let ShareSnapshotKey { group_id, topic_id, partition } = key;
            Ok(Some((SharePartitionKey { group: group_id.detach(), topic: topic_id, partition }, record)))
        }
        ShareRecordKey::ShareUpdate(key) => {
            let Some(value) = value else { return Ok(None) };
            let record = StateRecord::Update(changes(decode_versioned(value)?.0));
            let ShareUpdateKey { group_id, topic_id, partition } = key;
            Ok(Some((SharePartitionKey { group: group_id.detach(), topic: topic_id, partition }, record)))
        }
    }
}

fn snapshot(stored: &Stored) -> ShareSnapshotValue {
    let batch = |batch: &StateBatch| ShareSnapshotValueStateBatch {
        first_offset: batch.first,
        last_offset: batch.last,
        delivery_state: batch.delivery_state,
        delivery_count: batch.delivery_count,
        ..Default::default()
    };
    ShareSnapshotValue {
        snapshot_epoch: stored.snapshot_epoch,
        state_epoch: stored.state_epoch,
        leader_epoch: stored.leader_epoch,
        start_offset: stored.start_offset,
        delivery_complete_count: stored.delivery_complete_count,
        create_timestamp: stored.created_ms,
        write_timestamp: stored.written_ms,
        state_batches: stored.batches.iter().map(batch).collect(),
        ..Default::default()
    }
}

fn stored(value: ShareSnapshotValue) -> Stored {
    let batch = |batch: &ShareSnapshotValueStateBatch| StateBatch {
        first: batch.first_offset,
        last: batch.last_offset,
        delivery_count: batch.delivery_count,
        delivery_state: batch.delivery_state,
    };
    Stored {
        snapshot_epoch: value.snapshot_epoch,
        state_epoch: value.state_epoch,
        leader_epoch: value.leader_epoch,
        start_offset: value.start_offset,
        delivery_complete_count: value.delivery_complete_count,
        batches: value.state_batches.iter().map(batch).collect(),
        created_ms: value.create_timestamp,
        written_ms: value.write_timestamp,
    }
}

fn update(update: &Update) -> ShareUpdateValue {
    let batch = |batch: &StateBatch| ShareUpdateValueStateBatch {
        first_offset: batch.first,
        last_offset: batch.last,
        delivery_state: batch.delivery_state,
        delivery_count: batch.delivery_count,
        ..Default::default()
    };
    ShareUpdateValue {
        snapshot_epoch: update.snapshot_epoch,
        leader_epoch: update.leader_epoch,
        start_offset: update.start_offset,
        delivery_complete_count: update.delivery_complete_count,
        state_batches: update.batches.iter().map(batch).collect(),
        ..Default::default()
    }
}

fn changes(value: ShareUpdateValue) -> Update {
    let batch = |batch: &ShareUpdateValueStateBatch| StateBatch {
        first: batch.first_offset,
        last: batch.last_offset,
        delivery_count: batch.delivery_count,
        delivery_state: batch.delivery_state,
    };
    Update {
        snapshot_epoch: value.snapshot_epoch,
        leader_epoch: value.leader_epoch,
        start_offset: value.start_offset,
        delivery_complete_count: value.delivery_complete_count,
        batches: value.state_batches.iter().map(batch).collect(),
    }
}
