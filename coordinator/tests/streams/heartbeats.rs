//! Members join, get tasks, hand them over and go.

use corelane_coordinator::group::StreamsStatus;
use corelane_protocol::messages::*;
use corelane_protocol::{ErrorCode, Str};

use super::harness::*;

#[test]
fn an_application_gets_its_internal_topics_and_then_its_tasks() {
    let mut h = Harness::default();
    let mut one = member("p", 0);
    assert_eq!(h.beat(&mut one), ErrorCode::None);
    assert_eq!(one.statuses, [StreamsStatus::MissingSourceTopics.code()]);
    assert!(one.active.is_empty());
    h.set_topic("text", 3);
    let answer = h.ask(&one.request());
    one.follow(&answer.response);
    assert_eq!(one.statuses, [StreamsStatus::MissingInternalTopics.code()]);
    let missing: Vec<(&str, i32)> = answer.missing.iter().map(|t| (t.name.as_str(), t.partitions)).collect();
    assert_eq!(missing, [("counts", 3), ("words", 3)]);
    assert_eq!(h.describe().group_state, "NotReady");
    h.set_topic("counts", 3);
    h.set_topic("words", 3);
    h.settle(std::slice::from_mut(&mut one));
    assert_eq!((one.statuses.len(), one.active.len()), (0, 6));
    assert_eq!(h.describe().group_state, "Stable");
    // a topic with the wrong number of partitions
    h.set_topic("words", 2);
    h.beat(&mut one);
    assert_eq!(one.statuses, [StreamsStatus::IncorrectlyPartitionedTopics.code()]);
}

#[test]
fn tasks_are_handed_over_without_two_having_one() {
    let mut h = Harness::with_topics(4);
    let mut members = vec![member("p", 0)];
    h.settle(&mut members);
    assert_eq!(members[0].active.len(), 8);
    members.push(member("q", 0));
    let mut two = members.pop().unwrap();
    h.beat(&mut two);
    assert!(two.active.is_empty(), "the first still has all");
    let answer = h.ask(&members[0].request()).response;
    let kept: i32 = answer.active_tasks.iter().flatten().map(|ids| ids.partitions.len() as i32).sum();
    assert_eq!(kept, 4, "it is to give up the others");
    h.beat(&mut two);
    assert!(two.active.is_empty(), "it has not said that it has");
    members[0].follow(&answer);
    members.push(two);
    h.settle(&mut members);
    assert_eq!((members[0].active.len(), members[1].active.len()), (4, 4));
    assert!(members[0].active.is_disjoint(&members[1].active));
    let two = members.pop().unwrap();
    h.ask(&two.leaving());
    h.settle(&mut members);
    assert_eq!(members[0].active.len(), 8);
}

#[test]
fn who_is_silent_is_out_and_its_tasks_go_to_others() {
    let mut h = Harness::with_topics(2);
    let mut members = vec![member("p", 0), member("q", 0)];
    h.settle(&mut members);
    let mut two = members.pop().unwrap();
    for _ in 0..4 {
        h.pass(15_000);
        h.beat(&mut members[0]);
    }
    h.settle(&mut members);
    assert_eq!(members[0].active.len(), 4);
    assert_eq!(h.beat(&mut two), ErrorCode::UnknownMemberId);
    assert_eq!(h.beat(&mut two), ErrorCode::None, "it may join again");
}

#[test]
fn who_does_not_give_up_tasks_in_its_time_is_out() {
    let mut h = Harness::with_topics(2);
    let mut members = vec![member("p", 0)];
    h.settle(&mut members);
    let mut two = member("q", 0);
    h.beat(&mut two);
    let mut slow = members.pop().unwrap();
    let stubborn = slow.request();
    for _ in 0..7 {
        h.pass(10_000);
        h.beat(&mut two);
        h.ask(&stubborn);
    }
    assert_eq!(h.beat(&mut slow), ErrorCode::UnknownMemberId);
    h.settle(std::slice::from_mut(&mut two));
    assert_eq!(two.active.len(), 4);
}

#[test]
fn epochs_fence() {
    let mut h = Harness::with_topics(1);
    let mut one = member("p", 0);
    h.settle(std::slice::from_mut(&mut one));
    let before = one.epoch;
    h.settings.standby_replicas = 1;
    h.settle(std::slice::from_mut(&mut one));
    let code = |h: &mut Harness, epoch: i32| {
        let asked = Member { epoch, ..one.clone() };
        h.ask(&asked.request()).response.error_code
    };
    assert_eq!(code(&mut h, one.epoch + 1), ErrorCode::FencedMemberEpoch.code());
    assert_eq!(code(&mut h, before), 0, "the last answer may have been lost");
    assert_eq!(code(&mut h, before - 1), ErrorCode::FencedMemberEpoch.code());
    assert_eq!(code(&mut h, one.epoch), 0);
    let mut wrong = one.clone();
    wrong.active.insert((Str::from_static("7"), 0));
    let answer = h.ask(&wrong.request()).response;
    assert_eq!(answer.error_code, ErrorCode::InvalidRequest.code());
    assert_eq!(answer.error_message.as_deref(), Some("Subtopology 7 does not exist in the topology."));
    let unknown = member("nobody", 0);
    assert_eq!(h.ask(&unknown.leaving()).response.error_code, ErrorCode::UnknownMemberId.code());
}

