use crate::harness::errors::*;
use corelane_protocol::Str;

use crate::harness::{Client, Harness, client, code, subscription};

fn pair(harness: &mut Harness) -> [Client; 2] {
    let mut members = [client("g").named("i"), client("g").named("j")];
    harness.stabilize(&mut members);
    members
}

/// The member again, as after a restart: it knows its instance id and nothing else.
fn restarted(member: &Client) -> Client {
    Client { member_id: Str::EMPTY, generation: -1, ..member.clone() }
}

#[test]
fn a_static_member_joins_without_asking_for_an_id() {
    let mut harness = Harness::default();
    let mut members = [client("g").named("i")];
    let ticket = harness.join(&members[0]);
    assert!(ticket.token().is_some());
    harness.advance(3_000);
    let response = harness.expect(ticket);
    members[0].joined(&response);
    assert!(members[0].member_id.starts_with("i-"));
    assert_eq!(response.members[0].group_instance_id.as_deref(), Some("i"));
}

#[test]
fn a_static_follower_comes_back_without_a_rebalance() {
    let mut harness = Harness::default();
    let members = pair(&mut harness);
    let mut again = restarted(&members[1]);
    let ticket = harness.join(&again);
    let response = harness.expect(ticket);
    again.joined(&response);
    assert_eq!(response.generation_id, 1);
    assert_eq!(response.leader, members[0].member_id);
    assert!(!response.skip_assignment);
    assert!(response.members.is_empty());
    assert_ne!(again.member_id, members[1].member_id);
    assert_eq!(harness.state("g"), "Stable");
    assert_eq!(harness.heartbeat(&members[0]), 0);

    let ticket = harness.sync(&again, &[]);
    let response = harness.expect(ticket);
    assert_eq!(response.assignment, members[1].member_id.as_bytes(), "the assignment is the instance's");
    assert_eq!(harness.heartbeat(&members[1]), code(FencedInstanceId));
    assert_eq!(harness.heartbeat(&again), 0);
}

#[test]
fn a_static_leader_comes_back_with_nothing_to_assign() {
    let mut harness = Harness::default();
    let members = pair(&mut harness);
    let mut again = restarted(&members[0]);
    let ticket = harness.join(&again);
    let response = harness.expect(ticket);
    again.joined(&response);
    assert!(response.skip_assignment);
    assert_eq!(response.leader, again.member_id);
    assert_eq!(response.members.len(), 2);
    let ticket = harness.sync(&again, &[]);
    assert_eq!(harness.expect(ticket).assignment, members[0].member_id.as_bytes());
    assert_eq!(harness.state("g"), "Stable");
}

#[test]
fn before_version_9_a_static_leader_is_not_told_that_it_leads() {
    let mut harness = Harness::default();
    let members = pair(&mut harness);
    let ticket = harness.join(&restarted(&members[0]).version(8));
    let response = harness.expect(ticket);
    assert!(!response.skip_assignment);
    assert_eq!(response.leader, members[0].member_id, "the leader under its old id");
    assert!(response.members.is_empty());
}

#[test]
fn a_static_member_with_other_protocols_has_a_rebalance_if_they_change_the_choice() {
    let mut harness = Harness::default();
    let mut members = vec![client("g").named("i").offering(&["a", "b"]), client("g").named("j").offering(&["a", "b"])];
    harness.stabilize(&mut members);
    let mut again = restarted(&members[1]);
    again.protocols = vec![("a", subscription(&["payments"])), ("b", subscription(&["payments"]))];
    let ticket = harness.join(&again);
    assert_eq!(harness.expect(ticket).generation_id, 1, "the choice stays");
    let ticket = harness.join(&restarted(&again).offering(&["b"]));
    assert!(!harness.has_answer(&ticket));
    assert_eq!(harness.state("g"), "PreparingRebalance");
}

#[test]
fn the_one_who_is_displaced_while_waiting_is_fenced() {
    let mut harness = Harness::default();
    let mut members = [client("g").named("i"), client("g").named("j")];
    let tickets: Vec<_> = members.iter().map(|member| harness.join(member)).collect();
    let again = harness.join(&members[1]);
    let mut tickets = tickets.into_iter();
    let (first, displaced) = (tickets.next().unwrap(), tickets.next().unwrap());
    let response = harness.expect(displaced);
    assert_eq!(response.error_code, code(FencedInstanceId));
    harness.advance(6_000);
    let responses = [harness.expect(first), harness.expect(again)];
    for (member, response) in members.iter_mut().zip(&responses) {
        member.joined(response);
    }
    assert_eq!(responses[0].members.len(), 2);

    let waiting = harness.sync(&members[1], &[]);
    let again = harness.join(&restarted(&members[1]));
    assert_eq!(harness.expect(waiting).error_code, code(FencedInstanceId));
    assert!(!harness.has_answer(&again), "the leader may be assigning to the old id: rebalance");
    assert_eq!(harness.state("g"), "PreparingRebalance");
}

