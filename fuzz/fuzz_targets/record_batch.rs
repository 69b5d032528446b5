//! A record batch from a client: header, validation under different topic settings, decompression, records, internal kinds.
//!
//! The first byte chooses the settings. Magic, length and CRC are put right unless its top bit is set, for hardly any input
//! would pass them by chance.
#![no_main]

use bytes::Bytes;
use corelane_storage::model::{Offset, Term, TimestampType};
use corelane_storage::record::{
    BatchHeader, Batches, Codec, CompressionTarget, HEADER_BYTES, RecordIter, ValidationContext, classify, internal,
    patch_base_offset_and_epoch, validate,
};
use libfuzzer_sys::fuzz_target;

const LIMIT: usize = 1 << 20;

/// Length, magic and CRC as they must be.
fn repair(batch: &mut [u8]) {
    let length = (batch.len() - 12) as u32;
    batch[8..12].copy_from_slice(&length.to_be_bytes());
    batch[16] = 2;
    let sum = crc32c::crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&sum.to_be_bytes());
}

fn settings(choice: u8) -> ValidationContext {
    let compression = match choice & 7 {
        0 => CompressionTarget::Codec(Codec::None.into()),
        1 => CompressionTarget::Codec(Codec::Gzip.into()),
        2 => CompressionTarget::Codec(Codec::Snappy.into()),
        3 => CompressionTarget::Codec(Codec::Lz4.into()),
        4 => CompressionTarget::Codec(Codec::Zstd.into()),
        _ => CompressionTarget::Producer,
    };
    ValidationContext {
        compression,
        compacted: choice & 8 != 0,
        timestamp_type: if choice & 16 != 0 { TimestampType::LogAppendTime } else { TimestampType::CreateTime },
        max_decompressed_bytes: LIMIT,
        ..ValidationContext::default()
    }
}

fuzz_target!(|input: &[u8]| {
    let Some((&choice, bytes)) = input.split_first() else { return };
    let mut bytes = bytes.to_vec();
    if choice & 0x80 == 0 && bytes.len() >= HEADER_BYTES {
        repair(&mut bytes);
    }
    let bytes = Bytes::from(bytes);

    if let Ok((header, batch)) = BatchHeader::split(&bytes) {
        let _ = (header.last_offset(), header.next_offset(), header.last_sequence(), header.delete_horizon());
        let _ = (classify(&header, batch), internal::membership_payload(batch), internal::parse_segment_header(batch));
    }
    for batch in Batches::new(bytes.clone()).flatten() {
        let _ = batch;
    }
    if let Ok(records) = RecordIter::new(&bytes, LIMIT) {
        for record in records.flatten() {
            let _ = record.headers.iter().count();
        }
    }
    if let Ok(valid) = validate(&bytes, &settings(choice)) {
        let count = valid.header.count;
        let mut placed = valid.into_batch().to_vec();
        patch_base_offset_and_epoch(&mut placed, Offset(42), Term(7));
        let placed = Bytes::from(placed);
        let header = BatchHeader::parse(&placed).expect("a valid batch has a header");
        header.verify_crc(&placed).expect("and its CRC");
        assert_eq!(header.base_offset, Offset(42));
        let records = RecordIter::new(&placed, LIMIT).expect("a valid batch can be read");
        assert_eq!(records.map(|record| record.expect("and each of its records")).count(), count as usize);
    }
});
