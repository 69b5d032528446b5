use corelane_protocol::ErrorCode;

use crate::harness::{Harness, consumer, error};

#[test]
fn a_pattern_takes_in_the_topics_that_it_matches_and_those_that_come() {
    let mut harness = Harness::default();
    harness.topic("orders.eu", 2);
    harness.topic("orders.us", 2);
    harness.topic("bills", 2);
    let mut consumers = vec![consumer("a", &[]).matching("orders\\..*"), consumer("b", &[]).matching("orders\\..*")];
    assert_eq!(harness.beat(&mut consumers[0]), ErrorCode::None);
    assert!(consumers[0].owned.is_empty(), "which topics those are is found out behind the heartbeat");
    harness.advance(1);
    harness.settle(&mut consumers);
    harness.assert_covered(&consumers, &["orders.eu", "orders.us"]);
    harness.topic("orders.jp", 3);
    harness.settle(&mut consumers);
    harness.assert_covered(&consumers, &["orders.eu", "orders.us"]);
    harness.advance(10_001);
    harness.settle(&mut consumers);
    harness.settle(&mut consumers);
    harness.assert_covered(&consumers, &["orders.eu", "orders.us", "orders.jp"]);
    harness.restart();
    harness.settle(&mut consumers);
    harness.assert_covered(&consumers, &["orders.eu", "orders.us", "orders.jp"]);
    harness.topic("orders.eu", 0);
    harness.settle(&mut consumers);
    harness.assert_covered(&consumers, &["orders.us", "orders.jp"]);
}

#[test]
fn a_pattern_that_is_none_is_refused_and_leaves_nothing_behind() {
    let mut harness = Harness::default();
    let mut member = consumer("a", &[]).matching("orders(");
    assert_eq!(harness.beat(&mut member), ErrorCode::InvalidRegularExpression);
    assert_eq!(error(harness.describe().error_code), ErrorCode::GroupIdNotFound);
    assert!(harness.log.is_empty());
}

#[test]
fn names_and_a_pattern_together_mean_both() {
    let mut harness = Harness::default();
    harness.topic("bills", 1);
    harness.topic("orders", 2);
    let mut both = consumer("a", &[]).matching("ord.*");
    both.topics = consumer("a", &["bills"]).topics;
    let mut consumers = vec![both];
    harness.beat(&mut consumers[0]);
    harness.advance(1);
    harness.settle(&mut consumers);
    harness.assert_covered(&consumers, &["bills", "orders"]);
}
