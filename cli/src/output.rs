//! What commands print: aligned tables for people, one JSON document a line for programs.

use crate::exit::Failure;
use serde_json::Value;
use std::fmt::Display;
use std::io::{self, BufWriter, IsTerminal, Write};

/// Standard output. A reader that goes away ends the command quietly (see [`Failure`]).
pub struct Output {
    json: bool,
    colour: bool,
    out: Box<dyn Write>,
}

impl Output {
    pub fn stdout(json: bool) -> Output {
        let colour = io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Output { json, colour, out: Box::new(BufWriter::new(io::stdout())) }
    }

    /// Output that a test can look at.
    #[cfg(test)]
    pub fn captured(json: bool) -> (Output, std::rc::Rc<std::cell::RefCell<Vec<u8>>>) {
        struct Shared(std::rc::Rc<std::cell::RefCell<Vec<u8>>>);
        impl Write for Shared {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0.borrow_mut().write(bytes)
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let printed = std::rc::Rc::default();
        (Output { json, colour: false, out: Box::new(Shared(std::rc::Rc::clone(&printed))) }, printed)
    }

    pub fn is_json(&self) -> bool {
        self.json
    }

    pub fn line(&mut self, text: impl Display) -> Result<(), Failure> {
        Ok(writeln!(self.out, "{text}")?)
    }

    pub fn json(&mut self, value: &Value) -> Result<(), Failure> {
        self.line(value)
    }

    pub fn bytes(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        Ok(self.out.write_all(bytes)?)
    }

    pub fn flush(&mut self) -> Result<(), Failure> {
        Ok(self.out.flush()?)
    }

    pub fn table(&mut self, table: &Table) -> Result<(), Failure> {
        let text = table.render();
        self.bytes(text.as_bytes())
    }

    /// `text` in a colour of ECMA-48 (31 red, 32 green, 33 yellow), where the output is a terminal.
    pub fn coloured(&self, colour: u8, text: &str) -> String {
        if self.colour { format!("\x1b[{colour}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// Rows under headings. Columns whose heading begins with `>` are aligned to the right.
pub struct Table {
    headings: Vec<String>,
    right: Vec<bool>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub fn new(headings: &[&str]) -> Table {
        Table {
            headings: headings.iter().map(|h| h.trim_start_matches('>').to_owned()).collect(),
            right: headings.iter().map(|h| h.starts_with('>')).collect(),
            rows: Vec::new(),
        }
    }

    pub fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    fn render(&self) -> String {
        let mut widths: Vec<usize> = self.headings.iter().map(|h| h.chars().count()).collect();
        for row in &self.rows {
            for (w, cell) in widths.iter_mut().zip(row) {
                *w = (*w).max(cell.chars().count());
            }
        }
        let mut text = String::new();
        for row in std::iter::once(&self.headings).chain(&self.rows) {
            let mut line = String::new();
            for ((cell, width), right) in row.iter().zip(&widths).zip(&self.right) {
                let padding = " ".repeat(width - cell.chars().count());
                let cell = if *right { padding + cell } else { cell.clone() + &padding };
                line.push_str(&cell);
                line.push_str("  ");
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

/// A number with separators between thousands, for people.
pub fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() * 4 / 3);
    for (i, d) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(d);
    }
    out
}

/// Bytes as JSON: text where they are UTF-8, else an object with their base64 form.
pub fn json_bytes(bytes: Option<&[u8]>) -> Value {
    match bytes {
        None => Value::Null,
        Some(b) => match std::str::from_utf8(b) {
            Ok(text) => Value::from(text),
            Err(_) => serde_json::json!({ "base64": base64(b) }),
        },
    }
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let three = chunk.iter().zip([16, 8, 0]).fold(0u32, |n, (b, shift)| n | u32::from(*b) << shift);
        for i in 0..4 {
            let six = (three >> (18 - 6 * i)) & 63;
            let known = i <= chunk.len();
            out.push(if known { char::from(ALPHABET[six as usize]) } else { '=' });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_aligned() {
        let mut t = Table::new(&["name", ">count"]);
        t.row(vec!["a".into(), "7".into()]);
        t.row(vec!["longer".into(), "1234567".into()]);
        assert_eq!(t.render(), "name      count\na             7\nlonger  1234567\n");
    }

    #[test]
    fn numbers_and_bytes() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(1234567), "1,234,567");
        assert_eq!(base64(b"any carnal pleas"), "YW55IGNhcm5hbCBwbGVhcw==");
        assert_eq!(base64(b"sur"), "c3Vy");
        assert_eq!(json_bytes(Some(&[0xff])).to_string(), r#"{"base64":"/w=="}"#);
        assert_eq!(json_bytes(Some(b"x")).to_string(), r#""x""#);
        assert_eq!(json_bytes(None), Value::Null);
    }
}
