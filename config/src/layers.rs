//! Broker properties in the layers Kafka knows.

use crate::error::ConfigError;
use crate::listeners::Listener;
use crate::table::{Scope, Setting};
use crate::value::Value;
use std::collections::BTreeMap;

/// Properties by name in their text form, as AlterConfigs gave them and the controller keeps them.
pub type Overrides = BTreeMap<String, String>;

/// The text values given for broker properties. A name is looked up in `dynamic_broker`, `dynamic_default`, `fixed`, and then in
/// the table's defaults.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BrokerProperties {
    /// From flags, environment and file: cannot change while the broker runs.
    pub fixed: Overrides,
    /// Changed through AlterConfigs for all brokers (resource name empty).
    pub dynamic_default: Overrides,
    /// Changed through AlterConfigs for this broker.
    pub dynamic_broker: Overrides,
}

impl BrokerProperties {
    /// The nearest one first.
    pub(crate) fn layers(&self) -> [&Overrides; 3] {
        [&self.dynamic_broker, &self.dynamic_default, &self.fixed]
    }

    /// The text in force for a name: a given one, or the default.
    pub fn text(&self, setting: &Setting) -> Option<&str> {
        self.layers().into_iter().find_map(|l| l.get(setting.name)).map(String::as_str).or(setting.default)
    }

    /// The value in force; `None` where the property has neither a value nor a default.
    pub fn value(&self, name: &str) -> Result<Option<Value>, ConfigError> {
        let setting = Scope::Broker
            .find(name)
            .ok_or_else(|| ConfigError::InvalidRequest(format!("Unknown broker config name: {name}")))?;
        self.text(setting).map(|t| Value::parse(setting, t)).transpose()
    }

    /// The value in force for one listener: its own, else that of all.
    pub fn value_of_listener(&self, listener: &Listener, name: &str) -> Result<Option<Value>, ConfigError> {
        match (self.own_of_listener(listener, name), Scope::Broker.find(name)) {
            (Some(text), Some(setting)) => Value::parse(setting, text).map(Some),
            _ => self.value(name),
        }
    }

    /// The text that is given for this listener alone.
    pub(crate) fn own_of_listener(&self, listener: &Listener, name: &str) -> Option<&String> {
        let own = format!("{}{name}", listener.prefix());
        self.layers().into_iter().find_map(|layer| layer.get(&own))
    }

    /// The name by which a property of a listener was given.
    pub(crate) fn place(&self, listener: &Listener, name: &str) -> String {
        match self.own_of_listener(listener, name) {
            Some(_) => format!("{}{name}", listener.prefix()),
            None => name.to_owned(),
        }
    }

    pub(crate) fn integer(&self, name: &str) -> Result<Option<i64>, ConfigError> {
        Ok(match self.value(name)? {
            Some(Value::Integer(n)) => Some(n),
            _ => None,
        })
    }
}
