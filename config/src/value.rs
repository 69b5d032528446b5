//! Values of properties: from text, checked, and back to the text Kafka would print.

use crate::error::ConfigError;
use crate::group::AutoOffsetReset;
use crate::table::{Check, Kind, Setting, Status};
use std::fmt;

/// A parsed value. `Display` gives Kafka's canonical text (`ConfigDef.convertToString`).
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Boolean(bool),
    /// INT, SHORT and LONG.
    Integer(i64),
    Double(f64),
    /// STRING, CLASS and PASSWORD.
    Text(String),
    List(Vec<String>),
}

impl Value {
    /// Parses and checks `text` as a value of `setting`. Whether this broker honours it is another question: [`permit`].
    pub fn parse(setting: &Setting, text: &str) -> Result<Value, ConfigError> {
        let name = setting.name;
        let trimmed = text.trim();
        let integer = |low: i64, high: i64| match trimmed.strip_prefix('+').unwrap_or(trimmed).parse::<i64>() {
            Ok(n) if (low..=high).contains(&n) => Ok(Value::Integer(n)),
            _ => Err(ConfigError::value(name, text, format!("Not a number of type {}", setting.kind.name()))),
        };
        let value = match setting.kind {
            Kind::Boolean if trimmed.eq_ignore_ascii_case("true") => Value::Boolean(true),
            Kind::Boolean if trimmed.eq_ignore_ascii_case("false") => Value::Boolean(false),
            Kind::Boolean => {
                return Err(ConfigError::value(name, text, "Expected value to be either true or false"));
            }
            Kind::Short => integer(i16::MIN.into(), i16::MAX.into())?,
            Kind::Int => integer(i32::MIN.into(), i32::MAX.into())?,
            Kind::Long => integer(i64::MIN, i64::MAX)?,
            Kind::Double => match trimmed.parse::<f64>() {
                Ok(d) => Value::Double(d),
                Err(_) => return Err(ConfigError::value(name, text, "Not a number of type DOUBLE")),
            },
            Kind::String | Kind::Class | Kind::Password => Value::Text(trimmed.to_owned()),
            Kind::List if trimmed.is_empty() => Value::List(Vec::new()),
            Kind::List => Value::List(list(name, trimmed)?),
        };
        value.check(setting)?;
        Ok(value)
    }

    fn check(&self, setting: &Setting) -> Result<(), ConfigError> {
        let refuse = |why: String| Err(ConfigError::value(setting.name, self, why));
        let text = || self.to_string();
        match setting.check {
            Check::Any => Ok(()),
            Check::AtLeast(low) if self.number() < low as f64 => refuse(format!("Value must be at least {low}")),
            Check::AtLeast(_) => Ok(()),
            Check::Between(low, _) if self.number() < low as f64 => refuse(format!("Value must be at least {low}")),
            Check::Between(low, high) => {
                // NaN is neither below nor above.
                if (low as f64..=high as f64).contains(&self.number()) {
                    Ok(())
                } else {
                    refuse(format!("Value must be no more than {high}"))
                }
            }
            Check::OneOf(all) if all.contains(&text().as_str()) => Ok(()),
            Check::OneOf(all) => refuse(format!("String must be one of: {}", all.join(", "))),
            Check::OneOfAnyCase(all) if all.iter().any(|a| a.eq_ignore_ascii_case(&text())) => Ok(()),
            Check::OneOfAnyCase(all) => refuse(format!("String must be one of (case insensitive): {}", all.join(", "))),
            Check::AnyOf(all) => match self.items().iter().find(|i| !all.contains(&i.as_str())) {
                None => Ok(()),
                Some(other) => {
                    Err(ConfigError::value(setting.name, other, format!("String must be one of: {}", all.join(", "))))
                }
            },
            Check::NonEmpty if text().is_empty() && setting.kind == Kind::String => {
                refuse("String must be non-empty".to_owned())
            }
            Check::NonEmpty => Ok(()),
            Check::GzipLevel if matches!(self, Value::Integer(-1 | 1..=9)) => Ok(()),
            Check::GzipLevel => refuse("Value must be between 1 and 9 or equal to -1".to_owned()),
            Check::ThrottledReplicas if self.items().iter().all(|i| is_replica(i)) || self.items() == ["*"] => Ok(()),
            Check::ThrottledReplicas => Err(ConfigError::value(
                setting.name,
                format!("[{}]", self.items().join(", ")),
                format!(
                    "{} must be the literal '*' or a list of replicas in the following format: \
                     [partitionId]:[brokerId],[partitionId]:[brokerId],...",
                    setting.name
                ),
            )),
            Check::OffsetReset => {
                if AutoOffsetReset::parse(&text()).is_some() {
                    Ok(())
                } else {
                    refuse("The value must be latest, earliest or by_duration:PnDTnHnMn.nS".to_owned())
                }
            }
        }
    }

