use crate::harness::errors::*;
use corelane_coordinator::group::WriteId;
use corelane_protocol::Str;

use crate::harness::{Harness, client, code};

#[test]
fn an_assignment_that_cannot_be_stored_leads_to_another_rebalance() {
    let cases = [
        (NotLeaderOrFollower, NotCoordinator),
        (KafkaStorageError, NotCoordinator),
        (NotEnoughReplicas, CoordinatorNotAvailable),
        (UnknownTopicOrPartition, CoordinatorNotAvailable),
        (RequestTimedOut, CoordinatorNotAvailable),
        (MessageTooLarge, UnknownServerError),
        (InvalidRecord, InvalidRecord),
    ];
    for (error, answer) in cases {
        let mut harness = Harness::default();
        let mut members = [client("g"), client("g")];
        let tickets: Vec<_> = members.iter_mut().map(|member| harness.join_new(member)).collect();
        harness.advance(6_000);
        for (member, ticket) in members.iter_mut().zip(tickets) {
            let response = harness.expect(ticket);
            member.joined(&response);
        }
        harness.hold_writes = true;
        let tickets = [harness.sync(&members[1], &[]), harness.sync(&members[0], &[(&members[1].member_id, "one")])];
        assert!(!harness.has_answer(&tickets[0]));
        harness.fail_writes(error);
        for ticket in tickets {
            assert_eq!(harness.expect(ticket).error_code, code(answer));
        }
        assert_eq!(harness.state("g"), "PreparingRebalance");
    }
}

#[test]
fn an_assignment_stored_too_late_is_not_given_out() {
    let mut harness = Harness::default();
    let mut member = client("g");
    let ticket = harness.join_new(&mut member);
    harness.advance(3_000);
    let response = harness.expect(ticket);
    member.joined(&response);
    harness.hold_writes = true;
    let sync = harness.sync(&member, &[(&member.member_id.clone(), "old")]);
    let newcomer = harness.join_new(&mut client("g"));
    assert_eq!(harness.expect(sync).error_code, code(RebalanceInProgress));
    harness.complete_writes();
    assert_eq!(harness.state("g"), "PreparingRebalance");
    assert!(!harness.has_answer(&newcomer));
}

#[test]
fn an_assignment_of_a_group_that_was_deleted_does_not_reach_its_namesake() {
    let mut harness = Harness::default();
    let mut member = client("g");
    let ticket = harness.join_new(&mut member);
    harness.advance(3_000);
    let response = harness.expect(ticket);
    member.joined(&response);
    harness.hold_writes = true;
    harness.sync(&member, &[(&member.member_id.clone(), "old")]);
    harness.leave(&member, &[(&member.member_id.clone(), None)]);
    harness.delete_groups(&["g"]);
    let mut second = client("g");
    let ticket = harness.join_new(&mut second);
    harness.advance(3_000);
    let response = harness.expect(ticket);
    second.joined(&response);
    assert_eq!(second.generation, 1, "the same generation of the next group");
    harness.complete_writes();
    assert_eq!(harness.state("g"), "CompletingRebalance");
}

#[test]
fn a_commit_that_cannot_be_stored_is_taken_back() {
    let mut harness = Harness::default();
    let alone = client("g");
    harness.commit(&alone, &alone.commit_request("orders", 0, 1));
    harness.hold_writes = true;
    let first = harness.commit(&alone, &alone.commit_request("orders", 0, 2));
    let second = harness.commit(&alone, &alone.commit_request("orders", 0, 3));
    let third = harness.commit(&alone, &alone.commit_request("orders", 1, 4));
    let fetch = harness.fetch("g", None);
    harness.fail_writes(NotEnoughReplicas);
    for ticket in [first, second, third] {
        assert_eq!(harness.expect(ticket).topics[0].partitions[0].error_code, code(CoordinatorNotAvailable));
    }
    assert_eq!(harness.expect(fetch).error_code, code(NotCoordinator));
    harness.hold_writes = false;
    assert_eq!((harness.committed("g", "orders", 0), harness.committed("g", "orders", 1)), (1, -1));
}

