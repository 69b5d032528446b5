//! Regular expressions in RE2's syntax, on an engine whose syntax is a little different and whose Perl classes are Unicode's: RE2's
//! are those of ASCII.

use regex::{Regex, RegexBuilder};

/// Repetitions that RE2 allows at most.
const MAX_REPEAT: u32 = 1_000;

/// Compiles an expression that is to match a whole text. The error says what is wrong with it.
pub fn compile(pattern: &str) -> Result<Regex, String> {
    let translated = translate(pattern)?;
    // By itself first: what is not closed must not find its end in what is put around it.
    let build = |text: &str| RegexBuilder::new(text).octal(true).build();
    build(&translated).map_err(describe)?;
    build(&format!(r"\A(?:{translated})\z")).map_err(describe)
}

fn describe(error: regex::Error) -> String {
    let text = error.to_string();
    let last = text.lines().last().unwrap_or_default();
    last.trim_start_matches("error: ").to_owned()
}

/// Writes the expression in the syntax of the `regex` crate, or says what RE2 does not allow of what that does.
fn translate(pattern: &str) -> Result<String, String> {
    let mut out = String::with_capacity(pattern.len());
    let mut rest = pattern;
    // Whether the last thing was a repetition, which cannot be repeated.
    let mut repeated = false;
    while let Some(next) = rest.chars().next() {
        let width = next.len_utf8();
        let (mut taken, mut repeats) = (width, false);
        match next {
            '\\' => {
                if let Some(quoted) = rest.strip_prefix(r"\Q") {
                    let end = quoted.find(r"\E");
                    out.push_str(&regex::escape(quoted.get(..end.unwrap_or(quoted.len())).unwrap_or_default()));
                    taken = 2 + end.map_or(quoted.len(), |end| end + 2);
                } else {
                    let escaped = rest.chars().nth(1).ok_or("trailing backslash at end of expression")?;
                    // One digit alone would refer back to a group.
                    let octal = |position| rest.chars().nth(position).is_some_and(|digit| digit.is_digit(8));
                    let known = octal(1) && (escaped == '0' || octal(2))
                        || "ADSWBbdswzafnrtvxpPC".contains(escaped)
                        || !escaped.is_alphanumeric();
                    if !known || rest.starts_with(r"\b{") {
                        return Err(format!("invalid escape sequence: `\\{escaped}`"));
                    }
                    taken += escaped.len_utf8();
                    match (escaped, ascii(escaped)) {
                        ('C', _) => out.push_str("(?s:.)"),
                        ('b', _) => out.push_str(r"(?-u:\b)"),
                        (_, Some(class)) => out.push_str(class),
                        _ => out.push_str(rest.get(..taken).unwrap_or_default()),
                    }
                }
            }
            '[' => taken = class(rest, &mut out)?,
            '*' | '+' | '?' => {
                // A question mark behind a repetition makes it reluctant.
                let reluctant = rest.get(1..).is_some_and(|after| after.starts_with('?'));
                if repeated {
                    return Err(format!("invalid nested repetition operator: `{next}`"));
                }
                taken += usize::from(reluctant);
                out.push_str(rest.get(..taken).unwrap_or_default());
                repeats = true;
            }
            '{' => match repetition(rest)? {
                Some(length) => {
                    if repeated {
                        return Err("invalid nested repetition operator: `{`".to_owned());
                    }
                    let reluctant = rest.get(length..).is_some_and(|after| after.starts_with('?'));
                    taken = length + usize::from(reluctant);
                    out.push_str(rest.get(..taken).unwrap_or_default());
                    repeats = true;
                }
                None => out.push_str(r"\{"),
            },
            '}' => out.push_str(r"\}"),
            '(' if rest.starts_with("(?") && !rest.starts_with("(?P<") && !rest.starts_with("(?<") => {
                let flags = rest.get(2..).unwrap_or_default();
                let end = flags.find([':', ')']).ok_or("missing argument to repetition operator: `?`")?;
                let flags = flags.get(..end).unwrap_or_default();
                if flags.chars().any(|flag| !"imsU-".contains(flag)) {
                    return Err(format!("invalid or unsupported Perl syntax: `(?{flags}`"));
                }
                out.push_str("(?");
                taken = 2;
            }
            other => out.push(other),
        }
        repeated = repeats;
        rest = rest.get(taken..).unwrap_or_default();
    }
    Ok(out)
}

