use super::super::header::{patch_base_offset_and_epoch, seal};
use super::super::{BatchBuilder, RecordIter, internal};
use super::*;
use crate::model::{ProducerEpoch, ProducerId, Sequence, Term};
use proptest::prelude::*;

const NOW: i64 = 1_700_000_000_000;

fn ctx() -> ValidationContext {
    ValidationContext { now_ms: NOW, ..Default::default() }
}

fn builder(codec: Codec) -> BatchBuilder {
    let mut builder = BatchBuilder::new(codec);
    for i in 0..10 {
        builder.push(NOW - 5 + (i % 4), Some(b"key"), Some(format!("value {i} value value value").as_bytes()));
    }
    builder
}

fn batch(codec: Codec) -> Bytes {
    builder(codec).build().unwrap()
}

/// The batch with bytes changed and its CRC made right again.
fn patched(batch: &Bytes, at: usize, new: &[u8]) -> Bytes {
    let mut bytes = batch.to_vec();
    bytes[at..at + new.len()].copy_from_slice(new);
    let len = i32::from_be_bytes(bytes[8..12].try_into().unwrap());
    seal(&mut bytes);
    bytes[8..12].copy_from_slice(&len.to_be_bytes());
    bytes.into()
}

fn code(bytes: &Bytes, ctx: &ValidationContext) -> Option<RecordErrorCode> {
    validate(bytes, ctx).err().map(|e| e.code)
}

fn values(batch: &Bytes) -> Vec<(i64, i64, Option<Bytes>)> {
    let records = RecordIter::new(batch, 1 << 30).unwrap().map(|r| r.unwrap());
    records.map(|r| (r.offset.0, r.timestamp, r.value)).collect()
}

/// As the log does it.
fn place(validated: Validated, base_offset: Offset, term: Term) -> Bytes {
    let mut batch = validated.into_batch().to_vec();
    patch_base_offset_and_epoch(&mut batch, base_offset, term);
    batch.into()
}

#[test]
fn good_batches_pass_unchanged() {
    for codec in Codec::ALL {
        let sent = batch(codec);
        let validated = validate(&sent, &ctx()).unwrap();
        assert!(!validated.rebuilt);
        assert_eq!((validated.header.max_timestamp, validated.max_timestamp_delta), (NOW - 2, 3));
        assert_eq!(validated.size(), sent.len());
        let batch = validated.clone().into_batch();
        assert_eq!(batch.as_ptr(), sent.as_ptr(), "not copied");
        let placed = place(validated, Offset(77), Term(5));
        let header = BatchHeader::parse(&placed).unwrap();
        header.verify_crc(&placed).unwrap();
        assert_eq!((header.base_offset, header.leader_epoch, header.count), (Offset(77), 5, 10));
        assert_eq!(placed[17..], sent[17..], "nothing but the place changes");
    }
}

