//! How Kafka frames the records of its internal topics.
//!
//! Coordinators (`CoordinatorRecordSerde`): a key is its record type in two bytes and the fields at version 0, a value is
//! its version in two bytes and the fields; a null value is a tombstone. Metadata and tiered storage
//! (`AbstractApiMessageSerde`): frame version, record type and version, each an unsigned varint, and the fields.

use bytes::Bytes;

use crate::{DecodeError, Decoder, EncodeError, Encoder, Message};

/// The only frame version of metadata records there is.
const METADATA_FRAME_VERSION: u32 = 1;

/// A coordinator's key, which says what its value is.
pub trait CoordinatorKey: Message {
    const RECORD_TYPE: i16;
    type Value: Message;

    /// The key as it is stored.
    fn to_key_bytes(&self) -> Result<Bytes, EncodeError> {
        let mut e = Encoder::new();
        e.i16(Self::RECORD_TYPE);
        self.encode(&mut e, 0)?;
        Ok(e.into_bytes())
    }
}

/// A coordinator's value as it is stored.
pub fn encode_versioned<M: Message>(value: &M, version: i16) -> Result<Bytes, EncodeError> {
    let mut e = Encoder::new();
    e.i16(version);
    value.encode(&mut e, version)?;
    Ok(e.into_bytes())
}

/// A coordinator's stored value, and its version.
pub fn decode_versioned<M: Message>(bytes: Bytes) -> Result<(M, i16), DecodeError> {
    let mut d = Decoder::new(bytes);
    let version = d.i16()?;
    Ok((M::decode(&mut d, version)?, version))
}

/// Reads up to the record's fields: record type and version.
pub fn read_metadata_frame(d: &mut Decoder) -> Result<(i16, i16), DecodeError> {
    match d.varint()? {
        METADATA_FRAME_VERSION => {}
        other => return Err(DecodeError::UnsupportedFrameVersion(other)),
    }
    Ok((short(d)?, short(d)?))
}

pub fn write_metadata_frame(e: &mut Encoder, record_type: i16, version: i16) {
    e.varint(METADATA_FRAME_VERSION);
    e.varint(record_type as u16 as u32);
    e.varint(version as u16 as u32);
}

fn short(d: &mut Decoder) -> Result<i16, DecodeError> {
    let value = d.varint()?;
    i16::try_from(value).map_err(|_| DecodeError::InvalidLength(value))
}
