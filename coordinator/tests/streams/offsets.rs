//! Offsets, deletion and the other kinds of groups.

use corelane_coordinator::group::{Outcome, Reply};
use corelane_protocol::messages::*;
use corelane_protocol::{ErrorCode, Str};

use super::harness::*;

fn commit(h: &mut Harness, member_id: &str, epoch: i32, topic: &'static str, partition: i32) -> ErrorCode {
    let request = OffsetCommitRequest {
        group_id: Str::from_static(GROUP),
        member_id: Str::from(member_id.to_owned()),
        generation_id_or_member_epoch: epoch,
        topics: vec![OffsetCommitRequestTopic {
            name: Str::from_static(topic),
            partitions: vec![OffsetCommitRequestPartition {
                partition_index: partition,
                committed_offset: 5,
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    };
    let mut context = Harness::context();
    context.api_version = 9;
    let Outcome { reply, effects } = h.machine.offset_commit(h.now, &context, &request);
    h.take(effects);
    let answer = match reply {
        Reply::Now(answer) => answer,
        Reply::Later(token) => OffsetCommitResponse::try_from(h.answers.remove(&token).unwrap()).unwrap(),
    };
    ErrorCode::from_code(answer.topics[0].partitions[0].error_code).unwrap()
}

#[test]
fn a_member_commits_for_the_tasks_that_it_has_had() {
    let mut h = Harness::with_topics(2);
    let mut members = vec![member("p", 0)];
    h.settle(&mut members);
    let first = members[0].epoch;
    members.push(member("q", 0));
    h.settle(&mut members);
    let (one, two) = (members[0].clone(), members[1].clone());
    assert!(one.epoch > first);
    let kept = one.active.iter().find(|(id, _)| id == "0").expect("a task of the first subtopology").1;
    let lost = two.active.iter().find(|(id, _)| id == "0").expect("a task of the first subtopology").1;
    assert_eq!(commit(&mut h, &one.id, one.epoch, "text", kept), ErrorCode::None);
    assert_eq!(commit(&mut h, &one.id, first, "text", kept), ErrorCode::None, "it has had it since");
    assert_eq!(commit(&mut h, &one.id, first, "text", lost), ErrorCode::StaleMemberEpoch);
    assert_eq!(commit(&mut h, &two.id, first, "text", lost), ErrorCode::StaleMemberEpoch, "it got it later");
    assert_eq!(commit(&mut h, &one.id, one.epoch + 1, "text", kept), ErrorCode::StaleMemberEpoch);
    assert_eq!(commit(&mut h, "nobody", one.epoch, "text", kept), ErrorCode::UnknownMemberId);
    assert_eq!(commit(&mut h, "", -1, "text", kept), ErrorCode::UnknownMemberId, "the group has members");
}

fn delete(h: &mut Harness) -> ErrorCode {
    let Outcome { reply, effects } = h.machine.delete_groups(h.now, &[Str::from_static(GROUP)]);
    h.take(effects);
    let answer = match reply {
        Reply::Now(answer) => answer,
        Reply::Later(token) => DeleteGroupsResponse::try_from(h.answers.remove(&token).unwrap()).unwrap(),
    };
    ErrorCode::from_code(answer.results[0].error_code).unwrap()
}

#[test]
fn a_group_without_members_can_be_deleted_for_good() {
    let mut h = Harness::with_topics(1);
    let mut one = member("p", 0);
    h.settle(std::slice::from_mut(&mut one));
    assert_eq!(delete(&mut h), ErrorCode::NonEmptyGroup);
    h.ask(&one.leaving());
    assert_eq!(h.describe().group_state, "Empty");
    assert_eq!(delete(&mut h), ErrorCode::None);
    assert_eq!(h.describe().error_code, ErrorCode::GroupIdNotFound.code());
    let loaded = h.reloaded(&h.log);
    assert_eq!(stored(&loaded).error_code, ErrorCode::GroupIdNotFound.code());
}

#[test]
fn listings_show_the_kind_and_the_state() {
    let mut h = Harness::with_topics(1);
    h.settle(&mut [member("p", 0)]);
    let listed =
        h.machine.list_groups(&ListGroupsRequest { types_filter: vec!["Streams".into()], ..Default::default() });
    let shown: Vec<[&str; 3]> =
        listed.iter().map(|g| [g.group_type.as_str(), g.protocol_type.as_str(), g.group_state.as_str()]).collect();
    assert_eq!(shown, [["streams", "streams", "Stable"]]);
    let classic = ListGroupsRequest { types_filter: vec!["classic".into()], ..Default::default() };
    assert!(h.machine.list_groups(&classic).is_empty());
}

#[test]
fn offsets_of_no_member_make_way_for_the_group_and_stay() {
    let mut h = Harness::with_topics(1);
    assert_eq!(commit(&mut h, "", -1, "text", 0), ErrorCode::None);
    let mut one = member("p", 0);
    h.settle(std::slice::from_mut(&mut one));
    assert_eq!(h.machine.counts().offsets, 1);
    let loaded = h.reloaded(&h.log);
    assert_eq!((stored(&loaded), loaded.counts().offsets), (stored(&h.machine), 1));
}
