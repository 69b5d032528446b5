//! What a key and its certificates say of one another.

use super::asn1::{context, oid, only, sequence};
use super::java::Fault;
use pkcs8::der::asn1::{AnyRef, ObjectIdentifier};
use pkcs8::der::{Encode, Tag, Tagged};

const EC_PUBLIC_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");

/// Parts of a certificate, as they are encoded.
pub struct Parts {
    pub issuer: Vec<u8>,
    pub subject: Vec<u8>,
    /// A bit string.
    public_key: Vec<u8>,
}

pub fn parts(certificate: &[u8]) -> Result<Parts, Fault> {
    let body = sequence(sequence(Some(&only(certificate)?))?.first())?;
    let has_version = body.first().is_some_and(|first| first.tag() == context(0, true));
    // The serial number and the algorithm of the signature come first.
    let part = |at: usize| body.get(at + usize::from(has_version)).ok_or(Fault::Damaged);
    let public_key = *sequence(Some(part(5)?))?.get(1).ok_or(Fault::Damaged)?;
    Ok(Parts { issuer: part(2)?.to_der()?, subject: part(4)?.to_der()?, public_key: public_key.to_der()? })
}

/// Java writes private keys of elliptic curves without their public half, which ring wants to see. It stands in the certificate.
/// Answers with a key in PKCS #8 form, `None` where there is nothing to do.
pub fn with_public_half(key: &[u8], certificate: &[u8]) -> Option<Vec<u8>> {
    let [version, algorithm, octets] = *sequence(Some(&only(key).ok()?)).ok()?.first_chunk()?;
    if oid(sequence(Some(&algorithm)).ok()?.first()).ok()? != EC_PUBLIC_KEY {
        return None;
    }
    let mut fields = sequence(Some(&only(octets.value()).ok()?)).ok()?;
    let half = context(1, true);
    if fields.iter().any(|field| field.tag() == half) {
        return None;
    }
    let public_key = parts(certificate).ok()?.public_key;
    fields.push(AnyRef::new(half, &public_key).ok()?);
    let inner = encoded(Tag::Sequence, &fields)?;
    encoded(Tag::Sequence, &[version, algorithm, AnyRef::new(octets.tag(), &inner).ok()?])
}

fn encoded(tag: Tag, parts: &[AnyRef<'_>]) -> Option<Vec<u8>> {
    let parts = parts.iter().map(Encode::to_der).collect::<Result<Vec<_>, _>>().ok()?;
    AnyRef::new(tag, &parts.concat()).ok()?.to_der().ok()
}
