//! [`Decoder`]: reads Kafka's types from a frame; every read is checked.

use std::mem::size_of;

use bytes::Bytes;

use crate::message::{Element, Struct};
use crate::tagged::{TaggedField, TaggedFields};
use crate::{DecodeError, Records, Str, Uuid};

/// Decoded memory allowed per byte of input. The densest honest value, an array of empty strings, takes 32.
const MEMORY_PER_BYTE: usize = 32;
/// Decoded memory allowed to any input, however short.
const MEMORY_FLOOR: usize = 64 << 10;
/// The boxed vector of the first unknown tagged field of a struct.
const FIRST_TAGGED: usize = 4 * size_of::<TaggedField>() + size_of::<Vec<TaggedField>>();

type Result<T> = std::result::Result<T, DecodeError>;

/// A cursor over one frame. Strings and bytes it gives out are slices of the frame, so nothing but the arrays of a
/// message takes memory; how much is bounded, by default to 64 KiB and 32 times the length of the input.
#[derive(Debug)]
pub struct Decoder {
    buf: Bytes,
    position: usize,
    /// End of what may be read now: the frame's, or that of the tagged field being read. `position <= end <= len`.
    end: usize,
    memory_left: usize,
}

/// What [`Decoder::enter_tagged`] found, to be handed to [`Decoder::leave_tagged`].
#[derive(Debug)]
pub struct TaggedScope {
    tag: u32,
    outer_end: usize,
}

impl TaggedScope {
    pub fn tag(&self) -> u32 {
        self.tag
    }
}

impl Decoder {
    pub fn new(buf: impl Into<Bytes>) -> Decoder {
        let buf = buf.into();
        let end = buf.len();
        let memory_left = end.saturating_mul(MEMORY_PER_BYTE).saturating_add(MEMORY_FLOOR);
        Decoder { buf, position: 0, end, memory_left }
    }

    /// Bounds the memory that arrays decoded from here on may take, in bytes.
    pub fn set_memory_limit(&mut self, bytes: usize) {
        self.memory_left = bytes;
    }

    /// What arrays may still take.
    pub fn memory_left(&self) -> usize {
        self.memory_left
    }

    pub fn position(&self) -> usize {
        self.position
    }

    pub fn remaining(&self) -> usize {
        self.end - self.position
    }

    /// What has not been read, as one slice.
    pub fn rest(&self) -> Bytes {
        self.buf.slice(self.position..self.end)
    }

    /// Says whether all was read.
    pub fn finish(&self) -> Result<()> {
        match self.remaining() {
            0 => Ok(()),
            count => Err(DecodeError::TrailingBytes(count)),
        }
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N]> {
        let remaining = self.remaining();
        let truncated = DecodeError::Truncated { needed: N, remaining };
        if remaining < N {
            return Err(truncated);
        }
        let bytes = self.buf.get(self.position..).and_then(<[u8]>::first_chunk::<N>).ok_or(truncated)?;
        self.position += N;
        Ok(*bytes)
    }

    /// The next `length` bytes, not copied.
    pub fn take(&mut self, length: usize) -> Result<Bytes> {
        let remaining = self.remaining();
        if length > remaining {
            return Err(DecodeError::Truncated { needed: length, remaining });
        }
        let start = self.position;
        self.position += length;
        Ok(self.buf.slice(start..self.position))
    }

    pub fn bool(&mut self) -> Result<bool> {
        Ok(self.fixed::<1>()? != [0])
    }

    pub fn i8(&mut self) -> Result<i8> {
        self.fixed().map(i8::from_be_bytes)
    }

    pub fn i16(&mut self) -> Result<i16> {
        self.fixed().map(i16::from_be_bytes)
    }

    pub fn u16(&mut self) -> Result<u16> {
        self.fixed().map(u16::from_be_bytes)
    }

    pub fn i32(&mut self) -> Result<i32> {
        self.fixed().map(i32::from_be_bytes)
    }

    pub fn u32(&mut self) -> Result<u32> {
        self.fixed().map(u32::from_be_bytes)
    }

    pub fn i64(&mut self) -> Result<i64> {
        self.fixed().map(i64::from_be_bytes)
    }

    pub fn f64(&mut self) -> Result<f64> {
        self.fixed().map(f64::from_be_bytes)
    }

    pub fn uuid(&mut self) -> Result<Uuid> {
        self.fixed().map(Uuid)
    }