#[test]
fn the_first_tasks_wait_for_more_members() {
    let mut h = Harness::with_topics(2);
    h.settings.initial_rebalance_delay_ms = 3_000;
    let mut members = vec![member("p", 0), member("q", 0)];
    for member in &mut members {
        assert_eq!(h.beat(member), ErrorCode::None);
        assert_eq!(member.statuses, [StreamsStatus::AssignmentDelayed.code()]);
        assert!(member.active.is_empty());
    }
    h.pass(3_000);
    h.settle(&mut members);
    assert_eq!((members[0].active.len(), members[1].active.len()), (2, 2));
    assert_eq!(h.describe().assignment_epoch, h.describe().group_epoch);
}

#[test]
fn assignments_keep_their_distance() {
    let mut h = Harness::with_topics(2);
    h.settings.assignment_interval_ms = 1_000;
    let mut members = vec![member("p", 0)];
    h.settle(&mut members);
    let mut two = member("q", 0);
    h.beat(&mut two);
    assert_eq!(two.statuses, [StreamsStatus::AssignmentDelayed.code()]);
    h.pass(1_000);
    members.push(two);
    h.settle(&mut members);
    assert_eq!(members[1].active.len(), 2);
}

#[test]
fn copies_of_state_are_kept_elsewhere() {
    let mut h = Harness::with_topics(3);
    h.settings.standby_replicas = 1;
    let mut members = vec![member("p", 0), member("q", 0)];
    h.settle(&mut members);
    let copies: usize = members.iter().map(|member| member.standby.len()).sum();
    assert_eq!(copies, 3, "of the subtopology with state");
    assert!(members.iter().all(|member| member.active.is_disjoint(&member.standby)));
    // the group's setting changes: so does what they have
    h.settings.standby_replicas = 0;
    h.settle(&mut members);
    assert!(members.iter().all(|member| member.standby.is_empty()));
}

#[test]
fn a_shutdown_reaches_everybody_until_all_have_gone() {
    let mut h = Harness::with_topics(1);
    let mut members = vec![member("p", 0), member("q", 0)];
    h.settle(&mut members);
    let request = StreamsGroupHeartbeatRequest { shutdown_application: true, ..members[0].leaving() };
    h.ask(&request);
    h.beat(&mut members[1]);
    assert!(members[1].statuses.contains(&StreamsStatus::ShutdownApplication.code()));
    h.ask(&members[1].leaving());
    let mut third = member("r", 0);
    h.beat(&mut third);
    assert!(third.statuses.is_empty());
}

#[test]
fn a_topology_stays_as_the_first_member_said_it() {
    let mut h = Harness::with_topics(1);
    let mut one = member("p", 0);
    h.settle(std::slice::from_mut(&mut one));
    let mut request = member("q", 0).request();
    let mut other = topology();
    other.subtopologies[0].source_topics.push(Str::from_static("more"));
    request.topology = Some(other);
    let answer = h.ask(&request).response;
    assert_eq!(answer.error_message.as_deref(), Some("Topology updates are not supported yet."));
}

#[test]
fn endpoints_say_who_has_which_partitions() {
    let mut h = Harness::with_topics(1);
    let mut one = Member { endpoint: Some(8080), ..member("p", 0) };
    h.settle(std::slice::from_mut(&mut one));
    let mut request = one.request();
    request.endpoint_information_epoch = -1;
    let answer = h.ask(&request).response;
    let endpoints = answer.partitions_by_user_endpoint.expect("endpoints");
    let topics: Vec<&str> = endpoints[0].active_partitions.iter().map(|topic| topic.topic.as_str()).collect();
    assert_eq!((endpoints.len(), endpoints[0].user_endpoint.port, topics), (1, 8080, vec!["text", "words"]));
    let again =
        StreamsGroupHeartbeatRequest { endpoint_information_epoch: answer.endpoint_information_epoch, ..request };
    assert_eq!(h.ask(&again).response.partitions_by_user_endpoint, None, "it knows that already");
}

#[test]
fn what_4_3_does_not_support_is_refused() {
    let mut h = Harness::with_topics(1);
    let request = || member("p", 0).request();
    let message = |h: &mut Harness, request: &StreamsGroupHeartbeatRequest| {
        let answer = h.ask(request).response;
        assert_eq!(answer.error_code, ErrorCode::InvalidRequest.code());
        answer.error_message.unwrap()
    };
    let named = StreamsGroupHeartbeatRequest { instance_id: Some(Str::from_static("i")), ..request() };
    assert_eq!(message(&mut h, &named), "Static membership is not yet supported.");
    let mut regex = request();
    regex.topology.as_mut().unwrap().subtopologies[0].source_topic_regex = vec![Str::from_static("a.*")];
    assert_eq!(message(&mut h, &regex), "Regular expressions for source topics are not supported yet.");
    let nameless = StreamsGroupHeartbeatRequest { member_id: Str::EMPTY, ..request() };
    assert_eq!(message(&mut h, &nameless), "MemberId can't be empty.");
    let bare = StreamsGroupHeartbeatRequest { topology: None, ..request() };
    assert_eq!(message(&mut h, &bare), "Topology must be non-null when (re-)joining.");
    assert!(h.log.is_empty());
}