#[test]
fn each_fault_has_kafkas_code() {
    use RecordErrorCode::*;
    let good = batch(Codec::None);
    let lz4 = batch(Codec::Lz4);
    let mut control = BatchBuilder::new(Codec::None);
    control.push_marker(NOW, super::super::TransactionMarker::Commit, 0);
    let mut flipped = good.to_vec();
    *flipped.last_mut().unwrap() ^= 1;
    let sequence_of = |s: i32| {
        let b = builder(Codec::None).producer(ProducerId(1), ProducerEpoch(0), Sequence(s));
        b.build().unwrap()
    };
    let two = Bytes::from([&good[..], &good[..]].concat());
    let two_and_zstd = Bytes::from([&batch(Codec::Zstd)[..], &good[..]].concat());
    let old_produce = ValidationContext { allow_zstd: false, ..ctx() };
    let table = [
        ("empty", Bytes::new(), ctx(), Some(InvalidRecord)),
        ("cut in the header", good.slice(..60), ctx(), Some(InvalidRecord)),
        ("cut in the records", good.slice(..good.len() - 1), ctx(), Some(InvalidRecord)),
        ("two batches", two, ctx(), Some(InvalidRecord)),
        ("a whole and a partial batch", Bytes::from([&good[..], &good[..99]].concat()), ctx(), None),
        ("trailing bytes", Bytes::from([&good[..], &[9; 16]].concat()), ctx(), None),
        ("trailing bytes of no format", Bytes::from([&good[..], &[9; 17]].concat()), ctx(), Some(CorruptMessage)),
        ("format 1", patched(&good, 16, &[1]), ctx(), Some(InvalidRecord)),
        ("format 3", patched(&good, 16, &[3]), ctx(), Some(CorruptMessage)),
        ("length below the header", patched(&good, 8, &20i32.to_be_bytes()), ctx(), Some(CorruptMessage)),
        ("zstd too early", batch(Codec::Zstd), old_produce, Some(UnsupportedCompressionType)),
        ("zstd too early and two batches", two_and_zstd, old_produce, Some(UnsupportedCompressionType)),
        ("codec 5", patched(&good, 21, &5i16.to_be_bytes()), ctx(), Some(UnsupportedCompressionType)),
        ("base offset 1", patched(&good, 0, &1i64.to_be_bytes()), ctx(), Some(InvalidRecord)),
        (
            "too large",
            good.clone(),
            ValidationContext { max_message_bytes: good.len() - 1, ..ctx() },
            Some(MessageTooLarge),
        ),
        ("just fits", good.clone(), ValidationContext { max_message_bytes: good.len(), ..ctx() }, None),
        (
            "larger than a segment",
            good.clone(),
            ValidationContext { segment_bytes: good.len() - 1, ..ctx() },
            Some(RecordListTooLarge),
        ),
        ("flipped bit", flipped.into(), ctx(), Some(CorruptMessage)),
        ("count 0", patched(&good, 57, &0i32.to_be_bytes()), ctx(), Some(InvalidRecord)),
        ("count -1", patched(&good, 57, &(-1i32).to_be_bytes()), ctx(), Some(InvalidRecord)),
        ("count 9 of 10", patched(&good, 57, &9i32.to_be_bytes()), ctx(), Some(InvalidRecord)),
        ("last delta 8 of 9", patched(&good, 23, &8i32.to_be_bytes()), ctx(), Some(InvalidRecord)),
        ("last delta at the end of i32", patched(&good, 23, &i32::MAX.to_be_bytes()), ctx(), Some(InvalidRecord)),
        (
            "both say 9",
            patched(&patched(&good, 23, &8i32.to_be_bytes()), 57, &9i32.to_be_bytes()),
            ctx(),
            Some(InvalidRecord),
        ),
        (
            "both say 11",
            patched(&patched(&good, 23, &10i32.to_be_bytes()), 57, &11i32.to_be_bytes()),
            ctx(),
            Some(InvalidRecord),
        ),
        (
            "compressed, both say 9",
            patched(&patched(&lz4, 23, &8i32.to_be_bytes()), 57, &9i32.to_be_bytes()),
            ctx(),
            Some(InvalidRecord),
        ),
        ("control batch", control.build().unwrap(), ctx(), Some(InvalidRecord)),
        ("internal batch", internal::blank(Term(0), Offset(0)), ctx(), Some(InvalidRecord)),
        ("producer without sequence", sequence_of(-1), ctx(), Some(InvalidRecord)),
        ("producer with sequence", sequence_of(0), ctx(), None),
        ("not compressed as said", patched(&good, 21, &3i16.to_be_bytes()), ctx(), Some(InvalidRecord)),
        (
            "decompresses to too much",
            lz4,
            ValidationContext { max_decompressed_bytes: 100, ..ctx() },
            Some(MessageTooLarge),
        ),
        ("claims LogAppendTime, which is not looked at", patched(&good, 21, &8i16.to_be_bytes()), ctx(), None),
        (
            "claims LogAppendTime, which the topic has",
            patched(&good, 21, &8i16.to_be_bytes()),
            ValidationContext { timestamp_type: TimestampType::LogAppendTime, ..ctx() },
            Some(InvalidTimestamp),
        ),
        ("too old", good.clone(), ValidationContext { timestamp_before_max_ms: 4, ..ctx() }, Some(InvalidTimestamp)),
        ("old enough", good.clone(), ValidationContext { timestamp_before_max_ms: 5, ..ctx() }, None),
        (
            "from the future",
            good.clone(),
            ValidationContext { now_ms: NOW - 3, timestamp_after_max_ms: 0, ..ctx() },
            Some(InvalidTimestamp),
        ),
        ("just now", good.clone(), ValidationContext { now_ms: NOW - 2, timestamp_after_max_ms: 0, ..ctx() }, None),
        ("compacted, with keys", good.clone(), ValidationContext { compacted: true, ..ctx() }, None),
    ];
    for (what, bytes, ctx, expected) in table {
        assert_eq!(code(&bytes, &ctx), expected, "{what}");
    }
}

