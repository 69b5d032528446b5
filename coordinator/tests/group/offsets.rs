use crate::harness::errors::*;
use corelane_coordinator::group::{GroupConfig, fetch_response, fetched_groups};
use corelane_protocol::messages::{OffsetFetchRequest, OffsetFetchRequestTopic};
use corelane_protocol::{Message, Str, Uuid};

use crate::harness::{Harness, client, code, subscription, topic_id};

#[test]
fn a_member_commits_and_anyone_can_fetch() {
    let mut harness = Harness::default();
    let mut members = [client("g")];
    harness.stabilize(&mut members);
    assert_eq!(harness.commit_error(&members[0], &members[0].commit_request("orders", 2, 42)), 0);
    let ticket = harness.fetch("g", Some(&[("orders", &[1, 2])]));
    let response = harness.expect(ticket);
    assert_eq!(response.group_id, "g");
    assert_eq!(response.topics[0].topic_id, topic_id("orders"));
    let partitions = &response.topics[0].partitions;
    assert_eq!((partitions[0].committed_offset, partitions[0].committed_leader_epoch), (-1, -1));
    assert_eq!(partitions[0].metadata.as_deref(), Some(""));
    assert_eq!((partitions[1].committed_offset, partitions[1].committed_leader_epoch), (42, 3));
    assert_eq!(partitions[1].metadata.as_deref(), Some("note"));
}

#[test]
fn all_offsets_of_a_group_come_without_a_list_of_topics() {
    let mut harness = Harness::default();
    let alone = client("g");
    for (topic, partition, offset) in [("orders", 0, 1), ("orders", 7, 2), ("payments", 1, 3)] {
        assert_eq!(harness.commit_error(&alone, &alone.commit_request(topic, partition, offset)), 0);
    }
    let ticket = harness.fetch("g", None);
    let response = harness.expect(ticket);
    let all: Vec<(&str, i32, i64)> = response
        .topics
        .iter()
        .flat_map(|topic| topic.partitions.iter().map(|p| (topic.name.as_str(), p.partition_index, p.committed_offset)))
        .collect();
    assert_eq!(all, [("orders", 0, 1), ("orders", 7, 2), ("payments", 1, 3)]);
    let ticket = harness.fetch("g", Some(&[]));
    assert!(harness.expect(ticket).topics.is_empty(), "an empty list asks for nothing");
}

#[test]
fn an_unknown_group_has_no_offsets_and_that_is_no_error() {
    let mut harness = Harness::default();
    assert_eq!(harness.committed("other", "orders", 0), -1);
    let ticket = harness.fetch("other", None);
    let response = harness.expect(ticket);
    assert_eq!((response.error_code, response.topics.len()), (0, 0));
}

#[test]
fn a_commit_without_a_group_makes_one() {
    let mut harness = Harness::default();
    let alone = client("g");
    assert_eq!(harness.commit_error(&alone, &alone.commit_request("orders", 0, 5)), 0);
    let described = harness.describe("g");
    assert_eq!((described.group_state.as_str(), described.protocol_type.as_str()), ("Empty", ""));
    assert_eq!(harness.log.len(), 1, "the offset alone is in the log");
    // The empty id is such a group too.
    let nameless = client("");
    assert_eq!(harness.commit_error(&nameless, &nameless.commit_request("orders", 0, 6)), 0);
    assert_eq!(harness.committed("", "orders", 0), 6);
}

#[test]
fn a_commit_of_a_generation_needs_its_group() {
    let mut harness = Harness::default();
    let mut lost = client("g");
    lost.generation = 3;
    assert_eq!(harness.commit_error(&lost, &lost.commit_request("orders", 0, 5)), code(GroupIdNotFound));
    lost.version = 8;
    assert_eq!(harness.commit_error(&lost, &lost.commit_request("orders", 0, 5)), code(IllegalGeneration));
    assert_eq!(harness.state("g"), "Dead");
}

#[test]
fn a_commit_must_fit_the_generation() {
    let mut harness = Harness::default();
    let mut members = [client("g")];
    harness.stabilize(&mut members);
    let commit = |change: fn(&mut crate::harness::Client)| {
        let mut client = members[0].clone();
        change(&mut client);
        client
    };
    let cases = [
        (commit(|_| {}), None),
        (commit(|client| client.generation = -1), Some(IllegalGeneration)),
        (commit(|client| client.generation = 7), Some(IllegalGeneration)),
        (commit(|client| client.member_id = Str::from("stranger")), Some(UnknownMemberId)),
        (commit(|client| client.instance_id = Some(Str::from("i"))), Some(UnknownMemberId)),
        (
            commit(|client| {
                client.generation = -1;
                client.member_id = Str::EMPTY;
            }),
            Some(UnknownMemberId),
        ),
    ];
    for (client, error) in cases {
        let request = client.commit_request("orders", 0, 1);
        assert_eq!(harness.commit_error(&client, &request), error.map_or(0, code), "{client:?}");
    }
}

