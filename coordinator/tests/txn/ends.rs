use corelane_coordinator::txn::{Producer, TxnResult, TxnVersion};

use crate::harness::*;

/// An id that is in `state` after a transaction of `version`, and the producer as its client knows it then.
fn in_state(state: &str, version: TxnVersion) -> (Harness, Producer, Producer) {
    let mut harness = Harness::default();
    let first = harness.init("a").unwrap();
    if state == "Empty" {
        return (harness, producer(first.id, first.epoch - 1), first);
    }
    harness.add("a", first, &[("t", 0)], version).unwrap();
    harness.hold_markers = state.starts_with("Prepare");
    let result = if state.ends_with("Commit") { COMMIT } else { ABORT };
    let next = if state == "Ongoing" { first } else { harness.end("a", first, result, version).unwrap() };
    assert_eq!(harness.state("a"), state);
    (harness, first, next)
}

#[test]
fn clients_of_version_1_may_repeat_an_end_and_not_turn_it_round() {
    for (state, result, expected) in [
        ("Empty", COMMIT, Err(InvalidTxnState)),
        ("Empty", ABORT, Err(InvalidTxnState)),
        ("PrepareCommit", COMMIT, Err(ConcurrentTransactions)),
        ("PrepareCommit", ABORT, Err(ConcurrentTransactions)),
        ("PrepareAbort", ABORT, Err(ConcurrentTransactions)),
        ("PrepareAbort", COMMIT, Err(ConcurrentTransactions)),
        ("CompleteCommit", COMMIT, Ok(())),
        ("CompleteCommit", ABORT, Err(InvalidTxnState)),
        ("CompleteAbort", ABORT, Ok(())),
        ("CompleteAbort", COMMIT, Err(InvalidTxnState)),
    ] {
        let (mut harness, _, current) = in_state(state, V1);
        let markers = harness.sent.len();
        assert_eq!(harness.end("a", current, result, V1).map(|_| ()), expected, "{state} {result:?}");
        assert_eq!((harness.sent.len(), harness.state("a")), (markers, state.to_owned()), "nothing happens twice");
    }
}

/// The table in Apache Kafka's `TransactionCoordinator`.
#[test]
fn clients_of_version_2_are_told_repetitions_by_their_epoch() {
    const BUMPED: Result<i16, corelane_protocol::ErrorCode> = Ok(1);
    const AS_IT_IS: Result<i16, corelane_protocol::ErrorCode> = Ok(0);
    for (state, result, retry, current) in [
        ("Empty", ABORT, Err(ProducerFenced), BUMPED),
        ("Empty", COMMIT, Err(ProducerFenced), Err(InvalidTxnState)),
        ("CompleteAbort", ABORT, AS_IT_IS, BUMPED),
        ("CompleteAbort", COMMIT, Err(InvalidTxnState), Err(InvalidTxnState)),
        ("CompleteCommit", ABORT, Err(InvalidTxnState), BUMPED),
        ("CompleteCommit", COMMIT, AS_IT_IS, Err(InvalidTxnState)),
        // What comes while markers are on their way has to come again: it may be the next transaction's.
        ("PrepareCommit", COMMIT, Err(ConcurrentTransactions), Err(ConcurrentTransactions)),
        ("PrepareCommit", ABORT, Err(ConcurrentTransactions), Err(ConcurrentTransactions)),
        ("PrepareAbort", ABORT, Err(ConcurrentTransactions), Err(ConcurrentTransactions)),
        ("PrepareAbort", COMMIT, Err(ConcurrentTransactions), Err(ConcurrentTransactions)),
    ] {
        for (is_retry, expected) in [(true, retry), (false, current)] {
            let (mut harness, before, after) = in_state(state, V2);
            let asked = if is_retry { before } else { after };
            let ended = harness.end("a", asked, result, V2).map(|next| next.epoch - after.epoch);
            assert_eq!(ended, expected, "{state} {result:?} retry {is_retry}");
        }
    }
}

#[test]
fn the_epoch_rises_with_every_transaction_of_version_2_only() {
    for (version, raised) in [(V1, 0), (V2, 1)] {
        let mut harness = Harness::default();
        let mut current = harness.init("a").unwrap();
        for result in [COMMIT, ABORT, COMMIT] {
            harness.add("a", current, &[("t", 0), ("u", 3)], version).unwrap();
            let next = harness.end("a", current, result, version).unwrap();
            assert_eq!(next.epoch, current.epoch + raised);
            let marker = harness.sent.last().unwrap();
            assert_eq!((marker.commit, marker.producer, marker.version), (result == COMMIT, next, version.level()));
            assert_eq!(marker.partitions, partitions(&[("t", 0), ("u", 3)]));
            current = next;
        }
    }
}

#[test]
fn the_last_epoch_of_a_producer_id_is_never_a_clients() {
    let mut harness = Harness::default();
    let last = harness.exhausted("a");
    harness.add("a", last, &[("t", 0)], V2).unwrap();
    let next = harness.end("a", last, COMMIT, V2).unwrap();
    assert_eq!(next.epoch, 0);
    assert_ne!(next.id, last.id);
    assert_eq!(harness.sent.last().unwrap().producer, producer(last.id, i16::MAX));
    assert_eq!(harness.end("a", last, COMMIT, V2), Ok(next), "the answer was lost");
    assert_eq!(harness.end("a", last, ABORT, V2), Err(InvalidTxnState));
    harness.add("a", next, &[("t", 0)], V2).unwrap();
}

#[test]
fn partitions_come_together_until_the_end_and_are_gone_after_it() {
    let mut harness = Harness::default();
    let current = harness.init("a").unwrap();
    harness.add("a", current, &[("t", 0)], V1).unwrap();
    harness.add("a", current, &[("t", 0), ("u", 1)], V1).unwrap();
    let records = harness.log.len();
    harness.add("a", current, &[("u", 1)], V1).unwrap();
    assert_eq!(harness.log.len(), records, "what is known is not written again");
    harness.end("a", current, COMMIT, V1).unwrap();
    assert_eq!(harness.sent.last().unwrap().partitions, partitions(&[("t", 0), ("u", 1)]));
    harness.add("a", current, &[("v", 0)], V1).unwrap();
    harness.end("a", current, TxnResult::Abort, V1).unwrap();
    assert_eq!(harness.sent.last().unwrap().partitions, partitions(&[("v", 0)]));
}