#[test]
fn records_without_keys_are_listed_on_compacted_topics() {
    for codec in [Codec::None, Codec::Zstd] {
        let mut builder = BatchBuilder::new(codec);
        for i in 0..5 {
            builder.push(NOW, (i % 2 == 0).then_some(&b""[..]), None);
        }
        let bytes = builder.build().unwrap();
        let refused = validate(&bytes, &ValidationContext { compacted: true, ..ctx() }).unwrap_err();
        assert_eq!(refused.code, RecordErrorCode::InvalidRecord);
        assert_eq!(refused.records.iter().map(|r| r.index).collect::<Vec<_>>(), [1, 3]);
        // A bad timestamp among them decides the code.
        let refused =
            validate(&bytes, &ValidationContext { compacted: true, now_ms: 0, timestamp_after_max_ms: 0, ..ctx() });
        let refused = refused.unwrap_err();
        assert_eq!((refused.code, refused.records.len()), (RecordErrorCode::InvalidTimestamp, 5));
    }
}

#[test]
fn a_million_faults_are_not_all_listed() {
    let mut builder = BatchBuilder::new(Codec::None);
    (0..20_000).for_each(|_| builder.push(NOW, None, None));
    let refused = validate(&builder.build().unwrap(), &ValidationContext { compacted: true, ..ctx() }).unwrap_err();
    assert_eq!(refused.records.len(), RECORD_ERRORS_MAX);
    assert!(refused.message.starts_with("20000 records"), "{}", refused.message);
}

#[test]
fn records_without_a_timestamp_are_in_every_window() {
    let mut builder = BatchBuilder::new(Codec::None);
    builder.push(-1, None, None);
    let ctx = ValidationContext { timestamp_before_max_ms: 0, timestamp_after_max_ms: 0, ..ctx() };
    assert_eq!(validate(&builder.build().unwrap(), &ctx).unwrap().header.max_timestamp, -1);
}

#[test]
fn log_append_time_rewrites_the_header() {
    let ctx = ValidationContext { timestamp_type: TimestampType::LogAppendTime, timestamp_before_max_ms: 0, ..ctx() };
    for codec in Codec::ALL {
        let validated = validate(&batch(codec), &ctx).unwrap();
        assert_eq!((validated.header.max_timestamp, validated.max_timestamp_delta), (NOW, 0));
        assert_eq!(validated.header.timestamp_type(), TimestampType::LogAppendTime);
        let placed = place(validated, Offset(3), Term(1));
        BatchHeader::parse(&placed).unwrap().verify_crc(&placed).unwrap();
        assert!(values(&placed).iter().all(|(_, timestamp, _)| *timestamp == NOW));
    }
}

#[test]
fn a_wrong_max_timestamp_is_put_right() {
    for codec in Codec::ALL {
        let sent = patched(&batch(codec), 35, &(NOW + 999).to_be_bytes());
        let placed = place(validate(&sent, &ctx()).unwrap(), Offset(0), Term(0));
        let header = BatchHeader::parse(&placed).unwrap();
        header.verify_crc(&placed).unwrap();
        assert_eq!(header.max_timestamp, NOW - 2);
    }
}

#[test]
fn topics_recompress_to_their_codec() {
    for from in Codec::ALL {
        for to in Codec::ALL {
            let ctx = ValidationContext { compression: CompressionTarget::Codec(to.into()), ..ctx() };
            let sent = builder(from).producer(ProducerId(5), ProducerEpoch(6), Sequence(7)).transactional();
            let sent = sent.build().unwrap();
            let validated = validate(&sent, &ctx).unwrap();
            assert_eq!(validated.rebuilt, from != to);
            let placed = place(validated, Offset(100), Term(2));
            let header = BatchHeader::parse(&placed).unwrap();
            header.verify_crc(&placed).unwrap();
            assert_eq!(header.size(), placed.len());
            assert_eq!(header.compression(), Ok(to));
            assert!(header.is_transactional());
            assert_eq!((header.producer_id, header.producer_epoch), (ProducerId(5), ProducerEpoch(6)));
            assert_eq!(header.base_sequence, Sequence(7));
            let sent: Vec<_> = values(&sent).into_iter().map(|(o, t, v)| (o + 100, t, v)).collect();
            assert_eq!(values(&placed), sent, "{from:?} to {to:?}");
        }
    }
}

