use corelane_protocol::ErrorCode;

use crate::harness::{Consumer, Harness, consumer};

fn group() -> (Harness, Vec<Consumer>) {
    let mut harness = Harness::default();
    harness.topic("orders", 4);
    let mut consumers = vec![consumer("a", &["orders"]).named("i"), consumer("b", &["orders"])];
    harness.settle(&mut consumers);
    (harness, consumers)
}

#[test]
fn a_static_member_comes_back_to_what_it_had() {
    let (mut harness, mut consumers) = group();
    let had = consumers[0].owned.clone();
    assert_eq!(harness.leave(&consumers[0], -2), ErrorCode::None);
    let epoch = harness.describe().group_epoch;
    let mut back = consumer("a2", &["orders"]).named("i");
    assert_eq!(harness.beat(&mut back), ErrorCode::None);
    assert_eq!(back.owned, had);
    assert_eq!(harness.describe().group_epoch, epoch, "the other member notices nothing");
    assert_eq!(harness.beat(&mut consumers[0]), ErrorCode::FencedInstanceId);
    assert_eq!(harness.beat(&mut consumers[1]), ErrorCode::None);
    harness.restart();
    assert_eq!(harness.beat(&mut back), ErrorCode::None);
}

#[test]
fn an_instance_id_in_use_is_not_given_away() {
    let (mut harness, _) = group();
    let mut thief = consumer("c", &["orders"]).named("i");
    assert_eq!(harness.beat(&mut thief), ErrorCode::UnreleasedInstanceId);
    let mut stranger = Consumer { epoch: 2, ..consumer("c", &["orders"]).named("other") };
    assert_eq!(harness.beat(&mut stranger), ErrorCode::UnknownMemberId);
}

#[test]
fn a_static_member_that_stays_away_loses_its_place_with_its_session() {
    let (mut harness, mut consumers) = group();
    harness.leave(&consumers[0], -2);
    harness.advance(40_000);
    harness.beat(&mut consumers[1]);
    assert_eq!(consumers[1].owned.len(), 2);
    harness.advance(10_000);
    harness.beat(&mut consumers[1]);
    assert_eq!(consumers[1].owned.len(), 4);
}
