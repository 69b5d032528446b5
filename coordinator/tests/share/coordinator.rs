//! What operations answer and store.

use corelane_coordinator::share::*;
use corelane_protocol::ErrorCode;
use corelane_protocol::records::share::{ShareRecordKey, ShareRecordValue};

use crate::harness::*;

fn initialize(state_epoch: i32, start_offset: i64) -> Operation {
    Operation::Initialize { state_epoch, start_offset }
}

fn harness(updates_per_snapshot: u32) -> Harness {
    Harness::new(ShareConfig { updates_per_snapshot, ..ShareConfig::default() })
}

/// Record types, snapshot epochs and update counts of the log as it lies there: `S0 U0 U0 S1 T`.
fn shape(harness: &Harness) -> String {
    let one = |record: &corelane_coordinator::CoordinatorRecord| {
        let key = ShareRecordKey::decode(record.key.clone()).expect("a key");
        let value = record.value.clone().map(|v| ShareRecordValue::decode(key.record_type(), v).expect("a value").0);
        match value {
            None => "T".to_owned(),
            Some(ShareRecordValue::ShareSnapshot(snapshot)) => format!("S{}", snapshot.snapshot_epoch),
            Some(ShareRecordValue::ShareUpdate(update)) => format!("U{}", update.snapshot_epoch),
        }
    };
    harness.log.iter().map(one).collect::<Vec<_>>().join(" ")
}

#[test]
fn nothing_is_read_or_written_before_it_is_initialized() {
    let (mut h, k) = (harness(500), key("g", 1, 0));
    assert_eq!(h.run(&k, &READ), Err(ErrorCode::InvalidRequest));
    assert_eq!(h.run(&k, &write(0, &[])), Err(ErrorCode::InvalidRequest));
    let none = Summary { state_epoch: 0, leader_epoch: 0, start_offset: -1, delivery_complete_count: -1 };
    assert_eq!(h.run(&k, &Operation::Summary), Ok(Answer::Summary(none)));
    assert_eq!(h.run(&k, &Operation::Delete), Ok(Answer::Done));
    assert!(h.log.is_empty());
    assert_eq!(h.run(&k, &initialize(1, -1)), Ok(Answer::Done));
    assert_eq!(h.known(&k), Known { state_epoch: 1, start_offset: -1, batches: vec![] });
}

#[test]
fn what_is_wrong_with_a_request_comes_in_kafkas_order() {
    let (mut h, k) = (harness(500), key("g", 1, 0));
    let of = |state_epoch, leader_epoch| Operation::Write {
        state_epoch,
        leader_epoch,
        start_offset: -1,
        delivery_complete_count: 0,
        batches: vec![batch(3, 2, 0, 1)],
    };
    let all = [initialize(0, 0), READ, of(0, 0), Operation::Delete, Operation::Summary];
    for operation in &all {
        assert_eq!(h.start(&key("g", 1, -1), operation, false), Ok(Err(ErrorCode::InvalidRequest)), "{operation:?}");
    }
    h.run(&k, &initialize(5, 0)).expect("a state");
    h.run(&k, &Operation::Read { leader_epoch: 7 }).expect("a leader");
    let mut fails = |operation: &Operation, exists, error| {
        assert_eq!(h.start(&k, operation, exists), Ok(Err(error)), "{operation:?}");
    };
    fails(&of(4, 6), false, ErrorCode::FencedLeaderEpoch);
    fails(&of(4, 7), false, ErrorCode::FencedStateEpoch);
    fails(&of(5, 7), false, ErrorCode::UnknownTopicOrPartition);
    fails(&of(5, 7), true, ErrorCode::InvalidRequest);
    fails(&initialize(4, 0), false, ErrorCode::FencedStateEpoch);
    fails(&initialize(5, 0), false, ErrorCode::UnknownTopicOrPartition);
    fails(&Operation::Read { leader_epoch: 6 }, false, ErrorCode::FencedLeaderEpoch);
    for operation in [READ, Operation::Delete, Operation::Summary] {
        fails(&operation, false, ErrorCode::UnknownTopicOrPartition);
    }
}

