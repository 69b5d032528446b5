//! [`Encoder`]: writes Kafka's types into a list of slices.

use bytes::{BufMut, Bytes, BytesMut};

use crate::message::{Element, Struct};
use crate::tagged::TaggedFields;
use crate::{EncodeError, Records, Str, Uuid};

/// Bytes and records from this length on are passed on as slices of their own; shorter ones are copied, which is
/// cheaper than one more element in a vectored send.
pub const SLICE_THRESHOLD: usize = 1024;

type Result<T> = std::result::Result<T, EncodeError>;

/// Collects a message. Small fields go into one buffer, in order; big `Bytes` are kept beside it with the place where
/// they belong, so a Fetch response comes out as a list of slices and no record byte is copied.
#[derive(Debug, Default)]
pub struct Encoder {
    small: BytesMut,
    /// Big slices with the position in `small` that they come in front of, ascending.
    big: Vec<(usize, Bytes)>,
    big_bytes: usize,
    /// Whether the first four bytes are a place for the frame's length.
    framed: bool,
}

/// A tagged field whose size is not known yet; see [`Encoder::begin_tagged`].
#[derive(Debug)]
pub struct TaggedMark {
    at: usize,
    big_count: usize,
    big_bytes: usize,
}

impl Encoder {
    pub fn new() -> Encoder {
        Encoder::default()
    }

    pub fn with_capacity(bytes: usize) -> Encoder {
        Encoder { small: BytesMut::with_capacity(bytes), ..Encoder::default() }
    }

    /// An encoder whose output starts with the four-byte length of all that follows.
    pub fn framed(capacity: usize) -> Encoder {
        let mut e = Encoder::with_capacity(capacity.saturating_add(4));
        e.small.put_u32(0);
        e.framed = true;
        e
    }

