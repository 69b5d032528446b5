//! Where settings come from: flags over environment variables over the file over the defaults.

use crate::broker::BrokerConfig;
use crate::error::{ConfigError, LoadError};
use crate::file;
use crate::fit::check_broker;
use crate::layers::{BrokerProperties, Overrides};
use crate::listeners::check_use;
use crate::nearest::nearest;
use crate::of_listener::{of_one_listener, refusal};
use crate::table::{Check, Kind, Scope, Setting};
use crate::units;
use crate::value::{Value, permit};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// An option with a short name, and the property it stands for.
pub(crate) struct Key {
    /// In the file.
    pub file: &'static str,
    /// As a flag of `corelane start`.
    pub flag: &'static str,
    /// In the environment.
    pub environment: &'static str,
    /// The broker property it sets; `None`: logging, which is not the broker's.
    pub property: Option<&'static str>,
}

pub(crate) const KEYS: &[Key] = &[
    Key { file: "data_dir", flag: "--data-dir", environment: "CORELANE_DATA_DIR", property: Some("log.dirs") },
    Key { file: "listen", flag: "--listen", environment: "CORELANE_LISTEN", property: Some("listeners") },
    Key { file: "cores", flag: "--cores", environment: "CORELANE_CORES", property: Some("shard.cores") },
    Key { file: "node_id", flag: "--node-id", environment: "CORELANE_NODE_ID", property: Some("node.id") },
    Key {
        file: "advertise",
        flag: "--advertise",
        environment: "CORELANE_ADVERTISE",
        property: Some("listeners.advertise"),
    },
    Key {
        file: "allow_unauthenticated",
        flag: "--allow-unauthenticated",
        environment: "CORELANE_ALLOW_UNAUTHENTICATED",
        property: Some("listeners.allow.unauthenticated"),
    },
    Key {
        file: "scram_users",
        flag: "--scram-users",
        environment: "CORELANE_SCRAM_USERS",
        property: Some("scram.users.file"),
    },
    Key { file: "memory", flag: "--memory", environment: "CORELANE_MEMORY", property: Some("memory.bytes") },
    Key { file: "log_format", flag: "--log-format", environment: "CORELANE_LOG_FORMAT", property: None },
    Key { file: "log_level", flag: "--log-level", environment: "CORELANE_LOG_LEVEL", property: None },
];

/// Any property: `CORELANE_KAFKA_LOG_RETENTION_MS` is `log.retention.ms`; two underscores stand for one, and three for a dash.
const PROPERTY_PREFIX: &str = "CORELANE_KAFKA_";

/// Variables of the same prefix that are not about a broker's settings: the command line's and the tests' own.
const OTHER: &[&str] = &[
    "CORELANE_CONFIG",
    "CORELANE_BOOTSTRAP",
    "CORELANE_COMMAND_CONFIG",
    "CORELANE_USER",
    "CORELANE_PASSWORD",
    "CORELANE_SASL_MECHANISM",
    "CORELANE_TLS_CA",
    "CORELANE_TLS_CERT",
    "CORELANE_BIN",
    "CORELANE_CACHE",
    "CORELANE_LONG",
    "CORELANE_WRITE_BATCHES",
];
/// `CORELANE_SERVICE_HOST` and `CORELANE_PORT_9092_TCP` are what Kubernetes gives to all who live beside a service `corelane`.
const OTHER_PREFIXES: &[&str] =
    &["CORELANE_TEST", "CORELANE_BENCH", "CORELANE_SCHEMA", "CORELANE_SERVICE_", "CORELANE_PORT"];

/// Where to look.
#[derive(Clone, Debug, Default)]
pub struct LoadOptions {
    pub file: Option<PathBuf>,
    /// The process environment; only names that begin with `CORELANE_` matter.
    pub environment: Vec<(String, String)>,
    /// Flags with a short name, such as `("--listen", "0.0.0.0:9092")`.
    pub flags: Vec<(String, String)>,
    /// `--set NAME=VALUE`.
    pub set: Vec<String>,
}

