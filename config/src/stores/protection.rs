//! What passwords hide in a store: by PKCS #5 (PBES2), by PKCS #12's own way, which Java had before 2021, and by Sun's in a JKS.

use super::asn1::{octets, oid, only, sequence};
use super::java::Fault;
use crate::tls::Password;
use cbc::Decryptor;
use cbc::cipher::block_padding::Pkcs7;
use cbc::cipher::{BlockCipherDecrypt, BlockModeDecrypt, KeyInit, KeyIvInit};
use des::TdesEde3;
use pkcs8::der::Encode;
use pkcs8::der::asn1::{AnyRef, ObjectIdentifier};
use pkcs8::pkcs5::{self, pbes2};
use rc2::Rc2;
use ring::digest::{self, Algorithm, Context, SHA1_FOR_LEGACY_USE_ONLY, SHA1_OUTPUT_LEN};

const JKS: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.42.2.17.1.1");
const TRIPLE_DES: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.12.1.3");
const RC2_128: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.12.1.5");
const RC2_40: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.12.1.6");
/// More rounds Java does not take, either.
const ROUNDS_MAX: u32 = 5_000_000;
/// Both ciphers are of blocks of this size.
const LEGACY_BLOCK: usize = 8;

/// Something that a password hides, and how.
pub struct Hidden {
    algorithm: ObjectIdentifier,
    /// DER, of which kind the algorithm says.
    parameters: Vec<u8>,
    bytes: Vec<u8>,
}

impl Hidden {
    /// `EncryptedPrivateKeyInfo` of PKCS #8.
    pub fn parse(der: &[u8]) -> Result<Hidden, Fault> {
        let fields = sequence(Some(&only(der)?))?;
        Hidden::new(fields.first(), octets(fields.get(1))?)
    }

    pub fn new(algorithm: Option<&AnyRef<'_>>, bytes: &[u8]) -> Result<Hidden, Fault> {
        let algorithm = sequence(algorithm)?;
        let parameters = algorithm.get(1).map(Encode::to_der).transpose()?.unwrap_or_default();
        Ok(Hidden { algorithm: oid(algorithm.first())?, parameters, bytes: bytes.to_vec() })
    }

    /// What was hidden; [`Fault::Password`] by any other password.
    pub fn found(&self, password: &Password) -> Result<Vec<u8>, Fault> {
        match self.algorithm {
            JKS => self.by_jks(password),
            pbes2::PBES2_OID => self.by_pbes2(password),
            TRIPLE_DES => self.by_pkcs12::<TdesEde3>(password, 24),
            RC2_128 => self.by_pkcs12::<Rc2>(password, 16),
            RC2_40 => self.by_pkcs12::<Rc2>(password, 5),
            other => Err(Fault::unknown(other)),
        }
    }

    fn by_pbes2(&self, password: &Password) -> Result<Vec<u8>, Fault> {
        let parameters: pbes2::Parameters = only(&self.parameters)?.decode_as()?;
        match &parameters.kdf {
            pbes2::Kdf::Pbkdf2(kdf) if kdf.iteration_count <= ROUNDS_MAX => {}
            pbes2::Kdf::Pbkdf2(_) => return Err(Fault::Damaged),
            other => return Err(Fault::unknown(other.oid())),
        }
        parameters.decrypt(password.reveal(), &self.bytes).map_err(|error| match error {
            pkcs5::Error::UnsupportedAlgorithm { oid } => Fault::unknown(oid),
            _ => Fault::Password,
        })
    }

