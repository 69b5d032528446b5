//! The consumer group protocol (KIP-848) on the wire.

use std::time::Duration;

use corelane_protocol::messages::*;
use corelane_protocol::{ErrorCode, Str};
use corelane_tests::broker::Broker;
use corelane_tests::connection::Connection;
use corelane_tests::librdkafka::{create_topic, unique};
use corelane_tests::wait;

const LIMIT: Duration = Duration::from_secs(30);

fn code(error: ErrorCode) -> i16 {
    error.code()
}

struct Member {
    connection: Connection,
    request: ConsumerGroupHeartbeatRequest,
    assigned: usize,
}

/// A connection to the coordinator, once there is one.
fn coordinator(group: &str) -> Connection {
    let mut connection = Connection::open(Broker::shared().bootstrap()).expect("a connection");
    let request = FindCoordinatorRequest { coordinator_keys: vec![group.to_owned().into()], ..Default::default() };
    let found = wait::until("a coordinator", LIMIT, || {
        let found = connection.call(4, &request).coordinators.remove(0);
        (found.error_code == 0).then_some(found)
    });
    let mut connection = Connection::open(&format!("{}:{}", found.host, found.port)).expect("a connection");
    let describe = ConsumerGroupDescribeRequest { group_ids: vec![group.to_owned().into()], ..Default::default() };
    // A coordinator that has just begun may still be loading.
    wait::until("the coordinator's load", LIMIT, || {
        let error = connection.call(1, &describe).groups[0].error_code;
        [0, code(ErrorCode::GroupIdNotFound)].contains(&error).then_some(())
    });
    connection
}

impl Member {
    fn new(group: &str, id: &str, topic: &str) -> Member {
        let request = ConsumerGroupHeartbeatRequest {
            group_id: group.to_owned().into(),
            member_id: id.to_owned().into(),
            rebalance_timeout_ms: 60_000,
            subscribed_topic_names: Some(vec![topic.to_owned().into()]),
            topic_partitions: Some(Vec::new()),
            ..Default::default()
        };
        Member { connection: coordinator(group), request, assigned: 0 }
    }

    /// One heartbeat, saying that what was assigned is owned; gives the error.
    fn beat(&mut self) -> i16 {
        let answer = self.connection.call(1, &self.request);
        if answer.error_code == 0 {
            self.request.member_epoch = answer.member_epoch;
            if let Some(assignment) = answer.assignment {
                self.assigned = assignment.topic_partitions.iter().map(|t| t.partitions.len()).sum();
                let topics = assignment.topic_partitions.into_iter();
                let owned = topics.map(|t| ConsumerGroupHeartbeatRequestTopicPartitions {
                    topic_id: t.topic_id,
                    partitions: t.partitions,
                    ..Default::default()
                });
                self.request.topic_partitions = Some(owned.collect());
            }
        }
        answer.error_code
    }

    fn leave(&mut self) -> i16 {
        let request = ConsumerGroupHeartbeatRequest {
            group_id: self.request.group_id.clone(),
            member_id: self.request.member_id.clone(),
            member_epoch: -1,
            ..Default::default()
        };
        self.connection.call(1, &request).error_code
    }

    fn describe(&mut self) -> ConsumerGroupDescribeResponseDescribedGroup {
        let request =
            ConsumerGroupDescribeRequest { group_ids: vec![self.request.group_id.clone()], ..Default::default() };
        self.connection.call(1, &request).groups.remove(0)
    }
}

