//! What a log may hold where it may have been compacted.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use core_pinning::sim::Rng;
use corelane_storage::model::{Offset, Term};
use corelane_storage::record::{BatchBuilder, BatchHeader, Batches, Codec, Record, RecordIter};

use super::model::State;

/// Keys are few, so that later records replace earlier ones.
const KEYS: u64 = 12;

/// A batch of records with keys, some of them tombstones, that begins at `base`.
pub fn batch(base: Offset, count: u32, size: usize, term: Term, rng: &mut Rng) -> Bytes {
    let mut builder = BatchBuilder::new(if rng.one_in(4) { Codec::Lz4 } else { Codec::None });
    for n in 0..count {
        let mut value = vec![0; size];
        rng.fill(&mut value);
        let key = rng.below(KEYS).to_be_bytes();
        let value = (!rng.one_in(6)).then_some(value.as_slice());
        builder.push(1000 + base.0 + i64::from(n), Some(&key), value);
    }
    builder.build_at(base, term).unwrap()
}

fn records(batch: &Bytes) -> impl Iterator<Item = Record> {
    RecordIter::new(batch, 1 << 20).expect("a batch that can be read").map(|r| r.expect("a record"))
}

/// Compares what was read from `from` on, up to `upto`, with what was appended. Batches that end before `limit` may have been
/// compacted: what they have is as it was, and what is gone has a later record of its key before `limit`, or is a tombstone.
pub fn check(found: &[u8], state: &State, from: Offset, upto: Offset, limit: Offset) -> Result<(), String> {
    let originals: BTreeMap<Offset, Bytes> =
        state.batches(Offset(0)).into_iter().map(|b| (BatchHeader::parse(&b).unwrap().base_offset, b)).collect();
    let all: BTreeMap<Offset, Record> = originals.values().flat_map(records).map(|r| (r.offset, r)).collect();
    let mut left = BTreeSet::new();
    let mut at = Offset(0);
    for batch in Batches::new(Bytes::copy_from_slice(found)) {
        let (header, batch) = batch.map_err(|e| format!("no batch at {at}: {e}"))?;
        header.verify_crc(&batch).map_err(|e| format!("batch at {}: {e}", header.base_offset))?;
        if header.base_offset < at {
            return Err(format!("a batch at {} where {at} is due", header.base_offset));
        }
        at = header.next_offset();
        if header.last_offset() >= limit && originals.get(&header.base_offset) != Some(&batch) {
            return Err(format!("the batch at {} is another one", header.base_offset));
        }
        for record in records(&batch) {
            let same = all.get(&record.offset).is_some_and(|was| {
                (&was.key, &was.value, was.timestamp) == (&record.key, &record.value, record.timestamp)
            });
            if !same {
                return Err(format!("the record at {} is another one", record.offset));
            }
            left.insert(record.offset);
        }
    }
    let mut last: BTreeMap<&Option<Bytes>, Offset> = BTreeMap::new();
    last.extend(all.values().filter(|r| r.offset < limit).map(|r| (&r.key, r.offset)));
    for (offset, record) in all.range(from..upto).filter(|(offset, _)| !left.contains(offset)) {
        let replaced = last.get(&record.key).is_some_and(|last| last > offset);
        if *offset >= limit || !replaced && record.value.is_some() {
            return Err(format!("the record at {offset} is gone"));
        }
    }
    Ok(())
}
