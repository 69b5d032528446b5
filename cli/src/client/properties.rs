//! Java's `.properties` files, in which Kafka's clients are configured.

use std::collections::BTreeMap;

/// Later lines win, as in Java. Errors name the line and no value: it may be a secret.
pub fn parse(text: &str) -> Result<BTreeMap<String, String>, String> {
    let mut all = BTreeMap::new();
    let mut lines = text.lines().zip(1..);
    while let Some((line, number)) = lines.next() {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with(['#', '!']) {
            continue;
        }
        let mut whole = line.to_owned();
        // An odd number of backslashes at the end: the line goes on.
        while whole.chars().rev().take_while(|c| *c == '\\').count() % 2 == 1 {
            whole.pop();
            let Some((next, _)) = lines.next() else { break };
            whole.push_str(next.trim_start());
        }
        let (key, value) = split(&whole);
        let plain = |text: &str| unescaped(text).ok_or_else(|| format!("line {number}: a \\u without four digits"));
        all.insert(plain(key)?, plain(value)?);
    }
    Ok(all)
}

/// At the first `=`, `:` or space that no backslash stands before; spaces around the sign belong to neither side.
fn split(line: &str) -> (&str, &str) {
    let mut escaped = false;
    let end = line.find(|c: char| {
        let ends = !escaped && (c == '=' || c == ':' || c.is_whitespace());
        escaped = !escaped && c == '\\';
        ends
    });
    let (key, rest) = line.split_at(end.unwrap_or(line.len()));
    let rest = rest.trim_start();
    let value = rest.strip_prefix(['=', ':']).unwrap_or(rest);
    (key, value.trim_start())
}

fn unescaped(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match rest.next() {
            None => {}
            Some('n') => out.push('\n'),
            Some('r') => out.push('\r'),
            Some('t') => out.push('\t'),
            Some('f') => out.push('\u{c}'),
            Some('u') => {
                let digits: String = rest.by_ref().take(4).collect();
                let unit = u32::from_str_radix(&digits, 16).ok().filter(|_| digits.len() == 4)?;
                out.push(char::from_u32(unit).unwrap_or(char::REPLACEMENT_CHARACTER));
            }
            Some(other) => out.push(other),
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_as_java_reads_them() {
        let text = "# comment\n! comment\n\nsecurity.protocol=SASL_SSL\n  a : b \nspaced value with spaces\nempty=\nalone\n\
                    path=C:\\\\x\\ty\\u00fc\nlong=one \\\n   two\\\\\nkey\\=odd=1\nlist=\\\n  a,\\\n  b\na=twice\n";
        let all = parse(text).unwrap();
        for (key, value) in [
            ("security.protocol", "SASL_SSL"),
            ("a", "twice"),
            ("spaced", "value with spaces"),
            ("empty", ""),
            ("alone", ""),
            ("path", "C:\\x\ty\u{fc}"),
            ("long", "one two\\"),
            ("key=odd", "1"),
            ("list", "a,b"),
        ] {
            assert_eq!(all.get(key).map(String::as_str), Some(value), "{key}");
        }
        assert_eq!(all.len(), 9, "{all:?}");
        assert_eq!(parse("a=1\nb=secret\\u12"), Err("line 2: a \\u without four digits".to_owned()));
    }
}