#[test]
fn a_rebuilt_batch_must_fit_too() {
    let mut builder = BatchBuilder::new(Codec::Zstd);
    builder.push(NOW, None, Some(&[7; 10_000]));
    let sent = builder.build().unwrap();
    let ctx = ValidationContext {
        max_message_bytes: 1000,
        compression: CompressionTarget::Codec(Codec::None.into()),
        ..ctx()
    };
    assert_eq!(code(&sent, &ctx), Some(RecordErrorCode::MessageTooLarge));
}

#[test]
fn offset_deltas_out_of_order_are_renumbered() {
    for codec in Codec::ALL {
        // Two records of one batch with the same offset delta, as a careless client may send them.
        let mut raw = Vec::new();
        for delta in [0, 0, 5] {
            let record = RecordBody {
                attributes: 0,
                timestamp_delta: i64::from(delta),
                offset_delta: delta,
                key: None,
                value: Some(b"v"),
                header_count: 0,
                headers: &[],
            };
            record.write(&mut raw);
        }
        let mut builder = BatchBuilder::new(codec);
        (0..3).for_each(|_| builder.push(NOW, None, None));
        let mut sent = builder.build().unwrap()[..HEADER_BYTES].to_vec();
        super::super::codec::compress(codec.into(), &raw, &mut sent).unwrap();
        seal(&mut sent);
        let validated = validate(&sent.into(), &ctx()).unwrap();
        assert!(validated.rebuilt);
        let placed = place(validated, Offset(10), Term(0));
        BatchHeader::parse(&placed).unwrap().verify_crc(&placed).unwrap();
        let offsets: Vec<i64> = values(&placed).iter().map(|(offset, _, _)| *offset).collect();
        assert_eq!(offsets, [10, 11, 12]);
        assert_eq!(BatchHeader::parse(&placed).unwrap().compression(), Ok(codec));
    }
}

proptest! {
    #[test]
    fn what_passes_reads_back(
        codec in 0usize..5,
        target in 0usize..6,
        records in prop::collection::vec((0i64..2000, prop::option::of(any::<[u8; 3]>()), prop::collection::vec(any::<u8>(), 0..50), 0usize..3), 1..30),
    ) {
        let mut builder = BatchBuilder::new(Codec::ALL[codec]);
        for (age, key, value, headers) in &records {
            let headers: Vec<(&str, Option<&[u8]>)> = (0..*headers).map(|i| ("h", (i == 0).then_some(&b"x"[..]))).collect();
            builder.push_with_headers(NOW - age, key.as_ref().map(|k| &k[..]), Some(value), &headers);
        }
        let compression = Codec::ALL.get(target).map_or(CompressionTarget::Producer, |c| CompressionTarget::Codec((*c).into()));
        let validated = validate(&builder.build().unwrap(), &ValidationContext { compression, ..ctx() }).unwrap();
        let oldest = records.iter().map(|r| r.0).min().unwrap();
        prop_assert_eq!(validated.header.max_timestamp, NOW - oldest);
        prop_assert_eq!(validated.max_timestamp_delta as usize, records.iter().position(|r| r.0 == oldest).unwrap());
        let placed = place(validated, Offset(1000), Term(1));
        BatchHeader::parse(&placed).unwrap().verify_crc(&placed).unwrap();
        let read: Vec<_> = RecordIter::new(&placed, 1 << 20).unwrap().map(|r| r.unwrap()).collect();
        prop_assert_eq!(read.len(), records.len());
        for (i, (record, (age, key, value, headers))) in read.iter().zip(&records).enumerate() {
            prop_assert_eq!((record.offset.0, record.timestamp), (1000 + i as i64, NOW - age));
            prop_assert_eq!(record.key.as_deref(), key.as_ref().map(|k| &k[..]));
            prop_assert_eq!(record.value.as_deref(), Some(&value[..]));
            prop_assert_eq!(record.headers.iter().count(), *headers);
        }
    }
}

/// A batch of about `bytes`, half of it random.
fn large(codec: Codec, bytes: usize, record: usize) -> Bytes {
    let mut x = 0x9e37_79b9_7f4a_7c15_u64;
    let mut builder = BatchBuilder::new(codec);
    for n in 0..bytes / record {
        let value: Vec<u8> = (0..record)
            .map(|at| {
                x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                if at / 16 % 2 == 0 { (x >> 56) as u8 } else { b'x' }
            })
            .collect();
        builder.push(NOW + n as i64 % 100, None, Some(&value));
    }
    builder.build().unwrap()
}

