//! The frame around small state that is kept on disk: magic, version, CRC-32C, payload. Big-endian.
//!
//! ```text
//!  4 bytes  magic of the kind of state
//!  2 bytes  version of the payload
//!  4 bytes  CRC-32C of version and payload
//!  4 bytes  length of the payload
//!           payload
//! ```
#![deny(clippy::unwrap_used, clippy::indexing_slicing)]

/// Bytes of a frame beside its payload.
pub(crate) const FRAME_BYTES: usize = 14;

/// Why kept state cannot be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SealError {
    #[error("cut short")]
    Truncated,
    #[error("not the expected kind of state")]
    Magic,
    #[error("version {found}, this build knows up to {known}")]
    Version { found: u16, known: u16 },
    #[error("CRC does not match")]
    Crc,
    #[error("contents contradict themselves")]
    Contents,
}

pub(crate) fn seal(magic: [u8; 4], version: u16, payload: &[u8], out: &mut Vec<u8>) {
    out.reserve(FRAME_BYTES + payload.len());
    out.extend_from_slice(&magic);
    out.extend_from_slice(&version.to_be_bytes());
    out.extend_from_slice(&sum(version, payload).to_be_bytes());
    out.extend_from_slice(&(payload.len() as u32).to_be_bytes());
    out.extend_from_slice(payload);
}

/// Takes one frame off the front of `bytes` and gives its version and payload.
pub(crate) fn open<'a>(magic: [u8; 4], known: u16, bytes: &mut &'a [u8]) -> Result<(u16, Fields<'a>), SealError> {
    let mut fields = Fields(bytes);
    if fields.array::<4>()? != magic {
        return Err(SealError::Magic);
    }
    let version = u16::from_be_bytes(fields.array()?);
    let crc = u32::from_be_bytes(fields.array()?);
    let length = u32::from_be_bytes(fields.array()?) as usize;
    let (payload, rest) = fields.0.split_at_checked(length).ok_or(SealError::Truncated)?;
    if sum(version, payload) != crc {
        return Err(SealError::Crc);
    }
    // A damaged one is no newer release's.
    if version > known {
        return Err(SealError::Version { found: version, known });
    }
    *bytes = rest;
    Ok((version, Fields(payload)))
}

/// The checksum of a frame.
pub(crate) fn sum(version: u16, payload: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&version.to_be_bytes()), payload)
}

/// Reads numbers off the front of a payload.
pub(crate) struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    pub fn new(bytes: &'a [u8]) -> Fields<'a> {
        Fields(bytes)
    }

    /// The next `len` bytes.
    pub fn bytes(&mut self, len: usize) -> Result<&'a [u8], SealError> {
        let (head, rest) = self.0.split_at_checked(len).ok_or(SealError::Truncated)?;
        self.0 = rest;
        Ok(head)
    }

    /// What is left, for a reader that takes its part off the front.
    pub fn rest(&mut self) -> &mut &'a [u8] {
        &mut self.0
    }

    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], SealError> {
        let (head, rest) = self.0.split_first_chunk::<N>().ok_or(SealError::Truncated)?;
        self.0 = rest;
        Ok(*head)
    }

    /// How many items of `size` bytes there can still be: bounds what is reserved for a count that was read.
    pub fn room_for(&self, size: usize) -> usize {
        self.0.len() / size
    }

    pub fn end(&self) -> Result<(), SealError> {
        if self.0.is_empty() { Ok(()) } else { Err(SealError::Contents) }
    }
}
