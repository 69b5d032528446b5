use crate::harness::errors::*;
use corelane_protocol::Str;
use corelane_protocol::messages::LeaveGroupRequest;

use crate::harness::{Harness, client, code};

#[test]
fn a_member_that_leaves_has_the_others_rejoin() {
    let mut harness = Harness::default();
    let mut members = [client("g"), client("g")];
    harness.stabilize(&mut members);
    let ticket = harness.leave(&members[0], &[(&members[0].member_id, None)]);
    let response = harness.expect(ticket);
    assert_eq!((response.error_code, response.members[0].error_code), (0, 0));
    assert_eq!(harness.heartbeat(&members[0]), code(UnknownMemberId));
    assert_eq!(harness.heartbeat(&members[1]), code(RebalanceInProgress));
    let ticket = harness.join(&members[1]);
    let response = harness.expect(ticket);
    assert_eq!((response.generation_id, &response.leader), (2, &members[1].member_id));
}

#[test]
fn several_members_leave_with_one_rebalance_and_each_has_its_error() {
    let mut harness = Harness::default();
    let mut members = [client("g"), client("g").named("i"), client("g").named("j"), client("g")];
    harness.stabilize(&mut members);
    let ids: Vec<Str> = members.iter().map(|member| member.member_id.clone()).collect();
    let asked = [
        (ids[0].as_str(), None),
        ("", Some("i")),
        (ids[1].as_str(), Some("j")),
        ("", Some("nobody")),
        ("stranger", None),
        ("", None),
    ];
    let ticket = harness.leave(&members[0], &asked);
    let response = harness.expect(ticket);
    let errors: Vec<i16> = response.members.iter().map(|member| member.error_code).collect();
    let unknown = code(UnknownMemberId);
    assert_eq!(errors, [0, 0, code(FencedInstanceId), unknown, unknown, unknown]);
    assert_eq!(response.members[1].group_instance_id.as_deref(), Some("i"));
    assert_eq!(response.members[1].member_id, "", "members are named as they were asked for");
    assert_eq!(harness.describe("g").members.len(), 2);
    assert_eq!(harness.state("g"), "PreparingRebalance");
}

#[test]
fn nobody_left_when_all_are_unknown() {
    let mut harness = Harness::default();
    let mut members = [client("g")];
    harness.stabilize(&mut members);
    let ticket = harness.leave(&members[0], &[("stranger", None)]);
    assert_eq!(harness.expect(ticket).members[0].error_code, code(UnknownMemberId));
    assert_eq!(harness.state("g"), "Stable");
}

#[test]
fn the_last_one_to_leave_is_answered_when_the_empty_group_is_stored() {
    let mut harness = Harness::default();
    let mut members = [client("g")];
    harness.stabilize(&mut members);
    harness.hold_writes = true;
    let ticket = harness.leave(&members[0], &[(&members[0].member_id, None)]);
    assert!(!harness.has_answer(&ticket));
    assert_eq!(harness.state("g"), "Empty");
    harness.complete_writes();
    assert_eq!(harness.expect(ticket).error_code, 0);
}

#[test]
fn an_id_that_was_only_given_out_can_leave() {
    let mut harness = Harness::default();
    let mut members = [client("g")];
    harness.stabilize(&mut members);
    let mut pending = client("g");
    let ticket = harness.join(&pending);
    pending.member_id = harness.expect(ticket).member_id;
    let leader = harness.join(&members[0]);
    assert!(!harness.has_answer(&leader), "the rebalance waits for it");
    let ticket = harness.leave(&pending, &[(&pending.member_id, None)]);
    assert_eq!(harness.expect(ticket).members[0].error_code, 0);
    assert_eq!(harness.expect(leader).generation_id, 2, "and ends when it leaves");
}

#[test]
fn an_administrator_can_remove_a_static_member_that_waits() {
    let mut harness = Harness::default();
    let mut members = [client("g"), client("g").named("i")];
    let tickets: Vec<_> = members.iter_mut().map(|member| harness.join_new(member)).collect();
    harness.advance(6_000);
    for (member, ticket) in members.iter_mut().zip(tickets) {
        let response = harness.expect(ticket);
        member.joined(&response);
    }
    let waiting = harness.sync(&members[1], &[]);
    let ticket = harness.leave(&members[0], &[("", Some("i"))]);
    harness.expect(ticket);
    assert_eq!(harness.expect(waiting).error_code, code(UnknownMemberId));
}

#[test]
fn before_version_3_one_member_leaves_and_has_the_error() {
    let mut harness = Harness::default();
    let mut members = [client("g").version(3), client("g").version(3)];
    harness.stabilize(&mut members);
    let mut leave = |group: &'static str, member_id: &Str| {
        let context = corelane_coordinator::group::RequestContext { api_version: 2, ..harness.context(&members[0]) };
        let request =
            LeaveGroupRequest { group_id: Str::from(group), member_id: member_id.clone(), ..Default::default() };
        match harness.machine.leave_group(harness.now, &context, &request).reply {
            corelane_coordinator::group::Reply::Now(response) => (response.error_code, response.members.len()),
            later => panic!("{later:?}"),
        }
    };
    assert_eq!(leave("g", &Str::from("stranger")), (code(UnknownMemberId), 0));
    assert_eq!(leave("other", &members[0].member_id), (code(UnknownMemberId), 0));
    assert_eq!(leave("", &members[0].member_id), (code(InvalidGroupId), 0));
    assert_eq!(leave("g", &members[0].member_id), (0, 0));
}

#[test]
fn members_of_an_unknown_group_are_unknown() {
    let mut harness = Harness::default();
    let ticket = harness.leave(&client("other"), &[("a", None), ("b", Some("i"))]);
    let response = harness.expect(ticket);
    assert_eq!(response.error_code, 0);
    assert!(response.members.iter().all(|member| member.error_code == code(UnknownMemberId)));
    assert_eq!(response.members.len(), 2);
}
