//! Private keys and certificates out of the text of PEM.

use super::Identity;
use crate::tls::Password;
use pkcs8::EncryptedPrivateKeyInfoRef;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

pub fn identity(pem: &[u8], password: Option<&Password>) -> Result<Identity, String> {
    Ok(Identity { chain: certificates(pem)?, key: private_key(pem, password, "ssl.key.password")? })
}

/// The private key in PEM text; `property` is where the password is from. Errors tell nothing of what is in it.
pub fn private_key(pem: &[u8], password: Option<&Password>, property: &str) -> Result<PrivateKeyDer<'static>, String> {
    let encrypted = encrypted_key(pem)?;
    match (encrypted, password) {
        (Some(der), Some(password)) => {
            let info = EncryptedPrivateKeyInfoRef::try_from(der.as_slice());
            let info = info.map_err(|_| "the encrypted private key is not in PKCS #8 form".to_owned())?;
            let plain = info.decrypt(password.reveal());
            let plain = plain.map_err(|_| format!("the private key cannot be decrypted: is {property} right?"))?;
            Ok(PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(plain.as_bytes().to_vec())))
        }
        (Some(_), None) => Err(format!("the private key is encrypted: {property} is needed")),
        (None, _) => PrivateKeyDer::from_pem_slice(pem).map_err(|_| "there is no private key in it".to_owned()),
    }
}

/// The certificates in PEM text, at least one.
pub fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let all = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
    let all = all.map_err(|_| "it is not PEM".to_owned())?;
    if all.is_empty() { Err("there is no certificate in it".to_owned()) } else { Ok(all) }
}

/// The first key that is encrypted in PKCS #8 form.
fn encrypted_key(pem: &[u8]) -> Result<Option<Vec<u8>>, String> {
    const BEGIN: &str = "-----BEGIN ENCRYPTED PRIVATE KEY-----";
    const END: &str = "-----END ENCRYPTED PRIVATE KEY-----";
    let text = String::from_utf8_lossy(pem);
    let Some((_, rest)) = text.split_once(BEGIN) else { return Ok(None) };
    let wrong = || "the encrypted private key is not PEM".to_owned();
    let (body, _) = rest.split_once(END).ok_or_else(wrong)?;
    // The same bytes under a label that the reader knows.
    let plain = format!("-----BEGIN PRIVATE KEY-----{body}-----END PRIVATE KEY-----\n");
    let der = PrivatePkcs8KeyDer::from_pem_slice(plain.as_bytes()).map_err(|_| wrong())?;
    Ok(Some(der.secret_pkcs8_der().to_vec()))
}
