//! [`Decoder`]: reads Kafka's types from a frame; every read is checked.

use std::mem::size_of;

use bytes::Bytes;

use crate::message::{Element, Struct};
use crate::tagged::{TaggedField, TaggedFields};
use crate::{DecodeError, Str, Uuid};

/// Decoded memory allowed per byte of input. The densest honest value, an array of empty strings, takes 32.
const MEMORY_PER_BYTE: usize = 32;
/// Decoded memory allowed to any input, however short.
const MEMORY_FLOOR: usize = 64 << 10;

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
        // Twice the size, for the vector grows by doubling.
        self.charge(2 * size_of::<TaggedField>() + if fields.is_empty() { 192 } else { 0 })?;
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
