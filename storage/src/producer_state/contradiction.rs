//! A table that was kept, against one made from the batches of the log: what of it cannot be.
//!
//! The one that was kept may know more: of batches that are gone from the log's beginning. And less: it forgets producers that
//! have written nothing for long. So a producer that it does not name is no contradiction, unless a transaction of it is open;
//! of one that it names the last batches and the transaction are those of the log.

use super::{Entry, ProducerTable};
use crate::model::{Offset, ProducerId};

impl ProducerTable {
    /// The first producer of which `log`, made from all batches from `from` on, says something else than this table, and what.
    pub(crate) fn contradiction(&self, log: &ProducerTable, from: Offset) -> Option<(ProducerId, String)> {
        let mut ids: Vec<ProducerId> = self.entries.keys().chain(log.entries.keys()).copied().collect();
        ids.sort_unstable();
        ids.dedup();
        ids.into_iter().find_map(|id| {
            let what = match (self.entries.get(&id), log.entries.get(&id)) {
                (Some(_), None) if from == Offset::ZERO => Some("the log has nothing of it".to_owned()),
                (Some(kept), logged) => kept.contradiction(logged, from),
                (None, Some(logged)) if logged.txn_first_offset >= 0 => {
                    Some(format!("it is not known, and has a transaction open from {}", logged.txn_first_offset))
                }
                (None, _) => None,
            };
            Some((id, what?))
        })
    }
}

impl Entry {
    /// `logged`: the same producer's, of the log from `from` on.
    fn contradiction(&self, logged: Option<&Entry>, from: Offset) -> Option<String> {
        let mut last_ones = logged.map(Entry::batches).unwrap_or_default().iter().rev();
        for batch in self.batches().iter().rev() {
            let what = match last_ones.next() {
                Some(other) if other == batch => continue,
                Some(other) => format!("the log has the one that ends at {}", other.last_offset),
                None if batch.last_offset >= from.0 => "the log has no such batch".to_owned(),
                None => break,
            };
            return Some(format!("its batch that ends at offset {}: {what}", batch.last_offset));
        }
        let first = self.txn_first_offset;
        let Some(logged) = logged else {
            return (first >= from.0).then(|| format!("its open transaction from {first}: the log has nothing of it"));
        };
        if (self.epoch, self.last_timestamp) != (logged.epoch, logged.last_timestamp) {
            return Some(format!(
                "epoch {} and timestamp {} of its last batch, of which the log says {} and {}",
                self.epoch, self.last_timestamp, logged.epoch, logged.last_timestamp
            ));
        }
        let has_ended = logged.coordinator_epoch >= 0;
        if has_ended && self.coordinator_epoch >= 0 && self.coordinator_epoch != logged.coordinator_epoch {
            return Some(format!(
                "the coordinator's epoch {} of its last marker, which has {}",
                self.coordinator_epoch, logged.coordinator_epoch
            ));
        }
        let is_older = first >= 0 && first < from.0 && !has_ended;
        (first != logged.txn_first_offset && !is_older).then(|| {
            let open = |first: i64| Offset(first).known().map_or("none".to_owned(), |first| format!("from {first}"));
            format!("its open transaction: {}, of which the log says: {}", open(first), open(logged.txn_first_offset))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ProducerEpoch, Sequence, Term};
    use crate::record::{BatchBuilder, BatchHeader, Codec, TransactionMarker};

    const P: ProducerId = ProducerId(5);

    /// One record of a producer at each offset of `offsets`; a number below 0 is where its transaction is committed.
    fn table(producer: ProducerId, offsets: &[i64], transactional: bool) -> ProducerTable {
        let mut table = ProducerTable::new();
        for offset in offsets.iter().copied() {
            let (at, is_marker) = (Offset(offset.abs()), offset < 0);
            let sequence = if is_marker { Sequence::NONE } else { Sequence(at.0 as i32) };
            let mut builder = BatchBuilder::new(Codec::None).producer(producer, ProducerEpoch(0), sequence);
            if is_marker {
                builder.push_marker(1000 + at.0, TransactionMarker::Commit, 3);
            } else {
                builder = if transactional { builder.transactional() } else { builder };
                builder.push(1000 + at.0, None, Some(b"value"));
            }
            let batch = builder.build_at(at, Term(1)).unwrap();
            table.see(&BatchHeader::parse(&batch).unwrap(), at, &batch);
        }
        table
    }

    fn of(offsets: &[i64]) -> ProducerTable {
        table(P, offsets, false)
    }

    fn of_transaction(offsets: &[i64]) -> ProducerTable {
        table(P, offsets, true)
    }

    #[test]
    fn what_a_log_may_have_lost_and_a_table_may_have_forgotten_is_none() {
        let none = |kept: &ProducerTable, log: &ProducerTable, from| {
            assert_eq!(kept.contradiction(log, Offset(from)), None);
        };
        none(&of(&[1, 2, 9]), &of(&[1, 2, 9]), 0);
        none(&of(&[1, 2, 3, 4, 5, 6, 7]), &of(&[1, 2, 3, 4, 5, 6, 7]), 0);
        none(&of(&[1, 2, 9]), &of(&[9]), 5);
        none(&of(&[1, 2]), &of(&[]), 5);
        none(&of(&[]), &of(&[1, 2]), 0);
        // Forgotten, and there again.
        none(&of(&[9]), &of(&[1, 2, 9]), 0);
        none(&of_transaction(&[-9]), &of_transaction(&[1, 2, -3, -9]), 0);
        // Begun before what is left.
        none(&of_transaction(&[1, 9]), &of_transaction(&[9]), 5);
        none(&of_transaction(&[1, -9]), &of_transaction(&[-9]), 5);
        none(&of_transaction(&[1, 2]), &of_transaction(&[]), 5);
    }

    #[test]
    fn what_the_log_says_otherwise_is_told_of_its_producer() {
        let told = |kept: &ProducerTable, log: &ProducerTable, from, says: &str| {
            let (producer, what) = kept.contradiction(log, Offset(from)).expect(says);
            assert!(producer == P && what.contains(says), "{what}: should say {says}");
        };
        // Of an earlier time, of a later one, and of another log.
        told(&of(&[1, 2]), &of(&[1, 2, 9]), 0, "offset 2: the log has the one that ends at 9");
        told(&of(&[1, 2, 9]), &of(&[1, 2]), 0, "offset 9: the log has the one that ends at 2");
        told(&of(&[1, 3]), &of(&[2, 3]), 0, "offset 1: the log has the one that ends at 2");
        told(&of(&[7]), &of(&[]), 5, "no such batch");
        told(&of(&[1]), &of(&[]), 0, "nothing of it");
        told(&of_transaction(&[-4]), &of_transaction(&[-4, -9]), 0, "timestamp 1004");
        told(&of(&[9]), &of_transaction(&[9]), 5, "transaction: none, of which the log says: from 9");
        told(&of_transaction(&[9]), &of(&[9]), 5, "transaction: from 9, of which the log says: none");
        told(&of(&[]), &of_transaction(&[9]), 5, "not known, and has a transaction open from 9");
        told(&of_transaction(&[6, 7]), &of_transaction(&[7]), 5, "offset 6: the log has no such batch");
    }
}
