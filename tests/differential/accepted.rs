//! The differences that stand, each with its reason: `accepted.txt`, blocks with an empty line between.
//!
//! ```text
//! Api VERSIONS path                  one or more
//!   kafka: what Apache Kafka has
//!   corelane: what Corelane has
//!   because: why that is right
//!   covers: request
//! ```
//! The last line is for an answer that is another one altogether: then all fields of the request are accepted. `by: chance` stands
//! where no script meets the difference for certain.
//! `*` stands for anything, in the path and in both values.

use crate::compare::FieldDifference;
use corelane_protocol::ApiKey;
use std::cell::Cell;

#[derive(Debug)]
pub struct Accepted {
    api: String,
    low: i16,
    high: i16,
    path: String,
    kafka: String,
    corelane: String,
    whole: bool,
    /// That the scripts do not meet it proves nothing.
    pub by_chance: bool,
    pub used: Cell<u32>,
}

/// Whether a text is what a pattern with `*` describes.
fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

impl Accepted {
    /// All entries of a block.
    fn parse(block: &str) -> Result<Vec<Accepted>, String> {
        let lines: Vec<&str> = block.lines().filter(|l| !l.starts_with('#')).collect();
        let heads = lines.iter().take_while(|line| !line.starts_with(' ')).count();
        let (heads, fields) = lines.split_at(heads);
        heads.iter().map(|head| Accepted::entry(head, fields)).collect()
    }

    fn entry(head: &str, fields: &[&str]) -> Result<Accepted, String> {
        let mut words = head.splitn(3, ' ');
        let mut word = || words.next().ok_or_else(|| format!("Api VERSIONS path: {head}"));
        let (api, versions, path) = (word()?, word()?, word()?);
        let (low, high) = match versions.split_once("..") {
            None if versions == "all" => (i16::MIN, i16::MAX),
            None => (
                versions.parse().map_err(|e| format!("{head}: {e}"))?,
                versions.parse().map_err(|e| format!("{head}: {e}"))?,
            ),
            Some((low, high)) => (low.parse().unwrap_or(i16::MIN), high.parse().unwrap_or(i16::MAX)),
        };
        let field = |name: &str| {
            let found = fields.iter().find_map(|line| line.trim().strip_prefix(name));
            found.map(|v| v.trim().to_owned()).filter(|v| !v.is_empty()).ok_or_else(|| format!("{head}: no '{name}'"))
        };
        field("because:")?;
        Ok(Accepted {
            api: api.into(),
            low,
            high,
            path: path.into(),
            kafka: field("kafka:")?,
            corelane: field("corelane:")?,
            by_chance: field("by:").is_ok_and(|v| v == "chance"),
            whole: field("covers:").is_ok_and(|v| v == "request"),
            used: Cell::new(0),
        })
    }

    pub fn name(&self) -> String {
        format!("{} {}", self.api, self.path)
    }

    fn fits(&self, api: ApiKey, version: i16, found: &FieldDifference) -> bool {
        (self.api == api.name() || self.api == "*")
            && (self.low..=self.high).contains(&version)
            && matches(&self.path, &found.path)
            && matches(&self.kafka, &found.kafka)
            && matches(&self.corelane, &found.corelane)
    }
}

/// Reads the list. An error names the block.
pub fn parse(text: &str) -> Result<Vec<Accepted>, String> {
    let blocks = text.split("\n\n").map(str::trim).filter(|b| b.lines().any(|l| !l.starts_with('#')));
    let parsed: Result<Vec<Vec<Accepted>>, String> = blocks.map(Accepted::parse).collect();
    Ok(parsed?.into_iter().flatten().collect())
}

/// What of `found` no entry covers. Those that cover something count as used then.
pub fn unaccepted(list: &[Accepted], api: ApiKey, version: i16, found: Vec<FieldDifference>) -> Vec<FieldDifference> {
    let entry = |field: &FieldDifference| list.iter().find(|a| a.fits(api, version, field));
    if let Some(whole) = found.iter().filter_map(entry).find(|a| a.whole) {
        whole.used.set(whole.used.get() + 1);
        return Vec::new();
    }
    let covered = |field: &FieldDifference| {
        let entry = entry(field);
        entry.inspect(|e| e.used.set(e.used.get() + 1)).is_some()
    };
    found.into_iter().filter(|field| !covered(field)).collect()
}
