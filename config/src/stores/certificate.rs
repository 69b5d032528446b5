//! What a key and its certificates say of one another.

use super::asn1::{context, oid, only, sequence};
use super::java::Fault;
use pkcs8::der::asn1::{AnyRef, ObjectIdentifier};
use pkcs8::der::{Encode, Tag, Tagged};

const EC_PUBLIC_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");
const ED448: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.113");
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const P384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
/// Bits of RSA that the crypto library takes at least.
const RSA_BITS_MIN: usize = 2048;

/// Parts of a certificate, as they are encoded.
pub struct Parts {
    pub issuer: Vec<u8>,
    pub subject: Vec<u8>,
    /// What it is a key of.
    algorithm: Vec<u8>,
    /// A bit string.
    public_key: Vec<u8>,
}

pub fn parts(certificate: &[u8]) -> Result<Parts, Fault> {
    let body = sequence(sequence(Some(&only(certificate)?))?.first())?;
    let has_version = body.first().is_some_and(|first| first.tag() == context(0, true));
    // The serial number and the algorithm of the signature come first.
    let part = |at: usize| body.get(at + usize::from(has_version)).ok_or(Fault::Damaged);
    let key = sequence(Some(part(5)?))?;
    let of_key = |at: usize| Ok::<_, Fault>(key.get(at).ok_or(Fault::Damaged)?.to_der()?);
    Ok(Parts { issuer: part(2)?.to_der()?, subject: part(4)?.to_der()?, algorithm: of_key(0)?, public_key: of_key(1)? })
}

/// The kind of a certificate's key, where it is none that the crypto library has; of RSA it has so many bits at most.
pub fn unserved_key(certificate: &[u8], rsa_bits_max: usize) -> Option<String> {
    let parts = parts(certificate).ok()?;
    let algorithm = sequence(Some(&only(&parts.algorithm).ok()?)).ok()?;
    match oid(algorithm.first()).ok()? {
        ED25519 => None,
        ED448 => Some("Ed448".to_owned()),
        EC_PUBLIC_KEY => match oid(algorithm.get(1)) {
            Ok(P256 | P384) => None,
            Ok(other) => Some(format!("ECDSA of the curve {other}")),
            Err(_) => Some("ECDSA of a curve without a name".to_owned()),
        },
        RSA => {
            let bits = rsa_bits(&parts.public_key).ok()?;
            (!(RSA_BITS_MIN..=rsa_bits_max).contains(&bits)).then(|| format!("RSA of {bits} bits"))
        }
        other => Some(format!("of the algorithm {other}")),
    }
}

/// The length of the modulus.
fn rsa_bits(public_key: &[u8]) -> Result<usize, Fault> {
    let bits = only(public_key)?;
    // A number of unused bits comes first.
    let key = bits.value().split_first().ok_or(Fault::Damaged)?.1;
    let numbers = sequence(Some(&only(key)?))?;
    let modulus = numbers.first().ok_or(Fault::Damaged)?.value();
    let modulus: &[u8] = modulus.strip_prefix(&[0]).unwrap_or(modulus);
    Ok(modulus.len() * 8 - modulus.first().map_or(0, |first| first.leading_zeros() as usize))
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
