//! Share sessions are the broker's, whichever shard a connection has come to.

use corelane_protocol::messages::ShareAcknowledgeRequest;
use corelane_protocol::{ErrorCode, Str};
use corelane_tests::broker::{Broker, BrokerOptions, controllable};
use corelane_tests::connection::{Connection, to_leader};
use corelane_tests::librdkafka::{create_topic, unique};
use corelane_tests::wait;

use crate::share_member::{LIMIT, Member, begin, write};

/// So many that they are not all on one shard.
const CONNECTIONS: usize = 12;
const NOT_FOUND: i16 = ErrorCode::ShareSessionNotFound.code();

fn connections(broker: &Broker, topic: &str) -> Vec<Connection> {
    (0..CONNECTIONS).map(|_| to_leader(broker.bootstrap(), topic, 0).expect("the leader")).collect()
}

/// An empty acknowledgement of a member's, given as group and name.
fn acknowledge(connection: &mut Connection, (group, name): &(String, String), epoch: i32) -> i16 {
    let request = ShareAcknowledgeRequest {
        group_id: Some(Str::from(group.clone())),
        member_id: Some(Str::from(name.clone())),
        share_session_epoch: epoch,
        ..Default::default()
    };
    connection.call(1, &request).error_code
}

#[test]
fn a_session_goes_on_over_any_connection_and_ends_with_the_one_that_opened_it() {
    let broker = Broker::shared();
    let (topic, group) = (unique("queue"), unique("share"));
    create_topic(broker, &topic, 1, &[]);
    let id = begin(broker, &topic, &group);
    write(broker, &topic, 4);
    let mut others = connections(broker, &topic);
    let mut member = Member::new(broker, &topic, id, &group);
    let who = (group.clone(), member.name.clone());
    assert_eq!(member.lent(), [(0, 3, 1)]);
    for connection in &mut others {
        std::mem::swap(connection, &mut member.connection);
        assert_eq!(member.fetch(&[], 0), (0, 0, vec![]));
        std::mem::swap(connection, &mut member.connection);
        assert_eq!(acknowledge(connection, &who, member.epoch), 0);
        assert_eq!(acknowledge(connection, &who, member.epoch), ErrorCode::InvalidShareSessionEpoch.code());
        member.epoch += 1;
    }
    let mut last = others.pop().expect("a connection");
    drop(others);
    assert_eq!(acknowledge(&mut last, &who, member.epoch), 0, "the others did not open it");
    std::mem::swap(&mut last, &mut member.connection);
    drop(last);
    // Only a fetch of the right epoch moves the session on.
    member.epoch = -7;
    wait::until("the end of the session", LIMIT, || (member.ask(&[], 0).error_code == NOT_FOUND).then_some(()));
    // What it was lent is free.
    let mut other = Member::new(broker, &topic, id, &group);
    assert_eq!(other.lent(), [(0, 3, 2)]);
}

#[test]
fn a_member_that_begins_again_elsewhere_has_one_session() {
    let broker = Broker::shared();
    let (topic, group) = (unique("queue"), unique("share"));
    create_topic(broker, &topic, 1, &[]);
    let id = begin(broker, &topic, &group);
    let mut member = Member::new(broker, &topic, id, &group);
    let mut others = connections(broker, &topic);
    let who = (group.clone(), member.name.clone());
    member.fetch(&[], 0);
    for connection in &mut others {
        member.fetch(&[], 0);
        let epoch = member.epoch;
        // A new one, over another connection.
        member.epoch = 0;
        std::mem::swap(connection, &mut member.connection);
        member.fetch(&[], 0);
        assert_eq!(acknowledge(connection, &who, epoch), ErrorCode::InvalidShareSessionEpoch.code(), "the old one");
        assert_eq!(acknowledge(connection, &who, 1), 0);
        member.epoch = 2;
    }
    assert_eq!(acknowledge(&mut member.connection, &who, -1), 0);
    assert_eq!(others.iter_mut().map(|c| acknowledge(c, &who, 3)).collect::<Vec<_>>(), [NOT_FOUND; CONNECTIONS]);
}

#[test]
fn a_broker_has_as_many_sessions_as_it_is_told_to() {
    if !controllable() {
        return;
    }
    let broker = Broker::start(BrokerOptions::default().set("group.share.max.share.sessions", 3));
    let (topic, group) = (unique("queue"), unique("share"));
    create_topic(&broker, &topic, 1, &[]);
    let id = begin(&broker, &topic, &group);
    let mut members: Vec<Member> = (0..4).map(|_| Member::new(&broker, &topic, id, &group)).collect();
    let errors: Vec<i16> = members.iter_mut().map(|member| member.ask(&[], 0).error_code).collect();
    assert_eq!(errors, [0, 0, 0, ErrorCode::ShareSessionLimitReached.code()]);
    drop(members.remove(0));
    let late = members.last_mut().expect("the last");
    wait::until("a place", LIMIT, || (late.ask(&[], 0).error_code == 0).then_some(()));
}