#[test]
fn a_commit_between_join_and_sync_is_too_early() {
    let mut harness = Harness::default();
    let mut members = [client("g")];
    let ticket = harness.join_new(&mut members[0]);
    harness.advance(3_000);
    let response = harness.expect(ticket);
    members[0].joined(&response);
    let request = members[0].commit_request("orders", 0, 1);
    assert_eq!(harness.commit_error(&members[0], &request), code(RebalanceInProgress));
}

#[test]
fn a_member_may_commit_while_the_others_rejoin_and_lives_by_it() {
    let mut harness = Harness::default();
    let mut members = [client("g"), client("g")];
    harness.stabilize(&mut members);
    let waiting = harness.join(&members[0]);
    for second in 0..3 {
        harness.advance(9_000);
        assert_eq!(harness.commit_error(&members[1], &members[1].commit_request("orders", 0, second)), 0);
    }
    assert!(!harness.has_answer(&waiting));
    let second = harness.join(&members[1]);
    assert_eq!(harness.expect(waiting).members.len(), 2);
    harness.expect(second);
}

#[test]
fn an_empty_group_takes_commits_of_no_generation_only() {
    let mut harness = Harness::default();
    let mut members = [client("g")];
    harness.stabilize(&mut members);
    let member = members[0].clone();
    harness.leave(&member, &[(&member.member_id, None)]);
    let alone = client("g");
    assert_eq!(harness.commit_error(&alone, &alone.commit_request("orders", 0, 9)), 0);
    assert_eq!(harness.commit_error(&member, &member.commit_request("orders", 0, 10)), code(UnknownMemberId));
    assert_eq!(harness.committed("g", "orders", 0), 9);
}

#[test]
fn metadata_is_bounded_in_characters_as_java_counts_them() {
    let mut harness = Harness::new(GroupConfig { offset_metadata_max_bytes: 4, ..Default::default() });
    let alone = client("g");
    let with = |text: &'static str| {
        let mut request = alone.commit_request("orders", 0, 1);
        request.topics[0].partitions[0].committed_metadata = Some(Str::from(text));
        request
    };
    let cases = [
        ("abcd", 0),
        ("abcde", code(OffsetMetadataTooLarge)),
        ("äöüß", 0),
        ("𝄞𝄞", 0),
        ("𝄞𝄞a", code(OffsetMetadataTooLarge)),
    ];
    for (text, error) in cases {
        assert_eq!(harness.commit_error(&alone, &with(text)), error, "{text}");
    }
    let mut request = with("abcd");
    request.topics[0].partitions[0].committed_metadata = None;
    assert_eq!(harness.commit_error(&alone, &request), 0, "no metadata is empty metadata");
    let ticket = harness.fetch("g", Some(&[("orders", &[0])]));
    assert_eq!(harness.expect(ticket).topics[0].partitions[0].metadata.as_deref(), Some(""));
}

#[test]
fn one_partition_too_large_does_not_keep_back_the_others() {
    let mut harness = Harness::default();
    let alone = client("g");
    let mut request = alone.commit_request("orders", 0, 1);
    let mut second = request.topics[0].partitions[0].clone();
    second.partition_index = 1;
    second.committed_metadata = Some(Str::from("x".repeat(4_097)));
    request.topics[0].partitions.push(second);
    let ticket = harness.commit(&alone, &request);
    let response = harness.expect(ticket);
    let errors: Vec<i16> = response.topics[0].partitions.iter().map(|p| p.error_code).collect();
    assert_eq!(errors, [0, code(OffsetMetadataTooLarge)]);
    assert_eq!((harness.committed("g", "orders", 0), harness.committed("g", "orders", 1)), (1, -1));
}

#[test]
fn an_offset_of_a_deleted_topic_is_none_of_its_namesakes() {
    let mut harness = Harness::default();
    let alone = client("g");
    let mut request = alone.commit_request("orders", 0, 77);
    request.topics[0].topic_id = Uuid::from_u128(999);
    assert_eq!(harness.commit_error(&alone, &request), 0);
    assert_eq!(harness.committed("g", "orders", 0), -1);
    request.topics[0].topic_id = Uuid::ZERO;
    assert_eq!(harness.commit_error(&alone, &request), 0);
    assert_eq!(harness.committed("g", "orders", 0), 77, "an id that is not known fits any");
}

#[test]
fn a_fetch_waits_for_commits_under_way() {
    let mut harness = Harness::default();
    let alone = client("g");
    harness.commit(&alone, &alone.commit_request("orders", 0, 1));
    harness.hold_writes = true;
    let commit = harness.commit(&alone, &alone.commit_request("orders", 0, 2));
    let fetch = harness.fetch("g", None);
    assert!(!harness.has_answer(&commit));
    assert!(!harness.has_answer(&fetch));
    let other = harness.fetch("other", None);
    assert!(harness.has_answer(&other));
    harness.complete_writes();
    assert_eq!(harness.expect(commit).topics[0].partitions[0].error_code, 0);
    assert_eq!(harness.expect(fetch).topics[0].partitions[0].committed_offset, 2);
}

