//! Scripts: requests as text, one a line, so that a difference is a line to run again.
//!
//! ```text
//! # a comment; a line that ends with \ goes on
//! == name                           a section: needs nothing of other sections
//! define NAME(A, B) = text          NAME(x, y) with a % before it stands for the text
//! Api VERSIONS {..}                 sent at each of the versions (`3`, `2..`, `..4`, `last`, `$v`; default: all)
//! on CONNECTION Api VERSIONS {..}   on a connection of its own
//! as USER Api VERSIONS {..}         on that user's, at the listener that asks who one is
//! sasl CONNECTION Api VERSIONS {..} at that listener, by somebody who has to say who he is
//! sasl CONNECTION token VALUE       bytes without a header, as they come after a handshake at version 0
//! pass MILLISECONDS                 lets time pass
//! bg CONNECTION Api VERSION {..}    not waited for ...
//! read CONNECTION                   ... until here
//! raw Api VERSION x".."             any version, any bytes; also `sasl CONNECTION raw ..`
//! let NAME = path                   keeps a field of the last answer
//! until Api VERSION {..} :: path = value    asks until it is so; not compared
//! each Api VERSIONS .. end          the lines between, for `$v` each of the versions
//! ```

use crate::value::{self, Expr};
use corelane_protocol::ApiKey;
use std::collections::BTreeMap;

#[derive(Clone, Debug)]
pub struct Script {
    pub name: String,
    pub sections: Vec<Section>,
}

#[derive(Clone, Debug)]
pub struct Section {
    pub name: String,
    pub steps: Vec<Step>,
}

/// One line, with the number that it has in its file.
#[derive(Clone, Debug)]
pub struct Step {
    pub line: usize,
    pub action: Action,
}

#[derive(Clone, Debug)]
pub enum Action {
    Send { connection: String, api: ApiKey, versions: Versions, body: Expr, wait: bool },
    Raw { connection: String, api: ApiKey, version: i16, body: Expr },
    Token { connection: String, body: Expr },
    Read { connection: String },
    Let { name: String, path: String },
    Pass { milliseconds: u64 },
    Until { api: ApiKey, versions: Versions, body: Expr, path: String, value: Expr },
    Each { api: ApiKey, versions: Versions, steps: Vec<Step> },
}

#[derive(Clone, Debug, PartialEq)]
pub enum Versions {
    All,
    Last,
    /// `$v`
    Current,
    /// `~7`: one of those that are served, whichever they are; a value that has no form there is passed over.
    Any(usize),
    Range(i16, i16),
}

impl Versions {
    fn parse(word: &str) -> Option<Versions> {
        let number = |text: &str, default: i16| if text.is_empty() { Some(default) } else { text.parse().ok() };
        match word {
            "all" => Some(Versions::All),
            "last" => Some(Versions::Last),
            "$v" => Some(Versions::Current),
            _ if word.starts_with('~') => word[1..].parse().ok().map(Versions::Any),
            _ => match word.split_once("..") {
                Some((low, high)) => Some(Versions::Range(number(low, i16::MIN)?, number(high, i16::MAX)?)),
                None => word.parse().ok().map(|v| Versions::Range(v, v)),
            },
        }
    }
}

type Macros = BTreeMap<String, (Vec<String>, String)>;

/// Splits at the commas that are in no bracket and no text. The text ends at the bracket that closes it.
fn arguments(text: &str) -> Result<(Vec<String>, &str), String> {
    let (mut depth, mut quoted, mut escaped) = (0, false, false);
    let (mut out, mut start) = (Vec::new(), 0);
    for (i, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ if quoted => {}
            ')' if depth == 0 => {
                out.push(text[start..i].trim().to_owned());
                return Ok((out, &text[i + 1..]));
            }
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth -= 1,
            ',' if depth == 0 => {
                out.push(text[start..i].trim().to_owned());
                start = i + 1;
            }
            _ => {}
        }
    }
    Err(format!("no ')' in: {text}"))
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// Replaces whole words.
fn replace_words(text: &str, with: &BTreeMap<&str, &str>) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(start) = rest.find(is_word) {
        let end = rest[start..].find(|c| !is_word(c)).map_or(rest.len(), |n| start + n);
        out.push_str(&rest[..start]);
        let word = &rest[start..end];
        out.push_str(with.get(word).unwrap_or(&word));
        rest = &rest[end..];
    }
    out + rest
}

fn expand(line: &str, macros: &Macros) -> Result<String, String> {
    let mut line = line.to_owned();
    for _ in 0..100 {
        let Some(start) = line.find('%') else { return Ok(line) };
        let after = &line[start + 1..];
        let end = after.find(|c| !is_word(c)).unwrap_or(after.len());
        let (parameters, text) = macros.get(&after[..end]).ok_or_else(|| format!("no macro: {after}"))?;
        let inner = after[end..].strip_prefix('(').ok_or_else(|| format!("no '(' in: {after}"))?;
        let (given, rest) = arguments(inner)?;
        if given.len() != parameters.len() {
            return Err(format!("{} arguments for {parameters:?}: {after}", given.len()));
        }
        let with = parameters.iter().map(String::as_str).zip(given.iter().map(String::as_str)).collect();
        line = format!("{}{}{rest}", &line[..start], replace_words(text, &with));
    }
    Err("macros without end".into())
}

