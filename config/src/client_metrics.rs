//! A subscription of client metrics (KIP-714). The rules are those of Kafka's `ClientMetricsConfigs`.

use crate::error::ConfigError;
use crate::layers::Overrides;
use crate::table::{Scope, Setting};
use crate::value::Value;
use regex::Regex;

/// What a `match` may look at.
const PROPERTIES: &[&str] = &[
    "client_instance_id",
    "client_id",
    "client_software_name",
    "client_software_version",
    "client_source_address",
    "client_source_port",
];

/// Bounds of `interval.ms`.
const INTERVAL_MS: std::ops::RangeInclusive<i64> = 100..=3_600_000;

/// A subscription, typed.
#[derive(Clone, Debug)]
pub struct MetricsSubscription {
    /// Names, or beginnings of names; `*` is every metric.
    pub metrics: Vec<String>,
    pub interval_ms: i32,
    /// Property of the client, and what its whole value must match. All must.
    pub matches: Vec<(String, Regex)>,
}

impl MetricsSubscription {
    /// Overrides over defaults. Fails only on what [`crate::alter`] would have refused.
    pub fn resolve(overrides: &Overrides) -> Result<MetricsSubscription, ConfigError> {
        let value = |name: &str| Scope::ClientMetrics.find(name).and_then(|s| in_force(s, overrides)).transpose();
        let items = |name: &str| Ok(value(name)?.map(|v| v.items().to_vec()).unwrap_or_default());
        let interval = match value("interval.ms")? {
            Some(Value::Integer(n)) => n,
            _ => 0,
        };
        if !INTERVAL_MS.contains(&interval) {
            let message =
                format!("Invalid value {interval} for interval.ms, interval must be between 100 and 3600000 (1 hour)");
            return Err(ConfigError::InvalidRequest(message));
        }
        let matches = items("match")?.iter().map(|pattern| parse_match(pattern)).collect::<Result<_, _>>()?;
        Ok(MetricsSubscription { metrics: items("metrics")?, interval_ms: interval as i32, matches })
    }
}

fn in_force(setting: &Setting, overrides: &Overrides) -> Option<Result<Value, ConfigError>> {
    let text = overrides.get(setting.name).map(String::as_str).or(setting.default)?;
    Some(Value::parse(setting, text))
}

fn parse_match(pattern: &str) -> Result<(String, Regex), ConfigError> {
    let illegal = || ConfigError::InvalidConfig(format!("Illegal client matching pattern: {pattern}"));
    let (property, expression) = pattern.split_once('=').ok_or_else(illegal)?;
    let (property, expression) = (property.trim(), expression.trim());
    if !PROPERTIES.contains(&property) || expression.is_empty() || expression.contains('=') {
        return Err(illegal());
    }
    let whole = Regex::new(&format!("^(?:{expression})$")).map_err(|_| illegal())?;
    Ok((property.to_owned(), whole))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(pairs: &[(&str, &str)]) -> Result<MetricsSubscription, ConfigError> {
        MetricsSubscription::resolve(&pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect())
    }

    #[test]
    fn subscriptions_are_read_and_refused_as_kafka_does() {
        let none = resolve(&[]).unwrap();
        assert_eq!((none.metrics.len(), none.interval_ms, none.matches.len()), (0, 300_000, 0));
        let one = resolve(&[("metrics", "a.,b"), ("match", "client_id=x.*, client_source_port=90[0-9]+")]).unwrap();
        assert_eq!(one.metrics, ["a.", "b"]);
        assert!(one.matches[0].1.is_match("x1") && !one.matches[0].1.is_match("ax1"));
        assert_eq!(one.matches[1].0, "client_source_port");
        let e = resolve(&[("interval.ms", "99")]).unwrap_err();
        assert_eq!(
            (e.code(), e.to_string().as_str()),
            (42, "Invalid value 99 for interval.ms, interval must be between 100 and 3600000 (1 hour)")
        );
        for pattern in ["client_id", "nobody=x", "client_id=a=b", "client_id=(", "client_id="] {
            let e = resolve(&[("match", pattern)]).unwrap_err();
            assert_eq!((e.code(), e.to_string()), (40, format!("Illegal client matching pattern: {pattern}")));
        }
    }
}
