//! Users who are not there, but look as if they were.

use std::fmt;

use ring::hmac;

use super::credential::{Credential, ITERATIONS_MIN};
use super::hash::Hash;

/// Makes up what a broker would have of a user. Asked again it makes up the same, or strangers could tell.
pub struct Decoys(hmac::Key);

impl Decoys {
    /// `secret`: random, nobody else's, and the same for all listeners of a process.
    pub fn new(secret: &[u8; 32]) -> Decoys {
        Decoys(hmac::Key::new(hmac::HMAC_SHA512, secret))
    }

    /// `like`: somebody who is there, whose salt and iterations are of the usual size.
    pub fn credential(&self, hash: Hash, user: &str, like: Option<&Credential>) -> Credential {
        let size = like.map_or(SALT_SIZE, |like| like.salt.len());
        let part = |what: u8, size: usize| {
            let blocks = (0u32..).flat_map(|block| {
                let seed = [&[what, hash.code() as u8][..], &block.to_be_bytes(), user.as_bytes()].concat();
                hmac::sign(&self.0, &seed).as_ref().to_vec()
            });
            blocks.take(size).collect::<Vec<u8>>()
        };
        Credential {
            salt: part(0, size),
            stored_key: part(1, hash.size()),
            server_key: part(2, hash.size()),
            iterations: like.map_or(ITERATIONS_MIN, |like| like.iterations),
        }
    }
}

/// Bytes of the salts that this broker makes.
const SALT_SIZE: usize = 26;

impl fmt::Debug for Decoys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decoys").finish_non_exhaustive()
    }
}