#[test]
fn a_later_leader_fences_the_one_before_it_and_outlives_a_restart() {
    let (mut h, k) = (harness(500), key("g", 1, 0));
    h.run(&k, &initialize(0, 3)).expect("a state");
    let read = |leader_epoch| Operation::Read { leader_epoch };
    assert_eq!(h.run(&k, &read(4)).map(drop), Ok(()));
    let written = h.log.len();
    assert_eq!(h.run(&k, &read(4)).map(drop), Ok(()));
    assert_eq!(h.log.len(), written, "the same leader changes nothing");
    h.crash();
    assert_eq!(h.run(&k, &read(3)), Err(ErrorCode::FencedLeaderEpoch));
    // An administrator who begins anew does not let the old leader back in.
    h.run(&k, &initialize(1, 9)).expect("a state");
    assert_eq!(h.run(&k, &read(3)), Err(ErrorCode::FencedLeaderEpoch));
    let summary = Summary { state_epoch: 1, leader_epoch: 0, start_offset: 9, delivery_complete_count: 0 };
    assert_eq!(h.run(&k, &Operation::Summary), Ok(Answer::Summary(summary)));
}

#[test]
fn a_snapshot_follows_so_many_updates() {
    let (mut h, k) = (harness(2), key("g", 1, 0));
    h.run(&k, &initialize(0, 0)).expect("a state");
    for i in 0..6 {
        h.run(&k, &write(i, &[batch(i, i + 1, 2, 1)])).expect("a write");
    }
    assert_eq!(shape(&h), "S0 U0 U0 S1 U1 U1 S2");
    assert_eq!(h.known(&k), Known { state_epoch: 0, start_offset: 5, batches: vec![batch(5, 6, 2, 1)] });
    let (mut always, k) = (harness(0), key("g", 1, 0));
    always.run(&k, &initialize(0, 0)).expect("a state");
    always.run(&k, &write(1, &[])).expect("a write");
    assert_eq!(shape(&always), "S0 S1");
}

#[test]
fn an_answer_waits_for_its_write_and_those_before_it() {
    let (mut h, k, other) = (harness(500), key("g", 1, 0), key("h", 1, 0));
    h.hold_writes = true;
    let first = h.start(&k, &initialize(0, 0), true).expect_err("not yet");
    let read = h.start(&k, &READ, true).expect_err("what is not durable is not told");
    let second = h.start(&other, &initialize(0, 0), true).expect_err("not yet");
    assert!(h.finish_write());
    assert_eq!(h.answers.keys().copied().collect::<Vec<_>>(), [first, read]);
    h.fail_writes(0, ErrorCode::NotEnoughReplicas);
    assert_eq!(h.answers.get(&second), Some(&Err(ErrorCode::CoordinatorNotAvailable)));
    assert_eq!(h.run(&other, &READ), Err(ErrorCode::InvalidRequest), "taken back");
    assert_eq!(h.known(&k).start_offset, 0);
}

#[test]
fn everybody_who_waits_is_told_when_the_partition_goes() {
    let (mut h, k) = (harness(500), key("g", 1, 0));
    h.hold_writes = true;
    h.start(&k, &initialize(0, 0), true).expect_err("not yet");
    h.start(&k, &READ, true).expect_err("not yet");
    let answers = h.machine.unload(ErrorCode::NotCoordinator);
    assert!(answers.len() == 2 && answers.iter().all(|a| a.answer == Err(ErrorCode::NotCoordinator.into())));
}

#[test]
fn the_topic_keeps_what_is_needed_and_no_more() {
    let (mut h, cold, warm) = (harness(10), key("cold", 1, 0), key("warm", 1, 0));
    for k in [&cold, &warm] {
        h.run(k, &initialize(0, 0)).expect("a state");
    }
    for i in 0..100 {
        h.run(&warm, &write(i, &[batch(i, i, 2, 1)])).expect("a write");
    }
    assert_eq!(h.log_start, 0);
    h.advance(h.config.cold_snapshot_interval_ms);
    h.advance(h.config.prune_interval_ms);
    assert!(h.log_start > 80, "pruned to {}", h.log_start);
    let written = h.log_start + h.log.len() as i64;
    for _ in 0..5 {
        h.advance(h.config.prune_interval_ms);
    }
    assert_eq!(h.log_start + h.log.len() as i64, written, "an idle group writes nothing");
    h.crash();
    assert_eq!(h.known(&cold).start_offset, 0);
    assert_eq!(h.known(&warm).start_offset, 99);
}

#[test]
fn a_deleted_topic_leaves_nothing() {
    let (mut h, gone, kept) = (harness(10), key("g", 1, 0), key("g", 2, 0));
    for k in [&gone, &kept] {
        h.run(k, &initialize(3, 0)).expect("a state");
    }
    h.topics_deleted(1);
    assert_eq!(shape(&h), "S0 S0 T");
    h.crash();
    assert_eq!(h.run(&gone, &READ), Err(ErrorCode::InvalidRequest));
    assert_eq!(h.run(&gone, &initialize(0, 0)), Ok(Answer::Done), "nothing fences what is new");
    assert_eq!(h.known(&kept).state_epoch, 3);
}
