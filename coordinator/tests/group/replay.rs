use crate::harness::errors::*;
use bytes::Bytes;
use corelane_coordinator::group::{GroupConfig, GroupCoordinator, Replayed};
use corelane_protocol::record_frame::{CoordinatorKey, decode_versioned, encode_versioned};
use corelane_protocol::records::group::*;
use corelane_protocol::{Decoder, Message, Str, Uuid};

use crate::harness::{Harness, client, code, topic_id};

#[test]
fn a_stable_group_goes_on_after_a_restart() {
    let mut harness = Harness::default();
    let mut members = [client("g"), client("g").named("i")];
    harness.stabilize(&mut members);
    harness.commit(&members[0], &members[0].commit_request("orders", 0, 5));
    let before = harness.describe("g");
    harness.advance(9_999);
    harness.restart();
    assert_eq!(harness.describe("g"), before);
    harness.advance(9_999);
    for member in &members {
        assert_eq!(harness.heartbeat(member), 0, "a whole session began with the restart");
        let ticket = harness.sync(member, &[]);
        assert_eq!(harness.expect(ticket).assignment, member.member_id.as_bytes());
    }
    assert_eq!(harness.committed("g", "orders", 0), 5);
    assert_eq!(harness.commit_error(&members[0], &members[0].commit_request("orders", 0, 6)), 0);
    // The leader is still the leader.
    let ticket = harness.join(&members[0]);
    assert!(!harness.has_answer(&ticket));
}

#[test]
fn members_that_did_not_survive_the_restart_are_dropped() {
    let mut harness = Harness::default();
    let mut members = [client("g")];
    harness.stabilize(&mut members);
    harness.restart();
    harness.advance(10_000);
    assert_eq!(harness.state("g"), "Empty");
    harness.restart();
    assert_eq!(harness.state("g"), "Empty");
    assert_eq!(harness.describe("g").protocol_type, "consumer");
}

#[test]
fn an_unfinished_rebalance_is_begun_again_after_a_restart() {
    let mut harness = Harness::default();
    let mut members = [client("g"), client("g")];
    harness.stabilize(&mut members);
    let waiting = harness.join(&members[0]);
    harness.restart();
    assert_eq!(harness.expect(waiting).error_code, code(NotCoordinator));
    assert_eq!(harness.state("g"), "Stable", "what is stored is the generation before");
    assert_eq!(harness.heartbeat(&members[1]), 0);
    let leader = harness.join(&members[0]);
    let follower = harness.join(&members[1]);
    assert_eq!(harness.expect(leader).generation_id, 2);
    harness.expect(follower);
}

#[test]
fn a_group_that_is_over_a_lowered_limit_rebalances_when_it_is_loaded() {
    let mut harness = Harness::default();
    let mut members = [client("g"), client("g"), client("g")];
    harness.stabilize(&mut members);
    harness.config.max_size = 2;
    harness.restart();
    assert_eq!(harness.state("g"), "PreparingRebalance");
    let tickets = [harness.join(&members[0]), harness.join(&members[1])];
    let ticket = harness.join(&members[2]);
    assert_eq!(harness.expect(ticket).error_code, code(GroupMaxSizeReached));
    harness.advance(60_000);
    for ticket in tickets {
        assert_eq!(harness.expect(ticket).generation_id, 2);
    }
}

#[test]
fn records_are_in_kafkas_schemas_and_versions() {
    let mut harness = Harness::default();
    let mut members = [client("g").named("i")];
    harness.stabilize(&mut members);
    harness.commit(&members[0], &members[0].commit_request("orders", 4, 5));
    let mut old = members[0].commit_request("orders", 5, 6);
    old.retention_time_ms = 1_000;
    harness.commit(&members[0], &old);
    harness.delete_offsets("g", "payments", 0);
    let [created, generation, offset, expiring] = &harness.log[..] else { panic!("{:?}", harness.log) };

    let key = GroupMetadataKey { group: Str::from("g") }.to_key_bytes().unwrap();
    assert_eq!((&created.key, &generation.key), (&key, &key));
    let (value, version) = decode_versioned::<GroupMetadataValue>(created.value.clone().unwrap()).unwrap();
    assert_eq!((version, value.generation, value.protocol, value.leader), (3, 0, None, None));
    assert_eq!(value.current_state_timestamp, 1_700_000_000_000);

    let (value, version) = decode_versioned::<GroupMetadataValue>(generation.value.clone().unwrap()).unwrap();
    assert_eq!((version, value.generation, value.protocol_type.as_str()), (3, 1, "consumer"));
    assert_eq!(value.protocol.as_deref(), Some("range"));
    assert_eq!(value.leader, Some(members[0].member_id.clone()));
    assert_eq!(value.current_state_timestamp, 1_700_000_003_000);
    let member = &value.members[0];
    assert_eq!(member.member_id, members[0].member_id);
    assert_eq!(member.group_instance_id.as_deref(), Some("i"));
    assert_eq!((member.client_id.as_str(), member.client_host.as_str()), ("app", "/127.0.0.1"));
    assert_eq!((member.rebalance_timeout, member.session_timeout), (60_000, 10_000));
    assert_eq!(member.subscription, members[0].protocols[0].1);
    assert_eq!(member.assignment, members[0].member_id.as_bytes());

    let mut key = Decoder::new(offset.key.clone());
    assert_eq!(key.i16().unwrap(), 1);
    let key = OffsetCommitKey::decode(&mut key, 0).unwrap();
    assert_eq!((key.group.as_str(), key.topic.as_str(), key.partition), ("g", "orders", 4));
    let (value, version) = decode_versioned::<OffsetCommitValue>(offset.value.clone().unwrap()).unwrap();
    assert_eq!((version, value.offset, value.leader_epoch, value.metadata.as_str()), (4, 5, 3, "note"));
    assert_eq!((value.commit_timestamp, value.topic_id), (1_700_000_003_000, topic_id("orders")));

    let (value, version) = decode_versioned::<OffsetCommitValue>(expiring.value.clone().unwrap()).unwrap();
    assert_eq!((version, value.offset, value.expire_timestamp), (1, 6, 1_700_000_004_000));
}

