//! Bytes from an enemy: no decoder panics, none takes more memory than its input allows.

use bytes::Bytes;
use corelane_protocol::{Random, SCHEMAS, Schema, frame};
use proptest::prelude::*;

/// The decoder's promise, and some room for the frame's own reference count.
fn check(schema: &Schema, version: i16, bytes: Bytes) {
    let allowed = 32 * bytes.len() + (64 << 10) + 256;
    // Its most at a time, of this thread.
    let used = allocation_counter::measure(|| {
        let _ = (schema.decode)(bytes.clone(), version);
    });
    let used = used.bytes_max as usize;
    assert!(used <= allowed, "{} version {version}: {used} bytes for {} of input", schema.name, bytes.len());
}

#[test]
fn what_is_held_is_counted() {
    let used = allocation_counter::measure(|| {
        drop(std::hint::black_box(vec![0u8; 1000]));
        drop(std::hint::black_box(vec![0u8; 3000]));
    });
    assert_eq!(used.bytes_max, 3000);
}

fn each_version() -> impl Iterator<Item = (&'static Schema, i16)> {
    SCHEMAS.iter().flat_map(|schema| (schema.min_version..=schema.max_version).map(move |version| (schema, version)))
}

#[test]
fn cut_short() {
    for (schema, version) in each_version() {
        let mut r = Random::new(version as u64);
        let (bytes, _) = (schema.random)(&mut r, version);
        for _ in 0..30 {
            let end = r.below(bytes.len() as u64 + 1) as usize;
            check(schema, version, bytes.slice(..end));
        }
    }
}

#[test]
fn with_some_bytes_changed() {
    for (schema, version) in each_version() {
        let mut r = Random::new(!version as u64);
        for _ in 0..20 {
            let mut bytes = (schema.random)(&mut r, version).0.to_vec();
            for _ in 0..=r.below(4) {
                let at = r.below(bytes.len() as u64) as usize;
                let value = [0, 1, 0x7f, 0x80, 0xff, r.u64() as u8][r.below(6) as usize];
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = value;
                }
            }
            check(schema, version, bytes.into());
        }
    }
}

#[test]
fn announcing_too_much() {
    // Lengths and counts as large as they get, in front of a lot of zeros.
    for (schema, version) in each_version() {
        for start in [
            [0x7f, 0xff, 0xff, 0xff, 0xff],
            [0xff, 0xff, 0xff, 0xff, 0x07],
            // Counts that the zeros which follow could be elements for.
            [0x00, 0x00, 0x3f, 0xff, 0x00],
            [0x80, 0x80, 0x01, 0x00, 0x00],
        ] {
            let mut bytes = vec![0; 100_000];
            for at in 0..64 {
                bytes[at..at + 5].copy_from_slice(&start);
                check(schema, version, Bytes::copy_from_slice(&bytes));
                bytes[at] = 0;
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn anything(at in any::<prop::sample::Index>(), version in any::<prop::sample::Index>(),
                bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let schema = at.get(SCHEMAS);
        let versions = (schema.max_version - schema.min_version + 1) as usize;
        check(schema, schema.min_version + version.index(versions) as i16, bytes.into());
    }

    #[test]
    fn any_frame(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut d = corelane_protocol::Decoder::new(bytes);
        if let Ok((api, header)) = frame::decode_request_header(&mut d) {
            let _ = frame::decode_any_request(api, header.request_api_version, d.rest());
        }
    }
}
