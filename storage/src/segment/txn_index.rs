//! Kafka's file of aborted transactions (`AbortedTxn`), `<base offset>.txnindex`: entries of 34 bytes, big-endian, in the order
//! of the markers.
//!
//! ```text
//! i16 version, 0 | i64 producer id | i64 first offset | i64 last offset, the marker's | i64 last stable offset
//! ```
//! Kafka's have no checksum, and a wrong bit in one would have readers take aborted records for committed ones, or miss some. Ours
//! end with 8 bytes more, `CLTX` and the CRC-32C of the entries, of which Kafka's reader takes no notice: less than an entry is left
//! there. A file that does not check out (one without those bytes too: a release before this one wrote it) is made again from the
//! log's markers (`log::aborted`).
#![deny(clippy::unwrap_used, clippy::indexing_slicing)]

use crate::model::{Offset, ProducerId};
use crate::producer_state::AbortedTransaction;

const ENTRY_BYTES: usize = 34;
const VERSION: i16 = 0;
const MAGIC: [u8; 4] = *b"CLTX";

pub(crate) fn encode(entries: &[AbortedTransaction]) -> Vec<u8> {
    let mut out = Vec::with_capacity(entries.len() * ENTRY_BYTES + MAGIC.len() + 4);
    for AbortedTransaction { producer, first_offset, last_offset, last_stable_offset } in entries {
        out.extend_from_slice(&VERSION.to_be_bytes());
        for field in [producer.0, first_offset.0, last_offset.0, last_stable_offset.0] {
            out.extend_from_slice(&field.to_be_bytes());
        }
    }
    let crc = crc32c::crc32c(&out);
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&crc.to_be_bytes());
    out
}

pub(crate) fn decode(bytes: &[u8]) -> Result<Vec<AbortedTransaction>, &'static str> {
    let Some((entries, [rest @ .., a, b, c, d])) = bytes.split_at_checked(bytes.len().saturating_sub(MAGIC.len() + 4))
    else {
        return Err("transaction index: cut short");
    };
    if rest != MAGIC {
        return Err("transaction index: no checksum");
    }
    if crc32c::crc32c(entries) != u32::from_be_bytes([*a, *b, *c, *d]) {
        return Err("transaction index: the CRC does not match");
    }
    let (entries, rest) = entries.as_chunks::<ENTRY_BYTES>();
    if !rest.is_empty() {
        return Err("transaction index: an entry cut short");
    }
    entries.iter().map(entry).collect()
}

fn entry(bytes: &[u8; ENTRY_BYTES]) -> Result<AbortedTransaction, &'static str> {
    let (version, fields) = bytes.split_at(2);
    if version != VERSION.to_be_bytes() {
        return Err("transaction index: an entry of an unknown version");
    }
    let mut fields = fields.as_chunks::<8>().0.iter().map(|field| i64::from_be_bytes(*field));
    let mut next = || fields.next().unwrap_or(-1);
    let (producer, first_offset) = (ProducerId(next()), Offset(next()));
    let (last_offset, last_stable_offset) = (Offset(next()), Offset(next()));
    if first_offset.0 < 0 || last_offset < first_offset {
        return Err("transaction index: an entry that contradicts itself");
    }
    Ok(AbortedTransaction { producer, first_offset, last_offset, last_stable_offset })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_has_kafkas_bytes() {
        let entry = AbortedTransaction {
            producer: ProducerId(0x0102_0304),
            first_offset: Offset(5),
            last_offset: Offset(0x0600),
            last_stable_offset: Offset(0x0601),
        };
        let bytes = encode(&[entry]);
        let mut expected = vec![0, 0];
        expected.extend([0, 0, 0, 0, 1, 2, 3, 4]);
        expected.extend([0, 0, 0, 0, 0, 0, 0, 5]);
        expected.extend([0, 0, 0, 0, 0, 0, 6, 0]);
        expected.extend([0, 0, 0, 0, 0, 0, 6, 1]);
        assert_eq!(bytes[..ENTRY_BYTES], expected);
        assert!(bytes.len() - ENTRY_BYTES < ENTRY_BYTES, "Kafka would take the rest for an entry");
        let two = encode(&[entry; 2]);
        assert_eq!(decode(&two), Ok(vec![entry; 2]));
        assert!((0..two.len()).all(|len| decode(&two[..len]).is_err()), "cut short");
        for at in 0..two.len() {
            let mut bad = two.clone();
            bad[at] ^= 4;
            assert!(decode(&bad).is_err(), "a flipped bit at {at}");
        }
    }
}
