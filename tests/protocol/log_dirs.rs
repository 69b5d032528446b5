//! DescribeLogDirs shows what is in the data directory, whether it opened or not.

use corelane_protocol::Str;
use corelane_protocol::messages::describe_log_dirs_request::DescribeLogDirsRequestDescribableLogDirTopic;
use corelane_protocol::messages::{DescribeLogDirsRequest, DescribeLogDirsResponse};
use corelane_tests::batch::{ProducerIdentity, build, now_ms};
use corelane_tests::broker::{Broker, BrokerOptions, is_corelane};
use corelane_tests::connection::Connection;
use corelane_tests::librdkafka::create_topic;
use std::fs;

const RECORD: usize = 100_000;

/// Topic, partition, bytes and lag of each.
fn partitions(answer: &DescribeLogDirsResponse) -> Vec<(String, i32, i64, i64)> {
    let topics = answer.results[0].topics.iter().flat_map(|t| t.partitions.iter().map(move |p| (t, p)));
    topics.map(|(t, p)| (t.name.to_string(), p.partition_index, p.partition_size, p.offset_lag)).collect()
}

fn describe(broker: &Broker, topics: Option<&[(&'static str, &[i32])]>) -> DescribeLogDirsResponse {
    let topic = |(topic, partitions): &(&'static str, &[i32])| DescribeLogDirsRequestDescribableLogDirTopic {
        topic: Str::from_static(topic),
        partitions: partitions.to_vec(),
        ..Default::default()
    };
    let topics = topics.map(|topics| topics.iter().map(topic).collect());
    let mut connection = Connection::open(broker.bootstrap()).expect("a connection");
    connection.call(4, &DescribeLogDirsRequest { topics, ..Default::default() })
}

#[test]
fn partitions_that_do_not_open_have_their_sizes() {
    if !is_corelane() {
        return;
    }
    let options = BrokerOptions { cores: "0".into(), advertise: "node".into(), ..Default::default() };
    let mut broker = Broker::start(options);
    create_topic(&broker, "kept", 1, &[]);
    create_topic(&broker, "lost", 2, &[]);
    let mut connection = Connection::open(broker.bootstrap()).expect("a connection");
    for (topic, partition) in [("kept", 0), ("lost", 0), ("lost", 1)] {
        let batch = build(ProducerIdentity::NONE, now_ms(), [(None, Some(&[7; RECORD][..]))]);
        assert_eq!(connection.produce(topic, partition, batch).expect("an answer").error_code, 0);
    }
    drop(connection);
    assert!(broker.stop().is_some_and(|s| s.success()));
    let entries = fs::read_dir(broker.data_dir().join("data")).expect("data").map(|e| e.expect("an entry").path());
    let lost: Vec<_> = entries.filter(|dir| dir.to_string_lossy().contains("/lost-0.")).collect();
    assert_eq!(lost.len(), 1);
    fs::remove_file(lost[0].join("state")).expect("its state file");
    broker.resume();

    let answer = describe(&broker, None);
    let dir = &answer.results[0];
    assert_eq!((answer.error_code, dir.error_code, answer.results.len()), (0, 0, 1));
    assert!(0 < dir.usable_bytes && dir.usable_bytes <= dir.total_bytes, "{dir:?}");
    let found = partitions(&answer);
    let names: Vec<(&str, i32, i64)> = found.iter().map(|(t, p, _, lag)| (t.as_str(), *p, *lag)).collect();
    assert_eq!(names, [("kept", 0, 0), ("lost", 0, -1), ("lost", 1, 0)]);
    assert!(found.iter().all(|(_, _, bytes, _)| *bytes >= RECORD as i64), "{found:?}");

    let some = partitions(&describe(&broker, Some(&[("lost", &[0]), ("none", &[0]), ("kept", &[7])])));
    assert_eq!(some, [found[1].clone()]);
    assert!(describe(&broker, Some(&[])).results[0].topics.is_empty());
}
