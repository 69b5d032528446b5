use std::collections::BTreeMap;

use super::*;
use crate::model::TimestampType;
use crate::record::{BatchBuilder, BatchHeader, Codec, TransactionMarker, internal};
use crate::sealed::SealError;
use proptest::prelude::*;

fn header(id: i64, epoch: i16, first: i32, count: usize) -> BatchHeader {
    let mut builder = BatchBuilder::new(Codec::None).producer(ProducerId(id), ProducerEpoch(epoch), Sequence(first));
    (0..count).for_each(|_| builder.push(1000 + i64::from(first), None, None));
    BatchHeader::parse(&builder.build().unwrap()).unwrap()
}

/// Checks and, if fresh, appends at `offset`.
fn append(table: &mut ProducerTable, h: &BatchHeader, offset: i64) -> Result<Checked, ProducerError> {
    let checked = table.check(h)?;
    if checked == Checked::Fresh {
        table.update(h, Offset(offset));
    }
    Ok(checked)
}

fn is_out_of_order(result: Result<Checked, ProducerError>) -> bool {
    matches!(result, Err(e @ ProducerError::OutOfOrderSequence { .. }) if e.kafka_code() == 45)
}

#[test]
fn batches_without_a_producer_are_not_remembered() {
    let mut table = ProducerTable::new();
    for _ in 0..3 {
        assert_eq!(append(&mut table, &header(-1, -1, -1, 1), 0), Ok(Checked::Fresh));
    }
    assert!(table.is_empty());
}

#[test]
fn the_last_five_batches_answer_with_their_offsets() {
    let mut table = ProducerTable::new();
    for i in 0..7 {
        assert_eq!(append(&mut table, &header(1, 0, i * 10, 10), i64::from(i) * 100), Ok(Checked::Fresh));
    }
    for i in 2..7 {
        let found = Checked::Duplicate {
            base: Offset(i64::from(i) * 100),
            last: Offset(i64::from(i) * 100 + 9),
            timestamp: 1000 + i64::from(i) * 10,
        };
        assert_eq!(table.check(&header(1, 0, i * 10, 10)), Ok(found));
    }
    assert!(is_out_of_order(table.check(&header(1, 0, 10, 10))), "the sixth last is forgotten");
    assert!(is_out_of_order(table.check(&header(1, 0, 60, 9))), "same start, other end");
}

#[test]
fn gaps_are_refused_and_unknown_producers_start_anywhere() {
    let mut table = ProducerTable::new();
    assert_eq!(append(&mut table, &header(1, 0, 42, 3), 0), Ok(Checked::Fresh));
    assert!(is_out_of_order(table.check(&header(1, 0, 46, 1))));
    assert!(is_out_of_order(table.check(&header(1, 0, 44, 1))));
    assert_eq!(append(&mut table, &header(1, 0, 45, 1), 3), Ok(Checked::Fresh));
}

#[test]
fn epochs_only_rise_and_start_at_zero() {
    let mut table = ProducerTable::new();
    append(&mut table, &header(1, 3, 0, 5), 0).unwrap();
    let stale = table.check(&header(1, 2, 5, 1)).unwrap_err();
    assert!(matches!(stale, ProducerError::InvalidProducerEpoch { .. }) && stale.kafka_code() == 47);
    assert!(is_out_of_order(table.check(&header(1, 4, 5, 1))));
    assert_eq!(append(&mut table, &header(1, 4, 0, 5), 5), Ok(Checked::Fresh));
    assert!(matches!(table.check(&header(1, 3, 0, 5)), Err(ProducerError::InvalidProducerEpoch { .. })));
    assert_eq!(table.get(ProducerId(1)).unwrap().last_sequence, Sequence(4));
}

#[test]
fn sequences_wrap() {
    let mut table = ProducerTable::new();
    append(&mut table, &header(1, 0, i32::MAX - 2, 3), 0).unwrap();
    assert!(is_out_of_order(table.check(&header(1, 0, 1, 1))));
    assert_eq!(append(&mut table, &header(1, 0, 0, 2), 3), Ok(Checked::Fresh));

    let mut table = ProducerTable::new();
    append(&mut table, &header(1, 0, i32::MAX - 1, 5), 10).unwrap();
    let found = Checked::Duplicate { base: Offset(10), last: Offset(14), timestamp: 1000 + i64::from(i32::MAX - 1) };
    assert_eq!(table.check(&header(1, 0, i32::MAX - 1, 5)), Ok(found), "a batch across the wrap");
    assert_eq!(append(&mut table, &header(1, 0, 3, 1), 15), Ok(Checked::Fresh));
}

#[test]
fn a_marker_moves_the_epoch_only() {
    let mut table = ProducerTable::new();
    append(&mut table, &header(1, 0, 0, 5), 0).unwrap();
    let mut marker = BatchBuilder::new(Codec::None).producer(ProducerId(1), ProducerEpoch(1), Sequence::NONE);
    marker.push_marker(2000, TransactionMarker::Abort, 3);
    let marker = BatchHeader::parse(&marker.build().unwrap()).unwrap();
    table.update(&marker, Offset(5));
    let info = table.get(ProducerId(1)).unwrap();
    assert_eq!((info.epoch, info.last_sequence, info.last_timestamp), (ProducerEpoch(1), Sequence::NONE, 2000));
    assert!(is_out_of_order(table.check(&header(1, 1, 5, 1))));
    assert_eq!(table.check(&header(1, 1, 0, 1)), Ok(Checked::Fresh));
    table.update(&BatchHeader::parse(&internal::blank(Default::default(), Offset(6))).unwrap(), Offset(6));
    assert_eq!(table.len(), 1);
}