    /// Bytes written so far, the frame's length prefix among them.
    pub fn len(&self) -> usize {
        self.small.len() + self.big_bytes
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The output in order, none of the slices empty.
    ///
    /// Panics if a framed message is longer than 2 GiB, which no peer could read.
    pub fn finish(mut self) -> Vec<Bytes> {
        self.close_frame();
        let small = self.small.freeze();
        let mut slices = Vec::with_capacity(2 * self.big.len() + 1);
        let mut done = 0;
        for (position, bytes) in self.big {
            if position > done {
                slices.push(small.slice(done..position));
                done = position;
            }
            slices.push(bytes);
        }
        if done < small.len() {
            slices.push(small.slice(done..));
        }
        slices
    }

    /// The output as one slice: copies it if there is more than one.
    pub fn into_bytes(self) -> Bytes {
        let length = self.len();
        let mut slices = self.finish();
        if slices.len() <= 1 {
            return slices.pop().unwrap_or_default();
        }
        let mut whole = BytesMut::with_capacity(length);
        for slice in slices {
            whole.put(slice);
        }
        whole.freeze()
    }

    fn close_frame(&mut self) {
        if !self.framed {
            return;
        }
        let length = i32::try_from(self.len() - 4).expect("a message is shorter than 2 GiB");
        if let Some(prefix) = self.small.first_chunk_mut::<4>() {
            *prefix = length.to_be_bytes();
        }
    }

    pub fn bool(&mut self, value: bool) {
        self.small.put_u8(u8::from(value));
    }

    pub fn i8(&mut self, value: i8) {
        self.small.put_i8(value);
    }

    pub fn i16(&mut self, value: i16) {
        self.small.put_i16(value);
    }

    pub fn u16(&mut self, value: u16) {
        self.small.put_u16(value);
    }

    pub fn i32(&mut self, value: i32) {
        self.small.put_i32(value);
    }

    pub fn u32(&mut self, value: u32) {
        self.small.put_u32(value);
    }

    pub fn i64(&mut self, value: i64) {
        self.small.put_i64(value);
    }

    pub fn f64(&mut self, value: f64) {
        self.small.put_f64(value);
    }

    pub fn uuid(&mut self, value: Uuid) {
        self.small.put_slice(&value.0);
    }

    pub fn varint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.small.put_u8(value as u8 | 0x80);
            value >>= 7;
        }
        self.small.put_u8(value as u8);
    }

    /// Bytes as they are, with no length.
    pub fn raw(&mut self, bytes: &Bytes) {
        if bytes.len() < SLICE_THRESHOLD {
            self.small.put_slice(bytes);
        } else {
            self.big_bytes += bytes.len();
            self.big.push((self.small.len(), bytes.clone()));
        }
    }

    /// Length prefix of bytes, records and arrays; `None` for null.
    fn length(&mut self, length: Option<usize>, flexible: bool) -> Result<()> {
        let Some(length) = length else {
            if flexible {
                self.varint(0)
            } else {
                self.i32(-1)
            }
            return Ok(());
        };
        let checked = i32::try_from(length).map_err(|_| EncodeError::TooLong { length })?;
        if flexible {
            self.varint(checked as u32 + 1)
        } else {
            self.i32(checked)
        }
        Ok(())
    }

    pub fn string(&mut self, value: &Str, flexible: bool) -> Result<()> {
        let length = value.len();
        let checked = i16::try_from(length).map_err(|_| EncodeError::TooLong { length })?;
        if flexible {
            self.varint(checked as u32 + 1)
        } else {
            self.i16(checked)
        }
        self.small.put_slice(value.as_bytes());
        Ok(())
    }

    pub fn opt_string(
        &mut self,
        value: &Option<Str>,
        flexible: bool,
        nullable: bool,
        field: &'static str,
    ) -> Result<()> {
        let Some(value) = value else {
            check_null(nullable, field)?;
            if flexible {
                self.varint(0)
            } else {
                self.i16(-1)
            }
            return Ok(());
        };
        self.string(value, flexible)
    }

    pub fn bytes(&mut self, value: &Bytes, flexible: bool) -> Result<()> {
        self.length(Some(value.len()), flexible)?;
        self.raw(value);
        Ok(())
    }

    pub fn opt_records(
        &mut self,
        value: &Option<Records>,
        flexible: bool,
        nullable: bool,
        field: &'static str,
    ) -> Result<()> {
        let Some(value) = value else {
            check_null(nullable, field)?;
            return self.length(None, flexible);
        };
        self.length(Some(value.len()), flexible)?;
        value.slices().iter().for_each(|slice| self.raw(slice));
        Ok(())
    }

    pub fn opt_bytes(
        &mut self,
        value: &Option<Bytes>,
        flexible: bool,
        nullable: bool,
        field: &'static str,
    ) -> Result<()> {
        let Some(value) = value else {
            check_null(nullable, field)?;
            return self.length(None, flexible);
        };
        self.bytes(value, flexible)
    }

    pub fn array<T: Element>(&mut self, values: &[T], flexible: bool) -> Result<()> {
        self.length(Some(values.len()), flexible)?;
        for value in values {
            value.write(self, flexible)?;
        }
        Ok(())
    }

    pub fn opt_array<T: Element>(
        &mut self,
        values: &Option<Vec<T>>,
        flexible: bool,
        nullable: bool,
        field: &'static str,
    ) -> Result<()> {
        let Some(values) = values else {
            check_null(nullable, field)?;
            return self.length(None, flexible);
        };
        self.array(values, flexible)
    }

    pub fn structs<T: Struct>(&mut self, values: &[T], flexible: bool, version: i16) -> Result<()> {
        self.length(Some(values.len()), flexible)?;
        for value in values {
            value.write(self, version)?;
        }
        Ok(())
    }

    pub fn opt_structs<T: Struct>(
        &mut self,
        values: &Option<Vec<T>>,
        flexible: bool,
        version: i16,
        nullable: bool,
        field: &'static str,
    ) -> Result<()> {
        let Some(values) = values else {
            check_null(nullable, field)?;
            return self.length(None, flexible);
        };
        self.structs(values, flexible, version)
    }

    /// A struct behind a one-byte mark, -1 for null, where this version allows null; bare where it does not.
    pub fn opt_struct<T: Struct>(
        &mut self,
        value: &Option<T>,
        version: i16,
        nullable: bool,
        field: &'static str,
    ) -> Result<()> {
        let Some(value) = value else {
            check_null(nullable, field)?;
            self.i8(-1);
            return Ok(());
        };
        if nullable {
            self.i8(1);
        }
        value.write(self, version)
    }

    /// A nullable struct as a tagged field, whose mark is a varint: 0 for null.
    pub fn opt_tagged_struct<T: Struct>(&mut self, value: &Option<T>, version: i16) -> Result<()> {
        let Some(value) = value else {
            self.varint(0);
            return Ok(());
        };
        self.varint(1);
        value.write(self, version)
    }

    /// Starts a tagged field; all that is written until [`Encoder::end_tagged`] is its value.
    pub fn begin_tagged(&mut self, tag: u32) -> TaggedMark {
        self.varint(tag);
        // Room for a size of one byte, which nearly all have.
        self.small.put_u8(0);
        TaggedMark { at: self.small.len(), big_count: self.big.len(), big_bytes: self.big_bytes }
    }

    pub fn end_tagged(&mut self, mark: TaggedMark) -> Result<()> {
        let copied = self.small.len() - mark.at;
        let size = copied + (self.big_bytes - mark.big_bytes);
        let mut rest = u32::try_from(size).map_err(|_| EncodeError::TooLong { length: size })?;
        let mut prefix = [0u8; 5];
        let mut used = 0;
        for byte in &mut prefix {
            used += 1;
            *byte = (rest & 0x7f) as u8;
            rest >>= 7;
            if rest == 0 {
                break;
            }
            *byte |= 0x80;
        }
        let longer = used - 1;
        if longer > 0 {
            self.small.put_bytes(0, longer);
            self.small.copy_within(mark.at..mark.at + copied, mark.at + longer);
            for (position, _) in self.big.iter_mut().skip(mark.big_count) {
                *position += longer;
            }
        }
        let place = self.small.iter_mut().skip(mark.at - 1);
        for (to, from) in place.zip(prefix.iter().take(used)) {
            *to = *from;
        }
        Ok(())
    }

    /// Writes the unknown fields with a tag below `below`, starting at `next`; gives where to go on.
    pub fn unknown_tagged(&mut self, fields: &TaggedFields, next: usize, below: Option<u32>) -> Result<usize> {
        let mut written = next;
        for field in fields.as_slice().iter().skip(next) {
            match below {
                Some(tag) if field.tag == tag => return Err(EncodeError::DuplicateTag { tag }),
                Some(tag) if field.tag > tag => break,
                _ => {}
            }
            self.varint(field.tag);
            let length = field.data.len();
            self.varint(u32::try_from(length).map_err(|_| EncodeError::TooLong { length })?);
            self.raw(&field.data);
            written += 1;
        }
        Ok(written)
    }
}

