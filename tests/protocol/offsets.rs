//! ListOffsets and OffsetForLeaderEpoch.

use corelane_protocol::Str;
use corelane_protocol::messages::{
    ListOffsetsRequest, ListOffsetsRequestListOffsetsPartition, ListOffsetsRequestListOffsetsTopic,
    ListOffsetsResponseListOffsetsPartitionResponse, OffsetForLeaderEpochRequest,
    OffsetForLeaderEpochRequestOffsetForLeaderPartition, OffsetForLeaderEpochRequestOffsetForLeaderTopic,
};
use corelane_tests::batch::{ProducerIdentity, build, now_ms};
use corelane_tests::broker::Broker;
use corelane_tests::connection::{Connection, to_leader};
use corelane_tests::librdkafka::{create_topic, unique};

const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
const UNSUPPORTED_VERSION: i16 = 35;
const INVALID_REQUEST: i16 = 42;
const FENCED_LEADER_EPOCH: i16 = 74;
const UNKNOWN_LEADER_EPOCH: i16 = 75;

/// A topic of one partition, its leader epoch, a connection to its leader.
fn topic(name: &str) -> (String, i32, Connection) {
    let (broker, topic) = (Broker::shared(), unique(name));
    create_topic(broker, &topic, 1, &[]);
    let mut connection = to_leader(broker.bootstrap(), &topic, 0).expect("the leader");
    let epoch = connection.metadata(&topic).expect("metadata").topics[0].partitions[0].leader_epoch;
    (topic, epoch, connection)
}

fn list(
    connection: &mut Connection,
    version: i16,
    topic: &str,
    partitions: Vec<ListOffsetsRequestListOffsetsPartition>,
) -> Vec<ListOffsetsResponseListOffsetsPartitionResponse> {
    let topics = vec![ListOffsetsRequestListOffsetsTopic {
        name: Str::from(topic.to_owned()),
        partitions,
        ..Default::default()
    }];
    connection.call(version, &ListOffsetsRequest { replica_id: -1, topics, ..Default::default() }).topics[0]
        .partitions
        .clone()
}

fn at(timestamp: i64) -> ListOffsetsRequestListOffsetsPartition {
    ListOffsetsRequestListOffsetsPartition { timestamp, ..Default::default() }
}

#[test]
fn special_timestamps_from_the_version_that_knows_them() {
    let (topic, epoch, mut connection) = topic("specials");
    let now = now_ms();
    for timestamp in [now - 20, now - 10, now - 15] {
        let batch = build(ProducerIdentity::NONE, timestamp, [(None, Some(&b"v"[..]))]);
        assert_eq!(connection.produce(&topic, 0, batch).expect("produce").error_code, 0);
    }
    // timestamp, first version, then offset, timestamp and leader epoch of the answer
    let cases: [(i64, i16, (i64, i64, i32)); 9] = [
        (-1, 1, (3, -1, epoch)),
        (-2, 1, (0, -1, epoch)),
        (-3, 7, (1, now - 10, epoch)),
        (-4, 8, (0, -1, epoch)),
        (-5, 9, (-1, -1, -1)),
        (now - 20, 1, (0, now - 20, epoch)),
        (now - 19, 1, (1, now - 10, epoch)),
        (now - 9, 1, (-1, -1, -1)),
        (-7, 99, (0, 0, 0)),
    ];
    for (timestamp, since, expected) in cases {
        for version in 1..=10 {
            let found = list(&mut connection, version, &topic, vec![at(timestamp)]).remove(0);
            let told = (found.error_code, found.offset, found.timestamp, found.leader_epoch);
            let epoch = if version >= 4 { expected.2 } else { -1 };
            match version < since {
                true => assert_eq!(told, (UNSUPPORTED_VERSION, -1, -1, -1), "{timestamp} v{version}"),
                false => assert_eq!(told, (0, expected.0, expected.1, epoch), "{timestamp} v{version}"),
            }
        }
    }
}

#[test]
fn empty_partition_has_its_bounds_and_no_times() {
    let (topic, epoch, mut connection) = topic("empty-offsets");
    for (timestamp, expected) in [(-1, (0, epoch)), (-2, (0, epoch)), (-3, (-1, -1)), (0, (-1, -1))] {
        let found = list(&mut connection, 10, &topic, vec![at(timestamp)]).remove(0);
        assert_eq!((found.error_code, (found.offset, found.leader_epoch)), (0, expected), "{timestamp}");
    }
}

#[test]
fn offsets_of_the_wrong_epoch_partition_or_twice_are_refused() {
    let (topic, epoch, mut connection) = topic("wrong-offsets");
    let with_epoch = |epoch| ListOffsetsRequestListOffsetsPartition { current_leader_epoch: epoch, ..at(-1) };
    let mut ask = |asked| list(&mut connection, 9, &topic, asked).iter().map(|p| p.error_code).collect::<Vec<_>>();
    assert_eq!(ask(vec![with_epoch(epoch)]), [0]);
    assert_eq!(ask(vec![with_epoch(epoch + 1)]), [UNKNOWN_LEADER_EPOCH]);
    if epoch > 0 {
        assert_eq!(ask(vec![with_epoch(epoch - 1)]), [FENCED_LEADER_EPOCH]);
    }
    let missing = ListOffsetsRequestListOffsetsPartition { partition_index: 9, ..at(-1) };
    assert_eq!(ask(vec![missing]), [UNKNOWN_TOPIC_OR_PARTITION]);
    assert!(ask(vec![at(-1), at(-2)]).contains(&INVALID_REQUEST));
}

#[test]
fn ends_of_leader_epochs() {
    let (topic, epoch, mut connection) = topic("epoch-ends");
    for _ in 0..3 {
        let batch = build(ProducerIdentity::NONE, now_ms(), [(None, Some(&b"v"[..]))]);
        assert_eq!(connection.produce(&topic, 0, batch).expect("produce").error_code, 0);
    }
    let mut ask = |version, current_leader_epoch, leader_epoch| {
        let partitions = vec![OffsetForLeaderEpochRequestOffsetForLeaderPartition {
            partition: 0,
            current_leader_epoch,
            leader_epoch,
            ..Default::default()
        }];
        let topic = OffsetForLeaderEpochRequestOffsetForLeaderTopic {
            topic: Str::from(topic.clone()),
            partitions,
            ..Default::default()
        };
        let request = OffsetForLeaderEpochRequest { replica_id: -1, topics: vec![topic], ..Default::default() };
        let answer = connection.call(version, &request).topics[0].partitions[0].clone();
        (answer.error_code, answer.leader_epoch, answer.end_offset)
    };
    for version in 2..=4 {
        assert_eq!(ask(version, epoch, epoch), (0, epoch, 3), "the present epoch");
        assert_eq!(ask(version, -1, epoch + 1), (0, -1, -1), "one that is not there yet");
        assert_eq!(ask(version, epoch + 1, epoch), (UNKNOWN_LEADER_EPOCH, -1, -1));
        if epoch > 0 {
            assert_eq!(ask(version, epoch - 1, epoch), (FENCED_LEADER_EPOCH, -1, -1));
        }
    }
}
