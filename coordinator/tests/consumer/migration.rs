//! Groups with members go from the classic to the consumer protocol and back.

use corelane_coordinator::group::{ConsumerGroupConfig, GroupConfig, MigrationPolicy};
use corelane_protocol::messages::*;
use corelane_protocol::{ErrorCode, Str};

use crate::classic::{Classic, Next, classic, read_assignment, text};
use crate::harness::{Consumer, GROUP, Harness, consumer, error, topic_id};

fn with(policy: MigrationPolicy) -> Harness {
    let consumer = ConsumerGroupConfig { migration: policy, ..ConsumerGroupConfig::default() };
    let config = GroupConfig { initial_rebalance_delay_ms: 0, consumer, ..GroupConfig::default() };
    let mut harness = Harness::new(config);
    harness.topic("orders", 4);
    harness
}

/// A stable classic group of one member.
fn classic_group(policy: MigrationPolicy) -> (Harness, Classic) {
    let mut harness = with(policy);
    let mut member = classic(&["orders"]);
    enter_classic_group(&mut harness, &mut member);
    (harness, member)
}

fn enter_classic_group(harness: &mut Harness, member: &mut Classic) {
    assert_eq!(harness.step(member), ErrorCode::MemberIdRequired);
    let waiting = harness.act(member).unwrap();
    harness.advance(1);
    assert_eq!(harness.hear(member, &waiting), Some(ErrorCode::None));
    assert_eq!(harness.step(member), ErrorCode::None);
    assert_eq!(member.owned.len(), 4);
}

fn member_types(harness: &Harness) -> Vec<(Str, i8)> {
    harness.describe().members.iter().map(|member| (member.member_id.clone(), member.member_type)).collect()
}

#[test]
fn the_first_consumer_takes_a_classic_group_over_and_the_last_one_gives_it_back() {
    let (mut harness, mut old) = classic_group(MigrationPolicy::Bidirectional);
    let generation = old.generation;
    let mut new = consumer("n", &["orders"]);
    assert_eq!(harness.beat(&mut new), ErrorCode::None);
    assert_eq!(new.epoch, generation + 1);
    assert!(new.owned.is_empty(), "all of it is still the other's");
    assert_eq!(harness.describe().members.len(), 2);
    // The classic member notices a rebalance, gives up half, and the new one gets it.
    assert_eq!(harness.step(&mut old), ErrorCode::RebalanceInProgress);
    harness.enter(&mut old);
    assert_eq!(old.generation, generation + 1);
    harness.restart();
    assert_eq!(harness.beat(&mut new), ErrorCode::None);
    assert_eq!((old.owned.len(), new.owned.len()), (2, 2));
    harness.assert_covered(&[new.clone(), Consumer { owned: old.owned.clone(), ..consumer("o", &[]) }], &["orders"]);
    assert_eq!(harness.step(&mut old), ErrorCode::None);
    assert_eq!(harness.describe().group_state, "Stable");
    // And back.
    assert_eq!(harness.leave(&new, -1), ErrorCode::None);
    let described = harness.describe_classic();
    assert_eq!((described.group_state.as_str(), described.members.len()), ("PreparingRebalance", 1));
    assert_eq!(harness.step(&mut old), ErrorCode::RebalanceInProgress);
    harness.enter(&mut old);
    assert_eq!(old.owned.len(), 4);
    assert_eq!(old.generation, generation + 2);
    harness.restart();
    assert_eq!(harness.describe_classic().group_state, "Stable");
    assert_eq!(harness.step(&mut old), ErrorCode::None);
}

