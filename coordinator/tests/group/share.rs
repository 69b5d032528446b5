//! Share groups: members, assignments, and what the share coordinator is asked for.

use std::collections::{BTreeMap, BTreeSet};

use corelane_coordinator::group::{Errand, InitializeShareState, RequestContext};
use corelane_protocol::ErrorCode::{FencedMemberEpoch, InvalidRequest};
use corelane_protocol::messages::*;
use corelane_protocol::{Str, Uuid};

use crate::harness::errors::*;
use crate::harness::{Harness, client, code, topic_id};

/// A member as its client knows it.
#[derive(Clone, Debug)]
pub struct Consumer {
    pub group: &'static str,
    pub id: &'static str,
    pub epoch: i32,
    /// An answer did not come: it says everything again, to hear everything again.
    pub lost: bool,
    pub topics: Vec<&'static str>,
    pub assigned: BTreeSet<(Uuid, i32)>,
}

pub fn consumer(group: &'static str, id: &'static str, topics: &[&'static str]) -> Consumer {
    Consumer { group, id, epoch: 0, lost: false, topics: topics.to_vec(), assigned: BTreeSet::new() }
}

pub fn context() -> RequestContext {
    let (client_id, client_host) = (Str::from("app"), Str::from("/127.0.0.1"));
    RequestContext { client_id, client_host, api_version: 1, random: 7 }
}

impl Consumer {
    pub fn request(&self) -> ShareGroupHeartbeatRequest {
        let names = || self.topics.iter().map(|name| Str::from(*name)).collect();
        ShareGroupHeartbeatRequest {
            group_id: Str::from(self.group),
            member_id: Str::from(self.id),
            member_epoch: self.epoch,
            subscribed_topic_names: (self.epoch == 0 || self.lost).then(names),
            ..Default::default()
        }
    }

    pub fn take(&mut self, response: &ShareGroupHeartbeatResponse) {
        (self.epoch, self.lost) = (response.member_epoch, false);
        if let Some(assignment) = &response.assignment {
            let topics = assignment.topic_partitions.iter();
            self.assigned = topics.flat_map(|t| t.partitions.iter().map(|index| (t.topic_id, *index))).collect();
        }
    }
}

impl Harness {
    pub fn share_request(&mut self, request: &ShareGroupHeartbeatRequest) -> ShareGroupHeartbeatResponse {
        let outcome = self.machine.share_group_heartbeat(self.now, &context(), request);
        let ticket = self.ticket(outcome);
        self.expect(ticket)
    }

    fn beat(&mut self, consumer: &mut Consumer) -> i16 {
        let response = self.share_request(&consumer.request());
        if response.error_code == 0 {
            consumer.take(&response);
        }
        response.error_code
    }

    /// The share coordinator does what it is asked to.
    pub fn initialize_share_states(&mut self, failed: bool) -> Vec<InitializeShareState> {
        let mut done = Vec::new();
        for Errand::InitializeShareState(asked) in std::mem::take(&mut self.errands) {
            let effects = self.machine.share_state_initialized(self.now, &asked, failed);
            self.absorb(effects);
            done.push(asked);
        }
        done
    }

    fn described(&mut self, group: &'static str) -> ShareGroupDescribeResponseDescribedGroup {
        let outcome = self.machine.share_group_describe(&Str::from(group));
        let ticket = self.ticket(outcome);
        self.expect(ticket)
    }
}

fn all_of(topic: &str, count: i32) -> BTreeSet<(Uuid, i32)> {
    (0..count).map(|index| (topic_id(topic), index)).collect()
}

/// Two members of `g` that read `jobs`, which has four partitions.
fn settled() -> (Harness, Consumer, Consumer) {
    let mut harness = Harness::default();
    harness.set_topic("jobs", 4);
    let (mut a, mut b) = (consumer("g", "a", &["jobs"]), consumer("g", "b", &["jobs"]));
    assert_eq!((harness.beat(&mut a), harness.beat(&mut b)), (0, 0));
    harness.initialize_share_states(false);
    for _ in 0..2 {
        harness.advance(1_000);
        assert_eq!((harness.beat(&mut a), harness.beat(&mut b)), (0, 0));
    }
    (harness, a, b)
}

#[test]
fn partitions_are_assigned_once_their_state_is_initialised() {
    let mut harness = Harness::default();
    harness.set_topic("jobs", 3);
    let mut a = consumer("g", "a", &["jobs", "later"]);
    assert_eq!(harness.beat(&mut a), 0);
    assert_eq!((a.epoch, &a.assigned), (2, &BTreeSet::new()));
    let asked = harness.initialize_share_states(false);
    let offsets: BTreeMap<i32, i64> = (0..3).map(|index| (index, -1)).collect();
    let topics = BTreeMap::from([(topic_id("jobs"), offsets)]);
    assert_eq!(asked, [InitializeShareState { group: Str::from("g"), state_epoch: 2, topics }]);
    // The next assignment has its time.
    assert_eq!(harness.beat(&mut a), 0);
    assert!(a.assigned.is_empty());
    harness.advance(1_000);
    assert_eq!(harness.beat(&mut a), 0);
    assert_eq!(a.assigned, all_of("jobs", 3));
    // More partitions, and a topic that was only named.
    harness.set_topic("jobs", 4);
    harness.set_topic("later", 1);
    assert_eq!(harness.beat(&mut a), 0);
    let asked = harness.initialize_share_states(false);
    let indexes: Vec<_> = asked[0].topics.values().map(|offsets| offsets.keys().copied().collect::<Vec<_>>()).collect();
    assert!(indexes.contains(&vec![3]) && indexes.contains(&vec![0]), "{indexes:?}");
    harness.advance(1_000);
    harness.beat(&mut a);
    assert_eq!(a.assigned, all_of("jobs", 4).union(&all_of("later", 1)).copied().collect());
    // Nothing more happens to a group that stands.
    let (writes, epoch) = (harness.log.len(), a.epoch);
    for _ in 0..3 {
        harness.advance(5_000);
        harness.beat(&mut a);
    }
    assert_eq!((harness.log.len(), a.epoch, harness.errands.len()), (writes, epoch, 0));
}

#[test]
fn initialising_is_tried_again_when_it_failed_or_was_forgotten() {
    let mut harness = Harness::default();
    harness.set_topic("jobs", 1);
    let mut a = consumer("g", "a", &["jobs"]);
    harness.beat(&mut a);
    assert_eq!(harness.initialize_share_states(true).len(), 1);
    harness.beat(&mut a);
    assert_eq!(harness.errands.len(), 1, "it failed: again at once");
    harness.errands.clear();
    harness.advance(29_999);
    harness.beat(&mut a);
    assert_eq!(harness.errands.len(), 0, "it may still be under way");
    harness.advance(1);
    harness.beat(&mut a);
    assert_eq!(harness.errands.len(), 1);
}

#[test]
fn members_share_the_partitions_and_take_over_from_each_other() {
    let (mut harness, mut a, mut b) = settled();
    assert_eq!((a.assigned.len(), b.assigned.len()), (2, 2));
    assert_eq!(&a.assigned | &b.assigned, all_of("jobs", 4));
    // One is not heard of any more.
    for _ in 0..9 {
        harness.advance(5_000);
        assert_eq!(harness.beat(&mut a), 0);
    }
    assert_eq!(a.assigned, all_of("jobs", 4));
    assert_eq!(harness.beat(&mut b), code(UnknownMemberId));
    b.epoch = 0;
    assert_eq!(harness.beat(&mut b), 0);
    harness.advance(1_000);
    assert_eq!((harness.beat(&mut a), harness.beat(&mut b)), (0, 0));
    assert_eq!((a.assigned.len(), b.assigned.len()), (2, 2));
    // The other leaves.
    let leave = ShareGroupHeartbeatRequest { member_epoch: -1, ..a.request() };
    let left = harness.share_request(&leave);
    assert_eq!((left.error_code, left.member_epoch), (0, -1));
    harness.advance(1_000);
    harness.beat(&mut b);
    assert_eq!(b.assigned, all_of("jobs", 4));
    assert_eq!(harness.share_request(&leave).error_code, code(UnknownMemberId));
}

#[test]
fn an_epoch_that_was_not_told_fences() {
    let (mut harness, a, _) = settled();
    let with = |member_epoch| ShareGroupHeartbeatRequest { member_epoch, ..a.request() };
    assert_eq!(harness.share_request(&with(a.epoch + 1)).error_code, code(FencedMemberEpoch));
    assert_eq!(harness.share_request(&with(1)).error_code, code(FencedMemberEpoch));
    // The answer that told the last epoch may have been lost.
    let described = harness.described("g");
    let again = harness.share_request(&with(described.members[0].member_epoch));
    assert_eq!((again.error_code, again.member_epoch), (0, a.epoch));
    // Whoever has forgotten everything joins again, and hears everything.
    let request = ShareGroupHeartbeatRequest { subscribed_topic_names: Some(vec![Str::from("jobs")]), ..with(0) };
    assert!(harness.share_request(&request).assignment.is_some());
}

#[test]
fn requests_that_cannot_be_are_refused() {
    let mut harness = Harness::default();
    let ask = |harness: &mut Harness, change: &dyn Fn(&mut ShareGroupHeartbeatRequest)| {
        let mut request = consumer("g", "a", &["jobs"]).request();
        change(&mut request);
        let response = harness.share_request(&request);
        (response.error_code, response.error_message.map(|m| m.to_string()).unwrap_or_default())
    };
    let invalid = |text: &str| (code(InvalidRequest), text.to_owned());
    let no_topics = invalid("SubscribedTopicNames must be set in first request.");
    assert_eq!(ask(&mut harness, &|r| r.member_id = Str::from(" ")), invalid("MemberId can't be empty."));
    assert_eq!(ask(&mut harness, &|r| r.group_id = Str::EMPTY), invalid("GroupId can't be empty."));
    assert_eq!(ask(&mut harness, &|r| r.rack_id = Some(Str::EMPTY)), invalid("RackId can't be empty."));
    assert_eq!(ask(&mut harness, &|r| r.subscribed_topic_names = None), no_topics);
    assert_eq!(ask(&mut harness, &|r| r.subscribed_topic_names = Some(Vec::new())), no_topics);
    assert_eq!(ask(&mut harness, &|r| r.member_epoch = -2), invalid("MemberEpoch is invalid."));
    let unknown = (code(GroupIdNotFound), "Share group g not found.".to_owned());
    assert_eq!(ask(&mut harness, &|r| r.member_epoch = 5), unknown);
    assert!(harness.log.is_empty());
    // A group of another kind is not taken over, nor is a share group.
    let mut classic = [client("c")];
    harness.stabilize(&mut classic);
    let other = (code(GroupIdNotFound), "Group c is not a share group.".to_owned());
    assert_eq!(ask(&mut harness, &|r| r.group_id = Str::from("c")), other);
    assert_eq!(ask(&mut harness, &|_| {}).0, 0);
    let mut late = client("g");
    late.member_id = Str::from("m");
    let joined = harness.join(&late);
    assert_eq!(harness.expect(joined).error_code, code(InconsistentGroupProtocol));
    assert_eq!(harness.commit_error(&client("g"), &client("g").commit_request("jobs", 0, 1)), code(GroupIdNotFound));
}

#[test]
fn a_group_is_as_large_as_it_may_be() {
    let mut harness = Harness::default();
    for index in 0..200 {
        let id = Box::leak(format!("m{index}").into_boxed_str());
        assert_eq!(harness.beat(&mut consumer("g", id, &["jobs"])), 0);
    }
    assert_eq!(harness.beat(&mut consumer("g", "one more", &["jobs"])), code(GroupMaxSizeReached));
    assert_eq!(harness.beat(&mut consumer("g", "m7", &["jobs"])), 0);
}

#[test]
fn a_failed_write_takes_its_change_back() {
    let (mut harness, mut a, _) = settled();
    let before = harness.described("g");
    harness.hold_writes = true;
    let leave = ShareGroupHeartbeatRequest { member_epoch: -1, ..a.request() };
    let outcome = harness.machine.share_group_heartbeat(harness.now, &context(), &leave);
    let left = harness.ticket(outcome);
    let mut c = consumer("g", "c", &["jobs", "more"]);
    let outcome = harness.machine.share_group_heartbeat(harness.now, &context(), &c.request());
    let joined = harness.ticket(outcome);
    let new = consumer("new", "d", &["jobs"]);
    let outcome = harness.machine.share_group_heartbeat(harness.now, &context(), &new.request());
    let made = harness.ticket(outcome);
    assert!(!harness.has_answer(&left) && !harness.has_answer(&joined));
    harness.fail_writes(NotEnoughReplicas);
    harness.hold_writes = false;
    assert_eq!(harness.expect(left).error_code, code(CoordinatorNotAvailable));
    assert_eq!(harness.expect(joined).error_code, code(CoordinatorNotAvailable));
    assert_eq!(harness.expect(made).error_code, code(CoordinatorNotAvailable));
    assert_eq!(harness.described("g"), before);
    assert_eq!(harness.described("new").error_code, code(GroupIdNotFound));
    assert_eq!(harness.errands, []);
    assert_eq!(harness.beat(&mut a), 0);
    assert_eq!(harness.beat(&mut c), 0);
    // Whoever is back has a session again.
    harness.advance(45_000);
    assert_eq!(harness.described("g").members, []);
}

fn alter(group: &'static str, offsets: &[(&'static str, i32, i64)]) -> AlterShareGroupOffsetsRequest {
    let topic = |(name, partition_index, start_offset): &(&'static str, i32, i64)| {
        let (partition_index, start_offset) = (*partition_index, *start_offset);
        let partition = AlterShareGroupOffsetsRequestPartition { partition_index, start_offset, ..Default::default() };
        let (topic_name, partitions) = (Str::from(*name), vec![partition]);
        AlterShareGroupOffsetsRequestTopic { topic_name, partitions, ..Default::default() }
    };
    let topics = offsets.iter().map(topic).collect();
    AlterShareGroupOffsetsRequest { group_id: Str::from(group), topics, ..Default::default() }
}