    fn number(&self) -> f64 {
        match self {
            Value::Integer(n) => *n as f64,
            Value::Double(d) => *d,
            _ => 0.0,
        }
    }

    /// The elements of a list; empty for every other type.
    pub fn items(&self) -> &[String] {
        match self {
            Value::List(items) => items,
            _ => &[],
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Boolean(b) => write!(f, "{b}"),
            Value::Integer(n) => write!(f, "{n}"),
            Value::Double(d) => f.write_str(&java_double(*d)),
            Value::Text(t) => f.write_str(t),
            Value::List(items) => f.write_str(&items.join(",")),
        }
    }
}

/// Refuses a valid value that this broker does not honour.
pub fn permit(setting: &Setting, value: &Value) -> Result<(), ConfigError> {
    match setting.status {
        Status::Honoured => Ok(()),
        Status::Fixed(why) => {
            let default = setting.default.and_then(|d| Value::parse(setting, d).ok());
            if default.as_ref() == Some(value) || (default.is_none() && value.to_string().is_empty()) {
                return Ok(());
            }
            let shown = if setting.is_sensitive() { "[hidden]".to_owned() } else { value.to_string() };
            let only = setting.default.map_or_else(|| "no value".to_owned(), |d| format!("only \"{d}\""));
            Err(ConfigError::value(
                setting.name,
                shown,
                format!("this version of Corelane accepts {only} here, because {why}"),
            ))
        }
    }
}

/// Splits at commas; duplicates are dropped, as Kafka drops them from its checked lists.
fn list(name: &str, text: &str) -> Result<Vec<String>, ConfigError> {
    let mut items = Vec::new();
    for item in text.split(',').map(str::trim) {
        if item.is_empty() {
            return Err(ConfigError::InvalidConfig(format!("Configuration '{name}' values must not be empty.")));
        }
        if !items.iter().any(|i| i == item) {
            items.push(item.to_owned());
        }
    }
    Ok(items)
}

fn is_replica(item: &str) -> bool {
    let number = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    item.split_once(':').is_some_and(|(p, b)| number(p) && number(b))
}

