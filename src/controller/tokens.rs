//! Delegation tokens, as the controller keeps them (KIP-48, KIP-373; Kafka: `DelegationTokenControlManager`).

use std::rc::Rc;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use core_pinning::task::{Queue, Task, spawn};
use core_pinning::time::{sleep, wall_ms};
use corelane_protocol::ErrorCode;
use corelane_sasl::scram::{Credential, Hash};
use corelane_sasl::{TokenHmac, TokenKey};

use super::image::ClusterImage;
use super::records::MetadataRecord;
use super::requests::{ask, new_uuid};
use super::{AT_ONCE, Decision, Refused};
use crate::security::Principal;
use crate::shard::Shard;

/// Tokens that one decision takes away because their time is over (Kafka: `MAX_RECORDS_PER_EXPIRATION`).
const SWEPT_AT_ONCE: usize = 1000;

/// What is known of a token, but for its HMAC, which is in no record and no log. Times are milliseconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    pub id: String,
    pub owner: Principal,
    /// Who asked for it.
    pub requester: Principal,
    /// Who may renew it, besides its owner.
    pub renewers: Vec<Principal>,
    pub issued_ms: i64,
    /// Unless it is renewed.
    pub expires_ms: i64,
    /// No renewal goes beyond.
    pub max_ms: i64,
}

impl Token {
    pub fn is_past(&self, now: i64) -> bool {
        self.max_ms < now || self.expires_ms < now
    }

    fn may_be_renewed_by(&self, who: &Principal) -> bool {
        self.owner == *who || self.renewers.contains(who)
    }

    pub fn concerns(&self, who: &Principal) -> bool {
        self.requester == *who || self.may_be_renewed_by(who)
    }

    /// Whether its record can be written: a principal is one text there.
    fn fits(&self) -> bool {
        let text = |p: &Principal| p.kind.len() + 1 + p.name.len();
        [&self.owner, &self.requester].into_iter().chain(&self.renewers).all(|p| text(p) <= i16::MAX as usize)
    }
}

/// What follows from an id and the cluster's key, made at first need: a credential takes milliseconds.
#[derive(Debug, Default)]
struct Secrets {
    hmac: OnceLock<TokenHmac>,
    sha256: OnceLock<Arc<Credential>>,
    sha512: OnceLock<Arc<Credential>>,
}

#[derive(Clone, Debug)]
pub struct KeptToken {
    pub token: Arc<Token>,
    secrets: Arc<Secrets>,
}

impl KeptToken {
    pub fn hmac(&self, key: &TokenKey) -> TokenHmac {
        *self.secrets.hmac.get_or_init(|| key.hmac(&self.token.id))
    }

    /// `salt`: the same whenever it is asked for.
    pub fn credential(&self, key: &TokenKey, hash: Hash, salt: Vec<u8>) -> Arc<Credential> {
        let made = match hash {
            Hash::Sha256 => &self.secrets.sha256,
            Hash::Sha512 => &self.secrets.sha512,
        };
        // Two shards may both make it; neither waits for the other.
        let make = || Arc::new(self.hmac(key).credential(hash, salt));
        made.get().cloned().unwrap_or_else(|| {
            let credential = make();
            let _ = made.set(credential.clone());
            credential
        })
    }
}

/// The tokens of a cluster, by their ids.
#[derive(Clone, Debug, Default)]
pub struct Tokens(imbl::OrdMap<String, KeptToken>);

impl Tokens {
    pub fn get(&self, id: &str) -> Option<&KeptToken> {
        self.0.get(id)
    }

    pub fn iter(&self) -> impl Iterator<Item = &KeptToken> {
        self.0.values()
    }

    /// The one that has this HMAC.
    fn shown(&self, key: &TokenKey, hmac: &[u8]) -> Result<&Arc<Token>, Refused> {
        let found = self.iter().find(|kept| kept.hmac(key).is(hmac)).map(|kept| &kept.token);
        found.ok_or_else(|| refused(ErrorCode::DelegationTokenNotFound))
    }

    pub(super) fn set(&mut self, token: Token) {
        let secrets = self.get(&token.id).map(|before| before.secrets.clone()).unwrap_or_default();
        self.0.insert(token.id.clone(), KeptToken { token: Arc::new(token), secrets });
    }

    pub(super) fn remove(&mut self, id: &str) -> Result<(), String> {
        self.0.remove(id).map(drop).ok_or_else(|| format!("no token {id} to remove"))
    }
}

fn refused(code: ErrorCode) -> Refused {
    Refused::new(code, code.message())
}

fn key(shard: &Shard) -> Result<&TokenKey, Refused> {
    shard.config.token_key().ok_or_else(|| refused(ErrorCode::DelegationTokenAuthDisabled))
}

/// A period that a client asks for, up to the configured one, which is meant where it asks for none.
fn period(asked: i64, configured: i64) -> i64 {
    if asked > 0 { asked.min(configured) } else { configured }
}

