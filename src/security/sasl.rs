//! SASL of one listener: what its clients may show, and users as strangers see them.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use corelane_config::SaslSettings;
use corelane_sasl::plain::Passwords;
use corelane_sasl::scram::Decoys;
use corelane_sasl::{Identity, Mechanism};

use super::oauth::OAuthContext;

/// Those of all listeners and shards, or two of them would tell who is not there.
pub static DECOYS: LazyLock<Decoys> = LazyLock::new(|| Decoys::new(&rand::random()));

#[derive(Debug)]
pub struct SaslContext {
    pub mechanisms: Vec<Mechanism>,
    /// Bytes of a frame before somebody has got in.
    pub max_receive_bytes: usize,
    pub passwords: Passwords,
    oauth: Option<OAuthContext>,
    sessions_ms: BTreeMap<Mechanism, i64>,
}

impl SaslContext {
    /// Reads the keys of tokens, so not on a shard.
    pub fn open(settings: &SaslSettings) -> Result<SaslContext, String> {
        let named = |name: &str| Mechanism::named(name);
        let users = settings.plain_users.iter().map(|(name, password)| (name.as_str(), password.reveal()));
        Ok(SaslContext {
            mechanisms: settings.mechanisms.iter().filter_map(|m| named(m.name)).collect(),
            max_receive_bytes: settings.max_receive_bytes.max(0) as usize,
            passwords: Passwords::new(&rand::random(), users),
            oauth: settings.oauth.as_ref().map(OAuthContext::open).transpose()?,
            sessions_ms: settings.mechanisms.iter().filter_map(|m| Some((named(m.name)?, m.session_ms?))).collect(),
        })
    }

    /// Who a token says that its bearer is, or why it is not believed.
    pub fn bearer(&self, token: &str, now_ms: i64) -> Result<Identity, String> {
        match &self.oauth {
            Some(oauth) => oauth.verify(token, now_ms),
            None => Err("the listener takes no tokens".to_owned()),
        }
    }

    /// How long somebody may stay before he authenticates again.
    pub fn session_ms(&self, mechanism: Mechanism) -> Option<i64> {
        self.sessions_ms.get(&mechanism).copied()
    }
}

#[cfg(test)]
mod tests {
    use corelane_config::SASL_MECHANISMS;
    use corelane_sasl::Mechanism;

    #[test]
    fn what_may_be_configured_is_there() {
        assert_eq!(SASL_MECHANISMS, Mechanism::ALL.map(Mechanism::name));
    }
}
