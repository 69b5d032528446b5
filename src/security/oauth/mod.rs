//! OAUTHBEARER of one listener: what its tokens must say, and the keys that they must be signed with.

mod endpoint;
mod key_source;

use std::sync::Arc;

use corelane_config::OAuthSettings;
use corelane_sasl::Identity;
use corelane_sasl::oauth::{Expected, Unverified};

use self::key_source::KeySource;

#[derive(Debug)]
pub struct OAuthContext {
    expected: Expected,
    keys: Arc<KeySource>,
}

impl OAuthContext {
    /// Reads the keys, so not on a shard.
    pub fn open(settings: &OAuthSettings) -> Result<OAuthContext, String> {
        let keys = KeySource::open(&settings.jwks)?;
        let expected = Expected {
            audience: settings.expected_audience.clone(),
            issuer: settings.expected_issuer.clone(),
            clock_skew_s: settings.clock_skew_s,
            subject_claim: settings.sub_claim.clone(),
            scope_claim: settings.scope_claim.clone(),
        };
        if expected.audience.is_empty() {
            tracing::warn!("sasl.oauthbearer.expected.audience is not set: tokens without an audience are taken");
        }
        if expected.issuer.is_none() {
            tracing::warn!("sasl.oauthbearer.expected.issuer is not set: tokens of any issuer are taken");
        }
        Ok(OAuthContext { expected, keys })
    }

    /// Who a token says that its bearer is, or why it is not believed.
    pub fn verify(&self, token: &str, now_ms: i64) -> Result<Identity, String> {
        self.expected.verify(token, &self.keys.current(), now_ms).map_err(|unverified| {
            if let Unverified::UnknownKey { id: Some(id) } = &unverified {
                self.keys.is_missing(id);
            }
            unverified.to_string()
        })
    }
}
