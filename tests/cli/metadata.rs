//! Snapshots of the metadata log: what they hold outlives every kind of end, and the log before them goes.

use corelane_protocol::Str;
use corelane_protocol::messages::{
    CreateTopicsRequest, CreateTopicsRequestCreatableTopic, CreateTopicsRequestCreatableTopicConfig,
    DeleteTopicsRequest, DescribeConfigsRequest, DescribeConfigsRequestDescribeConfigsResource, MetadataRequest,
};
use corelane_tests::broker::{Broker, BrokerOptions, is_corelane};
use corelane_tests::command::corelane;
use corelane_tests::connection::Connection;
use corelane_tests::librdkafka::LIMIT;
use std::fs;
use std::ops::Range;
use std::path::PathBuf;

/// Bytes of log between two snapshots.
const SNAPSHOT_AFTER: u64 = 16_384;

fn start() -> Broker {
    let options = BrokerOptions { advertise: "node".into(), ..Default::default() };
    Broker::start(options.set("metadata.log.max.record.bytes.between.snapshots", SNAPSHOT_AFTER))
}

fn open(broker: &Broker) -> Connection {
    Connection::open(broker.bootstrap()).expect("a connection")
}

/// Creates topics `from..to` and deletes all but each tenth, one request for each.
fn churn(connection: &mut Connection, from: usize, to: usize) {
    for i in from..to {
        let name = Str::from(format!("topic-{i:04}"));
        let config = CreateTopicsRequestCreatableTopicConfig {
            name: "retention.ms".into(),
            value: Some(Str::from((1000 + i).to_string())),
            ..Default::default()
        };
        let topic = CreateTopicsRequestCreatableTopic {
            name: name.clone(),
            num_partitions: 1 + (i % 3) as i32,
            replication_factor: 1,
            configs: vec![config],
            ..Default::default()
        };
        let created = connection.call(5, &CreateTopicsRequest { topics: vec![topic], ..Default::default() });
        assert_eq!(created.topics[0].error_code, 0, "{name}");
        if i % 10 != 0 {
            let gone =
                DeleteTopicsRequest { topic_names: vec![name.clone()], timeout_ms: 30_000, ..Default::default() };
            assert_eq!(connection.call(5, &gone).responses[0].error_code, 0, "{name}");
        }
    }
}

/// Every topic with its id, partitions and retention.
fn image(connection: &mut Connection) -> Vec<(String, [u8; 16], usize, String)> {
    let metadata = connection.call(12, &MetadataRequest { topics: None, ..Default::default() });
    let mut all = Vec::new();
    for topic in metadata.topics {
        let name = topic.name.clone().expect("a name");
        let resource = DescribeConfigsRequestDescribeConfigsResource {
            resource_type: 2,
            resource_name: name.clone(),
            configuration_keys: Some(vec!["retention.ms".into()]),
            ..Default::default()
        };
        let configs = connection.call(4, &DescribeConfigsRequest { resources: vec![resource], ..Default::default() });
        let retention = configs.results[0].configs[0].value.as_ref().map(ToString::to_string).unwrap_or_default();
        all.push((name.to_string(), topic.topic_id.0, topic.partitions.len(), retention));
    }
    all.sort();
    all
}

/// Files of the metadata log with this ending.
fn files(broker: &Broker, suffix: &str) -> Vec<PathBuf> {
    let dirs = fs::read_dir(broker.data_dir().join("data")).expect("data").flatten().map(|e| e.path());
    let dir = dirs.into_iter().find(|d| d.to_string_lossy().contains("__cluster_metadata")).expect("the metadata log");
    let names = fs::read_dir(dir).expect("the metadata log").flatten().map(|e| e.path());
    let mut found: Vec<PathBuf> = names.filter(|p| p.to_string_lossy().ends_with(suffix)).collect();
    found.sort();
    found
}

/// Where each record batch of a file stands.
fn batches(bytes: &[u8]) -> Vec<Range<usize>> {
    let (mut found, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        let length = u32::from_be_bytes(bytes[at + 8..at + 12].try_into().expect("a batch length"));
        found.push(at..at + 12 + length as usize);
        at += 12 + length as usize;
    }
    found
}