/// A class of Perl's, by its letter.
fn ascii(letter: char) -> Option<&'static str> {
    Some(match letter {
        'd' => "[0-9]",
        'D' => "[^0-9]",
        's' => r"[\t\n\f\r ]",
        'S' => r"[^\t\n\f\r ]",
        'w' => "[0-9A-Za-z_]",
        'W' => "[^0-9A-Za-z_]",
        _ => return None,
    })
}

/// Bytes of `{n}`, `{n,}` or `{n,m}` at the beginning; anything else is text to RE2.
fn repetition(text: &str) -> Result<Option<usize>, String> {
    let Some(end) = text.find('}') else { return Ok(None) };
    let inner = text.get(1..end).unwrap_or_default();
    let (low, high) = inner.split_once(',').unwrap_or((inner, ""));
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number(low) || !(high.is_empty() || is_number(high)) {
        return Ok(None);
    }
    let too_many = |text: &str| text.parse::<u32>().is_ok_and(|n| n > MAX_REPEAT) || text.len() > 9;
    if too_many(low) || too_many(high) {
        return Err(format!("bad repetition operator: `{}`", text.get(..=end).unwrap_or_default()));
    }
    Ok(Some(end + 1))
}

/// Copies a class of characters; in RE2 there are no classes in classes, but for named ones, and no operators on them.
fn class(text: &str, out: &mut String) -> Result<usize, String> {
    let missing = || "missing closing ]".to_owned();
    out.push('[');
    let mut at = 1;
    if text.get(at..).is_some_and(|rest| rest.starts_with('^')) {
        out.push('^');
        at += 1;
    }
    let first = at;
    loop {
        let rest = text.get(at..).unwrap_or_default();
        let next = rest.chars().next().ok_or_else(missing)?;
        match next {
            ']' if at > first => {
                out.push(']');
                return Ok(at + 1);
            }
            '[' if rest.starts_with("[:") && rest.contains(":]") => {
                let end = rest.find(":]").map_or(rest.len(), |end| end + 2);
                out.push_str(rest.get(..end).unwrap_or_default());
                at += end;
                continue;
            }
            '[' | ']' | '&' | '~' => {
                out.push('\\');
                out.push(next);
            }
            '\\' => {
                let escaped = rest.chars().nth(1).ok_or_else(missing)?;
                match ascii(escaped) {
                    Some(class) => out.push_str(class),
                    None => out.extend(['\\', escaped]),
                }
                at += escaped.len_utf8();
            }
            other => out.push(other),
        }
        at += next.len_utf8();
    }
}

#[cfg(test)]
mod tests {
    use super::compile;

    #[test]
    fn an_expression_matches_whole_names_only() {
        let matches = |pattern: &str, text: &str| compile(pattern).unwrap().is_match(text);
        assert!(matches("a|bc", "bc") && !matches("a|bc", "abc"));
        assert!(matches("(?i)topic-.*", "TOPIC-7") && !matches("topic", "topic-7"));
        assert!(matches("^orders.[0-9]+$", "orders.12"));
        assert!(matches(r"\Qa.b\E.", "a.bc") && !matches(r"\Qa.b\E.", "axbc"));
        assert!(matches("a{", "a{") && matches("a{,2}", "a{,2}") && matches("a{1,2}", "aa"));
        assert!(matches("[[:alpha:]]+", "abc") && matches("[a[]+", "a[") && matches("[]a]+", "]a"));
        assert!(matches("[a&&b]+", "a&b"));
        assert!(matches("(?P<x>a)b??", "a"));
        assert!(matches(r"\d\D\w\W\s\S", "1a_- x") && !matches(r"\d", "\u{0663}") && !matches(r"\w", "é"));
        assert!(
            matches(r"[\d.]+", "1.2") && matches(r"[^\w]+", "é") && matches(r"[\D]+", "é") && matches(r"a\b.+", "aé")
        );
    }

    #[test]
    fn what_re2_refuses_is_refused() {
        for bad in
            ["(", "[a", "a**", "*a", "a{2}{3}", "a{1001}", "(?x)a", "(?=a)", "(?<!a)b", r"a\", r"\1", "(?!a)", "a)"]
        {
            assert!(compile(bad).is_err(), "{bad}");
        }
    }
}