#[test]
fn only_a_failed_write_and_those_after_it_are_taken_back() {
    let mut harness = Harness::default();
    harness.hold_writes = true;
    let alone = client("g");
    let tickets: Vec<_> =
        (0..4).map(|partition| harness.commit(&alone, &alone.commit_request("orders", partition, 7))).collect();
    let first = harness.under_way.pop_front().unwrap();
    let second = harness.under_way.pop_front().unwrap();
    harness.log.extend(first.records.into_iter().chain(second.records));
    // Ending the second one says that the first one is durable too.
    let effects = harness.machine.write_completed(harness.now, second.id);
    assert_eq!(effects.completed.len(), 2);
    harness.absorb(effects);
    harness.fail_writes(KafkaStorageError);
    let errors: Vec<i16> =
        tickets.into_iter().map(|ticket| harness.expect(ticket).topics[0].partitions[0].error_code).collect();
    assert_eq!(errors, [0, 0, code(NotCoordinator), code(NotCoordinator)]);
    let left = [0, 1, 2, 3].map(|partition| harness.committed("g", "orders", partition));
    assert_eq!(left, [7, 7, -1, -1]);
}

#[test]
fn a_group_that_cannot_be_stored_was_never_there() {
    let mut harness = Harness::default();
    harness.hold_writes = true;
    let ticket = harness.join(&client("g").version(3));
    let commit = {
        let alone = client("h");
        harness.commit(&alone, &alone.commit_request("orders", 0, 1))
    };
    assert_eq!(harness.state("h"), "Empty");
    harness.fail_writes(NotEnoughReplicas);
    assert_eq!(harness.expect(ticket).error_code, code(CoordinatorNotAvailable));
    assert_eq!(harness.expect(commit).topics[0].partitions[0].error_code, code(CoordinatorNotAvailable));
    assert_eq!((harness.state("g"), harness.state("h")), ("Dead".into(), "Dead".into()));
    harness.advance(600_000);
    assert_eq!(harness.machine.counts(), Default::default());
}

#[test]
fn a_deletion_that_cannot_be_stored_is_taken_back() {
    let mut harness = Harness::default();
    let alone = client("g");
    harness.commit(&alone, &alone.commit_request("orders", 0, 1));
    let mut pending = client("g");
    let ticket = harness.join(&pending);
    pending.member_id = harness.expect(ticket).member_id;
    harness.hold_writes = true;
    let deletion = harness.delete_groups(&["g"]);
    let offsets = harness.delete_offsets("g", "orders", 0);
    assert_eq!(harness.expect(offsets).error_code, code(GroupIdNotFound));
    let newcomer = harness.join(&client("g").version(3));
    // Time goes on for what is gone for the moment.
    harness.advance(2_000);
    harness.fail_writes(NotEnoughReplicas);
    assert_eq!(harness.expect(deletion).results[0].error_code, code(CoordinatorNotAvailable));
    assert_eq!(harness.expect(newcomer).error_code, code(CoordinatorNotAvailable));
    harness.hold_writes = false;
    assert_eq!(harness.committed("g", "orders", 0), 1);
    assert!(harness.join(&pending).token().is_some(), "the id that was given out is known again");
    harness.advance(3_000);
    assert_eq!(harness.describe("g").members.len(), 1);
}

#[test]
fn ids_given_out_by_a_group_whose_deletion_failed_still_expire() {
    let mut harness = Harness::default();
    let mut pending = client("g");
    let ticket = harness.join(&pending);
    pending.member_id = harness.expect(ticket).member_id;
    harness.hold_writes = true;
    harness.delete_groups(&["g"]);
    // Its timer comes up while the group is gone.
    harness.advance(20_000);
    harness.fail_writes(NotEnoughReplicas);
    assert_eq!(harness.state("g"), "Empty");
    harness.advance(0);
    let ticket = harness.join(&pending);
    assert_eq!(harness.expect(ticket).error_code, code(UnknownMemberId));
}

