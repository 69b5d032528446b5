//! Asking those for something whom a property names by a URL. Whoever does so waits: it is not for shards.

use crate::stores::Store;
use rustls::crypto::ring;
use std::sync::Arc;
use ureq::Agent;
use ureq::config::ConfigBuilder;
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::typestate::AgentScope;

/// The beginning of a client of this URL. `trust_store`: certificates that those of the URL must go back to; `None`: those that this
/// machine trusts.
pub fn client_of(url: &str, trust_store: Option<&Store>) -> Result<ConfigBuilder<AgentScope>, String> {
    let is_https = url.get(..6).is_some_and(|scheme| scheme.eq_ignore_ascii_case("https:"));
    // As in Java a redirection stays within the protocol.
    let config = Agent::config_builder().https_only(is_https);
    if !is_https {
        return Ok(config);
    }
    let roots = RootCerts::new_with_certs(&roots(trust_store)?);
    let provider = Arc::new(ring::default_provider());
    let tls = TlsConfig::builder().root_certs(roots).unversioned_rustls_crypto_provider(provider);
    Ok(config.tls_config(tls.build()))
}

fn roots(trust_store: Option<&Store>) -> Result<Vec<Certificate<'static>>, String> {
    let certificates = match trust_store {
        Some(store) => store.certificates()?,
        None => match rustls_native_certs::load_native_certs().certs {
            none if none.is_empty() => {
                return Err("this machine has no certificates of authorities (SSL_CERT_FILE)".to_owned());
            }
            some => some,
        },
    };
    Ok(certificates.iter().map(|certificate| Certificate::from_der(certificate).to_owned()).collect())
}