/// How far each part of a validation has come, and how far it may go in one step.
fn progress(validation: &Validation) -> [(usize, usize); 4] {
    let decompressed = match &validation.raw {
        Raw::Decompressed(decompression) => decompression.output.filled(),
        _ => 0,
    };
    let (summed, compressed, slice) = match &validation.stage {
        Stage::Check(sum) | Stage::Stamp(sum) => (sum.at, 0, 0),
        Stage::Compress(Some(compressor)) => (0, compressor.taken(), compressor.slice()),
        _ => (0, 0, 0),
    };
    let walked = validation.walk.index as usize;
    [(summed, SUM_BYTES), (decompressed, 2 * SLICE), (walked, WALK_RECORDS as usize), (compressed, slice)]
}

#[test]
fn no_step_does_more_than_a_slice() {
    let slowest = |codec| match codec {
        Codec::Gzip => 9,
        Codec::Lz4 => 17,
        Codec::Zstd => 22,
        Codec::None | Codec::Snappy => 0,
    };
    for source in Codec::ALL {
        let sent = large(source, 1 << 20, 50);
        let plain = ValidationContext { max_message_bytes: 4 << 20, ..ctx() };
        for target in Codec::ALL {
            let compression = CompressionTarget::Codec(Compression { codec: target, level: slowest(target) });
            let to = ValidationContext { compression, max_message_bytes: 4 << 20, ..ctx() };
            let mut validation = Validation::begin(&sent, &to).unwrap();
            let (mut before, mut steps) = (progress(&validation), 0);
            let validated = loop {
                let done = validation.step();
                steps += 1;
                let now = progress(&validation);
                for ((was, _), (is, most)) in before.into_iter().zip(now) {
                    assert!(is.saturating_sub(was) <= most, "{source:?} to {target:?}: from {was} to {is}");
                }
                before = now;
                if let Some(done) = done {
                    break done.unwrap();
                }
            };
            assert!(steps > 3 + usize::from(source != Codec::None) * 16, "{source:?} to {target:?}: {steps} steps");
            let records: Vec<_> = values(&place(validated, Offset(7), Term(1)));
            assert_eq!(records.len(), (1 << 20) / 50);
            assert_eq!(records, values(&place(validate(&sent, &plain).unwrap(), Offset(7), Term(1))));
        }
    }
}

#[test]
fn damaged_records_are_refused_by_every_codec() {
    for source in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        let sent = large(source, 100_000, 100);
        // The compression method; the length of the first block; the checksum of the header; the magic.
        let vital = [(Codec::Gzip, 2), (Codec::Snappy, 16), (Codec::Lz4, 6), (Codec::Zstd, 3)];
        let frame = vital.into_iter().find(|(codec, _)| *codec == source).map_or(0, |(_, at)| at);
        for at in [HEADER_BYTES, HEADER_BYTES + frame] {
            let mut bad = sent.to_vec();
            bad[at] ^= 0x55;
            seal(&mut bad);
            let code = validate(&bad.into(), &ctx()).map(|_| ()).map_err(|e| e.code);
            assert_eq!(code, Err(RecordErrorCode::InvalidRecord), "{source:?} at {at}");
        }
        for keep in [HEADER_BYTES, HEADER_BYTES + 3, sent.len() - 1] {
            let mut cut = sent[..keep].to_vec();
            seal(&mut cut);
            let error = validate(&cut.into(), &ctx()).expect_err("cut short");
            assert_eq!(error.code, RecordErrorCode::InvalidRecord, "{source:?}, {keep} bytes: {error}");
        }
        let mut flipped = sent.to_vec();
        flipped[sent.len() - 5] ^= 1;
        assert_eq!(validate(&flipped.into(), &ctx()).unwrap_err().code, RecordErrorCode::CorruptMessage);
    }
}

#[test]
fn bombs_are_too_large() {
    for codec in [Codec::Gzip, Codec::Lz4, Codec::Snappy, Codec::Zstd] {
        let mut builder = BatchBuilder::new(codec);
        builder.push(NOW, None, Some(&vec![0; 40 << 20]));
        let bomb = builder.build().unwrap();
        let ctx = ValidationContext { max_message_bytes: 4 << 20, ..ctx() };
        assert!(bomb.len() < ctx.max_message_bytes, "{} bytes", bomb.len());
        let error = validate(&bomb, &ctx).unwrap_err();
        assert_eq!(error.code, RecordErrorCode::MessageTooLarge, "{codec:?}: {error}");
    }
}
