use super::*;
use rustls_pki_types::pem::PemObject;

const BROKER_P12: &[u8] = include_bytes!("../../tests/stores/broker.p12");
const BROKER_LEGACY: &[u8] = include_bytes!("../../tests/stores/broker-legacy.p12");
const BROKER_OPENSSL: &[u8] = include_bytes!("../../tests/stores/broker-openssl.p12");
const BROKER_JKS: &[u8] = include_bytes!("../../tests/stores/broker.jks");
const TRUST_P12: &[u8] = include_bytes!("../../tests/stores/trust.p12");
const TRUST_JKS: &[u8] = include_bytes!("../../tests/stores/trust.jks");
const UNMARKED: &[u8] = include_bytes!("../../tests/stores/unmarked.p12");

/// Each with the password of its key.
const BROKERS: [(&[u8], &str); 4] = [
    (BROKER_P12, "store-secret"),
    (BROKER_LEGACY, "store-secret"),
    (BROKER_OPENSSL, "store-secret"),
    (BROKER_JKS, "key-secret"),
];

type Read = Result<(Vec<CertificateDer<'static>>, Vec<u8>), Fault>;

fn identity(bytes: &[u8], store: &str, key: &str) -> Read {
    let identity = JavaStore::read(bytes, Some(&Password::new(store)))?.identity(Some(&Password::new(key)))?;
    Ok((identity.chain, identity.key.secret_der().to_vec()))
}

fn trusted(bytes: &[u8], password: Option<&str>) -> Result<Vec<CertificateDer<'static>>, Fault> {
    JavaStore::read(bytes, password.map(Password::new).as_ref())?.certificates()
}

#[test]
fn one_key_is_read_out_of_every_form() {
    let (chain, key) = identity(BROKER_P12, "store-secret", "store-secret").unwrap();
    assert_eq!(chain.len(), 2);
    for (bytes, password) in BROKERS {
        let (other, found) = identity(bytes, "store-secret", password).unwrap();
        assert_eq!(other, chain);
        assert!(key.starts_with(&[0x30]) && found.starts_with(&[0x30]));
        // OpenSSL writes the public half, too.
        assert!(found == key || bytes == BROKER_OPENSSL);
    }
    for (bytes, password) in [(TRUST_JKS, None), (TRUST_JKS, Some("store-secret")), (TRUST_P12, Some("store-secret"))] {
        assert_eq!(trusted(bytes, password).unwrap(), chain[1..]);
    }
    // As in Java who has a certificate's key trusts it.
    assert_eq!(trusted(BROKER_JKS, None).unwrap(), chain[..1]);
}

#[test]
fn a_key_is_such_that_tls_takes_it() {
    use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
    let folder = tempfile::tempdir().unwrap();
    for (bytes, password) in BROKERS {
        let file = folder.path().join("store");
        std::fs::write(&file, bytes).unwrap();
        let store = Store::Java(file, Some(Password::new("store-secret")));
        let identity = store.identity(Some(&Password::new(password))).unwrap();
        let random = ring::rand::SystemRandom::new();
        EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, identity.key.secret_der(), &random).unwrap();
    }
}

