//! Frames: request and response headers around the messages.
//!
//! On the wire a frame is four bytes of length, a header and a body. The length is the connection's business when
//! reading; [`response`] and [`request`] write it.

use bytes::Bytes;

use crate::messages::{RequestHeader, ResponseHeader};
use crate::{ApiKey, DecodeError, Decoder, EncodeError, Encoder, Message, Request, RequestKind, Struct};

/// Enough for the length, the header and a small response.
const SMALL_FRAME: usize = 256;

/// Reads the header at the start of `d` and leaves it before the body.
///
/// The version is not checked: an ApiVersions request of a later version must get an answer, and for it the header is
/// read as that of the newest version known.
pub fn decode_request_header(d: &mut Decoder) -> Result<(ApiKey, RequestHeader), DecodeError> {
    let mut ahead = Decoder::new(d.rest());
    let api = ApiKey::try_from(ahead.i16()?)?;
    let version = ahead.i16()?;
    let header = RequestHeader::read(d, api.request_header_version(version))?;
    Ok((api, header))
}

/// Reads the body of any request.
pub fn decode_any_request(api: ApiKey, version: i16, body: Bytes) -> Result<RequestKind, DecodeError> {
    RequestKind::decode(api, &mut Decoder::new(body), version)
}

/// An encoder that holds the frame's length and the response header; the body comes next, then `finish`.
pub fn response(api: ApiKey, version: i16, correlation_id: i32) -> Encoder {
    let mut e = Encoder::framed(SMALL_FRAME);
    e.i32(correlation_id);
    if api.response_header_version(version) >= 1 {
        // No tagged fields.
        e.varint(0);
    }
    e
}

/// A whole response: length, header, body.
pub fn encode_response<M: Message>(
    api: ApiKey,
    version: i16,
    correlation_id: i32,
    body: &M,
) -> Result<Vec<Bytes>, EncodeError> {
    let mut e = response(api, version, correlation_id);
    body.encode(&mut e, version)?;
    Ok(e.finish())
}

/// A whole request: length, header, body.
pub fn request<R: Request>(
    version: i16,
    correlation_id: i32,
    client_id: Option<crate::Str>,
    body: &R,
) -> Result<Vec<Bytes>, EncodeError> {
    let mut e = Encoder::framed(SMALL_FRAME);
    let header = RequestHeader {
        request_api_key: R::API_KEY.key(),
        request_api_version: version,
        correlation_id,
        client_id,
        ..RequestHeader::default()
    };
    header.encode(&mut e, R::header_version(version))?;
    body.encode(&mut e, version)?;
    Ok(e.finish())
}

/// Reads a response's header and leaves `d` before the body; for clients.
pub fn decode_response_header(d: &mut Decoder, api: ApiKey, version: i16) -> Result<ResponseHeader, DecodeError> {
    ResponseHeader::decode(d, api.response_header_version(version))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::{ApiVersionsResponse, HeartbeatRequest, HeartbeatResponse};

    #[test]
    fn a_request_comes_back() {
        let body = HeartbeatRequest { group_id: "g".into(), generation_id: 3, ..Default::default() };
        for version in 0..=4 {
            let slices = request(version, 77, Some("client".into()), &body).unwrap();
            let frame = Bytes::from(slices.concat());
            assert_eq!(frame.first_chunk::<4>(), Some(&(frame.len() as u32 - 4).to_be_bytes()));
            let mut d = Decoder::new(frame.slice(4..));
            let (api, header) = decode_request_header(&mut d).unwrap();
            assert_eq!((api, header.request_api_version, header.correlation_id), (ApiKey::Heartbeat, version, 77));
            assert_eq!(header.client_id, Some("client".into()));
            assert_eq!(decode_any_request(api, version, d.rest()), Ok(body.clone().into()));
        }
    }

    #[test]
    fn an_unknown_version_has_the_newest_header() {
        let mut e = Encoder::new();
        RequestHeader { request_api_key: 18, request_api_version: 99, correlation_id: 5, ..Default::default() }
            .encode(&mut e, 2)
            .unwrap();
        e.i32(12345);
        let mut d = Decoder::new(e.into_bytes());
        let (api, header) = decode_request_header(&mut d).unwrap();
        assert_eq!((api, header.request_api_version, header.correlation_id), (ApiKey::ApiVersions, 99, 5));
        assert_eq!(d.remaining(), 4);
    }

    #[test]
    fn unknown_apis_and_short_headers_are_refused() {
        let mut d = Decoder::new(Bytes::from_static(&[0x7f, 0xff, 0, 0, 0, 0, 0, 1]));
        assert_eq!(decode_request_header(&mut d), Err(DecodeError::UnknownApiKey(0x7fff)));
        let mut d = Decoder::new(Bytes::from_static(&[0, 18, 0, 0, 0]));
        assert!(decode_request_header(&mut d).is_err());
        // LeaderAndIsr: Kafka 4 has no version of it.
        let mut d = Decoder::new(Bytes::from_static(&[0, 4, 0, 0, 0, 0, 0, 1, 0, 0]));
        assert_eq!(decode_request_header(&mut d), Err(DecodeError::UnknownApiKey(4)));
    }

    #[test]
    fn responses_have_the_right_header() {
        let flexible = encode_response(ApiKey::Heartbeat, 4, 9, &HeartbeatResponse::default()).unwrap().concat();
        assert_eq!(flexible, [0, 0, 0, 12, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0]);
        let plain = encode_response(ApiKey::Heartbeat, 1, 9, &HeartbeatResponse::default()).unwrap().concat();
        assert_eq!(plain, [0, 0, 0, 10, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0]);
        let versions = encode_response(ApiKey::ApiVersions, 4, 9, &ApiVersionsResponse::default()).unwrap().concat();
        // No tagged fields in the header: the error code follows at once.
        assert_eq!(versions.get(4..10), Some([0, 0, 0, 9, 0, 0].as_slice()));
        let mut d = Decoder::new(Bytes::from(versions).slice(4..));
        assert_eq!(decode_response_header(&mut d, ApiKey::ApiVersions, 4).unwrap().correlation_id, 9);
        assert_eq!(ApiVersionsResponse::decode(&mut d, 4), Ok(ApiVersionsResponse::default()));
    }

    #[test]
    fn versions_served() {
        assert_eq!(ApiKey::Produce.valid_versions(), 3..=13);
        assert_eq!(ApiKey::Produce.advertised_versions(), 0..=13);
        // Version 6 of the schema is not finished.
        assert_eq!(ApiKey::InitProducerId.valid_versions(), 0..=5);
        assert_eq!(ApiKey::OffsetDelete.flexible_from(), None);
    }
}
