//! Properties that a broker has from its start on, each seen at work: it bounds or refuses what it is for.

use bytes::Bytes;
use corelane_protocol::messages::describe_topic_partitions_request::DescribeTopicPartitionsRequestTopicRequest;
use corelane_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use corelane_protocol::messages::streams_group_heartbeat_request::{
    StreamsGroupHeartbeatRequestSubtopology, StreamsGroupHeartbeatRequestTopology,
};
use corelane_protocol::messages::{
    ConsumerGroupHeartbeatRequest, DeleteTopicsRequest, DescribeTopicPartitionsRequest, FindCoordinatorRequest,
    GetTelemetrySubscriptionsRequest, InitProducerIdRequest, JoinGroupRequest, JoinGroupResponse, MetadataRequest,
    MetadataRequestTopic, OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
    PushTelemetryRequest, ShareGroupHeartbeatRequest, StreamsGroupHeartbeatRequest,
};
use corelane_protocol::{Str, Uuid};
use corelane_tests::batch::{ProducerIdentity, build, now_ms, read};
use corelane_tests::broker::{Broker, BrokerOptions, controllable, is_corelane};
use corelane_tests::connection::Connection;
use corelane_tests::librdkafka::{LIMIT, create_topic};
use corelane_tests::wait;

use crate::configs::{TOPIC, value};

const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
const OFFSET_METADATA_TOO_LARGE: i16 = 12;
const INVALID_SESSION_TIMEOUT: i16 = 26;
const INVALID_TRANSACTION_TIMEOUT: i16 = 50;
const GROUP_ID_NOT_FOUND: i16 = 69;
const TOPIC_DELETION_DISABLED: i16 = 73;
const GROUP_MAX_SIZE_REACHED: i16 = 81;
const UNSUPPORTED_ASSIGNOR: i16 = 112;
const TELEMETRY_TOO_LARGE: i16 = 118;
/// Until a coordinator is there and has read its log.
const NOT_YET: [i16; 3] = [14, 15, 16];

const SETTINGS: [(&str, &str); 15] = [
    ("broker.rack", "r1"),
    ("auto.create.topics.enable", "false"),
    ("delete.topic.enable", "false"),
    ("max.request.partition.size.limit", "2"),
    ("fetch.max.bytes", "1024"),
    ("offset.metadata.max.bytes", "10"),
    ("group.max.session.timeout.ms", "40000"),
    ("group.max.size", "1"),
    ("group.consumer.max.size", "1"),
    ("group.consumer.assignors", "range"),
    ("group.consumer.migration.policy", "disabled"),
    ("group.share.max.size", "1"),
    ("group.streams.max.size", "1"),
    ("transaction.max.timeout.ms", "20000"),
    ("telemetry.max.bytes", "100"),
];

fn name(text: &str) -> Str {
    Str::from(text.to_owned())
}

/// The answer of a coordinator that is there: asking for it makes the topic that it keeps its state in.
fn coordinated<T>(connection: &mut Connection, mut ask: impl FnMut(&mut Connection) -> (i16, T)) -> (i16, T) {
    wait::until("a coordinator", LIMIT, || {
        for key_type in [0, 1] {
            let key = name("any");
            connection.call(3, &FindCoordinatorRequest { key, key_type, ..Default::default() });
        }
        Some(ask(connection)).filter(|(code, _)| !NOT_YET.contains(code))
    })
}

/// A classic member that joins; below version 4 it is taken in at once.
fn join(connection: &mut Connection, group: &str, session_timeout_ms: i32, id: Str) -> JoinGroupResponse {
    let request = JoinGroupRequest {
        group_id: name(group),
        session_timeout_ms,
        rebalance_timeout_ms: 1_000,
        member_id: id,
        protocol_type: "consumer".into(),
        protocols: vec![JoinGroupRequestProtocol {
            name: "range".into(),
            metadata: Bytes::from_static(&[0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]),
            ..Default::default()
        }],
        ..Default::default()
    };
    coordinated(connection, |c| {
        let answer = c.call(3, &request);
        (answer.error_code, answer)
    })
    .1
}

fn consumer(connection: &mut Connection, group: &str, member: &str, assignor: Option<&str>) -> i16 {
    let request = ConsumerGroupHeartbeatRequest {
        group_id: name(group),
        member_id: name(member),
        rebalance_timeout_ms: 60_000,
        subscribed_topic_names: Some(vec!["t".into()]),
        server_assignor: assignor.map(name),
        topic_partitions: Some(Vec::new()),
        ..Default::default()
    };
    coordinated(connection, |c| (c.call(1, &request).error_code, ())).0
}

