use corelane_protocol::messages::ConsumerGroupHeartbeatRequest;
use corelane_protocol::{ErrorCode, Str};

use crate::harness::{Consumer, Harness, consumer, error};

fn group(members: usize, partitions: i32) -> (Harness, Vec<Consumer>) {
    let mut harness = Harness::default();
    harness.topic("orders", partitions);
    let mut consumers: Vec<Consumer> = (0..members).map(|n| consumer(&format!("m{n}"), &["orders"])).collect();
    harness.settle(&mut consumers);
    (harness, consumers)
}

#[test]
fn a_first_member_gets_everything_at_once() {
    let mut harness = Harness::default();
    harness.topic("orders", 3);
    let response = harness.call(1, &consumer("m", &["orders"]).request());
    assert_eq!((response.error_code, response.member_epoch, response.heartbeat_interval_ms), (0, 2, 5_000));
    let assignment = response.assignment.unwrap();
    assert_eq!(assignment.topic_partitions[0].partitions, [0, 1, 2]);
    let described = harness.describe();
    assert_eq!((described.group_state.as_str(), described.group_epoch, described.assignment_epoch), ("Stable", 2, 2));
    assert_eq!(described.assignor_name, "uniform");
}

#[test]
fn a_member_hears_of_its_assignment_when_it_changes_or_when_it_says_everything() {
    let (mut harness, mut consumers) = group(1, 3);
    let quiet = ConsumerGroupHeartbeatRequest { topic_partitions: None, ..consumers[0].request() };
    assert_eq!(harness.call(1, &quiet).assignment, None);
    let full = ConsumerGroupHeartbeatRequest {
        rebalance_timeout_ms: 60_000,
        subscribed_topic_names: consumers[0].topics.clone(),
        ..consumers[0].request()
    };
    assert!(harness.call(1, &full).assignment.is_some());
    harness.topic("orders", 4);
    assert_eq!(harness.beat(&mut consumers[0]), ErrorCode::None);
    assert_eq!(consumers[0].owned.len(), 4);
}

#[test]
fn wrong_requests_are_refused_before_anything_changes() {
    let mut harness = Harness::default();
    let good = consumer("m", &["orders"]).request();
    let text = |text: &'static str| Str::from(text);
    let cases = [
        (ConsumerGroupHeartbeatRequest { member_id: Str::EMPTY, ..good.clone() }, "MemberId can't be empty."),
        (ConsumerGroupHeartbeatRequest { group_id: text(" "), ..good.clone() }, "GroupId can't be empty."),
        (ConsumerGroupHeartbeatRequest { instance_id: Some(text("")), ..good.clone() }, "InstanceId can't be empty."),
        (ConsumerGroupHeartbeatRequest { rack_id: Some(text("")), ..good.clone() }, "RackId can't be empty."),
        (
            ConsumerGroupHeartbeatRequest { rebalance_timeout_ms: -1, ..good.clone() },
            "RebalanceTimeoutMs must be provided in first request.",
        ),
        (
            ConsumerGroupHeartbeatRequest { topic_partitions: None, ..good.clone() },
            "TopicPartitions must be empty when (re-)joining.",
        ),
        (
            ConsumerGroupHeartbeatRequest { subscribed_topic_names: None, ..good.clone() },
            "Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when (re-)joining.",
        ),
        (ConsumerGroupHeartbeatRequest { member_epoch: -2, ..good.clone() }, "InstanceId can't be null."),
        (ConsumerGroupHeartbeatRequest { member_epoch: -3, ..good.clone() }, "MemberEpoch is invalid."),
    ];
    for (request, message) in cases {
        let response = harness.call(1, &request);
        assert_eq!(error(response.error_code), ErrorCode::InvalidRequest);
        assert_eq!(response.error_message.as_deref(), Some(message));
    }
    let sticky = ConsumerGroupHeartbeatRequest { server_assignor: Some(text("sticky")), ..good.clone() };
    assert_eq!(error(harness.call(1, &sticky).error_code), ErrorCode::UnsupportedAssignor);
    let late = ConsumerGroupHeartbeatRequest { member_epoch: 3, ..good };
    assert_eq!(error(harness.call(1, &late).error_code), ErrorCode::GroupIdNotFound);
    assert!(harness.log.is_empty());
}

#[test]
fn the_oldest_version_is_given_a_member_id() {
    let mut harness = Harness::default();
    let mut member = Consumer { version: 0, ..consumer("", &["orders"]) };
    assert_eq!(harness.beat(&mut member), ErrorCode::None);
    assert_eq!(member.id.len(), 22);
    assert_eq!(harness.beat(&mut member), ErrorCode::None);
}

#[test]
fn an_epoch_that_is_not_the_members_fences_it() {
    let (mut harness, consumers) = group(2, 4);
    let member = &consumers[0];
    let newer = ConsumerGroupHeartbeatRequest { member_epoch: member.epoch + 1, ..member.request() };
    assert_eq!(error(harness.call(1, &newer).error_code), ErrorCode::FencedMemberEpoch);
    let stranger = Consumer { epoch: 1, ..consumer("nobody", &[]) };
    assert_eq!(error(harness.call(1, &stranger.request()).error_code), ErrorCode::UnknownMemberId);
}