#[test]
fn a_cooperative_member_keeps_what_it_may_keep() {
    let mut harness = with(MigrationPolicy::Bidirectional);
    let mut new = consumer("n", &["orders"]);
    harness.beat(&mut new);
    let mut old = classic(&["orders"]).cooperative();
    harness.enter(&mut old);
    assert!(old.owned.is_empty());
    assert_eq!(harness.step(&mut old), ErrorCode::None, "it has to wait for the other");
    harness.beat(&mut new);
    harness.beat(&mut new);
    assert_eq!(new.owned.len(), 2);
    assert_eq!(harness.step(&mut old), ErrorCode::RebalanceInProgress, "now it can have its part");
    harness.enter(&mut old);
    assert_eq!(old.owned.len(), 2);
    let kept = old.owned.clone();
    // A third one: each gives up some and keeps the rest meanwhile.
    let mut third = consumer("t", &["orders"]);
    harness.beat(&mut third);
    assert_eq!(harness.step(&mut old), ErrorCode::RebalanceInProgress);
    assert_eq!(harness.step(&mut old), ErrorCode::None);
    assert_eq!(old.owned, kept, "nothing is lost by joining");
    harness.step(&mut old);
    assert!(old.owned.is_subset(&kept));
    for _ in 0..6 {
        harness.beat(&mut new);
        harness.beat(&mut third);
        harness.step(&mut old);
    }
    let as_consumer = Consumer { owned: old.owned.clone(), ..consumer("o", &[]) };
    harness.assert_covered(&[new, third, as_consumer], &["orders"]);
}

#[test]
fn the_policy_says_which_way_is_open() {
    for policy in [MigrationPolicy::Disabled, MigrationPolicy::Downgrade] {
        let (mut harness, mut old) = classic_group(policy);
        assert_eq!(harness.beat(&mut consumer("n", &["orders"])), ErrorCode::GroupIdNotFound);
        assert_eq!(harness.step(&mut old), ErrorCode::None, "the group goes on as it was");
    }
    for (policy, back) in [
        (MigrationPolicy::Disabled, None),
        (MigrationPolicy::Upgrade, Some("Assigning")),
        (MigrationPolicy::Downgrade, Some("PreparingRebalance")),
    ] {
        let mut harness = with(policy);
        let mut new = consumer("n", &["orders"]);
        harness.beat(&mut new);
        let mut old = classic(&["orders"]);
        let Some(back) = back else {
            assert_eq!(harness.step(&mut old), ErrorCode::InconsistentGroupProtocol);
            continue;
        };
        harness.enter(&mut old);
        harness.leave(&new, -1);
        let state = match back {
            "Assigning" => harness.describe().group_state,
            _ => harness.describe_classic().group_state,
        };
        assert_eq!(state, back, "{policy:?}");
    }
}

#[test]
fn a_group_that_grew_too_large_for_the_other_protocol_stays_what_it_is() {
    let config = GroupConfig { max_size: 1, ..with(MigrationPolicy::Bidirectional).config };
    let mut harness = Harness::new(config);
    harness.topic("orders", 4);
    let mut new = consumer("n", &["orders"]);
    harness.beat(&mut new);
    let (mut one, mut two) = (classic(&["orders"]), classic(&["orders"]));
    harness.enter(&mut one);
    harness.enter(&mut two);
    harness.leave(&new, -1);
    assert_eq!(harness.describe().members.len(), 2, "still a consumer group");
    let left = harness.leave_classic(&two.id);
    assert_eq!(harness.answer(&left).unwrap().members[0].error_code, 0);
    assert_eq!(harness.describe_classic().members.len(), 1, "one is few enough");
}

#[test]
fn who_waits_in_the_classic_group_is_told_to_come_again() {
    let (mut harness, mut old) = classic_group(MigrationPolicy::Bidirectional);
    let mut other = classic(&["orders"]);
    harness.step(&mut other);
    let waiting = harness.act(&mut other).unwrap();
    assert_eq!(harness.describe_classic().group_state, "PreparingRebalance");
    // It came in the middle of a rebalance: what it offers is known, though it is in no generation yet.
    let mut new = consumer("n", &["orders"]);
    assert_eq!(harness.beat(&mut new), ErrorCode::None);
    assert_eq!(harness.hear(&mut other, &waiting), Some(ErrorCode::RebalanceInProgress));
    assert_eq!(harness.describe().members.len(), 3);
    for _ in 0..12 {
        harness.step(&mut old);
        harness.step(&mut other);
        harness.beat(&mut new);
    }
    let others = [&old, &other].map(|member| Consumer { owned: member.owned.clone(), ..consumer("", &[]) });
    harness.assert_covered(&[new, others[0].clone(), others[1].clone()], &["orders"]);
}