#[test]
fn metadata_comes_back_from_its_snapshots_and_the_log_before_them_is_gone() {
    if !is_corelane() {
        return;
    }
    let mut broker = start();
    let mut connection = open(&broker);
    churn(&mut connection, 0, 120);
    let first_id = connection.init_producer_id().expect("a producer id").0;
    let expected = image(&mut connection);
    assert_eq!(expected.len(), 12, "{expected:?}");
    let [snapshot] = &files(&broker, ".checkpoint")[..] else {
        panic!("one snapshot: {:?}", files(&broker, ".checkpoint"))
    };
    let end: i64 = snapshot.file_name().and_then(|n| n.to_str()?[..20].parse().ok()).expect("its offset");
    assert!(end > 500, "several snapshots later: {end}");
    let logs = files(&broker, ".log");
    let bytes: u64 = logs.iter().map(|p| p.metadata().expect("a segment").len()).sum();
    assert!(!logs[0].ends_with("00000000000000000000.log"), "{logs:?}");
    assert!(logs.len() <= 8, "{bytes} bytes in {logs:?}");

    assert!(broker.stop().is_some_and(|s| s.success()), "{}", broker.log_tail());
    broker.resume();
    let mut connection = open(&broker);
    assert_eq!(image(&mut connection), expected, "after a clean end");
    assert!(connection.init_producer_id().expect("a producer id").0 > first_id);

    // Enough for further snapshots, with a kill between; what is left of an unfinished one does no harm.
    fs::write(snapshot.with_extension("checkpoint.part"), b"half").expect("a file");
    for round in 1..4 {
        churn(&mut connection, round * 200, round * 200 + 40);
        let expected = image(&mut connection);
        assert_eq!(expected.len(), 12 + round * 4);
        broker.kill();
        broker.resume();
        connection = open(&broker);
        assert_eq!(image(&mut connection), expected, "after kill {round}");
    }
    assert_eq!(files(&broker, ".checkpoint").len(), 1);
    assert_eq!(files(&broker, ".part"), [] as [PathBuf; 0]);
}

#[test]
fn metadata_whose_snapshot_is_not_the_logs_is_told_and_nothing_is_made_anew() {
    if !is_corelane() {
        return;
    }
    let mut broker = start();
    let mut connection = open(&broker);
    churn(&mut connection, 0, 60);
    let expected = image(&mut connection);
    assert!(broker.stop().is_some_and(|s| s.success()), "{}", broker.log_tail());
    let data_dir = broker.data_dir().to_str().expect("a path").to_owned();
    corelane("", &["check", &data_dir]).ok();
    let snapshot = files(&broker, ".checkpoint").pop().expect("a snapshot");
    let sound = fs::read(&snapshot).expect("the snapshot");
    let of = |offset: i64| snapshot.with_file_name(format!("{offset:020}-0000000001.checkpoint"));
    let folder = snapshot.parent().expect("the metadata log").to_path_buf();
    let [header, .., footer] = &batches(&sound)[..] else { panic!("a frame: {sound:?}") };
    // Gone; of before the log's beginning; of behind its end; without its bytes; and without whole batches.
    let (older, newer) = (of(1), of(1 << 40));
    let situations = [
        (&folder, None),
        (&older, Some(&sound[..])),
        (&newer, Some(&sound[..])),
        (&snapshot, Some(&[][..])),
        (&snapshot, Some(&sound[..footer.start])),
        (&snapshot, Some(&sound[..header.end])),
        (&snapshot, Some(&sound[header.end..])),
    ];
    for (told, bytes) in situations {
        fs::remove_file(&snapshot).expect("the snapshot");
        if let Some(bytes) = bytes {
            fs::write(told, bytes).expect("a file");
        }
        let out = corelane("", &["check", "--quiet", &data_dir]);
        assert_eq!(out.code, Some(7), "{told:?}: {}", out.stdout);
        assert!(out.stdout.contains(told.to_str().expect("a path")), "{told:?}: {}", out.stdout);
        broker.spawn();
        assert_eq!(broker.wait_exit(LIMIT).and_then(|s| s.code()), Some(7), "{told:?}: {}", broker.log_tail());
        broker.log_with(&["the metadata log at offset", "is damaged"]);
        if bytes.is_some() {
            fs::remove_file(told).expect("a file");
        }
        fs::write(&snapshot, &sound).expect("the snapshot");
    }
    broker.resume();
    assert_eq!(image(&mut open(&broker)), expected);

    // As earlier releases wrote it: without a frame, from offset 0 on.
    assert!(broker.stop().is_some_and(|s| s.success()), "{}", broker.log_tail());
    let snapshot = files(&broker, ".checkpoint").pop().expect("a snapshot");
    let mut earlier = fs::read(&snapshot).expect("the snapshot");
    let frame = batches(&earlier);
    let (first, last) = (frame[0].end, frame[frame.len() - 1].start);
    earlier = earlier[first..last].to_vec();
    for batch in batches(&earlier) {
        let offset = &mut earlier[batch][..8];
        offset.copy_from_slice(&(i64::from_be_bytes((&*offset).try_into().expect("8 bytes")) - 1).to_be_bytes());
    }
    fs::write(&snapshot, &earlier).expect("the snapshot");
    assert_eq!(corelane("", &["check", "--quiet", &data_dir]).code, Some(0));
    broker.resume();
    assert_eq!(image(&mut open(&broker)), expected, "from a snapshot without a frame");
}
