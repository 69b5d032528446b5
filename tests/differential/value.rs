//! The values of scripts: `{name="t-$v", partitions=[{index=0, records=batch{count=3}}], id=id("t")}`.
//!
//! | form | meaning |
//! |---|---|
//! | `null` `true` `-1` `1.5` `"text"` `x"00ff"` `[..]` `{field=..}` | as it reads; `$name` inside a text is replaced |
//! | `$name` | what `let` has kept, on each broker its own; `$v` is the version of the request |
//! | `f(..)` `f{..}` | see [`crate::side::Side::call`] |

use bytes::Bytes;
use corelane_protocol::{Tree, Uuid};

#[derive(Clone, Debug, PartialEq)]
pub enum Expr {
    Literal(Tree),
    Text(String),
    List(Vec<Expr>),
    Struct(Vec<(String, Expr)>),
    Variable(String),
    Call(String, Vec<Expr>),
}

impl Expr {
    /// Whether a broker has to be asked for what it means.
    pub fn asks(&self) -> bool {
        match self {
            Expr::Call(name, arguments) => name == "id" || name == "epoch" || arguments.iter().any(Expr::asks),
            Expr::List(list) => list.iter().any(Expr::asks),
            Expr::Struct(fields) => fields.iter().any(|(_, value)| value.asks()),
            Expr::Literal(_) | Expr::Text(_) | Expr::Variable(_) => false,
        }
    }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Parser<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn space(&mut self) {
        self.at += self.rest().len() - self.rest().trim_start().len();
    }

    fn next_is(&mut self, symbol: char) -> bool {
        self.space();
        let found = self.rest().starts_with(symbol);
        self.at += if found { symbol.len_utf8() } else { 0 };
        found
    }

    fn expect(&mut self, symbol: char) -> Result<(), String> {
        if self.next_is(symbol) { Ok(()) } else { Err(format!("'{symbol}' is needed before: {}", self.rest())) }
    }

    fn word(&mut self) -> &'a str {
        self.space();
        let rest = self.rest();
        let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '-')).unwrap_or(rest.len());
        self.at += end;
        &rest[..end]
    }

    /// A number that is written as no whole one is.
    fn fraction(&mut self) -> Option<f64> {
        self.space();
        let rest = self.rest();
        let end = rest.find(|c: char| !(c.is_ascii_digit() || "+-.e".contains(c))).unwrap_or(rest.len());
        let text = &rest[..end];
        let number = text.parse().ok().filter(|_| text.contains(['.', 'e']))?;
        self.at += end;
        Some(number)
    }

    /// Behind the opening quote.
    fn quoted(&mut self) -> Result<String, String> {
        let mut out = String::new();
        let mut chars = self.rest().char_indices();
        while let Some((i, c)) = chars.next() {
            match c {
                '"' => {
                    self.at += i + 1;
                    return Ok(out);
                }
                '\\' => match chars.next() {
                    Some((_, 'n')) => out.push('\n'),
                    Some((_, '0')) => out.push('\0'),
                    Some((_, c)) => out.push(c),
                    None => break,
                },
                c => out.push(c),
            }
        }
        Err("a text without end".into())
    }

    fn list(&mut self, end: char) -> Result<Vec<Expr>, String> {
        let mut out = Vec::new();
        while !self.next_is(end) {
            out.push(self.value()?);
            if !self.next_is(',') {
                self.expect(end)?;
                break;
            }
        }
        Ok(out)
    }

    fn fields(&mut self) -> Result<Vec<(String, Expr)>, String> {
        let mut out = Vec::new();
        while !self.next_is('}') {
            let name = self.word().to_owned();
            self.expect('=')?;
            out.push((name, self.value()?));
            if !self.next_is(',') {
                self.expect('}')?;
                break;
            }
        }
        Ok(out)
    }

    fn value(&mut self) -> Result<Expr, String> {
        if self.next_is('"') {
            return Ok(Expr::Text(self.quoted()?));
        }
        if self.next_is('[') {
            return Ok(Expr::List(self.list(']')?));
        }
        if self.next_is('{') {
            return Ok(Expr::Struct(self.fields()?));
        }
        if self.next_is('$') {
            return Ok(Expr::Variable(self.word().to_owned()));
        }
        if let Some(number) = self.fraction() {
            return Ok(Expr::Literal(Tree::Float(number)));
        }
        match self.word() {
            "null" => Ok(Expr::Literal(Tree::Null)),
            "true" => Ok(Expr::Literal(Tree::Bool(true))),
            "false" => Ok(Expr::Literal(Tree::Bool(false))),
            "x" if self.next_is('"') => {
                let hex = self.quoted()?;
                let byte = |i| u8::from_str_radix(hex.get(i..i + 2).unwrap_or("?"), 16);
                let bytes: Result<Vec<u8>, _> = (0..hex.len()).step_by(2).map(byte).collect();
                Ok(Expr::Literal(Tree::Bytes(bytes.map_err(|e| format!("{hex}: {e}"))?.into())))
            }
            word if word.parse::<i64>().is_ok() => {
                Ok(Expr::Literal(Tree::Int(word.parse().map_err(|e| format!("{e}"))?)))
            }
            word if !word.is_empty() && self.next_is('(') => Ok(Expr::Call(word.to_owned(), self.list(')')?)),
            word if !word.is_empty() && self.next_is('{') => {
                Ok(Expr::Call(word.to_owned(), vec![Expr::Struct(self.fields()?)]))
            }
            word => Err(format!("no value: {word}{}", self.rest())),
        }
    }
}

