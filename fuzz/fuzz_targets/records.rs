//! Records as they are stored: coordinators' keys and values, the metadata frame.
#![no_main]

use bytes::Bytes;
use corelane_protocol::records::{group, metadata, remote_log, share, transaction};
use libfuzzer_sys::fuzz_target;

/// Reads a key or a value, and holds it to a round trip.
macro_rules! coordinator {
    ($key:ty, $value:ty, $record_type:expr, $bytes:expr) => {{
        if let Ok(key) = <$key>::decode($bytes.clone()) {
            let again = <$key>::decode(key.encode().expect("a key can be written")).expect("and be read");
            assert_eq!(again, key);
        }
        if let Ok((value, version)) = <$value>::decode($record_type, $bytes) {
            let written = value.encode(version).expect("a value can be written");
            let again = <$value>::decode($record_type, written).expect("and be read");
            assert_eq!(format!("{again:?}"), format!("{:?}", (value, version)));
        }
    }};
}

macro_rules! framed {
    ($record:ty, $bytes:expr) => {{
        if let Ok((record, version)) = <$record>::decode($bytes) {
            let written = record.encode(version).expect("a record can be written");
            let again = <$record>::decode(written).expect("and be read");
            assert_eq!(format!("{again:?}"), format!("{:?}", (record, version)));
        }
    }};
}

fuzz_target!(|input: &[u8]| {
    let Some(([kind, record_type], bytes)) = input.split_first_chunk::<2>() else { return };
    let (record_type, bytes) = (i16::from(*record_type % 32), Bytes::copy_from_slice(bytes));
    match kind % 5 {
        0 => coordinator!(group::GroupRecordKey, group::GroupRecordValue, record_type, bytes),
        1 => coordinator!(transaction::TransactionRecordKey, transaction::TransactionRecordValue, record_type, bytes),
        2 => coordinator!(share::ShareRecordKey, share::ShareRecordValue, record_type, bytes),
        3 => framed!(metadata::MetadataRecord, bytes),
        _ => framed!(remote_log::RemoteLogRecord, bytes),
    }
});