#[test]
fn an_answer_that_was_lost_does_not_fence() {
    let (mut harness, mut consumers) = group(1, 4);
    let before = consumers[0].clone();
    consumers.push(consumer("m1", &["orders"]));
    harness.beat(&mut consumers[1]);
    // The member gives up half; that it is done with this is answered, and the answer is lost.
    harness.beat(&mut consumers[0]);
    let revoked = consumers[0].clone();
    harness.call(1, &revoked.request());
    assert_eq!(harness.beat(&mut consumers[0]), ErrorCode::None);
    // With what it owned at first it is another matter.
    let old = ConsumerGroupHeartbeatRequest { member_epoch: before.epoch, ..before.request() };
    assert_eq!(error(harness.call(1, &old).error_code), ErrorCode::FencedMemberEpoch);
}

#[test]
fn a_group_takes_no_more_members_than_it_may() {
    let mut config = corelane_coordinator::group::GroupConfig::default();
    config.consumer.max_size = 1;
    let mut harness = Harness::new(config);
    harness.topic("orders", 2);
    let mut first = consumer("a", &["orders"]);
    assert_eq!(harness.beat(&mut first), ErrorCode::None);
    assert_eq!(harness.beat(&mut consumer("b", &["orders"])), ErrorCode::GroupMaxSizeReached);
    assert_eq!(harness.beat(&mut first), ErrorCode::None);
}

#[test]
fn who_is_not_heard_of_for_a_session_is_out() {
    let (mut harness, mut consumers) = group(2, 4);
    for _ in 0..3 {
        harness.advance(20_000);
        harness.beat(&mut consumers[0]);
    }
    harness.beat(&mut consumers[0]);
    assert_eq!(consumers[0].owned.len(), 4);
    assert_eq!(harness.beat(&mut consumers[1]), ErrorCode::UnknownMemberId);
}

#[test]
fn who_does_not_give_up_in_time_is_out() {
    let (mut harness, mut consumers) = group(1, 4);
    consumers.push(consumer("m1", &["orders"]));
    harness.beat(&mut consumers[1]);
    let stubborn = consumers[0].clone();
    for _ in 0..6 {
        let response = harness.call(1, &Consumer { epoch: stubborn.epoch, ..stubborn.clone() }.request());
        assert_eq!(response.error_code, 0);
        harness.beat(&mut consumers[1]);
        assert!(consumers[1].owned.is_empty());
        harness.advance(10_000);
    }
    harness.beat(&mut consumers[1]);
    assert_eq!(consumers[1].owned.len(), 4);
    assert_eq!(harness.beat(&mut consumers[0]), ErrorCode::UnknownMemberId);
}

#[test]
fn a_group_that_was_left_can_be_deleted_and_begun_anew() {
    let (mut harness, consumers) = group(2, 4);
    let group = [Str::from("g")];
    let outcome = harness.machine.delete_groups(harness.now, &group);
    let ticket = harness.ticket(outcome);
    assert_eq!(harness.answer(&ticket).unwrap().results[0].error_code, ErrorCode::NonEmptyGroup.code());
    for member in &consumers {
        assert_eq!(harness.leave(member, -1), ErrorCode::None);
    }
    assert_eq!(harness.describe().group_state, "Empty");
    let outcome = harness.machine.delete_groups(harness.now, &group);
    let ticket = harness.ticket(outcome);
    assert_eq!(harness.answer(&ticket).unwrap().results[0].error_code, 0);
    assert_eq!(error(harness.describe().error_code), ErrorCode::GroupIdNotFound);
    harness.restart();
    assert_eq!(error(harness.describe().error_code), ErrorCode::GroupIdNotFound);
    let mut again = consumer("m", &["orders"]);
    assert_eq!(harness.beat(&mut again), ErrorCode::None);
    assert_eq!(again.owned.len(), 4);
}

#[test]
fn a_join_that_could_not_be_stored_did_not_happen() {
    let mut harness = Harness::default();
    harness.topic("orders", 4);
    harness.hold_writes = true;
    let ticket = harness.send(1, &consumer("m", &["orders"]).request());
    harness.fail_writes(ErrorCode::NotEnoughReplicas);
    let response = harness.answer(&ticket).unwrap();
    assert_eq!(error(response.error_code), ErrorCode::CoordinatorNotAvailable);
    assert_eq!(error(harness.describe().error_code), ErrorCode::GroupIdNotFound);
}

#[test]
fn topics_that_come_grow_and_go_reach_the_members() {
    let mut harness = Harness::default();
    let mut consumers = vec![consumer("a", &["orders", "bills"]), consumer("b", &["orders", "bills"])];
    harness.settle(&mut consumers);
    harness.topic("orders", 4);
    harness.settle(&mut consumers);
    harness.assert_covered(&consumers, &["orders"]);
    harness.topic("bills", 3);
    harness.topic("orders", 6);
    harness.settle(&mut consumers);
    harness.assert_covered(&consumers, &["orders", "bills"]);
    harness.topic("orders", 0);
    harness.settle(&mut consumers);
    harness.assert_covered(&consumers, &["bills"]);
}
