//! Batches that Apache Kafka's Java client wrote (tests/java-records), and segments of ours for it to read.
//! scripts/test-records runs both halves; alone, this test reads the golden files and checks its own writing.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use corelane_storage::model::{
    LogId, Offset, PartitionKey, ProducerEpoch, ProducerId, RaftIndex, Sequence, Term, TimestampType, TopicId,
};
use corelane_storage::record::internal::{SEGMENT_FORMAT, SegmentHeader, blank, membership, segment_header};
use corelane_storage::record::{
    BatchBuilder, BatchHeader, BatchKind, Batches, Codec, CompressionTarget, RecordIter, TransactionMarker,
    ValidationContext, classify, patch_base_offset_and_epoch, validate,
};

const TIME: i64 = 1_700_000_000_000;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/java-records/golden").join(name)
}

/// Length and CRC-32C; "null" for null.
fn bytes(bytes: Option<&[u8]>) -> String {
    bytes.map_or("null".into(), |b| format!("{}:{:08x}", b.len(), crc32c::crc32c(b)))
}

/// The same lines as tests/java-records/Listing.java.
fn listing(file: &Bytes) -> String {
    let mut out = String::new();
    for batch in Batches::new(file.clone()) {
        let (h, batch) = batch.unwrap();
        h.verify_crc(&batch).unwrap();
        writeln!(
            out,
            "batch {}-{} count {} codec {} {} {} producer {} {} {} txn {} control {} leader {}",
            h.base_offset,
            h.last_offset(),
            h.count,
            h.compression().unwrap().name(),
            h.timestamp_type().name(),
            h.max_timestamp,
            h.producer_id,
            h.producer_epoch,
            h.base_sequence,
            h.is_transactional(),
            h.is_control(),
            h.leader_epoch
        )
        .unwrap();
        for record in RecordIter::new(&batch, 1 << 20).unwrap() {
            let r = record.unwrap();
            let (key, value) = (bytes(r.key.as_deref()), bytes(r.value.as_deref()));
            write!(
                out,
                "record {} at {} sequence {} key {key} value {value} headers",
                r.offset, r.timestamp, r.sequence
            )
            .unwrap();
            for (key, value) in r.headers.iter() {
                write!(out, " {}={}", bytes(Some(&key)), bytes(value.as_deref())).unwrap();
            }
            out.push('\n');
        }
    }
    out
}

#[test]
fn golden_batches_read_as_in_java() {
    let mut seen = 0;
    for entry in std::fs::read_dir(golden("")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "bin") {
            let file = Bytes::from(std::fs::read(&path).unwrap());
            let expected = std::fs::read_to_string(path.with_extension("txt")).unwrap();
            assert_eq!(listing(&file), expected, "{}", path.display());
            seen += 1;
        }
    }
    assert_eq!(seen, 17);
}

#[test]
fn golden_batches_pass_validation_in_every_codec() {
    for from in Codec::ALL {
        let sent = Bytes::from(std::fs::read(golden(&format!("{}.bin", from.name()))).unwrap());
        for to in Codec::ALL {
            let ctx = ValidationContext {
                now_ms: TIME,
                compression: CompressionTarget::Codec(to.into()),
                ..Default::default()
            };
            let mut placed = validate(&sent, &ctx).unwrap().into_batch().to_vec();
            patch_base_offset_and_epoch(&mut placed, Offset(0), Term(0));
            let expected = listing(&sent).replace("leader -1", "leader 0");
            let expected = expected.replace(&format!("codec {}", from.name()), &format!("codec {}", to.name()));
            assert_eq!(listing(&placed.into()), expected);
        }
        assert_eq!(validate(&sent, &ValidationContext::default()).map_err(|e| e.code.kafka_code()).unwrap_err(), 32);
    }
}

#[test]
fn kafkas_control_and_empty_batches_are_told_apart() {
    let kind = |name: &str| {
        let file = std::fs::read(golden(name)).unwrap();
        classify(&BatchHeader::parse(&file).unwrap(), &file)
    };
    assert_eq!(kind("marker.bin"), BatchKind::Control);
    assert_eq!(kind("emptied-by-compaction.bin"), BatchKind::Data);
    assert_eq!(kind("lz4.bin"), BatchKind::Data);
}

/// A segment as the log writes it: its header, a leader's blank entry, a membership, and records between them.
fn segment(codec: Codec) -> Vec<u8> {
    let (term, base) = (Term(7), Offset(0));
    let mut file = segment_header(&SegmentHeader {
        format: SEGMENT_FORMAT,
        key: PartitionKey { topic: TopicId(*b"0123456789abcdef"), partition: 3 },
        base_offset: base,
        base_index: RaftIndex(50),
        previous: Some(LogId::new(Term(6), RaftIndex(49))),
        term,
        created_ms: TIME,
    })
    .to_vec();
    file.extend_from_slice(&blank(term, base));
    let mut at = base;
    for round in 0..3 {
        let mut batch =
            BatchBuilder::new(codec).producer(ProducerId(5), ProducerEpoch(1), Sequence(i32::MAX - 4 + round));
        if round == 1 {
            batch = batch.transactional().timestamps(TimestampType::LogAppendTime);
        }
        batch.push(TIME, Some(b"key"), Some(b"value"));
        batch.push(TIME - 1000, None, Some(&vec![round as u8; 100_000]));
        batch.push_with_headers(TIME + 9, Some("\u{e9}".as_bytes()), None, &[("trace", Some(b"\xff")), ("null", None)]);
        let count = batch.len() as i64;
        file.extend_from_slice(&batch.build_at(at, term).unwrap());
        at += count;
        file.extend_from_slice(&membership(term, at, b"voters"));
    }
    let mut marker = BatchBuilder::new(Codec::None).producer(ProducerId(5), ProducerEpoch(1), Sequence::NONE);
    marker.push_marker(TIME, TransactionMarker::Commit, 4);
    file.extend_from_slice(&marker.build_at(at, term).unwrap());
    file.extend_from_slice(&blank(Term(8), at.next()));
    file
}

#[test]
fn segments_read_back_and_are_left_for_kafka() {
    for codec in Codec::ALL {
        let file = Bytes::from(segment(codec));
        let kinds: Vec<BatchKind> =
            Batches::new(file.clone()).map(|b| b.unwrap()).map(|(h, b)| classify(&h, &b)).collect();
        use BatchKind::{Control, Data, InternalBlank as Blank, InternalMembership as Voters};
        let expected = [BatchKind::SegmentHeader, Blank, Data, Voters, Data, Voters, Data, Voters, Control, Blank];
        assert_eq!(kinds, expected);
        let listing = listing(&file);
        assert_eq!(listing.matches("record ").count(), 10);
        if let Some(folder) = std::env::var_os("CORELANE_WRITE_BATCHES") {
            let folder = Path::new(&folder).join(codec.name());
            std::fs::create_dir(&folder).unwrap();
            std::fs::write(folder.join(format!("{:020}.log", 0)), &file).unwrap();
            std::fs::write(folder.join(format!("{:020}.txt", 0)), &listing).unwrap();
        }
    }
}
