//! PKCS #12 (RFC 7292), as far as Java's `keytool` and OpenSSL make it: a password, no public keys, encloses the whole.

use super::asn1::{explicit, implicit_octets, octets, oid, only, sequence, set};
use super::certificate::parts;
use super::java::{Fault, JavaStore, Key, KeyEntry};
use super::protection::{Hidden, Purpose, derived, rounds};
use crate::tls::Password;
use pkcs8::der::Encode;
use pkcs8::der::asn1::{AnyRef, ObjectIdentifier};
use ring::{digest, hmac};
use rustls_pki_types::CertificateDer;

const fn id(text: &str) -> ObjectIdentifier {
    ObjectIdentifier::new_unwrap(text)
}

const DATA: ObjectIdentifier = id("1.2.840.113549.1.7.1");
const ENCRYPTED_DATA: ObjectIdentifier = id("1.2.840.113549.1.7.6");
const KEY_BAG: ObjectIdentifier = id("1.2.840.113549.1.12.10.1.1");
const SHROUDED_KEY_BAG: ObjectIdentifier = id("1.2.840.113549.1.12.10.1.2");
const CERTIFICATE_BAG: ObjectIdentifier = id("1.2.840.113549.1.12.10.1.3");
const X509: ObjectIdentifier = id("1.2.840.113549.1.9.22.1");
const LOCAL_KEY_ID: ObjectIdentifier = id("1.2.840.113549.1.9.21");
/// Java's mark of a certificate that is an entry of its own (`trustedKeyUsage`).
const TRUSTED: ObjectIdentifier = id("2.16.840.1.113894.746875.1.1");
const SHA1: ObjectIdentifier = id("1.3.14.3.2.26");
const SHA256: ObjectIdentifier = id("2.16.840.1.101.3.4.2.1");
const SHA384: ObjectIdentifier = id("2.16.840.1.101.3.4.2.2");
const SHA512: ObjectIdentifier = id("2.16.840.1.101.3.4.2.3");

pub fn read(bytes: &[u8], password: Option<&Password>) -> Result<JavaStore, Fault> {
    let file = sequence(Some(&only(bytes)?))?;
    let (kind, content) = content_info(file.get(1))?;
    if kind != DATA {
        return Err(Fault::unknown(kind));
    }
    let safe = octets(Some(&content))?;
    if let (Some(mac), Some(password)) = (file.get(2), password) {
        check(mac, safe, password)?;
    }
    let mut bags = Bags::default();
    let mut locked = false;
    for part in sequence(Some(&only(safe)?))? {
        match (content_info(Some(&part))?, password) {
            ((DATA, content), _) => bags.read(octets(Some(&content))?)?,
            ((ENCRYPTED_DATA, content), Some(password)) => {
                let info = sequence(sequence(Some(&content))?.get(1))?;
                let hidden = Hidden::new(info.get(1), implicit_octets(info.get(2))?)?;
                bags.read(&hidden.found(password)?)?;
            }
            // As in Java.
            ((ENCRYPTED_DATA, _), None) => locked = true,
            ((other, _), _) => return Err(Fault::unknown(other)),
        }
    }
    Ok(JavaStore { locked, ..bags.store()? })
}

fn content_info<'a>(element: Option<&AnyRef<'a>>) -> Result<(ObjectIdentifier, AnyRef<'a>), Fault> {
    let fields = sequence(element)?;
    Ok((oid(fields.first())?, explicit(fields.get(1))?))
}