#[test]
fn records_of_every_older_version_can_be_read() {
    let harness = Harness::default();
    let mut machine = GroupCoordinator::new(GroupConfig::default());
    for version in 0..=4 {
        let group = Str::from(format!("g{version}"));
        let value = GroupMetadataValue {
            protocol_type: Str::from("consumer"),
            generation: 9,
            protocol: Some(Str::from("range")),
            leader: Some(Str::from("m")),
            members: vec![GroupMetadataValueMemberMetadata {
                member_id: Str::from("m"),
                session_timeout: 10_000,
                subscription: crate::harness::subscription(&["orders"]),
                ..Default::default()
            }],
            ..Default::default()
        };
        let key = GroupMetadataKey { group: group.clone() }.to_key_bytes().unwrap();
        let value = encode_versioned(&value, version).unwrap();
        assert_eq!(machine.replay(harness.now, key, Some(value), None).unwrap(), Replayed::Applied);
        let key = OffsetCommitKey { group, topic: Str::from("orders"), partition: 0 }.to_key_bytes().unwrap();
        let value = OffsetCommitValue { offset: 5, metadata: Str::EMPTY, ..Default::default() };
        let value = encode_versioned(&value, version).unwrap();
        machine.replay(harness.now, key, Some(value), None).unwrap();
    }
    let legacy = LegacyOffsetCommitKey { group: Str::from("legacy"), topic: Str::from("orders"), partition: 1 };
    let value = LegacyOffsetCommitValue { offset: 6, ..Default::default() };
    let value = encode_versioned(&value, 0).unwrap();
    machine.replay(harness.now, legacy.to_key_bytes().unwrap(), Some(value), None).unwrap();
    let counts = machine.counts();
    assert_eq!((counts.stable, counts.members, counts.empty, counts.offsets), (5, 5, 1, 6));
    machine.finish_loading(harness.now);
    assert_eq!(machine.next_deadline(), Some(harness.now.mono_ms + 10_000));
}

#[test]
fn records_of_a_newer_kafka_are_skipped_and_broken_ones_refused() {
    let now = Harness::default().now;
    let mut machine = GroupCoordinator::new(GroupConfig::default());
    assert_eq!(machine.replay(now, Bytes::from_static(&[0, 99]), None, None), Ok(Replayed::Skipped(99)));
    let key = GroupMetadataKey { group: Str::from("g") }.to_key_bytes().unwrap();
    for bytes in [&[][..], &[0], &[0, 9], &[0, 3, 0]] {
        assert!(machine.replay(now, key.clone(), Some(Bytes::from_static(bytes)), None).is_err());
    }
    for bytes in [&[][..], &[0], &[0, 1], &[0, 2, 0, 5]] {
        assert!(machine.replay(now, Bytes::from_static(bytes), None, None).is_err());
    }
    assert_eq!(machine.counts(), Default::default());
}

#[test]
fn a_tombstone_for_what_is_not_there_changes_nothing() {
    let now = Harness::default().now;
    let mut machine = GroupCoordinator::new(GroupConfig::default());
    let offset = OffsetCommitKey { group: Str::from("g"), topic: Str::from("t"), partition: 0 };
    machine.replay(now, offset.to_key_bytes().unwrap(), None, None).unwrap();
    machine.replay(now, GroupMetadataKey { group: Str::from("g") }.to_key_bytes().unwrap(), None, None).unwrap();
    assert_eq!(machine.counts(), Default::default());
}

#[test]
fn memory_is_not_held_by_the_frames_that_names_came_in() {
    let mut harness = Harness::default();
    let frame = Bytes::from(vec![b'x'; 1 << 20]);
    let mut consumer = client("g");
    consumer.protocols[0].1 = frame.slice(..64);
    let ticket = harness.join_new(&mut consumer);
    assert!(ticket.token().is_some());
    drop(consumer);
    let request = {
        let alone = client("alone");
        let mut request = alone.commit_request("orders", 0, 1);
        request.topics[0].name = Str::from_utf8(frame.slice(64..96)).unwrap();
        request.topics[0].topic_id = Uuid::ZERO;
        request.topics[0].partitions[0].committed_metadata = Some(Str::from_utf8(frame.slice(96..128)).unwrap());
        harness.commit(&alone, &request);
        request
    };
    drop(request);
    harness.answers.clear();
    harness.log.clear();
    assert!(frame.is_unique(), "nothing in the machine refers to the frame");
}
