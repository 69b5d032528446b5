//! The classic group protocol as a client sees it on the wire: who is refused, and how.

use bytes::Bytes;
use corelane_protocol::Str;
use corelane_protocol::messages::{
    FindCoordinatorRequest, HeartbeatRequest, JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse,
    LeaveGroupRequest, LeaveGroupRequestMemberIdentity, OffsetCommitRequest, OffsetCommitRequestPartition,
    OffsetCommitRequestTopic, OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopics, SyncGroupRequest,
    SyncGroupRequestAssignment,
};
use corelane_tests::broker::Broker;
use corelane_tests::connection::Connection;
use corelane_tests::librdkafka::{create_topic, unique};
use corelane_tests::wait;
use std::time::Duration;

const NONE: i16 = 0;
const OFFSET_METADATA_TOO_LARGE: i16 = 12;
const ILLEGAL_GENERATION: i16 = 22;
const INCONSISTENT_GROUP_PROTOCOL: i16 = 23;
const INVALID_GROUP_ID: i16 = 24;
const UNKNOWN_MEMBER_ID: i16 = 25;
const INVALID_SESSION_TIMEOUT: i16 = 26;
const REBALANCE_IN_PROGRESS: i16 = 27;
const MEMBER_ID_REQUIRED: i16 = 79;
const FENCED_INSTANCE_ID: i16 = 82;

/// A group of the test's own and a connection to its coordinator.
struct Group {
    id: Str,
    connection: Connection,
}

impl Group {
    fn new(name: &str) -> Group {
        let id = unique(name);
        Group { connection: coordinator(&id), id: id.into() }
    }

    fn join_request(&self) -> JoinGroupRequest {
        JoinGroupRequest {
            group_id: self.id.clone(),
            session_timeout_ms: 30_000,
            rebalance_timeout_ms: 30_000,
            protocol_type: "consumer".into(),
            protocols: vec![JoinGroupRequestProtocol {
                name: "range".into(),
                // a subscription of version 0: no topics, no user data
                metadata: Bytes::from_static(&[0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]),
                ..Default::default()
            }],
            ..Default::default()
        }
    }

    fn join(&mut self, change: impl FnOnce(&mut JoinGroupRequest)) -> JoinGroupResponse {
        let mut request = self.join_request();
        change(&mut request);
        self.connection.call(9, &request)
    }

    /// A member that leads a group of one, in a stable generation.
    fn lead(&mut self) -> (Str, i32) {
        let member = self.join(|_| ()).member_id;
        let joined = self.join(|r| r.member_id = member.clone());
        assert_eq!((joined.error_code, &joined.leader), (NONE, &member));
        assert_eq!(self.sync(&member, joined.generation_id), (NONE, Bytes::from_static(b"yours")));
        (member, joined.generation_id)
    }

    fn sync(&mut self, member: &Str, generation_id: i32) -> (i16, Bytes) {
        let assignment = Bytes::from_static(b"yours");
        let assignments =
            vec![SyncGroupRequestAssignment { member_id: member.clone(), assignment, ..Default::default() }];
        let answer = self.connection.call(
            5,
            &SyncGroupRequest {
                group_id: self.id.clone(),
                generation_id,
                member_id: member.clone(),
                protocol_type: Some("consumer".into()),
                protocol_name: Some("range".into()),
                assignments,
                ..Default::default()
            },
        );
        (answer.error_code, answer.assignment)
    }

    fn heartbeat(&mut self, member: &str, generation_id: i32) -> i16 {
        let (group_id, member_id) = (self.id.clone(), Str::from(member.to_owned()));
        self.connection
            .call(4, &HeartbeatRequest { group_id, generation_id, member_id, ..Default::default() })
            .error_code
    }

    fn commit(&mut self, topic: &str, member: &str, generation: i32, metadata: &str) -> i16 {
        let partition = OffsetCommitRequestPartition {
            partition_index: 0,
            committed_offset: 7,
            committed_metadata: Some(Str::from(metadata.to_owned())),
            ..Default::default()
        };
        let name = Str::from(topic.to_owned());
        let topics = vec![OffsetCommitRequestTopic { name, partitions: vec![partition], ..Default::default() }];
        let request = OffsetCommitRequest {
            group_id: self.id.clone(),
            generation_id_or_member_epoch: generation,
            member_id: Str::from(member.to_owned()),
            topics,
            ..Default::default()
        };
        self.connection.call(8, &request).topics[0].partitions[0].error_code
    }