/// Java's `Double.toString`.
fn java_double(d: f64) -> String {
    let size = d.abs();
    if d.is_infinite() {
        return if d > 0.0 { "Infinity" } else { "-Infinity" }.to_owned();
    }
    if d == 0.0 || d.is_nan() || (1e-3..1e7).contains(&size) {
        return format!("{d:?}");
    }
    let text = format!("{d:e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let dot = if mantissa.contains('.') { "" } else { ".0" };
    format!("{mantissa}{dot}E{exponent}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::Scope;

    /// Inputs and Kafka 4.3.1's own answers (`LogConfig.validate` and `ConfigDef.parse`).
    const KAFKA: &[(&str, &str, Result<&str, &str>)] = &[
        ("cleanup.policy", "", Ok("")),
        (
            "cleanup.policy",
            "foo",
            Err("Invalid value foo for configuration cleanup.policy: String must be one of: compact, delete"),
        ),
        ("cleanup.policy", "delete,delete", Ok("delete")),
        ("cleanup.policy", "delete,", Err("Configuration 'cleanup.policy' values must not be empty.")),
        ("cleanup.policy", " delete , compact ", Ok("delete,compact")),
        (
            "compression.gzip.level",
            "0",
            Err(
                "Invalid value 0 for configuration compression.gzip.level: Value must be between 1 and 9 or equal to -1",
            ),
        ),
        (
            "compression.type",
            "foo",
            Err(
                "Invalid value foo for configuration compression.type: String must be one of: uncompressed, zstd, lz4, snappy, gzip, producer",
            ),
        ),
        ("compression.type", " gzip ", Ok("gzip")),
        (
            "compression.zstd.level",
            "23",
            Err("Invalid value 23 for configuration compression.zstd.level: Value must be no more than 22"),
        ),
        ("retention.ms", "x", Err("Invalid value x for configuration retention.ms: Not a number of type LONG")),
        ("retention.ms", "", Err("Invalid value  for configuration retention.ms: Not a number of type LONG")),
        ("retention.ms", "-5", Err("Invalid value -5 for configuration retention.ms: Value must be at least -1")),
        ("retention.ms", " 7 ", Ok("7")),
        (
            "retention.ms",
            "99999999999999999999",
            Err("Invalid value 99999999999999999999 for configuration retention.ms: Not a number of type LONG"),
        ),
        (
            "preallocate",
            "x",
            Err("Invalid value x for configuration preallocate: Expected value to be either true or false"),
        ),
        ("preallocate", "TRUE", Ok("true")),
        (
            "min.cleanable.dirty.ratio",
            "2",
            Err("Invalid value 2.0 for configuration min.cleanable.dirty.ratio: Value must be no more than 1"),
        ),
        ("min.cleanable.dirty.ratio", "0.50", Ok("0.5")),
        (
            "leader.replication.throttled.replicas",
            "x",
            Err(
                "Invalid value [x] for configuration leader.replication.throttled.replicas: leader.replication.throttled.replicas must be the literal '*' or a list of replicas in the following format: [partitionId]:[brokerId],[partitionId]:[brokerId],...",
            ),
        ),
        ("leader.replication.throttled.replicas", "0:1,1:2", Ok("0:1,1:2")),
        (
            "segment.bytes",
            "10",
            Err("Invalid value 10 for configuration segment.bytes: Value must be at least 1048576"),
        ),
        (
            "min.insync.replicas",
            "3000000000",
            Err("Invalid value 3000000000 for configuration min.insync.replicas: Not a number of type INT"),
        ),
        (
            "message.timestamp.type",
            "x",
            Err(
                "Invalid value x for configuration message.timestamp.type: String must be one of: CreateTime, LogAppendTime",
            ),
        ),
    ];

    #[test]
    fn answers_are_those_of_kafka() {
        for (name, text, want) in KAFKA {
            let got = Value::parse(Scope::Topic.find(name).unwrap(), text);
            let got = got.map(|v| v.to_string()).map_err(|e| e.to_string());
            assert_eq!(got, want.map(str::to_owned).map_err(str::to_owned), "{name}={text}");
        }
    }

    #[test]
    fn doubles_print_as_in_java() {
        for (d, text) in [
            (0.5, "0.5"),
            (1.0, "1.0"),
            (f64::MAX, "1.7976931348623157E308"),
            (1e7, "1.0E7"),
            (9999999.0, "9999999.0"),
            (1.5e-5, "1.5E-5"),
        ] {
            assert_eq!(java_double(d), text);
        }
    }

    #[test]
    fn a_fixed_property_takes_its_default_only_and_says_why() {
        let s = Scope::Topic.find("preallocate").unwrap();
        permit(s, &Value::parse(s, "false").unwrap()).unwrap();
        let e = permit(s, &Value::parse(s, "true").unwrap()).unwrap_err();
        assert_eq!(e.code(), 40);
        assert!(e.to_string().starts_with("Invalid value true for configuration preallocate: "), "{e}");
        let s = Scope::Topic.find("cleanup.policy").unwrap();
        permit(s, &Value::parse(s, "").unwrap()).unwrap();
        permit(s, &Value::parse(s, "compact,delete").unwrap()).unwrap();
    }

    #[test]
    fn every_honoured_default_is_permitted() {
        for s in Scope::ALL.iter().flat_map(|s| s.settings()) {
            if let Some(d) = s.default {
                permit(s, &Value::parse(s, d).unwrap()).unwrap_or_else(|e| panic!("{e}"));
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_parsed_or_refused(text in ".{0,40}", at in 0usize..33) {
            let all = Scope::Topic.settings();
            let s = &all[at % all.len()];
            if let Ok(v) = Value::parse(s, &text) {
                proptest::prop_assert_eq!(Value::parse(s, &v.to_string()), Ok(v.clone()));
            }
        }
    }
}