fn api(word: &str) -> Result<ApiKey, String> {
    ApiKey::ALL.iter().copied().find(|a| a.name() == word).ok_or_else(|| format!("no API '{word}'"))
}

fn word(text: &str) -> (&str, &str) {
    text.split_once(char::is_whitespace).map_or((text, ""), |(w, rest)| (w, rest.trim()))
}

/// `Api VERSIONS` and what stands behind.
fn call(text: &str) -> Result<(ApiKey, Versions, &str), String> {
    let (name, rest) = word(text);
    let api = api(name)?;
    let (next, after) = word(rest);
    Ok(match Versions::parse(next) {
        Some(versions) => (api, versions, after),
        None => (api, Versions::All, rest),
    })
}

/// Parses a whole value.
fn body(text: &str) -> Result<Expr, String> {
    match value::parse(text)? {
        (body, "") => Ok(body),
        (_, rest) => Err(format!("after the value: {rest}")),
    }
}

fn action(line: &str) -> Result<Action, String> {
    let (first, rest) = word(line);
    let send = |connection: &str, text, wait| {
        let (api, versions, rest) = call(text)?;
        Ok(Action::Send { connection: connection.to_owned(), api, versions, body: body(rest)?, wait })
    };
    let raw = |connection: &str, text| {
        let (name, rest) = word(text);
        let (version, rest) = word(rest);
        let version = version.parse().map_err(|e| format!("{version}: {e}"))?;
        Ok(Action::Raw { connection: connection.to_owned(), api: api(name)?, version, body: body(rest)? })
    };
    match first {
        "on" => send(word(rest).0, word(rest).1, true),
        "as" | "sasl" => {
            let (name, rest) = word(rest);
            let connection = format!("{first} {name}");
            match word(rest) {
                ("raw", rest) => raw(&connection, rest),
                ("token", rest) => Ok(Action::Token { connection, body: body(rest)? }),
                _ => send(&connection, rest, true),
            }
        }
        "pass" => Ok(Action::Pass { milliseconds: rest.parse().map_err(|e| format!("{rest}: {e}"))? }),
        "bg" => send(word(rest).0, word(rest).1, false),
        "read" => Ok(Action::Read { connection: rest.to_owned() }),
        "raw" => raw("main", rest),
        "let" => {
            let (name, path) = rest.split_once('=').ok_or("let NAME = path")?;
            Ok(Action::Let { name: name.trim().to_owned(), path: path.trim().to_owned() })
        }
        "until" => {
            let (api, versions, rest) = call(rest)?;
            let (sent, condition) = value::parse(rest)?;
            let condition = condition.strip_prefix("::").ok_or("until .. :: path = value")?;
            let (path, value) = condition.split_once('=').ok_or("path = value")?;
            Ok(Action::Until { api, versions, body: sent, path: path.trim().to_owned(), value: body(value)? })
        }
        _ => send("main", line, true),
    }
}

/// Parses a file. An error names the line.
pub fn parse(name: &str, text: &str) -> Result<Script, String> {
    let mut script = Script { name: name.to_owned(), sections: Vec::new() };
    let mut macros = Macros::new();
    let mut block: Option<(usize, ApiKey, Versions, Vec<Step>)> = None;
    let mut lines = text.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        let line_number = number + 1;
        let wrong = |why: String| format!("{name}:{line_number}: {why}");
        let mut line = line.trim().to_owned();
        while let Some(open) = line.strip_suffix('\\') {
            line = format!("{} {}", open.trim_end(), lines.next().map_or("", |(_, next)| next.trim()));
        }
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(section) = line.strip_prefix("==") {
            script.sections.push(Section { name: section.trim().to_owned(), steps: Vec::new() });
            continue;
        }
        if let Some(definition) = line.strip_prefix("define ") {
            let (head, text) = definition.split_once('=').ok_or_else(|| wrong("define NAME(A) = text".into()))?;
            let (macro_name, parameters) = head.split_once('(').ok_or_else(|| wrong("define NAME(A) = text".into()))?;
            let parameters = parameters.trim().trim_end_matches(')').split(',').map(|p| p.trim().to_owned()).collect();
            macros.insert(macro_name.trim().to_owned(), (parameters, text.trim().to_owned()));
            continue;
        }
        let line = expand(&line, &macros).map_err(wrong)?;
        let section = script.sections.last_mut().ok_or_else(|| wrong("a line before the first section".into()))?;
        if let Some(head) = line.strip_prefix("each ") {
            let (api, versions, _) = call(head).map_err(wrong)?;
            block = Some((line_number, api, versions, Vec::new()));
        } else if line == "end" {
            let (line, api, versions, steps) = block.take().ok_or_else(|| wrong("end of nothing".into()))?;
            section.steps.push(Step { line, action: Action::Each { api, versions, steps } });
        } else {
            let step = Step { line: line_number, action: action(&line).map_err(wrong)? };
            block.as_mut().map_or(&mut section.steps, |(.., steps)| steps).push(step);
        }
    }
    Ok(script)
}
