use crate::harness::errors::*;
use corelane_coordinator::group::GroupConfig;

use crate::harness::{Harness, Ticket, client, code, subscription};
use corelane_protocol::messages::JoinGroupResponse;

#[test]
fn the_initial_delay_is_extended_while_members_join() {
    let mut harness = Harness::default();
    let first = harness.join_new(&mut client("g"));
    harness.advance(2_000);
    let second = harness.join_new(&mut client("g"));
    harness.advance(1_000);
    assert!(!harness.has_answer(&first), "the delay goes on because a second one came");
    harness.advance(2_999);
    assert!(!harness.has_answer(&first));
    harness.advance(1);
    assert_eq!(harness.expect(first).generation_id, 1);
    assert_eq!(harness.expect(second).generation_id, 1);
}

#[test]
fn the_initial_delay_ends_with_the_rebalance_timeout() {
    let mut harness = Harness::default();
    let mut consumer = client("g");
    consumer.rebalance_ms = 7_000;
    let first = harness.join_new(&mut consumer.clone());
    let mut later: Vec<Ticket<JoinGroupResponse>> = Vec::new();
    for second in 1..=7 {
        harness.advance(999);
        assert!(!harness.has_answer(&first), "{second}");
        later.push(harness.join_new(&mut consumer.clone()));
        harness.advance(1);
    }
    assert_eq!(harness.expect(first).error_code, 0);
    for ticket in later {
        assert_eq!(harness.expect(ticket).error_code, 0);
    }
    assert_eq!(harness.describe("g").members.len(), 8);
}

#[test]
fn without_an_initial_delay_the_first_member_is_alone_at_once() {
    let mut harness = Harness::new(GroupConfig { initial_rebalance_delay_ms: 0, ..Default::default() });
    let ticket = harness.join_new(&mut client("g"));
    assert!(!harness.has_answer(&ticket));
    harness.advance(0);
    assert_eq!(harness.expect(ticket).generation_id, 1);
}

#[test]
fn one_member_leads_and_only_it_knows_the_others() {
    let mut harness = Harness::default();
    let mut members = [client("g"), client("g"), client("g")];
    let tickets: Vec<_> = members.iter_mut().map(|member| harness.join_new(member)).collect();
    harness.advance(6_000);
    let responses: Vec<_> = tickets.into_iter().map(|ticket| harness.expect(ticket)).collect();
    for response in &responses {
        assert_eq!(response.leader, members[0].member_id, "the first one leads");
        let known = if response.member_id == response.leader { 3 } else { 0 };
        assert_eq!(response.members.len(), known);
    }
}

#[test]
fn most_votes_among_the_common_protocols_win() {
    let mut harness = Harness::default();
    let mut members = [
        client("g").offering(&["a", "b", "c"]),
        client("g").offering(&["c", "b", "a"]),
        client("g").offering(&["d", "c", "b"]),
    ];
    // "a" is not common; the votes are b, c, c.
    let tickets: Vec<_> = members.iter_mut().map(|member| harness.join_new(member)).collect();
    harness.advance(6_000);
    for ticket in tickets {
        assert_eq!(harness.expect(ticket).protocol_name.as_deref(), Some("c"));
    }
}

#[test]
fn a_new_member_has_everyone_rejoin() {
    let mut harness = Harness::default();
    let mut members = [client("g"), client("g")];
    harness.stabilize(&mut members);
    let mut third = client("g");
    let newcomer = harness.join_new(&mut third);
    assert_eq!(harness.state("g"), "PreparingRebalance");
    for member in &members {
        assert_eq!(harness.heartbeat(member), code(RebalanceInProgress));
    }
    let first = harness.join(&members[0]);
    assert!(!harness.has_answer(&first));
    let second = harness.join(&members[1]);
    for ticket in [newcomer, first, second] {
        let response = harness.expect(ticket);
        assert_eq!((response.error_code, response.generation_id), (0, 2));
        assert_eq!(response.leader, members[0].member_id, "the leader stays");
    }
}

#[test]
fn members_that_do_not_rejoin_in_time_are_out_and_another_leads() {
    let mut harness = Harness::default();
    let mut members = [client("g"), client("g")];
    members[0].rebalance_ms = 20_000;
    members[1].rebalance_ms = 5_000;
    harness.stabilize(&mut members);
    let mut third = client("g");
    third.rebalance_ms = 1_000;
    let newcomer = harness.join_new(&mut third);
    let second = harness.join(&members[1]);
    for _ in 0..19 {
        harness.advance(1_000);
        assert_eq!(harness.heartbeat(&members[0]), code(RebalanceInProgress));
    }
    assert!(!harness.has_answer(&second), "the longest timeout counts");
    harness.advance(1_000);
    assert_eq!(harness.heartbeat(&members[0]), code(UnknownMemberId));
    let (newcomer, second) = (harness.expect(newcomer), harness.expect(second));
    assert_eq!((newcomer.generation_id, second.generation_id), (2, 2));
    assert_eq!(newcomer.leader, second.leader);
    assert!([&members[1].member_id, &third.member_id].contains(&&newcomer.leader));
}

