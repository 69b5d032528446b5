use super::super::{BatchBuilder, BatchKind, RecordIter, ValidationContext, classify, internal, validate};
use super::*;
use proptest::prelude::*;

fn batch(records: usize) -> Bytes {
    let mut builder = BatchBuilder::new(Codec::None).producer(ProducerId(9), ProducerEpoch(2), Sequence(i32::MAX - 1));
    for i in 0..records {
        builder.push(1000 + i as i64, Some(b"key"), Some(b"value"));
    }
    builder.build_at(Offset(50), Term(4)).unwrap()
}

#[test]
fn a_header_reads_back() {
    let bytes = batch(3);
    let header = BatchHeader::parse(&bytes).unwrap();
    header.verify_crc(&bytes).unwrap();
    assert_eq!(header.size(), bytes.len());
    assert_eq!((header.base_offset, header.last_offset(), header.next_offset()), (Offset(50), Offset(52), Offset(53)));
    assert_eq!((header.leader_epoch, header.count, header.max_timestamp), (4, 3, 1002));
    assert_eq!(header.last_sequence(), Sequence(0), "wraps after 2^31 - 1");
    assert!(header.has_producer() && !header.is_control() && !header.is_transactional() && !header.is_internal());
    assert_eq!(header.delete_horizon(), None);
    let mut head = [0; HEADER_BYTES];
    header.write(&mut head);
    assert_eq!(head[..], bytes[..HEADER_BYTES]);
}

#[test]
fn placing_a_batch_leaves_the_crc_right() {
    let mut bytes = batch(2).to_vec();
    patch_base_offset_and_epoch(&mut bytes, Offset(7_000_000_000), Term(11));
    let header = BatchHeader::parse(&bytes).unwrap();
    header.verify_crc(&bytes).unwrap();
    assert_eq!((header.base_offset, header.leader_epoch), (Offset(7_000_000_000), 11));
    patch_base_offset_and_epoch(&mut bytes[..60], Offset(0), Term(0));
}

#[test]
fn wrong_headers_are_named() {
    let good = batch(1);
    let with = |at: usize, new: &[u8]| {
        let mut bytes = good.to_vec();
        bytes[at..at + new.len()].copy_from_slice(new);
        BatchHeader::parse(&bytes).map(|_| ())
    };
    assert_eq!(with(16, &[1]), Err(BatchError::Magic(1)));
    assert_eq!(with(8, &48i32.to_be_bytes()), Err(BatchError::Length(48)));
    assert_eq!(with(8, &(-1i32).to_be_bytes()), Err(BatchError::Length(-1)));
    assert_eq!(with(8, &49i32.to_be_bytes()), Ok(()));
    assert_eq!(with(57, &(-2i32).to_be_bytes()), Err(BatchError::Count(-2)));
    assert_eq!(with(23, &(-2i32).to_be_bytes()), Err(BatchError::OffsetDelta(-2)));
    assert_eq!(BatchHeader::parse(&good[..60]), Err(BatchError::Truncated { have: 60, need: 61 }));
    assert!(matches!(BatchHeader::split(&good[..good.len() - 1]), Err(BatchError::Truncated { .. })));
    let header = BatchHeader::parse(&good).unwrap();
    assert!(matches!(header.verify_crc(&good[..good.len() - 1]), Err(BatchError::Truncated { .. })));
    let mut bad = good.to_vec();
    *bad.last_mut().unwrap() ^= 1;
    assert!(matches!(header.verify_crc(&bad), Err(BatchError::Crc { .. })));
}

#[test]
fn batches_follow_each_other_in_a_buffer() {
    let all = Bytes::from([&batch(1)[..], &internal::blank(Term(1), Offset(51)), &batch(2)].concat());
    let counts: Vec<i32> = Batches::new(all.clone()).map(|b| b.unwrap().0.count).collect();
    assert_eq!(counts, [1, 0, 2]);
    let mut cut = Batches::new(all.slice(..all.len() - 1)).skip(2);
    assert!(matches!(cut.next(), Some(Err(BatchError::Truncated { .. }))));
    assert!(cut.next().is_none());
}

#[test]
fn kafkas_emptied_batches_are_not_internal() {
    // Compaction keeps a producer's last batch without its records, with its offsets.
    for control in [false, true] {
        let attributes = BatchHeader::attributes_for(Codec::None, TimestampType::CreateTime, control, control, true);
        let mut bytes = batch(1)[..HEADER_BYTES].to_vec();
        bytes[ATTRIBUTES_AT..ATTRIBUTES_AT + 2].copy_from_slice(&attributes.to_be_bytes());
        bytes[57..61].copy_from_slice(&0i32.to_be_bytes());
        seal(&mut bytes);
        let header = BatchHeader::parse(&bytes).unwrap();
        header.verify_crc(&bytes).unwrap();
        assert_eq!(classify(&header, &bytes), if control { BatchKind::Control } else { BatchKind::Data });
        assert_eq!(header.delete_horizon(), Some(1000));
        assert_eq!(RecordIter::new(&Bytes::from(bytes), 0).unwrap().count(), 0);
    }
}

fn look_at_everything(bytes: Bytes) {
    for (header, batch) in Batches::new(bytes.clone()).flatten() {
        let _ = header.verify_crc(&batch);
        let _ = (header.last_offset(), header.next_offset(), header.last_sequence(), header.timestamp_type());
        let _ = classify(&header, &batch);
        let _ = (internal::parse_segment_header(&batch), internal::membership_payload(&batch));
        let _ = super::super::dump::batch(&header, &batch, 0).json().to_string();
        if let Ok(records) = RecordIter::new(&batch, 1 << 16) {
            for record in records.flatten() {
                let _ = super::super::dump::record(&header, &record, true).human().to_string();
            }
        }
    }
    let _ = validate(&bytes, &ValidationContext { compacted: true, ..Default::default() });
}

proptest! {
    #[test]
    fn nothing_panics_on_random_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        look_at_everything(bytes.into());
    }

    /// Damage anywhere, with and without a CRC that hides it.
    #[test]
    fn nothing_panics_on_damaged_batches(
        codec in 0usize..5,
        flips in prop::collection::vec((any::<usize>(), any::<u8>()), 1..8),
        cut in 0usize..400,
        reseal: bool,
    ) {
        let mut builder = BatchBuilder::new(Codec::ALL[codec]).producer(ProducerId(1), ProducerEpoch(0), Sequence(0));
        for i in 0..5 {
            builder.push_with_headers(i, (i % 2 == 0).then_some(&b"key"[..]), Some(b"value value"), &[("h", None)]);
        }
        let mut bytes = builder.build().unwrap().to_vec();
        let len = bytes.len();
        for (at, new) in flips {
            bytes[at % len] = new;
        }
        bytes.truncate(len - cut.min(len / 3));
        if reseal {
            seal(&mut bytes);
        }
        look_at_everything(bytes.into());
    }
}