    /// An unsigned varint of at most 32 bits.
    pub fn varint(&mut self) -> Result<u32> {
        let mut value = 0u32;
        for shift in [0, 7, 14, 21, 28] {
            let [byte] = self.fixed::<1>()?;
            if shift == 28 && byte > 0x0f {
                return Err(DecodeError::InvalidVarint);
            }
            value |= u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(DecodeError::InvalidVarint)
    }

    /// Length prefix of bytes, records and arrays; `None` stands for null.
    fn length(&mut self, flexible: bool) -> Result<Option<usize>> {
        if flexible {
            return self.compact_length();
        }
        Ok(usize::try_from(self.i32()?).ok())
    }

    fn string_length(&mut self, flexible: bool) -> Result<Option<usize>> {
        if !flexible {
            return Ok(usize::try_from(self.i16()?).ok());
        }
        match self.compact_length()? {
            Some(length) if length > i16::MAX as usize => Err(DecodeError::InvalidLength(length as u32)),
            length => Ok(length),
        }
    }

    fn compact_length(&mut self) -> Result<Option<usize>> {
        match self.varint()?.checked_sub(1) {
            Some(length) if length > i32::MAX as u32 => Err(DecodeError::InvalidLength(length)),
            length => Ok(length.map(|length| length as usize)),
        }
    }

    pub fn string(&mut self, flexible: bool) -> Result<Str> {
        self.opt_string(flexible, false)?.ok_or(DecodeError::UnexpectedNull)
    }

    pub fn opt_string(&mut self, flexible: bool, nullable: bool) -> Result<Option<Str>> {
        let length = self.string_length(flexible)?;
        let Some(length) = present(length, nullable)? else { return Ok(None) };
        Str::from_utf8(self.take(length)?).map(Some).map_err(|_| DecodeError::InvalidUtf8)
    }

    pub fn bytes(&mut self, flexible: bool) -> Result<Bytes> {
        self.opt_bytes(flexible, false)?.ok_or(DecodeError::UnexpectedNull)
    }

    pub fn opt_bytes(&mut self, flexible: bool, nullable: bool) -> Result<Option<Bytes>> {
        let length = self.length(flexible)?;
        let Some(length) = present(length, nullable)? else { return Ok(None) };
        self.take(length).map(Some)
    }

    /// Records as one slice.
    pub fn opt_records(&mut self, flexible: bool, nullable: bool) -> Result<Option<Records>> {
        let Some(bytes) = self.opt_bytes(flexible, nullable)? else { return Ok(None) };
        // The list of slices is on the heap.
        self.charge(size_of::<Bytes>())?;
        Ok(Some(bytes.into()))
    }

    pub fn array<T: Element>(&mut self, flexible: bool) -> Result<Vec<T>> {
        self.opt_array(flexible, false)?.ok_or(DecodeError::UnexpectedNull)
    }

    pub fn opt_array<T: Element>(&mut self, flexible: bool, nullable: bool) -> Result<Option<Vec<T>>> {
        let count = self.length(flexible)?;
        let Some(count) = present(count, nullable)? else { return Ok(None) };
        let mut elements = self.room_for::<T>(count, T::MIN_SIZE)?;
        for _ in 0..count {
            elements.push(T::read(self, flexible)?);
        }
        Ok(Some(elements))
    }

    pub fn structs<T: Struct>(&mut self, flexible: bool, version: i16) -> Result<Vec<T>> {
        self.opt_structs(flexible, version, false)?.ok_or(DecodeError::UnexpectedNull)
    }

    pub fn opt_structs<T: Struct>(&mut self, flexible: bool, version: i16, nullable: bool) -> Result<Option<Vec<T>>> {
        let count = self.length(flexible)?;
        let Some(count) = present(count, nullable)? else { return Ok(None) };
        let mut elements = self.room_for::<T>(count, T::MIN_SIZE)?;
        for _ in 0..count {
            elements.push(T::read(self, version)?);
        }
        Ok(Some(elements))
    }

    /// A struct behind a one-byte mark: negative for null.
    pub fn opt_struct<T: Struct>(&mut self, version: i16, nullable: bool) -> Result<Option<T>> {
        if !nullable {
            return T::read(self, version).map(Some);
        }
        if self.i8()? < 0 { Ok(None) } else { T::read(self, version).map(Some) }
    }

    /// A nullable struct as a tagged field, whose mark is a varint: 0 for null.
    pub fn opt_tagged_struct<T: Struct>(&mut self, version: i16) -> Result<Option<T>> {
        if self.varint()? == 0 { Ok(None) } else { T::read(self, version).map(Some) }
    }

    /// A vector for `count` elements, if the rest of the frame can hold them and the memory limit allows it.
    fn room_for<T>(&mut self, count: usize, min_size: usize) -> Result<Vec<T>> {
        let remaining = self.remaining();
        if count > remaining / min_size.max(1) {
            return Err(DecodeError::ArrayTooLong { announced: count, remaining });
        }
        self.charge(count.saturating_mul(size_of::<T>()))?;
        Ok(Vec::with_capacity(count))
    }

    fn charge(&mut self, bytes: usize) -> Result<()> {
        self.memory_left = self.memory_left.checked_sub(bytes).ok_or(DecodeError::MemoryLimit)?;
        Ok(())
    }

    /// The number of tagged fields that follow.
    pub fn tagged_count(&mut self) -> Result<u32> {
        self.varint()
    }

    /// Starts the next tagged field: until [`Decoder::leave_tagged`] nothing beyond its size can be read.
    pub fn enter_tagged(&mut self) -> Result<TaggedScope> {
        let tag = self.varint()?;
        let size = self.varint()? as usize;
        let remaining = self.remaining();
        if size > remaining {
            return Err(DecodeError::Truncated { needed: size, remaining });
        }
        let outer_end = self.end;
        self.end = self.position + size;
        Ok(TaggedScope { tag, outer_end })
    }

    /// Ends a known tagged field, all of which must have been read.
    pub fn leave_tagged(&mut self, scope: TaggedScope) -> Result<()> {
        if self.position != self.end {
            return Err(DecodeError::TaggedFieldSize { tag: scope.tag });
        }
        self.end = scope.outer_end;
        Ok(())
    }

    /// Ends an unknown tagged field: what is in it goes to `fields` undecoded.
    pub fn keep_tagged(&mut self, scope: TaggedScope, fields: &mut TaggedFields) -> Result<()> {
        // The vector grows by doubling: up to twice what is in it, and the half that it is moved from.
        self.charge(3 * size_of::<TaggedField>() + if fields.is_empty() { FIRST_TAGGED } else { 0 })?;
        let data = self.take(self.remaining())?;
        fields.push(scope.tag, data);
        self.end = scope.outer_end;
        Ok(())
    }

    /// To be called after the last tagged field of a struct.
    pub fn settle_tagged(&mut self, fields: &mut TaggedFields) -> Result<()> {
        match fields.settle() {
            Some(tag) => Err(DecodeError::DuplicateTag { tag }),
            None => Ok(()),
        }
    }
}

fn present(length: Option<usize>, nullable: bool) -> Result<Option<usize>> {
    if length.is_none() && !nullable { Err(DecodeError::UnexpectedNull) } else { Ok(length) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::{ApiVersionsRequest, FetchRequest, MetadataRequest};
    use crate::{Encoder, Message};

    fn decoder(bytes: &[u8]) -> Decoder {
        Decoder::new(Bytes::copy_from_slice(bytes))
    }

    #[test]
    fn varints_are_of_32_bits() {
        assert_eq!(decoder(&[0]).varint(), Ok(0));
        assert_eq!(decoder(&[0xac, 0x02]).varint(), Ok(300));
        assert_eq!(decoder(&[0xff, 0xff, 0xff, 0xff, 0x0f]).varint(), Ok(u32::MAX));
        assert_eq!(decoder(&[0xff, 0xff, 0xff, 0xff, 0x1f]).varint(), Err(DecodeError::InvalidVarint));
        assert_eq!(decoder(&[0x80; 5]).varint(), Err(DecodeError::InvalidVarint));
        assert_eq!(decoder(&[0x80]).varint(), Err(DecodeError::Truncated { needed: 1, remaining: 0 }));
    }

    #[test]
    fn strings_are_slices_of_the_frame() {
        let frame = Bytes::from_static(b"\x00\x05topic\x00");
        let mut d = Decoder::new(frame.clone());
        let topic = d.string(false).unwrap();
        assert_eq!(topic, "topic");
        assert_eq!(topic.as_ptr(), frame.slice(2..).as_ptr());
        assert_eq!(d.finish(), Err(DecodeError::TrailingBytes(1)));
    }

    #[test]
    fn bad_strings_are_refused() {
        assert_eq!(decoder(&[0, 2, b'a']).string(false), Err(DecodeError::Truncated { needed: 2, remaining: 1 }));
        assert_eq!(decoder(&[0, 1, 0xff]).string(false), Err(DecodeError::InvalidUtf8));
        assert_eq!(decoder(&[0xff, 0xff]).string(false), Err(DecodeError::UnexpectedNull));
        assert_eq!(decoder(&[0xff, 0xff]).opt_string(false, true), Ok(None));
        assert_eq!(decoder(&[0]).opt_string(true, true), Ok(None));
        let too_long = decoder(&[0x81, 0x80, 0x02]).string(true);
        assert_eq!(too_long, Err(DecodeError::InvalidLength(32_768)));
        let beyond_i32 = decoder(&[0xff, 0xff, 0xff, 0xff, 0x0f]).bytes(true);
        assert_eq!(beyond_i32, Err(DecodeError::InvalidLength(u32::MAX - 1)));
    }

    #[test]
    fn arrays_are_checked_against_what_is_left() {
        let announced = i32::MAX.to_be_bytes();
        let error = decoder(&announced).array::<i64>(false);
        assert_eq!(error, Err(DecodeError::ArrayTooLong { announced: i32::MAX as usize, remaining: 0 }));
        assert_eq!(decoder(&[0, 0, 0, 2, 0, 1, 0, 2]).array::<i16>(false), Ok(vec![1, 2]));
        // One element more than bytes for them.
        let error = decoder(&[0, 0, 0, 2, 0, 1, 0]).array::<i16>(false);
        assert_eq!(error, Err(DecodeError::ArrayTooLong { announced: 2, remaining: 3 }));
    }

    #[test]
    fn memory_is_limited() {
        let topics = vec![Default::default(); 100];
        let request = FetchRequest { topics, ..FetchRequest::default() };
        let bytes = request.to_bytes(4).unwrap();
        let mut d = Decoder::new(bytes.clone());
        assert_eq!(FetchRequest::decode(&mut d, 4), Ok(FetchRequest { session_epoch: -1, ..request }));
        let mut d = Decoder::new(bytes);
        d.set_memory_limit(1000);
        assert_eq!(FetchRequest::decode(&mut d, 4), Err(DecodeError::MemoryLimit));
    }

    #[test]
    fn tagged_fields_end_where_they_say() {
        // No topics, three false flags, then one tagged field with tag 5 and three bytes.
        let bytes = [0, 1, 0, 1, 5, 3, 1, 2, 3];
        let request = MetadataRequest::decode(&mut decoder(&bytes), 11).unwrap();
        assert_eq!(request.topics, None);
        let field = request.unknown_tagged_fields.as_slice().first().unwrap();
        assert_eq!((field.tag, field.data.as_ref()), (5, [1, 2, 3].as_slice()));
        assert_eq!(request.to_bytes(11).unwrap(), bytes.as_slice());

        let twice = [0, 1, 0, 2, 5, 0, 5, 0];
        assert_eq!(MetadataRequest::decode(&mut decoder(&twice), 11), Err(DecodeError::DuplicateTag { tag: 5 }));
        let descending = [0, 1, 0, 2, 6, 0, 5, 0];
        let request = MetadataRequest::decode(&mut decoder(&descending), 11).unwrap();
        assert_eq!(request.to_bytes(11).unwrap(), [0, 1, 0, 2, 5, 0, 6, 0].as_slice());
        let short = [0, 1, 0, 1, 5, 9, 0];
        let error = MetadataRequest::decode(&mut decoder(&short), 11);
        assert_eq!(error, Err(DecodeError::Truncated { needed: 9, remaining: 1 }));
    }

    #[test]
    fn a_known_tagged_field_must_fill_its_size() {
        // FetchRequest v12: the cluster id is tag 0; here its size is one more than the string.
        let mut e = Encoder::new();
        FetchRequest::default().encode(&mut e, 12).unwrap();
        let mut bytes = e.into_bytes().to_vec();
        assert_eq!(bytes.pop(), Some(0));
        bytes.extend([1, 0, 3, 2, b'a', 0]);
        let error = FetchRequest::decode(&mut decoder(&bytes), 12);
        assert_eq!(error, Err(DecodeError::TaggedFieldSize { tag: 0 }));
    }

    #[test]
    fn a_tagged_field_of_a_later_version_is_refused() {
        // FetchRequest: tag 1 is the replica's state from version 15 on.
        let mut e = Encoder::new();
        FetchRequest::default().encode(&mut e, 12).unwrap();
        let mut bytes = e.into_bytes().to_vec();
        assert_eq!(bytes.pop(), Some(0));
        bytes.extend([1, 1, 0]);
        let error = FetchRequest::decode(&mut decoder(&bytes), 12);
        assert_eq!(error, Err(DecodeError::UnexpectedTag { tag: 1, version: 12 }));
    }

    #[test]
    fn versions_are_checked() {
        let error = ApiVersionsRequest::decode(&mut decoder(&[]), 99);
        assert_eq!(error, Err(DecodeError::UnsupportedVersion { message: "ApiVersionsRequest", version: 99 }));
    }
}
