//! Three bytes choose one of all messages and a version of it; the rest is its body. Requests, responses, headers, records.
#![no_main]

use bytes::Bytes;
use corelane_protocol::SCHEMAS;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some(([a, b, c], body)) = input.split_first_chunk::<3>() else { return };
    let Some(schema) = SCHEMAS.get(usize::from(u16::from_be_bytes([*a, *b])) % SCHEMAS.len()) else { return };
    let versions = schema.max_version - schema.min_version + 1;
    let version = schema.min_version + i16::from(*c) % versions;
    // Panics if what was read cannot be written.
    if let Ok((written, dump)) = (schema.read)(Bytes::copy_from_slice(body), version) {
        let again = (schema.read)(written.clone(), version).expect("what was written can be read");
        assert_eq!(again, (written, dump));
    }
});