#[test]
fn two_members_share_a_topic_and_one_takes_over() {
    let (topic, group) = (unique("cg"), unique("cg"));
    create_topic(Broker::shared(), &topic, 6, &[]);
    let (mut a, mut b) = (Member::new(&group, "a", &topic), Member::new(&group, "b", &topic));
    assert_eq!((a.beat(), a.assigned), (0, 6));
    wait::until("three partitions each, and a stable group", LIMIT, || {
        assert_eq!((b.beat(), a.beat()), (0, 0));
        ((a.assigned, b.assigned) == (3, 3) && a.describe().group_state == "Stable").then_some(())
    });
    let described = a.describe();
    assert_eq!((described.members.len(), described.assignor_name.as_str()), (2, "uniform"));
    assert_eq!(described.members[0].assignment.topic_partitions[0].topic_name, topic.as_str());
    assert_eq!(b.leave(), 0);
    wait::until("all partitions at one", LIMIT, || (a.beat() == 0 && a.assigned == 6).then_some(()));
    assert_eq!(b.beat(), code(ErrorCode::UnknownMemberId));
    assert_eq!(a.leave(), 0);
    assert_eq!(a.describe().group_state, "Empty");
}

#[test]
fn a_group_is_of_one_kind_at_a_time() {
    let (topic, group) = (unique("cg"), unique("cg"));
    create_topic(Broker::shared(), &topic, 1, &[]);
    let mut member = Member::new(&group, "a", &topic);
    assert_eq!(member.beat(), 0);
    let join = JoinGroupRequest {
        group_id: Str::from(group.clone()),
        session_timeout_ms: 30_000,
        rebalance_timeout_ms: 30_000,
        protocol_type: "connect".into(),
        protocols: vec![JoinGroupRequestProtocol { name: "range".into(), ..Default::default() }],
        ..Default::default()
    };
    assert_eq!(member.connection.call(9, &join).error_code, code(ErrorCode::InconsistentGroupProtocol));
    assert_eq!(member.leave(), 0);
    let joined: JoinGroupResponse = member.connection.call(9, &join);
    assert_eq!(joined.error_code, code(ErrorCode::MemberIdRequired));
    let described: DescribeGroupsResponse =
        member.connection.call(6, &DescribeGroupsRequest { groups: vec![Str::from(group)], ..Default::default() });
    assert_eq!(described.groups[0].group_state, "Empty");
    assert_eq!(member.describe().error_code, code(ErrorCode::GroupIdNotFound));
}

#[test]
fn what_goes_wrong_has_kafkas_errors() {
    let (topic, group) = (unique("cg"), unique("cg"));
    create_topic(Broker::shared(), &topic, 2, &[]);
    let mut member = Member::new(&group, "a", &topic);
    member.request.member_epoch = 1;
    assert_eq!(member.beat(), code(ErrorCode::GroupIdNotFound));
    member.request.member_epoch = 0;
    member.request.server_assignor = Some("sticky".into());
    assert_eq!(member.beat(), code(ErrorCode::UnsupportedAssignor));
    member.request.server_assignor = None;
    member.request.subscribed_topic_regex = Some("a(".into());
    assert_eq!(member.beat(), code(ErrorCode::InvalidRegularExpression));
    member.request.subscribed_topic_regex = None;
    assert_eq!(member.beat(), 0);
    let commit = |epoch| OffsetCommitRequest {
        group_id: member.request.group_id.clone(),
        generation_id_or_member_epoch: epoch,
        member_id: "a".into(),
        topics: vec![OffsetCommitRequestTopic {
            name: topic.clone().into(),
            partitions: vec![OffsetCommitRequestPartition::default()],
            ..Default::default()
        }],
        ..Default::default()
    };
    let (good, bad) = (commit(member.request.member_epoch), commit(member.request.member_epoch + 1));
    assert_eq!(member.connection.call(9, &good).topics[0].partitions[0].error_code, 0);
    let stale = member.connection.call(9, &bad).topics[0].partitions[0].error_code;
    assert_eq!(stale, code(ErrorCode::StaleMemberEpoch));
    assert_eq!(
        member.connection.call(8, &good).topics[0].partitions[0].error_code,
        code(ErrorCode::UnsupportedVersion)
    );
    member.request.member_epoch += 1;
    assert_eq!(member.beat(), code(ErrorCode::FencedMemberEpoch));
}
