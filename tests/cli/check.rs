//! `corelane check`, and what a broker does with a data directory that is damaged.

use corelane_tests::batch::{ProducerIdentity, build, now_ms, read};
use corelane_tests::broker::{Broker, BrokerOptions, is_corelane};
use corelane_tests::command::corelane;
use corelane_tests::connection::to_leader;
use corelane_tests::librdkafka::{LIMIT, admin, admin_options, block_on, create_topic, unique};
use corelane_tests::wait;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Kafka's KAFKA_STORAGE_ERROR.
const STORAGE_ERROR: i16 = 56;

fn produce(broker: &Broker, topic: &str, value: &[u8]) -> i16 {
    let mut connection = wait::until("the leader", LIMIT, || to_leader(broker.bootstrap(), topic, 0).ok());
    let batch = build(ProducerIdentity::NONE, now_ms(), [(None, Some(value))]);
    connection.produce(topic, 0, batch).expect("produce").error_code
}

fn records(broker: &Broker, topic: &str) -> usize {
    let mut connection = wait::until("the leader", LIMIT, || to_leader(broker.bootstrap(), topic, 0).ok());
    let data = connection.fetch(topic, 0, 0).expect("fetch");
    assert_eq!(data.error_code, 0);
    read(&data.records.expect("records").into_bytes()).len()
}

fn partition(broker: &Broker, topic: &str) -> PathBuf {
    let entries = fs::read_dir(broker.data_dir().join("data")).expect("data");
    let mut dirs = entries.map(|e| e.expect("an entry").path());
    dirs.find(|dir| dir.to_string_lossy().contains(&format!("/{topic}-0."))).expect("the partition's directory")
}

#[test]
fn healthy_directories_are_sound_and_damage_is_found_by_its_place() {
    if !is_corelane() {
        return;
    }
    let mut broker = Broker::start(BrokerOptions::default());
    let topic = unique("checked");
    create_topic(&broker, &topic, 1, &[]);
    (0..50).for_each(|_| assert_eq!(produce(&broker, &topic, &[7; 2000]), 0));
    let data_dir = broker.data_dir().to_str().expect("a path").to_owned();
    corelane("", &["check", &data_dir]).fails(6, &["in use"]);
    broker.kill();
    let report = corelane("", &["check", "--json", "--quiet", &data_dir]);
    assert_eq!(report.code, Some(0), "after a kill\n{}\n{}", report.stdout, report.stderr);
    let report = report.json();
    assert!(report["journal_records"].as_u64() > Some(40), "{report}");
    broker.resume();
    assert!(broker.stop().is_some_and(|s| s.success()));
    let report = corelane("", &["check", "--json", "--quiet", &data_dir]);
    assert_eq!(report.code, Some(0), "after a stop\n{}\n{}", report.stdout, report.stderr);
    let report = report.json();
    assert!(report["batches"].as_u64() > Some(50), "{report}");
    corelane("", &["check", "/nowhere/at/all"]).fails(4, &["/nowhere/at/all"]);
    let segment = partition(&broker, &topic).join("00000000000000000000.log");
    let sound = fs::read(&segment).expect("the segment");
    let mut bytes = sound.clone();
    bytes[50_000] ^= 1;
    fs::write(&segment, &bytes).expect("the segment");
    let out = corelane("", &["check", &data_dir]);
    assert_eq!(out.code, Some(7), "{}", out.stdout);
    let line = out.stdout.lines().find(|l| l.contains("DAMAGED")).expect("a finding");
    assert!(line.contains(segment.to_str().expect("a path")) && line.contains(" position "), "{line}");
    fs::write(&segment, &sound).expect("the segment");
    fs::remove_dir_all(partition(&broker, &topic)).expect("the directory");
    corelane("", &["check", &data_dir]).fails(7, &["damage"]);
}

