//! PLAIN (RFC 4616): name and password as they are.

use std::collections::BTreeMap;
use std::fmt;

use ring::hmac;

use crate::exchange::{Exchange, Failure, Identity, Step, Users};

#[derive(Default)]
pub struct Plain {
    claimed: Option<String>,
}

impl Exchange for Plain {
    fn step(&mut self, token: &[u8], users: &dyn Users) -> Step {
        let text = String::from_utf8_lossy(token);
        let mut parts = text.split('\0');
        let (Some(authorize), Some(user), Some(password), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Step::Failed(Failure::Told("Invalid SASL/PLAIN response: three parts are expected"));
        };
        if user.is_empty() {
            return Step::Failed(Failure::Told("Authentication failed: username not specified"));
        }
        if password.is_empty() {
            return Step::Failed(Failure::Told("Authentication failed: password not specified"));
        }
        self.claimed = Some(user.to_owned());
        if !users.has_password(user, password) {
            return Step::Failed(Failure::Told("Authentication failed: Invalid username or password"));
        }
        if !authorize.is_empty() && authorize != user {
            return Step::Failed(Failure::Told(
                "Authentication failed: Client requested an authorization id that is different from username",
            ));
        }
        Step::Done(Vec::new(), Identity::user(user))
    }

    fn claimed(&self) -> Option<&str> {
        self.claimed.as_deref()
    }
}

/// What a client sends.
pub fn token(user: &str, password: &str) -> Vec<u8> {
    [b"\0", user.as_bytes(), b"\0", password.as_bytes()].concat()
}

/// Users and their passwords, which are kept as keyed digests: comparing them takes the same time for all.
pub struct Passwords {
    key: hmac::Key,
    tags: BTreeMap<String, hmac::Tag>,
    /// No password has it.
    nobody: hmac::Tag,
}

impl Passwords {
    /// `secret`: random, and nobody else's.
    pub fn new<'a>(secret: &[u8; 32], users: impl IntoIterator<Item = (&'a str, &'a str)>) -> Passwords {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
        let nobody = hmac::sign(&key, secret);
        let tag = |(user, password): (&str, &str)| (user.to_owned(), hmac::sign(&key, password.as_bytes()));
        let tags = users.into_iter().map(tag).collect();
        Passwords { key, tags, nobody }
    }

    pub fn has(&self, user: &str, password: &str) -> bool {
        let known = self.tags.get(user);
        let expected = known.unwrap_or(&self.nobody);
        let right = hmac::verify(&self.key, password.as_bytes(), expected.as_ref()).is_ok();
        right & known.is_some()
    }
}

impl fmt::Debug for Passwords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Passwords").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scram::{Credential, Hash};
    use std::sync::Arc;

    struct Known(Passwords);

    impl Users for Known {
        fn has_password(&self, user: &str, password: &str) -> bool {
            self.0.has(user, password)
        }

        fn scram(&self, _: Hash, _: &str) -> Arc<Credential> {
            unreachable!("PLAIN asks for passwords only")
        }

        fn bearer(&self, _: &str) -> Result<Identity, String> {
            unreachable!("PLAIN asks for passwords only")
        }

        fn token(&self, _: Hash, _: &str) -> (Arc<Credential>, Option<Identity>) {
            unreachable!("PLAIN asks for passwords only")
        }
    }

    #[test]
    fn only_the_right_password_gets_in() {
        let known = Known(Passwords::new(&[7; 32], [("alice", "secret"), ("bob", "b\u{fc}ro")]));
        let step = |token: &[u8]| Plain::default().step(token, &known);
        let done = |user: &str| Step::Done(Vec::new(), Identity::user(user));
        assert_eq!(step(b"\0alice\0secret"), done("alice"));
        assert_eq!(step(b"alice\0alice\0secret"), done("alice"));
        assert_eq!(step(&token("bob", "b\u{fc}ro")), done("bob"));
        for wrong in [
            &b"\0alice\0Secret"[..],
            b"\0alice\0secre",
            b"\0alice\0secrett",
            b"\0Alice\0secret",
            b"\0carol\0secret",
            b"\0alice\0b\xc3\xbcro",
            b"\0alice\0",
            b"\0\0secret",
            b"\0\0",
            b"bob\0alice\0secret",
            b"\0alice\0secret\0",
            b"alice\0secret",
            b"",
            b"\0",
            b"\xff\xfe\0\xff\0\xff",
        ] {
            assert!(matches!(step(wrong), Step::Failed(Failure::Told(_))), "{wrong:?}");
        }
        assert!(!format!("{:?}", known.0).contains("secret"));
        let mut plain = Plain::default();
        plain.step(b"\0mallory\0secret", &known);
        assert_eq!(plain.claimed(), Some("mallory"));
    }
}
