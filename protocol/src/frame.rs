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