#[test]
fn offsets_are_deleted_unless_a_member_reads_the_topic() {
    let mut harness = Harness::default();
    let mut members = [client("g")];
    harness.stabilize(&mut members);
    for topic in ["orders", "payments"] {
        assert_eq!(harness.commit_error(&members[0], &members[0].commit_request(topic, 0, 5)), 0);
    }
    let ticket = harness.delete_offsets("g", "orders", 0);
    let response = harness.expect(ticket);
    assert_eq!((response.error_code, response.topics[0].partitions[0].error_code), (0, code(GroupSubscribedToTopic)));
    let ticket = harness.delete_offsets("g", "payments", 0);
    assert_eq!(harness.expect(ticket).topics[0].partitions[0].error_code, 0);
    let ticket = harness.delete_offsets("g", "payments", 1);
    assert_eq!(harness.expect(ticket).topics[0].partitions[0].error_code, 0, "there was none, which is fine");
    assert_eq!((harness.committed("g", "orders", 0), harness.committed("g", "payments", 0)), (5, -1));
    harness.restart();
    assert_eq!((harness.committed("g", "orders", 0), harness.committed("g", "payments", 0)), (5, -1));
}

#[test]
fn offsets_cannot_be_deleted_when_it_cannot_be_told_who_reads_them() {
    let mut harness = Harness::default();
    let ticket = harness.delete_offsets("", "orders", 0);
    assert_eq!(harness.expect(ticket).error_code, code(InvalidGroupId));
    let ticket = harness.delete_offsets("other", "orders", 0);
    assert_eq!(harness.expect(ticket).error_code, code(GroupIdNotFound));
    let mut worker = client("connect");
    worker.protocol_type = "connect";
    harness.stabilize(&mut [worker]);
    let ticket = harness.delete_offsets("connect", "orders", 0);
    assert_eq!(harness.expect(ticket).error_code, code(NonEmptyGroup));
    // A subscription that cannot be read may be to anything.
    let mut odd = client("odd");
    odd.protocols[0].1 = subscription(&["orders"]).slice(..5);
    harness.stabilize(&mut [odd]);
    let ticket = harness.delete_offsets("odd", "payments", 0);
    assert_eq!(harness.expect(ticket).topics[0].partitions[0].error_code, code(GroupSubscribedToTopic));
}

#[test]
fn offsets_go_with_their_topic() {
    let mut harness = Harness::default();
    for group in ["a", "b"] {
        let alone = client(group);
        harness.commit(&alone, &alone.commit_request("orders", 0, 1));
        harness.commit(&alone, &alone.commit_request("payments", 0, 2));
    }
    let gone = (Str::from("orders"), topic_id("orders"));
    let namesake = (Str::from("payments"), Uuid::from_u128(1));
    let effects = harness.machine.topics_deleted(harness.now, &[gone, namesake]);
    harness.absorb(effects);
    for group in ["a", "b"] {
        assert_eq!((harness.committed(group, "orders", 0), harness.committed(group, "payments", 0)), (-1, 2));
    }
    harness.restart();
    assert_eq!((harness.committed("a", "orders", 0), harness.committed("b", "payments", 0)), (-1, 2));
}

#[test]
fn every_version_of_a_fetch_has_its_shape() {
    let mut harness = Harness::default();
    let alone = client("g");
    harness.commit(&alone, &alone.commit_request("orders", 0, 5));
    for version in OffsetFetchRequest::MIN_VERSION..=OffsetFetchRequest::MAX_VERSION {
        let mut request = OffsetFetchRequest::default();
        if version < 8 {
            request.group_id = Str::from("g");
            request.topics = Some(vec![OffsetFetchRequestTopic {
                name: Str::from("orders"),
                partition_indexes: vec![0],
                ..Default::default()
            }]);
        } else {
            request.groups =
                fetched_groups(7, &OffsetFetchRequest { group_id: Str::from("g"), topics: None, ..Default::default() });
        }
        let mut groups = Vec::new();
        for group in fetched_groups(version, &request) {
            let outcome = harness.machine.offset_fetch(&group, false);
            match outcome.reply {
                corelane_coordinator::group::Reply::Now(mut group) => {
                    group.topics[0].topic_id = topic_id("orders");
                    groups.push(group);
                }
                later => panic!("{later:?}"),
            }
        }
        let response = fetch_response(version, groups);
        let offset = match version {
            ..8 => response.topics[0].partitions[0].committed_offset,
            _ => response.groups[0].topics[0].partitions[0].committed_offset,
        };
        assert_eq!(offset, 5);
        response.to_bytes(version).unwrap();
    }
}
