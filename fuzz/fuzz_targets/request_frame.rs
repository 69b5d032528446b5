//! A frame as a connection gets it: header, then the body of whatever API and version the header names.
#![no_main]

use bytes::Bytes;
use corelane_protocol::{Decoder, Encoder, RequestKind, frame};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|frame: &[u8]| {
    let mut d = Decoder::new(Bytes::copy_from_slice(frame));
    let Ok((api, header)) = frame::decode_request_header(&mut d) else { return };
    let version = header.request_api_version;
    let Ok(request) = frame::decode_any_request(api, version, d.rest()) else { return };
    let mut e = Encoder::new();
    request.encode(&mut e, version).expect("what was read can be written");
    let mut d = Decoder::new(e.into_bytes());
    let again = RequestKind::decode(api, &mut d, version).expect("what was written can be read");
    d.finish().expect("nothing is left over");
    assert_eq!(format!("{again:?}"), format!("{request:?}"));
});
