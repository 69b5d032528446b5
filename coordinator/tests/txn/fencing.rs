use corelane_coordinator::txn::{Reply, TxnVersion};
use corelane_protocol::ErrorCode;

use crate::harness::*;

#[test]
fn a_new_id_begins_with_epoch_0_and_every_new_producer_raises_it() {
    let mut harness = Harness::default();
    let first = harness.init("a").unwrap();
    assert_eq!(first.epoch, 0);
    assert_eq!(harness.init("a"), Ok(producer(first.id, 1)));
    let other = harness.init("b").unwrap();
    assert_eq!(other.epoch, 0);
    assert_ne!(other.id, first.id);
}

#[test]
fn a_new_producer_aborts_what_the_old_one_has_open_and_fences_it() {
    for version in [V1, V2] {
        let mut harness = Harness { hold_markers: true, ..Harness::default() };
        let old = harness.init("a").unwrap();
        harness.add("a", old, &[("t", 0), ("t", 1)], version).unwrap();
        assert_eq!(harness.init("a"), Err(ConcurrentTransactions));
        assert_eq!(harness.state("a"), "PrepareAbort");
        assert_eq!(harness.init("a"), Err(ConcurrentTransactions), "its markers are on their way");
        let marker = harness.sent.last().unwrap();
        assert!(!marker.commit);
        assert_eq!(marker.producer, producer(old.id, old.epoch + 1), "what the old one still sends is too old");
        assert_eq!(marker.partitions, partitions(&[("t", 0), ("t", 1)]));
        harness.finish_markers();
        let new = harness.init("a").unwrap();
        assert_eq!(new, producer(old.id, old.epoch + 2));
        assert_eq!(harness.add("a", old, &[("t", 0)], version), Err(ProducerFenced));
        assert_eq!(harness.end("a", old, COMMIT, version), Err(ProducerFenced));
        assert_eq!(harness.init_expecting("a", Some(old)), Err(ProducerFenced));
        harness.add("a", new, &[("t", 0)], version).unwrap();
    }
}

#[test]
fn a_producer_that_begins_again_is_known_by_its_epoch_and_may_repeat_itself() {
    let mut harness = Harness::default();
    let first = harness.init("a").unwrap();
    let next = harness.init_expecting("a", Some(first)).unwrap();
    assert_eq!(next, producer(first.id, 1));
    assert_eq!(harness.init_expecting("a", Some(first)), Ok(next), "the answer was lost");
    assert_eq!(harness.init_expecting("a", Some(producer(first.id, 7))), Err(ProducerFenced));
    assert_eq!(harness.init_expecting("a", Some(producer(first.id + 5, 1))), Err(ProducerFenced));
    let other = harness.init("a").unwrap();
    assert_eq!(other.epoch, 2);
    assert_eq!(harness.init_expecting("a", Some(next)), Err(ProducerFenced), "somebody else has it now");
}

#[test]
fn used_up_epochs_give_a_new_producer_id() {
    let mut harness = Harness::default();
    let last = harness.exhausted("a");
    let fresh = harness.init_expecting("a", Some(last)).unwrap();
    assert_eq!(fresh.epoch, 0);
    assert_ne!(fresh.id, last.id);
    assert_eq!(harness.init_expecting("a", Some(last)), Ok(fresh), "the answer was lost");
    assert_eq!(harness.add("a", last, &[("t", 0)], V2), Err(InvalidProducerIdMapping));
}

#[test]
fn used_up_epochs_can_still_be_fenced() {
    let mut harness = Harness::default();
    let last = harness.exhausted("a");
    harness.add("a", last, &[("t", 0)], V1).unwrap();
    assert_eq!(harness.init("a"), Err(ConcurrentTransactions));
    assert_eq!(harness.sent.last().unwrap().producer, producer(last.id, i16::MAX));
    let fresh = harness.init("a").unwrap();
    assert_ne!(fresh.id, last.id);
    assert_eq!(harness.end("a", last, COMMIT, V1), Err(InvalidProducerIdMapping));
}

#[test]
fn nobody_gets_in_between_a_decision_and_its_record() {
    let mut harness = Harness::default();
    let first = harness.init("a").unwrap();
    harness.add("a", first, &[("t", 0)], V2).unwrap();
    harness.hold_writes = true;
    let ending = harness.call(|machine, now| machine.end(now, "a", first, COMMIT, V2));
    let Reply::Later(token) = ending else { panic!("{ending:?}") };
    assert_eq!(harness.init("a"), Err(ConcurrentTransactions));
    assert_eq!(harness.add("a", first, &[("t", 1)], V2), Err(ConcurrentTransactions));
    assert_eq!(harness.end("a", first, ABORT, V2), Err(ConcurrentTransactions));
    assert!(harness.sent.is_empty(), "not decided before it is durable");
    harness.fail_writes(NotEnoughReplicas);
    assert_eq!(harness.answers.remove(&token), Some(Err(CoordinatorNotAvailable)));
    assert_eq!(harness.state("a"), "Ongoing");
    harness.hold_writes = false;
    assert_eq!(harness.end("a", first, ABORT, V2).map(|p| p.epoch), Ok(1));
    assert!(!harness.sent.last().unwrap().commit);
}