fn delete(group: &'static str, topics: &[&'static str]) -> DeleteShareGroupOffsetsRequest {
    let topic = |name: &&'static str| DeleteShareGroupOffsetsRequestTopic {
        topic_name: Str::from(*name),
        ..Default::default()
    };
    let topics = topics.iter().map(topic).collect();
    DeleteShareGroupOffsetsRequest { group_id: Str::from(group), topics, ..Default::default() }
}

#[test]
fn offsets_of_a_group_without_members_are_altered_and_deleted() {
    let mut harness = Harness::default();
    harness.set_topic("jobs", 2);
    let request = alter("g", &[("jobs", 1, 40), ("gone", 0, 0)]);
    let outcome = harness.machine.begin_alter_share_offsets(harness.now, &request);
    let ticket = harness.ticket(outcome);
    let begun = harness.expect(ticket);
    let errors: Vec<i16> = begun.response.responses.iter().map(|t| t.partitions[0].error_code).collect();
    assert_eq!(errors, [0, code(UnknownTopicOrPartition)]);
    let jobs = topic_id("jobs");
    assert_eq!(begun.initialize.topics, BTreeMap::from([(jobs, BTreeMap::from([(1, 40)]))]));
    let effects = harness.machine.share_state_initialized(harness.now, &begun.initialize, false);
    harness.absorb(effects);
    let initialized = |harness: &Harness| harness.machine.initialized_share_partitions("g");
    assert_eq!(initialized(&harness), BTreeMap::from([(jobs, BTreeSet::from([1]))]));

    let begin = |harness: &mut Harness, group, topics: &[&'static str]| {
        let outcome = harness.machine.begin_delete_share_offsets(harness.now, &delete(group, topics));
        let ticket = harness.ticket(outcome);
        harness.expect(ticket)
    };
    assert_eq!(begin(&mut harness, "none", &["jobs"]).response.error_code, code(GroupIdNotFound));
    let begun = begin(&mut harness, "g", &["gone", "jobs"]);
    assert_eq!(begun.response.responses[0].error_code, code(UnknownTopicOrPartition));
    assert_eq!(begun.delete, BTreeMap::from([(jobs, BTreeSet::from([1]))]));
    assert!(initialized(&harness).is_empty());
    // It did not come to its end: whoever asks again begins with all partitions.
    harness.restart();
    let begun = begin(&mut harness, "g", &["jobs"]);
    assert_eq!(begun.delete, BTreeMap::from([(jobs, BTreeSet::from([0, 1]))]));
    let effects = harness.machine.share_offsets_deleted(harness.now, &Str::from("g"), &BTreeSet::from([jobs]));
    harness.absorb(effects);
    let begun = begin(&mut harness, "g", &["jobs"]);
    assert_eq!((begun.response.responses[0].error_code, begun.delete.len()), (code(UnknownTopicOrPartition), 0));
}