fn share(connection: &mut Connection, member: &str) -> i16 {
    let request = ShareGroupHeartbeatRequest {
        group_id: "shares".into(),
        member_id: name(member),
        subscribed_topic_names: Some(vec!["t".into()]),
        ..Default::default()
    };
    coordinated(connection, |c| (c.call(1, &request).error_code, ())).0
}

fn streams(connection: &mut Connection, member: &str) -> i16 {
    let part = StreamsGroupHeartbeatRequestSubtopology {
        subtopology_id: "0".into(),
        source_topics: vec!["t".into()],
        ..Default::default()
    };
    let request = StreamsGroupHeartbeatRequest {
        group_id: "streams".into(),
        member_id: name(member),
        rebalance_timeout_ms: 60_000,
        topology: Some(StreamsGroupHeartbeatRequestTopology {
            epoch: 0,
            subtopologies: vec![part],
            ..Default::default()
        }),
        active_tasks: Some(Vec::new()),
        standby_tasks: Some(Vec::new()),
        warmup_tasks: Some(Vec::new()),
        process_id: Some(name(member)),
        ..Default::default()
    };
    coordinated(connection, |c| (c.call(0, &request).error_code, ())).0
}

fn commit(connection: &mut Connection, metadata: &str) -> i16 {
    let partition = OffsetCommitRequestPartition {
        partition_index: 0,
        committed_offset: 1,
        committed_metadata: Some(name(metadata)),
        ..Default::default()
    };
    let topic = OffsetCommitRequestTopic { name: "t".into(), partitions: vec![partition], ..Default::default() };
    let request = OffsetCommitRequest {
        group_id: "commits".into(),
        generation_id_or_member_epoch: -1,
        topics: vec![topic],
        ..Default::default()
    };
    coordinated(connection, |c| (c.call(8, &request).topics[0].partitions[0].error_code, ())).0
}

fn begin(connection: &mut Connection, transaction_timeout_ms: i32) -> i16 {
    let request = InitProducerIdRequest {
        transactional_id: Some("writer".into()),
        transaction_timeout_ms,
        producer_id: -1,
        producer_epoch: -1,
        ..Default::default()
    };
    coordinated(connection, |c| (c.call(4, &request).error_code, ())).0
}

/// A broker with all of them, a topic `t` of three partitions, and a connection.
fn broker() -> Option<(Broker, Connection)> {
    if !controllable() {
        return None;
    }
    let options = BrokerOptions { advertise: "node".into(), ..BrokerOptions::default() };
    let broker = Broker::start(SETTINGS.iter().fold(options, |options, (key, value)| options.set(key, value)));
    create_topic(&broker, "t", 3, &[]);
    let connection = Connection::open(broker.bootstrap()).expect("a connection");
    Some((broker, connection))
}

#[test]
fn what_a_broker_is_started_with_bounds_groups_and_transactions() {
    let Some((_broker, mut connection)) = broker() else { return };
    let c = &mut connection;

    assert_eq!(commit(c, "0123456789"), 0);
    assert_eq!(commit(c, "0123456789a"), OFFSET_METADATA_TOO_LARGE);

    assert_eq!(begin(c, 20_001), INVALID_TRANSACTION_TIMEOUT);
    assert_eq!(begin(c, 20_000), 0);

    assert_eq!(join(c, "classics", 40_001, Str::default()).error_code, INVALID_SESSION_TIMEOUT);
    let first = join(c, "classics", 40_000, Str::default());
    assert_eq!(first.error_code, 0);
    assert_eq!(join(c, "classics", 40_000, Str::default()).error_code, GROUP_MAX_SIZE_REACHED);
    assert_eq!(consumer(c, "classics", "m", None), GROUP_ID_NOT_FOUND, "no group changes its protocol");

    assert_eq!(consumer(c, "consumers", "a", Some("uniform")), UNSUPPORTED_ASSIGNOR);
    assert_eq!(consumer(c, "consumers", "a", Some("range")), 0);
    assert_eq!(consumer(c, "consumers", "b", None), GROUP_MAX_SIZE_REACHED);

    assert_eq!((share(c, "a"), share(c, "b")), (0, GROUP_MAX_SIZE_REACHED));
    assert_eq!((streams(c, "a"), streams(c, "b")), (0, GROUP_MAX_SIZE_REACHED));
}

