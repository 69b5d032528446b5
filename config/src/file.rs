//! The configuration file: TOML, every key known, every refusal with its line.

use crate::error::LoadError;
use crate::load::{Given, KEYS};
use crate::nearest::nearest;
use std::ops::Range;
use std::path::Path;
use toml::de::{DeTable, DeValue};

/// Reads a file of top-level options and a `[kafka]` table of properties, whose names may be quoted or written as dotted keys.
pub(crate) fn read(path: &Path) -> Result<Vec<Given>, LoadError> {
    let unreadable = |error| LoadError::Unreadable { path: path.to_owned(), error };
    let text = std::fs::read_to_string(path).map_err(unreadable)?;
    parse(&text, &path.display().to_string())
}

fn parse(text: &str, file: &str) -> Result<Vec<Given>, LoadError> {
    let place = |span: Range<usize>| {
        let before = text.as_bytes().get(..span.start.min(text.len())).unwrap_or_default();
        format!("{file}:{}", before.iter().filter(|b| **b == b'\n').count() + 1)
    };
    let table = DeTable::parse(text)
        .map_err(|e| LoadError::Refused { place: place(e.span().unwrap_or(0..0)), message: e.message().to_owned() })?;
    let mut all = Vec::new();
    for (key, value) in table.get_ref() {
        let at = place(key.span());
        let name = key.get_ref().as_ref();
        if name == "kafka" {
            let DeValue::Table(inner) = value.get_ref() else {
                let message = "kafka must be a table of Kafka properties: [kafka]".to_owned();
                return Err(LoadError::Refused { place: at, message });
            };
            flatten("", inner, &place, &mut all)?;
            continue;
        }
        if !KEYS.iter().any(|k| k.file == name) {
            let allowed: Vec<&str> = KEYS.iter().map(|k| k.file).chain(["kafka"]).collect();
            let hint = nearest(name, allowed.iter().copied());
            let hint = hint.map_or_else(String::new, |n| format!("; did you mean {n}?"));
            let message =
                format!("unknown key {name}{hint} Allowed: {} (Kafka properties go into [kafka])", allowed.join(", "));
            return Err(LoadError::Refused { place: at, message });
        }
        all.push(Given::option(name, scalar(name, value.get_ref(), &at)?, at));
    }
    Ok(all)
}

fn flatten(
    prefix: &str,
    table: &DeTable<'_>,
    place: &dyn Fn(Range<usize>) -> String,
    all: &mut Vec<Given>,
) -> Result<(), LoadError> {
    for (key, value) in table {
        let name = if prefix.is_empty() { key.get_ref().to_string() } else { format!("{prefix}.{}", key.get_ref()) };
        match value.get_ref() {
            DeValue::Table(inner) => flatten(&name, inner, place, all)?,
            other => {
                let at = place(key.span());
                let value = scalar(&name, other, &at)?;
                all.push(Given::property(name, value, at));
            }
        }
    }
    Ok(())
}

/// The text of a value; arrays become Kafka's comma separated lists.
fn scalar(name: &str, value: &DeValue<'_>, at: &str) -> Result<String, LoadError> {
    Ok(match value {
        DeValue::String(s) => s.to_string(),
        DeValue::Boolean(b) => b.to_string(),
        DeValue::Integer(i) => match i64::from_str_radix(i.as_str(), i.radix()) {
            Ok(n) => n.to_string(),
            Err(_) => i.as_str().to_owned(),
        },
        DeValue::Float(f) => f.as_str().to_owned(),
        DeValue::Array(items) => {
            let items = items.iter().map(|i| scalar(name, i.get_ref(), at)).collect::<Result<Vec<_>, _>>()?;
            items.join(",")
        }
        DeValue::Datetime(_) | DeValue::Table(_) => {
            let message = format!("{name} must be a string, a number, true or false, or a list");
            return Err(LoadError::Refused { place: at.to_owned(), message });
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> String {
        parse(text, "c.toml").unwrap_err().to_string()
    }

    #[test]
    fn keys_tables_and_dotted_names_are_read() {
        let text = "data_dir = 'd'\ncores = [0, 1]\nnode_id = 1_0\n[kafka]\nlog.retention.ms = 5\n\"num.partitions\" = 3\n\
                    auto.create.topics.enable = false\n";
        let all = parse(text, "c.toml").unwrap();
        let get = |n: &str| all.iter().find(|g| g.name == n).map(|g| (g.value.as_str(), g.place.as_str()));
        assert_eq!(get("log.dirs"), Some(("d", "c.toml:1")));
        assert_eq!(get("shard.cores"), Some(("0,1", "c.toml:2")));
        assert_eq!(get("node.id"), Some(("10", "c.toml:3")));
        assert_eq!(get("log.retention.ms"), Some(("5", "c.toml:5")));
        assert_eq!(get("num.partitions"), Some(("3", "c.toml:6")));
        assert_eq!(get("auto.create.topics.enable"), Some(("false", "c.toml:7")));
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        assert!(refusal("\n\ndata-dir = 'x'").starts_with("c.toml:3: unknown key data-dir; did you mean data_dir?"));
        assert!(refusal("a = ").starts_with("c.toml:1: "));
        assert!(refusal("x = 1\nx = 2").starts_with("c.toml:2: "));
        assert!(refusal("kafka = 3").starts_with("c.toml:1: kafka must be a table"));
        assert!(refusal("[kafka]\nlog.retention.ms = 2020-01-01").starts_with("c.toml:2: log.retention.ms must be"));
        assert!(refusal("[data_dir]\nx = 1").starts_with("c.toml:1: data_dir must be"));
    }
}