#[test]
fn silent_classic_members_are_out() {
    // Silent altogether: its own session ends.
    let (mut harness, mut old) = classic_group(MigrationPolicy::Bidirectional);
    let mut new = consumer("n", &["orders"]);
    harness.beat(&mut new);
    harness.advance(29_000);
    assert_eq!(harness.describe().members.len(), 2);
    harness.advance(1_000);
    assert_eq!(harness.describe().members.len(), 1);
    harness.beat(&mut new);
    assert_eq!(new.owned.len(), 4);
    assert_eq!(harness.step(&mut old), ErrorCode::RebalanceInProgress);
    assert_eq!(old.id, "", "it is told that it is unknown");
    // It was told to rejoin, and does not.
    harness.enter(&mut old);
    let mut third = consumer("t", &["orders"]);
    harness.beat(&mut third);
    for _ in 0..7 {
        let mut stubborn = Classic { next: Next::Beat, ..old.clone() };
        harness.step(&mut stubborn);
        harness.advance(10_000);
        harness.beat(&mut new);
        harness.beat(&mut third);
    }
    assert_eq!(member_types(&harness), [(text("n"), 1), (text("t"), 1)]);
    // It joined, and does not ask for its assignment.
    let mut lazy = classic(&["orders"]);
    harness.step(&mut lazy);
    assert_eq!(harness.step(&mut lazy), ErrorCode::None);
    for _ in 0..7 {
        harness.step(&mut Classic { next: Next::Beat, ..lazy.clone() });
        harness.advance(10_000);
        harness.beat(&mut new);
        harness.beat(&mut third);
    }
    assert_eq!(harness.describe().members.len(), 2);
}

/// Of the member's own 30 s and the group's 45 s, the latter count from a start on until the member is heard of.
#[test]
fn a_classic_member_has_the_groups_session_after_a_start() {
    let (mut harness, mut old) = classic_group(MigrationPolicy::Bidirectional);
    let mut new = consumer("n", &["orders"]);
    harness.beat(&mut new);
    harness.restart();
    harness.advance(40_000);
    harness.beat(&mut new);
    assert_eq!(harness.describe().members.len(), 2);
    assert_eq!(harness.step(&mut old), ErrorCode::RebalanceInProgress);
    harness.advance(29_000);
    assert_eq!(harness.describe().members.len(), 2);
    harness.advance(1_000);
    assert_eq!(member_types(&harness), [(text("n"), 1)]);
    harness.beat(&mut new);
    harness.restart();
    harness.advance(45_000);
    assert_eq!(harness.describe().group_state, "Empty");
}

#[test]
fn the_last_consumer_falling_silent_brings_the_group_back_too() {
    let mut harness = with(MigrationPolicy::Bidirectional);
    let mut new = consumer("n", &["orders"]);
    harness.beat(&mut new);
    let mut old = classic(&["orders"]);
    harness.enter(&mut old);
    for _ in 0..5 {
        harness.advance(10_000);
        harness.step(&mut old);
        if old.next == Next::Join {
            break;
        }
    }
    assert_eq!(harness.describe_classic().group_state, "PreparingRebalance");
    harness.enter(&mut old);
    assert_eq!(old.owned.len(), 4);
}

