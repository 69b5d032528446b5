//! [`Uuid`]: Kafka's 16-byte ids and their base64url text.

use std::fmt;
use std::str::FromStr;

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
/// Characters of the unpadded base64url form of 16 bytes.
const TEXT_LEN: usize = 22;

/// Topic ids, directory ids, member ids: 16 bytes, shown as 22 characters of unpadded base64url.
///
/// Kafka has no null here: [`Uuid::ZERO`] stands for "none". Drawing random ids is the caller's business.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Uuid(pub [u8; 16]);

impl Uuid {
    pub const ZERO: Uuid = Uuid([0; 16]);
    /// Kafka's reserved id of its metadata topic.
    pub const ONE: Uuid = Uuid([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);

    pub const fn from_u128(value: u128) -> Uuid {
        Uuid(value.to_be_bytes())
    }

    pub const fn to_u128(self) -> u128 {
        u128::from_be_bytes(self.0)
    }

    pub const fn is_zero(&self) -> bool {
        self.to_u128() == 0
    }

    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl From<[u8; 16]> for Uuid {
    fn from(bytes: [u8; 16]) -> Uuid {
        Uuid(bytes)
    }
}

impl From<Uuid> for [u8; 16] {
    fn from(id: Uuid) -> [u8; 16] {
        id.0
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // 128 bits in 22 groups of six; the last group carries two bits and four zeros.
        let value = self.to_u128();
        let mut text = String::with_capacity(TEXT_LEN);
        for group in 0..TEXT_LEN {
            let low_bit = 122 - 6 * group as i32;
            let bits = if low_bit >= 0 { value >> low_bit } else { value << -low_bit };
            let symbol = ALPHABET.get((bits & 63) as usize).copied().unwrap_or(b'A');
            text.push(char::from(symbol));
        }
        f.pad(&text)
    }
}

impl fmt::Debug for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not 22 characters of base64url that stand for 16 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParseUuidError;

impl fmt::Display for ParseUuidError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an id is 22 characters of base64url")
    }
}

impl std::error::Error for ParseUuidError {}

impl FromStr for Uuid {
    type Err = ParseUuidError;

    /// Takes the unpadded form, and the padded one (`==`), as Kafka does.
    fn from_str(text: &str) -> Result<Uuid, ParseUuidError> {
        let text = text.strip_suffix("==").unwrap_or(text);
        if text.len() != TEXT_LEN {
            return Err(ParseUuidError);
        }
        let mut value = 0u128;
        for (group, symbol) in text.bytes().enumerate() {
            let bits = ALPHABET.iter().position(|&a| a == symbol).ok_or(ParseUuidError)? as u128;
            let low_bit = 122 - 6 * group as i32;
            value |= if low_bit >= 0 { bits << low_bit } else { bits >> -low_bit };
        }
        Ok(Uuid::from_u128(value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_kafkas() {
        assert_eq!(Uuid::ZERO.to_string(), "AAAAAAAAAAAAAAAAAAAAAA");
        assert_eq!(Uuid::ONE.to_string(), "AAAAAAAAAAAAAAAAAAAAAQ");
        assert_eq!(Uuid([0xff; 16]).to_string(), "_____________________w");
    }

    #[test]
    fn text_and_back() {
        for seed in 0..200u128 {
            let id = Uuid::from_u128(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c834));
            assert_eq!(id.to_string().parse(), Ok(id));
        }
        assert_eq!("short".parse::<Uuid>(), Err(ParseUuidError));
        assert_eq!("AAAAAAAAAAAAAAAAAAAA+A".parse::<Uuid>(), Err(ParseUuidError));
    }
}