#[test]
fn what_a_producer_may_not_ask_is_refused() {
    let mut harness = Harness::default();
    let ask = |harness: &mut Harness, id: &str, timeout| match harness
        .call(|machine, now| machine.init_producer_id(now, id, timeout, None))
    {
        Reply::Now(answer) => answer.map(|_| ()),
        later => panic!("{later:?}"),
    };
    let longest = harness.config.max_timeout_ms;
    assert_eq!(ask(&mut harness, "a", longest + 1), Err(InvalidTransactionTimeout));
    assert_eq!(ask(&mut harness, "a", 0), Err(InvalidTransactionTimeout));
    assert_eq!(ask(&mut harness, "", TIMEOUT_MS), Err(InvalidRequest));
    assert_eq!(ask(&mut harness, "a", longest), Ok(()));
    assert_eq!(harness.add("nobody", producer(1, 0), &[("t", 0)], V1), Err(InvalidProducerIdMapping));
    assert_eq!(harness.end("nobody", producer(1, 0), COMMIT, V1), Err(InvalidProducerIdMapping));
}

#[test]
fn a_partition_learns_whether_it_is_in_the_transaction() {
    let mut harness = Harness { hold_markers: true, ..Harness::default() };
    let first = harness.init("a").unwrap();
    harness.add("a", first, &[("t", 0)], V1).unwrap();
    let verify = |harness: &Harness, producer| {
        let verified = harness.machine.verify_partitions("a", producer, &partitions(&[("t", 0), ("t", 1)]));
        verified.map(|all| all.into_iter().map(|(_, _, error)| error).collect::<Vec<_>>())
    };
    assert_eq!(verify(&harness, first), Ok(vec![ErrorCode::None, TransactionAbortable]));
    assert_eq!(verify(&harness, producer(first.id, 1)), Err(ProducerFenced));
    assert_eq!(verify(&harness, producer(first.id + 1, 0)), Err(InvalidProducerIdMapping));
    harness.end("a", first, COMMIT, V1).unwrap();
    assert_eq!(verify(&harness, first), Err(ConcurrentTransactions));
    harness.finish_markers();
    assert_eq!(verify(&harness, first), Ok(vec![TransactionAbortable, TransactionAbortable]));
}

#[test]
fn where_the_cluster_is_below_version_2_fencing_still_raises_the_epoch_and_older_records_are_written() {
    for (level, value_version) in [(0, 0), (1, 1)] {
        let mut harness = Harness { hold_markers: true, ..Harness::default() };
        harness.machine.set_version(TxnVersion::from_level(level));
        let old = harness.init("a").unwrap();
        harness.add("a", old, &[("t", 0)], V1).unwrap();
        assert_eq!(harness.init("a"), Err(ConcurrentTransactions));
        let marker = harness.sent.last().unwrap();
        assert_eq!((marker.producer, marker.version), (producer(old.id, old.epoch + 1), level));
        harness.finish_markers();
        assert_eq!(harness.end("a", old, COMMIT, V1), Err(ProducerFenced));
        let new = harness.init("a").unwrap();
        assert_eq!(new, producer(old.id, old.epoch + 2));
        for record in &harness.log {
            assert_eq!(record.value.as_ref().unwrap()[..2], [0, value_version], "level {level}");
        }
        harness.add("a", new, &[("t", 0)], V1).unwrap();
        harness.end("a", new, COMMIT, V1).unwrap();
        harness.finish_markers();
        let next = harness.end("a", new, COMMIT, V1);
        assert_eq!(next, Ok(new), "with version 1 the epoch stays");
    }
}

#[test]
fn what_records_of_version_0_cannot_hold_is_refused_before_anything_changes() {
    let mut harness = Harness::default();
    harness.machine.set_version(TxnVersion::from_level(0));
    let first = harness.init("a").unwrap();
    assert_eq!(harness.add("a", first, &[("t", 0)], V2), Err(ErrorCode::UnsupportedVersion));
    assert_eq!(harness.state("a"), "Empty");
    harness.add("a", first, &[("t", 0)], V1).unwrap();
    assert_eq!(harness.end("a", first, COMMIT, V2), Err(ErrorCode::UnsupportedVersion));
    assert_eq!(harness.state("a"), "Ongoing");
    assert_eq!(harness.end("a", first, COMMIT, V1), Ok(first));
    harness.machine.set_version(TxnVersion::from_level(1));
    assert_eq!(harness.add("a", first, &[("t", 0)], V2), Ok(first));
    assert_eq!(harness.end("a", first, COMMIT, V2).map(|p| p.epoch), Ok(1));
}
