//! The two hashes that SCRAM comes with.

use std::num::NonZeroU32;

use ring::{digest, hmac, pbkdf2};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Hash {
    Sha256,
    Sha512,
}

impl Hash {
    /// Kafka's number of the mechanism (`ScramMechanism.type`).
    pub fn code(self) -> i8 {
        match self {
            Hash::Sha256 => 1,
            Hash::Sha512 => 2,
        }
    }

    pub fn from_code(code: i8) -> Option<Hash> {
        [Hash::Sha256, Hash::Sha512].into_iter().find(|hash| hash.code() == code)
    }

    /// Bytes of a digest.
    pub fn size(self) -> usize {
        match self {
            Hash::Sha256 => digest::SHA256_OUTPUT_LEN,
            Hash::Sha512 => digest::SHA512_OUTPUT_LEN,
        }
    }

    pub(super) fn digest(self, bytes: &[u8]) -> Vec<u8> {
        let algorithm = match self {
            Hash::Sha256 => &digest::SHA256,
            Hash::Sha512 => &digest::SHA512,
        };
        digest::digest(algorithm, bytes).as_ref().to_vec()
    }

    pub(super) fn hmac_key(self, key: &[u8]) -> hmac::Key {
        let algorithm = match self {
            Hash::Sha256 => hmac::HMAC_SHA256,
            Hash::Sha512 => hmac::HMAC_SHA512,
        };
        hmac::Key::new(algorithm, key)
    }

    pub(super) fn hmac(self, key: &[u8], bytes: &[u8]) -> Vec<u8> {
        hmac::sign(&self.hmac_key(key), bytes).as_ref().to_vec()
    }

    /// RFC 5802's `Hi`: what stands for the password.
    pub fn salted_password(self, password: &str, salt: &[u8], iterations: NonZeroU32) -> Vec<u8> {
        let algorithm = match self {
            Hash::Sha256 => pbkdf2::PBKDF2_HMAC_SHA256,
            Hash::Sha512 => pbkdf2::PBKDF2_HMAC_SHA512,
        };
        let mut out = vec![0; self.size()];
        pbkdf2::derive(algorithm, iterations, salt, password.as_bytes(), &mut out);
        out
    }
}

pub(super) fn xor(a: &[u8], b: &[u8]) -> Vec<u8> {
    a.iter().zip(b).map(|(a, b)| a ^ b).collect()
}
