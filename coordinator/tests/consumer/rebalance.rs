use std::collections::BTreeMap;
use std::rc::Rc;

use corelane_coordinator::group::ConsumerGroupSettings;
use corelane_protocol::{ErrorCode, Str};

use crate::harness::{Consumer, Harness, Owned, consumer};

/// A rebalance of 100 members over 1,000 partitions: only those whose partitions move have to do anything.
#[test]
fn members_that_are_not_affected_by_a_rebalance_of_a_hundred_never_stop() {
    let mut harness = Harness::default();
    let topics: Vec<String> = (0..20).map(|n| format!("t{n:02}")).collect();
    let names: Vec<&str> = topics.iter().map(String::as_str).collect();
    names.iter().for_each(|name| harness.topic(name, 50));
    let mut consumers: Vec<Consumer> = (0..100).map(|n| consumer(&format!("m{n:03}"), &names)).collect();
    harness.settle(&mut consumers);
    harness.assert_covered(&consumers, &names);
    assert!(consumers.iter().all(|consumer| consumer.owned.len() == 10));

    // One leaves: everyone keeps what it has, and some get one more.
    let gone = consumers.remove(17);
    assert_eq!(harness.leave(&gone, -1), ErrorCode::None);
    let kept: BTreeMap<Str, Owned> = consumers.iter().map(|c| (c.id.clone(), c.owned.clone())).collect();
    let heartbeats = watch(&mut harness, &mut consumers, &kept);
    harness.assert_covered(&consumers, &names);
    assert!(heartbeats <= 3, "{heartbeats} rounds of heartbeats");

    // Five come: others give up to them, but nobody stops reading what stays its own.
    consumers.extend((200..205).map(|n| consumer(&format!("m{n}"), &names)));
    let shares = |consumer: &Consumer| consumer.owned.len();
    let kept: BTreeMap<Str, Owned> = consumers.iter().map(|c| (c.id.clone(), Owned::new())).collect();
    let before: BTreeMap<Str, Owned> = consumers.iter().map(|c| (c.id.clone(), c.owned.clone())).collect();
    let heartbeats = watch(&mut harness, &mut consumers, &kept);
    harness.assert_covered(&consumers, &names);
    assert!(heartbeats <= 12, "{heartbeats} rounds of heartbeats");
    let moved: usize = consumers[99..].iter().map(shares).sum();
    let lost: usize = consumers.iter().map(|c| before[&c.id].difference(&c.owned).count()).sum();
    assert_eq!(lost, moved, "nothing moves but to the new members");
}

/// Heartbeats in rounds until the group is stable; what is `kept` is owned all the time. Gives the number of rounds.
fn watch(harness: &mut Harness, consumers: &mut [Consumer], kept: &BTreeMap<Str, Owned>) -> usize {
    for round in 1..20 {
        for consumer in &mut *consumers {
            assert_eq!(harness.beat(consumer), ErrorCode::None);
            assert!(kept[&consumer.id].is_subset(&consumer.owned), "{} lost something", consumer.id);
        }
        if harness.describe().group_state == "Stable" {
            return round;
        }
    }
    panic!("the group does not settle");
}

#[test]
fn assignments_are_not_made_more_often_than_the_interval_says() {
    let mut harness = Harness::default();
    let settings = ConsumerGroupSettings { heartbeat_interval_ms: 7_000, ..Default::default() };
    harness.machine.set_consumer_settings(Rc::new(settings));
    harness.topic("orders", 4);
    let mut first = consumer("a", &["orders"]);
    assert_eq!(harness.call(1, &first.request()).heartbeat_interval_ms, 7_000);
    harness.beat(&mut first);
    let mut second = consumer("b", &["orders"]);
    harness.beat(&mut second);
    assert_eq!(harness.describe().group_state, "Assigning");
    assert_eq!(harness.describe().assignment_epoch, 2);
    harness.advance(1_000);
    harness.beat(&mut first);
    assert_eq!(harness.describe().assignment_epoch, 3);
}

#[test]
fn the_assignor_that_most_members_ask_for_assigns() {
    let mut harness = Harness::default();
    harness.topic("x", 3);
    harness.topic("y", 3);
    let mut consumers: Vec<Consumer> = (0..2)
        .map(|n| Consumer { assignor: Some(Str::from("range")), ..consumer(&format!("m{n}"), &["x", "y"]) })
        .collect();
    harness.settle(&mut consumers);
    assert_eq!(harness.describe().assignor_name, "range");
    assert_eq!((consumers[0].owned.len(), consumers[1].owned.len()), (4, 2));
}