#[test]
fn a_group_with_members_is_left_alone() {
    let (mut harness, _, _) = settled();
    let outcome = harness.machine.begin_alter_share_offsets(harness.now, &alter("g", &[("jobs", 0, 0)]));
    let ticket = harness.ticket(outcome);
    assert_eq!(harness.expect(ticket).response.error_code, code(NonEmptyGroup));
    let outcome = harness.machine.begin_delete_share_offsets(harness.now, &delete("g", &["jobs"]));
    let ticket = harness.ticket(outcome);
    assert_eq!(harness.expect(ticket).response.error_code, code(NonEmptyGroup));
    let outcome = harness.machine.begin_delete_share_group(harness.now, &Str::from("g"));
    let ticket = harness.ticket(outcome);
    assert_eq!(harness.expect(ticket).error_code, code(NonEmptyGroup));
}

#[test]
fn a_deleted_group_leaves_nothing() {
    let (mut harness, a, b) = settled();
    for member in [a, b] {
        harness.share_request(&ShareGroupHeartbeatRequest { member_epoch: -1, ..member.request() });
    }
    let group = Str::from("g");
    // Empty groups stay: where they are is what they are for.
    harness.advance(30 * 24 * 3_600_000);
    assert_eq!(harness.described("g").error_code, 0);
    let outcome = harness.machine.begin_delete_share_group(harness.now, &group);
    let ticket = harness.ticket(outcome);
    assert_eq!(harness.expect(ticket).delete, BTreeMap::from([(topic_id("jobs"), (0..4).collect())]));
    let outcome = harness.machine.delete_groups(harness.now, &[group]);
    let ticket = harness.ticket(outcome);
    assert_eq!(harness.expect(ticket).results[0].error_code, 0);
    assert_eq!(harness.described("g").error_code, code(GroupIdNotFound));
    let mut left = BTreeMap::new();
    for record in &harness.log {
        left.insert(record.key.clone(), record.value.is_some());
    }
    assert!(left.values().all(|lives| !lives), "compaction removes every record");
}

#[test]
fn a_deleted_topic_is_forgotten() {
    let (mut harness, mut a, mut b) = settled();
    harness.set_topic("jobs", 0);
    let deleted = [(Str::from("jobs"), topic_id("jobs"))];
    let effects = harness.machine.topics_deleted(harness.now, &deleted);
    harness.absorb(effects);
    assert!(harness.machine.initialized_share_partitions("g").is_empty());
    assert_eq!((harness.beat(&mut a), harness.beat(&mut b)), (0, 0));
    harness.advance(1_000);
    assert_eq!((harness.beat(&mut a), harness.beat(&mut b)), (0, 0));
    assert!(a.assigned.is_empty() && b.assigned.is_empty());
}
