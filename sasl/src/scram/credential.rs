//! What the broker has instead of a password.

use std::fmt;
use std::num::NonZeroU32;

use super::hash::Hash;

/// Kafka's bounds (`ScramMechanism`, `ScramControlManager.MAX_ITERATIONS`).
pub const ITERATIONS_MIN: u32 = 4096;
pub const ITERATIONS_MAX: u32 = 16384;

/// Whoever has it can pretend to be the broker, but not the user.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential {
    pub salt: Vec<u8>,
    pub stored_key: Vec<u8>,
    pub server_key: Vec<u8>,
    pub iterations: u32,
}

impl Credential {
    pub fn of_password(hash: Hash, password: &str, salt: Vec<u8>, iterations: NonZeroU32) -> Credential {
        let salted = hash.salted_password(password, &salt, iterations);
        Credential::of_salted(hash, &salted, salt, iterations.get())
    }

    /// `salted`: what [`Hash::salted_password`] gives, which is as good as the password itself.
    pub fn of_salted(hash: Hash, salted: &[u8], salt: Vec<u8>, iterations: u32) -> Credential {
        let client_key = hash.hmac(salted, b"Client Key");
        let (stored_key, server_key) = (hash.digest(&client_key), hash.hmac(salted, b"Server Key"));
        Credential { salt, stored_key, server_key, iterations }
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential").field("iterations", &self.iterations).finish_non_exhaustive()
    }
}
