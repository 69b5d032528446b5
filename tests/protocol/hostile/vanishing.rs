//! Clients that are gone in the middle of something that others wait for.

use super::{LIMIT, open, waiting_fetch};
use crate::bystander::undisturbed_by;
use crate::transactions::{READ_COMMITTED, Writer, seen};
use bytes::Bytes;
use corelane_protocol::Str;
use corelane_protocol::messages::{
    FindCoordinatorRequest, JoinGroupRequest, JoinGroupRequestProtocol, SyncGroupRequest, SyncGroupRequestAssignment,
};
use corelane_tests::broker::Broker;
use corelane_tests::connection::{Connection, to_leader};
use corelane_tests::librdkafka::{create_topic, unique};
use corelane_tests::wait;
use std::time::{Duration, Instant};

/// Of a transaction that nobody ends.
const TIMEOUT: Duration = Duration::from_secs(1);

#[test]
fn writers_that_vanish_within_a_transaction_hold_up_its_readers_for_its_timeout_only() {
    undisturbed_by(|broker| {
        let topic = unique("abandoned");
        create_topic(broker, &topic, 1, &[]);
        let mut reader = to_leader(broker.bootstrap(), &topic, 0).expect("the leader");
        for i in 0..20 {
            let mut writer = Writer::with_timeout(broker, &topic, 4, TIMEOUT.as_millis() as i32);
            let begun = Instant::now();
            // Gone before the partition is in it, before a record, after one, within a request, before the answer to its end.
            if i % 5 > 0 {
                writer.add();
            }
            if i % 5 > 1 {
                let (error, _) = writer.write(11, "abandoned", true);
                // On a slow machine its time may be over already.
                assert!(error == 0 || begun.elapsed() >= TIMEOUT, "error {error}");
            }
            match i % 5 {
                3 => writer.connection.write(&[0, 0, 1, 0, 0, 26, 0]).expect("a part of a request"),
                4 => drop(writer.send_end(4, true).expect("the end of the transaction")),
                _ => {}
            }
        }
        let mut last = Writer::with_timeout(broker, &topic, 4, 60_000);
        last.add();
        assert_eq!(last.write(11, "stays", true).0, 0);
        last.end(4, true);
        let (all, ..) = wait::until("the end of all transactions", LIMIT, || {
            let end = reader.latest_offset(&topic, 0, 0);
            let seen = seen(&mut reader, &topic, READ_COMMITTED);
            (seen.2 == end).then_some(seen)
        });
        assert!(!all.is_empty());
    });
}

fn join_request(group: &str, member: Str) -> JoinGroupRequest {
    let metadata = Bytes::from_static(&[0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]);
    JoinGroupRequest {
        group_id: group.to_owned().into(),
        session_timeout_ms: 1000,
        rebalance_timeout_ms: 1000,
        member_id: member,
        protocol_type: "consumer".into(),
        protocols: vec![JoinGroupRequestProtocol { name: "range".into(), metadata, ..Default::default() }],
        ..Default::default()
    }
}

fn sync_request(group: &str, generation_id: i32, member: &Str) -> SyncGroupRequest {
    let assignment = Bytes::from_static(b"all");
    let assignments = vec![SyncGroupRequestAssignment { member_id: member.clone(), assignment, ..Default::default() }];
    SyncGroupRequest {
        group_id: group.to_owned().into(),
        generation_id,
        member_id: member.clone(),
        assignments,
        ..Default::default()
    }
}

fn coordinator(broker: &Broker, group: &str) -> Connection {
    let mut connection = open(broker);
    let find = FindCoordinatorRequest { key: group.to_owned().into(), ..Default::default() };
    let found =
        wait::until("the coordinator", LIMIT, || Some(connection.call(3, &find)).filter(|found| found.error_code == 0));
    Connection::open(&format!("{}:{}", found.host, found.port)).expect("the coordinator")
}

const UNKNOWN_MEMBER_ID: i16 = 25;

#[test]
fn members_that_vanish_within_a_rebalance_hold_up_their_group_for_its_timeouts_only() {
    undisturbed_by(|broker| {
        let group = unique("abandoned-group");
        let mut stays = coordinator(broker, &group);
        // Version 3 takes a member in at once.
        let joined = wait::until("the first generation", LIMIT, || {
            Some(stays.call(3, &join_request(&group, Str::EMPTY))).filter(|joined| joined.error_code == 0)
        });
        let mut member = joined.member_id;
        for i in 0..20 {
            let mut goes = coordinator(broker, &group);
            let id = goes.send(3, &join_request(&group, Str::EMPTY)).expect("sent");
            if i % 4 == 0 {
                // Gone after the rebalance, which this makes one of.
                let again = stays.send(3, &join_request(&group, member.clone())).expect("sent");
                let new = goes.receive::<JoinGroupRequest>(3, id).expect("an answer");
                assert_eq!(new.error_code, 0);
                drop(stays.receive::<JoinGroupRequest>(3, again).expect("an answer"));
                goes.send(3, &sync_request(&group, new.generation_id, &new.member_id)).expect("sent");
            }
        }
        // Others wait in it, and for records, and go.
        let topic = unique("nothing");
        create_topic(broker, &topic, 1, &[]);
        for _ in 0..20 {
            let mut goes = to_leader(broker.bootstrap(), &topic, 0).expect("the leader");
            goes.send(12, &waiting_fetch(&topic)).expect("sent");
        }
        wait::until("a generation of one", LIMIT, || {
            let joined = stays.call(3, &join_request(&group, member.clone()));
            if joined.error_code != 0 {
                // On a slow machine its own session may have ended, too.
                assert_eq!(joined.error_code, UNKNOWN_MEMBER_ID);
                member = Str::EMPTY;
                return None;
            }
            member = joined.member_id.clone();
            let synced = stays.call(3, &sync_request(&group, joined.generation_id, &member));
            (joined.members.len() == 1 && synced.error_code == 0).then_some(())
        });
    });
}
