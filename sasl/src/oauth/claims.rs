//! What the claims of a token must be (Kafka's `BrokerJwtValidator` and jose4j's validators).

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::key_set::KeySet;
use super::token::{self, Unverified};
use crate::exchange::Identity;

/// What a broker expects of tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    /// A token is for one of these; where there is none, for nobody in particular (it has no `aud`).
    pub audience: Vec<String>,
    /// `None`: anybody's, and nobody's.
    pub issuer: Option<String>,
    /// Seconds by which the clocks may differ.
    pub clock_skew_s: i64,
    /// The claims that name the user, and what he may do.
    pub subject_claim: String,
    pub scope_claim: String,
}

struct Claims(Map<String, Value>);

impl Claims {
    fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    fn text(&self, name: &str) -> Result<Option<&str>, Unverified> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(Unverified::refused(format!("its claim {name} is no text"))),
        }
    }

    /// Seconds since 1970; what comes after the point does not count.
    fn date(&self, name: &str) -> Result<Option<i64>, Unverified> {
        let Some(value) = self.get(name) else { return Ok(None) };
        // Above, a conversion to milliseconds would overflow.
        const MAX: i64 = i64::MAX / 1000;
        let seconds = value.as_i64().or_else(|| value.as_f64().map(|seconds| seconds as i64));
        let seconds = seconds.filter(|seconds| (-MAX..=MAX).contains(seconds));
        seconds.map(Some).ok_or_else(|| Unverified::refused(format!("its claim {name} is no date")))
    }

    fn is_for(&self, expected: &[String]) -> Result<bool, Unverified> {
        let malformed = || Unverified::refused("its claim aud is neither a text nor a list of texts");
        let all: Vec<&str> = match self.get("aud") {
            None => return Ok(expected.is_empty()),
            Some(Value::String(one)) => vec![one],
            Some(Value::Array(all)) => all.iter().map(Value::as_str).collect::<Option<_>>().ok_or_else(malformed)?,
            Some(_) => return Err(malformed()),
        };
        Ok(all.iter().any(|one| expected.iter().any(|expected| expected == one)))
    }

    /// What a claim says the token is good for is not used, but it must make sense.
    fn check_scopes(&self, claim: &str) -> Result<(), Unverified> {
        let all = match self.get(claim) {
            Some(one @ Value::String(_)) => std::slice::from_ref(one),
            Some(Value::Array(all)) => all,
            _ => return Ok(()),
        };
        let mut seen = BTreeSet::new();
        let distinct = |scope: &Value| trimmed(scope.as_str()?).map(str::to_owned).filter(|s| seen.insert(s.clone()));
        match all.iter().map(distinct).all(|scope| scope.is_some()) {
            true => Ok(()),
            false => Err(Unverified::refused(format!("its claim {claim} has something empty or twice"))),
        }
    }
}

/// As Java trims; `None`: nothing is left.
fn trimmed(text: &str) -> Option<&str> {
    Some(text.trim_matches(|c| c <= ' ')).filter(|text| !text.is_empty())
}

impl Expected {
    /// Who the token says its bearer is.
    pub fn verify(&self, token: &str, keys: &KeySet, now_ms: i64) -> Result<Identity, Unverified> {
        let claims = Claims(token::claims(token, keys)?);
        let refuse = |why: &str| Err(Unverified::refused(why));
        if !claims.is_for(&self.audience)? {
            return refuse("its audience is another");
        }
        let issuer = claims.text("iss")?;
        if self.issuer.as_deref().is_some_and(|expected| issuer != Some(expected)) {
            return refuse("its issuer is another");
        }
        let Some(expires) = claims.date("exp")? else { return refuse("it has no claim exp") };
        let Some(issued) = claims.date("iat")? else { return refuse("it has no claim iat") };
        let begins = claims.date("nbf")?;
        let now = now_ms.div_euclid(1000);
        if now.saturating_sub(self.clock_skew_s) >= expires {
            return refuse("it has expired");
        }
        if begins.is_some_and(|begins| now.saturating_add(self.clock_skew_s) < begins) {
            return refuse("it is not valid yet");
        }
        if issued < 0 || expires < issued.max(0) || begins.is_some_and(|begins| expires < begins) {
            return refuse("its dates contradict each other");
        }
        // Texts, where they are there at all.
        claims.text("sub")?;
        claims.text("jti")?;
        claims.check_scopes(&self.scope_claim)?;
        let claim = &self.subject_claim;
        let user = claims.text(claim)?.and_then(trimmed);
        let user = user.ok_or_else(|| Unverified::refused(format!("its claim {claim} names nobody")))?;
        Ok(Identity { expires_ms: Some(expires.saturating_mul(1000)), ..Identity::user(user) })
    }
}