/// Whether nobody has changed the store who does not know its password.
fn check(mac: &AnyRef<'_>, content: &[u8], password: &Password) -> Result<(), Fault> {
    let fields = sequence(Some(mac))?;
    let expected = sequence(fields.first())?;
    let (hash, code) = match oid(sequence(expected.first())?.first())? {
        SHA1 => (&digest::SHA1_FOR_LEGACY_USE_ONLY, hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY),
        SHA256 => (&digest::SHA256, hmac::HMAC_SHA256),
        SHA384 => (&digest::SHA384, hmac::HMAC_SHA384),
        SHA512 => (&digest::SHA512, hmac::HMAC_SHA512),
        other => return Err(Fault::unknown(other)),
    };
    let salt = octets(fields.get(1))?;
    let key = derived(hash, Purpose::Mac, password, salt, rounds(fields.get(2))?, hash.output_len());
    let code = hmac::Key::new(code, &key);
    hmac::verify(&code, content, octets(expected.get(1))?).map_err(|_| Fault::Password)
}

/// What a store has, before it is known which certificates are whose.
#[derive(Default)]
struct Bags {
    keys: Vec<(Option<Vec<u8>>, Key)>,
    certificates: Vec<Certificate>,
}

struct Certificate {
    local_key_id: Option<Vec<u8>>,
    is_trusted: bool,
    der: CertificateDer<'static>,
}

impl Bags {
    fn read(&mut self, contents: &[u8]) -> Result<(), Fault> {
        for bag in sequence(Some(&only(contents)?))? {
            let fields = sequence(Some(&bag))?;
            let value = explicit(fields.get(1))?;
            let attributes = fields.get(2).map_or(Ok(Vec::new()), |all| set(Some(all)))?;
            let attributes = attributes.iter().map(|a| sequence(Some(a))).collect::<Result<Vec<_>, _>>()?;
            let attribute = |wanted| attributes.iter().find(|fields| oid(fields.first()).is_ok_and(|id| id == wanted));
            let local_key_id = match attribute(LOCAL_KEY_ID) {
                Some(fields) => set(fields.get(1))?.first().map(|id| id.value().to_vec()),
                None => None,
            };
            match oid(fields.first())? {
                KEY_BAG => self.keys.push((local_key_id, Key::Plain(value.to_der()?))),
                SHROUDED_KEY_BAG => self.keys.push((local_key_id, Key::Hidden(Hidden::parse(&value.to_der()?)?))),
                CERTIFICATE_BAG => {
                    let certificate = sequence(Some(&value))?;
                    if oid(certificate.first())? != X509 {
                        return Err(Fault::unknown("a certificate that is not X.509"));
                    }
                    let der = octets(Some(&explicit(certificate.get(1))?))?.to_vec().into();
                    let is_trusted = attribute(TRUSTED).is_some();
                    self.certificates.push(Certificate { local_key_id, is_trusted, der });
                }
                // Secret keys and lists of what is revoked are nothing for TLS.
                _ => {}
            }
        }
        Ok(())
    }

    fn store(mut self) -> Result<JavaStore, Fault> {
        let keys = std::mem::take(&mut self.keys).into_iter();
        let keys = keys.map(|(id, key)| Ok(KeyEntry { key, chain: self.chain(id)? })).collect::<Result<_, Fault>>()?;
        let trusted = self.certificates.into_iter().filter(|c| c.is_trusted).map(|c| c.der).collect();
        Ok(JavaStore { keys, trusted, locked: false })
    }

    /// The certificate of a key, and each that has signed the one before; as in Java the first of all where the key does not say
    /// which is its own.
    fn chain(&self, key: Option<Vec<u8>>) -> Result<Vec<CertificateDer<'static>>, Fault> {
        let own = self.certificates.iter().find(|c| key.is_none() || c.local_key_id == key);
        let (mut chain, mut next) = (Vec::new(), own.map(|c| &c.der));
        while let Some(certificate) = next.filter(|c| !chain.contains(*c)) {
            let names = parts(certificate)?;
            chain.push(certificate.clone());
            let is_issuer = |c: &&Certificate| parts(&c.der).is_ok_and(|other| other.subject == names.issuer);
            next = self.certificates.iter().find(is_issuer).map(|c| &c.der).filter(|_| names.subject != names.issuer);
        }
        Ok(chain)
    }
}