#[test]
fn requests_of_the_displaced_are_fenced() {
    let mut harness = Harness::default();
    let members = pair(&mut harness);
    let ticket = harness.join(&restarted(&members[1]));
    harness.expect(ticket);
    let old = &members[1];
    let ticket = harness.join(old);
    assert_eq!(harness.expect(ticket).error_code, code(FencedInstanceId));
    let ticket = harness.sync(old, &[]);
    assert_eq!(harness.expect(ticket).error_code, code(FencedInstanceId));
    assert_eq!(harness.commit_error(old, &old.commit_request("orders", 0, 1)), code(FencedInstanceId));
    let ticket = harness.leave(old, &[(&old.member_id, Some("j"))]);
    assert_eq!(harness.expect(ticket).members[0].error_code, code(FencedInstanceId));
}

#[test]
fn a_static_member_is_not_dropped_for_being_late_to_a_rebalance() {
    let mut harness = Harness::default();
    let mut members = vec![client("g"), client("g").named("j")];
    members[1].session_ms = 100_000;
    harness.stabilize(&mut members);
    let leader = harness.join(&members[0]);
    harness.advance(60_000);
    let response = harness.expect(leader);
    assert_eq!((response.generation_id, response.members.len()), (2, 2));
    assert_eq!(harness.heartbeat(&members[1]), code(IllegalGeneration));
}

#[test]
fn a_rebalance_that_only_absent_static_members_are_in_waits_for_their_sessions() {
    let mut harness = Harness::default();
    let mut members = [client("g").named("i"), client("g").named("j")];
    members.iter_mut().for_each(|member| {
        member.session_ms = 100_000;
        member.rebalance_ms = 1_000;
    });
    harness.stabilize(&mut members);
    members[0].protocols[0].1 = subscription(&["payments"]);
    let ticket = harness.join(&members[0]);
    let request = harness.leave(&members[0], &[("", Some("i"))]);
    harness.expect(request);
    assert_eq!(harness.expect(ticket).error_code, code(UnknownMemberId));
    assert_eq!(harness.state("g"), "PreparingRebalance");
    harness.advance(90_000);
    assert_eq!(harness.state("g"), "PreparingRebalance");
    harness.advance(10_000);
    assert_eq!(harness.state("g"), "Empty");
}

#[test]
fn the_new_id_is_stored_before_it_is_told() {
    let mut harness = Harness::default();
    let members = pair(&mut harness);
    harness.hold_writes = true;
    let mut again = restarted(&members[1]);
    let ticket = harness.join(&again);
    assert!(!harness.has_answer(&ticket));
    harness.complete_writes();
    let response = harness.expect(ticket);
    again.joined(&response);
    harness.restart();
    assert_eq!(harness.heartbeat(&again), 0);
    assert_eq!(harness.heartbeat(&members[1]), code(FencedInstanceId));
}

#[test]
fn an_id_that_cannot_be_stored_does_not_count() {
    let mut harness = Harness::default();
    let members = pair(&mut harness);
    harness.hold_writes = true;
    let ticket = harness.join(&restarted(&members[1]));
    harness.fail_writes(NotLeaderOrFollower);
    let response = harness.expect(ticket);
    assert_eq!(response.error_code, code(NotCoordinator));
    assert_eq!(harness.heartbeat(&members[1]), 0, "the old id counts again");
    assert_eq!(harness.state("g"), "Stable");
}

#[test]
fn a_rebalance_that_begins_while_the_new_id_is_stored_answers_its_join() {
    let mut harness = Harness::default();
    let members = pair(&mut harness);
    harness.hold_writes = true;
    let again = harness.join(&restarted(&members[1]));
    let leader = harness.join(&members[0]);
    harness.complete_writes();
    let responses = [harness.expect(leader), harness.expect(again)];
    assert_eq!(responses.map(|response| (response.error_code, response.generation_id)), [(0, 2), (0, 2)]);
}

#[test]
fn a_static_member_that_comes_back_before_it_synced_may_take_its_time() {
    let mut harness = Harness::default();
    let mut members = [client("g").named("i"), client("g").named("j")];
    let tickets: Vec<_> = members.iter().map(|member| harness.join(member)).collect();
    harness.advance(6_000);
    for (member, ticket) in members.iter_mut().zip(tickets) {
        let response = harness.expect(ticket);
        member.joined(&response);
    }
    let ids: Vec<Str> = members.iter().map(|member| member.member_id.clone()).collect();
    let leader = harness.sync(&members[0], &[(&ids[0], "zero"), (&ids[1], "one")]);
    harness.expect(leader);
    let mut again = restarted(&members[1]);
    let ticket = harness.join(&again);
    let response = harness.expect(ticket);
    again.joined(&response);
    let ticket = harness.sync(&again, &[]);
    assert_eq!(&harness.expect(ticket).assignment[..], b"one");
    for _ in 0..70 {
        harness.advance(1_000);
        assert_eq!((harness.heartbeat(&members[0]), harness.heartbeat(&again)), (0, 0));
    }
}

#[test]
fn a_member_whose_new_id_took_long_to_store_still_has_a_session() {
    let mut harness = Harness::default();
    let mut members = vec![client("g").named("i")];
    harness.stabilize(&mut members);
    harness.hold_writes = true;
    let mut again = restarted(&members[0]);
    let ticket = harness.join(&again);
    harness.advance(15_000);
    harness.complete_writes();
    let response = harness.expect(ticket);
    again.joined(&response);
    harness.advance(9_999);
    assert_eq!(harness.heartbeat(&again), 0);
    harness.advance(10_000);
    assert_eq!(harness.state("g"), "Empty");
}
