use crate::harness::errors::*;
use corelane_protocol::Str;
use corelane_protocol::messages::ListGroupsRequest;

use crate::harness::{Harness, client, code, subscription};

#[test]
fn a_stable_group_is_described_with_metadata_and_assignments() {
    let mut harness = Harness::default();
    let mut members = [client("g"), client("g").named("i")];
    harness.stabilize(&mut members);
    let group = harness.describe("g");
    assert_eq!((group.error_code, group.group_state.as_str()), (0, "Stable"));
    assert_eq!((group.protocol_type.as_str(), group.protocol_data.as_str()), ("consumer", "range"));
    assert_eq!(group.members.len(), 2);
    for member in &group.members {
        assert_eq!((member.client_id.as_str(), member.client_host.as_str()), ("app", "/127.0.0.1"));
        assert_eq!(member.member_metadata, subscription(&["orders"]));
        assert_eq!(member.member_assignment, member.member_id.as_bytes());
    }
    assert!(group.members.iter().any(|member| member.group_instance_id.as_deref() == Some("i")));

    harness.join(&members[0]);
    let group = harness.describe("g");
    assert_eq!((group.group_state.as_str(), group.protocol_data.as_str()), ("PreparingRebalance", ""));
    assert!(group.members.iter().all(|member| member.member_metadata.is_empty()));
}

#[test]
fn an_unknown_group_is_dead_and_from_version_6_not_found() {
    let mut harness = Harness::default();
    let asked = client("g");
    for (version, error) in [(5, 0), (6, code(GroupIdNotFound))] {
        let context = harness.context(&asked.clone().version(version));
        let group = harness.machine.describe_groups(&context, &[Str::from("other")]).remove(0);
        assert_eq!((group.group_state.as_str(), group.error_code), ("Dead", error));
        assert_eq!(group.error_message.is_some(), version >= 6);
    }
}

#[test]
fn groups_are_listed_by_state_and_type() {
    let mut harness = Harness::default();
    harness.stabilize(&mut [client("stable")]);
    let alone = client("simple");
    harness.commit(&alone, &alone.commit_request("orders", 0, 1));
    let list = |harness: &Harness, states: &[&'static str], types: &[&'static str]| {
        let request = ListGroupsRequest {
            states_filter: states.iter().map(|name| Str::from(*name)).collect(),
            types_filter: types.iter().map(|name| Str::from(*name)).collect(),
            ..Default::default()
        };
        let mut groups: Vec<String> =
            harness.machine.list_groups(&request).iter().map(|group| group.group_id.to_string()).collect();
        groups.sort();
        groups
    };
    assert_eq!(list(&harness, &[], &[]), ["simple", "stable"]);
    assert_eq!(list(&harness, &["Stable"], &[]), ["stable"]);
    assert_eq!(list(&harness, &[" empty "], &["CLASSIC"]), ["simple"]);
    assert_eq!(list(&harness, &["Empty", "stable", "Dead"], &[]), ["simple", "stable"]);
    assert!(list(&harness, &[], &["consumer"]).is_empty());
    assert_eq!(list(&harness, &[], &["consumer", "classic"]), ["simple", "stable"]);
    let all = harness.machine.list_groups(&ListGroupsRequest::default());
    let stable = all.iter().find(|group| group.group_id == "stable").unwrap();
    assert_eq!((stable.protocol_type.as_str(), stable.group_state.as_str()), ("consumer", "Stable"));
    assert_eq!(stable.group_type, "classic");
}

#[test]
fn only_groups_without_members_are_deleted() {
    let mut harness = Harness::default();
    harness.stabilize(&mut [client("stable")]);
    let alone = client("simple");
    harness.commit(&alone, &alone.commit_request("orders", 0, 1));
    harness.commit(&alone, &alone.commit_request("orders", 1, 1));
    let ticket = harness.delete_groups(&["stable", "simple", "other", "simple"]);
    let response = harness.expect(ticket);
    let results: Vec<(&str, i16)> =
        response.results.iter().map(|result| (result.group_id.as_str(), result.error_code)).collect();
    assert_eq!(results, [("stable", code(NonEmptyGroup)), ("simple", 0), ("other", code(GroupIdNotFound))]);
    assert_eq!(harness.committed("simple", "orders", 0), -1);
    let (live, replayed) = (harness.machine.counts(), harness.replayed().counts());
    assert_eq!((live.empty, live.stable, live.offsets), (0, 1, 0));
    assert_eq!((replayed.empty, replayed.stable, replayed.offsets), (0, 1, 0));
}

#[test]
fn a_deleted_group_can_begin_anew() {
    let mut harness = Harness::default();
    let mut members = [client("g")];
    harness.stabilize(&mut members);
    let member = members[0].clone();
    harness.leave(&member, &[(&member.member_id, None)]);
    let ticket = harness.delete_groups(&["g"]);
    assert_eq!(harness.expect(ticket).results[0].error_code, 0);
    let mut members = [client("g")];
    harness.stabilize(&mut members);
    assert_eq!(members[0].generation, 1);
}
