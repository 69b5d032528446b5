use corelane_protocol::messages::*;
use corelane_protocol::{ErrorCode, Str};

use crate::harness::{Consumer, GROUP, Harness, consumer, error, topic_id};

fn commit(harness: &mut Harness, version: i16, member: &str, epoch: i32, partition: i32) -> ErrorCode {
    let request = OffsetCommitRequest {
        group_id: Str::from(GROUP),
        generation_id_or_member_epoch: epoch,
        member_id: Str::from(member.to_owned()),
        topics: vec![OffsetCommitRequestTopic {
            name: Str::from("orders"),
            topic_id: topic_id("orders"),
            partitions: vec![OffsetCommitRequestPartition {
                partition_index: partition,
                committed_offset: 5,
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    };
    let context = harness.context(version);
    let outcome = harness.machine.offset_commit(harness.now, &context, &request);
    let ticket = harness.ticket(outcome);
    error(harness.answer(&ticket).unwrap().topics[0].partitions[0].error_code)
}

fn fetch(harness: &mut Harness, member: Option<&str>, epoch: i32) -> ErrorCode {
    let request = OffsetFetchRequestGroup {
        group_id: Str::from(GROUP),
        member_id: member.map(|id| Str::from(id.to_owned())),
        member_epoch: epoch,
        topics: None,
        ..Default::default()
    };
    let outcome = harness.machine.offset_fetch(&request, false);
    let ticket = harness.ticket(outcome);
    error(harness.answer(&ticket).unwrap().error_code)
}

#[test]
fn commits_and_fetches_carry_the_members_epoch() {
    let mut harness = Harness::default();
    harness.topic("orders", 4);
    let mut consumers = vec![consumer("a", &["orders"])];
    harness.settle(&mut consumers);
    let epoch = consumers[0].epoch;
    assert_eq!(commit(&mut harness, 9, "a", epoch, 0), ErrorCode::None);
    assert_eq!(commit(&mut harness, 8, "a", epoch, 0), ErrorCode::UnsupportedVersion);
    assert_eq!(commit(&mut harness, 9, "a", epoch + 1, 0), ErrorCode::StaleMemberEpoch);
    assert_eq!(commit(&mut harness, 9, "b", epoch, 0), ErrorCode::UnknownMemberId);
    assert_eq!(commit(&mut harness, 9, "", -1, 0), ErrorCode::UnknownMemberId);
    assert_eq!(fetch(&mut harness, Some("a"), epoch), ErrorCode::None);
    assert_eq!(fetch(&mut harness, Some("a"), epoch - 1), ErrorCode::StaleMemberEpoch);
    assert_eq!(fetch(&mut harness, Some("b"), epoch), ErrorCode::UnknownMemberId);
    assert_eq!(fetch(&mut harness, None, -1), ErrorCode::None);
}

#[test]
fn a_commit_with_an_older_epoch_counts_for_partitions_that_the_member_had_then() {
    let mut harness = Harness::default();
    harness.topic("orders", 4);
    let mut consumers = vec![consumer("a", &["orders"])];
    harness.settle(&mut consumers);
    let old = consumers[0].epoch;
    consumers.push(consumer("b", &["orders"]));
    harness.settle(&mut consumers);
    assert!(consumers[0].epoch > old);
    let owned = consumers[0].owned.first().unwrap().1;
    let lost = consumers[1].owned.first().unwrap().1;
    assert_eq!(commit(&mut harness, 9, "a", old, owned), ErrorCode::None);
    assert_eq!(commit(&mut harness, 9, "a", old, lost), ErrorCode::StaleMemberEpoch);
}

#[test]
fn offsets_of_what_is_read_stay_and_those_of_an_empty_group_expire() {
    let mut harness = Harness::default();
    harness.topic("orders", 1);
    let mut member = consumer("a", &["orders"]);
    harness.beat(&mut member);
    assert_eq!(commit(&mut harness, 9, "a", member.epoch, 0), ErrorCode::None);
    let day = 24 * 3_600_000;
    for _ in 0..(8 * day / 40_000) {
        harness.advance(40_000);
        harness.beat(&mut member);
    }
    assert_eq!(harness.machine.counts().offsets, 1);
    harness.leave(&Consumer { epoch: member.epoch, ..member.clone() }, -1);
    harness.advance(8 * day);
    assert_eq!(harness.machine.counts().offsets, 0);
    assert_eq!(error(harness.describe().error_code), ErrorCode::GroupIdNotFound);
}
