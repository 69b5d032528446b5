//! Clients that show a broker what is no certificate of theirs.

use crate::bystander::undisturbed;
use crate::tls;
use corelane_protocol::messages::ApiVersionsRequest;
use corelane_tests::broker::is_corelane;
use corelane_tests::connection::Connection;
use corelane_tests::scratch;
use corelane_tests::tls::Authority;
use rustls::client::ResolvesClientCert;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore, SignatureScheme};
use std::sync::Arc;

#[derive(Debug)]
struct Shows(Arc<CertifiedKey>);

impl ResolvesClientCert for Shows {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

#[test]
fn certificates_that_are_garbage_or_of_others_let_nobody_in() {
    if !is_corelane() {
        return;
    }
    let authority = Authority::make(&scratch::folder("tls-certificates"));
    let (alice, mallory) = (authority.cert(&["alice"]), authority.cert(&["mallory"]));
    let broker = tls::start(&authority, &[("ssl.client.auth", "required")]);
    let chain_of = |path| CertificateDer::from_pem_file(path).expect("a certificate").to_vec();
    let key_of = |path| {
        let key = PrivateKeyDer::from_pem_file(path).expect("a key");
        ring::sign::any_supported_type(&key).expect("a key")
    };
    let good = chain_of(&alice);
    let mut changed = good.clone();
    let last = changed.len() - 1;
    changed[last] ^= 1;
    let noise: Vec<u8> = (0..3000u32).map(|i| (i.wrapping_mul(2_246_822_519) >> 13) as u8).collect();
    let nested: Vec<u8> = [0x30, 0x84, 0x00, 0x00, 0x27, 0x10].repeat(1000);
    let chains: Vec<Vec<Vec<u8>>> = vec![
        vec![Vec::new()],
        vec![vec![0]],
        vec![noise.clone()],
        vec![vec![0x30, 0x84, 0xff, 0xff, 0xff, 0xff]],
        vec![nested],
        vec![good[..good.len() / 2].to_vec()],
        vec![changed],
        vec![noise; 15],
        vec![good.clone(), vec![0x30; 16_000]],
        // Of somebody else: the key does not go with it.
        vec![good],
    ];
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(authority.pem("ca")).expect("ca.pem")).expect("a root");
    undisturbed(&broker, |broker| {
        for (i, chain) in chains.iter().enumerate() {
            for version in [&TLS12, &TLS13] {
                let chain = chain.iter().map(|der| CertificateDer::from(der.clone())).collect();
                let shows = Arc::new(Shows(Arc::new(CertifiedKey::new(chain, key_of(&mallory)))));
                let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
                let builder = builder.with_protocol_versions(&[version]).expect("a version");
                let config = builder.with_root_certificates(roots.clone()).with_client_cert_resolver(shows);
                let served = Connection::open_tls(&tls::at(broker, 4), &Arc::new(config))
                    .and_then(|mut c| c.try_call(0, &ApiVersionsRequest::default()));
                assert!(served.is_err(), "chain {i}, {version:?}");
            }
        }
        let served = Connection::open_tls(&tls::at(broker, 4), &authority.client(Some(&alice), &[&TLS13]));
        assert_eq!(served.expect("a connection").call(0, &ApiVersionsRequest::default()).error_code, 0);
    });
}
