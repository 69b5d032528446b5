use corelane_coordinator::txn::ListFilter;
use corelane_protocol::Str;

use crate::harness::*;

#[test]
fn a_transaction_that_takes_too_long_is_aborted_and_its_producer_fenced() {
    for version in [V1, V2] {
        let mut harness = Harness::default();
        let slow = harness.init("a").unwrap();
        harness.add("a", slow, &[("t", 0)], version).unwrap();
        harness.advance(i64::from(TIMEOUT_MS));
        assert_eq!(harness.state("a"), "Ongoing", "not before its time");
        harness.advance(harness.config.timeout_check_interval_ms);
        assert_eq!(harness.state("a"), "CompleteAbort");
        let marker = harness.sent.last().unwrap();
        assert_eq!((marker.commit, marker.producer), (false, producer(slow.id, slow.epoch + 1)));
        assert_eq!(harness.add("a", slow, &[("t", 0)], version), Err(ProducerFenced));
        assert_ne!(harness.end("a", slow, COMMIT, version).map(|_| ()), Ok(()));
    }
}

#[test]
fn a_transaction_is_still_aborted_in_time_after_a_restart() {
    let mut harness = Harness::default();
    let slow = harness.init("a").unwrap();
    harness.add("a", slow, &[("t", 0)], V2).unwrap();
    harness.advance(i64::from(TIMEOUT_MS) - 5);
    harness.crash_after(harness.log.len());
    assert_eq!(harness.state("a"), "Ongoing");
    harness.advance(harness.config.timeout_check_interval_ms);
    assert_eq!(harness.state("a"), "CompleteAbort");
}

#[test]
fn what_ends_in_time_is_left_alone_and_the_machine_falls_asleep() {
    let mut harness = Harness::default();
    let quick = harness.init("a").unwrap();
    harness.add("a", quick, &[("t", 0)], V1).unwrap();
    harness.end("a", quick, COMMIT, V1).unwrap();
    harness.advance(2 * i64::from(TIMEOUT_MS));
    assert_eq!(harness.state("a"), "CompleteCommit");
    let next = harness.machine.next_deadline().unwrap();
    assert!(next - harness.now.mono_ms > harness.config.timeout_check_interval_ms, "only the ids are looked at now");
}

#[test]
fn an_id_that_nobody_uses_is_forgotten_and_a_transaction_never() {
    let mut harness = Harness::default();
    harness.config.max_timeout_ms = i32::MAX;
    harness.crash_after(0);
    let open = harness.call(|machine, now| machine.init_producer_id(now, "open", i32::MAX, None));
    let corelane_coordinator::txn::Reply::Now(Ok(open)) = open else { panic!("{open:?}") };
    harness.add("open", open, &[("t", 0)], V2).unwrap();
    harness.init("unused").unwrap();
    let used = harness.init("used").unwrap();
    harness.advance(harness.config.id_expiration_ms - 1_000);
    harness.add("used", used, &[("t", 0)], V1).unwrap();
    harness.end("used", used, COMMIT, V1).unwrap();
    harness.advance(harness.config.id_expiration_check_interval_ms);
    let listed = |harness: &Harness| {
        let filter = ListFilter { duration_ms: -1, ..Default::default() };
        let all = harness.machine.list(harness.now, &filter, |_| true);
        let mut ids: Vec<String> = all.into_iter().map(|state| state.transactional_id.to_string()).collect();
        ids.sort();
        ids
    };
    assert_eq!(listed(&harness), ["open", "used"]);
    harness.crash_after(harness.log.len());
    assert_eq!(listed(&harness), ["open", "used"], "it stays forgotten");
    assert_eq!(harness.machine.describe(&Str::from("unused")).error_code, TransactionalIdNotFound.code());
    assert_eq!(harness.init("unused").unwrap().epoch, 0);
}

#[test]
fn a_last_record_that_could_not_be_written_is_written_later() {
    let mut harness = Harness::default();
    let current = harness.init("a").unwrap();
    harness.add("a", current, &[("t", 0)], V1).unwrap();
    harness.hold_markers = true;
    harness.end("a", current, COMMIT, V1).unwrap();
    harness.hold_writes = true;
    harness.finish_markers();
    harness.fail_writes(NotEnoughReplicas);
    assert_eq!(harness.state("a"), "PrepareCommit");
    harness.hold_writes = false;
    harness.advance(harness.config.retry_ms);
    assert_eq!(harness.state("a"), "CompleteCommit");
}

#[test]
fn transactions_are_listed_by_id_state_producer_and_age() {
    let mut harness = Harness::default();
    let old = harness.init("old").unwrap();
    harness.add("old", old, &[("t", 0)], V1).unwrap();
    harness.advance(5_000);
    let new = harness.init("new").unwrap();
    harness.add("new", new, &[("t", 0)], V1).unwrap();
    harness.init("idle").unwrap();
    let list = |filter: ListFilter, name: &'static str| {
        let all = harness.machine.list(harness.now, &filter, |id| id.contains(name));
        let mut ids: Vec<String> = all.into_iter().map(|state| state.transactional_id.to_string()).collect();
        ids.sort();
        ids
    };
    let all = || ListFilter { duration_ms: -1, ..Default::default() };
    assert_eq!(list(all(), ""), ["idle", "new", "old"]);
    assert_eq!(list(all(), "ne"), ["new"]);
    let ongoing = vec![corelane_coordinator::txn::TxnState::Ongoing];
    assert_eq!(list(ListFilter { states: ongoing.clone(), ..all() }, ""), ["new", "old"]);
    assert_eq!(list(ListFilter { states: ongoing, duration_ms: 4_999, ..all() }, ""), ["old"]);
    assert_eq!(list(ListFilter { producer_ids: vec![new.id], ..all() }, ""), ["new"]);
}