#[test]
fn a_static_member_changes_its_protocol_in_its_place() {
    let mut harness = with(MigrationPolicy::Bidirectional);
    let mut new = consumer("n", &["orders"]).named("i");
    harness.beat(&mut new);
    let epoch = harness.describe().group_epoch;
    // Down: nothing changes for the instance, so nobody has to rebalance.
    let mut old = classic(&["orders"]).named("i");
    harness.enter(&mut old);
    let described = harness.describe_classic();
    assert_eq!((described.group_state.as_str(), described.members.len()), ("Stable", 1));
    assert_eq!(read_assignment(&described.members[0].member_assignment).len(), 4);
    assert_eq!((old.generation, old.owned.len()), (epoch, 4));
    harness.restart();
    assert_eq!(harness.step(&mut old), ErrorCode::None);
    // Up again.
    let mut back = consumer("b", &["orders"]).named("i");
    assert_eq!(harness.beat(&mut back), ErrorCode::None);
    assert_eq!(back.owned.len(), 4);
    assert_eq!(member_types(&harness), [(text("b"), 1)]);
    // And down with another subscription: now the members have to agree again.
    harness.topic("bills", 2);
    let mut other = classic(&["bills"]).named("i");
    assert_eq!(harness.step(&mut other), ErrorCode::None);
    assert_eq!(harness.describe_classic().group_state, "PreparingRebalance");
    harness.step(&mut other);
    harness.enter(&mut other);
    assert_eq!(other.owned.len(), 2);
}

#[test]
fn a_conversion_that_is_not_stored_did_not_happen() {
    let (mut harness, mut old) = classic_group(MigrationPolicy::Bidirectional);
    harness.hold_writes = true;
    let mut new = consumer("n", &["orders"]);
    let ticket = harness.send(1, &new.request());
    harness.fail_writes(ErrorCode::NotEnoughReplicas);
    let response = harness.answer(&ticket).unwrap();
    assert_eq!(error(response.error_code), ErrorCode::CoordinatorNotAvailable);
    assert_eq!(harness.describe_classic().group_state, "Stable");
    harness.hold_writes = false;
    assert_eq!(harness.step(&mut old), ErrorCode::None);
    harness.beat(&mut new);
    harness.hold_writes = true;
    let request = ConsumerGroupHeartbeatRequest { member_epoch: -1, topic_partitions: None, ..new.request() };
    let ticket = harness.send(1, &request);
    assert_eq!(harness.describe_classic().members.len(), 1);
    harness.fail_writes(ErrorCode::NotEnoughReplicas);
    assert!(harness.answer(&ticket).unwrap().error_code != 0);
    harness.hold_writes = false;
    assert_eq!(harness.describe().members.len(), 2);
    // The sessions of both members go on.
    harness.advance(60_000);
    assert_eq!(harness.describe().members.len(), 0);
}

#[test]
fn offsets_of_a_classic_member_are_its_generations() {
    let mut harness = with(MigrationPolicy::Bidirectional);
    harness.beat(&mut consumer("n", &["orders"]));
    let mut old = classic(&["orders"]);
    harness.enter(&mut old);
    let mut commit = |generation: i32, version: i16| {
        let context = harness.context(version);
        let partition = OffsetCommitRequestPartition { committed_offset: 7, ..Default::default() };
        let request = OffsetCommitRequest {
            group_id: Str::from(GROUP),
            generation_id_or_member_epoch: generation,
            member_id: old.id.clone(),
            topics: vec![OffsetCommitRequestTopic {
                name: text("orders"),
                topic_id: topic_id("orders"),
                partitions: vec![partition],
                ..Default::default()
            }],
            ..Default::default()
        };
        let outcome = harness.machine.offset_commit(harness.now, &context, &request);
        let ticket = harness.ticket(outcome);
        error(harness.answer(&ticket).unwrap().topics[0].partitions[0].error_code)
    };
    assert_eq!(commit(old.generation, 2), ErrorCode::None);
    assert_eq!(commit(old.generation, 9), ErrorCode::None);
    assert_eq!(commit(old.generation + 1, 9), ErrorCode::IllegalGeneration);
    assert_eq!(commit(old.generation - 1, 9), ErrorCode::IllegalGeneration);
    assert_eq!(commit(-1, 9), ErrorCode::IllegalGeneration);
}
