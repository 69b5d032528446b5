use crate::harness::errors::*;
use corelane_coordinator::group::GroupConfig;
use corelane_protocol::ErrorCode;
use corelane_protocol::Str;

use crate::harness::{Client, Harness, client, code, subscription};

fn join_error(harness: &mut Harness, client: &Client) -> i16 {
    let ticket = harness.join(client);
    harness.expect(ticket).error_code
}

#[test]
fn a_new_member_is_given_an_id_and_joins_with_it() {
    let mut harness = Harness::default();
    let mut consumer = client("g");
    let ticket = harness.join(&consumer);
    let response = harness.expect(ticket);
    assert_eq!(response.error_code, code(MemberIdRequired));
    assert!(response.member_id.starts_with("app-"));
    assert_eq!(response.member_id.len(), "app-".len() + 36);
    assert_eq!(harness.state("g"), "Empty");

    consumer.member_id = response.member_id.clone();
    let ticket = harness.join(&consumer);
    assert!(!harness.has_answer(&ticket));
    assert_eq!(harness.state("g"), "PreparingRebalance");
    harness.advance(3_000);
    let joined = harness.expect(ticket);
    assert_eq!(joined.error_code, 0);
    assert_eq!(joined.generation_id, 1);
    assert_eq!(joined.member_id, response.member_id);
    assert_eq!(joined.leader, response.member_id);
    assert_eq!(joined.protocol_type.as_deref(), Some("consumer"));
    assert_eq!(joined.protocol_name.as_deref(), Some("range"));
    assert_eq!(joined.members.len(), 1);
    assert_eq!(joined.members[0].metadata, subscription(&["orders"]));
    assert_eq!(harness.state("g"), "CompletingRebalance");
}

#[test]
fn before_version_4_a_new_member_joins_at_once() {
    let mut harness = Harness::default();
    for version in [0, 3] {
        let consumer = client("g").version(version);
        let ticket = harness.join(&consumer);
        assert!(ticket.token().is_some());
    }
    assert_eq!(harness.describe("g").members.len(), 2);
}

#[test]
fn version_0_has_its_session_for_rejoining() {
    let mut harness = Harness::default();
    let mut slow = client("g").version(0);
    slow.rebalance_ms = -1;
    harness.stabilize(std::slice::from_mut(&mut slow));
    let other = client("g").version(0);
    let ticket = harness.join(&other);
    // The first member goes on with heartbeats and does not rejoin.
    for _ in 0..9 {
        harness.advance(1_000);
        assert_eq!(harness.heartbeat(&slow), code(RebalanceInProgress));
    }
    assert!(!harness.has_answer(&ticket));
    harness.advance(1_000);
    assert_eq!(harness.expect(ticket).error_code, 0);
    assert_eq!(harness.heartbeat(&slow), code(UnknownMemberId));
}

#[test]
fn before_version_7_a_missing_protocol_is_an_empty_name() {
    let mut harness = Harness::default();
    let mut consumer = client("g").version(6);
    consumer.session_ms = 1;
    let ticket = harness.join(&consumer);
    assert_eq!(harness.expect(ticket).protocol_name, Some(Str::EMPTY));
    let ticket = harness.join(&consumer.version(7));
    assert_eq!(harness.expect(ticket).protocol_name, None);
}

#[test]
fn a_group_needs_a_name() {
    let mut harness = Harness::default();
    assert_eq!(join_error(&mut harness, &client("")), code(InvalidGroupId));
}

#[test]
fn sessions_are_bounded() {
    let mut harness = Harness::default();
    for (session_ms, expected) in [
        (5_999, InvalidSessionTimeout),
        (6_000, MemberIdRequired),
        (1_800_000, MemberIdRequired),
        (1_800_001, InvalidSessionTimeout),
    ] {
        let mut consumer = client("g");
        consumer.session_ms = session_ms;
        assert_eq!(join_error(&mut harness, &consumer), code(expected), "{session_ms}");
    }
}

#[test]
fn a_member_id_that_nobody_gave_out_is_unknown() {
    let mut harness = Harness::default();
    let mut stranger = client("g");
    stranger.member_id = Str::from("stranger");
    assert_eq!(join_error(&mut harness, &stranger), code(UnknownMemberId));
    assert_eq!(harness.state("g"), "Dead", "no group comes of it");
    harness.stabilize(&mut [client("g")]);
    assert_eq!(join_error(&mut harness, &stranger), code(UnknownMemberId));
}

#[test]
fn a_join_needs_a_protocol_that_the_members_have() {
    let mut harness = Harness::default();
    let mut none = client("g");
    none.protocols.clear();
    assert_eq!(join_error(&mut harness, &none), code(InconsistentGroupProtocol));
    let mut untyped = client("g");
    untyped.protocol_type = "";
    assert_eq!(join_error(&mut harness, &untyped), code(InconsistentGroupProtocol));
    assert_eq!(harness.state("g"), "Dead");

    harness.stabilize(&mut [client("g").offering(&["range", "sticky"])]);
    assert_eq!(join_error(&mut harness, &client("g").offering(&["roundrobin"])), code(InconsistentGroupProtocol));
    let mut connect = client("g");
    connect.protocol_type = "connect";
    assert_eq!(join_error(&mut harness, &connect), code(InconsistentGroupProtocol));
    assert_eq!(join_error(&mut harness, &client("g").offering(&["roundrobin", "sticky"])), code(MemberIdRequired));
}