    /// Committed offset, metadata and error.
    fn committed(&mut self, topic: &str) -> (i64, String, i16) {
        let topics = vec![OffsetFetchRequestTopics {
            name: Str::from(topic.to_owned()),
            partition_indexes: vec![0],
            ..Default::default()
        }];
        let group = OffsetFetchRequestGroup { group_id: self.id.clone(), topics: Some(topics), ..Default::default() };
        let answer = self.connection.call(8, &OffsetFetchRequest { groups: vec![group], ..Default::default() });
        assert_eq!(answer.groups[0].error_code, NONE);
        let found = &answer.groups[0].topics[0].partitions[0];
        let metadata = found.metadata.as_ref().map(ToString::to_string).unwrap_or_default();
        (found.committed_offset, metadata, found.error_code)
    }
}

fn coordinator(group: &str) -> Connection {
    let mut connection = Connection::open(Broker::shared().bootstrap()).expect("a connection");
    let find = FindCoordinatorRequest { key: Str::from(group.to_owned()), ..Default::default() };
    let found = wait::until("the coordinator", Duration::from_secs(30), || {
        let found = connection.call(3, &find);
        (found.error_code == NONE).then_some(found)
    });
    let mut connection = Connection::open(&format!("{}:{}", found.host, found.port)).expect("the coordinator");
    // A coordinator that has just begun may still be loading.
    wait::until("the coordinator's load", Duration::from_secs(30), || {
        let beat =
            HeartbeatRequest { group_id: Str::from(group.to_owned()), member_id: "m".into(), ..Default::default() };
        (connection.call(4, &beat).error_code == UNKNOWN_MEMBER_ID).then_some(())
    });
    connection
}

#[test]
fn member_without_an_id_is_given_one_and_must_come_back_with_it() {
    let mut group = Group::new("member-id");
    let first = group.join(|_| ());
    assert_eq!((first.error_code, first.generation_id), (MEMBER_ID_REQUIRED, -1));
    assert!(!first.member_id.is_empty());
    let joined = group.join(|r| r.member_id = first.member_id.clone());
    assert_eq!((joined.error_code, joined.generation_id, &joined.leader), (NONE, 1, &first.member_id));
    assert_eq!(joined.members.len(), 1);
    let mut old = Group::new("member-id-v3");
    let request = old.join_request();
    let joined = old.connection.call(3, &request);
    assert_eq!(joined.error_code, NONE, "below version 4 a member is taken in at once");
}

#[test]
fn joins_that_are_refused() {
    let mut group = Group::new("refused-joins");
    assert_eq!(group.join(|r| r.group_id = "".into()).error_code, INVALID_GROUP_ID);
    assert_eq!(group.join(|r| r.session_timeout_ms = 1).error_code, INVALID_SESSION_TIMEOUT);
    assert_eq!(group.join(|r| r.session_timeout_ms = 4_000_000).error_code, INVALID_SESSION_TIMEOUT);
    assert_eq!(group.join(|r| r.member_id = "nobody".into()).error_code, UNKNOWN_MEMBER_ID);
    assert_eq!(group.join(|r| r.protocols.clear()).error_code, INCONSISTENT_GROUP_PROTOCOL);
    assert_eq!(group.join(|r| r.protocol_type = "".into()).error_code, INCONSISTENT_GROUP_PROTOCOL);
    group.lead();
    assert_eq!(group.join(|r| r.protocol_type = "connect".into()).error_code, INCONSISTENT_GROUP_PROTOCOL);
    assert_eq!(group.join(|r| r.protocols[0].name = "another".into()).error_code, INCONSISTENT_GROUP_PROTOCOL);
}