/// Parses a value and returns what stands behind it.
pub fn parse(text: &str) -> Result<(Expr, &str), String> {
    let mut parser = Parser { text, at: 0 };
    let value = parser.value()?;
    Ok((value, parser.rest().trim()))
}

fn quote(text: &str) -> String {
    let escaped = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n").replace('\0', "\\0");
    format!("\"{escaped}\"")
}

fn hex(bytes: &Bytes) -> String {
    let digits: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
    format!("x\"{digits}\"")
}

/// The text of a value; it parses again.
pub fn show(expr: &Expr) -> String {
    let all = |list: &[Expr]| list.iter().map(show).collect::<Vec<_>>().join(", ");
    match expr {
        Expr::Literal(tree) => show_tree(tree),
        Expr::Text(text) => quote(text),
        Expr::List(list) => format!("[{}]", all(list)),
        Expr::Struct(fields) => {
            let fields: Vec<String> = fields.iter().map(|(name, value)| format!("{name}={}", show(value))).collect();
            format!("{{{}}}", fields.join(", "))
        }
        Expr::Variable(name) => format!("${name}"),
        Expr::Call(name, arguments) => match arguments.as_slice() {
            [Expr::Struct(_)] => format!("{name}{}", all(arguments)),
            _ => format!("{name}({})", all(arguments)),
        },
    }
}

/// The text of a tree.
pub fn show_tree(tree: &Tree) -> String {
    match tree {
        Tree::Null => "null".into(),
        Tree::Bool(value) => value.to_string(),
        Tree::Int(value) => value.to_string(),
        Tree::Float(value) => format!("{value:?}"),
        Tree::Text(text) => quote(text),
        Tree::Bytes(bytes) => hex(bytes),
        Tree::Uuid(id) => format!("uuid({})", quote(&uuid(*id))),
        Tree::List(list) => format!("[{}]", list.iter().map(show_tree).collect::<Vec<_>>().join(", ")),
        Tree::Struct(fields) => {
            let fields: Vec<String> =
                fields.iter().map(|(name, value)| format!("{name}={}", show_tree(value))).collect();
            format!("{{{}}}", fields.join(", "))
        }
    }
}

/// 32 hexadecimal digits.
fn uuid(id: Uuid) -> String {
    format!("{:032x}", id.to_u128())
}

/// The value at a path like `topics[0].partitions[1].offset`.
pub fn at<'a>(tree: &'a Tree, path: &str) -> Option<&'a Tree> {
    let mut here = tree;
    for step in path.split('.') {
        let (name, indices) = step.split_once('[').map_or((step, ""), |(n, i)| (n, i));
        here = here.field(name)?;
        for index in indices.split('[').filter(|i| !i.is_empty()) {
            let Tree::List(list) = here else { return None };
            here = list.get(index.trim_end_matches(']').parse::<usize>().ok()?)?;
        }
    }
    Some(here)
}
