//! Delegation tokens (KIP-48): a user hands one to others, who then come as that user by SCRAM, with the token's id for a name and
//! its HMAC for a password.

use std::fmt;
use std::num::NonZeroU32;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;
use subtle::ConstantTimeEq;

use crate::scram::{Credential, Hash, ITERATIONS_MIN};

/// What makes HMACs of ids: the secret of a cluster (`delegation.token.secret.key`).
pub struct TokenKey(hmac::Key);

impl TokenKey {
    pub fn new(secret: &str) -> TokenKey {
        TokenKey(hmac::Key::new(hmac::HMAC_SHA512, secret.as_bytes()))
    }

    pub fn hmac(&self, id: &str) -> TokenHmac {
        TokenHmac(hmac::sign(&self.0, id.as_bytes()))
    }
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenKey").finish_non_exhaustive()
    }
}

/// Whoever has it comes as the token's owner.
#[derive(Clone, Copy)]
pub struct TokenHmac(hmac::Tag);

impl TokenHmac {
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_ref()
    }

    /// In the time that any other takes.
    pub fn is(&self, shown: &[u8]) -> bool {
        self.as_bytes().ct_eq(shown).into()
    }

    /// As clients type it.
    pub fn text(&self) -> String {
        STANDARD.encode(self.as_bytes())
    }

    /// What a client proves it against. This takes as long as a login does at the client.
    pub fn credential(&self, hash: Hash, salt: Vec<u8>) -> Credential {
        let iterations = NonZeroU32::new(ITERATIONS_MIN).unwrap_or(NonZeroU32::MIN);
        Credential::of_password(hash, &self.text(), salt, iterations)
    }
}

impl fmt::Debug for TokenHmac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenHmac").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 4231, case 2.
    #[test]
    fn the_hmac_is_that_of_the_standard() {
        let hmac = TokenKey::new("Jefe").hmac("what do ya want for nothing?");
        let text = hmac.text();
        assert_eq!(text, "Fkt6e/z4GeLjlfvnO1bgo4e9ZCIugx/WECcM1+olBVSXWL91wFqZSm0DT2X48Ob9yuqxo01Ka0tjbgcKOLznNw==");
        let bytes = STANDARD.decode(&text).unwrap();
        assert!(hmac.is(&bytes) && !hmac.is(&bytes[1..]) && !hmac.is(&[]) && !hmac.is(&[0; 64]));
        assert!(!format!("{hmac:?}").contains(&text[..8]));
    }
}
