//! Zigzag variable-length integers of record bodies (`ByteUtils` in Kafka's clients).

use bytes::BufMut;

/// Takes an `i32` off the front; `None` if it is cut short or longer than 5 bytes.
#[inline]
pub(crate) fn read_i32(bytes: &mut &[u8]) -> Option<i32> {
    let raw = match bytes.split_first() {
        Some((&first, rest)) if first < 0x80 => {
            *bytes = rest;
            u32::from(first)
        }
        _ => read_long(bytes, 5)? as u32,
    };
    Some((raw >> 1) as i32 ^ -((raw & 1) as i32))
}

/// Takes an `i64` off the front; `None` if it is cut short or longer than 10 bytes.
#[inline]
pub(crate) fn read_i64(bytes: &mut &[u8]) -> Option<i64> {
    let raw = match bytes.split_first() {
        Some((&first, rest)) if first < 0x80 => {
            *bytes = rest;
            u64::from(first)
        }
        _ => read_long(bytes, 10)?,
    };
    Some((raw >> 1) as i64 ^ -((raw & 1) as i64))
}

fn read_long(bytes: &mut &[u8], most: u32) -> Option<u64> {
    let mut raw = 0u64;
    for i in 0..most {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        // The last byte of a full-length number has bits beyond the type's: they are dropped, as in Kafka.
        raw |= u64::from(byte & 0x7f) << (7 * i);
        if byte < 0x80 {
            return Some(raw);
        }
    }
    None
}

pub(crate) fn put_i32(out: &mut impl BufMut, value: i32) {
    put(out, u64::from(((value << 1) ^ (value >> 31)) as u32));
}

pub(crate) fn put_i64(out: &mut impl BufMut, value: i64) {
    put(out, ((value << 1) ^ (value >> 63)) as u64);
}

fn put(out: &mut impl BufMut, mut raw: u64) {
    while raw >= 0x80 {
        out.put_u8(raw as u8 | 0x80);
        raw >>= 7;
    }
    out.put_u8(raw as u8);
}

/// Bytes that `put_i32` writes.
pub(crate) fn size_i32(value: i32) -> usize {
    size(u64::from(((value << 1) ^ (value >> 31)) as u32))
}

/// Bytes that `put_i64` writes.
pub(crate) fn size_i64(value: i64) -> usize {
    size(((value << 1) ^ (value >> 63)) as u64)
}

fn size(raw: u64) -> usize {
    (64 - (raw | 1).leading_zeros() as usize).div_ceil(7)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn numbers_read_back(a: i32, b: i64) {
            let mut bytes = Vec::new();
            put_i32(&mut bytes, a);
            prop_assert_eq!(bytes.len(), size_i32(a));
            put_i64(&mut bytes, b);
            prop_assert_eq!(bytes.len(), size_i32(a) + size_i64(b));
            let mut rest = &bytes[..];
            prop_assert_eq!(read_i32(&mut rest), Some(a));
            prop_assert_eq!(read_i64(&mut rest), Some(b));
            prop_assert!(rest.is_empty());
        }
    }

    #[test]
    fn overlong_and_cut_short_are_refused() {
        assert_eq!(read_i32(&mut &[0x80; 6][..]), None);
        assert_eq!(read_i64(&mut &[0x80; 11][..]), None);
        assert_eq!(read_i32(&mut &[0x80][..]), None);
        assert_eq!(read_i32(&mut &[][..]), None);
        assert_eq!(read_i32(&mut &[0xff, 0xff, 0xff, 0xff, 0x0f][..]), Some(i32::MIN));
    }
}
