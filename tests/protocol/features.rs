//! Levels of features: what the cluster has agreed on is shown, obeyed, and still there after a restart.

use corelane_protocol::messages::{
    ApiVersionsRequest, FindCoordinatorRequest, InitProducerIdRequest, UpdateFeaturesRequest,
    UpdateFeaturesRequestFeatureUpdateKey,
};
use corelane_tests::broker::{Broker, BrokerOptions, controllable};
use corelane_tests::connection::Connection;
use corelane_tests::wait;
use std::time::Duration;

const SAFE_DOWNGRADE: i8 = 2;
/// A coordinator of transactions.
const TRANSACTION: i8 = 1;

fn open(broker: &Broker) -> Connection {
    Connection::open(broker.bootstrap()).expect("a connection")
}

fn set(broker: &Broker, level: i16) {
    let update = UpdateFeaturesRequestFeatureUpdateKey {
        feature: "transaction.version".into(),
        max_version_level: level,
        upgrade_type: SAFE_DOWNGRADE,
        ..Default::default()
    };
    let request = UpdateFeaturesRequest { feature_updates: vec![update], ..Default::default() };
    assert_eq!(open(broker).call(2, &request).error_code, 0);
}

/// The level that clients are told, and how late an answer it is.
fn shown(broker: &Broker) -> (Option<i16>, i64) {
    let request = ApiVersionsRequest {
        client_software_name: "test".into(),
        client_software_version: "1".into(),
        ..Default::default()
    };
    let answer = open(broker).call(4, &request);
    let level = answer.finalized_features.iter().find(|f| f.name == "transaction.version").map(|f| f.max_version_level);
    (level, answer.finalized_features_epoch)
}

/// Version of the record in which a new transactional id is stored, which gets that offset.
fn stored_version(broker: &Broker, id: &str, offset: i64) -> i16 {
    let request = InitProducerIdRequest {
        transactional_id: Some(id.to_owned().into()),
        transaction_timeout_ms: 1000,
        ..Default::default()
    };
    let find = FindCoordinatorRequest {
        key_type: TRANSACTION,
        coordinator_keys: vec![id.to_owned().into()],
        ..Default::default()
    };
    wait::until("the coordinator", Duration::from_secs(30), || {
        open(broker).call(4, &find);
        (open(broker).call(4, &request).error_code == 0).then_some(())
    });
    let mut connection = open(broker);
    let fetched = connection.fetch("__transaction_state", 0, offset).expect("a fetch");
    let records = fetched.records.expect("records").into_bytes();
    // the key of the last record is its id, and its value begins with the version it has
    let key = records
        .windows(id.len())
        .rposition(|bytes| bytes == id.as_bytes())
        .unwrap_or_else(|| panic!("{id} in {records:?}"));
    let value = &records[key + id.len()..];
    // one byte or two of the value's length
    let start = if value[0] < 0x80 { 1 } else { 2 };
    i16::from_be_bytes([value[start], value[start + 1]])
}

#[test]
fn the_level_of_transactions_is_obeyed_and_survives() {
    if !controllable() {
        return;
    }
    let options = BrokerOptions { advertise: "node".into(), ..Default::default() };
    let mut broker = Broker::start(options.set("transaction.state.log.num.partitions", 1));
    let (level, first) = shown(&broker);
    assert_eq!(level, Some(2));
    assert_eq!(stored_version(&broker, "at-level-2", 0), 1);
    set(&broker, 1);
    let (level, second) = shown(&broker);
    assert_eq!(level, Some(1));
    assert!(second > first, "clients go by the answer with the later epoch");
    set(&broker, 0);
    assert_eq!(shown(&broker).0, None);
    assert_eq!(stored_version(&broker, "at-level-0", 1), 0);
    let (_, before) = shown(&broker);
    broker.kill();
    broker.resume();
    let (level, after) = shown(&broker);
    assert_eq!(level, None);
    assert!(after >= before);
    assert_eq!(stored_version(&broker, "at-level-0-again", 2), 0);
}