fn check_null(nullable: bool, field: &'static str) -> Result<()> {
    if nullable { Ok(()) } else { Err(EncodeError::UnexpectedNull { field }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::{FetchResponse, FetchResponseFetchableTopicResponse, FetchResponsePartitionData};
    use crate::{Decoder, Message};

    fn fetch_response(records: Vec<Bytes>) -> FetchResponse {
        let partition = |(index, records): (usize, Bytes)| FetchResponsePartitionData {
            partition_index: index as i32,
            records: Some(records.into()),
            ..FetchResponsePartitionData::default()
        };
        let partitions = records.into_iter().enumerate().map(partition).collect();
        let topic = FetchResponseFetchableTopicResponse { partitions, ..Default::default() };
        FetchResponse { responses: vec![topic], ..FetchResponse::default() }
    }

    #[test]
    fn records_are_passed_on_not_copied() {
        let batches: Vec<Bytes> = (1..=3u8).map(|fill| Bytes::from(vec![fill; SLICE_THRESHOLD])).collect();
        let mut e = Encoder::framed(64);
        fetch_response(batches.clone()).encode(&mut e, 12).unwrap();
        let length = e.len();
        let slices = e.finish();
        assert_eq!(slices.iter().map(Bytes::len).sum::<usize>(), length);
        for batch in &batches {
            assert_eq!(slices.iter().filter(|slice| slice.as_ptr() == batch.as_ptr()).count(), 1);
        }
        // Frame start, then small bytes between the batches and after the last.
        assert_eq!(slices.len(), 7);
        assert_eq!(slices.first().unwrap().first_chunk::<4>(), Some(&(length as u32 - 4).to_be_bytes()));
    }

    #[test]
    fn short_records_are_copied() {
        let mut e = Encoder::new();
        fetch_response(vec![Bytes::from(vec![7; SLICE_THRESHOLD - 1])]).encode(&mut e, 12).unwrap();
        assert_eq!(e.finish().len(), 1);
    }

    #[test]
    fn slices_and_whole_are_the_same() {
        let response = fetch_response(vec![Bytes::from(vec![1; 5000]), Bytes::from(vec![2; 10])]);
        for version in FetchResponse::MIN_VERSION..=FetchResponse::MAX_VERSION {
            let mut e = Encoder::new();
            response.encode(&mut e, version).unwrap();
            let slices = e.finish();
            let whole = response.to_bytes(version).unwrap();
            assert_eq!(slices.concat(), whole);
            assert_eq!(FetchResponse::decode(&mut Decoder::new(whole), version), Ok(response.clone()));
        }
    }

    #[test]
    fn sizes_of_tagged_fields_grow_as_needed() {
        for length in [0, 127, 128, 1023, 1024, 20_000] {
            let data = Bytes::from(vec![9; length]);
            let mut e = Encoder::new();
            e.i8(-1);
            let mark = e.begin_tagged(3);
            e.raw(&data);
            e.i8(7);
            e.raw(&data);
            e.end_tagged(mark).unwrap();
            e.i8(-2);
            let mut d = Decoder::new(e.into_bytes());
            assert_eq!(d.i8(), Ok(-1));
            let scope = d.enter_tagged().unwrap();
            assert_eq!(scope.tag(), 3);
            assert_eq!(d.remaining(), 2 * length + 1);
            assert_eq!(d.take(length), Ok(data.clone()));
            assert_eq!(d.i8(), Ok(7));
            assert_eq!(d.take(length), Ok(data));
            d.leave_tagged(scope).unwrap();
            assert_eq!((d.i8(), d.finish()), (Ok(-2), Ok(())));
        }
    }

    #[test]
    fn what_has_no_form_is_refused() {
        let mut e = Encoder::new();
        let long = Str::from("x".repeat(32_768));
        assert_eq!(e.string(&long, true), Err(EncodeError::TooLong { length: 32_768 }));
        assert_eq!(e.opt_string(&None, true, false, "name"), Err(EncodeError::UnexpectedNull { field: "name" }));
        let error = fetch_response(vec![]).to_bytes(3);
        assert_eq!(error, Err(EncodeError::UnsupportedVersion { message: "FetchResponse", version: 3 }));
        let mut tagged = fetch_response(vec![]);
        tagged.unknown_tagged_fields.insert(9, Bytes::new());
        assert_eq!(tagged.to_bytes(11), Err(EncodeError::TaggedFieldsUnsupported { version: 11 }));
        tagged.unknown_tagged_fields.insert(0, Bytes::new());
        assert_eq!(tagged.to_bytes(16), Err(EncodeError::DuplicateTag { tag: 0 }));
        let session = FetchResponse { error_code: 1, session_id: 5, ..FetchResponse::default() };
        let error = session.to_bytes(4);
        assert_eq!(error, Err(EncodeError::UnsupportedField { field: "session_id", version: 4 }));
    }
}
