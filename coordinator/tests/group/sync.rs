use crate::harness::errors::*;
use corelane_protocol::Str;

use crate::harness::{Client, Harness, client, code};

fn completing(harness: &mut Harness, count: usize) -> Vec<Client> {
    let mut members: Vec<Client> = (0..count).map(|_| client("g")).collect();
    let tickets: Vec<_> = members.iter_mut().map(|member| harness.join_new(member)).collect();
    while !harness.has_answer(&tickets[0]) {
        harness.advance(500);
    }
    for (member, ticket) in members.iter_mut().zip(tickets) {
        let response = harness.expect(ticket);
        member.joined(&response);
    }
    members
}

fn sync_error(harness: &mut Harness, client: &Client) -> i16 {
    let ticket = harness.sync(client, &[]);
    harness.expect(ticket).error_code
}

#[test]
fn followers_wait_for_the_leader_and_each_gets_its_own() {
    let mut harness = Harness::default();
    let members = completing(&mut harness, 3);
    let follower = harness.sync(&members[1], &[]);
    assert!(!harness.has_answer(&follower));
    let ids: Vec<Str> = members.iter().map(|member| member.member_id.clone()).collect();
    let leader = harness.sync(&members[0], &[(&ids[0], "zero"), (&ids[1], "one"), (&Str::from("stranger"), "x")]);
    let response = harness.expect(leader);
    assert_eq!((response.error_code, &response.assignment[..]), (0, &b"zero"[..]));
    assert_eq!(response.protocol_type.as_deref(), Some("consumer"));
    assert_eq!(response.protocol_name.as_deref(), Some("range"));
    assert_eq!(&harness.expect(follower).assignment[..], b"one");
    assert_eq!(harness.state("g"), "Stable");
    // Later than the leader, and left out by it.
    let late = harness.sync(&members[2], &[]);
    let response = harness.expect(late);
    assert_eq!((response.error_code, response.assignment.len()), (0, 0));
}

#[test]
fn a_sync_must_know_group_member_generation_and_protocol() {
    let mut harness = Harness::default();
    let members = completing(&mut harness, 1);
    let changed = |change: fn(&mut Client)| {
        let mut client = members[0].clone();
        change(&mut client);
        client
    };
    let cases = [
        (changed(|client| client.group = ""), InvalidGroupId),
        (changed(|client| client.group = "other"), UnknownMemberId),
        (changed(|client| client.member_id = Str::from("stranger")), UnknownMemberId),
        (changed(|client| client.instance_id = Some(Str::from("i"))), UnknownMemberId),
        (changed(|client| client.generation = 0), IllegalGeneration),
        (changed(|client| client.generation = 2), IllegalGeneration),
        (changed(|client| client.protocol_type = "connect"), InconsistentGroupProtocol),
        (changed(|client| client.protocol = Some(Str::from("sticky"))), InconsistentGroupProtocol),
        (changed(|client| client.protocol = None), InconsistentGroupProtocol),
    ];
    for (client, error) in cases {
        assert_eq!(sync_error(&mut harness, &client), code(error), "{client:?}");
    }
    let mut old = changed(|client| client.protocol = None);
    old.version = 4;
    assert_eq!(sync_error(&mut harness, &old), 0, "before version 5 the protocol is not named");
}

#[test]
fn an_empty_group_knows_no_members() {
    let mut harness = Harness::default();
    let mut members = completing(&mut harness, 1);
    let member = members.remove(0);
    harness.leave(&member, &[(&member.member_id, None)]);
    assert_eq!(sync_error(&mut harness, &member), code(UnknownMemberId));
}

#[test]
fn a_rebalance_sends_those_who_wait_for_an_assignment_back_to_join() {
    let mut harness = Harness::default();
    let members = completing(&mut harness, 2);
    let follower = harness.sync(&members[1], &[]);
    let newcomer = harness.join_new(&mut client("g"));
    assert_eq!(harness.expect(follower).error_code, code(RebalanceInProgress));
    assert_eq!(sync_error(&mut harness, &members[0]), code(RebalanceInProgress));
    assert!(!harness.has_answer(&newcomer));
}

#[test]
fn members_that_do_not_sync_in_time_are_dropped() {
    let mut harness = Harness::default();
    let members = completing(&mut harness, 3);
    let ids: Vec<Str> = members.iter().map(|member| member.member_id.clone()).collect();
    let leader = harness.sync(&members[0], &[(&ids[0], "zero")]);
    harness.expect(leader);
    let second = harness.sync(&members[1], &[]);
    harness.expect(second);
    for _ in 0..59 {
        harness.advance(1_000);
        for member in &members {
            assert_eq!(harness.heartbeat(member), 0);
        }
    }
    harness.advance(1_000);
    assert_eq!(harness.heartbeat(&members[0]), code(RebalanceInProgress));
    assert_eq!(harness.heartbeat(&members[1]), code(RebalanceInProgress));
    assert_eq!(harness.heartbeat(&members[2]), code(UnknownMemberId));
}

#[test]
fn once_all_have_synced_the_time_to_sync_is_no_matter() {
    let mut harness = Harness::default();
    let mut members = [client("g"), client("g")];
    harness.stabilize(&mut members);
    for _ in 0..120 {
        harness.advance(1_000);
        for member in &members {
            assert_eq!(harness.heartbeat(member), 0);
        }
    }
}

#[test]
fn a_sync_that_is_repeated_takes_the_place_of_the_one_before() {
    let mut harness = Harness::default();
    let members = completing(&mut harness, 2);
    let first = harness.sync(&members[1], &[]);
    let second = harness.sync(&members[1], &[]);
    assert_eq!(harness.expect(first).error_code, code(RebalanceInProgress));
    let leader = harness.sync(&members[0], &[(&members[1].member_id, "one")]);
    harness.expect(leader);
    assert_eq!(&harness.expect(second).assignment[..], b"one");
}

#[test]
fn waiting_for_the_assignment_counts_as_a_sign_of_life() {
    let mut harness = Harness::default();
    let members = completing(&mut harness, 2);
    let follower = harness.sync(&members[1], &[]);
    for _ in 0..40 {
        harness.advance(1_000);
        assert_eq!(harness.heartbeat(&members[0]), 0);
    }
    assert!(!harness.has_answer(&follower));
    let leader = harness.sync(&members[0], &[(&members[1].member_id, "one")]);
    harness.expect(leader);
    assert_eq!(&harness.expect(follower).assignment[..], b"one");
    harness.advance(9_999);
    assert_eq!(harness.heartbeat(&members[1]), 0, "a new session began with the answer");
}
