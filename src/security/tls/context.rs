//! The TLS of one listener as it is in force: rustls' configuration, made anew when the files behind it change.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use corelane_config::stores::unserved_key;
use corelane_config::{ClientAuth, Store, TlsSettings};
use corelane_protocol::Str;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::CertificateDer;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig, SupportedCipherSuite, SupportedProtocolVersion, version};

use super::certificate::{alternative_names, subject};
use super::mapping::MappingRules;
use crate::security::Principal;

/// Bits of an RSA key that the crypto library signs with at most, and of one whose signatures it checks.
const OWN_RSA_BITS_MAX: usize = 4096;
const OTHER_RSA_BITS_MAX: usize = 8192;

/// Shared by all shards: asked once for each connection.
pub struct TlsContext {
    settings: TlsSettings,
    rules: MappingRules,
    current: Mutex<Current>,
}

struct Current {
    config: Arc<ServerConfig>,
    /// The broker's own certificate.
    certificate: CertificateDer<'static>,
    stamps: Vec<Stamp>,
}

/// What a file looked like when it was read: when it was written, and its size.
type Stamp = Option<(SystemTime, u64)>;

impl std::fmt::Debug for TlsContext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TlsContext").finish_non_exhaustive()
    }
}

impl TlsContext {
    /// Reads files, so not on a shard.
    pub fn load(settings: &TlsSettings) -> Result<TlsContext, String> {
        let rules = MappingRules::parse(&settings.mapping_rules);
        let rules = rules.map_err(|e| format!("ssl.principal.mapping.rules: {e}"))?;
        Ok(TlsContext { settings: settings.clone(), rules, current: Mutex::new(current(settings)?) })
    }

    /// For new connections.
    pub fn config(&self) -> Arc<ServerConfig> {
        self.lock().config.clone()
    }

    /// Takes what the files hold now, if they have changed; true: it has. Reads files, so not on a shard.
    pub fn reload(&self) -> Result<bool, String> {
        if stamps(&self.settings) == self.lock().stamps {
            return Ok(false);
        }
        let next = current(&self.settings)?;
        let mut present = self.lock();
        if let Err(why) = keeps_names(&present.certificate, &next.certificate) {
            // Once is enough to say so.
            present.stamps = next.stamps;
            return Err(why);
        }
        *present = next;
        Ok(true)
    }

    /// Whether the TLS of an open listener may give way to `next`.
    pub fn may_become(&self, next: &TlsContext) -> Result<(), String> {
        // One after the other: they may be the same.
        let (present, next) = (self.lock().certificate.clone(), next.lock().certificate.clone());
        keeps_names(&present, &next)
    }

    /// Who a client is by the certificates it has shown; `None`: no rule maps the name.
    pub fn principal(&self, shown: Option<&[CertificateDer<'_>]>) -> Option<Principal> {
        let Some(certificate) = shown.and_then(<[_]>::first) else { return Some(Principal::anonymous()) };
        let name = self.rules.name(&subject(certificate)?)?;
        Some(Principal::user(Str::from(name)))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn keeps_names(present: &CertificateDer<'_>, next: &CertificateDer<'_>) -> Result<(), String> {
    let names = |c: &CertificateDer<'_>| (subject(c), alternative_names(c).to_vec());
    match names(present) == names(next) {
        true => Ok(()),
        false => Err("the new certificate has other names (ssl.allow.dn.changes, ssl.allow.san.changes)".to_owned()),
    }
}

fn stamps(settings: &TlsSettings) -> Vec<Stamp> {
    let stamp = |store: &Store| {
        let metadata = std::fs::metadata(store.file()?).ok()?;
        Some((metadata.modified().ok()?, metadata.len()))
    };
    [Some(&settings.key_store), settings.trust_store.as_ref()].into_iter().flatten().map(stamp).collect()
}

fn current(settings: &TlsSettings) -> Result<Current, String> {
    let stamps = stamps(settings);
    let identity = settings.key_store.identity(settings.key_password.as_ref())?;
    let provider =
        Arc::new(CryptoProvider { cipher_suites: cipher_suites(&settings.cipher_suites)?, ..ring::default_provider() });
    let verifier = match (settings.client_auth, &settings.trust_store) {
        (ClientAuth::None, _) | (_, None) => WebPkiClientVerifier::no_client_auth(),
        (auth, Some(trusted)) => {
            let mut roots = RootCertStore::empty();
            for certificate in trusted.certificates()? {
                if let Some(kind) = unserved_key(&certificate, OTHER_RSA_BITS_MAX) {
                    let name = subject(&certificate).unwrap_or_default();
                    tracing::warn!(name, kind, "the trust store has a key that is not served: nobody is known by it");
                }
                roots.add(certificate).map_err(|e| format!("the trust store: {e}"))?;
            }
            let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
            let builder = if auth == ClientAuth::Requested { builder.allow_unauthenticated() } else { builder };
            builder.build().map_err(|e| format!("the trust store: {e}"))?
        }
    };
    let versions: Vec<&'static SupportedProtocolVersion> = settings.protocols.iter().map(|p| protocol(p)).collect();
    let builder = ServerConfig::builder_with_provider(provider).with_protocol_versions(&versions);
    let builder = builder.map_err(|e| format!("ssl.enabled.protocols and ssl.cipher.suites: {e}"))?;
    let certificate = identity.chain.first().cloned().ok_or("the key store: there is no certificate in it")?;
    if let Some(kind) = unserved_key(&certificate, OWN_RSA_BITS_MAX) {
        return Err(format!(
            "the key store: its key is {kind}, which is not served: there are RSA of 2048 to {OWN_RSA_BITS_MAX} bits, ECDSA of P-256 \
             and P-384, and Ed25519"
        ));
    }
    let config = builder.with_client_cert_verifier(verifier).with_single_cert(identity.chain, identity.key);
    let mut config = config.map_err(|e| format!("the key store: {e}"))?;
    // Who comes again shows its certificate again, and nothing of a connection outlives it.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Current { config: Arc::new(config), certificate, stamps })
}

fn protocol(name: &str) -> &'static SupportedProtocolVersion {
    if name == "TLSv1.2" { &version::TLS12 } else { &version::TLS13 }
}

/// Java's name of a cipher suite.
fn java_name(suite: &SupportedCipherSuite) -> String {
    format!("{:?}", suite.suite()).replacen("TLS13_", "TLS_", 1)
}

fn cipher_suites(named: &[String]) -> Result<Vec<SupportedCipherSuite>, String> {
    let all = ring::default_provider().cipher_suites;
    if named.is_empty() {
        return Ok(all);
    }
    let find = |name: &String| {
        all.iter().find(|s| java_name(s) == *name).copied().ok_or_else(|| {
            let known: Vec<String> = all.iter().map(java_name).collect();
            format!("ssl.cipher.suites: there is no {name}; there are {}", known.join(", "))
        })
    };
    named.iter().map(find).collect()
}