#[test]
fn sync_and_heartbeat_of_the_wrong_member_or_generation() {
    let mut group = Group::new("wrong");
    let (member, generation) = group.lead();
    assert_eq!(group.heartbeat(&member, generation), NONE);
    assert_eq!(group.heartbeat("nobody", generation), UNKNOWN_MEMBER_ID);
    assert_eq!(group.heartbeat(&member, generation + 1), ILLEGAL_GENERATION);
    assert_eq!(group.sync(&member, generation), (NONE, Bytes::from_static(b"yours")), "the same assignment again");
    assert_eq!(group.sync(&member, generation + 1).0, ILLEGAL_GENERATION);
    assert_eq!(group.sync(&"nobody".into(), generation).0, UNKNOWN_MEMBER_ID);
    let wrong = SyncGroupRequest {
        group_id: group.id.clone(),
        generation_id: generation,
        member_id: member.clone(),
        protocol_type: Some("consumer".into()),
        protocol_name: Some("another".into()),
        ..Default::default()
    };
    assert_eq!(group.connection.call(5, &wrong).error_code, INCONSISTENT_GROUP_PROTOCOL);
    // A second member comes: the first must join again.
    let mut other = Group { id: group.id.clone(), connection: coordinator(&group.id) };
    let second = other.join(|_| ()).member_id;
    let mut request = other.join_request();
    request.member_id = second.clone();
    let waiting = other.connection.send(9, &request).expect("send");
    wait::until("the rebalance", Duration::from_secs(30), || {
        (group.heartbeat(&member, generation) == REBALANCE_IN_PROGRESS).then_some(())
    });
    assert_eq!(group.sync(&member, generation).0, REBALANCE_IN_PROGRESS);
    let joined = group.join(|r| r.member_id = member.clone());
    assert_eq!((joined.error_code, joined.generation_id, joined.members.len()), (NONE, generation + 1, 2));
    let follower = other.connection.receive::<JoinGroupRequest>(9, waiting).expect("the second member");
    assert_eq!((follower.error_code, follower.members.len(), &follower.leader), (NONE, 0, &joined.leader));
    assert_eq!(group.heartbeat(&member, generation), ILLEGAL_GENERATION, "the old generation");
}

#[test]
fn static_member_is_replaced_by_its_next_life() {
    let mut group = Group::new("static");
    let first = group.join(|r| r.group_instance_id = Some("machine".into()));
    assert_eq!(first.error_code, NONE, "a static member is taken in at once");
    assert_eq!(group.sync(&first.member_id, first.generation_id).0, NONE);
    let second = group.join(|r| r.group_instance_id = Some("machine".into()));
    assert_eq!((second.error_code, second.generation_id), (NONE, first.generation_id), "without a rebalance");
    assert_ne!(second.member_id, first.member_id);
    let beat = HeartbeatRequest {
        group_id: group.id.clone(),
        generation_id: first.generation_id,
        member_id: first.member_id.clone(),
        group_instance_id: Some("machine".into()),
        ..Default::default()
    };
    assert_eq!(group.connection.call(4, &beat).error_code, FENCED_INSTANCE_ID);
    let leave = LeaveGroupRequest {
        group_id: group.id.clone(),
        members: vec![LeaveGroupRequestMemberIdentity {
            group_instance_id: Some("machine".into()),
            member_id: second.member_id.clone(),
            ..Default::default()
        }],
        ..Default::default()
    };
    let left = group.connection.call(5, &leave);
    assert_eq!((left.error_code, left.members[0].error_code), (NONE, NONE));
    assert_eq!(group.heartbeat(&second.member_id, second.generation_id), UNKNOWN_MEMBER_ID);
}

#[test]
fn commits_of_members_of_strangers_and_of_nobody() {
    let topic = unique("commits");
    create_topic(Broker::shared(), &topic, 1, &[]);
    let mut group = Group::new("commits");
    assert_eq!(group.committed(&topic), (-1, String::new(), NONE), "a group that is not there");
    assert_eq!(group.commit(&topic, "", -1, "before anybody"), NONE);
    assert_eq!(group.committed(&topic), (7, "before anybody".to_owned(), NONE));
    let (member, generation) = group.lead();
    assert_eq!(group.commit(&topic, "", -1, ""), UNKNOWN_MEMBER_ID, "the group has members");
    assert_eq!(group.commit(&topic, "nobody", generation, ""), UNKNOWN_MEMBER_ID);
    assert_eq!(group.commit(&topic, &member, generation + 1, ""), ILLEGAL_GENERATION);
    assert_eq!(group.commit(&topic, &member, generation, &"m".repeat(4097)), OFFSET_METADATA_TOO_LARGE);
    assert_eq!(group.commit(&topic, &member, generation, &"m".repeat(4096)), NONE);
    assert_eq!(group.committed(&topic), (7, "m".repeat(4096), NONE));
    let joined = group.join(|r| r.member_id = member.clone());
    assert_eq!(joined.error_code, NONE);
    assert_eq!(group.commit(&topic, &member, joined.generation_id, ""), REBALANCE_IN_PROGRESS, "not yet assigned");
}
