//! Key and trust stores as Java's `keytool` makes them: PKCS #12, and JKS as it was before. Which of the two a file is its first
//! bytes say, whatever type it was given as: so it is in Java (`DualFormatJKS`, `DualFormatPKCS12`).

use super::protection::Hidden;
use super::{Identity, jks, pkcs12};
use crate::tls::Password;
use pkcs8::der::{self, ErrorKind};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

const JCEKS_MAGIC: [u8; 4] = [0xce; 4];

/// Why a store is not read. None tells of what is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    Damaged,
    /// Of the store; or somebody has changed it.
    Password,
    /// Certificates are encrypted, and no password is given.
    NoPassword,
    KeyPassword,
    Other(String),
}

impl From<der::Error> for Fault {
    fn from(error: der::Error) -> Fault {
        match error.kind() {
            ErrorKind::OidUnknown { oid } => Fault::unknown(oid),
            _ => Fault::Damaged,
        }
    }
}

impl Fault {
    pub fn unknown(what: impl std::fmt::Display) -> Fault {
        Fault::Other(format!("it has something in it that is not read: {what}"))
    }
}

/// What is in a store; keys are still as it hides them.
#[derive(Default)]
pub struct JavaStore {
    pub keys: Vec<KeyEntry>,
    /// Certificates that are entries of their own.
    pub trusted: Vec<CertificateDer<'static>>,
    /// There was more, which needs a password.
    pub locked: bool,
}

pub struct KeyEntry {
    pub key: Key,
    /// Its own certificate first.
    pub chain: Vec<CertificateDer<'static>>,
}

pub enum Key {
    /// In PKCS #8 form.
    Plain(Vec<u8>),
    Hidden(Hidden),
}

impl JavaStore {
    /// Without a password nobody looks whether somebody has changed the file.
    pub fn read(bytes: &[u8], password: Option<&Password>) -> Result<JavaStore, Fault> {
        match bytes.first_chunk() {
            Some(&jks::MAGIC) => jks::read(bytes, password),
            Some(&JCEKS_MAGIC) => Err(Fault::Other("it is a JCEKS, and only JKS and PKCS12 are read".to_owned())),
            Some([0x30, ..]) => pkcs12::read(bytes, password),
            Some(b"----") => Err(Fault::Other("it looks like PEM, which its type does not say".to_owned())),
            _ => Err(Fault::Other("it is neither JKS nor PKCS12".to_owned())),
        }
    }

    /// Its one private key.
    pub fn identity(self, password: Option<&Password>) -> Result<Identity, Fault> {
        let count = self.keys.len();
        let entry = self.keys.into_iter().next().filter(|_| count == 1).ok_or_else(|| {
            Fault::Other(match count {
                0 => "there is no private key in it".to_owned(),
                _ => format!("there are {count} private keys in it, of which only one can be shown"),
            })
        })?;
        let key = match (entry.key, password) {
            (Key::Plain(key), _) => key,
            (Key::Hidden(hidden), Some(password)) => hidden.found(password).map_err(|fault| match fault {
                Fault::Password => Fault::KeyPassword,
                other => other,
            })?,
            (Key::Hidden(_), None) => return Err(Fault::KeyPassword),
        };
        Ok(Identity { chain: entry.chain, key: PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key)) })
    }

    /// As in Java a certificate with its private key is trusted as much as one that stands alone.
    pub fn certificates(self) -> Result<Vec<CertificateDer<'static>>, Fault> {
        let own = self.keys.into_iter().filter_map(|entry| entry.chain.into_iter().next());
        let all: Vec<_> = self.trusted.into_iter().chain(own).collect();
        match all.is_empty() {
            true if self.locked => Err(Fault::NoPassword),
            true => {
                Err(Fault::Other("there is no certificate in it to trust (keytool -importcert adds one)".to_owned()))
            }
            false => Ok(all),
        }
    }
}
