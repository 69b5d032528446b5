//! What is wrong with a configuration, in the words a user sees.

use std::path::PathBuf;

/// A property or value that is refused. The message follows Kafka's wording where Kafka has one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// Kafka's INVALID_CONFIG.
    #[error("{0}")]
    InvalidConfig(String),
    /// Kafka's INVALID_REQUEST.
    #[error("{0}")]
    InvalidRequest(String),
}

impl ConfigError {
    /// Kafka's error code: INVALID_CONFIG 40, INVALID_REQUEST 42.
    pub fn code(&self) -> i16 {
        match self {
            ConfigError::InvalidConfig(_) => 40,
            ConfigError::InvalidRequest(_) => 42,
        }
    }

    pub(crate) fn value(name: &str, value: impl std::fmt::Display, why: impl std::fmt::Display) -> ConfigError {
        ConfigError::InvalidConfig(format!("Invalid value {value} for configuration {name}: {why}"))
    }
}

/// Why a broker cannot start with what it was given.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("cannot read the configuration file {}: {error}", path.display())]
    Unreadable { path: PathBuf, error: std::io::Error },
    /// `place` is `file:line`, the name of an environment variable, or a flag.
    #[error("{place}: {message}")]
    Refused { place: String, message: String },
}
