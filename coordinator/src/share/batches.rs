//! Offsets and what became of them, as runs that do not overlap.

use std::collections::BTreeSet;

/// What is stored of the offsets `first ..= last`. The state is Kafka's `RecordState` (0 available, 2 acknowledged, 3 archiving, 4
/// archived); ordered by offsets, then by what wins over what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StateBatch {
    pub first: i64,
    pub last: i64,
    pub delivery_count: i16,
    pub delivery_state: i8,
}

impl StateBatch {
    /// Where two tell of one offset, that of the later delivery is right, and of one delivery the later state.
    fn rank(&self) -> (i16, i8) {
        (self.delivery_count, self.delivery_state)
    }

    fn until(self, last: i64) -> StateBatch {
        StateBatch { last, ..self }
    }

    fn from(self, first: i64) -> StateBatch {
        StateBatch { first, ..self }
    }
}

/// What `old` and `new` say together of the offsets from `start` on (-1: of all), in the order of offsets, without overlaps.
///
/// Kafka: `PersisterStateBatchCombiner`. Like there, a lone batch, or neighbours that came to look alike late, stay as they are:
/// readers see the same either way, and our records the same as Kafka's.
pub(super) fn combine(old: &[StateBatch], new: &[StateBatch], start: i64) -> Vec<StateBatch> {
    let all = old.iter().chain(new).filter(|batch| start == -1 || batch.last >= start);
    let all = all.map(|batch| if start == -1 { *batch } else { batch.from(batch.first.max(start)) });
    let mut kept: BTreeSet<StateBatch> = all.collect();
    let mut combined = Vec::with_capacity(kept.len());
    while let Some(first) = kept.pop_first() {
        let Some(second) = kept.first().copied() else {
            combined.push(first);
            break;
        };
        let same = first.rank() == second.rank();
        if second.first > first.last && !(same && first.last + 1 == second.first) {
            combined.push(first);
            continue;
        }
        kept.pop_first();
        if same {
            kept.insert(first.until(first.last.max(second.last)));
        } else if second.rank() < first.rank() {
            kept.insert(first);
            if second.last > first.last {
                kept.insert(second.from(first.last + 1));
            }
        } else {
            if second.first > first.first {
                kept.insert(first.until(second.first - 1));
            }
            kept.insert(second);
            if first.last > second.last {
                kept.insert(first.from(second.last + 1));
            }
        }
    }
    combined
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn batch() -> impl Strategy<Value = StateBatch> {
        (0i64..40, 0i64..8, 0i16..4, prop_oneof![Just(0i8), Just(2), Just(4)]).prop_map(
            |(first, more, delivery_count, delivery_state)| StateBatch {
                first,
                last: first + more,
                delivery_count,
                delivery_state,
            },
        )
    }

    proptest! {
        /// Every offset has the strongest of what is said of it, and no offset is said of twice.
        #[test]
        fn every_offset_keeps_its_strongest_word(
            old in proptest::collection::vec(batch(), 0..8),
            new in proptest::collection::vec(batch(), 0..8),
            start in -1i64..45,
        ) {
            let mut strongest: BTreeMap<i64, (i16, i8)> = BTreeMap::new();
            for batch in old.iter().chain(&new) {
                for offset in batch.first.max(start)..=batch.last {
                    let word = strongest.entry(offset).or_insert(batch.rank());
                    *word = (*word).max(batch.rank());
                }
            }
            let mut found = BTreeMap::new();
            let combined = combine(&old, &new, start);
            for batch in &combined {
                for offset in batch.first..=batch.last {
                    prop_assert_eq!(found.insert(offset, batch.rank()), None, "offset {}", offset);
                }
            }
            prop_assert!(combined.is_sorted());
            prop_assert_eq!(found, strongest);
        }
    }

    #[test]
    fn neighbours_that_are_alike_become_one() {
        let batch = |first, last| StateBatch { first, last, delivery_count: 1, delivery_state: 2 };
        assert_eq!(combine(&[batch(0, 4)], &[batch(5, 9), batch(11, 12)], -1), [batch(0, 9), batch(11, 12)]);
    }
}
