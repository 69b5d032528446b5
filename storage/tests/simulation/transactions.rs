//! Transactions in a log, against what its batches say: the last stable offset, and the aborted ones that readers are told of.

use bytes::Bytes;
use core_pinning::sim::Rng;
use corelane_storage::model::{Offset, ProducerEpoch, ProducerId, Sequence, Term};
use corelane_storage::producer_state::AbortedTransaction;
use corelane_storage::record::{BatchBuilder, Codec, EndMarker, TransactionMarker};
use corelane_storage::{EntryKind, Log, ReadError, StorageError};

use super::common::same_aborted;
use super::model::{State, header};

const PRODUCERS: u64 = 4;

/// Records of some producer's transaction, or the marker that ends it; now and then one that ends nothing.
pub fn batch(base: Offset, count: u32, size: usize, term: Term, rng: &mut Rng) -> Bytes {
    let producer = ProducerId(rng.below(PRODUCERS) as i64);
    let mut builder = BatchBuilder::new(Codec::None);
    if rng.one_in(3) {
        builder = builder.producer(producer, ProducerEpoch(0), Sequence::NONE);
        let marker = if rng.one_in(4) { TransactionMarker::Commit } else { TransactionMarker::Abort };
        builder.push_marker(1000 + base.0, marker, 3);
    } else {
        builder = builder.producer(producer, ProducerEpoch(0), Sequence(0)).transactional();
        let mut value = vec![0; size];
        rng.fill(&mut value);
        (0..count).for_each(|n| builder.push(1000 + base.0 + i64::from(n), None, Some(&value)));
    }
    builder.build_at(base, term).unwrap()
}

#[derive(Default)]
struct Stand {
    aborted: Vec<AbortedTransaction>,
    /// First offsets of those that are open, or ended at or above the high watermark; and where their batches are.
    undecided: Vec<Offset>,
    undecided_batches: Vec<Offset>,
}

/// Looks through the whole history.
fn stand(state: &State, high_watermark: Offset) -> Stand {
    let mut stand = Stand::default();
    // Of each open one the batches.
    let mut open: Vec<(ProducerId, Vec<Offset>)> = Vec::new();
    for (_, _, bytes) in state.entries.iter().filter(|(_, kind, _)| *kind == EntryKind::Data) {
        let header = header(bytes);
        if !header.is_transactional() {
            continue;
        }
        let (producer, at) = (header.producer_id, header.base_offset);
        let place = open.iter().position(|(id, _)| *id == producer);
        match (EndMarker::of(&header, bytes), place) {
            (Some(end), Some(place)) => {
                let (_, batches) = open.remove(place);
                let first_offset = batches[0];
                if at >= high_watermark {
                    stand.undecided.push(first_offset);
                    stand.undecided_batches.extend(batches);
                }
                if end.marker == TransactionMarker::Abort {
                    let last_stable_offset = open.iter().map(|(_, b)| b[0]).min().unwrap_or(at.next());
                    stand.aborted.push(AbortedTransaction {
                        producer,
                        first_offset,
                        last_offset: at,
                        last_stable_offset,
                    });
                }
            }
            (Some(_), None) => {}
            (None, Some(place)) => open[place].1.push(at),
            (None, None) => open.push((producer, vec![at])),
        }
    }
    stand.undecided.extend(open.iter().map(|(_, batches)| batches[0]));
    stand.undecided_batches.extend(open.into_iter().flat_map(|(_, batches)| batches));
    stand
}

/// Panics where the log says something else of its transactions than its batches.
pub async fn check(log: &Log, state: &State) -> Result<(), StorageError> {
    let bounds = log.bounds();
    let stand = stand(state, bounds.high_watermark);
    // Of a transaction whose beginning was trimmed off a crash may leave only what is still there.
    let whole = |first: &Offset| *first >= bounds.log_start;
    let first = stand.undecided.iter().min().copied().unwrap_or(Offset::MAX);
    let last_stable = first.max(bounds.log_start).min(bounds.high_watermark);
    if stand.undecided.iter().all(whole) {
        assert_eq!(log.last_stable_offset(), last_stable, "the last stable offset");
    }
    assert!(log.last_stable_offset() >= last_stable);
    let left = stand.undecided_batches.iter().filter(|at| whole(at)).min();
    assert!(left.is_none_or(|at| log.last_stable_offset() <= *at), "an undecided batch at {left:?} is stable");
    let middle = Offset((bounds.log_start.0 + bounds.log_end.0) / 2);
    for (from, upto) in [(bounds.log_start, bounds.log_end), (bounds.log_start, middle), (middle, bounds.log_end)] {
        let mut expected = stand.aborted.clone();
        expected.retain(|aborted| aborted.last_offset >= from && aborted.first_offset < upto);
        let found = match log.aborted_transactions(from, upto).await {
            Ok(found) => found,
            Err(ReadError::Storage(error)) => return Err(error),
            Err(ReadError::OutOfRange) => panic!("{from} is out of range"),
        };
        assert!(
            same_aborted(&found, &expected, bounds.log_start),
            "from {from} to {upto}: {found:?}, but {expected:?}"
        );
    }
    Ok(())
}