#[test]
fn an_empty_generation_that_cannot_be_stored_stays_empty() {
    let mut harness = Harness::default();
    let mut members = [client("g")];
    harness.stabilize(&mut members);
    harness.hold_writes = true;
    let ticket = harness.leave(&members[0], &[(&members[0].member_id, None)]);
    harness.fail_writes(NotLeaderOrFollower);
    assert_eq!(harness.expect(ticket).error_code, code(NotCoordinator));
    assert_eq!(harness.state("g"), "Empty");
}

#[test]
fn what_is_said_of_writes_that_are_over_is_ignored() {
    let mut harness = Harness::default();
    let alone = client("g");
    harness.commit(&alone, &alone.commit_request("orders", 0, 1));
    for id in [0, 1, 50] {
        let effects = harness.machine.write_failed(harness.now, WriteId(id), NotEnoughReplicas);
        assert_eq!((effects.writes.len(), effects.completed.len()), (0, 0));
        let effects = harness.machine.write_completed(harness.now, WriteId(id));
        assert_eq!((effects.writes.len(), effects.completed.len()), (0, 0));
    }
    assert_eq!(harness.committed("g", "orders", 0), 1);
}

#[test]
fn unloading_answers_everyone() {
    let mut harness = Harness::default();
    let mut members = [client("sync"), client("sync")];
    let tickets: Vec<_> = members.iter_mut().map(|member| harness.join_new(member)).collect();
    harness.advance(6_000);
    for (member, ticket) in members.iter_mut().zip(tickets) {
        let response = harness.expect(ticket);
        member.joined(&response);
    }
    let sync = harness.sync(&members[1], &[]);
    let join = harness.join_new(&mut client("join"));
    harness.hold_writes = true;
    let alone = client("commit");
    let commit = harness.commit(&alone, &alone.commit_request("orders", 0, 1));
    let fetch = harness.fetch("commit", None);
    harness.restart();
    let expected = code(NotCoordinator);
    assert_eq!(harness.expect(sync).error_code, expected);
    assert_eq!(harness.expect(join).error_code, expected);
    assert_eq!(harness.expect(commit).topics[0].partitions[0].error_code, expected);
    assert_eq!(harness.expect(fetch).error_code, expected);
    harness.hold_writes = false;
    assert_eq!(harness.committed("commit", "orders", 0), -1);
}

#[test]
fn what_cannot_be_encoded_fails_at_once() {
    let mut harness = Harness::default();
    let alone = client("g");
    harness.commit(&alone, &alone.commit_request("orders", 0, 1));
    let written = harness.log.len();
    let mut request = alone.commit_request("orders", 0, 2);
    request.topics[0].name = Str::from("x".repeat(40_000));
    assert_eq!(harness.commit_error(&alone, &request), code(UnknownServerError));
    assert_eq!(harness.log.len(), written);
    assert_eq!(harness.committed("g", "orders", 0), 1);
    assert_eq!(harness.machine.counts().writes_under_way, 0);
}

#[test]
fn a_fetch_after_a_failure_waits_for_what_is_still_under_way() {
    let mut harness = Harness::default();
    harness.hold_writes = true;
    let (one, two) = (client("one"), client("two"));
    harness.commit(&one, &one.commit_request("orders", 0, 1));
    harness.commit(&two, &two.commit_request("orders", 0, 2));
    harness.commit(&one, &one.commit_request("orders", 0, 3));
    let first = harness.under_way.pop_front().unwrap();
    harness.fail_writes(NotEnoughReplicas);
    harness.commit(&two, &two.commit_request("orders", 0, 4));
    let fetch = harness.fetch("one", None);
    assert!(!harness.has_answer(&fetch));
    harness.under_way.push_front(first);
    harness.complete_writes();
    assert_eq!(harness.expect(fetch).topics[0].partitions[0].committed_offset, 1);
}
