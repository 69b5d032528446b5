//! Metadata at its versions, automatic creation, and the names and numbers that CreateTopics refuses.

use corelane_protocol::messages::{
    CreatePartitionsRequest, CreatePartitionsRequestCreatePartitionsTopic, CreateTopicsRequest,
    CreateTopicsRequestCreatableReplicaAssignment, CreateTopicsRequestCreatableTopic,
    CreateTopicsRequestCreatableTopicConfig, MetadataRequest, MetadataRequestTopic, MetadataResponse,
};
use corelane_protocol::{Str, Uuid};
use corelane_tests::broker::{Broker, BrokerOptions, is_corelane};
use corelane_tests::connection::Connection;
use corelane_tests::librdkafka::{create_topic, unique};
use corelane_tests::wait;
use std::time::Duration;

const NONE: i16 = 0;
const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
const INVALID_TOPIC: i16 = 17;
const TOPIC_ALREADY_EXISTS: i16 = 36;
const INVALID_PARTITIONS: i16 = 37;
const INVALID_REPLICATION_FACTOR: i16 = 38;
const INVALID_REPLICA_ASSIGNMENT: i16 = 39;
const INVALID_CONFIG: i16 = 40;
const INVALID_REQUEST: i16 = 42;
const POLICY_VIOLATION: i16 = 44;
const UNKNOWN_TOPIC_ID: i16 = 100;

fn open() -> Connection {
    Connection::open(Broker::shared().bootstrap()).expect("a connection")
}

fn named(name: &str) -> MetadataRequestTopic {
    MetadataRequestTopic { name: Some(Str::from(name.to_owned())), ..Default::default() }
}

fn names(answer: &MetadataResponse) -> Vec<&str> {
    answer.topics.iter().filter_map(|t| t.name.as_deref()).collect()
}

#[test]
fn all_topics_and_no_topics_are_asked_for_in_the_way_of_each_version() {
    let topic = unique("all-and-none");
    create_topic(Broker::shared(), &topic, 1, &[]);
    let mut connection = open();
    for version in 0..=13 {
        let none = MetadataRequest { topics: Some(Vec::new()), ..Default::default() };
        let answer = connection.call(version, &none);
        assert_eq!(names(&answer).contains(&&*topic), version == 0, "version {version}: an empty list");
        assert!(!answer.brokers.is_empty());
        if version > 0 {
            let all = MetadataRequest { topics: None, ..Default::default() };
            assert!(names(&connection.call(version, &all)).contains(&&*topic), "version {version}: null");
            assert!(answer.brokers.iter().any(|b| b.node_id == answer.controller_id), "version {version}");
        }
        let one =
            connection.call(version, &MetadataRequest { topics: Some(vec![named(&topic)]), ..Default::default() });
        let found = &one.topics[0];
        assert_eq!((found.error_code, found.partitions.len()), (NONE, 1), "version {version}");
        assert_eq!(found.topic_id.is_zero(), version < 10, "version {version}");
    }
}

#[test]
fn topics_are_found_by_id() {
    let topic = unique("by-id");
    create_topic(Broker::shared(), &topic, 1, &[]);
    let mut connection = open();
    let id = connection.metadata(&topic).expect("metadata").topics[0].topic_id;
    for version in [10, 11] {
        let asked = MetadataRequestTopic { topic_id: id, ..named(&topic) };
        let answer = connection.call(version, &MetadataRequest { topics: Some(vec![asked]), ..Default::default() });
        assert_eq!(answer.topics[0].error_code, INVALID_REQUEST, "version {version} takes no ids yet");
    }
    for version in [12, 13] {
        let mut ask = |topic_id| {
            let asked = MetadataRequestTopic { topic_id, name: None, ..Default::default() };
            let answer = connection.call(version, &MetadataRequest { topics: Some(vec![asked]), ..Default::default() });
            let found = &answer.topics[0];
            (found.error_code, found.topic_id, found.name.as_ref().map(ToString::to_string))
        };
        assert_eq!(ask(id), (NONE, id, Some(topic.clone())));
        let nobody = Uuid(*b"nobody has it...");
        assert_eq!(ask(nobody), (UNKNOWN_TOPIC_ID, nobody, None));
    }
}

#[test]
fn topics_come_into_being_only_where_the_request_allows_it() {
    let mut connection = open();
    for version in [1, 3, 4, 8, 13] {
        let topic = unique("auto");
        let ask = |allow| MetadataRequest {
            topics: Some(vec![named(&topic)]),
            allow_auto_topic_creation: allow,
            ..Default::default()
        };
        if version >= 4 {
            let answer = connection.call(version, &ask(false));
            assert_eq!(answer.topics[0].error_code, UNKNOWN_TOPIC_OR_PARTITION, "version {version}");
        }
        let found = wait::until("the topic", Duration::from_secs(30), || {
            let answer = connection.call(version, &ask(true));
            (answer.topics[0].error_code == NONE).then(|| answer.topics[0].clone())
        });
        assert_eq!(found.partitions.len(), 4, "num.partitions, version {version}");
    }
    for bad in ["", ".", "..", "a b", "a/b", &"x".repeat(250)] {
        let asked = MetadataRequest { topics: Some(vec![named(bad)]), ..Default::default() };
        let answer = connection.call(12, &asked);
        assert_eq!(answer.topics[0].error_code, INVALID_TOPIC, "{bad}");
    }
}

