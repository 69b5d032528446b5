use corelane_coordinator::group::GroupConfig;
use corelane_protocol::Str;

use crate::harness::{Client, Harness, client, subscription};

const MINUTE: i64 = 60_000;

/// Offsets last an hour; the sweep comes every minute.
fn harness() -> Harness {
    Harness::new(GroupConfig {
        offsets_retention_ms: 60 * MINUTE,
        offsets_retention_check_interval_ms: MINUTE,
        ..Default::default()
    })
}

fn keep_alive(harness: &mut Harness, members: &[Client], minutes: i64) {
    for _ in 0..minutes * 8 {
        harness.advance(MINUTE / 8);
        members.iter().for_each(|member| assert_eq!(harness.heartbeat(member), 0));
    }
}

#[test]
fn offsets_without_a_group_expire_by_their_commit() {
    let mut harness = harness();
    let alone = client("g");
    harness.commit(&alone, &alone.commit_request("orders", 0, 1));
    harness.advance(30 * MINUTE);
    harness.commit(&alone, &alone.commit_request("orders", 1, 2));
    harness.advance(29 * MINUTE);
    assert_eq!(harness.committed("g", "orders", 0), 1);
    harness.advance(2 * MINUTE);
    assert_eq!((harness.committed("g", "orders", 0), harness.committed("g", "orders", 1)), (-1, 2));
    assert_eq!(harness.state("g"), "Empty");
    harness.advance(30 * MINUTE);
    assert_eq!(harness.state("g"), "Dead", "the group goes with its last offset");
    assert_eq!(harness.machine.counts(), Default::default());
    assert_eq!(harness.replayed().counts(), Default::default(), "and its tombstones are in the log");
}

#[test]
fn offsets_of_a_group_expire_from_when_it_became_empty() {
    let mut harness = harness();
    let mut members = [client("g")];
    harness.stabilize(&mut members);
    let member = members[0].clone();
    harness.commit(&member, &member.commit_request("orders", 0, 1));
    keep_alive(&mut harness, &members, 90);
    assert_eq!(harness.committed("g", "orders", 0), 1, "a topic that is read does not expire");
    harness.leave(&member, &[(&member.member_id, None)]);
    harness.advance(59 * MINUTE);
    assert_eq!(harness.committed("g", "orders", 0), 1);
    harness.advance(2 * MINUTE);
    assert_eq!(harness.committed("g", "orders", 0), -1);
    assert_eq!(harness.state("g"), "Dead");
}

#[test]
fn a_stable_group_loses_only_what_it_no_longer_reads() {
    let mut harness = harness();
    let mut members = [client("g")];
    harness.stabilize(&mut members);
    for topic in ["orders", "payments"] {
        harness.commit(&members[0], &members[0].commit_request(topic, 0, 1));
    }
    keep_alive(&mut harness, &members, 62);
    assert_eq!((harness.committed("g", "orders", 0), harness.committed("g", "payments", 0)), (1, -1));
    assert_eq!(harness.state("g"), "Stable");
}

#[test]
fn a_group_whose_subscriptions_cannot_be_read_loses_nothing() {
    let mut harness = harness();
    let mut odd = client("odd");
    odd.protocols[0].1 = subscription(&["orders"]).slice(..3);
    let mut worker = client("connect");
    worker.protocol_type = "connect";
    let mut members = [odd, worker];
    for member in &mut members {
        harness.stabilize(std::slice::from_mut(member));
        harness.commit(member, &member.commit_request("payments", 0, 1));
    }
    harness.heartbeat(&members[0]);
    keep_alive(&mut harness, &members, 70);
    assert_eq!((harness.committed("odd", "payments", 0), harness.committed("connect", "payments", 0)), (1, 1));
}

#[test]
fn a_commit_may_bring_its_own_retention() {
    let mut harness = harness();
    let mut alone = client("g");
    alone.version = 4;
    for (partition, retention) in [(0, 5 * MINUTE), (1, -1), (2, 120 * MINUTE)] {
        let mut request = alone.commit_request("orders", partition, 1);
        request.retention_time_ms = retention;
        request.topics[0].topic_id = Default::default();
        request.topics[0].partitions[0].committed_leader_epoch = -1;
        assert_eq!(harness.commit_error(&alone, &request), 0);
    }
    let left = |harness: &mut Harness| [0, 1, 2].map(|partition| harness.committed("g", "orders", partition));
    harness.advance(4 * MINUTE);
    assert_eq!(left(&mut harness), [1, 1, 1]);
    harness.restart();
    harness.advance(3 * MINUTE);
    assert_eq!(left(&mut harness), [-1, 1, 1]);
    harness.advance(55 * MINUTE);
    assert_eq!(left(&mut harness), [-1, -1, 1]);
    harness.advance(60 * MINUTE);
    assert_eq!(left(&mut harness), [-1, -1, -1]);
}

#[test]
fn an_empty_group_without_offsets_goes_with_the_next_sweep() {
    let mut harness = harness();
    let mut members = [client("g")];
    harness.stabilize(&mut members);
    let member = members[0].clone();
    harness.leave(&member, &[(&member.member_id, None)]);
    assert_eq!(harness.state("g"), "Empty");
    harness.advance(MINUTE);
    assert_eq!(harness.state("g"), "Dead");
}

#[test]
fn a_large_sweep_is_written_in_bounded_batches() {
    let mut harness = harness();
    let alone = client("g");
    let mut request = alone.commit_request("orders", 0, 1);
    let partition = request.topics[0].partitions[0].clone();
    for index in 1..25_000 {
        let mut partition = partition.clone();
        partition.partition_index = index;
        request.topics[0].partitions.push(partition);
    }
    harness.commit(&alone, &request);
    assert_eq!(harness.machine.counts().offsets, 25_000);
    harness.hold_writes = true;
    harness.advance(62 * MINUTE);
    assert!(harness.under_way.len() >= 25);
    for write in &harness.under_way {
        assert!(write.records.len() <= 1_000);
        assert!(write.records.iter().map(|record| record.size()).sum::<usize>() <= 300 << 10);
    }
    harness.complete_writes();
    assert_eq!(harness.machine.counts(), Default::default());
}

#[test]
fn many_groups_are_swept_in_steps() {
    let mut harness = harness();
    for index in 0..12_000 {
        let alone = client("");
        let mut request = alone.commit_request("orders", 0, 1);
        request.group_id = Str::from(format!("group-{index}"));
        harness.commit(&alone, &request);
    }
    harness.now.mono_ms += 61 * MINUTE;
    harness.now.wall_ms += 61 * MINUTE;
    let effects = harness.machine.tick(harness.now);
    harness.absorb(effects);
    let left = harness.machine.counts().offsets;
    assert!(left > 0 && left < 12_000, "{left}");
    assert_eq!(harness.machine.next_deadline(), Some(harness.now.mono_ms), "there is more to do");
    harness.advance(0);
    harness.advance(0);
    assert_eq!(harness.machine.counts().offsets, 0);
}