#[test]
fn what_a_broker_is_started_with_bounds_topics_and_answers() {
    let Some((_broker, mut c)) = broker() else { return };
    let absent = MetadataRequestTopic { name: Some("absent".into()), ..Default::default() };
    let request = MetadataRequest { topics: Some(vec![absent]), allow_auto_topic_creation: true, ..Default::default() };
    let metadata = c.call(12, &request);
    assert_eq!(metadata.topics[0].error_code, UNKNOWN_TOPIC_OR_PARTITION, "topics are made by hand");
    assert_eq!(metadata.brokers[0].rack.as_deref(), Some("r1"));

    let request = DeleteTopicsRequest { topic_names: vec!["t".into()], timeout_ms: 10_000, ..Default::default() };
    assert_eq!(c.call(5, &request).responses[0].error_code, TOPIC_DELETION_DISABLED);

    let topic = DescribeTopicPartitionsRequestTopicRequest { name: "t".into(), ..Default::default() };
    let request =
        DescribeTopicPartitionsRequest { topics: vec![topic], response_partition_limit: 1_000, ..Default::default() };
    let described = c.call(0, &request);
    assert_eq!(described.topics[0].partitions.len(), 2);
    let cursor = described.next_cursor.expect("more of them");
    assert_eq!((cursor.topic_name.as_str(), cursor.partition_index), ("t", 2));

    let value = [b'x'; 800];
    for _ in 0..2 {
        let batch = build(ProducerIdentity::NONE, now_ms(), [(None, Some(&value[..]))]);
        assert_eq!(c.produce("t", 0, batch).expect("an answer").error_code, 0);
    }
    let fetched = c.fetch("t", 0, 0).expect("an answer");
    assert_eq!(fetched.high_watermark, 2);
    let records = fetched.records.map(|records| records.into_bytes()).expect("records");
    assert_eq!(read(&records).len(), 1, "one batch is all that fits an answer");

    let subscribed = c.call(0, &GetTelemetrySubscriptionsRequest::default());
    assert_eq!((subscribed.error_code, subscribed.telemetry_max_bytes), (0, 100));
    let push = PushTelemetryRequest {
        client_instance_id: subscribed.client_instance_id,
        subscription_id: subscribed.subscription_id,
        metrics: Bytes::from(vec![0; 101]),
        ..Default::default()
    };
    assert_ne!(subscribed.client_instance_id, Uuid::ZERO);
    assert_eq!(c.call(0, &push).error_code, TELEMETRY_TOO_LARGE);
}

#[test]
fn topics_of_the_brokers_own_are_made_as_it_was_started() {
    if !is_corelane() {
        return;
    }
    let options = BrokerOptions { advertise: "node".into(), ..BrokerOptions::default() };
    let set = [
        ("audit.topic.enable", "true"),
        ("audit.topic.num.partitions", "2"),
        ("audit.topic.retention.bytes", "9000000"),
        ("audit.topic.retention.ms", "7200000"),
        ("audit.topic.segment.bytes", "3000000"),
        ("offsets.topic.num.partitions", "3"),
        ("offsets.topic.segment.bytes", "4000000"),
        ("transaction.state.log.num.partitions", "5"),
        ("transaction.state.log.segment.bytes", "5000000"),
        ("share.coordinator.state.topic.num.partitions", "6"),
        ("share.coordinator.state.topic.segment.bytes", "6000000"),
    ];
    let broker = Broker::start(set.iter().fold(options, |options, (key, value)| options.set(key, value)));
    let mut c = Connection::open(broker.bootstrap()).expect("a connection");
    create_topic(&broker, "t", 1, &[]);
    assert_eq!((commit(&mut c, ""), begin(&mut c, 10_000)), (0, 0));
    let of_share = FindCoordinatorRequest {
        key_type: 2,
        coordinator_keys: vec!["group:AAAAAAAAAAAAAAAAAAAAAQ:0".into()],
        ..Default::default()
    };
    for (topic, partitions, segment_bytes) in [
        ("__audit_log", 2, "3000000"),
        ("__consumer_offsets", 3, "4000000"),
        ("__transaction_state", 5, "5000000"),
        ("__share_group_state", 6, "6000000"),
    ] {
        let made = wait::until(topic, LIMIT, || {
            c.call(6, &of_share);
            let answer = c.metadata(topic).expect("an answer");
            Some(answer.topics[0].partitions.len()).filter(|partitions| *partitions > 0)
        });
        assert_eq!(made, partitions, "{topic}");
        let segment = value(&mut c, TOPIC, topic, "segment.bytes").map(|(value, _)| value);
        assert_eq!(segment.as_deref(), Some(segment_bytes), "{topic}");
    }
    let audit = |name: &str, c: &mut Connection| value(c, TOPIC, "__audit_log", name).map(|(value, _)| value);
    assert_eq!(audit("retention.bytes", &mut c).as_deref(), Some("9000000"));
    assert_eq!(audit("retention.ms", &mut c).as_deref(), Some("7200000"));
}