    fn by_pkcs12<C: BlockCipherDecrypt + KeyInit>(&self, password: &Password, key_size: usize) -> Result<Vec<u8>, Fault>
    where
        Decryptor<C>: KeyIvInit,
    {
        let fields = sequence(Some(&only(&self.parameters)?))?;
        let (salt, rounds) = (octets(fields.first())?, rounds(fields.get(1))?);
        let derive = |purpose, size| derived(&SHA1_FOR_LEGACY_USE_ONLY, purpose, password, salt, rounds, size);
        let (key, iv) = (derive(Purpose::Key, key_size), derive(Purpose::Iv, LEGACY_BLOCK));
        let cipher = Decryptor::<C>::new_from_slices(&key, &iv).map_err(|_| Fault::Damaged)?;
        cipher.decrypt_padded_vec::<Pkcs7>(&self.bytes).map_err(|_| Fault::Password)
    }

    /// `KeyProtector`: a salt, the key under a pad that grows out of the salt and the password, and a digest of both.
    fn by_jks(&self, password: &Password) -> Result<Vec<u8>, Fault> {
        let (salt, rest) = self.bytes.split_first_chunk::<SHA1_OUTPUT_LEN>().ok_or(Fault::Damaged)?;
        let (cipher, check) = rest.split_last_chunk::<SHA1_OUTPUT_LEN>().ok_or(Fault::Damaged)?;
        let password = utf16(password);
        let sum = |bytes: &[u8]| digest::digest(&SHA1_FOR_LEGACY_USE_ONLY, &[&password, bytes].concat());
        let mut pad = sum(salt);
        let mut plain = Vec::with_capacity(cipher.len());
        for block in cipher.chunks(SHA1_OUTPUT_LEN) {
            plain.extend(block.iter().zip(pad.as_ref()).map(|(hidden, pad)| hidden ^ pad));
            pad = sum(pad.as_ref());
        }
        if sum(&plain).as_ref() == check { Ok(plain) } else { Err(Fault::Password) }
    }
}

/// What is derived from a password, and its number (RFC 7292, B.3).
#[derive(Clone, Copy)]
pub enum Purpose {
    Key = 1,
    Iv = 2,
    Mac = 3,
}

/// How often a digest is taken of its own result.
pub fn rounds(element: Option<&AnyRef<'_>>) -> Result<u32, Fault> {
    let count: u32 = element.map_or(Ok(1), |element| element.decode_as())?;
    if count > ROUNDS_MAX { Err(Fault::Damaged) } else { Ok(count) }
}

/// `size` bytes made of a password (RFC 7292, B.2).
pub fn derived(
    algorithm: &'static Algorithm,
    purpose: Purpose,
    password: &Password,
    salt: &[u8],
    rounds: u32,
    size: usize,
) -> Vec<u8> {
    let block = algorithm.block_len();
    let password = [utf16(password), vec![0; 2]].concat();
    let blocks = |bytes: &[u8]| {
        let filled = bytes.len().next_multiple_of(block);
        bytes.iter().copied().cycle().take(filled).collect::<Vec<u8>>()
    };
    let mut input = [blocks(salt), blocks(&password)].concat();
    let mut out = Vec::new();
    while out.len() < size {
        let mut sum = Context::new(algorithm);
        sum.update(&vec![purpose as u8; block]);
        sum.update(&input);
        let mut taken = sum.finish();
        for _ in 1..rounds {
            taken = digest::digest(algorithm, taken.as_ref());
        }
        out.extend_from_slice(taken.as_ref());
        let more: Vec<u8> = taken.as_ref().iter().copied().cycle().take(block).collect();
        for part in input.chunks_exact_mut(block) {
            add(part, &more);
        }
    }
    out.truncate(size);
    out
}

/// Adds `more` and one to a number of as many bytes, whatever goes over its end.
fn add(number: &mut [u8], more: &[u8]) {
    let mut carry = 1;
    for (digit, more) in number.iter_mut().zip(more).rev() {
        let [low, high] = (u16::from(*digit) + u16::from(*more) + carry).to_le_bytes();
        *digit = low;
        carry = u16::from(high);
    }
}

/// Two bytes for each letter, as Java has passwords.
pub fn utf16(password: &Password) -> Vec<u8> {
    password.reveal().encode_utf16().flat_map(u16::to_be_bytes).collect()
}
