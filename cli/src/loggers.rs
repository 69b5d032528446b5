//! The loggers of a running broker and their levels, which change while it runs (Kafka's KIP-412).
//!
//! A logger is a room of the code, with dots between the parts of its name as in Kafka; those without a level of their own have
//! their parent's, and the topmost that of `root`. Changes end with the process.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::Targets;

/// The parent of all, as Kafka names it.
pub const ROOT: &str = "root";

/// The rooms that say something, by the path of their module.
const TARGETS: [&str; 23] = [
    "core_pinning",
    "corelane",
    "corelane::broker",
    "corelane::client_metrics",
    "corelane::compaction",
    "corelane::controller",
    "corelane::coordinator",
    "corelane::exit",
    "corelane::kafka",
    "corelane::partition",
    "corelane::retention",
    "corelane::settings",
    "corelane::shard",
    "corelane::space",
    "corelane_cli",
    "corelane_raft",
    "corelane_storage",
    "corelane_storage::compaction",
    "corelane_storage::journal",
    "corelane_storage::log",
    "corelane_storage::recovery",
    "corelane_storage::store",
    "openraft",
];

/// Kafka's levels (`LogLevelConfig`). What is fatal ends the process here, and says so whatever the level is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    Off,
    Fatal,
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

impl Level {
    /// One that a logger can be set to.
    pub fn settable(name: &str) -> Option<Level> {
        Some(match name {
            "FATAL" => Level::Fatal,
            "ERROR" => Level::Error,
            "WARN" => Level::Warn,
            "INFO" => Level::Info,
            "DEBUG" => Level::Debug,
            "TRACE" => Level::Trace,
            _ => return None,
        })
    }

    pub fn name(self) -> &'static str {
        match self {
            Level::Off => "OFF",
            Level::Fatal => "FATAL",
            Level::Error => "ERROR",
            Level::Warn => "WARN",
            Level::Info => "INFO",
            Level::Debug => "DEBUG",
            Level::Trace => "TRACE",
        }
    }

    fn filter(self) -> LevelFilter {
        match self {
            Level::Off | Level::Fatal => LevelFilter::OFF,
            Level::Error => LevelFilter::ERROR,
            Level::Warn => LevelFilter::WARN,
            Level::Info => LevelFilter::INFO,
            Level::Debug => LevelFilter::DEBUG,
            Level::Trace => LevelFilter::TRACE,
        }
    }

    fn of(filter: LevelFilter) -> Level {
        let all = [Level::Error, Level::Warn, Level::Info, Level::Debug, Level::Trace];
        all.into_iter().find(|level| level.filter() == filter).unwrap_or(Level::Off)
    }
}

type Apply = Box<dyn Fn(EnvFilter) + Send>;

struct Loggers {
    /// The directives that the process was started with.
    started_with: String,
    set: BTreeMap<String, Level>,
    apply: Option<Apply>,
}

static LOGGERS: Mutex<Loggers> = Mutex::new(Loggers { started_with: String::new(), set: BTreeMap::new(), apply: None });

fn lock() -> std::sync::MutexGuard<'static, Loggers> {
    LOGGERS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes over from here on: `apply` gives the process another filter.
pub(crate) fn begin(directives: &str, apply: Apply) {
    *lock() = Loggers { started_with: directives.to_owned(), set: BTreeMap::new(), apply: Some(apply) };
}

fn dotted(target: &str) -> String {
    target.replace("::", ".")
}

pub fn exists(logger: &str) -> bool {
    logger == ROOT || TARGETS.iter().any(|target| dotted(target) == logger)
}

/// Every logger and its level in force.
pub fn levels() -> Vec<(String, Level)> {
    let loggers = lock();
    let one = |target: &&str| (dotted(target), loggers.level(target));
    TARGETS.iter().map(one).chain([(ROOT.to_owned(), loggers.root())]).collect()
}

/// Gives a logger that exists a level of its own, or with `None` takes that away.
pub fn set(logger: &str, level: Option<Level>) {
    let mut loggers = lock();
    match level {
        Some(level) => drop(loggers.set.insert(logger.to_owned(), level)),
        None => drop(loggers.set.remove(logger)),
    }
    if let (Some(apply), Ok(filter)) = (&loggers.apply, EnvFilter::try_new(loggers.directives())) {
        apply(filter);
    }
}

impl Loggers {
    /// Directives of other forms than `target=level` are let stand and say nothing here.
    fn begun(&self) -> Targets {
        let simple = self.started_with.split(',').filter(|d| !d.contains('['));
        Targets::from_str(&simple.collect::<Vec<_>>().join(",")).unwrap_or_default()
    }

    fn root(&self) -> Level {
        let begun = || self.begun().default_level().map_or(Level::Error, Level::of);
        self.set.get(ROOT).copied().unwrap_or_else(begun)
    }

    fn level(&self, target: &str) -> Level {
        if let Some(level) = self.set.get(&dotted(target)) {
            return *level;
        }
        if let Some((_, level)) = self.begun().iter().find(|(named, _)| *named == target) {
            return Level::of(level);
        }
        match target.rsplit_once("::") {
            Some((parent, _)) => self.level(parent),
            None => self.root(),
        }
    }

    /// What the process was started with, and then every logger: a target also counts for those whose names begin with its own.
    fn directives(&self) -> String {
        let targets = TARGETS.iter().map(|target| format!("{target}={}", self.level(target).filter()));
        let all = [self.started_with.clone(), self.root().filter().to_string()];
        all.into_iter().chain(targets).collect::<Vec<_>>().join(",")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_logger_without_a_level_has_its_parents() {
        let started_with = "openraft=warn,info,corelane::kafka=debug".to_owned();
        let mut loggers = Loggers { started_with, set: BTreeMap::new(), apply: None };
        let levels = |loggers: &Loggers| {
            ["openraft", "corelane", "corelane::kafka", "corelane::shard", "corelane_storage::log"]
                .map(|target| loggers.level(target))
        };
        use Level::{Debug, Error, Fatal, Info, Trace, Warn};
        assert_eq!(levels(&loggers), [Warn, Info, Debug, Info, Info]);
        loggers.set.insert("corelane".to_owned(), Fatal);
        assert_eq!(levels(&loggers), [Warn, Fatal, Debug, Fatal, Info]);
        loggers.set.insert("corelane.kafka".to_owned(), Trace);
        loggers.set.insert(ROOT.to_owned(), Error);
        assert_eq!((levels(&loggers), loggers.root()), ([Warn, Fatal, Trace, Fatal, Error], Error));
        let filter = Targets::from_str(&loggers.directives()).unwrap();
        assert!(filter.would_enable("corelane::kafka::server", &tracing::Level::TRACE));
        assert!(!filter.would_enable("corelane::shard::images", &tracing::Level::ERROR));
        assert!(filter.would_enable("corelane_storage::log::mod", &tracing::Level::ERROR));
        assert!(!filter.would_enable("another", &tracing::Level::WARN));
        EnvFilter::try_new(loggers.directives()).unwrap();
    }

    #[test]
    fn names_are_those_of_modules() {
        assert!(exists(ROOT) && exists("corelane.kafka") && !exists("corelane::kafka") && !exists("kafka.server"));
        assert_eq!(levels().len(), TARGETS.len() + 1);
    }
}