#[test]
fn partition_that_vanished_is_offline_until_its_topic_is_deleted() {
    if !is_corelane() {
        return;
    }
    // One shard, to which every partition belongs: no client asks for one that has no leader.
    let mut broker = Broker::start(BrokerOptions { cores: "0".into(), ..BrokerOptions::default() });
    let (lost, kept) = (unique("lost"), unique("kept"));
    for topic in [&lost, &kept] {
        create_topic(&broker, topic, 1, &[]);
        assert_eq!(produce(&broker, topic, b"value"), 0);
    }
    assert!(broker.stop().is_some_and(|s| s.success()));
    fs::remove_dir_all(partition(&broker, &lost)).expect("the directory");
    for _ in 0..2 {
        broker.resume();
        let mut connection = wait::until("the leader", LIMIT, || to_leader(broker.bootstrap(), &kept, 0).ok());
        let batch = build(ProducerIdentity::NONE, now_ms(), [(None, Some(&b"value"[..]))]);
        assert_eq!(connection.produce(&lost, 0, batch).expect("produce").error_code, STORAGE_ERROR);
        assert_eq!(connection.fetch(&lost, 0, 0).expect("fetch").error_code, STORAGE_ERROR);
        assert_eq!(records(&broker, &kept), 1);
        broker.log_with(&["directory is gone"]);
        broker.kill();
    }
    broker.resume();
    assert_eq!(
        block_on(admin(&broker).delete_topics(&[&lost], &admin_options())).expect("deleted"),
        [Ok(lost.clone())]
    );
    create_topic(&broker, &lost, 1, &[]);
    assert_eq!(produce(&broker, &lost, b"again"), 0);
    assert_eq!(records(&broker, &lost), 1);
    // All of it, and the journal: the start says so, and does not begin anew.
    assert!(broker.stop().is_some_and(|s| s.success()));
    let data = broker.data_dir().join("data");
    let away = broker.folder().join("away");
    fs::rename(&data, &away).expect("moved");
    broker.spawn();
    assert_eq!(broker.wait_exit(LIMIT).and_then(|s| s.code()), Some(7), "{}", broker.log_tail());
    fs::remove_dir_all(&data).ok();
    fs::rename(&away, &data).expect("moved back");
    broker.resume();
    broker.kill();
    let journal = broker.data_dir().join("journal");
    fs::rename(&journal, &away).expect("moved");
    broker.spawn();
    assert_eq!(broker.wait_exit(LIMIT).and_then(|s| s.code()), Some(7), "{}", broker.log_tail());
    assert!(broker.log().contains("journal/0"), "{}", broker.log_tail());
    fs::remove_dir_all(&journal).ok();
    fs::rename(&away, &journal).expect("moved back");
    broker.resume();
    assert_eq!(records(&broker, &lost), 1);
    broker.kill();
}

#[test]
fn where_one_cores_journal_is_lost_no_other_core_goes_on() {
    if !is_corelane() {
        return;
    }
    let mut broker = Broker::start(BrokerOptions { cores: "0,1".into(), ..BrokerOptions::default() });
    let topic = unique("journal-of-one");
    create_topic(&broker, &topic, 1, &[]);
    assert_eq!(produce(&broker, &topic, b"kept"), 0);
    broker.kill();
    let (journals, ledgers) = (broker.data_dir().join("journal"), broker.data_dir().join("ledger"));
    let (own, away) = (journals.join("1"), broker.folder().join("away"));
    let left = || (listing(&journals.join("0")), fs::read(ledgers.join("0")).expect("a ledger"));
    let before = left();
    fs::rename(&own, &away).expect("moved");
    broker.spawn();
    assert_eq!(broker.wait_exit(LIMIT).and_then(|s| s.code()), Some(7), "{}", broker.log_tail());
    assert!(broker.log().contains("journal/1"), "{}", broker.log_tail());
    assert!(left() == before, "the other core's journal was touched");
    fs::remove_dir_all(&own).ok();
    fs::rename(&away, &own).expect("moved back");
    broker.resume();
    assert_eq!(records(&broker, &topic), 1);
    broker.kill();
}

/// The files of a folder: when each was last written.
fn listing(folder: &Path) -> BTreeMap<OsString, SystemTime> {
    let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry"));
    entries.map(|entry| (entry.file_name(), entry.metadata().and_then(|m| m.modified()).expect("a file"))).collect()
}
