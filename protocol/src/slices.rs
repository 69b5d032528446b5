//! [`Records`]: the records of a response.

use bytes::{Bytes, BytesMut};

/// Record batches in several slices, as a broker reads them from memory and disk: written one after the other, never
/// copied together. What is read from a frame is one slice.
#[derive(Clone, Debug, Default)]
pub struct Records(Vec<Bytes>);

impl Records {
    /// Bytes of all slices.
    pub fn len(&self) -> usize {
        self.0.iter().map(Bytes::len).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.0.iter().all(Bytes::is_empty)
    }

    pub fn slices(&self) -> &[Bytes] {
        &self.0
    }

    /// All of it in one piece: copies if there is more than one slice.
    pub fn into_bytes(mut self) -> Bytes {
        if self.0.len() <= 1 {
            return self.0.pop().unwrap_or_default();
        }
        let mut whole = BytesMut::with_capacity(self.len());
        self.0.iter().for_each(|slice| whole.extend_from_slice(slice));
        whole.freeze()
    }
}

impl From<Bytes> for Records {
    fn from(bytes: Bytes) -> Records {
        Records(vec![bytes])
    }
}

impl From<Vec<Bytes>> for Records {
    fn from(slices: Vec<Bytes>) -> Records {
        Records(slices)
    }
}

/// Equal bytes, however they are cut.
impl PartialEq for Records {
    fn eq(&self, other: &Records) -> bool {
        self.0.iter().flatten().eq(other.0.iter().flatten())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Decoder, Encoder};

    #[test]
    fn slices_go_out_uncopied_and_come_back_as_one() {
        let slices = vec![Bytes::from(vec![1; 2000]), Bytes::from_static(b"small"), Bytes::from(vec![2; 3000])];
        let records = Records::from(slices.clone());
        for flexible in [true, false] {
            let mut encoder = Encoder::new();
            encoder.opt_records(&Some(records.clone()), flexible, true, "records").unwrap();
            let out = encoder.finish();
            assert!(out.iter().any(|slice| slice.as_ptr() == slices[0].as_ptr()), "the big slice was copied");
            let frame: Vec<u8> = out.iter().flatten().copied().collect();
            assert_eq!(Decoder::new(frame).opt_records(flexible, true), Ok(Some(records.clone())));
        }
    }
}
