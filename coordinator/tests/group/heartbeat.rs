use crate::harness::errors::*;
use corelane_protocol::Str;

use crate::harness::{Harness, client, code};

#[test]
fn a_heartbeat_must_know_group_member_and_generation() {
    let mut harness = Harness::default();
    let mut members = [client("g").named("i")];
    harness.stabilize(&mut members);
    let member = members[0].clone();
    assert_eq!(harness.heartbeat(&member), 0);
    let mut other = member.clone();
    other.group = "";
    assert_eq!(harness.heartbeat(&other), code(InvalidGroupId));
    other.group = "other";
    assert_eq!(harness.heartbeat(&other), code(UnknownMemberId));
    let mut other = member.clone();
    other.member_id = Str::from("stranger");
    assert_eq!(harness.heartbeat(&other), code(FencedInstanceId));
    other.instance_id = None;
    assert_eq!(harness.heartbeat(&other), code(UnknownMemberId));
    other.instance_id = Some(Str::from("j"));
    assert_eq!(harness.heartbeat(&other), code(UnknownMemberId));
    let mut other = member.clone();
    other.generation += 1;
    assert_eq!(harness.heartbeat(&other), code(IllegalGeneration));
}

#[test]
fn an_id_that_was_only_given_out_has_no_heartbeat() {
    let mut harness = Harness::default();
    let mut consumer = client("g");
    let ticket = harness.join(&consumer);
    consumer.member_id = harness.expect(ticket).member_id;
    consumer.generation = 0;
    assert_eq!(harness.heartbeat(&consumer), code(UnknownMemberId));
}

#[test]
fn heartbeats_keep_a_member_in_as_long_as_they_come() {
    let mut harness = Harness::default();
    let mut members = [client("g")];
    harness.stabilize(&mut members);
    for _ in 0..100 {
        harness.advance(9_999);
        assert_eq!(harness.heartbeat(&members[0]), 0);
    }
    harness.advance(10_000);
    assert_eq!(harness.heartbeat(&members[0]), code(UnknownMemberId));
}

#[test]
fn heartbeats_are_welcome_before_the_assignment_is_there() {
    let mut harness = Harness::default();
    let mut member = client("g");
    let ticket = harness.join_new(&mut member);
    harness.advance(3_000);
    let response = harness.expect(ticket);
    member.joined(&response);
    for _ in 0..3 {
        harness.advance(9_000);
        assert_eq!(harness.heartbeat(&member), 0);
    }
}

#[test]
fn a_steady_group_is_looked_at_no_more_often_than_sessions_end() {
    let mut harness = Harness::default();
    let mut members = [client("g"), client("g")];
    harness.stabilize(&mut members);
    let mut looks = 0;
    for _ in 0..100 {
        harness.advance(100);
        members.iter().for_each(|member| assert_eq!(harness.heartbeat(member), 0));
        looks += usize::from(harness.machine.next_deadline().is_some_and(|at| at <= harness.now.mono_ms + 100));
    }
    assert!(looks <= 4, "{looks}");
}