#[test]
fn producers_expire_by_their_last_timestamp() {
    let mut table = ProducerTable::new();
    append(&mut table, &header(1, 0, 0, 1), 0).unwrap();
    append(&mut table, &header(2, 0, 500, 1), 1).unwrap();
    assert_eq!(table.expire(1999, 1000), 0);
    assert_eq!(table.expire(2000, 1000), 1, "1000 ms after the first");
    assert!(table.get(ProducerId(1)).is_none() && table.get(ProducerId(2)).is_some());
    assert_eq!(table.check(&header(1, 0, 77, 1)), Ok(Checked::Fresh), "no state, any sequence");
}

#[test]
fn snapshots_read_back_and_damage_is_seen() {
    let mut table = ProducerTable::new();
    for id in 0..20 {
        for i in 0..id % 8 {
            append(&mut table, &header(id, 0, i as i32 * 2, 2), id * 100 + i * 2).unwrap();
        }
    }
    let mut bytes = Vec::new();
    table.encode(&mut bytes);
    let len = bytes.len();
    bytes.extend_from_slice(b"what follows");
    let mut rest = &bytes[..];
    assert_eq!(ProducerTable::decode(&mut rest).unwrap(), table);
    assert_eq!(rest, b"what follows");
    for end in 0..len {
        assert_eq!(ProducerTable::decode(&mut &bytes[..end]), Err(SealError::Truncated));
    }
    for at in 0..len {
        let mut bad = bytes.clone();
        bad[at] ^= 4;
        assert!(ProducerTable::decode(&mut &bad[..]).is_err(), "bit flipped in byte {at}");
    }
}

#[test]
fn an_entry_stays_small() {
    assert!(size_of::<(ProducerId, Entry)>() <= 160, "{} bytes", size_of::<(ProducerId, Entry)>());
}

/// All batches ever appended, looked through from scratch for each answer.
#[derive(Default)]
struct Model {
    log: BTreeMap<i64, Vec<(i16, i32, usize, i64)>>,
}

impl Model {
    fn check(&self, id: i64, epoch: i16, first: i32, count: usize) -> Result<Checked, i16> {
        let Some(&(last_epoch, last_first, last_count, _)) = self.log.get(&id).and_then(|all| all.last()) else {
            return Ok(Checked::Fresh);
        };
        let same_epoch = self.log[&id].iter().rev().take_while(|b| b.0 == last_epoch).take(5);
        for b in same_epoch {
            if (b.0, b.1, b.2) == (epoch, first, count) {
                let (base, last) = (Offset(b.3), Offset(b.3 + count as i64 - 1));
                return Ok(Checked::Duplicate { base, last, timestamp: 1000 + i64::from(first) });
            }
        }
        let wrapping = |n: i64| (n % (1 << 31)) as i32;
        match epoch.cmp(&last_epoch) {
            std::cmp::Ordering::Less => Err(47),
            std::cmp::Ordering::Greater if first == 0 => Ok(Checked::Fresh),
            std::cmp::Ordering::Equal if first == wrapping(i64::from(last_first) + last_count as i64) => {
                Ok(Checked::Fresh)
            }
            _ => Err(45),
        }
    }
}

proptest! {
    #[test]
    fn the_table_does_as_a_full_history(
        start in prop::sample::select(vec![0, 5, i32::MAX - 6]),
        steps in prop::collection::vec((0i64..3, -1i16..2, -12i32..5, 1usize..4), 1..120),
    ) {
        let (mut table, mut model) = (ProducerTable::new(), Model::default());
        let mut offset = 0;
        for (id, epoch_step, shift, count) in steps {
            // Near where the producer stands, so that every verdict comes up.
            let (epoch, next) = model.log.get(&id).and_then(|all| all.last()).map_or((1, start), |b| {
                (b.0, Sequence(b.1).plus(b.2 as u32).0)
            });
            let epoch = (epoch + epoch_step.min(1)).max(0);
            let first = match (epoch_step, shift) {
                (1, _) if shift < 3 => 0,
                (_, shift) if shift > 0 => next,
                (_, shift) => Sequence(next).minus(shift.unsigned_abs()).0,
            };
            let h = header(id, epoch, first, count);
            let expected = model.check(id, epoch, first, count);
            prop_assert_eq!(table.check(&h).map_err(|e| e.kafka_code()), expected);
            if expected == Ok(Checked::Fresh) {
                table.update(&h, Offset(offset));
                model.log.entry(id).or_default().push((epoch, first, count, offset));
                offset += count as i64;
            }
            let mut bytes = Vec::new();
            table.encode(&mut bytes);
            prop_assert_eq!(&ProducerTable::decode(&mut &bytes[..]).unwrap(), &table);
        }
    }

    #[test]
    fn decoding_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..100), seal: bool) {
        let mut framed = Vec::new();
        crate::sealed::seal(*b"CLPT", 0, &bytes, &mut framed);
        let _ = ProducerTable::decode(&mut if seal { &framed[..] } else { &bytes[..] });
    }
}

#[test]
fn log_append_time_is_remembered() {
    let mut h = header(1, 0, 0, 1);
    h.max_timestamp = 5555;
    assert_eq!(h.timestamp_type(), TimestampType::CreateTime);
    let mut table = ProducerTable::new();
    table.update(&h, Offset(0));
    assert!(matches!(table.check(&h), Ok(Checked::Duplicate { timestamp: 5555, .. })));
}