#[test]
fn an_id_that_is_not_used_is_forgotten_after_a_session() {
    let mut harness = Harness::default();
    let mut consumer = client("g");
    let ticket = harness.join(&consumer);
    consumer.member_id = harness.expect(ticket).member_id;
    harness.advance(9_999);
    let mut other = client("g");
    let ticket = harness.join(&other);
    other.member_id = harness.expect(ticket).member_id;
    harness.advance(1);
    assert_eq!(join_error(&mut harness, &consumer), code(UnknownMemberId));
    assert!(harness.join(&other).token().is_some());
}

#[test]
fn a_rebalance_waits_for_ids_that_were_given_out() {
    let mut harness = Harness::default();
    let mut members = [client("g")];
    harness.stabilize(&mut members);
    let ticket = harness.join(&client("g"));
    assert_eq!(harness.expect(ticket).error_code, code(MemberIdRequired));
    // The leader rejoins: everyone is there, but for the one who has an id.
    let ticket = harness.join(&members[0]);
    assert!(!harness.has_answer(&ticket));
    harness.advance(10_000);
    assert_eq!(harness.expect(ticket).generation_id, 2);
}

#[test]
fn a_full_group_turns_new_members_away() {
    let mut harness = Harness::new(GroupConfig { max_size: 2, ..Default::default() });
    let mut members = [client("g"), client("g")];
    harness.stabilize(&mut members);
    let ticket = harness.join(&client("g"));
    let response = harness.expect(ticket);
    assert_eq!((response.error_code, response.member_id.as_str()), (code(GroupMaxSizeReached), ""));

    // While members rejoin, those who are back count.
    let leader = harness.join(&members[0]);
    assert!(leader.token().is_some());
    let mut third = client("g");
    let waiting = harness.join_new(&mut third);
    assert!(!harness.has_answer(&waiting), "the third came before the second");
    assert_eq!(join_error(&mut harness, &members[1]), code(GroupMaxSizeReached));
    harness.advance(60_000);
    assert_eq!(harness.expect(leader).generation_id, 2);
    assert_eq!(harness.expect(waiting).generation_id, 2);
    assert_eq!(harness.describe("g").members.len(), 2);
}

#[test]
fn an_empty_group_takes_any_protocol_type() {
    let mut harness = Harness::default();
    let mut members = [client("g")];
    harness.stabilize(&mut members);
    harness.leave(&members[0], &[(&members[0].member_id.clone(), None)]);
    assert_eq!(harness.state("g"), "Empty");
    let mut worker = client("g");
    worker.protocol_type = "connect";
    harness.stabilize(std::slice::from_mut(&mut worker));
    assert_eq!(harness.describe("g").protocol_type, "connect");
    assert_eq!(worker.generation, 3, "being empty was a generation too");
}

#[test]
fn a_join_that_is_repeated_takes_the_place_of_the_one_before() {
    let mut harness = Harness::default();
    let mut consumer = client("g");
    let first = harness.join_new(&mut consumer);
    let second = harness.join(&consumer);
    assert_eq!(harness.expect(first).error_code, code(RebalanceInProgress));
    harness.advance(3_000);
    assert_eq!(harness.expect(second).error_code, 0);
}

#[test]
fn a_name_too_long_for_a_member_id_is_refused() {
    let mut harness = Harness::default();
    let mut consumer = client("g");
    consumer.instance_id = Some(Str::from("x".repeat(32_767)));
    assert_eq!(join_error(&mut harness, &consumer), code(ErrorCode::InvalidRequest));
}

#[test]
fn a_new_member_that_never_comes_back_is_dropped_after_five_minutes() {
    let mut harness = Harness::default();
    let mut members = [client("g"), client("g")];
    members[0].rebalance_ms = 1_000_000;
    harness.stabilize(&mut members);
    let newcomer = harness.join(&client("g").version(3));
    for _ in 0..299 {
        harness.advance(1_000);
        harness.heartbeat(&members[0]);
    }
    assert!(!harness.has_answer(&newcomer));
    harness.advance(1_000);
    let response = harness.expect(newcomer);
    assert_eq!((response.error_code, response.member_id.as_str()), (code(UnknownMemberId), ""));
}

#[test]
fn a_rebalance_that_everyone_left_takes_any_protocol_of_its_type() {
    let mut harness = Harness::default();
    let mut members = [client("g"), client("g")];
    harness.stabilize(&mut members);
    let ticket = harness.join(&client("g"));
    assert_eq!(harness.expect(ticket).error_code, code(MemberIdRequired));
    for member in &members {
        harness.leave(member, &[(&member.member_id, None)]);
    }
    assert_eq!(harness.state("g"), "PreparingRebalance", "someone was given an id");
    let ticket = harness.join(&client("g").offering(&["other"]).named("i"));
    assert!(!harness.has_answer(&ticket));
    harness.advance(60_000);
    assert_eq!(harness.expect(ticket).protocol_name.as_deref(), Some("other"));
}