/// Every environment variable with a name of its own, and the flag it stands for.
pub fn environment_names() -> impl Iterator<Item = (&'static str, &'static str)> {
    KEYS.iter().map(|k| (k.environment, k.flag))
}

/// One setting as it was given.
#[derive(Clone, Debug)]
pub(crate) struct Given {
    /// A property, or the file key of an option that has none.
    pub name: String,
    pub value: String,
    /// `file:line`, variable or flag.
    pub place: String,
    /// Given by a short name, whose values have a form of their own (sizes, addresses).
    short: bool,
}

impl Given {
    /// `key`: the file name of one of [`KEYS`].
    pub fn option(key: &str, value: String, place: String) -> Given {
        let property = KEYS.iter().find(|k| k.file == key).and_then(|k| k.property).unwrap_or(key);
        Given { name: property.to_owned(), value, place, short: true }
    }

    pub fn property(name: String, value: String, place: String) -> Given {
        // The older names stand for the newer ones, so that a nearer layer wins whichever it uses.
        let name = match name.as_str() {
            "log.dir" => "log.dirs".to_owned(),
            "broker.id" => "node.id".to_owned(),
            _ => name,
        };
        Given { name, value, place, short: false }
    }

    fn refuse(&self, message: impl Into<String>) -> LoadError {
        LoadError::Refused { place: self.place.clone(), message: message.into() }
    }
}

impl LoadOptions {
    /// Reads every source, refuses what is unknown or wrong, and types the rest.
    pub fn load(&self) -> Result<BrokerConfig, LoadError> {
        let file = match &self.file {
            Some(path) => file::read(path)?,
            None => Vec::new(),
        };
        let mut given: BTreeMap<String, Given> = BTreeMap::new();
        for source in [file, self.in_environment()?, self.in_flags()?] {
            let mut seen: BTreeMap<String, Given> = BTreeMap::new();
            for g in source {
                let g = check(g)?;
                if let Some(before) = seen.insert(g.name.clone(), g.clone()) {
                    return Err(g.refuse(format!("{} is given twice: also at {}", g.name, before.place)));
                }
            }
            given.extend(seen);
        }
        let mut fixed = Overrides::new();
        let of_broker = |name: &str| Scope::Broker.find(name).is_some() || of_one_listener(name).is_some();
        for g in given.values().filter(|g| of_broker(&g.name)) {
            fixed.insert(g.name.clone(), g.value.clone());
        }
        let option = |key: &str| given.get(key).map(|g| g.value.clone());
        // Clients find the id under either name, given or not.
        let id = fixed.get("node.id").cloned().or_else(|| Scope::Broker.find("node.id")?.default.map(str::to_owned));
        if let Some(id) = id {
            fixed.insert("broker.id".to_owned(), id.clone());
            fixed.insert("node.id".to_owned(), id);
        }
        let properties = BrokerProperties { fixed, ..Default::default() };
        let fitting = check_broker(&properties);
        let typed =
            fitting.and_then(|()| BrokerConfig::from_properties(properties, option("log_format"), option("log_level")));
        let typed = typed.and_then(|config| check_use(&config.properties, &config.listeners).map(|()| config));
        typed.map_err(|(name, message)| {
            let place = given.get(&name).map_or_else(|| "default".to_owned(), |g| g.place.clone());
            LoadError::Refused { place, message }
        })
    }

