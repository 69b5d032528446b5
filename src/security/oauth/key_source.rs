//! The keys of a JWKS as they are now: a thread of their own keeps up with its endpoint (Kafka's `RefreshingHttpsJwks`, `CachedFile`).
//!
//! | endpoint | is read |
//! |---|---|
//! | http, https | once before the broker serves; every `refresh.ms`; when a token names a key that is not there |
//! | file | once before the broker serves; when it has changed, which is looked for every second and when a key is not there |
//!
//! What strangers' tokens name may have an endpoint asked once a second, and once a minute for each name.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use corelane_config::JwksSettings;
use corelane_sasl::oauth::KeySet;

use super::endpoint::{Endpoint, Stamp, stamp};

/// How often a file is looked at.
const FILE_EVERY: Duration = Duration::from_secs(1);
/// What has been asked for at a token's wish is not asked for again for so long.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// Nor is it for the same key.
const SAME_KEY_AFTER: Duration = Duration::from_secs(60);
/// How many keys that are not there are remembered.
const MISSING_MAX: usize = 16;
/// So that no time overflows.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

#[derive(Debug)]
pub struct KeySource {
    settings: JwksSettings,
    keys: Arc<Current>,
    /// Names of keys that are not there. Its end ends the thread.
    missing: SyncSender<String>,
}

#[derive(Debug)]
struct Current(Mutex<Arc<KeySet>>);

impl Current {
    fn get(&self) -> Arc<KeySet> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, keys: KeySet) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
    }
}

/// Listeners of the same JWKS share it, and one that gets a new certificate keeps it.
static SOURCES: Mutex<Vec<Weak<KeySource>>> = Mutex::new(Vec::new());

impl KeySource {
    /// Waits until the keys are there: not on a shard.
    pub fn open(settings: &JwksSettings) -> Result<Arc<KeySource>, String> {
        let mut open = SOURCES.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|source| source.strong_count() > 0);
        let known = open.iter().filter_map(Weak::upgrade).find(|source| source.settings == *settings);
        if let Some(known) = known {
            return Ok(known);
        }
        let source = KeySource::start(settings).map_err(|e| format!("the JWKS at {}: {e}", settings.endpoint))?;
        let source = Arc::new(source);
        open.push(Arc::downgrade(&source));
        Ok(source)
    }

    fn start(settings: &JwksSettings) -> Result<KeySource, String> {
        let endpoint = Endpoint::new(settings)?;
        let before = match &endpoint {
            Endpoint::File(path) => stamp(path),
            Endpoint::Http { .. } => None,
        };
        let keys = endpoint.read()?;
        tell(settings, &keys);
        let keys = Arc::new(Current(Mutex::new(Arc::new(keys))));
        let (missing, asked) = mpsc::sync_channel(MISSING_MAX);
        let keeper = Keeper { settings: settings.clone(), endpoint, keys: keys.clone(), asked };
        let thread = std::thread::Builder::new().name("jwks".to_owned());
        thread.spawn(move || keeper.run(before)).map_err(|e| e.to_string())?;
        Ok(KeySource { settings: settings.clone(), keys, missing })
    }

    pub fn current(&self) -> Arc<KeySet> {
        self.keys.get()
    }

    /// A token says that it is signed with this key.
    pub fn is_missing(&self, id: &str) {
        // Who finds no room is not the only one who asks.
        let _ = self.missing.try_send(id.to_owned());
    }
}

/// Keys that are named one by one in the log.
const NAMED_MAX: usize = 16;

fn tell(settings: &JwksSettings, keys: &KeySet) {
    let endpoint = settings.endpoint.to_string();
    for unserved in keys.unserved().iter().take(NAMED_MAX) {
        let (kid, kind) = (unserved.id.as_deref().unwrap_or_default(), &unserved.kind);
        tracing::warn!(endpoint, kid, kind, "the JWKS has a key that is not served: no token of it is taken");
    }
    match keys.len() {
        0 => tracing::warn!(endpoint, "no key of the JWKS can have signed a token"),
        keys => tracing::info!(endpoint, keys, "the JWKS is read"),
    }
}

