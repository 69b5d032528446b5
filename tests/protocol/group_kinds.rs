//! Groups of one kind, asked as if they were of another.

use std::time::Duration;

use corelane_protocol::messages::*;
use corelane_protocol::{ErrorCode, Str};
use corelane_tests::broker::Broker;
use corelane_tests::connection::Connection;
use corelane_tests::librdkafka::{create_topic, unique};
use corelane_tests::wait;

const LIMIT: Duration = Duration::from_secs(30);
const NOT_FOUND: i16 = ErrorCode::GroupIdNotFound.code();
const MEMBER: &str = "member";

fn text(text: &str) -> Str {
    Str::from(text.to_owned())
}

fn consumer(group: &str, topic: &str) -> ConsumerGroupHeartbeatRequest {
    ConsumerGroupHeartbeatRequest {
        group_id: text(group),
        member_id: text(MEMBER),
        rebalance_timeout_ms: 60_000,
        subscribed_topic_names: Some(vec![text(topic)]),
        topic_partitions: Some(Vec::new()),
        ..Default::default()
    }
}

fn share(group: &str, topic: &str) -> ShareGroupHeartbeatRequest {
    ShareGroupHeartbeatRequest {
        group_id: text(group),
        member_id: text(MEMBER),
        subscribed_topic_names: Some(vec![text(topic)]),
        ..Default::default()
    }
}

fn streams(group: &str, topic: &str) -> StreamsGroupHeartbeatRequest {
    let subtopology = StreamsGroupHeartbeatRequestSubtopology {
        subtopology_id: text("0"),
        source_topics: vec![text(topic)],
        ..Default::default()
    };
    StreamsGroupHeartbeatRequest {
        group_id: text(group),
        member_id: text(MEMBER),
        rebalance_timeout_ms: 60_000,
        endpoint_information_epoch: -1,
        topology: Some(StreamsGroupHeartbeatRequestTopology { subtopologies: vec![subtopology], ..Default::default() }),
        active_tasks: Some(Vec::new()),
        standby_tasks: Some(Vec::new()),
        warmup_tasks: Some(Vec::new()),
        process_id: Some(text("process")),
        ..Default::default()
    }
}

fn classic(group: &str) -> JoinGroupRequest {
    let protocol = JoinGroupRequestProtocol { name: text("range"), ..Default::default() };
    JoinGroupRequest {
        group_id: text(group),
        session_timeout_ms: 30_000,
        rebalance_timeout_ms: 30_000,
        protocol_type: text("consumer"),
        protocols: vec![protocol],
        ..Default::default()
    }
}

/// A connection to a broker that has the topic of groups.
fn connect() -> Connection {
    let mut connection = Connection::open(Broker::shared().bootstrap()).expect("a connection");
    let request = FindCoordinatorRequest { coordinator_keys: vec![text("any")], ..Default::default() };
    wait::until("a coordinator", LIMIT, || {
        (connection.call(4, &request).coordinators[0].error_code == 0).then_some(())
    });
    connection
}

/// Waits for a coordinator that is loading.
fn settled(mut ask: impl FnMut() -> i16) {
    wait::until("the coordinator", LIMIT, || {
        let error = ask();
        if matches!(error, 14..=16) {
            return None;
        }
        assert_eq!(error, 0);
        Some(())
    });
}

/// Each kind's members are refused at a group of another kind, which they leave as it is.
#[test]
fn members_of_one_kind_are_refused_at_a_group_of_another() {
    let topic = unique("kinds");
    create_topic(Broker::shared(), &topic, 1, &[]);
    let mut connection = connect();
    let group = |kind: &str| unique(&format!("kind-{kind}"));
    let (of_consumers, of_shares, of_streams) = (group("consumer"), group("share"), group("streams"));
    settled(|| connection.call(1, &consumer(&of_consumers, &topic)).error_code);
    settled(|| connection.call(1, &share(&of_shares, &topic)).error_code);
    settled(|| connection.call(0, &streams(&of_streams, &topic)).error_code);
    for group in [&of_shares, &of_streams] {
        assert_eq!(connection.call(1, &consumer(group, &topic)).error_code, NOT_FOUND);
        let later = ConsumerGroupHeartbeatRequest { member_epoch: 1, ..consumer(group, &topic) };
        assert_eq!(connection.call(1, &later).error_code, NOT_FOUND);
    }
    for group in [&of_consumers, &of_streams] {
        assert_eq!(connection.call(1, &share(group, &topic)).error_code, NOT_FOUND);
    }
    for group in [&of_consumers, &of_shares] {
        assert_eq!(connection.call(0, &streams(group, &topic)).error_code, NOT_FOUND);
    }
    for group in [&of_shares, &of_streams] {
        let error = connection.call(3, &classic(group)).error_code;
        assert_eq!(error, ErrorCode::InconsistentGroupProtocol.code(), "{group}");
    }
    // A description is given by the API of the group's kind alone.
    for (group, kind) in [(&of_consumers, 0), (&of_shares, 1), (&of_streams, 2)] {
        let named = || vec![text(group)];
        let asked = [
            connection.call(1, &ConsumerGroupDescribeRequest { group_ids: named(), ..Default::default() }).groups[0]
                .error_code,
            connection.call(1, &ShareGroupDescribeRequest { group_ids: named(), ..Default::default() }).groups[0]
                .error_code,
            connection.call(0, &StreamsGroupDescribeRequest { group_ids: named(), ..Default::default() }).groups[0]
                .error_code,
            connection.call(6, &DescribeGroupsRequest { groups: named(), ..Default::default() }).groups[0].error_code,
        ];
        let expected: Vec<i16> = (0..4).map(|api| if api == kind { 0 } else { NOT_FOUND }).collect();
        assert_eq!(asked.as_slice(), expected, "{group}");
    }
}

#[test]
fn states_are_filtered_by_the_names_that_kafka_gives_them() {
    let (group, mut connection) = (unique("not-ready"), connect());
    settled(|| connection.call(0, &streams(&group, &unique("no-such-topic"))).error_code);
    let mut listed = |state: &str| {
        let request = ListGroupsRequest { states_filter: vec![text(state)], ..Default::default() };
        let groups = connection.call(5, &request).groups;
        groups.into_iter().find(|listed| listed.group_id == *group).map(|listed| listed.group_state.to_string())
    };
    assert_eq!(listed("not_ready").as_deref(), Some("NotReady"));
    assert_eq!(listed("NOT_READY").as_deref(), Some("NotReady"));
    assert_eq!(listed("NotReady"), None);
    assert_eq!(listed("Stable"), None);
}
