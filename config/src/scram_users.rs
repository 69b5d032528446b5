//! A file of users that a broker is started with, one in a line:
//!
//! ```text
//! # by SCRAM-SHA-256 and SCRAM-SHA-512
//! alice=secret
//! # as kafka-storage.sh --add-scram takes it
//! SCRAM-SHA-512=[name=bob,password=secret,iterations=8192]
//! ```

use crate::sasl::SASL_MECHANISMS;
use crate::tls::Password;
use std::num::NonZeroU32;
use std::path::Path;

/// Kafka's bounds of iterations, and its default.
const ITERATIONS: std::ops::RangeInclusive<u32> = 4096..=16384;
const DEFAULT: NonZeroU32 = NonZeroU32::new(4096).unwrap();

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScramUser {
    pub name: String,
    pub password: Password,
    pub mechanisms: Vec<&'static str>,
    pub iterations: NonZeroU32,
}

/// Errors name the file and the line, and no password.
pub fn read(path: &Path) -> Result<Vec<ScramUser>, String> {
    let text = std::fs::read_to_string(path).map_err(|e| format!("scram.users.file: {}: {e}", path.display()))?;
    parse(&text).map_err(|(line, why)| format!("{}:{line}: {why}", path.display()))
}

fn parse(text: &str) -> Result<Vec<ScramUser>, (usize, String)> {
    let mut users: Vec<ScramUser> = Vec::new();
    for (number, line) in text.lines().enumerate().map(|(n, line)| (n + 1, line.trim())) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let user = user(line).map_err(|why| (number, why))?;
        let same = |u: &&ScramUser| u.name == user.name && u.mechanisms.iter().any(|m| user.mechanisms.contains(m));
        if users.iter().find(same).is_some() {
            return Err((number, format!("user {:?} is there twice", user.name)));
        }
        users.push(user);
    }
    Ok(users)
}

fn user(line: &str) -> Result<ScramUser, String> {
    let all = || SASL_MECHANISMS.into_iter().filter(|name| name.starts_with("SCRAM-"));
    let form = "a line is NAME=PASSWORD or SCRAM-SHA-512=[name=NAME,password=PASSWORD,iterations=N]";
    let (first, rest) = line.split_once('=').ok_or(form)?;
    let Some(mechanism) = all().find(|name| *name == first.trim()) else {
        let (name, password) = (first.trim().to_owned(), rest.trim());
        if name.is_empty() || password.is_empty() {
            return Err(form.to_owned());
        }
        return Ok(ScramUser {
            name,
            password: Password::new(password),
            mechanisms: all().collect(),
            iterations: DEFAULT,
        });
    };
    let fields = rest.trim().strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).ok_or(form)?;
    let (mut name, mut password, mut iterations) = (None, None, DEFAULT);
    for field in fields.split(',') {
        let (key, value) = field.split_once('=').ok_or(form)?;
        match (key.trim(), value.trim()) {
            ("name", value) => name = Some(value.to_owned()),
            ("password", value) => password = Some(value),
            ("iterations", value) => {
                let known = value.parse::<NonZeroU32>().ok().filter(|n| ITERATIONS.contains(&n.get()));
                iterations =
                    known.ok_or_else(|| format!("iterations are {} to {}", ITERATIONS.start(), ITERATIONS.end()))?;
            }
            (other, _) => return Err(format!("there is no {other:?} (allowed: name, password, iterations)")),
        }
    }
    match (name.filter(|name| !name.is_empty()), password.filter(|password| !password.is_empty())) {
        (Some(name), Some(password)) => {
            Ok(ScramUser { name, password: Password::new(password), mechanisms: vec![mechanism], iterations })
        }
        _ => Err(form.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_read() {
        let users = parse("# who\n\n alice = s=cret \nSCRAM-SHA-512=[name=bob,password=b,iterations=8192]\nSCRAM-SHA-256=[name=bob,password=c]").unwrap();
        let shown: Vec<_> = users
            .iter()
            .map(|u| (u.name.as_str(), u.password.reveal(), u.mechanisms.len(), u.iterations.get()))
            .collect();
        assert_eq!(shown, [("alice", "s=cret", 2, 4096), ("bob", "b", 1, 8192), ("bob", "c", 1, 4096)]);
        assert!(!format!("{users:?}").contains("cret"));
    }

    #[test]
    fn what_is_wrong_is_refused_with_its_line() {
        for (text, line, why) in [
            ("alice", 1, "a line is"),
            ("\nalice=", 2, "a line is"),
            ("=secret", 1, "a line is"),
            ("a=x\na=y", 2, "twice"),
            ("a=x\nSCRAM-SHA-256=[name=a,password=y]", 2, "twice"),
            ("SCRAM-SHA-512=[name=a,password=b,iterations=1]", 1, "4096 to 16384"),
            ("SCRAM-SHA-512=[name=a,password=b,salt=AA==]", 1, "no \"salt\""),
            ("SCRAM-SHA-512=name=a,password=b", 1, "a line is"),
            ("SCRAM-SHA-512=[name=a]", 1, "a line is"),
        ] {
            let (at, message) = parse(text).unwrap_err();
            assert!(at == line && message.contains(why), "{text}: {at}: {message}");
        }
    }
}
