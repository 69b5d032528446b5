//! One record as it stands among the (decompressed) records of a batch; parsed without allocating.
//!
//! ```text
//! varint length of what follows | i8 attributes | varlong timestamp delta | varint offset delta
//! | varint key length (-1: null), key | varint value length (-1: null), value
//! | varint header count, each: varint key length, key | varint value length (-1: null), value
//! ```

use bytes::BufMut;

use super::varint::{put_i32, put_i64, read_i32, read_i64, size_i32, size_i64};

/// What is wrong with a record's bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub &'static str);

/// A record in place. `None` keys and values are null.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RecordBody<'a> {
    pub attributes: i8,
    pub timestamp_delta: i64,
    pub offset_delta: i32,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    pub header_count: u32,
    /// The headers' bytes, checked.
    pub headers: &'a [u8],
}

impl<'a> RecordBody<'a> {
    /// Takes a record off the front of `records`.
    #[inline]
    pub fn read(records: &mut &'a [u8]) -> Result<RecordBody<'a>, Malformed> {
        let length = read_i32(records).ok_or(Malformed("record length cut short"))?;
        let length = usize::try_from(length).map_err(|_| Malformed("negative record length"))?;
        let (mut body, rest) = records.split_at_checked(length).ok_or(Malformed("record cut short"))?;
        *records = rest;
        let fields = Malformed("record shorter than its fields");
        let (&attributes, tail) = body.split_first().ok_or(fields)?;
        body = tail;
        let timestamp_delta = read_i64(&mut body).ok_or(fields)?;
        let offset_delta = read_i32(&mut body).ok_or(fields)?;
        let key = read_nullable(&mut body).ok_or(fields)?;
        let value = read_nullable(&mut body).ok_or(fields)?;
        let header_count = read_i32(&mut body).ok_or(fields)?;
        let header_count = u32::try_from(header_count).map_err(|_| Malformed("negative header count"))?;
        if header_count != 0 {
            skip_headers(body, header_count)?;
        } else if !body.is_empty() {
            return Err(Malformed("record longer than its fields"));
        }
        Ok(RecordBody {
            attributes: attributes as i8,
            timestamp_delta,
            offset_delta,
            key,
            value,
            header_count,
            headers: body,
        })
    }

    /// Bytes that `write` adds.
    pub fn size(&self) -> usize {
        let body = self.size_of_body();
        size_i32(body as i32) + body
    }

    fn size_of_body(&self) -> usize {
        1 + size_i64(self.timestamp_delta)
            + size_i32(self.offset_delta)
            + size_nullable(self.key)
            + size_nullable(self.value)
            + size_i32(self.header_count as i32)
            + self.headers.len()
    }

    pub fn write(&self, out: &mut impl BufMut) {
        put_i32(out, self.size_of_body() as i32);
        out.put_i8(self.attributes);
        put_i64(out, self.timestamp_delta);
        put_i32(out, self.offset_delta);
        put_nullable(out, self.key);
        put_nullable(out, self.value);
        put_i32(out, self.header_count as i32);
        out.put_slice(self.headers);
    }
}

/// Checks that `bytes` are `count` headers and nothing else.
fn skip_headers(mut bytes: &[u8], count: u32) -> Result<(), Malformed> {
    // Each takes two bytes or more, so a huge count ends with the bytes.
    for _ in 0..count {
        read_header(&mut bytes)?;
    }
    if bytes.is_empty() { Ok(()) } else { Err(Malformed("record longer than its fields")) }
}

/// Takes a header's key and value off the front.
pub(crate) fn read_header<'a>(bytes: &mut &'a [u8]) -> Result<(&'a [u8], Option<&'a [u8]>), Malformed> {
    let short = Malformed("header cut short");
    let key = read_nullable(bytes).ok_or(short)?.ok_or(Malformed("header without a key"))?;
    let value = read_nullable(bytes).ok_or(short)?;
    Ok((key, value))
}

pub(crate) fn write_header(out: &mut impl BufMut, key: &[u8], value: Option<&[u8]>) {
    put_nullable(out, Some(key));
    put_nullable(out, value);
}

#[inline]
fn read_nullable<'a>(bytes: &mut &'a [u8]) -> Option<Option<&'a [u8]>> {
    let length = read_i32(bytes)?;
    let Ok(length) = usize::try_from(length) else { return Some(None) };
    let (field, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(Some(field))
}

fn put_nullable(out: &mut impl BufMut, field: Option<&[u8]>) {
    match field {
        Some(field) => {
            put_i32(out, field.len() as i32);
            out.put_slice(field);
        }
        None => put_i32(out, -1),
    }
}

fn size_nullable(field: Option<&[u8]>) -> usize {
    field.map_or(1, |f| size_i32(f.len() as i32) + f.len())
}
