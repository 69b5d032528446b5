use bytes::Bytes;
use corelane_coordinator::group::Replayed;
use corelane_coordinator::txn::{TxnConfig, TxnCoordinator};
use corelane_protocol::record_frame::{CoordinatorKey, decode_versioned, encode_versioned};
use corelane_protocol::records::transaction::*;
use corelane_protocol::{Decoder, Message, Str};

use crate::harness::*;

#[test]
fn records_are_in_kafkas_schemas_and_versions() {
    let mut harness = Harness::default();
    let current = harness.init("a").unwrap();
    harness.add("a", current, &[("t", 1), ("t", 0)], V2).unwrap();
    harness.end("a", current, COMMIT, V2).unwrap();
    let values: Vec<TransactionLogValue> = harness
        .log
        .iter()
        .map(|record| {
            let mut key = Decoder::new(record.key.clone());
            assert_eq!(key.i16().unwrap(), TransactionLogKey::RECORD_TYPE);
            assert_eq!(TransactionLogKey::decode(&mut key, 0).unwrap().transactional_id, "a");
            let (value, version) = decode_versioned(record.value.clone().unwrap()).unwrap();
            assert_eq!(version, 1);
            value
        })
        .collect();
    let statuses: Vec<i8> = values.iter().map(|value| value.transaction_status).collect();
    assert_eq!(statuses, [0, 1, 2, 4], "Empty, Ongoing, PrepareCommit, CompleteCommit");
    let epochs: Vec<i16> = values.iter().map(|value| value.producer_epoch).collect();
    assert_eq!(epochs, [0, 0, 1, 1]);
    assert_eq!(values[0].transaction_partitions, None);
    let ongoing = values[1].transaction_partitions.as_ref().unwrap();
    assert_eq!((ongoing[0].topic.as_str(), &ongoing[0].partition_ids[..]), ("t", &[0, 1][..]));
    assert_eq!(values[3].transaction_partitions, Some(Vec::new()));
    assert_eq!((values[2].client_transaction_version, values[2].previous_producer_id), (2, current.id));
    assert_eq!(values[2].transaction_start_timestamp_ms, harness.now.wall_ms);
    assert_eq!(values[0].transaction_start_timestamp_ms, -1);
}

#[test]
fn records_of_older_kafka_are_understood() {
    let mut harness = Harness { hold_markers: true, ..Harness::default() };
    let value = TransactionLogValue {
        producer_id: 7,
        producer_epoch: 3,
        transaction_timeout_ms: TIMEOUT_MS,
        transaction_status: 2,
        transaction_partitions: Some(vec![TransactionLogValuePartitionsSchema {
            topic: Str::from("t"),
            partition_ids: vec![4],
            ..Default::default()
        }]),
        ..Default::default()
    };
    let key = TransactionLogKey { transactional_id: Str::from("a") }.to_key_bytes().unwrap();
    let value = encode_versioned(&value, 0).unwrap();
    harness.log.push(corelane_coordinator::CoordinatorRecord { key, value: Some(value) });
    harness.crash_after(1);
    let marker = harness.sent.last().unwrap();
    assert_eq!((marker.producer, marker.commit, marker.version), (producer(7, 3), true, 0));
    assert_eq!(marker.partitions, partitions(&[("t", 4)]));
}

#[test]
fn what_is_no_record_of_ours_is_skipped_or_an_error_and_never_a_panic() {
    let mut machine = TxnCoordinator::new(TxnConfig::default());
    assert_eq!(machine.replay(Bytes::from_static(&[0, 9, 1]), None), Ok(Replayed::Skipped(9)));
    assert!(machine.replay(Bytes::from_static(&[0]), None).is_err());
    let key = TransactionLogKey { transactional_id: Str::from("a") }.to_key_bytes().unwrap();
    assert!(machine.replay(key.clone(), Some(Bytes::from_static(&[0, 1, 3, 3]))).is_err());
    assert!(machine.replay(key, Some(Bytes::from_static(&[0, 77, 3, 3]))).is_err());
}
