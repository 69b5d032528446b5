//! Where a JWKS is read from. Everything here blocks, so it is not for shards.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use corelane_config::{JwksSettings, Location, http};
use corelane_sasl::oauth::KeySet;
use ureq::Agent;

/// One attempt to read it, all in all (jose4j: 20 s to connect, and as much to read).
const ATTEMPT_MAX: Duration = Duration::from_secs(20);
/// No JWKS is larger, or somebody named the wrong place.
const JWKS_MAX: u64 = 1 << 20;

pub enum Endpoint {
    File(PathBuf),
    Http { url: String, agent: Agent },
}

impl Endpoint {
    pub fn new(settings: &JwksSettings) -> Result<Endpoint, String> {
        let url = match &settings.endpoint {
            Location::File(path) => return Ok(Endpoint::File(path.clone())),
            Location::Http(url) => url.clone(),
        };
        let client = http::client_of(&url, settings.trust_store.as_ref())?.timeout_global(Some(ATTEMPT_MAX));
        Ok(Endpoint::Http { url, agent: client.build().into() })
    }

    pub fn read(&self) -> Result<KeySet, String> {
        let text = match self {
            Endpoint::File(path) => read_file(path).map_err(|e| e.to_string())?,
            Endpoint::Http { url, agent } => read_url(url, agent).map_err(|e| e.to_string())?,
        };
        KeySet::parse(&text).map_err(str::to_owned)
    }
}

/// What a file looks like: when it was written, and its size.
pub type Stamp = (SystemTime, u64);

pub fn stamp(path: &Path) -> Option<Stamp> {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}

fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    if std::fs::metadata(path)?.len() > JWKS_MAX {
        return Err(io::Error::other(format!("larger than {JWKS_MAX} bytes, which no JWKS is")));
    }
    std::fs::read(path)
}

fn read_url(url: &str, agent: &Agent) -> Result<Vec<u8>, ureq::Error> {
    let request = agent.get(url).header("accept", "application/json").header("cache-control", "no-cache");
    request.call()?.body_mut().with_config().limit(JWKS_MAX).read_to_vec()
}