pub struct CreateToken {
    pub owner: Principal,
    pub requester: Principal,
    pub renewers: Vec<Principal>,
    pub max_lifetime_ms: i64,
}

impl Decision for CreateToken {
    type Told = Token;

    fn plan(self, shard: &Shard, _: &ClusterImage) -> Result<(Vec<MetadataRecord>, Token), Refused> {
        key(shard)?;
        if self.renewers.len() > AT_ONCE {
            return Err(Refused::too_large());
        }
        let (settings, now) = (&shard.config.broker().tokens, wall_ms());
        let max_ms = now.saturating_add(period(self.max_lifetime_ms, settings.max_lifetime_ms));
        let token = Token {
            id: new_uuid().to_string(),
            owner: self.owner,
            requester: self.requester,
            renewers: self.renewers,
            issued_ms: now,
            expires_ms: max_ms.min(now.saturating_add(settings.expiry_ms)),
            max_ms,
        };
        if !token.fits() {
            return Err(refused(ErrorCode::UnknownServerError));
        }
        Ok((vec![MetadataRecord::Token(token.clone())], token))
    }
}

/// Puts the end of a token off.
pub struct RenewToken {
    pub hmac: Vec<u8>,
    pub by: Principal,
    pub period_ms: i64,
}

impl Decision for RenewToken {
    type Told = Token;

    fn plan(self, shard: &Shard, image: &ClusterImage) -> Result<(Vec<MetadataRecord>, Token), Refused> {
        let (token, now) = (image.tokens().shown(key(shard)?, &self.hmac)?, wall_ms());
        if token.is_past(now) {
            return Err(refused(ErrorCode::DelegationTokenExpired));
        }
        if !token.may_be_renewed_by(&self.by) {
            return Err(refused(ErrorCode::DelegationTokenOwnerMismatch));
        }
        let period = period(self.period_ms, shard.config.broker().tokens.expiry_ms);
        let renewed = Token { expires_ms: token.max_ms.min(now.saturating_add(period)), ..(**token).clone() };
        Ok((vec![MetadataRecord::Token(renewed.clone())], renewed))
    }
}

/// Sets the end of a token; a negative period takes it away at once.
pub struct ExpireToken {
    pub hmac: Vec<u8>,
    pub by: Principal,
    pub period_ms: i64,
}

impl Decision for ExpireToken {
    type Told = Token;

    fn plan(self, shard: &Shard, image: &ClusterImage) -> Result<(Vec<MetadataRecord>, Token), Refused> {
        let (token, now) = (image.tokens().shown(key(shard)?, &self.hmac)?, wall_ms());
        if !token.may_be_renewed_by(&self.by) {
            return Err(refused(ErrorCode::DelegationTokenOwnerMismatch));
        }
        let until = |expires_ms| Token { expires_ms, ..(**token).clone() };
        if self.period_ms < 0 {
            return Ok((vec![MetadataRecord::RemoveToken { id: token.id.clone() }], until(now)));
        }
        if token.is_past(now) {
            return Err(refused(ErrorCode::DelegationTokenExpired));
        }
        let ending = until(token.max_ms.min(now.saturating_add(self.period_ms)));
        Ok((vec![MetadataRecord::Token(ending.clone())], ending))
    }
}

/// Takes tokens away whose time is over; tells of them.
struct SweepTokens;

impl Decision for SweepTokens {
    type Told = Vec<Arc<Token>>;

    fn plan(self, _: &Shard, image: &ClusterImage) -> Result<(Vec<MetadataRecord>, Self::Told), Refused> {
        let now = wall_ms();
        let past = image.tokens().iter().filter(|kept| kept.token.is_past(now));
        let past: Vec<Arc<Token>> = past.take(SWEPT_AT_ONCE).map(|kept| kept.token.clone()).collect();
        let records = past.iter().map(|token| MetadataRecord::RemoveToken { id: token.id.clone() });
        Ok((records.collect(), past))
    }
}

/// Sweeps every `delegation.token.expiry.check.interval.ms` until it is cancelled.
pub fn sweep_in_background(shard: &Rc<Shard>) -> Task<()> {
    let shard = shard.clone();
    spawn(Queue::Background, "delegation tokens", async move {
        loop {
            let interval = shard.config.broker().tokens.expiry_check_interval_ms;
            sleep(Duration::from_millis(interval.max(1).unsigned_abs())).await;
            while sweep(&shard).await == SWEPT_AT_ONCE {}
        }
    })
}

async fn sweep(shard: &Rc<Shard>) -> usize {
    match ask(shard, SweepTokens).await {
        Ok(past) => {
            past.iter()
                .for_each(|token| tracing::info!(id = token.id, owner = %token.owner, "a delegation token is over"));
            past.len()
        }
        Err(refused) => {
            tracing::warn!(reason = refused.message, "delegation tokens that are over could not be taken away");
            0
        }
    }
}