    fn in_environment(&self) -> Result<Vec<Given>, LoadError> {
        let mut all = Vec::new();
        for (name, value) in self.environment.iter().filter(|(n, _)| n.starts_with("CORELANE_")) {
            if let Some(key) = KEYS.iter().find(|k| k.environment == name) {
                all.push(Given::option(key.file, value.clone(), name.clone()));
            } else if let Some(property) = name.strip_prefix(PROPERTY_PREFIX) {
                let property = property.to_ascii_lowercase().replace("___", "-");
                // Names have no control characters.
                let property = property.replace("__", "\0").replace('_', ".").replace('\0', "_");
                all.push(Given::property(property, value.clone(), name.clone()));
            } else if !OTHER.contains(&name.as_str()) && !OTHER_PREFIXES.iter().any(|p| name.starts_with(p)) {
                let known: Vec<&str> = KEYS.iter().map(|k| k.environment).chain(["CORELANE_CONFIG"]).collect();
                let hint = nearest(name, known.iter().copied());
                let hint = hint.map_or_else(String::new, |n| format!("; did you mean {n}?"));
                let message = format!(
                    "unknown environment variable{hint} Allowed: {}, and {PROPERTY_PREFIX}<NAME> for a Kafka property",
                    known.join(", ")
                );
                return Err(LoadError::Refused { place: name.clone(), message });
            }
        }
        Ok(all)
    }

    fn in_flags(&self) -> Result<Vec<Given>, LoadError> {
        let mut all = Vec::new();
        for (flag, value) in &self.flags {
            let key = KEYS.iter().find(|k| k.flag == flag);
            all.push(Given::option(key.map_or(flag.as_str(), |k| k.file), value.clone(), flag.clone()));
        }
        for pair in &self.set {
            let Some((name, value)) = pair.split_once('=') else {
                let message = "must be NAME=VALUE, with a Kafka broker property as its name".to_owned();
                return Err(LoadError::Refused { place: format!("--set {pair}"), message });
            };
            // Not the value: it may be a password.
            let place = format!("--set {}", name.trim());
            all.push(Given::property(name.trim().to_owned(), value.trim().to_owned(), place));
        }
        Ok(all)
    }
}

/// Refuses an unknown name and a bad value; short forms become the property's own.
fn check(mut given: Given) -> Result<Given, LoadError> {
    if KEYS.iter().any(|k| k.file == given.name && k.property.is_none()) {
        return Ok(given);
    }
    if given.short {
        given.value = match given.name.as_str() {
            "listeners" if !given.value.contains("://") => format!("PLAINTEXT://{}", given.value.trim()),
            "memory.bytes" => units::parse_size(&given.value).map_err(|e| given.refuse(e))?.to_string(),
            _ => given.value,
        };
    }
    let of_listener = of_one_listener(&given.name).map(|(_, setting)| setting);
    let Some(setting) = Scope::Broker.find(&given.name).or(of_listener) else {
        if let Some(why) = refusal(&given.name) {
            return Err(given.refuse(format!("{}: {why}", given.name)));
        }
        let hint = match nearest(&given.name, Scope::Broker.settings().iter().map(|s| s.name)) {
            Some(n) => format!("; did you mean {n}?"),
            None if Scope::Topic.find(&given.name).is_some() => {
                "; it belongs to topics: `corelane topic create --config` or `corelane topic alter`".to_owned()
            }
            None => "; the names are those of Kafka's broker properties".to_owned(),
        };
        return Err(given.refuse(format!("unknown property {}{hint}", given.name)));
    };
    let value = Value::parse(setting, &given.value).map_err(|e| given.refuse(with_allowed(setting, &e)))?;
    permit(setting, &value).map_err(|e| given.refuse(e.to_string()))?;
    Ok(given)
}

/// The refusal, and what would be right where the refusal does not say so itself.
fn with_allowed(setting: &Setting, error: &ConfigError) -> String {
    let allowed = match (setting.check, setting.kind) {
        (Check::AtLeast(low), _) => format!("a number, at least {low}"),
        (Check::Between(low, high), _) => format!("{low} to {high}"),
        (_, Kind::Int | Kind::Short | Kind::Long) => "a whole number".to_owned(),
        (_, Kind::Double) => "a number".to_owned(),
        _ => return error.to_string(),
    };
    format!("{error} (allowed: {allowed})")
}
