//! JKS, Sun's own format, versions 1 and 2: entries, and a digest of them and of the password.

use super::java::{Fault, JavaStore, Key, KeyEntry};
use super::protection::{Hidden, utf16};
use crate::tls::Password;
use ring::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY, SHA1_OUTPUT_LEN};
use rustls_pki_types::CertificateDer;

pub const MAGIC: [u8; 4] = [0xfe, 0xed, 0xfe, 0xed];
/// What the digest is salted with.
const SALT: &[u8] = b"Mighty Aphrodite";
const PRIVATE_KEY: u32 = 1;
const TRUSTED: u32 = 2;

pub fn read(bytes: &[u8], password: Option<&Password>) -> Result<JavaStore, Fault> {
    let (body, digest) = bytes.split_last_chunk::<SHA1_OUTPUT_LEN>().ok_or(Fault::Damaged)?;
    if let Some(password) = password {
        let mut sum = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
        for part in [&utf16(password), SALT, body] {
            sum.update(part);
        }
        if sum.finish().as_ref() != digest {
            return Err(Fault::Password);
        }
    }
    let mut rest = Fields(body);
    let (_magic, version, count) = (rest.u32()?, rest.u32()?, rest.u32()?);
    let mut store = JavaStore::default();
    for _ in 0..count {
        let kind = rest.u32()?;
        let _alias = rest.text()?;
        let _made = rest.take(8)?;
        match kind {
            PRIVATE_KEY => {
                let key = Key::Hidden(Hidden::parse(rest.bytes()?)?);
                let chain = (0..rest.u32()?).map(|_| rest.certificate(version)).collect::<Result<_, _>>()?;
                store.keys.push(KeyEntry { key, chain });
            }
            TRUSTED => store.trusted.push(rest.certificate(version)?),
            other => return Err(Fault::unknown(format!("an entry of kind {other}"))),
        }
    }
    Ok(store)
}

/// What is left of a store's fields.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, size: usize) -> Result<&'a [u8], Fault> {
        let (taken, rest) = self.0.split_at_checked(size).ok_or(Fault::Damaged)?;
        self.0 = rest;
        Ok(taken)
    }

    fn u32(&mut self) -> Result<u32, Fault> {
        let bytes = self.take(4)?.try_into().map_err(|_| Fault::Damaged)?;
        Ok(u32::from_be_bytes(bytes))
    }

    fn bytes(&mut self) -> Result<&'a [u8], Fault> {
        let size = self.u32()?;
        self.take(size as usize)
    }

    fn text(&mut self) -> Result<&'a [u8], Fault> {
        let size = self.take(2)?.try_into().map(u16::from_be_bytes).map_err(|_| Fault::Damaged)?;
        self.take(usize::from(size))
    }

    fn certificate(&mut self, version: u32) -> Result<CertificateDer<'static>, Fault> {
        if version == 2 && self.text()? != b"X.509" {
            return Err(Fault::unknown("a certificate that is not X.509"));
        }
        Ok(CertificateDer::from(self.bytes()?.to_vec()))
    }
}
