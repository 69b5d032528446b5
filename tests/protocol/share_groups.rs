//! Share groups before and after a kill, and as Kafka's own dump reads them.

use std::collections::BTreeSet;
use std::time::Duration;

use corelane_protocol::Str;
use corelane_protocol::messages::{
    FindCoordinatorRequest, ShareGroupDescribeRequest, ShareGroupDescribeResponseDescribedGroup,
    ShareGroupHeartbeatRequest, ShareGroupHeartbeatResponse,
};
use corelane_tests::broker::{Broker, BrokerOptions, controllable};
use corelane_tests::connection::Connection;
use corelane_tests::java::Java;
use corelane_tests::librdkafka::{create_topic, unique};
use corelane_tests::{scratch, wait};

const LIMIT: Duration = Duration::from_secs(30);

/// A member of a share group, and what it was told.
struct Member {
    group: String,
    id: String,
    epoch: i32,
    assigned: BTreeSet<i32>,
}

fn connect(broker: &Broker) -> Connection {
    Connection::open(broker.bootstrap()).expect("a connection")
}

/// A coordinator that is loading, or not there yet.
fn is_passing(error: i16) -> bool {
    matches!(error, 14..=16)
}

impl Member {
    fn new(group: &str, id: &str) -> Member {
        Member { group: group.to_owned(), id: id.to_owned(), epoch: 0, assigned: BTreeSet::new() }
    }

    fn beat(&mut self, connection: &mut Connection, topic: &str) -> ShareGroupHeartbeatResponse {
        let request = ShareGroupHeartbeatRequest {
            group_id: Str::from(self.group.clone()),
            member_id: Str::from(self.id.clone()),
            member_epoch: self.epoch,
            subscribed_topic_names: (self.epoch == 0).then(|| vec![Str::from(topic.to_owned())]),
            ..Default::default()
        };
        let answer = wait::until("the coordinator", LIMIT, || {
            let answer = connection.call(1, &request);
            (!is_passing(answer.error_code)).then_some(answer)
        });
        assert_eq!(answer.error_code, 0, "{answer:?}");
        self.epoch = answer.member_epoch;
        if let Some(assignment) = &answer.assignment {
            self.assigned = assignment.topic_partitions.iter().flat_map(|t| t.partitions.iter().copied()).collect();
        }
        answer
    }
}

fn describe(connection: &mut Connection, group: &str) -> ShareGroupDescribeResponseDescribedGroup {
    let request = ShareGroupDescribeRequest { group_ids: vec![Str::from(group.to_owned())], ..Default::default() };
    wait::until("the coordinator", LIMIT, || {
        let group = connection.call(1, &request).groups.remove(0);
        (!is_passing(group.error_code)).then_some(group)
    })
}

#[test]
fn members_of_a_share_group_go_on_after_a_kill() {
    if !controllable() {
        return;
    }
    let mut broker = Broker::start(BrokerOptions::default());
    let (topic, group) = (unique("shared"), unique("share-group"));
    create_topic(&broker, &topic, 6, &[]);
    let mut connection = connect(&broker);
    let find = FindCoordinatorRequest { coordinator_keys: vec![Str::from(group.clone())], ..Default::default() };
    wait::until("a coordinator", LIMIT, || (connection.call(6, &find).coordinators[0].error_code == 0).then_some(()));
    let mut members: Vec<Member> = (0..4).map(|n| Member::new(&group, &format!("member-{n}"))).collect();
    // Each has heard of the last assignment, which was made for all of them.
    let before = wait::until("everything is assigned", LIMIT, || {
        members.iter_mut().for_each(|member| drop(member.beat(&mut connection, &topic)));
        let all: BTreeSet<i32> = members.iter().flat_map(|member| &member.assigned).copied().collect();
        let described = describe(&mut connection, &group);
        let settled = described.assignment_epoch == described.group_epoch
            && members.iter().all(|member| member.epoch == described.group_epoch)
            && all == (0..6).collect();
        settled.then_some(described)
    });
    let sizes: Vec<usize> = members.iter().map(|member| member.assigned.len()).collect();
    assert!(sizes.iter().all(|size| (1..=3).contains(size)), "{sizes:?}");
    broker.kill();
    broker.resume();
    let mut connection = connect(&broker);
    assert_eq!(describe(&mut connection, &group), before);
    for member in &mut members {
        let answer = member.beat(&mut connection, &topic);
        assert!(answer.assignment.is_none(), "nothing has changed: {answer:?}");
    }
    assert_eq!(describe(&mut connection, &group), before);
    assert!(broker.stop().is_some_and(|status| status.success()));
    let segments = scratch::files(&broker.data_dir(), "__consumer_offsets", ".log");
    let text = Java::shared().dump_log("--offsets-decoder", &segments);
    let named = text.lines().filter(|line| line.contains(&group)).count();
    assert!(named > 12, "{named} records of {group} in\n{text}");
    assert!(!text.contains("Could not"), "{text}");
}
