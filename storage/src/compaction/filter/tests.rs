use super::*;
use crate::model::{ProducerEpoch, Sequence, Term};
use crate::record::{BatchBuilder, RecordIter};

const NOW: i64 = 1_000_000;
const RETENTION: i64 = 5000;

type Item<'a> = (&'a str, Option<&'a str>);

fn builder(codec: Codec) -> BatchBuilder {
    BatchBuilder::new(codec).producer(ProducerId(9), ProducerEpoch(2), Sequence(50))
}

fn batch(codec: Codec, base: i64, items: &[Item<'_>]) -> Bytes {
    let mut b = builder(codec);
    for (n, (key, value)) in items.iter().enumerate() {
        b.push(100 + n as i64, Some(key.as_bytes()), value.map(str::as_bytes));
    }
    b.build_at(Offset(base), Term(4)).unwrap()
}

fn marker(base: i64) -> Bytes {
    let mut b = BatchBuilder::new(Codec::None).producer(ProducerId(9), ProducerEpoch(2), Sequence::NONE);
    b.push_marker(100, TransactionMarker::Commit, 1);
    b.build_at(Offset(base), Term(4)).unwrap()
}

fn map_of(last: &[(&str, i64)], next: i64) -> OffsetMap {
    let mut map = OffsetMap::new(1000, 1 << 20, 0.9);
    last.iter().for_each(|(key, offset)| assert!(map.put(key.as_bytes(), Offset(*offset))));
    map.advance(Offset(next));
    map
}

fn run(filter: &mut Filter<'_>, batch: &Bytes, last: bool) -> Result<Fate, RecordsError> {
    let mut passing = filter.begin(&BatchHeader::parse(batch).unwrap(), batch, last)?;
    loop {
        if let Some(fate) = filter.step(&mut passing)? {
            return Ok(fate);
        }
    }
}

fn pass(map: &OffsetMap, now_ms: i64, batch: &Bytes, last: bool) -> Fate {
    run(&mut Filter::new(map, &Outcomes::default(), now_ms, RETENTION), batch, last).unwrap()
}

fn changed(fate: Fate) -> (BatchHeader, Bytes) {
    let Fate::Changed(batch) = fate else { panic!("{fate:?}") };
    let header = BatchHeader::parse(&batch).unwrap();
    header.verify_crc(&batch).unwrap();
    assert_eq!(header.size(), batch.len());
    (header, batch)
}

/// Offset, timestamp, key of each record.
fn records(batch: &Bytes) -> Vec<(i64, i64, String)> {
    let iter = RecordIter::new(batch, 1 << 20).unwrap().map(Result::unwrap);
    iter.map(|r| (r.offset.0, r.timestamp, String::from_utf8(r.key.unwrap().to_vec()).unwrap())).collect()
}

#[test]
fn what_is_not_the_last_of_its_key_goes_and_the_rest_stays_as_it_was() {
    for codec in Codec::ALL {
        let batch = batch(codec, 10, &[("a", Some("1")), ("b", Some("2")), ("a", Some("3")), ("c", Some("4"))]);
        let map = map_of(&[("a", 12), ("b", 40), ("c", 13)], 41);
        let (header, left) = changed(pass(&map, NOW, &batch, false));
        let old = BatchHeader::parse(&batch).unwrap();
        assert_eq!(records(&left), [(12, 102, "a".into()), (13, 103, "c".into())]);
        assert_eq!((header.base_offset, header.last_offset()), (Offset(10), Offset(13)), "offsets do not move");
        assert_eq!((header.compression(), header.leader_epoch), (Ok(codec), 4));
        assert_eq!((header.producer_id, header.base_sequence), (old.producer_id, old.base_sequence));
        assert_eq!((header.max_timestamp, header.delete_horizon()), (103, None));
        let sequences = RecordIter::new(&left, 1 << 20).unwrap().map(|r| r.unwrap().sequence);
        assert_eq!(sequences.collect::<Vec<_>>(), [Sequence(52), Sequence(53)]);
        assert_eq!(pass(&map, NOW, &left, false), Fate::AsItIs, "nothing more to do");
    }
}

/// One record without a key at offset 10: the last of a pass that ends at 11.
fn batch_with_null() -> Bytes {
    let mut b = BatchBuilder::new(Codec::None);
    b.push(100, None, Some(b"1"));
    b.build_at(Offset(10), Term(4)).unwrap()
}

#[test]
fn what_the_map_does_not_reach_stays() {
    let batch = batch(Codec::Lz4, 10, &[("a", Some("1")), ("a", Some("2"))]);
    assert_eq!(pass(&map_of(&[], 10), NOW, &batch, false), Fate::AsItIs);
    let (_, left) = changed(pass(&map_of(&[("b", 10)], 11), NOW, &batch_with_null(), false));
    assert_eq!(left.len(), HEADER_BYTES, "a record without a key goes");
    let (header, left) = changed(pass(&map_of(&[("a", 11)], 12), NOW, &batch, false));
    assert_eq!((records(&left), header.count), (vec![(11, 101, "a".into())], 1));
}

#[test]
fn tombstones_go_in_a_pass_after_their_horizon() {
    let batch = batch(Codec::Zstd, 10, &[("a", Some("1")), ("b", None), ("c", Some("3"))]);
    let map = map_of(&[("a", 10), ("b", 11), ("c", 12)], 50);
    let (header, first) = changed(pass(&map, NOW, &batch, false));
    assert_eq!(header.delete_horizon(), Some(NOW + RETENTION));
    let all = [(10, 100, "a".to_owned()), (11, 101, "b".into()), (12, 102, "c".into())];
    assert_eq!(records(&first), all, "timestamps are kept though they count from the horizon");
    assert_eq!(pass(&map, NOW + RETENTION - 1, &first, false), Fate::AsItIs);
    let (header, second) = changed(pass(&map, NOW + RETENTION, &first, false));
    assert_eq!(header.delete_horizon(), Some(NOW + RETENTION), "set once");
    assert_eq!(records(&second), [all[0].clone(), all[2].clone()]);
}

#[test]
fn the_last_batch_of_a_producer_and_of_a_segment_stays_without_records() {
    let batch = batch(Codec::Gzip, 10, &[("a", Some("1")), ("b", Some("2"))]);
    let map = map_of(&[("a", 20), ("b", 21)], 30);
    assert_eq!(pass(&map, NOW, &batch, false), Fate::Gone);
    let (header, left) = changed(pass(&map, NOW, &batch, true));
    let old = BatchHeader::parse(&batch).unwrap();
    assert_eq!((header.count, header.compression()), (0, Ok(Codec::None)));
    assert_eq!((header.last_offset(), header.last_sequence()), (Offset(11), Sequence(51)));
    assert_eq!((header.producer_id, header.producer_epoch), (old.producer_id, old.producer_epoch));
    assert!(!header.is_internal() && records(&left).is_empty());
    assert_eq!(pass(&map, NOW, &left, true), Fate::AsItIs);
    assert_eq!(pass(&map, NOW, &left, false), Fate::Gone, "when its producer has gone on");
    // The pass ends with it: its last offset is what tells where.
    let (header, _) = changed(pass(&map_of(&[("a", 11), ("b", 11)], 12), NOW, &end_of_pass(), false));
    assert_eq!((header.count, header.next_offset()), (0, Offset(12)));
}

/// Ends at offset 11, with an older record of a key that has one at 11.
fn end_of_pass() -> Bytes {
    let mut b = BatchBuilder::new(Codec::None);
    b.push(100, None, Some(b"1"));
    b.push(100, None, Some(b"2"));
    b.build_at(Offset(10), Term(4)).unwrap()
}

#[test]
fn a_marker_stays_until_its_transaction_is_gone_and_a_horizon_has_passed() {
    let map = map_of(&[("a", 90)], 100);
    let mut transactional = builder(Codec::None).transactional();
    transactional.push(100, Some(b"x"), Some(b"1"));
    let data = transactional.build_at(Offset(10), Term(4)).unwrap();
    let commit = marker(11);
    let outcomes = Outcomes::default();
    let mut filter = Filter::new(&map, &outcomes, NOW, RETENTION);
    run(&mut filter, &data, false).unwrap();
    assert_eq!(run(&mut filter, &commit, false), Ok(Fate::AsItIs), "its transaction has a batch");
    // The next pass finds the marker alone.
    let (header, marked) = changed(pass(&map, NOW, &commit, false));
    assert_eq!((header.delete_horizon(), header.count), (Some(NOW + RETENTION), 1));
    assert_eq!(TransactionMarker::of(&header, &marked), Some(TransactionMarker::Commit));
    assert_eq!(records(&marked).len(), 1);
    assert_eq!(pass(&map, NOW + RETENTION - 1, &marked, false), Fate::AsItIs);
    assert_eq!(pass(&map, NOW + RETENTION, &marked, false), Fate::Gone);
    let (header, _) = changed(pass(&map, NOW + RETENTION, &marked, true));
    assert!(header.is_control() && !header.is_internal() && header.count == 0, "its producer's epoch lives on");
}

#[test]
fn damaged_records_are_an_error() {
    let mut bad = batch(Codec::Zstd, 10, &[("a", Some("1"))]).to_vec();
    let end = bad.len() - 5;
    bad.truncate(end);
    seal(&mut bad);
    let (map, outcomes) = (map_of(&[], 20), Outcomes::default());
    assert!(run(&mut Filter::new(&map, &outcomes, NOW, RETENTION), &Bytes::from(bad), false).is_err());
}