#[test]
fn a_fault_says_which_password_and_which_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("store");
    let read = |bytes: &[u8], store: &str, key: Option<&str>| {
        std::fs::write(&file, bytes).unwrap();
        let store = Store::Java(file.clone(), Some(Password::new(store)));
        let key_store = store.identity(key.map(Password::new).as_ref()).map(|_| ()).unwrap_err();
        (key_store, store.certificates().map(|_| ()))
    };
    for bytes in BROKERS.map(|(bytes, _)| bytes) {
        let (key_store, trust_store) = read(bytes, "wrong-secret", None);
        for (told, role, prefix) in
            [(key_store, "key", "ssl.keystore"), (trust_store.unwrap_err(), "trust", "ssl.truststore")]
        {
            let file = file.display();
            let why = format!("{prefix}.password is not its password, or it is damaged");
            assert_eq!(told, format!("the {role} store {file} ({prefix}.location): {why}"));
        }
        let (told, _) = read(bytes, "store-secret", Some("wrong-secret"));
        assert!(told.ends_with("ssl.key.password is not that of its private key"), "{told}");
    }
    let (missing, _) = read(BROKER_JKS, "store-secret", None);
    assert!(missing.ends_with("ssl.key.password is needed"), "{missing}");
    let of_trust = |fault| told(fault, "ssl.truststore.password", false);
    let encrypted = of_trust(trusted(TRUST_P12, None).unwrap_err());
    assert_eq!(encrypted, "its certificates are encrypted: ssl.truststore.password is needed");
    assert!(of_trust(trusted(UNMARKED, Some("store-secret")).unwrap_err()).contains("no certificate in it to trust"));
    for (bytes, why) in [
        (&b"-----BEGIN PRIVATE KEY-----"[..], "PEM"),
        (b"\xce\xce\xce\xce\0", "JCEKS"),
        (b"not at all", "neither"),
        (b"", "neither"),
        (TRUST_JKS, "no private key"),
    ] {
        let (told, _) = read(bytes, "store-secret", None);
        assert!(told.contains(why), "{told}");
    }
    let missing = Store::Java(folder.path().join("none"), None).certificates().unwrap_err();
    assert!(missing.contains("none (ssl.truststore.location): No such file"), "{missing}");
}

/// Whoever reads it: no panic, and nothing but what was written.
#[test]
fn damage_is_refused() {
    let mut seen = 0;
    for (bytes, password) in BROKERS {
        let whole = identity(bytes, "store-secret", password).unwrap();
        let check = |copy: &[u8]| {
            let found = identity(copy, "store-secret", password);
            assert!(found.as_ref().map_or(true, |found| *found == whole), "{found:?}");
            // Nothing is checked first, so more of it is read.
            let _ = trusted(copy, None);
        };
        for size in 0..bytes.len() {
            identity(&bytes[..size], "store-secret", password).unwrap_err();
            check(&bytes[..size]);
        }
        for bit in 0..bytes.len() * 8 {
            let mut copy = bytes.to_vec();
            copy[bit / 8] ^= 1 << (bit % 8);
            check(&copy);
            seen += 1;
        }
    }
    assert!(seen > 30_000, "{seen}");
}

/// Decrypts garbage, which no check of the whole has kept out.
#[test]
fn damage_under_no_checksum_is_refused() {
    for (bytes, password) in BROKERS.map(|(bytes, key)| (bytes, Password::new(key))) {
        for bit in 0..bytes.len() * 8 {
            let mut copy = bytes.to_vec();
            copy[bit / 8] ^= 1 << (bit % 8);
            if let Ok(store) = JavaStore::read(&copy, None) {
                let _ = store.identity(Some(&password));
            }
        }
    }
}

proptest::proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(head in 0..3usize, bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..300)) {
        let head: &[u8] = [&b""[..], &[0xfe, 0xed, 0xfe, 0xed, 0, 0, 0, 2], &[0x30, 0x82, 1, 0][..]][head];
        let copy = [head, &bytes].concat();
        let _ = (identity(&copy, "x", "x"), trusted(&copy, None), certificate::with_public_half(&copy, &bytes));
    }
}

#[test]
fn keys_that_are_not_served_are_told_by_their_kind() {
    let kind = |pem: &str, rsa_bits_max| {
        let certificate = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
        unserved_key(&certificate, rsa_bits_max)
    };
    let ed448 = include_str!("../../tests/stores/ed448.pem");
    let p521 = include_str!("../../tests/stores/p521.pem");
    let rsa = include_str!("../../tests/stores/rsa2048.pem");
    assert_eq!(kind(ed448, 4096).unwrap(), "Ed448");
    assert_eq!(kind(p521, 4096).unwrap(), "ECDSA of the curve 1.3.132.0.35");
    assert_eq!(kind(rsa, 2047).unwrap(), "RSA of 2048 bits");
    assert_eq!(kind(rsa, 2048), None);
    // Of P-256.
    let (chain, _) = identity(BROKER_P12, "store-secret", "store-secret").unwrap();
    assert_eq!(chain.iter().find_map(|certificate| unserved_key(certificate, 4096)), None);
    assert_eq!(unserved_key(b"no certificate", 4096), None);
}
