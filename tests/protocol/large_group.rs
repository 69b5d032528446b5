//! A hundred members of the consumer protocol share a thousand partitions: one goes, five come, and only those move who must.

use std::collections::BTreeSet;
use std::time::Duration;

use corelane_protocol::messages::*;
use corelane_protocol::{Str, Uuid};
use corelane_tests::broker::{Broker, BrokerOptions};
use corelane_tests::connection::Connection;
use corelane_tests::librdkafka::{create_topic, unique};
use corelane_tests::wait;

const LIMIT: Duration = Duration::from_secs(60);
const MEMBERS: usize = 100;
const PARTITIONS: i32 = 1_000;
const GROUP_ID_NOT_FOUND: i16 = 69;

struct Member {
    connection: Connection,
    request: ConsumerGroupHeartbeatRequest,
    owned: BTreeSet<i32>,
}

impl Member {
    fn new(broker: &Broker, group: &str, topic: &str, number: usize) -> Member {
        let request = ConsumerGroupHeartbeatRequest {
            group_id: group.to_owned().into(),
            member_id: format!("m{number:03}").into(),
            rebalance_timeout_ms: 60_000,
            subscribed_topic_names: Some(vec![topic.to_owned().into()]),
            topic_partitions: Some(Vec::new()),
            ..Default::default()
        };
        let connection = Connection::open(broker.bootstrap()).expect("a connection");
        Member { connection, request, owned: BTreeSet::new() }
    }

    /// Says what it owns, and takes what it is told.
    fn beat(&mut self, topic_id: Uuid) {
        let answer = self.connection.call(1, &self.request);
        assert_eq!(answer.error_code, 0, "{:?}", answer.error_message);
        self.request.member_epoch = answer.member_epoch;
        if let Some(assignment) = answer.assignment {
            self.owned = assignment.topic_partitions.iter().flat_map(|topic| topic.partitions.clone()).collect();
            let owned = ConsumerGroupHeartbeatRequestTopicPartitions {
                topic_id,
                partitions: self.owned.iter().copied().collect(),
                ..Default::default()
            };
            self.request.topic_partitions = Some(if self.owned.is_empty() { Vec::new() } else { vec![owned] });
        }
    }

    fn leave(&mut self) {
        let request = ConsumerGroupHeartbeatRequest {
            group_id: self.request.group_id.clone(),
            member_id: self.request.member_id.clone(),
            member_epoch: -1,
            ..Default::default()
        };
        assert_eq!(self.connection.call(1, &request).error_code, 0);
    }

    fn state(&mut self) -> Str {
        let group_ids = vec![self.request.group_id.clone()];
        let request = ConsumerGroupDescribeRequest { group_ids, ..Default::default() };
        self.connection.call(1, &request).groups.remove(0).group_state
    }
}

/// Everyone's heartbeats, in turn, until each partition is someone's and the group is stable. `check` sees each member after
/// its heartbeat.
fn settle(members: &mut [Member], topic_id: Uuid, check: impl Fn(usize, &BTreeSet<i32>)) {
    wait::until("every partition at a member of a stable group", LIMIT, || {
        let mut owners = BTreeSet::new();
        for (number, member) in members.iter_mut().enumerate() {
            member.beat(topic_id);
            check(number, &member.owned);
        }
        for member in &*members {
            member.owned.iter().for_each(|partition| assert!(owners.insert(*partition), "{partition} has two owners"));
        }
        (owners.len() == PARTITIONS as usize && members[0].state() == "Stable").then_some(())
    });
}

#[test]
fn a_hundred_members_of_a_thousand_partitions_are_not_stopped_by_others() {
    let options = BrokerOptions::default().set("group.consumer.assignment.interval.ms", 0);
    let broker = Broker::start(options);
    let (topic, group) = (unique("large"), unique("large"));
    create_topic(&broker, &topic, PARTITIONS, &[]);
    let mut members: Vec<Member> = (0..MEMBERS).map(|number| Member::new(&broker, &group, &topic, number)).collect();
    let find = FindCoordinatorRequest { coordinator_keys: vec![group.clone().into()], ..Default::default() };
    wait::until("a coordinator that has begun", LIMIT, || {
        let connection = &mut members[0].connection;
        let request = ConsumerGroupDescribeRequest { group_ids: vec![group.clone().into()], ..Default::default() };
        let found = connection.call(4, &find).coordinators[0].error_code == 0;
        (found && connection.call(1, &request).groups[0].error_code == GROUP_ID_NOT_FOUND).then_some(())
    });
    let topic_id = members[0].connection.metadata(&topic).expect("metadata").topics[0].topic_id;
    settle(&mut members, topic_id, |_, _| {});
    assert!(members.iter().all(|member| member.owned.len() == 10), "each has its share");

    // One leaves: what it had goes to others, and nobody loses anything on the way.
    members.remove(37).leave();
    let before: Vec<BTreeSet<i32>> = members.iter().map(|member| member.owned.clone()).collect();
    settle(&mut members, topic_id, |number, owned| {
        assert!(owned.is_superset(&before[number]), "member {number} lost {:?}", before[number].difference(owned));
    });
    assert!(members.iter().all(|member| member.owned.len() <= 11));

    // Five come: who gives up something keeps the rest meanwhile, and nobody gets what another had but they.
    let before: Vec<BTreeSet<i32>> = members.iter().map(|member| member.owned.clone()).collect();
    members.extend((MEMBERS..MEMBERS + 5).map(|number| Member::new(&broker, &group, &topic, number)));
    settle(&mut members, topic_id, |number, owned| {
        if let Some(before) = before.get(number) {
            assert!(owned.len() >= 9 && owned.is_subset(before), "member {number} had {before:?}, has {owned:?}");
        }
    });
    assert!(members.iter().all(|member| (9..=10).contains(&member.owned.len())));
}
