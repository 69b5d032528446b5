//! What a record set begins with, as far as sizes and formats tell (Kafka: `ByteBufferLogInputStream`).

use super::BASE_OFFSET_SPAN;
use super::header::{BatchError, BatchHeader, HEADER_BYTES, MAGIC, MAGIC_AT, length_at_start};

/// Bytes that the length of a batch counts at least, in the smallest format that there was.
const LEAST_LENGTH: i32 = 14;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum First<'a> {
    /// No whole batch.
    Nothing,
    /// A batch of a format before 2.
    Older,
    /// A batch, as its header describes itself, and what comes after it.
    Batch { header: BatchHeader, rest: &'a [u8] },
}

impl First<'_> {
    /// Errors: [`BatchError::Magic`] and [`BatchError::Length`], where no batch of any format begins like that.
    pub fn of(bytes: &[u8]) -> Result<First<'_>, BatchError> {
        let Some(length) = length_at_start(bytes) else { return Ok(First::Nothing) };
        if length < LEAST_LENGTH {
            return Err(BatchError::Length(length));
        }
        let Some(magic) = bytes.get(MAGIC_AT).map(|byte| *byte as i8) else { return Ok(First::Nothing) };
        if !(0..=MAGIC).contains(&magic) {
            return Err(BatchError::Magic(magic));
        }
        let Some((batch, rest)) = bytes.split_at_checked(BASE_OFFSET_SPAN + length as usize) else {
            return Ok(First::Nothing);
        };
        if magic != MAGIC {
            return Ok(First::Older);
        }
        if batch.len() < HEADER_BYTES {
            return Err(BatchError::Length(length));
        }
        Ok(First::Batch { header: BatchHeader::read(batch)?, rest })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{BatchBuilder, Codec};

    #[test]
    fn what_begins_a_record_set_is_told_by_its_size_and_its_format() {
        let mut builder = BatchBuilder::new(Codec::None);
        builder.push(0, Some(b"k"), Some(b"v"));
        let good = builder.build().unwrap();
        let with = |at: usize, bytes: &[u8]| {
            let mut batch = good.to_vec();
            batch[at..at + bytes.len()].copy_from_slice(bytes);
            batch
        };
        assert!(matches!(First::of(&good), Ok(First::Batch { rest: [], .. })));
        assert!(matches!(First::of(&[&good[..], &[1, 2]].concat()), Ok(First::Batch { rest: [1, 2], .. })));
        for most in [0, 11, 16, good.len() - 1] {
            assert_eq!(First::of(&good[..most]), Ok(First::Nothing), "{most} bytes");
        }
        for older in [0, 1] {
            assert_eq!(First::of(&with(16, &[older])), Ok(First::Older));
            assert_eq!(First::of(&with(16, &[older])[..50]), Ok(First::Nothing), "not whole");
        }
        assert_eq!(First::of(&with(16, &[3])[..17]), Err(BatchError::Magic(3)), "whole or not");
        assert_eq!(First::of(&with(8, &13i32.to_be_bytes())[..12]), Err(BatchError::Length(13)));
        assert_eq!(First::of(&with(8, &20i32.to_be_bytes())), Err(BatchError::Length(20)), "less than a header");
        // What it says of its records is not looked at.
        let counted = with(57, &(-1i32).to_be_bytes());
        assert!(matches!(First::of(&counted), Ok(First::Batch { header, .. }) if header.count == -1));
    }
}