fn bounded(ms: u64) -> Duration {
    Duration::from_millis(ms).min(LONGEST)
}

/// What the thread has.
struct Keeper {
    settings: JwksSettings,
    endpoint: Endpoint,
    keys: Arc<Current>,
    asked: Receiver<String>,
}

impl Keeper {
    fn run(self, before: Option<Stamp>) {
        match &self.endpoint {
            Endpoint::File(path) => self.follow_file(path, before),
            Endpoint::Http { .. } => self.follow_url(),
        }
    }

    fn follow_file(&self, path: &Path, mut before: Option<Stamp>) {
        while !matches!(self.asked.recv_timeout(FILE_EVERY), Err(RecvTimeoutError::Disconnected)) {
            let present = stamp(path);
            if present != before {
                before = present;
                self.take(self.endpoint.read());
            }
        }
    }

    fn follow_url(&self) {
        let every = bounded(self.settings.refresh_ms);
        let mut missing = MissingKeys::default();
        let mut begun = Instant::now();
        let mut next = begun + every;
        // How long to wait after a failure, and until when to try again (Kafka's `Retry`).
        let mut retry = None;
        loop {
            let left = next.saturating_duration_since(Instant::now());
            if !left.is_zero() {
                match self.asked.recv_timeout(left) {
                    Ok(id) if missing.is_asked_for(&id, Instant::now()) => next = next.min(begun + AGAIN_AFTER),
                    Err(RecvTimeoutError::Disconnected) => return,
                    Ok(_) | Err(RecvTimeoutError::Timeout) => {}
                }
                continue;
            }
            begun = Instant::now();
            let first =
                || (bounded(self.settings.retry_backoff_ms), begun + bounded(self.settings.retry_backoff_max_ms));
            let (pause, ends) = retry.take().unwrap_or_else(first);
            let read = self.endpoint.read();
            let again = Instant::now() + pause;
            if read.is_err() && !pause.is_zero() && again <= ends {
                (next, retry) = (again, Some(((pause * 2).min(LONGEST), ends)));
            } else {
                self.take(read);
                next = begun + every;
            }
        }
    }

    fn take(&self, read: Result<KeySet, String>) {
        match read {
            Ok(keys) => {
                if keys != *self.keys.get() {
                    tell(&self.settings, &keys);
                    self.keys.set(keys);
                }
            }
            Err(error) => {
                let endpoint = self.settings.endpoint.to_string();
                tracing::warn!(endpoint, error, "the JWKS could not be read: the old keys stay");
            }
        }
    }
}

/// The keys that tokens have named and that were not there, the last one last.
#[derive(Default)]
struct MissingKeys {
    asked: VecDeque<(String, Instant)>,
}

impl MissingKeys {
    /// Whether the endpoint may have it by now.
    fn is_asked_for(&mut self, id: &str, now: Instant) -> bool {
        if let Some(at) = self.asked.iter().position(|(known, _)| *known == id) {
            if self.asked.get(at).is_some_and(|(_, since)| now < *since + SAME_KEY_AFTER) {
                return false;
            }
            self.asked.remove(at);
        } else if self.asked.len() == MISSING_MAX {
            self.asked.pop_front();
        }
        self.asked.push_back((id.to_owned(), now));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_is_not_there_is_asked_for_once_a_minute() {
        let (mut missing, begun) = (MissingKeys::default(), Instant::now());
        let after = |s: u64| begun + Duration::from_secs(s);
        assert!(missing.is_asked_for("a", begun));
        assert!(!missing.is_asked_for("a", after(59)));
        assert!(missing.is_asked_for("b", after(59)));
        assert!(missing.is_asked_for("a", after(60)));
        assert!(!missing.is_asked_for("a", after(61)));
        for n in 0..MISSING_MAX {
            assert!(missing.is_asked_for(&format!("c{n}"), after(62)));
        }
        assert_eq!(missing.asked.len(), MISSING_MAX);
        assert!(missing.is_asked_for("a", after(63)), "the oldest are forgotten");
    }
}