#[test]
fn topics_of_the_broker_come_into_being_as_it_wants_them() {
    let own = is_corelane().then(|| Broker::start(BrokerOptions::default()));
    let broker = own.as_ref().unwrap_or_else(|| Broker::shared());
    let mut connection = Connection::open(broker.bootstrap()).expect("a connection");
    let ask = MetadataRequest {
        topics: Some(vec![named("__consumer_offsets")]),
        allow_auto_topic_creation: true,
        ..Default::default()
    };
    let found = wait::until("the topic", Duration::from_secs(30), || {
        let answer = connection.call(12, &ask);
        (answer.topics[0].error_code == NONE).then(|| answer.topics[0].clone())
    });
    assert_eq!((found.partitions.len(), found.is_internal), (50, true));
}

fn creatable(name: &str) -> CreateTopicsRequestCreatableTopic {
    CreateTopicsRequestCreatableTopic {
        name: Str::from(name.to_owned()),
        num_partitions: 1,
        replication_factor: 1,
        ..Default::default()
    }
}

#[test]
fn topics_that_cannot_be_made_are_refused_for_their_own_reason() {
    let mut connection = open();
    let mut create = |version, topics| {
        let request = CreateTopicsRequest { topics, timeout_ms: 30_000, ..Default::default() };
        let answer = connection.call(version, &request);
        answer.topics.iter().map(|t| t.error_code).collect::<Vec<_>>()
    };
    let there = unique("there");
    let dotted = format!("{}.x", there.replace(['.', '_'], "-"));
    assert_eq!(create(7, vec![creatable(&there), creatable(&dotted)]), [NONE, NONE]);
    let fresh = || unique("refused");
    let config = |name: &str, value: &str| CreateTopicsRequestCreatableTopicConfig {
        name: Str::from(name.to_owned()),
        value: Some(Str::from(value.to_owned())),
        ..Default::default()
    };
    let assigned = |partition_index, broker_ids: Vec<i32>| CreateTopicsRequestCreatableReplicaAssignment {
        partition_index,
        broker_ids,
        ..Default::default()
    };
    let by_hand = |assignments| CreateTopicsRequestCreatableTopic {
        num_partitions: -1,
        replication_factor: -1,
        assignments,
        ..creatable(&fresh())
    };
    let cases = [
        ("there already", creatable(&there), TOPIC_ALREADY_EXISTS),
        ("differs by dot and underscore", creatable(&dotted.replace('.', "_")), INVALID_TOPIC),
        ("a bad name", creatable("no/slash"), INVALID_TOPIC),
        ("an empty name", creatable(""), INVALID_TOPIC),
        (
            "no partitions",
            CreateTopicsRequestCreatableTopic { num_partitions: 0, ..creatable(&fresh()) },
            INVALID_PARTITIONS,
        ),
        (
            "-2 partitions",
            CreateTopicsRequestCreatableTopic { num_partitions: -2, ..creatable(&fresh()) },
            INVALID_PARTITIONS,
        ),
        (
            "no replicas",
            CreateTopicsRequestCreatableTopic { replication_factor: 0, ..creatable(&fresh()) },
            INVALID_REPLICATION_FACTOR,
        ),
        (
            "3 replicas",
            CreateTopicsRequestCreatableTopic { replication_factor: 3, ..creatable(&fresh()) },
            INVALID_REPLICATION_FACTOR,
        ),
        (
            "an unknown config",
            CreateTopicsRequestCreatableTopic { configs: vec![config("no.such", "1")], ..creatable(&fresh()) },
            INVALID_CONFIG,
        ),
        (
            "a bad value",
            CreateTopicsRequestCreatableTopic { configs: vec![config("retention.ms", "soon")], ..creatable(&fresh()) },
            INVALID_CONFIG,
        ),
        ("a gap in the partitions", by_hand(vec![assigned(1, vec![1])]), INVALID_REPLICA_ASSIGNMENT),
        ("no replica", by_hand(vec![assigned(0, vec![])]), INVALID_REPLICA_ASSIGNMENT),
        ("a broker that is not there", by_hand(vec![assigned(0, vec![77])]), INVALID_REPLICA_ASSIGNMENT),
        (
            "numbers and assignments",
            CreateTopicsRequestCreatableTopic { assignments: vec![assigned(0, vec![1])], ..creatable(&fresh()) },
            INVALID_REQUEST,
        ),
    ];
    for (what, topic, expected) in cases {
        for version in [2, 7] {
            assert_eq!(create(version, vec![topic.clone()]), [expected], "{what}, version {version}");
        }
    }
    let twice = fresh();
    assert!(create(7, vec![creatable(&twice), creatable(&twice)]).iter().all(|e| *e == INVALID_REQUEST));
}

#[test]
fn no_request_makes_more_than_ten_thousand_partitions() {
    let topic = unique("large");
    let mut connection = open();
    let of = |num_partitions| CreateTopicsRequestCreatableTopic { num_partitions, ..creatable(&topic) };
    let other = CreateTopicsRequestCreatableTopic { num_partitions: 9_999, ..creatable(&unique("large")) };
    for topics in [vec![of(10_001)], vec![of(2), other]] {
        let request = CreateTopicsRequest { topics, timeout_ms: 30_000, ..Default::default() };
        let answer = connection.call(7, &request);
        assert!(answer.topics.iter().all(|t| t.error_code == POLICY_VIOLATION), "{answer:?}");
    }
    create_topic(Broker::shared(), &topic, 2, &[]);
    let mut grow = |count| {
        let name = Str::from(topic.clone());
        let topic =
            CreatePartitionsRequestCreatePartitionsTopic { name, count, assignments: None, ..Default::default() };
        let request = CreatePartitionsRequest { topics: vec![topic], timeout_ms: 30_000, ..Default::default() };
        connection.call(3, &request).results
    };
    let refused = if is_corelane() { POLICY_VIOLATION } else { -1 };
    assert_eq!(grow(10_003)[0].error_code, refused);
    assert_eq!(grow(3)[0].error_code, NONE);
}