#[test]
fn a_leader_that_rejoins_forces_a_rebalance() {
    let mut harness = Harness::default();
    let mut members = [client("g"), client("g")];
    harness.stabilize(&mut members);
    let leader = harness.join(&members[0]);
    assert!(!harness.has_answer(&leader));
    assert_eq!(harness.state("g"), "PreparingRebalance");
    let follower = harness.join(&members[1]);
    assert_eq!(harness.expect(leader).generation_id, 2);
    assert_eq!(harness.expect(follower).generation_id, 2);
}

#[test]
fn an_unchanged_follower_that_rejoins_gets_the_current_generation() {
    let mut harness = Harness::default();
    let mut members = [client("g"), client("g")];
    harness.stabilize(&mut members);
    let ticket = harness.join(&members[1]);
    let response = harness.expect(ticket);
    assert_eq!((response.error_code, response.generation_id), (0, 1));
    assert_eq!(response.leader, members[0].member_id);
    assert_eq!(harness.state("g"), "Stable");
}

#[test]
fn a_follower_with_another_subscription_forces_a_rebalance() {
    let mut harness = Harness::default();
    let mut members = [client("g"), client("g")];
    harness.stabilize(&mut members);
    members[1].protocols[0].1 = subscription(&["payments"]);
    let ticket = harness.join(&members[1]);
    assert!(!harness.has_answer(&ticket));
    assert_eq!(harness.state("g"), "PreparingRebalance");
}

#[test]
fn a_member_that_missed_the_answer_to_its_join_can_ask_again() {
    let mut harness = Harness::default();
    let mut members = [client("g"), client("g")];
    let tickets: Vec<_> = members.iter_mut().map(|member| harness.join_new(member)).collect();
    harness.advance(6_000);
    let expected: Vec<_> = tickets.into_iter().map(|ticket| harness.expect(ticket)).collect();
    for (member, expected) in members.iter().zip(expected) {
        let ticket = harness.join(member);
        assert_eq!(harness.expect(ticket), expected);
    }
    // With something new to say it starts another rebalance instead.
    members[1].protocols[0].1 = subscription(&["payments"]);
    let ticket = harness.join(&members[1]);
    assert!(!harness.has_answer(&ticket));
    assert_eq!(harness.state("g"), "PreparingRebalance");
}

#[test]
fn a_crashed_member_is_dropped_when_its_session_ends() {
    let mut harness = Harness::default();
    let mut members = [client("g"), client("g")];
    harness.stabilize(&mut members);
    harness.advance(5_000);
    assert_eq!(harness.heartbeat(&members[0]), 0);
    harness.advance(5_000);
    assert_eq!(harness.heartbeat(&members[0]), code(RebalanceInProgress));
    let ticket = harness.join(&members[0]);
    let response = harness.expect(ticket);
    assert_eq!((response.generation_id, response.members.len()), (2, 1));
}

#[test]
fn the_last_member_gone_leaves_an_empty_generation() {
    let mut harness = Harness::default();
    let mut members = [client("g")];
    harness.stabilize(&mut members);
    harness.advance(10_000);
    assert_eq!(harness.state("g"), "Empty");
    let described = harness.describe("g");
    assert_eq!((described.protocol_type.as_str(), described.members.len()), ("consumer", 0));
}

#[test]
fn waiting_for_a_rebalance_counts_as_a_sign_of_life() {
    let mut harness = Harness::default();
    let mut members = [client("g"), client("g")];
    harness.stabilize(&mut members);
    let leader = harness.join(&members[0]);
    for _ in 0..59 {
        harness.advance(1_000);
        harness.heartbeat(&members[1]);
    }
    assert!(!harness.has_answer(&leader), "its session is 10 s, but it has a join waiting");
    harness.advance(1_000);
    assert_eq!(harness.expect(leader).generation_id, 2);
}

#[test]
fn groups_do_not_touch_each_other() {
    let mut harness = Harness::default();
    let mut one = [client("one"), client("one")];
    let mut two = [client("two")];
    harness.stabilize(&mut one);
    harness.stabilize(&mut two);
    harness.heartbeat(&one[0]);
    harness.heartbeat(&one[1]);
    harness.advance(9_000);
    assert_eq!((harness.state("one"), harness.state("two")), ("Stable".into(), "Stable".into()));
    harness.heartbeat(&one[0]);
    harness.heartbeat(&one[1]);
    harness.advance(9_000);
    assert_eq!((harness.state("one"), harness.state("two")), ("Stable".into(), "Empty".into()));
}
